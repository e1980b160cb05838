"""``lint`` on a real server: broken models are found and named, and ``create`` makes them right."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ollama_tools import ensure_model
from ollama_tools.checks.doctor import doctor
from ollama_tools.devstral import miniature
from ollama_tools.devstral.carriers import go_template, jinja_template
from ollama_tools.devstral.catalog import TokenizerVersion
from ollama_tools.errors import ModelNotFound, ServerError, UsageError
from ollama_tools.files.packaged import data_path
from ollama_tools.lint import lint_file, lint_model, lint_models, lint_tools
from ollama_tools.model.status import model_status
from ollama_tools.server.client import Server
from ollama_tools.wanted.wish import Wish
from tests.broken_templates import BROKEN_GO, BROKEN_JINJA, GO, JINJA, Broken
from tests.testbed.server import OllamaServer

NAME = "devstral-small-2507-broken:latest"
PARAMETERS = {
    "temperature": 0.15,
    "min_p": 0.01,
    "top_k": 64,
    "repeat_penalty": 1.0,
    "num_ctx": 32768,
}
# Those that the server refuses to create never come to be on one.
CREATED = [each for each in BROKEN_GO if each.codes != {"DV101"}]
LOADED = [each for each in BROKEN_JINJA if each.codes != {"DV101"}]


def _silent(_status: str, _done: int, _total: int | None) -> None:
    pass


def upload(server: Server, directory: Path, chat_template: str) -> dict[str, str]:
    """A miniature's blob on the server, as ``files`` of a create request."""
    path = directory / "model.gguf"
    miniature.write_miniature(
        path,
        chat_template=chat_template,
        architecture="llama",
        name="Devstral-Small-2507",
        layers=1,
        heads=1,
        kv_heads=1,
    )
    digest = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    server.upload(path, digest, _silent)
    return {path.name: digest}


def create(server: Server, files: dict[str, str], **more: Any) -> None:
    request = {"model": NAME, "files": files, "parameters": PARAMETERS, **more}
    server.create(request, _silent)


def codes(server: Server, *, live: bool = False) -> set[str]:
    return {each.code for each in lint_model(NAME, host=server.url, live=live)}


def rendered_codes(server: Server) -> set[str]:
    """What is found where the server renders; the templates broken here are no exact ones."""
    return codes(server, live=True) - {"DV124"}


def mend(server: Server, *, check: bool = False) -> None:
    """What ``devstral-ollama create NAME`` does."""
    ensure_model(NAME, host=server.url, carrier="modelfile", check=check, prompt_tokens=300)


def test_what_is_right_is_clean(server: Server, tmp_path: Path) -> None:
    template = go_template(TokenizerVersion.V13)
    create(server, upload(server, tmp_path, JINJA), template=template, parser="ministral")
    assert codes(server) == set()
    assert codes(server, live=True) == set()


def test_what_is_nearly_the_reference_is_told_from_it(server: Server, tmp_path: Path) -> None:
    create(server, upload(server, tmp_path, JINJA), template=GO, parser="ministral")
    assert codes(server) == set()
    # It leaves out the parameters of tools, which no rule about a form asks for.
    assert codes(server, live=True) == {"DV124"}


@pytest.mark.parametrize("broken", CREATED, ids=lambda each: each.name)
def test_a_broken_go_template_is_found_and_mended(
    server: Server, tmp_path: Path, broken: Broken
) -> None:
    create(server, upload(server, tmp_path, JINJA), template=broken.template, parser="ministral")
    offline = codes(server)
    assert broken.codes <= offline
    # The server's own rendering, and ours, agree on what is wrong.
    assert rendered_codes(server) == offline
    mend(server)
    assert codes(server) == set()
    assert codes(server, live=True) == set()


@pytest.mark.parametrize("broken", LOADED, ids=lambda each: each.name)
def test_a_broken_jinja_is_found_and_mended(server: Server, tmp_path: Path, broken: Broken) -> None:
    create(server, upload(server, tmp_path, broken.template))
    assert broken.codes == codes(server)
    if broken.name != "fails":
        # There the server's engine writes nothing where Jinja's own fails.
        assert broken.codes <= codes(server, live=True)
    mend(server)
    assert codes(server) == set()


