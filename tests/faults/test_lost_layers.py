"""Layers that go with another run's delete: what lost them is seen, and made again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ollama_tools import Outcome, ensure_model
from ollama_tools.errors import BuildLost
from ollama_tools.model.builds import history, rollback, whole
from ollama_tools.model.listing import list_models
from ollama_tools.model.status import model_status
from ollama_tools.server.client import Server
from ollama_tools.server.names import same_name
from ollama_tools.wanted.wish import Wish
from tests.faults.test_leftovers import manifest
from tests.live.test_create import NAME, QUANT, Heard, hub, model_names, unloaded
from tests.testbed.hub import Hub
from tests.testbed.server import OllamaServer

__all__ = ["hub", "unloaded"]

Make = Callable[..., Outcome]
KINDS = ("model", "template", "system", "params", "config")


@pytest.fixture
def make(server: Server, hub: Hub) -> Make:
    """``ensure_model`` on the server and hub of the bed, unchecked."""

    def ensure(**wish: Any) -> Outcome:
        options = {"context": 4096, "carrier": "modelfile", "system": "bundled", **wish}
        return ensure_model(QUANT, host=server.url, check=False, via="upload", **options)

    return ensure


def layers(bed: OllamaServer, name: str) -> dict[str, Path]:
    """The files of a model by their kind."""
    found = json.loads(manifest(bed, name).read_bytes())
    digests = {each["mediaType"].rpartition(".")[2]: each["digest"] for each in found["layers"]}
    digests["config"] = found["config"]["digest"]
    return {
        kind: bed.models_dir / "blobs" / digest.replace(":", "-")
        for kind, digest in digests.items()
    }


def lose(bed: OllamaServer, name: str, *others: str) -> None:
    """Removes what a delete collects: the layers that none of the others has."""
    kept = {path for each in others for path in layers(bed, each).values()}
    for path in set(layers(bed, name).values()) - kept:
        path.unlink()


class Collector:
    """Another run's delete, at the moment in which a copy has emptied the public name.

    Attributes:
        acts: What happens after each copy onto the name, while there is something left of it.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.acts: list[Callable[[], None]] = []
        real = Server.copy

        def copy(server: Server, source: str, destination: str) -> None:
            real(server, source, destination)
            if self.acts and same_name(destination, NAME):
                self.acts.pop(0)()

        monkeypatch.setattr(Server, "copy", copy)


def test_what_lost_its_layers_in_the_switch_is_made_again_and_the_name_serves_meanwhile(
    make: Make, server: Server, bed: OllamaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make()
    collector = Collector(monkeypatch)
    collector.acts = [lambda: lose(bed, NAME, first.build)]
    served: list[int | None] = []

    class Watch(Heard):
        def warn(self, text: str) -> None:
            super().warn(text)
            served.append(server.show(NAME).context)

    watch = Watch()
    second = make(context=8192, progress=watch)
    assert [each for each in watch.warnings if "lost a layer" in each and "made again" in each]
    assert served == [4096]
    assert collector.acts == []
    assert (second.changed, second.previous) == (True, first.build)
    assert server.show(NAME).context == 8192
    assert whole(server, NAME)
    assert whole(server, second.build)
    assert not make(context=8192).changed
    assert not [each for each in model_names(server) if ".try-" in each or ".n" in each]


def test_so_it_is_where_there_was_nothing_before(
    make: Make, server: Server, bed: OllamaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    collector = Collector(monkeypatch)
    collector.acts = [lambda: lose(bed, NAME)]
    made = make()
    assert collector.acts == []
    assert whole(server, NAME)
    assert [each.name for each in history(server, NAME)] == [made.build]


def test_it_is_not_made_again_for_ever(
    make: Make, server: Server, bed: OllamaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make()
    collector = Collector(monkeypatch)

    def at_every_switch() -> None:
        if server.model(NAME) is None or server.show(NAME, anew=True).context == 8192:
            lose(bed, NAME, first.build)
        collector.acts.append(at_every_switch)

    collector.acts = [at_every_switch]
    with pytest.raises(BuildLost, match=f"lost a layer.*{NAME} serves as before") as caught:
        make(context=8192)
    assert "create makes it again" in caught.value.fix
    assert server.show(NAME).context == 4096
    collector.acts = []
    # What is advised helps.
    assert make(context=8192).changed
    assert whole(server, NAME)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_has_lost_a_layer_is_drift_and_is_mended(
    make: Make, server: Server, bed: OllamaServer, kind: str
) -> None:
    # The server answers from memory for a manifest that it has shown before.
    parameters = {"seed": 1000 + KINDS.index(kind)}
    first = make(parameters=parameters)
    ensure_model(
        "UD-IQ1_S",
        host=server.url,
        name="other",
        context=8192,
        system="",
        carrier="gguf",
        via="upload",
        check=False,
    )
    layers(bed, NAME)[kind].unlink()
    wish = Wish(
        reference=QUANT,
        context=4096,
        carrier="modelfile",
        via="upload",
        system="bundled",
        parameters=parameters,
    )
    found = model_status(server, wish)
    assert [each.field for each in found.differences] == ["model"]
    # One model with a hole hides no other.
    listed = {each.name: each.carrier for each in list_models(server).entries}
    assert listed["other:latest"] == "gguf"
    # Without its configuration the server lists it no more (0.34.4).
    assert listed.get(NAME) == (None if kind == "config" else "unreadable")
    mended = make(parameters=parameters)
    assert (mended.changed, mended.build) == (True, first.build)
    assert whole(server, NAME)
    assert whole(server, mended.build)
    assert not make(parameters=parameters).changed
    assert [each.name for each in history(server, NAME)] == [first.build]


def test_a_build_with_a_hole_is_none_to_go_back_to(
    make: Make, server: Server, bed: OllamaServer
) -> None:
    first, second = make(), make(context=8192)
    lose(bed, first.build, second.build)
    with pytest.raises(BuildLost, match=f"{first.build} has lost a layer") as caught:
        rollback(server, NAME)
    assert "create" in caught.value.fix
    assert server.show(NAME).context == 8192
    assert make().changed
    assert rollback(server, NAME).build == second.build
