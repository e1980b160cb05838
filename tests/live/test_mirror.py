"""Where a mirror is named, it alone is asked what is published: an upgrade, a pin, a status."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from ollama_tools import Outcome, ensure_model
from ollama_tools.devstral.system_prompt import bundled
from ollama_tools.errors import ExitCode, HubError, UsageError
from ollama_tools.model.status import model_status
from ollama_tools.server.client import Server
from ollama_tools.wanted.wish import Wish
from tests.live.test_create import QUANT, REPOSITORY, hub, model_names, run_here, unloaded
from tests.live.test_weights import published
from tests.testbed.hub import Hub
from tests.testbed.models import changed
from tests.testbed.server import OllamaServer

__all__ = ["hub", "unloaded"]

Make = Callable[..., Outcome]
UNREACHABLE = "127.0.0.1:9"


@pytest.fixture
def make(server: Server, hub: Hub) -> Make:
    """``ensure_model`` by pull from the bed's registry, unchecked."""

    def ensure(reference: str = QUANT, **wish: Any) -> Outcome:
        options = {"check": False, "context": 4096, "system": "bundled", **wish}
        return ensure_model(reference, host=server.url, registry=hub.registry, **options)

    return ensure


def asked_of_the_hub(hub: Hub) -> list[str]:
    """What was asked of the hub itself, and not of the registry that stands on the same port."""
    paths = [each.path for each in hub.requests]
    return [each for each in paths if not each.startswith(("/v2/", "/blobs/"))]


def wish(hub: Hub, reference: str = QUANT, **more: Any) -> Wish:
    return Wish(reference=reference, context=4096, system="bundled", registry=hub.registry, **more)


def test_an_upgrade_asks_the_mirror(make: Make, hub: Hub) -> None:
    first = make()
    hub.forget()
    assert not make(upgrade=True).changed
    assert {each.path for each in hub.requests} == {f"/v2/{REPOSITORY}/manifests/{QUANT}"}

    hub.publish(changed(hub.newest(REPOSITORY).repository, QUANT))
    _, sha256 = published(hub)
    second = make(upgrade=True)
    assert second.origin is not None
    assert (second.weights, second.origin.sha256) == (f"sha256:{sha256}", sha256)
    assert second.build != first.build
    assert not make(upgrade=True).changed
    assert asked_of_the_hub(hub) == []


def test_status_asks_the_mirror(make: Make, hub: Hub, server: Server, bed: OllamaServer) -> None:
    make()
    hub.publish(changed(hub.newest(REPOSITORY).repository, QUANT))
    _, sha256 = published(hub)
    hub.forget()
    found = model_status(server, wish(hub), upstream=True).upstream
    assert found is not None
    assert (found.sha256, found.commit, found.since, found.same) == (sha256, None, None, False)
    assert str(found).startswith(f"the mirror {hub.registry} has another file")
    assert asked_of_the_hub(hub) == []
    arguments = ["--context", "4096", "--system", "bundled", "--registry", hub.registry]
    done = run_here("status", QUANT, *arguments, "--upstream", "--json", server=bed.url)
    assert done.returncode == ExitCode.OK
    assert json.loads(done.stdout)["upstream"]["publisher"] == f"the mirror {hub.registry}"


def test_a_commit_that_a_mirror_cannot_know_is_refused(
    make: Make, hub: Hub, server: Server
) -> None:
    commit, sha256 = published(hub)
    with pytest.raises(UsageError, match=f"the mirror {hub.registry} cannot say") as caught:
        make(revision=commit)
    assert "@sha256:" in caught.value.fix
    assert model_names(server) == []

    made = make()
    for act in (
        lambda: make(revision=commit),
        lambda: model_status(server, wish(hub, revision=commit)),
    ):
        with pytest.raises(UsageError, match="cannot say"):
            act()
    # With a digest beside it there is nothing left that would have to be known.
    assert not make(f"{QUANT}@sha256:{sha256}", revision=commit).changed
    assert server.show(made.name).weights == made.weights
    assert asked_of_the_hub(hub) == []


def test_a_commit_that_what_serves_came_from_needs_nobody(make: Make, hub: Hub) -> None:
    commit, _ = published(hub)
    make(via="upload", carrier="modelfile")
    hub.forget()
    assert not make(revision=commit, carrier="modelfile").changed
    assert hub.requests == []


def test_a_commit_beside_a_digest_is_not_kept_as_if_somebody_knew_it(make: Make, hub: Hub) -> None:
    commit, sha256 = published(hub)
    made = make(f"{QUANT}@sha256:{sha256}", revision=commit)
    assert made.origin is not None
    assert (made.origin.sha256, made.origin.commit) == (sha256, None)


def test_a_digest_that_a_mirror_has_not_is_refused_before_the_pull(
    make: Make, hub: Hub, server: Server
) -> None:
    _, old = published(hub)
    hub.publish(changed(hub.newest(REPOSITORY).repository, QUANT))
    hub.forget()
    with pytest.raises(HubError, match=f"at the mirror {hub.registry}, not the pinned"):
        make(f"{QUANT}@sha256:{old}")
    assert [each.path for each in hub.requests] == [f"/v2/{REPOSITORY}/manifests/{QUANT}"]
    assert model_names(server) == []


@pytest.mark.parametrize(
    ("status", "words"), [(401, "refuses"), (404, "has no"), (500, "answers 500")]
)
def test_a_mirror_that_gives_no_answer_is_no_reason_to_ask_the_hub(
    make: Make, hub: Hub, status: int, words: str
) -> None:
    made = make()
    hub.fail("/v2/", status=status)
    hub.forget()
    with pytest.raises(HubError, match=words):
        make(upgrade=True)
    assert asked_of_the_hub(hub) == []
    assert make().build == made.build


def test_a_mirror_that_only_the_server_reaches_is_said_to_be_out_of_reach(
    make: Make, server: Server, hub: Hub
) -> None:
    make()
    with pytest.raises(HubError, match=f"cannot reach the registry {UNREACHABLE} from here"):
        ensure_model(
            QUANT, host=server.url, registry=UNREACHABLE, context=4096, upgrade=True, check=False
        )
    assert asked_of_the_hub(hub) == []


def test_the_system_prompt_is_the_bundled_one_unless_the_hubs_is_asked_for(
    server: Server, hub: Hub
) -> None:
    wish: dict[str, Any] = {"host": server.url, "registry": hub.registry, "check": False}
    made = ensure_model(QUANT, context=4096, **wish)
    assert asked_of_the_hub(hub) == []
    assert server.show(made.name).system == bundled().text
    # The hub of the bed has another text than the catalog knows, so asking it is enough.
    with pytest.raises(HubError, match="the catalog expects"):
        ensure_model(QUANT, context=4096, system="hub", name="other", **wish)
    assert asked_of_the_hub(hub) != []
