"""Preflight tells a sound server from broken ones, each with its fix, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ollama_tools import CheckResult, Outcome, Report, Status, ensure_model, preflight
from ollama_tools.checks.surfaces import SURFACES
from ollama_tools.devstral.carriers import jinja_source
from ollama_tools.devstral.catalog import TokenizerVersion
from ollama_tools.errors import CheckFailed, UsageError
from ollama_tools.model.ensure import plan_for
from ollama_tools.model.preflight import Preflight
from ollama_tools.model.steps import Policy
from ollama_tools.progress import Silence
from ollama_tools.server.client import Server
from ollama_tools.server.log import read_log
from ollama_tools.server.process import ServerProcess
from ollama_tools.wanted.wish import Wish
from tests.live.test_create import NAME, QUANT, Heard, create, hub, run_cli
from tests.testbed.hub import Hub
from tests.testbed.server import OllamaServer

__all__ = ["create", "hub"]

Create = Callable[..., Outcome]

# What takes no time to be filled with zeros.
SHORT = 2560
OF_MEMORY = {"load", "context", "kv-cache", "gpu", "memory"}
OF_TALK = {"prompt", "bos", "long-prompt"}


def by_id(report: Report) -> dict[str, CheckResult]:
    assert all(each.fix for each in report.failures)
    return {each.id: each for each in report.checks}


def try_it(bed: OllamaServer, reference: str | None = QUANT, **options: object) -> Report:
    said = {"context": SHORT, **options}
    return preflight(reference, host=bed.url, **said)  # type: ignore[arg-type]


def failed(report: Report) -> set[str]:
    return {each.id for each in report.failures}


@pytest.fixture(autouse=True)
def nothing_is_left(bed: OllamaServer) -> Iterator[None]:
    with Server(bed.url) as client:
        is_idle = not client.running()
    if not is_idle:
        # What another test has loaded stays where its name is gone, and nobody can ask it to go;
        # beside what serves less is tried.
        bed.restart()
    with Server(bed.url) as client:
        before = [each.name for each in client.models()]
    blobs = _blobs(bed)
    yield
    with Server(bed.url) as client:
        assert [each for each in client.models() if "preflight" in each.name] == []
        assert [each for each in client.running() if "preflight" in each.name] == []
        if [each.name for each in client.models()] == before:
            assert _blobs(bed) == blobs


def _blobs(bed: OllamaServer) -> list[str]:
    folder = bed.models_dir / "blobs"
    return sorted(each.name for each in folder.iterdir()) if folder.exists() else []


@contextmanager
def restarted(bed: OllamaServer, **env: str) -> Iterator[None]:
    bed.restart(env=env)
    try:
        yield
    finally:
        bed.restart(env={})


def test_a_sound_server_passes_and_says_what_the_model_will_take(bed: OllamaServer) -> None:
    with restarted(
        bed, OLLAMA_CONTEXT_LENGTH="32768", OLLAMA_KV_CACHE_TYPE="q8_0", OLLAMA_NUM_PARALLEL="2"
    ):
        report = try_it(bed, context=8192, kv_cache_type="q8_0", parallel=2, vram="24GiB")
    found = by_id(report)
    assert report.passed
    assert {each.status for each in report.checks} == {Status.PASS}
    assert found.keys() >= OF_MEMORY | OF_TALK | {"parallel", "disk", "engine"}
    assert sum(each.startswith("tool-call ") for each in found) == 2 * len(SURFACES)
    assert found["context"].saw == "8192 tokens in force"
    assert found["kv-cache"].saw.startswith("q8_0 (log: ")
    memory = found["memory"].saw
    assert memory.startswith(f"85.0 KiB a token in q8_0; {QUANT} will take 15.")
    assert "of 22.5 GiB on a card of 24.0 GiB; " in memory
    assert found["parallel"].saw == "2 requests at a time"


def test_an_interrupted_one_leaves_nothing_either(bed: OllamaServer) -> None:
    class Interrupting(Heard):
        def __init__(self, at: str) -> None:
            super().__init__()
            self.at = at

        def step(self, text: str) -> None:
            super().step(text)
            if text == self.at:
                raise KeyboardInterrupt

    for at in ("checking context", "checking prompt"):
        with pytest.raises(KeyboardInterrupt):
            try_it(bed, progress=Interrupting(at))


# A model that serves


def test_a_model_that_serves_is_never_put_out(create: Create, bed: OllamaServer) -> None:
    create(check=False)

    def serving() -> list[str]:
        with Server(bed.url) as client:
            return [each.digest for each in client.running()]

    def load() -> None:
        with Server(bed.url) as client:
            client.chat({"model": NAME, "messages": [{"role": "user", "content": "a"}]})

    load()
    loaded = serving()
    found = by_id(try_it(bed, vram="24GiB", context=32768))
    assert found["serving"].status is Status.PASS
    assert found["serving"].saw.startswith(f"{NAME} stays loaded")
    assert serving() == loaded != []
    assert not found.keys() & {"load", "context", "gpu"}
    assert found["kv-cache"].saw.startswith("f16 (log: ")
    assert "will take 18." in found["memory"].saw
    assert "tool-call /v1/messages streamed" in found

    with restarted(bed, OLLAMA_MAX_LOADED_MODELS="1"):
        load()
        found = by_id(try_it(bed))
        assert found["miniature"].status is Status.UNKNOWN
        assert "would have to go for it: its server keeps 1 loaded" in found["miniature"].saw
        assert serving() == loaded
        assert by_id(try_it(bed, force=True)).keys() >= OF_MEMORY | OF_TALK
        assert serving() == []


# Broken servers


def test_settings_of_another_kind_are_told_one_by_one(bed: OllamaServer, tmp_path: Path) -> None:
    other = tmp_path / "other.jinja"
    other.write_text("{{ bos_token }}" + jinja_source(TokenizerVersion.V7), encoding="utf-8")
    with restarted(
        bed,
        OLLAMA_KV_CACHE_TYPE="q4_0",
        OLLAMA_CONTEXT_LENGTH="4096",
        LLAMA_ARG_CHAT_TEMPLATE_FILE=str(other),
    ):
        command = ("preflight", QUANT, "--context", str(SHORT), "--kv-cache-type", "q8_0")
        done = run_cli(*command, "--parallel", "4", "--json", server=bed.url)
    document = json.loads(done.stdout)
    assert (done.returncode, document["passed"]) == (4, False)
    found = {
        each["id"]: CheckResult(each["id"], Status(each["status"]), each["saw"], each["fix"])
        for each in document["checks"]
    }
    wrong = found["kv-cache"]
    assert (wrong.status, wrong.saw[:32]) == (Status.FAIL, "q4_0 in force, q8_0 wanted (log:")
    assert "OLLAMA_KV_CACHE_TYPE=q8_0" in wrong.fix
    small = found["settings default-context"]
    assert (small.status, "4096 tokens" in small.saw) == (Status.WARN, True)
    assert "devstral-ollama env" in small.fix
    overridden = found["dedicated"]
    assert (overridden.status, str(other) in overridden.saw) == (Status.FAIL, True)
    assert overridden.fix
    # The template of the server goes before that of the file; a Modelfile's own goes before both.
    assert found["carrier"].status is Status.WARN
    assert found["prompt"].status is Status.PASS
    assert "OLLAMA_NUM_PARALLEL=4" in found["parallel"].fix


def test_a_type_that_the_server_does_not_know_fails_at_the_load(bed: OllamaServer) -> None:
    with restarted(bed, OLLAMA_KV_CACHE_TYPE="q9_9"):
        report = try_it(bed)
    assert failed(report) == {"settings kv-cache", "load"}
    assert "known are f32, f16" in by_id(report)["settings kv-cache"].fix


def test_too_little_memory_fails_at_the_load(bed: OllamaServer) -> None:
    # Half a GiB for the engine, which the server hands down to it.
    limits = (1 << 29, resource.RLIM_INFINITY)
    resource.prlimit(bed.pid, resource.RLIMIT_DATA, limits)
    try:
        report = try_it(bed, context=8192)
    finally:
        bed.restart()
    assert failed(report) == {"load"}
    assert "failed to allocate buffer for kv cache" in by_id(report)["load"].saw
    assert "choose a smaller context or quant" in by_id(report)["load"].fix


@pytest.fixture
def of_memory_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out the small guest, which other tests ask."""
    monkeypatch.setattr(Preflight, "_talk", lambda *_: iter(()))