@pytest.mark.parametrize("broken", [each for each in BROKEN_GO if each.codes == {"DV101"}])
def test_what_lint_cannot_parse_the_server_refuses(
    server: Server, tmp_path: Path, broken: Broken
) -> None:
    with pytest.raises(ServerError, match="template"):
        create(server, upload(server, tmp_path, JINJA), template=broken.template)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"parser": "nosuch"}, "DV201"),
        ({"parser": None}, "DV202"),
        ({"parameters": {}}, "DV302"),
        ({"parameters": {**PARAMETERS, "num_ctx": 4096}}, "DV303"),
        ({"parameters": {**PARAMETERS, "temperature": 0.9}}, "DV305"),
        ({"parameters": {**PARAMETERS, "repeat_penalty": 1.1}}, "DV301"),
        ({"parameters": {**PARAMETERS, "kv_cache_type": "q8_0"}}, None),
        ({"system": "Begin with [INST]."}, "DV404"),
    ],
)
def test_other_faults_are_found_and_mended(
    server: Server, tmp_path: Path, change: dict[str, Any], code: str | None
) -> None:
    request = {"template": GO, "parser": "ministral", **change}
    given = {key: value for key, value in request.items() if value is not None}
    create(server, upload(server, tmp_path, JINJA), **given)
    # The server forgets what it does not know as a parameter.
    assert codes(server) >= ({code} if code else set())
    mend(server)
    assert codes(server) == set()


def test_the_mended_model_passes_every_check(server: Server, tmp_path: Path) -> None:
    generic = next(each for each in BROKEN_GO if each.name == "generic")
    plain = "{% for m in messages %}[INST]{{ m.content }}[/INST]{% endfor %}"
    files = upload(server, tmp_path, plain)
    create(server, files, template=generic.template)
    assert "DV209" in codes(server)
    mend(server, check=True)
    assert codes(server) == set()


def test_two_models_that_exclude_each_other(server: Server, tmp_path: Path) -> None:
    files = upload(server, tmp_path, JINJA)
    create(server, files, template=GO, parser="ministral")
    server.create({"model": "plain", "files": files}, _silent)
    assert codes(server) == {"DV207"}
    server.delete("plain")
    assert codes(server) == set()


def test_one_judge_speaks_wherever_a_model_is_looked_at(server: Server, tmp_path: Path) -> None:
    files = upload(server, tmp_path, JINJA)
    parameters = {**PARAMETERS, "num_ctx": 4096, "temperature": 1.0}
    create(server, files, template=f"<s>{GO}", parser="qwen3", parameters=parameters)
    found = lint_model(NAME, host=server.url)
    assert {each.code for each in found} == {"DV103", "DV201", "DV303", "DV305"}
    assert lint_models(server) == found
    said = {each.id: (each.saw, each.fix) for each in doctor(server).checks}
    assert {
        f"{each.code} {NAME}": (each.message, each.fix) for each in found
    }.items() <= said.items()
    status = model_status(server, Wish(reference=NAME, carrier="modelfile"))
    assert list(status.findings) == found
    assert status.as_json()["findings"] == [each.as_json() for each in found]
    mend(server)
    assert model_status(server, Wish(reference=NAME, carrier="modelfile")).findings == ()


# Files, rendered by a server


@pytest.fixture
def unchanged(bed: OllamaServer) -> Iterator[OllamaServer]:
    """A server that must have nothing afterwards, loaded or stored, that it did not have before."""

    def all_there_is() -> set[str]:
        # Other tests leave runners, and weights of creations that were refused.
        with Server(bed.url) as server:
            names = {each.name for each in server.models()}
            names |= {each.name for each in server.running()}
        return names | {each.name for each in (bed.models_dir / "blobs").iterdir()}

    before = all_there_is()
    yield bed
    assert all_there_is() <= before


@pytest.mark.parametrize("name", ["v13.gotmpl", "v7.gotmpl", "v13.jinja", "v7.jinja"])
def test_our_templates_are_rendered_as_the_reference(unchanged: OllamaServer, name: str) -> None:
    path = data_path("templates", name)
    assert lint_file(path, live=True, host=unchanged.url) == []


@pytest.mark.parametrize(
    "broken",
    [*CREATED, *(each for each in LOADED if each.name != "fails")],
    ids=lambda each: each.name,
)
def test_a_broken_file_is_found_where_a_server_renders_it(
    unchanged: OllamaServer, tmp_path: Path, broken: Broken
) -> None:
    path = tmp_path / ("v13.gotmpl" if broken in CREATED else "v13.jinja")
    path.write_text(broken.template)
    offline = {each.code for each in lint_file(path)}
    live = {each.code for each in lint_file(path, live=True, host=unchanged.url)}
    assert offline <= live if broken in LOADED else live - {"DV124"} == offline


def test_a_modelfile_and_a_gguf_are_rendered_too(unchanged: OllamaServer, tmp_path: Path) -> None:
    text = go_template(TokenizerVersion.V13) + "."
    path = tmp_path / "Modelfile"
    path.write_text(f'FROM hf.co/unsloth/Devstral-Small-2507-GGUF:Q4_K_M\nTEMPLATE """{text}"""')
    assert "DV115" in {each.code for each in lint_file(path, live=True, host=unchanged.url)}
    weights = tmp_path / "Devstral-2507.gguf"
    exact = jinja_template(TokenizerVersion.V13)
    miniature.write_miniature(weights, layers=1, heads=1, kv_heads=1, chat_template=exact)
    assert lint_file(weights, live=True, host=unchanged.url) == []


