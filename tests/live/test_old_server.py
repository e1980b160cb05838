"""The older generation of servers: no Jinja of the file's own, and a KV cache that falls back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ollama_tools import Outcome, Status, ensure_model, preflight, smoke
from ollama_tools.checks.surfaces import SURFACES
from ollama_tools.devstral.carriers import Carrier
from ollama_tools.errors import UsageError
from ollama_tools.server.client import Server
from tests.live.test_create import NAME, QUANT, hub, run_cli, tool_calls
from tests.testbed.build import OLDEST, ollama_build
from tests.testbed.gateway import GatewayServer
from tests.testbed.hub import Hub
from tests.testbed.server import OllamaServer

__all__ = ["hub"]

pytestmark = pytest.mark.old_server

Create = Callable[..., Outcome]


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OllamaServer]:
    root = tmp_path_factory.mktemp("old")
    with OllamaServer(
        ollama_build(OLDEST), models_dir=root / "models", log_path=root / "ollama.log"
    ) as server:
        yield server


@pytest.fixture
def old_server(old: OllamaServer) -> Iterator[Server]:
    with Server(old.url) as client:
        yield client
        for each in client.models():
            client.delete(each.name)


@pytest.fixture
def create(old: OllamaServer, old_server: Server, hub: Hub) -> Create:
    def ensure(reference: str = QUANT, **wish: Any) -> Outcome:
        return ensure_model(
            reference,
            **{
                "host": old.url,
                "prompt_tokens": 300,
                "via": "server",
                "registry": hub.registry,
                **wish,
            },
        )

    return ensure


@pytest.mark.parametrize("via", ["server", "upload"])
@pytest.mark.parametrize(("reference", "name"), [(QUANT, NAME), ("2505", None)])
def test_create_takes_our_template_and_a_second_run_changes_nothing(
    create: Create, old_server: Server, via: str, reference: str, name: str | None
) -> None:
    made = create(reference, via=via)
    assert (made.changed, made.carrier, made.version) == (True, Carrier.MODELFILE, "0.24.0")
    assert made.name == (name or f"devstral-small-2505:{QUANT}")
    assert made.report is not None
    assert made.report.passed
    assert sorted(each.name for each in old_server.models()) == [made.name, made.build]
    assert tool_calls(old_server, made.name) == ["get_current_weather"]
    again = create(reference, via=via)
    assert (again.changed, again.digest) == (False, made.digest)
    # This server loses the key of a file, so the license layer says where it came from.
    assert again.origin == made.origin
    assert made.origin is not None
    assert (
        made.origin.repository
        == f"unsloth/Devstral-Small-{reference[:4] if name is None else 2507}-GGUF"
    )
    assert (made.origin.commit is not None) == (via == "upload")
    assert made.weights == f"sha256:{made.origin.sha256}"


def test_the_carrier_hub_is_refused_with_the_reason(create: Create, old_server: Server) -> None:
    with pytest.raises(UsageError, match=r"needs Ollama 0\.30\.0 or newer, the server is 0\.24\.0"):
        create(carrier="hub")
    assert old_server.models() == []


def test_smoke_warns_of_known_faults_and_is_green_otherwise(
    create: Create, old: OllamaServer
) -> None:
    create(check=False)
    report = smoke(NAME, host=old.url, prompt_tokens=300)
    statuses = {each.id: each.status for each in report.checks}
    assert statuses.pop("server-version") is Status.WARN
    assert set(statuses.values()) == {Status.PASS}
    assert report.passed


@pytest.mark.parametrize(
    ("flash", "passes", "saw"),
    [("", False, "f16 in force, q8_0 asked for"), ("1", True, "q8_0 (log: K (q8_0): ")],
)
def test_a_quantized_kv_cache_needs_flash_attention(
    create: Create, old: OllamaServer, flash: str, passes: bool, saw: str
) -> None:
    create(check=False)
    old.restart(env={"OLLAMA_KV_CACHE_TYPE": "q8_0", "OLLAMA_FLASH_ATTENTION": flash})
    try:
        report = smoke(NAME, host=old.url, prompt_tokens=300)
        done = run_cli("smoke", NAME, "--prompt-tokens=300", server=old.url)
    finally:
        old.restart(env={})
    (kv,) = [each for each in report.checks if each.id == "kv-cache"]
    assert kv.saw.startswith(saw)
    assert [each.id for each in report.failures] == ([] if passes else ["kv-cache"])
    assert ("OLLAMA_FLASH_ATTENTION=1" in kv.fix) is not passes
    assert done.returncode == (0 if passes else 4)


def test_preflight_tells_of_a_kv_cache_that_falls_back(old: OllamaServer) -> None:
    old.restart(env={"OLLAMA_KV_CACHE_TYPE": "q8_0"})
    try:
        report = preflight(host=old.url, context=2560)
    finally:
        old.restart(env={})
    wrong = {each.id: each for each in report.failures}
    assert wrong.keys() == {"settings kv-cache", "kv-cache"}
    assert wrong["kv-cache"].saw.startswith("f16 in force, q8_0 asked for")
    assert all("OLLAMA_FLASH_ATTENTION=1" in each.fix for each in wrong.values())


def test_a_gateway_before_it_passes_every_check(
    create: Create, old: OllamaServer, tmp_path: Path
) -> None:
    made = create(carrier=Carrier.MODELFILE, context=8192, check=False)
    with GatewayServer(old.url, log_path=tmp_path / "gateway.log") as gateway:
        report = smoke(made.name, gateway=gateway.url)
    assert report.passed, report.failures
    passed = {each.id: each.saw for each in report.checks if each.status is Status.PASS}
    assert {f"too-long {each.path}" for each in SURFACES} <= passed.keys()
    assert {f"prompt {each.path}" for each in SURFACES} <= passed.keys()