@pytest.fixture
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for a driver that came after the server: this machine has no card."""
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA GeForce RTX 4090, 24564, 4'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")


@pytest.mark.usefixtures("card", "of_memory_alone")
def test_a_card_that_is_seen_and_not_used_fails(bed: OllamaServer) -> None:
    report = try_it(bed)
    gpu = by_id(report)["gpu"]
    assert failed(report) == {"gpu"}
    assert "the server found no card when it started" in gpu.saw
    assert gpu.fix.startswith("restart the server")
    assert by_id(report)["memory"].saw.endswith("GiB left")


@pytest.mark.usefixtures("card", "of_memory_alone")
def test_a_model_that_is_partly_on_a_card_fails(
    bed: OllamaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for a card: the real log of the load, with a quarter of its buffers there."""
    line = re.compile(r"^(\w+:\s+)CPU(\s+KV buffer size =\s*)([\d.]+) MiB", re.MULTILINE)

    def doctored(process: ServerProcess | None, named: Path | None = None) -> str:
        text = read_log(process, named)

        def split(match: re.Match[str]) -> str:
            start, middle, size = match.groups()
            on_card = float(size) / 4
            return (
                "load_tensors: offloaded 10/41 layers to GPU\n"
                f"{start}Vulkan0{middle}{on_card:.2f} MiB\n"
                f"{start}CPU{middle}{3 * on_card:.2f} MiB"
            )

        return line.sub(split, text)

    monkeypatch.setattr("ollama_tools.checks.smoke.read_log", doctored)
    gpu = by_id(try_it(bed))["gpu"]
    assert (gpu.status, "on the GPU, 10 of 41 layers" in gpu.saw) == (Status.FAIL, True)
    assert gpu.fix


