"""The smoke checks find what is wrong with a model on a real server, and nothing else."""

from __future__ import annotations

import json
import os
import select
import shutil
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from ollama_tools import Outcome, Report, Status, smoke
from ollama_tools.checks.doctor import doctor
from ollama_tools.checks.surfaces import SURFACES
from ollama_tools.devstral.carriers import go_template
from ollama_tools.devstral.catalog import TokenizerVersion
from ollama_tools.devstral.miniature import write_miniature
from ollama_tools.errors import ModelNotFound, ServerUnreachable, UsageError
from ollama_tools.files.remembered import file_sha256
from ollama_tools.model.status import model_status
from ollama_tools.server.client import Server
from ollama_tools.wanted.wish import Wish
from tests.live.test_create import (
    NAME,
    QUANT,
    Heard,
    broken,
    broken_hub,
    create,
    hub,
    run_cli,
    run_here,
    unloaded,
)
from tests.testbed.hub import Hub
from tests.testbed.server import OllamaServer

__all__ = ["broken", "broken_hub", "create", "hub", "unloaded"]

Create = Callable[..., Outcome]

ROUND_TRIPS = {
    f"tool-{part} {surface.path} {mode}"
    for part in ("call", "result")
    for surface in SURFACES
    for mode in ("plain", "streamed")
}
SURFACE_CHECKS = {
    f"{check} {surface.path}" for check in ("no-tools", "several-calls") for surface in SURFACES
}
TOOL_CALLS = {
    each for each in ROUND_TRIPS | SURFACE_CHECKS if each.startswith(("tool-call", "several-calls"))
}
MODEL_CHECKS = {
    "server-version",
    "digest",
    "tokenizer",
    "prompt",
    "bos",
    "context",
    "long-prompt",
    "vision",
    "kv-cache",
    "gpu",
}


def failed(report: Report) -> set[str]:
    assert all(each.fix for each in report.failures)
    return {each.id for each in report.failures}


def saw(report: Report, identifier: str) -> str:
    return next(each.saw for each in report.checks if each.id == identifier)


@pytest.fixture
def weights(server: Server, tmp_path: Path) -> str:
    """A miniature without a chat template, as the model ``weights`` on the server."""
    path = tmp_path / "bare.gguf"
    write_miniature(path, layers=1, heads=1, kv_heads=1)
    digest = f"sha256:{file_sha256(path, Heard())}"
    server.upload(path, digest, lambda *_: None)
    server.create({"model": "weights", "files": {path.name: digest}}, lambda *_: None)
    return "weights"


def make(server: Server, weights: str, **layers: object) -> str:
    """A model with layers of one's own."""
    parameters = {"num_ctx": 32_768, **layers.pop("parameters", {})}  # type: ignore[dict-item]
    request = {"model": "mine", "from": weights, "parameters": parameters, **layers}
    server.create(request, lambda *_: None)
    return "mine"


def test_a_created_model_passes_every_check(create: Create, bed: OllamaServer) -> None:
    create(check=False)
    heard = Heard()
    report = smoke(NAME, host=bed.url, prompt_tokens=300, progress=heard)
    assert {each.id for each in report.checks} == MODEL_CHECKS | ROUND_TRIPS | SURFACE_CHECKS
    assert {each.status for each in report.checks} == {Status.PASS}
    assert (report.subject, report.server, report.version) == (NAME, bed.url, "0.34.4")
    assert saw(report, "bos") == "7 tokens for a prompt of 7 with one BOS"
    assert saw(report, "context") == "32768 tokens in force"
    assert saw(report, "long-prompt").endswith("tokens sent and evaluated, none cut")
    assert saw(report, "kv-cache").startswith("f16 (log: K (f16): ")
    assert saw(report, "prompt").startswith("equal to mistral-common's v13")
    assert len(heard.steps) == len(MODEL_CHECKS) + 3 * len(SURFACES)


def test_a_short_name_does_for_the_models_own(create: Create, bed: OllamaServer) -> None:
    create("2505:Q4_K_M", check=False, carrier="modelfile")
    report = smoke("2505:Q4_K_M", host=bed.url, prompt_tokens=300)
    assert (report.passed, report.subject) == (True, "devstral-small-2505:Q4_K_M")
    assert "v7" in saw(report, "prompt")


