"""``create`` on a real server: what it leaves there, and that it does nothing twice."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import pytest

from docs import outputs
from ollama_tools import Outcome, ensure_model, smoke
from ollama_tools import __main__ as entry
from ollama_tools.devstral.carriers import Carrier
from ollama_tools.devstral.contract import understands
from ollama_tools.errors import CheckFailed, ModelNotFound, UsageError
from ollama_tools.files.packaged import data_path
from ollama_tools.lint import cases
from ollama_tools.server.client import Server, find_model
from ollama_tools.server.names import Kind, OwnName, own_name
from tests.testbed.hub import Hub
from tests.testbed.models import SYSTEM_PROMPT, TEMPLATES, devstral_repositories
from tests.testbed.server import OllamaServer

ROOT = Path(__file__).parents[2]
QUANT = "UD-Q4_K_XL"
NAME = f"devstral-small-2507:{QUANT}"
REPOSITORY = "unsloth/Devstral-Small-2507-GGUF"
SHORT = 300
"""Tokens of the long prompt where its length is not the question."""

Create = Callable[..., Outcome]


class Heard:
    """A progress that keeps what it hears."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.warnings: list[str] = []

    def step(self, text: str) -> None:
        self.steps.append(text)

    def transfer(self, label: str, done: int, total: int | None) -> None:
        """Bytes are of no interest here."""

    def warn(self, text: str) -> None:
        self.warnings.append(text)


class Requests:
    """The requests that a server gets from now on, as its own log has them."""

    def __init__(self, server: OllamaServer) -> None:
        self._server = server
        self._start = len(server.log)

    def so_far(self) -> list[str]:
        end = f"/api/version?end={uuid.uuid4()}"
        httpx.get(f"{self._server.url}{end}")
        deadline = time.monotonic() + 10
        while end not in (log := self._server.log[self._start :]):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        lines = re.findall(r'\[GIN\].*\| (GET|POST|HEAD|DELETE) +"([^"]+)"', log)
        return [f"{method} {path}" for method, path in lines if path != end]


def model_names(server: Server) -> list[str]:
    return sorted(each.name for each in server.models())


def tool_calls(server: Server, name: str) -> list[str]:
    answer = server.chat({"model": name, "messages": cases.QUESTION, "tools": cases.TOOLS})
    return [each["function"]["name"] for each in answer["message"].get("tool_calls", ())]


def run_cli(
    *arguments: str, server: str, hub: Hub | None = None, cwd: Path = ROOT, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run the command line against a server and a hub, as a person would."""
    done = subprocess.run(
        [sys.executable, "-m", "ollama_tools", *arguments],
        cwd=cwd,
        env={**os.environ, **_mine(server, hub), **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return _documented(done, arguments)


def run_here(
    *arguments: str, server: str, hub: Hub | None = None, cwd: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """The same without a process: where it is said and how it ends is all that is asked.

    To start a process takes a second, mostly of imports.
    """
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, _mine(server, hub)),
        # What the command line sets for its process.
        mock.patch("warnings.showwarning", warnings.showwarning),
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = entry.run([*arguments])
    done = subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())
    return _documented(done, arguments)


def _mine(server: str, hub: Hub | None) -> dict[str, str]:
    mine = {"OLLAMA_HOST": server, "PYTHONPATH": str(ROOT), "HF_HOME": os.environ["XDG_CACHE_HOME"]}
    return mine if hub is None else mine | {"HF_ENDPOINT": hub.endpoint}


def _documented(
    done: subprocess.CompletedProcess[str], arguments: Sequence[str]
) -> subprocess.CompletedProcess[str]:
    """The same; what it says as JSON has the form that is documented."""
    if "--json" in arguments and done.stdout:
        document = json.loads(done.stdout)
        assert list(outputs.faults(document, outputs.form_of(arguments, document))) == []
    return done


def use_hub(hub: Hub | str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let huggingface_hub ask a hub; it reads its environment once, when it is imported.

    Args:
        hub: The hub, or the URL of something else.
        monkeypatch: What takes it back.
    """
    endpoint = hub if isinstance(hub, str) else hub.endpoint
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
        f"{endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
    )