def test_what_only_the_server_refuses_is_said_in_its_words(
    unchanged: OllamaServer, tmp_path: Path
) -> None:
    path = tmp_path / "v13.gotmpl"
    path.write_text('{{ define "a" }}x{{ end }}{{ define "a" }}y{{ end }}' + GO)
    assert lint_file(path) == []
    [found] = lint_file(path, live=True, host=unchanged.url)
    assert found.code == "DV101"
    assert "multiple definition" in found.message


def test_a_file_without_a_template_cannot_be_rendered(
    unchanged: OllamaServer, tmp_path: Path
) -> None:
    path = tmp_path / "Modelfile"
    path.write_text("FROM hf.co/unsloth/Devstral-Small-2507-GGUF:Q4_K_M")
    with pytest.raises(UsageError, match="no template"):
        lint_file(path, live=True, host=unchanged.url)


@pytest.mark.parametrize("moment", ["upload_stream", "create", "rendered_prompt"])
@pytest.mark.parametrize("after", [False, True])
def test_an_interrupt_at_any_moment_leaves_nothing(
    unchanged: OllamaServer, monkeypatch: pytest.MonkeyPatch, moment: str, after: bool
) -> None:
    original = getattr(Server, moment)
    came: list[str] = []

    def interrupted(self: Server, *arguments: Any, **more: Any) -> Any:
        first = not came
        came.append(moment)
        if first and not after:
            raise KeyboardInterrupt
        found = original(self, *arguments, **more)
        if first:
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(Server, moment, interrupted)
    with pytest.raises(KeyboardInterrupt):
        lint_file(data_path("templates", "v13.gotmpl"), live=True, host=unchanged.url)
    assert came


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("pause", [0.0, 0.3, 1.0])
def test_a_signal_to_the_command_leaves_nothing(
    unchanged: OllamaServer, server: Server, number: int, pause: float
) -> None:
    path = data_path("templates", "v13.jinja")
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "ollama_tools",
            "lint",
            "--live",
            str(path),
            "--host",
            unchanged.url,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 30
    blobs = unchanged.models_dir / "blobs"
    before = len(list(blobs.iterdir()))
    while len(list(blobs.iterdir())) == before and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    time.sleep(pause)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    # The longest pause may find the command at its end.
    assert process.returncode == 130 or (pause and out == "nothing found\n"), err


def test_a_model_that_is_not_there(bed: OllamaServer) -> None:
    with pytest.raises(ModelNotFound):
        lint_model("nothing:here", host=bed.url)


def _tool(parameters: Any, **more: Any) -> dict[str, Any]:
    function = {"name": "t", "description": "d", "parameters": parameters, **more}
    return {"type": "function", "function": function}


def _schema(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def test_what_is_said_of_tools_is_so(server: Server, tmp_path: Path) -> None:
    create(
        server,
        upload(server, tmp_path, JINJA),
        template=GO.replace('{"type": "function"', '{{ json $tool }}{"type": "function"'),
        parser="ministral",
    )

    def prompt(tool: dict[str, Any]) -> str:
        messages = [{"role": "user", "content": "x"}]
        return server.rendered_prompt({"model": NAME, "messages": messages, "tools": [tool]})

    rich = _schema(
        b={"type": "string", "minLength": 1, "default": "x"},
        a={"type": "array", "items": {"type": "string", "maxLength": 2}},
    )
    text = prompt(_tool({**rich, "additionalProperties": False}, strict=True))
    found = lint_tools([_tool({**rich, "additionalProperties": False}, strict=True)])
    dropped = [each.field.rpartition(".")[2] for each in found if each.code == "DV501"]
    assert sorted(dropped) == ["additionalProperties", "default", "minLength", "strict"]
    assert not any(f'"{each}"' in text for each in dropped)
    assert '"items":{"maxLength":2,"type":"string"}' in text
    assert text.index('"a":') < text.index('"b":')
    assert {each.code for each in found} == {"DV501", "DV504", "DV505"}


@pytest.mark.parametrize(
    "tool",
    [
        _tool(_schema(a=True)),
        _tool(_schema(a={"type": 3})),
        _tool(_schema(a={"type": "string", "required": True})),
        _tool(_schema(a={"type": "string", "enum": "x"})),
        _tool([]),
        _tool({}),
        _tool(_schema(a={"type": "nothing"})),
        _tool(_schema(a={"type": "array", "items": True})),
        {"type": "web_search"},
    ],
    ids=json.dumps,
)
def test_tools_that_lint_refuses_the_server_refuses(
    server: Server, tmp_path: Path, tool: dict[str, Any]
) -> None:
    create(server, upload(server, tmp_path, JINJA))
    request = {"model": NAME, "messages": [{"role": "user", "content": "x"}], "tools": [tool]}
    with pytest.raises(ServerError):
        server.rendered_prompt(request)
    assert "DV502" in {each.code for each in lint_tools([tool])}
