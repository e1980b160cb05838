"""Which model sees images, by which projector, and what is refused before anything is sent."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from ollama_tools import ensure_model, render
from ollama_tools.__main__ import run
from ollama_tools.checks.doctor import _vision
from ollama_tools.checks.picture import WITH_PICTURE, WITHOUT_PICTURE
from ollama_tools.checks.result import Status
from ollama_tools.checks.surfaces import (
    ChatCompletions,
    Generate,
    Messages,
    Responses,
    ollama_message,
)
from ollama_tools.checks.talk import Advice, check_vision, seen_picture
from ollama_tools.devstral.catalog_file import load_catalog
from ollama_tools.devstral.miniature import write_miniature
from ollama_tools.errors import FileProblem, UsageError
from ollama_tools.files.gguf import read_header
from ollama_tools.files.packaged import data_path
from ollama_tools.files.projectors import (
    is_projector,
    projected_width,
    projector_beside,
    projector_names,
    text_width,
)
from ollama_tools.lint import lint_file
from ollama_tools.model.modelfile import differences
from ollama_tools.model.projector import check_width, require_projector
from ollama_tools.model.refusals import check_sight
from ollama_tools.server.client import Api
from ollama_tools.server.shown import Shown
from ollama_tools.wanted.source import FileSource, HubSource, ServerSource
from ollama_tools.wanted.vision import Sight, settle
from ollama_tools.wanted.vision import check_vision as check_wish
from ollama_tools.wanted.wish import Wish
from tests.testbed.projector import write_projector
from tests.unit.test_plan import HUB, shown

CATALOG = load_catalog(data_path("catalog.yaml"))
SMALL, NEWER = CATALOG.release("2507"), CATALOG.release("2512")
WEIGHTS, EYES = (f"sha256:{digit * 64}" for digit in "1a")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "devstral-2507-tune.gguf"
    write_miniature(path, layers=1, heads=1, kv_heads=1)
    return path


@pytest.fixture
def mmproj(model: Path) -> Path:
    path = model.with_name("mmproj-F16.gguf")
    write_projector(path)
    return path


def wish(**said: Any) -> Wish:
    return Wish(reference="x", **said)


# Which file is a projector


def test_the_projector_of_f16_comes_first_however_it_is_named() -> None:
    assert projector_names(
        ["b/mmproj-F32.gguf", "mmproj-BF16.gguf", "tune.F16-mmproj.gguf", "Devstral-Q8_0.gguf"]
    ) == ["tune.F16-mmproj.gguf", "mmproj-BF16.gguf", "b/mmproj-F32.gguf"]
    assert projector_names(["mmproj-model-f16.gguf", "mmproj-x.gguf"])[0] == "mmproj-model-f16.gguf"
    assert projector_names(["commproject.gguf", "Devstral-F16.gguf"]) == []


def test_a_header_tells_a_projector_from_a_model(model: Path, mmproj: Path) -> None:
    assert is_projector(read_header(mmproj))
    assert projected_width(read_header(mmproj)) == text_width(read_header(model)) == 32
    assert not is_projector(read_header(model))
    with pytest.raises(
        FileProblem, match=r"tune.gguf is no projector: its architecture is 'llama'"
    ):
        require_projector(read_header(model))


def test_beside_a_model_its_own_projector_is_found(model: Path) -> None:
    assert projector_beside(model) is None
    other = model.with_name("mmproj-F16.gguf")
    write_projector(other, text_width=64)
    # One that does not fit is better refused by its width than overlooked.
    assert projector_beside(model) == other
    own = model.with_name("mmproj-own-BF16.gguf")
    write_projector(own)
    assert projector_beside(model) == own
    model.with_name("mmproj-A-f16.gguf").write_bytes(b"no GGUF")
    assert projector_beside(model) == own


# What a wish means


@pytest.mark.parametrize(
    ("release", "source", "said", "asks_hub", "vision"),
    [
        (SMALL, HubSource(SMALL.repository, "Q8_0"), None, True, False),
        (SMALL, HubSource(SMALL.repository, "Q8_0"), True, True, True),
        (NEWER, HubSource(NEWER.repository, "Q8_0"), None, True, True),
        (NEWER, HubSource(NEWER.repository, "Q8_0"), False, True, False),
        # A mirror, or another's repository, may have none, which is no fault where nobody asked.
        (NEWER, HubSource(NEWER.repository, "Q8_0"), None, False, None),
        (NEWER, HubSource("me/devstral-2512", "Q8_0"), None, True, None),
        (NEWER, HubSource("me/devstral-2512", "Q8_0"), True, True, True),
        (CATALOG.release("123b"), HubSource("me/123b", "Q8_0"), None, True, False),
        (SMALL, ServerSource("m", (WEIGHTS, EYES), (EYES,), sees=True), None, True, False),
        (SMALL, ServerSource("m", (WEIGHTS, EYES), (EYES,), sees=True), True, True, True),
        (NEWER, ServerSource("m", (WEIGHTS,)), None, True, False),
        (NEWER, ServerSource("m", (WEIGHTS,), sees=True), None, True, True),
    ],
)
def test_a_release_decides_where_nobody_says_it(
    release: Any, source: Any, said: bool | None, asks_hub: bool, vision: bool | None
) -> None:
    sight = settle(wish(vision=said), release, source, asks_hub=asks_hub)
    assert (sight.vision, sight.projector) == (vision, None)
    if isinstance(source, ServerSource) and source.projectors:
        assert cast("ServerSource", sight.source).digests == (
            (WEIGHTS, EYES) if vision else (WEIGHTS,)
        )


def test_a_file_gets_the_projector_beside_it_where_it_shall_see(model: Path, mmproj: Path) -> None:
    source = FileSource(model)
    assert settle(wish(), SMALL, source, asks_hub=True) == Sight(source, vision=False)
    beside = Sight(source, vision=True, projector=mmproj)
    assert settle(wish(vision=True), SMALL, source, asks_hub=True) == beside
    assert settle(wish(), NEWER, source, asks_hub=True) == beside
    assert settle(wish(vision=False), NEWER, source, asks_hub=True).vision is False
    mmproj.unlink()
    assert settle(wish(), NEWER, source, asks_hub=True).vision is False
    with pytest.raises(UsageError, match="there is no projector beside"):
        settle(wish(vision=True), SMALL, source, asks_hub=True)


def test_a_projector_that_is_named_is_taken_for_weights_from_anywhere(mmproj: Path) -> None:
    for source in (
        HubSource("me/tune", "Q8_0"),
        FileSource(mmproj.with_name("devstral-2507-tune.gguf")),
        ServerSource("m", (WEIGHTS, EYES), (EYES,), sees=True),
    ):
        sight = settle(wish(projector=str(mmproj)), SMALL, source, asks_hub=False)
        assert (sight.vision, sight.projector) == (True, mmproj)
    assert cast("ServerSource", sight.source).digests == (WEIGHTS,)


@pytest.mark.parametrize(
    ("source", "said", "words"),
    [
        (ServerSource("m", (WEIGHTS,)), True, "m has no projector"),
        (ServerSource("m", (WEIGHTS,), sees=True), False, "by its weights themselves"),
    ],
)
def test_a_model_on_the_server_that_cannot_is_refused(
    source: ServerSource, said: bool, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        settle(wish(vision=said), SMALL, source, asks_hub=True)


# Bad input, before anything is asked or sent


def test_a_wish_that_contradicts_itself_is_refused(mmproj: Path) -> None:
    with pytest.raises(UsageError, match="without vision there is no use for a projector"):
        check_wish(wish(vision=False, projector=mmproj))
    with pytest.raises(FileProblem, match="there is no file"):
        ensure_model("Q4_K_M", host="http://127.0.0.1:9", projector="/nowhere/mmproj.gguf")


def test_a_projector_of_another_width_and_one_given_as_a_model_are_refused(
    model: Path, mmproj: Path
) -> None:
    def fits(label: str, width: int | None) -> None:
        check_width("mmproj.gguf", 64, label, width)

    with pytest.raises(UsageError, match=r"mmproj.gguf is for models of width 64, .* has 32"):
        check_sight(read_header(model), fits)
    with pytest.raises(UsageError, match=r"is a projector, .* and no model") as caught:
        check_sight(read_header(mmproj), fits)
    assert f"--projector {mmproj}" in caught.value.fix
    check_width("mmproj.gguf", None, "x", 32)
    check_width("mmproj.gguf", 64, "x", None)


# What a server has


def seeing(spec: Any, *blobs: str) -> Shown:
    lines = "\n".join(f"FROM /blobs/{each.replace(':', '-')}" for each in blobs)
    answer = shown(spec, modelfile=f"{lines}\n")
    if len(blobs) > 1:
        answer["capabilities"] = ["completion", "vision"]
        answer["projector_info"] = {"clip.vision.projection_dim": 32}
    return Shown("devstral-2507", {**answer, "model_info": {}})


def test_a_server_shows_which_of_its_files_is_the_projector() -> None:
    found = seeing(HUB, WEIGHTS, EYES)
    assert (found.weights, found.weight_blobs, found.projectors) == (WEIGHTS, (WEIGHTS,), (EYES,))
    assert (found.sees_images, found.projected_width) == (True, 32)
    assert seeing(HUB, WEIGHTS).projectors == ()


@pytest.mark.parametrize(
    ("wanted", "blobs", "text"),
    [
        (True, (WEIGHTS,), ["vision: none instead of images"]),
        (False, (WEIGHTS, EYES), ["vision: images instead of none"]),
        (None, (WEIGHTS,), []),
        (None, (WEIGHTS, EYES), []),
        (True, (WEIGHTS, EYES), []),
    ],
)
def test_vision_that_is_missing_or_too_much_is_a_difference(
    wanted: bool | None, blobs: tuple[str, ...], text: list[str]
) -> None:
    spec = replace(HUB, vision=wanted)
    assert [str(each) for each in differences(spec, seeing(spec, *blobs))] == text


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        ({}, Status.PASS, "sees no images"),
        ({"capabilities": ["vision"]}, Status.PASS, "by its weights themselves"),
        (
            {
                "capabilities": ["vision"],
                "model_info": {"general.architecture": "llama", "llama.embedding_length": 5120},
                "projector_info": {"clip.vision.projection_dim": 4096},
            },
            Status.FAIL,
            "for models of width 4096, and it has 5120",
        ),
        (
            {
                "capabilities": ["vision"],
                "modelfile": "\n".join(f"FROM /blobs/sha256-{each * 64}" for each in "123"),
            },
            Status.WARN,
            "2 projectors",
        ),
    ],
)
def test_the_doctor_says_of_a_model_whether_it_sees(
    answer: dict[str, Any], status: Status, words: str
) -> None:
    found = _vision(Shown("devstral", answer))
    assert found.status is status
    assert words in found.saw


# A request with a picture


class Recorder:
    """Keeps the body of a request, and answers as each surface does."""

    url = "http://recorder"
    body: Mapping[str, Any]

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        del path
        self.body = body
        return {
            "response": "Red.",
            "choices": [{"message": {"content": "Red."}}],
            "output": [{"type": "message", "content": [{"text": "Red."}]}],
            "content": [{"type": "text", "text": "Red."}],
        }

    def events(self, path: str, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        del path
        self.body = body
        yield {"response": "Red"}
        yield {"response": "."}


PNG = WITH_PICTURE[0]["content"][1]["image_url"]["url"].partition("base64,")[2]


def test_every_surface_gets_the_picture_in_its_own_form() -> None:
    assert base64.b64decode(PNG).startswith(b"\x89PNG")
    assert ollama_message(WITH_PICTURE[0]) == {**WITHOUT_PICTURE[0], "images": [PNG]}
    assert ollama_message(WITHOUT_PICTURE[0]) == WITHOUT_PICTURE[0]
    server = Recorder()
    for surface in (Generate(), ChatCompletions(), Responses(), Messages()):
        reply = surface.ask(cast("Api", server), "m", WITH_PICTURE, [], stream=False)
        assert reply.text == "Red."
        assert json.dumps(server.body).count(PNG) == 1
    assert server.body["messages"][0]["content"][1]["source"]["media_type"] == "image/png"
    assert Generate().ask(cast("Api", server), "m", WITH_PICTURE, [], stream=True).text == "Red."
    assert server.body["prompt"] == WITHOUT_PICTURE[0]["content"]


def test_a_picture_that_counts_nothing_was_dropped() -> None:
    assert check_vision(lambda messages: 30 if messages == WITH_PICTURE else 10)[0] is Status.PASS
    assert check_vision(lambda _messages: 10)[0] is Status.FAIL


@pytest.mark.parametrize(
    ("text", "status"), [("Red.", Status.PASS), (" ", Status.FAIL), ("[INST]Red", Status.FAIL)]
)
def test_an_answer_about_a_picture_is_judged(text: str, status: Status) -> None:
    from ollama_tools.checks.surfaces import Reply

    [(found, _, _)] = seen_picture(lambda *_: Reply(text, ()), Advice("mend it", ()))
    assert found is status


# Text for people


def test_a_modelfile_has_the_projector_behind_the_weights(model: Path, mmproj: Path) -> None:
    assert f"FROM {model}\nFROM {mmproj}\nREQUIRES" in render(str(model), vision=True)
    assert f"FROM {model}\nREQUIRES" in render(str(model))


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"vision": True}, "drops the file without a word"),
        ({"vision": False}, "cannot keep away a projector"),
    ],
)
def test_a_modelfile_of_a_name_can_say_nothing_of_images(said: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        render("Q4_K_M", **said)
    assert "# It sees images where the registry has a projector" in render("Q4_K_M")


@pytest.mark.parametrize(
    ("arguments", "flags"),
    [
        (["Q4_K_M"], ["--no-mmproj"]),
        (["Q4_K_M", "--vision"], []),
        (["2512:Q4_K_M"], []),
        (["2512:Q4_K_M", "--no-vision"], ["--no-mmproj"]),
        (["MODEL"], []),
        (["MODEL", "--vision"], ["--mmproj", "MMPROJ"]),
        (["Q4_K_M", "--projector", "MMPROJ"], ["--mmproj", "MMPROJ"]),
    ],
)
@pytest.mark.parametrize("target", ["llama-server", "llama-cli"])
def test_llama_cpp_gets_the_same_by_its_own_flags(
    arguments: list[str],
    flags: list[str],
    target: str,
    model: Path,
    mmproj: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = {"MODEL": str(model), "MMPROJ": str(mmproj)}
    said = [names.get(each, each) for each in arguments]
    assert run(["render", *said, "--target", target, "--json"]) == 0
    command = json.loads(capsys.readouterr().out)["command"]
    found = [each for each in command if "mmproj" in Path(each).name or each == names["MMPROJ"]]
    assert found == [names.get(each, each) for each in flags]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["Q4_K_M", "--vision", "--target", "llama-completion", "--prompt", "a"], "sees no images"),
        (["Q4_K_M", "--no-vision", "--target", "llama-mtmd-cli"], "no image is seen without"),
        (["Q4_K_M", "--no-vision", "--target", "llama-cli", "--", "--mmproj", "p"], "behind --"),
    ],
)
def test_what_llama_cpp_cannot_do_is_refused(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["render", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_lint_takes_the_weights_for_them_and_says_what_is_dropped(
    model: Path, mmproj: Path
) -> None:
    def linted(text: str) -> list[tuple[str, str]]:
        path = model.with_name("Modelfile")
        path.write_text(text, encoding="utf-8")
        return [(each.code, each.message) for each in lint_file(path)]

    both, alone = render(str(model), vision=True), linted(render(str(model)))
    assert linted(both) == alone
    turned = both.replace(f"FROM {model}\nFROM {mmproj}", f"FROM {mmproj}\nFROM {model}")
    assert turned != both
    assert linted(turned) == alone
    lost = linted(f"{render('Q4_K_M')}\nFROM {mmproj}\n")
    assert lost == [("DV412", f"FROM {str(mmproj)[:80]} is dropped")]