def test_a_card_that_the_server_does_not_use_fails(
    create: Create, bed: OllamaServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(check=False)

    def gpu(required: bool | None = None) -> tuple[Status, str, str]:
        report = smoke(QUANT, host=bed.url, prompt_tokens=300, require_gpu=required)
        (found,) = [each for each in report.checks if each.id == "gpu"]
        return found.status, found.saw, found.fix

    here = "on the processor (the server's log)"
    assert gpu() == (Status.PASS, f"{here}; no graphics card is seen there", "")
    assert gpu(required=True)[0] is Status.FAIL
    # A stand-in for a driver that came after the server: this machine has no card.
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA H100 80GB HBM3, 81559, 4'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    status, seen, fix = gpu()
    assert status is Status.FAIL
    assert seen == f"{here}: the server found no card when it started, and there is one now"
    assert fix.startswith("restart the server")
    assert gpu(required=False) == (Status.PASS, here, "")
    with Server(bed.url) as asked:
        assert f"gpu {NAME}" in {each.id for each in doctor(asked).failures}
        served = model_status(asked, Wish(reference=QUANT))
        assert served.placement is not None
        assert (served.placement.saw, served.placement.fix) == (seen, fix)
        assert served.drifted
        meant = model_status(asked, Wish(reference=QUANT), require_gpu=False)
        assert meant.placement is not None
        assert meant.placement.status is Status.PASS
    done = run_here("status", QUANT, server=bed.url)
    assert done.returncode == 3
    assert f"~ {seen}; fix: {fix}" in done.stdout


def test_json_junit_and_the_exit_code_of_the_command_line(
    create: Create, bed: OllamaServer, tmp_path: Path
) -> None:
    create(check=False)
    file = tmp_path / "smoke.xml"
    command = ("smoke", QUANT, "--json", "--junit", str(file))
    done = run_cli(*command, "--prompt-tokens", "300", server=bed.url)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["passed"] is True
    assert {
        each["id"] for each in document["checks"]
    } == MODEL_CHECKS | ROUND_TRIPS | SURFACE_CHECKS
    assert {"id", "status", "saw", "fix"} <= document["checks"][0].keys()
    suites = ET.fromstring(file.read_bytes())
    assert {
        each.attrib["name"] for each in suites.iter("testcase")
    } == MODEL_CHECKS | ROUND_TRIPS | SURFACE_CHECKS
    assert (suites.attrib["failures"], suites.attrib["skipped"]) == ("0", "0")

    done = run_cli(*command, "--prompt-tokens", "40000", server=bed.url)
    assert done.returncode == 4
    document = json.loads(done.stdout)
    found = {each["id"]: each for each in document["checks"] if each["status"] == "fail"}
    assert (document["passed"], set(found)) == (False, {"context", "long-prompt"})
    assert all(each["fix"] for each in found.values())
    suites = ET.fromstring(file.read_bytes())
    assert len(list(suites.iter("failure"))) == 2


def test_the_table_shows_every_check(create: Create, bed: OllamaServer) -> None:
    create(check=False)
    done = run_here("smoke", NAME, "--prompt-tokens", "300", server=bed.url)
    assert done.returncode == 0
    for identifier in MODEL_CHECKS | ROUND_TRIPS:
        assert identifier in done.stdout


def test_a_template_that_starts_with_bos_is_found_by_counting(server: Server, weights: str) -> None:
    template = "<s>" + go_template(TokenizerVersion.V13)
    name = make(server, weights, template=template, parser="ministral")
    report = smoke(name, host=server.url, release="2507", prompt_tokens=300)
    assert failed(report) == {"bos"}
    assert saw(report, "bos") == "8 tokens, one too many: BOS stands twice"


def test_our_template_on_any_miniature_passes(server: Server, weights: str) -> None:
    name = make(server, weights, template=go_template(TokenizerVersion.V13), parser="ministral")
    assert smoke(name, host=server.url, release="2507", prompt_tokens=300).passed


def test_a_context_of_4096_is_too_small_for_an_agent(server: Server, weights: str) -> None:
    template = go_template(TokenizerVersion.V13)
    small = {"num_ctx": 4096}
    name = make(server, weights, template=template, parser="ministral", parameters=small)
    report = smoke(name, host=server.url, release="2507")
    assert failed(report) == {"context", "long-prompt"}
    assert saw(report, "context").startswith("4096 tokens; an agent's first prompt")
    assert {each.fix for each in report.failures} == {"run devstral-ollama create --context 32768"}


def test_a_template_without_tools_fails_prompt_and_every_tool_call(
    server: Server, weights: str
) -> None:
    template = (
        "{{ if .System }}[SYSTEM_PROMPT]{{ .System }}[/SYSTEM_PROMPT]{{ end }}"
        "[INST]{{ .Prompt }}[/INST]{{ .Response }}"
    )
    name = make(server, weights, template=template)
    report = smoke(name, host=server.url, release="2507", prompt_tokens=300)
    assert failed(report) >= {"prompt"} | TOOL_CALLS
    assert failed(report) <= {"prompt", "long-prompt"} | TOOL_CALLS


def test_the_hubs_broken_template_fails_the_prompt(
    create: Create, broken: Hub, bed: OllamaServer
) -> None:
    create(carrier="hub", check=False, system="bundled")
    report = smoke(NAME, host=bed.url, prompt_tokens=300)
    assert failed(report) == {"prompt"}
    assert "not mistral-common's v13: at character" in saw(report, "prompt")


def test_another_releases_format_is_seen(create: Create, bed: OllamaServer) -> None:
    create(carrier="modelfile", check=False)
    report = smoke(NAME, host=bed.url, release="2505", prompt_tokens=300)
    assert failed(report) == {"prompt"}


def test_a_name_that_was_changed_by_hand_fails_the_digest(create: Create, server: Server) -> None:
    create(check=False)
    server.create({"model": NAME, "from": NAME, "system": "Be rude."}, lambda *_: None)
    report = smoke(NAME, host=server.url, prompt_tokens=300)
    assert failed(report) == {"digest"}
    assert saw(report, "digest").endswith("the name was changed after its creation")


# The KV cache


@pytest.mark.parametrize("kind", ["q8_0", "q4_0"])
def test_the_type_of_the_kv_cache_is_proven(create: Create, bed: OllamaServer, kind: str) -> None:
    create(check=False)
    bed.restart(env={"OLLAMA_KV_CACHE_TYPE": kind})
    try:
        report = smoke(NAME, host=bed.url, prompt_tokens=300)
    finally:
        bed.restart(env={})
    assert failed(report) == set()
    assert saw(report, "kv-cache").startswith(f"{kind} (log: K ({kind}): ")


def test_a_type_that_the_server_does_not_know_fails_what_needs_an_engine(
    create: Create, bed: OllamaServer
) -> None:
    create(check=False)
    bed.restart(env={"OLLAMA_KV_CACHE_TYPE": "q9_9"})
    try:
        report = smoke(NAME, host=bed.url, prompt_tokens=300)
    finally:
        bed.restart(env={})
    assert failed(report) >= {"bos", "long-prompt"} | TOOL_CALLS
    assert "process has terminated" in saw(report, "bos")


@pytest.fixture
def forwarded(bed: OllamaServer) -> Iterator[str]:
    """The address of a forwarder to the server, which hides the server's process."""

    class Forward(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection(("127.0.0.1", bed.port)) as server:
                other = {self.request: server, server: self.request}
                while True:
                    for source in select.select(list(other), [], [])[0]:
                        if not (data := source.recv(65_536)):
                            return
                        other[source].sendall(data)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Forward) as forwarder:
        threading.Thread(target=forwarder.serve_forever, args=(0.05,), daemon=True).start()
        yield f"127.0.0.1:{forwarder.server_address[1]}"
        forwarder.shutdown()


def test_a_server_that_cannot_be_seen_leaves_the_kv_cache_unknown_and_a_log_tells(
    create: Create, bed: OllamaServer, forwarded: str, tmp_path: Path
) -> None:
    create(check=False)
    report = smoke(NAME, host=forwarded, prompt_tokens=300)
    (kv,) = [each for each in report.checks if each.id == "kv-cache"]
    assert (kv.status, report.passed) == (Status.UNKNOWN, True)
    assert "--log FILE" in kv.fix

    log = tmp_path / "copy.log"
    shutil.copy(bed.log_path, log)
    report = smoke(NAME, host=forwarded, prompt_tokens=300, log=log)
    assert saw(report, "kv-cache").startswith("f16 (log: ")


# What cannot be checked


def test_a_name_that_is_not_on_the_server(bed: OllamaServer) -> None:
    with pytest.raises(ModelNotFound, match="has no model 'devstral-small-2507:UD-Q4_K_XL'"):
        smoke(QUANT, host=bed.url)
    with pytest.raises(ModelNotFound, match="has no model 'nosuch'"):
        smoke("nosuch", host=bed.url)
    assert run_here("smoke", "nosuch", server=bed.url).returncode == 1


def test_a_name_that_does_not_tell_its_release(
    bed: OllamaServer, server: Server, weights: str
) -> None:
    with pytest.raises(UsageError, match="nothing tells which Devstral"):
        smoke(weights, host=bed.url)
    assert run_here("smoke", weights, server=bed.url).returncode == 2


def test_a_prompt_too_short_to_prove_anything(create: Create, bed: OllamaServer) -> None:
    create(check=False)
    with pytest.raises(UsageError, match="proves nothing"):
        smoke(NAME, host=bed.url, prompt_tokens=10)


def test_a_server_that_goes_away_ends_the_checks(create: Create, bed: OllamaServer) -> None:
    create(check=False)

    class Killer(Heard):
        def step(self, text: str) -> None:
            super().step(text)
            if text == "checking bos":
                bed.kill()

    heard = Killer()
    try:
        with pytest.raises(ServerUnreachable):
            smoke(NAME, host=bed.url, prompt_tokens=300, progress=heard)
    finally:
        bed.start()
    assert heard.steps[-1] == "checking bos"
