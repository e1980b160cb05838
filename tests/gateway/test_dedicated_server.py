"""The carrier ``server``: a real server whose own environment carries the template."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ollama_tools import Outcome, ensure_model, smoke
from ollama_tools.checks.doctor import doctor
from ollama_tools.checks.result import Status
from ollama_tools.checks.surfaces import SURFACES_OF_IMAGES
from ollama_tools.checks.talk import Advice, asks_on, picture_checks
from ollama_tools.devstral.carriers import Carrier
from ollama_tools.devstral.catalog import TokenizerVersion
from ollama_tools.errors import CheckFailed, UsageError
from ollama_tools.gateway.settings import ToolCallParser
from ollama_tools.progress import Silence
from ollama_tools.server.client import Server
from ollama_tools.settings.environment import ServerSettings, environment
from tests.live.test_create import QUANT, hub, tool_calls
from tests.parity.canonical import CASES
from tests.parity.conversation import from_openai, to_native
from tests.parity.gateway import exact
from tests.parity.places import Place
from tests.testbed.build import Build
from tests.testbed.gateway import GatewayServer
from tests.testbed.hub import Hub
from tests.testbed.server import OllamaServer

__all__ = ["hub"]

Create = Callable[..., Outcome]
PLACES = {"2507": TokenizerVersion.V13, "2505": TokenizerVersion.V7}


@pytest.fixture(scope="module", params=["2507", "2505"])
def dedicated(
    request: pytest.FixtureRequest,
    newest_build: Build,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[OllamaServer, str]]:
    root = tmp_path_factory.mktemp("dedicated")
    settings = environment(ServerSettings(dedicated_to=request.param))
    del settings["OLLAMA_HOST"]
    with OllamaServer(
        newest_build, models_dir=root / "models", log_path=root / "ollama.log", env=settings
    ) as server:
        yield server, request.param


def test_a_dedicated_server_applies_our_template_to_a_model_without_one(
    dedicated: tuple[OllamaServer, str], hub: Hub
) -> None:
    bed, release = dedicated
    reference = QUANT if release == "2507" else "2505:Q4_K_M"

    def create() -> Outcome:
        return ensure_model(
            reference,
            host=bed.url,
            carrier="server",
            via="server",
            registry=hub.registry,
            prompt_tokens=300,
        )

    first = create()
    assert first.carrier is Carrier.SERVER
    assert first.report is not None
    assert first.report.passed
    with Server(bed.url) as server:
        assert tool_calls(server, first.name) == ["get_current_weather"]
        examined = {each.id: each.status for each in doctor(server).checks}
    assert examined["dedicated"] is Status.PASS
    assert not create().changed
    # What the server applies to a text it applies to one with a picture.
    name = f"devstral-{release}-seeing"
    ensure_model(reference, host=bed.url, name=name, carrier="server", vision=True, check=False)
    with Server(bed.url) as server:
        asks = asks_on(SURFACES_OF_IMAGES, server, name)
        looked = list(picture_checks(asks, Advice("", ()), Silence()))
    assert {each.status for each in looked} == {Status.PASS}


@pytest.mark.parametrize("parser", ToolCallParser)
def test_a_gateway_that_is_told_of_it_keeps_every_prompt_exact(
    dedicated: tuple[OllamaServer, str], hub: Hub, tmp_path: Path, parser: ToolCallParser
) -> None:
    bed, release = dedicated
    reference = QUANT if release == "2507" else "2505:Q4_K_M"
    place = Place(Carrier.SERVER, PLACES[release])
    name = ensure_model(
        reference,
        host=bed.url,
        name="behind",
        carrier="server",
        via="server",
        registry=hub.registry,
        check=False,
    ).name
    options = ("--dedicated-to", release, "--tool-call-parser", parser)
    with (
        GatewayServer(bed.url, *options, log_path=tmp_path / "told.log") as gateway,
        Server(gateway.url) as server,
    ):
        for case, body in CASES.items():
            conversation = from_openai(body)
            request = {**to_native(conversation), "model": name, "stream": False}
            rendered = server.rendered_prompt(request).removeprefix("<s>")
            # The model's own system prompt stands before a conversation without one.
            assert rendered.endswith(exact(place, conversation).text), case
        report = smoke(name, gateway=gateway.url)
    assert not [each for each in report.checks if each.status is Status.FAIL]
    with GatewayServer(bed.url, log_path=tmp_path / "untold.log") as gateway:
        report = smoke(name, gateway=gateway.url)
    assert [each.id for each in report.failures] == ["template"]
    assert "--dedicated-to" in report.failures[0].fix


def test_another_family_on_a_dedicated_server_is_refused(
    dedicated: tuple[OllamaServer, str], hub: Hub
) -> None:
    bed, release = dedicated
    other = "2505:Q4_K_M" if release == "2507" else QUANT
    with pytest.raises(CheckFailed, match="applies no template of") as caught:
        ensure_model(
            other,
            host=bed.url,
            carrier="server",
            via="server",
            registry=hub.registry,
            prompt_tokens=300,
        )
    assert "--dedicated-to" in caught.value.fix


def test_a_server_that_is_not_dedicated_is_refused_before_anything_is_fetched(
    bed: OllamaServer, hub: Hub, server: Server
) -> None:
    wish: dict[str, Any] = {"host": bed.url, "carrier": "server", "registry": hub.registry}
    with pytest.raises(UsageError, match="runs without LLAMA_ARG_CHAT_TEMPLATE_FILE"):
        ensure_model(QUANT, **wish)
    assert server.models() == []
