"""The license that weights came with stays with what is made of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ollama_tools import Outcome, Status, ensure_model, smoke
from ollama_tools.files import hub as hub_files
from ollama_tools.server.client import Server
from tests.live.test_create import NAME, QUANT, REPOSITORY, Heard, hub, unloaded
from tests.testbed.hub import Hub

__all__ = ["hub", "unloaded"]

TEXT = 'Apache License\n\n"License" shall mean what stands here.\n'
SLY = f"FROM /blobs/sha256-{'0' * 64}\nPARSER other\nno quotes in it\n"
WAYS = [("upload", "gguf"), ("upload", "modelfile"), ("server", "modelfile"), ("server", "hub")]
Make = Callable[..., Outcome]


@pytest.fixture
def make(server: Server, hub: Hub) -> Make:
    """``ensure_model`` on the server and hub of the bed, unchecked."""

    def ensure(reference: str = QUANT, *, via: str = "upload", **wish: Any) -> Outcome:
        registry = {"registry": hub.registry} if via == "server" else {}
        options = {"check": False, "context": 4096, "system": "bundled", **registry, **wish}
        return ensure_model(reference, host=server.url, via=via, **options)

    return ensure


def put(hub: Hub, text: str) -> None:
    hub.publish(replace(hub.newest(REPOSITORY).repository, license=text))


@pytest.mark.parametrize(("via", "carrier"), WAYS)
@pytest.mark.parametrize("text", [TEXT, SLY], ids=["plain", "sly"])
def test_the_license_of_the_weights_is_the_models(
    make: Make, server: Server, hub: Hub, via: str, carrier: str, text: str
) -> None:
    without = make(via=via, carrier=carrier)
    assert server.show(NAME).license == ""
    for model in server.models():
        server.delete(model.name)

    put(hub, text)
    made = make(via=via, carrier=carrier)
    assert server.show(NAME).license == text
    # It is no part of what a build is.
    assert (made.build, made.weights) == (without.build, without.weights)
    assert not make(via=via, carrier=carrier).changed
    wider = make(via=via, carrier=carrier, context=8192)
    assert (wider.changed, wider.weights) == (True, made.weights)
    assert server.show(NAME).license == text
    assert server.show(NAME).blobs == (made.weights,)


def test_it_goes_with_weights_that_are_on_the_server(make: Make, server: Server, hub: Hub) -> None:
    put(hub, TEXT)
    make()
    server.copy(NAME, "plain:2507")
    ensure_model("plain:2507", host=server.url, name="mine", release="2507", check=False)
    assert server.show("mine").license == TEXT


def test_an_older_model_without_it_is_left_alone(make: Make, server: Server, hub: Hub) -> None:
    make()
    put(hub, TEXT)
    assert not make().changed
    assert server.show(NAME).license == ""


def test_weights_that_were_sent_before_bring_it_too(make: Make, server: Server, hub: Hub) -> None:
    put(hub, TEXT)
    make(name="first")
    assert make(name="second").steps[0].startswith("= use the weights of ")
    assert server.show("second").license == TEXT


@pytest.mark.parametrize(("status", "is_said"), [(404, False), (500, True), (401, True)])
def test_a_hub_without_a_registry_is_no_reason_to_fail(
    make: Make, server: Server, hub: Hub, status: int, is_said: bool
) -> None:
    put(hub, TEXT)
    hub.fail("/v2/", status=status)
    heard = Heard()
    assert make(progress=heard).changed
    assert server.show(NAME).license == ""
    assert any("without the license" in each for each in heard.warnings) is is_said


def test_a_registry_that_gives_another_text_than_it_names_is_not_believed(
    make: Make, server: Server, hub: Hub
) -> None:
    put(hub, TEXT)
    hub.fail("/blobs/", corrupt=True)
    heard = Heard()
    make(progress=heard)
    assert server.show(NAME).license == ""
    assert [each for each in heard.warnings if "another text" in each]


def test_the_hub_is_told_who_asks(
    make: Make, server: Server, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(hub, TEXT)
    hub.token = "secret"
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert hub_files.headers() == {"Authorization": "Bearer secret"}
    make()
    assert server.show(NAME).license == TEXT
    moved = [each for each in hub.requests if each.path.startswith("/blobs/")]
    assert moved
    assert not any(each.authorized for each in moved)


def test_a_model_with_a_license_passes_its_checks(make: Make, server: Server, hub: Hub) -> None:
    put(hub, SLY)
    make()
    report = smoke(NAME, host=server.url, prompt_tokens=256)
    assert next(each for each in report.checks if each.id == "digest").status is Status.PASS