@pytest.mark.usefixtures("of_memory_alone")
def test_a_model_that_will_not_fit_fails_beforehand(bed: OllamaServer) -> None:
    report = try_it(bed, vram="12GiB")
    memory = by_id(report)["memory"]
    assert failed(report) == {"memory"}
    assert "of 10.5 GiB on a card of 12.0 GiB: about " in memory.saw
    assert "fit --vram 12.0GiB" in memory.fix


def test_what_cannot_be_is_wrong_usage(bed: OllamaServer) -> None:
    for options in ({"parallel": 0}, {"kv_cache_type": "q9_9"}, {"context": "512k"}):
        with pytest.raises(UsageError):
            try_it(bed, **options)


# Before a download


def test_a_download_begins_with_it_and_a_broken_server_costs_none(
    bed: OllamaServer, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server that it makes do with is tried whole by the first test."""
    monkeypatch.setattr(Preflight, "_talk", lambda *_: iter(()))
    wish = Wish(reference=QUANT, context=SHORT, via="upload", system="bundled")

    def steps(policy: Policy) -> list[str]:
        with Server(bed.url) as client:
            return [str(each) for each in plan_for(client, wish, policy, Silence()).steps]

    assert not any("miniature" in each for each in steps(Policy()))
    monkeypatch.setattr("ollama_tools.model.preflight._MUCH", 0)
    assert steps(Policy())[0].startswith("? try the server by a miniature first")
    assert not any("miniature" in each for each in steps(Policy(preflight=False)))

    with (
        restarted(bed, OLLAMA_KV_CACHE_TYPE="q9_9"),
        pytest.raises(CheckFailed, match="so nothing was brought: settings kv-cache") as caught,
    ):
        ensure_model(QUANT, host=bed.url, context=SHORT, system="bundled")
    assert caught.value.what.endswith(f"{NAME} is not on the server yet")
    assert [each for each in hub.requests if "resolve" in each.path and each.method == "GET"] == []
    made = ensure_model(QUANT, host=bed.url, context=SHORT, system="bundled", check=False)
    assert made.steps[0].startswith("? try the server")