@pytest.fixture
def hub(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Hub:
    use_hub(hub, monkeypatch)
    return hub


@pytest.fixture(autouse=True)
def unloaded(bed: OllamaServer) -> Iterator[None]:
    """Let engines go with their test: a server that has too many waits long to make room."""
    yield
    with Server(bed.url) as server:
        models = server.models()
        for each in server.running():
            # One whose name is gone cannot be asked to go, and is worth no tries.
            if find_model(models, each.name) is None:
                continue
            with contextlib.suppress(ModelNotFound):
                server.unload(each.name)


@pytest.fixture
def create(bed: OllamaServer, hub: Hub) -> Create:
    """``ensure_model`` on the bed, with short checks."""

    def ensure(reference: str = QUANT, **wish: Any) -> Outcome:
        return ensure_model(
            reference, **{"host": bed.url, "prompt_tokens": SHORT, "via": "upload", **wish}
        )

    return ensure


@pytest.fixture(scope="module")
def broken_hub() -> Iterator[Hub]:
    """A hub whose file for one quant has a template that is not Devstral's."""
    template = (TEMPLATES / "broken.jinja").read_text()
    repositories = devstral_repositories(
        heads=1, kv_heads=1, quants=[QUANT], chat_templates={REPOSITORY: template}
    )
    with Hub(repositories) as hub:
        yield hub


@pytest.fixture
def broken(broken_hub: Hub, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Hub:
    use_hub(broken_hub, monkeypatch)
    return broken_hub


@pytest.mark.parametrize("via", ["server", "upload"])
def test_a_short_name_becomes_a_model_that_calls_tools_and_a_second_run_changes_nothing(
    create: Create, bed: OllamaServer, hub: Hub, server: Server, via: str
) -> None:
    heard = Heard()
    wish = {"via": via, "registry": hub.registry, "progress": heard}
    made = create(**wish)

    assert (made.name, made.changed, made.context) == (NAME, True, 32768)
    best = Carrier.GGUF if via == "upload" else Carrier.HUB
    assert (made.carrier, made.server, made.version) == (best, bed.url, "0.34.4")
    assert made.report is not None
    assert made.report.passed
    assert model_names(server) == [NAME, made.build]
    assert {each.digest for each in server.models()} == {made.digest}
    assert tool_calls(server, NAME) == [cases.TOOL]
    asked = {request.path.split("/")[1] for request in hub.requests}
    assert ("blobs" in asked, "lfs" in asked) == (via == "server", via == "upload")

    hub.forget()
    seen = Requests(bed)
    again = create(**wish)
    requests = seen.so_far()

    assert (again.changed, again.digest, again.build) == (False, made.digest, made.build)
    assert again.report is None
    assert requests == ["GET /api/version", "GET /api/tags", "POST /api/show"]
    assert hub.requests == []


def test_the_pulled_base_name_goes_and_its_blob_stays(
    create: Create, hub: Hub, server: Server
) -> None:
    create(via="server", registry=hub.registry)
    sha256 = next(
        each.files[f"Devstral-Small-2507-{QUANT}.gguf"].sha256
        for each in devstral_repositories(heads=1, kv_heads=1)
        if each.name == REPOSITORY
    )
    assert server.model(f"{hub.registry}/{REPOSITORY}:{QUANT}") is None
    assert server.has_blob(f"sha256:{sha256}")
    assert server.show(NAME).weights == f"sha256:{sha256}"


def test_weights_that_the_server_has_are_not_downloaded(
    create: Create, hub: Hub, server: Server
) -> None:
    create(via="server", registry=hub.registry, check=False)
    hub.forget()
    create(via="upload", carrier="hub", name="mine:agent", check=False)
    assert [request.path for request in hub.requests if request.path.startswith("/lfs/")] == []
    assert tool_calls(server, "mine:agent") == [cases.TOOL]


def test_weights_with_our_template_are_not_brought_again_either(
    create: Create, hub: Hub, bed: OllamaServer
) -> None:
    create(via="upload", carrier="gguf", check=False)
    hub.forget()
    seen = Requests(bed)
    create(via="upload", carrier="gguf", name="mine:agent", check=False)
    assert [request.path for request in hub.requests if request.path.startswith("/lfs/")] == []
    assert not [each for each in seen.so_far() if each.startswith("POST /api/blobs/")]


def test_a_template_in_the_gguf_needs_weights_that_pass_through_this_machine(
    create: Create, hub: Hub, server: Server
) -> None:
    with pytest.raises(UsageError, match="weights that pass through this machine"):
        create(via="server", registry=hub.registry, carrier="gguf")
    assert server.models() == []


def test_an_agents_first_prompt_of_18500_tokens_is_sent_and_none_of_it_is_cut(
    create: Create,
) -> None:
    made = create(prompt_tokens=18_500)
    assert made.report is not None
    (long,) = [each for each in made.report.checks if each.id == "long-prompt"]
    tokens = int(long.saw.split()[0])
    assert abs(tokens - 18_500) < 10
    assert long.saw.endswith("tokens sent and evaluated, none cut")


def test_the_command_line_answers_with_one_json_document(bed: OllamaServer, hub: Hub) -> None:
    command = ("create", QUANT, "--json", "--prompt-tokens", "300")
    first = run_cli(*command, server=bed.url, hub=hub)
    second = run_cli(*command, server=bed.url, hub=hub)
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr

    made, again = json.loads(first.stdout), json.loads(second.stdout)
    facts = {key: made[key] for key in ("name", "changed", "carrier", "context")}
    assert facts == {"name": NAME, "changed": True, "carrier": "gguf", "context": 32768}
    assert re.fullmatch("[0-9a-f]{64}", made["digest"])
    assert made["report"]["passed"] is True
    assert (again["changed"], again["digest"]) == (False, made["digest"])


def test_the_command_line_says_in_one_line_what_it_did(bed: OllamaServer, hub: Hub) -> None:
    command = ("create", QUANT, "--no-check")
    first = run_cli(*command, server=bed.url, hub=hub)
    second = run_cli(*command, server=bed.url, hub=hub)
    assert re.fullmatch(
        rf"{NAME} is ready on {bed.url} \(Ollama 0.34.4\): [0-9a-f]{{12}}, carrier gguf, "
        r"context 32768, no vision; not checked\n",
        first.stdout,
    )
    assert second.stdout.startswith(f"{NAME} is unchanged on {bed.url} (Ollama 0.34.4): ")
    assert second.stderr == ""


def test_quiet_prints_the_name_alone(bed: OllamaServer, hub: Hub) -> None:
    done = run_cli(
        "create", QUANT, "--no-check", "--system", "bundled", "-q", server=bed.url, hub=hub
    )
    assert (done.stdout, done.stderr) == (f"{NAME}\n", "")


def test_a_dry_run_shows_the_steps_and_takes_none(
    bed: OllamaServer, hub: Hub, server: Server
) -> None:
    seen = Requests(bed)
    done = run_cli("create", QUANT, "--dry-run", "--json", server=bed.url, hub=hub)
    plan = json.loads(done.stdout)
    assert plan["changed"] is True
    assert plan["reason"] == "it is not on the server"
    kinds = ["bring", "build", "compare", "check", "keep", "switch"]
    assert [each["kind"] for each in plan["steps"]] == kinds
    assert "download" in plan["steps"][0]["text"]
    assert not [each for each in seen.so_far() if each.startswith(("POST", "DELETE"))]
    assert not [each for each in hub.requests if each.method != "HEAD" and "gguf" in each.path]


def test_the_library_is_silent(
    create: Create, hub: Hub, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    hub.fail("/mistralai/", status=503)
    made = create()
    assert smoke(made.name, host=made.server, prompt_tokens=SHORT).passed
    assert capfd.readouterr() == ("", "")
    assert [each for each in caplog.messages if "Retry" in each or "HTTP Error" in each] == []


# The system prompt


@pytest.fixture
def catalog_of_the_bed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The catalog, but for the digest of the system prompt, which on the bed is another text."""
    import hashlib

    text = data_path("catalog.yaml").read_text(encoding="utf-8")
    known = "5725afc40acd80cbeefba61e41cf50eb7924f6ed2fe6aec2dc6fa0e9f2c396d1"
    found = hashlib.sha256(SYSTEM_PROMPT.rstrip("\n").encode()).hexdigest()
    assert known in text
    path = tmp_path / "catalog.yaml"
    path.write_text(text.replace(known, found), encoding="utf-8")
    monkeypatch.setenv("DEVSTRAL_OLLAMA_CATALOG", str(path))


def system_of(server: Server, name: str) -> str:
    answer = server.post("/api/show", {"model": name})
    return str(answer.get("system", ""))


@pytest.mark.usefixtures("catalog_of_the_bed")
def test_the_hubs_system_prompt_is_the_default_where_it_can_be_had(
    create: Create, server: Server
) -> None:
    heard = Heard()
    create(check=False, progress=heard)
    assert heard.warnings == []
    assert system_of(server, NAME) == SYSTEM_PROMPT.rstrip("\n")
    assert create(check=False, system="hub").changed is False


@pytest.mark.usefixtures("catalog_of_the_bed")
def test_a_hub_that_does_not_give_its_system_prompt_is_replaced_at_once(
    create: Create, hub: Hub, server: Server
) -> None:
    hub.fail("/mistralai/", status=503)
    heard = Heard()
    begin = time.monotonic()
    create(check=False, progress=heard)
    assert time.monotonic() - begin < 10
    assert heard.warnings == [
        "the hub answers 503 for mistralai/Devstral-Small-2507/SYSTEM_PROMPT.txt; "
        "the bundled system prompt is used"
    ]
    assert system_of(server, NAME).startswith("You are Devstral")

    # The wish is met as well as it could be, so nothing is to do once the hub is well again.
    hub.heal()
    assert create(check=False).changed is False


def test_a_changed_system_prompt_on_the_hub_is_not_taken(create: Create, server: Server) -> None:
    heard = Heard()
    create(check=False, progress=heard)
    assert [each.split(" has the sha256 ")[0] for each in heard.warnings] == [
        "mistralai/Devstral-Small-2507/SYSTEM_PROMPT.txt"
    ]
    assert system_of(server, NAME) != SYSTEM_PROMPT.rstrip("\n")


def test_a_system_prompt_from_a_file_and_none_at_all(
    create: Create, server: Server, tmp_path: Path
) -> None:
    path = tmp_path / "prompt.txt"
    path.write_text('Say "yes" — or\tnothing.\nAlways.\n', encoding="utf-8")
    create(system=path)
    assert system_of(server, NAME) == 'Say "yes" — or\tnothing.\nAlways.'
    assert create(system=str(path)).changed is False
    create(system="", check=False)
    assert system_of(server, NAME) == ""


# What changes, and what stays


def test_another_context_makes_another_build_and_keeps_the_old_one(
    create: Create, server: Server
) -> None:
    first = create(check=False)
    second = create(check=False, context=65_536)
    assert (second.changed, second.context) == (True, 65_536)
    assert second.digest != first.digest
    assert {each.name: each.digest for each in server.models()} == {
        NAME: second.digest,
        first.build: first.digest,
        second.build: second.digest,
    }
    back = create(check=False)
    assert (back.changed, back.digest, back.build) == (True, first.digest, first.build)
    # The one name more says since when the first build serves again.
    assert len(server.models()) == 4


@pytest.mark.parametrize(
    "wish",
    [
        {"parameters": {"temperature": 0.3}},
        {"parameters": {"stop": ("END", 'a "quoted" word')}},
        {"parameters": {"num_ctx": 40_960}},
        {"system": ""},
        {"carrier": "modelfile"},
    ],
)
def test_another_wish_is_seen_and_met_and_then_nothing_is_to_do(
    create: Create, wish: dict[str, Any]
) -> None:
    first = create(check=False, system="bundled")
    wish = {"system": "bundled", **wish}
    second = create(check=False, **wish)
    assert second.changed is True
    assert second.build != first.build
    assert create(check=False, **wish).changed is False


def test_force_builds_again_and_gives_the_same_model(
    create: Create, bed: OllamaServer, server: Server
) -> None:
    first = create(check=False)
    seen = Requests(bed)
    again = create(check=False, force=True)
    assert (again.changed, again.digest, again.build) == (True, first.digest, first.build)
    assert "POST /api/create" in seen.so_far()
    assert model_names(server) == [NAME, first.build]


def test_a_hand_edit_over_the_public_name_is_mended_and_kept_as_a_build(
    create: Create, server: Server
) -> None:
    first = create()
    server.create({"model": NAME, "from": NAME, "system": "Be rude."}, lambda *_: None)
    edited = server.model(NAME)
    assert edited is not None

    second = create()

    assert (second.changed, second.digest) == (True, first.digest)
    kept = f"{NAME}-{edited.digest[:12]}"
    assert second.previous == kept
    names = {each.name: each.digest for each in server.models()}
    (again,) = names.keys() - {NAME, first.build, kept}
    assert own_name(again) == OwnName(Kind.SERVED, NAME, first.build.rpartition("-")[2])
    assert names == {
        NAME: first.digest,
        first.build: first.digest,
        kept: edited.digest,
        again: first.digest,
    }


def test_a_hand_edit_over_name_and_build_is_mended(create: Create, server: Server) -> None:
    first = create(check=False)
    for name in (first.name, first.build):
        edit = {"model": name, "from": first.name, "parameters": {"temperature": 1.5}}
        server.create(edit, lambda *_: None)
    second = create(check=False)
    assert second.changed is True
    assert server.show(NAME).parameters["temperature"] == ["0.15"]
    assert create(check=False).changed is False


# Carriers


def test_a_broken_template_on_the_hub_is_seen_and_ours_takes_its_place(
    create: Create, broken: Hub, server: Server
) -> None:
    heard = Heard()
    wish = {"via": "server", "registry": broken.registry}
    made = create(**wish, progress=heard)
    assert made.carrier is Carrier.MODELFILE
    assert any(each.startswith("carrier hub is not taken: at character") for each in heard.warnings)
    assert model_names(server) == [NAME, made.build]
    assert tool_calls(server, NAME) == [cases.TOOL]
    assert create(**wish).changed is False


def test_a_broken_template_that_was_asked_for_fails_its_check_and_the_name_stays(
    create: Create, hub: Hub, broken: Hub, bed: OllamaServer, server: Server
) -> None:
    first = create(carrier="modelfile", check=False)
    with pytest.raises(CheckFailed, match=f"{NAME} serves as before") as caught:
        create(carrier="hub")
    assert "prompt" in caught.value.what
    current = server.model(NAME)
    assert current is not None
    assert current.digest == first.digest
    assert tool_calls(server, NAME) == [cases.TOOL]

    done = run_cli(
        "create", QUANT, "--carrier=hub", "--prompt-tokens=300", server=bed.url, hub=broken
    )
    assert done.returncode == 4
    assert [line.split(":")[0] for line in done.stderr.splitlines()][-2:] == ["error", "fix"]


@pytest.mark.parametrize(
    "carriers", [("hub", "modelfile", "hub"), ("modelfile", "hub", "modelfile")]
)
def test_carriers_follow_one_another_on_one_blob_and_each_passes_its_checks(
    create: Create, carriers: tuple[str, ...], server: Server
) -> None:
    for carrier in carriers:
        made = create(carrier=carrier)
        assert made.carrier.value == carrier
        assert made.report is not None
        assert made.report.passed
        # Loaded, so that the next carrier finds an engine that this one started.
        assert tool_calls(server, NAME) == [cases.TOOL]


@pytest.mark.parametrize(("via", "carrier"), [("server", "modelfile"), ("upload", "gguf")])
def test_exact_takes_a_template_that_the_gateway_understands_whatever_way_it_came(
    create: Create, server: Server, hub: Hub, via: str, carrier: str
) -> None:
    way = {"via": via, "registry": hub.registry} if via == "server" else {"via": via}
    published = create(carrier="hub", **way)
    assert not understands(server.show(NAME).template)
    made = create(carrier="exact", **way)
    assert (made.carrier, made.changed, made.previous) == (carrier, True, published.build)
    assert understands(server.show(NAME).template)
    assert tool_calls(server, NAME) == [cases.TOOL]
    assert not create(carrier="exact", **way).changed
    with pytest.raises(UsageError, match="a file's own template is not used"):
        create(carrier="exact", keep_template=True, **way)


def test_an_engine_of_a_model_that_was_removed_does_not_harm_the_next_build(
    create: Create, server: Server
) -> None:
    create(carrier="modelfile", name="old:agent")
    assert tool_calls(server, "old:agent") == [cases.TOOL]
    for each in server.models():
        server.delete(each.name)
    assert server.running() != []
    made = create(carrier="hub")
    assert made.report is not None
    assert made.report.passed


def test_release_2505_calls_tools_from_either_place(create: Create, server: Server) -> None:
    for carrier in ("hub", "modelfile"):
        made = create("2505:Q4_K_M", carrier=carrier)
        assert made.name == "devstral-small-2505:Q4_K_M"
        assert tool_calls(server, made.name) == [cases.TOOL]


@pytest.mark.parametrize("release", ["devstral-small-2-24b-instruct-2512", "123b"])
def test_newer_releases_with_another_architecture_call_tools(
    create: Create, server: Server, release: str
) -> None:
    made = create(f"{release}:UD-IQ1_S")
    assert tool_calls(server, made.name) == [cases.TOOL]


# Other references


def test_a_file_is_uploaded_once_and_its_digest_remembered(
    create: Create, hub: Hub, bed: OllamaServer, server: Server, tmp_path: Path
) -> None:
    import huggingface_hub

    path = tmp_path / "my-devstral-2507-tune.gguf"
    path.write_bytes(
        Path(
            huggingface_hub.hf_hub_download(REPOSITORY, f"Devstral-Small-2507-{QUANT}.gguf")
        ).read_bytes()
    )
    heard = Heard()
    made = create(str(path), progress=heard)
    assert made.name == "my-devstral-2507-tune:latest"
    assert tool_calls(server, made.name) == [cases.TOOL]
    assert [each for each in heard.steps if each.startswith("hashing")] == [
        f"hashing {path}, with our template in it"
    ]

    heard = Heard()
    assert create(str(path), progress=heard).changed is False
    assert heard.steps == []

    seen = Requests(bed)
    create(str(path), name="other", check=False)
    assert not [each for each in seen.so_far() if each.startswith("POST /api/blobs/")]


def test_a_model_on_the_server_becomes_a_devstral(create: Create, hub: Hub, server: Server) -> None:
    base = f"{hub.registry}/{REPOSITORY}:Q8_0"
    server.pull(base, insecure=True, advance=lambda *_: None)
    server.copy(base, "plain")
    made = create("plain", release="2507", name="devstral:mine")
    assert made.name == "devstral:mine"
    assert server.show("devstral:mine").weights == server.show("plain").weights
    assert tool_calls(server, made.name) == [cases.TOOL]
    assert server.model("plain") is not None


def test_a_repository_that_the_catalog_does_not_know(create: Create, server: Server) -> None:
    made = create(
        "hf.co/unsloth/Devstral-Small-2507-GGUF@main:Q4_1", name="my/devstral:q4", check=False
    )
    assert made.name == "my/devstral:q4"
    assert tool_calls(server, made.name) == [cases.TOOL]


# What this machine remembers


def test_a_base_that_an_interrupted_run_left_is_removed_by_the_next(
    create: Create, hub: Hub, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = f"{hub.registry}/{REPOSITORY}:{QUANT}"

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Server, "create", interrupt)
        with pytest.raises(KeyboardInterrupt) as caught:
            create(via="server", registry=hub.registry)
    assert caught.value.__notes__ == [
        f"{NAME} is not on the server yet",
        "the same command goes on where this one stopped",
    ]
    assert model_names(server) == [base]

    hub.forget()
    made = create(via="server", registry=hub.registry, check=False)
    assert model_names(server) == [NAME, made.build]
    assert [each for each in hub.requests if each.path.startswith(("/v2/", "/blobs/"))] == []


@pytest.mark.parametrize("carrier", ["hub", "modelfile"])
def test_a_base_that_a_person_pulled_stays_and_is_warned_of_where_it_does_harm(
    create: Create, hub: Hub, server: Server, carrier: str
) -> None:
    base = f"{hub.registry}/{REPOSITORY}:{QUANT}"
    server.pull(base, insecure=True, advance=lambda *_: None)
    heard = Heard()
    made = create(via="server", registry=hub.registry, carrier=carrier, check=False, progress=heard)
    assert model_names(server) == sorted([base, NAME, made.build])
    warned = [each for each in heard.warnings if f"ollama rm {base}" in each]
    assert len(warned) == (carrier == "modelfile")
