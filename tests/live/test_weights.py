"""Which weights serve: other ones are seen under every name, pins hold, and origins are kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ollama_tools import Outcome, Status, ensure_model, smoke
from ollama_tools.checks.doctor import doctor
from ollama_tools.errors import (
    ExitCode,
    FileProblem,
    HubError,
    PullFailed,
    UnknownReference,
    UsageError,
)
from ollama_tools.model.builds import history, with_weights
from ollama_tools.model.listing import list_models
from ollama_tools.model.status import ModelStatus, model_status
from ollama_tools.server.client import Server
from ollama_tools.server.names import build_name
from ollama_tools.wanted.draft import RegistryAddress
from ollama_tools.wanted.wish import Wish
from tests.live.test_create import NAME, QUANT, REPOSITORY, hub, model_names, run_here, unloaded
from tests.testbed.hub import Hub
from tests.testbed.models import changed, with_readme
from tests.testbed.server import OllamaServer

__all__ = ["hub", "unloaded"]

OTHER = "UD-IQ1_S"
WAYS = ("upload", "server")
Make = Callable[..., Outcome]


@pytest.fixture
def make(server: Server, hub: Hub) -> Make:
    """``ensure_model`` on the server and hub of the bed, unchecked."""

    def ensure(reference: str = QUANT, *, via: str = "upload", **wish: Any) -> Outcome:
        registry = {"registry": hub.registry} if via == "server" else {}
        options = {"check": False, "context": 4096, **registry, **wish}
        return ensure_model(reference, host=server.url, via=via, **options)

    return ensure


def status(server: Server, hub: Hub, via: str, **wish: Any) -> ModelStatus:
    registry = hub.registry if via == "server" else None
    upstream = wish.pop("upstream", False)
    wanted = Wish(reference=QUANT, context=4096, via=via, registry=registry, **wish)
    return model_status(server, wanted, upstream=upstream)


def published(hub: Hub, quant: str = QUANT) -> tuple[str, str]:
    """Commit and digest of a quant's file, as the hub has them now."""
    newest = hub.newest(REPOSITORY)
    return newest.id, newest.repository.files[f"Devstral-Small-2507-{quant}.gguf"].sha256


# Other weights


@pytest.mark.parametrize("via", WAYS)
@pytest.mark.parametrize("places", ["name", "build", "both"])
def test_other_weights_are_seen_under_name_and_build_and_mended(
    make: Make, server: Server, hub: Hub, via: str, places: str
) -> None:
    good = make(via=via)
    other = make(OTHER, via=via)
    assert other.weights != good.weights
    assert not status(server, hub, via).drifted
    for name in {"name": [NAME], "build": [good.build], "both": [NAME, good.build]}[places]:
        server.copy(other.name, name)

    if places == "build":
        # What serves is right, but nothing vouches for it any more.
        assert server.show(NAME).weights == good.weights
    found = status(server, hub, via)
    assert found.drifted
    if places != "build":
        assert "weights" in {each.field for each in found.differences}
        assert f"{other.weights}"[: len("sha256:") + 12] in str(found.differences)
    report = smoke(NAME, host=server.url, prompt_tokens=256)
    judged = next(each for each in report.checks if each.id == "digest")
    assert judged.status is Status.FAIL

    mended = make(via=via)
    assert mended.changed
    assert (mended.build, mended.weights) == (good.build, good.weights)
    assert server.show(NAME).weights == server.show(good.build).weights == good.weights
    assert not status(server, hub, via).drifted
    assert not make(via=via).changed


def test_doctor_names_a_build_whose_weights_are_others(make: Make, server: Server) -> None:
    good, other = make(), make(OTHER)
    for name in (NAME, good.build):
        server.copy(other.name, name)
    failed = {each.id: each for each in doctor(server).failures}
    [(check, answer)] = [each for each in failed.items() if each[0].startswith("weights")]
    assert NAME in check or good.build in check or OTHER in check
    assert OTHER in answer.saw
    assert "create" in answer.fix


def test_two_servers_with_other_weights_have_other_builds(
    make: Make, server: Server, hub: Hub
) -> None:
    here = make()
    hub.publish(changed(hub.newest(REPOSITORY).repository, QUANT))
    for model in server.models():
        server.delete(model.name)
    there = make()
    assert (here.name, here.carrier, here.context) == (there.name, there.carrier, there.context)
    assert here.weights != there.weights
    assert here.build != there.build


# Where the bytes came from


@pytest.mark.parametrize(
    ("via", "carrier"),
    [("upload", "gguf"), ("upload", "hub"), ("upload", "modelfile"), ("server", "modelfile")],
)
def test_every_carrier_keeps_where_its_weights_came_from(
    make: Make, server: Server, hub: Hub, bed: OllamaServer, via: str, carrier: str
) -> None:
    commit, sha256 = published(hub)
    made = make(via=via, carrier=carrier)
    origin = {
        "repository": REPOSITORY,
        "file": f"Devstral-Small-2507-{QUANT}.gguf",
        "commit": commit if via == "upload" else None,
        "sha256": sha256,
    }
    assert made.origin is not None
    assert made.origin.as_json() == origin
    assert (made.weights == f"sha256:{sha256}") == (carrier != "gguf")
    (entry,) = list_models(server).entries
    (build,) = with_weights(server, history(server, NAME))
    for shown in (
        entry.as_json(),
        build.as_json(),
        status(server, hub, via, carrier=carrier).as_json(),
    ):
        assert (shown["weights"], shown["origin"]) == (made.weights, origin)
    listed = json.loads(run_here("list", "--json", server=bed.url).stdout)
    assert listed["models"][0]["origin"] == origin


def test_a_commit_that_changes_no_weights_makes_no_other_model(
    make: Make, server: Server, hub: Hub
) -> None:
    first = make()
    hub.publish(with_readme(hub.newest(REPOSITORY).repository, "Read me."))
    assert not make(upgrade=True).changed
    assert make(context=8192).weights == first.weights
    again = make(upgrade=True)
    assert (again.build, again.weights) == (first.build, first.weights)


# The hub's file changes


@pytest.mark.parametrize("via", WAYS)
def test_what_serves_stays_until_an_upgrade_is_asked_for(
    make: Make, server: Server, hub: Hub, via: str
) -> None:
    first = make(via=via)
    assert status(server, hub, via, upstream=True).upstream is not None
    new = hub.publish(changed(hub.newest(REPOSITORY).repository, QUANT))
    _, sha256 = published(hub)

    assert not make(via=via).changed
    wider = make(via=via, context=8192)
    assert wider.weights == first.weights
    found = status(server, hub, via, upstream=True)
    assert found.upstream is not None
    assert found.upstream.same is False
    if via == "upload":
        assert (found.upstream.commit, found.upstream.since) == (new.id, new.date.isoformat())

    upgraded = make(via=via, upgrade=True)
    assert upgraded.changed
    assert upgraded.weights != first.weights
    assert upgraded.origin is not None
    assert upgraded.origin.sha256 == sha256
    assert upgraded.build != first.build
    assert not make(via=via, upgrade=True).changed
    assert not make(via=via).changed
    found = status(server, hub, via, upstream=True)
    assert found.upstream is not None
    assert found.upstream.same is True


def test_another_carrier_takes_the_file_that_serves_from_its_commit(make: Make, hub: Hub) -> None:
    first = make(carrier="gguf")
    old, sha256 = published(hub)
    hub.publish(changed(hub.newest(REPOSITORY).repository, QUANT))
    second = make(carrier="modelfile")
    assert second.origin is not None
    assert second.origin == first.origin
    assert (second.origin.commit, second.weights) == (old, f"sha256:{sha256}")


def test_a_file_that_the_hub_has_no_more_is_said_to_be_gone(make: Make, hub: Hub) -> None:
    make(carrier="gguf")
    old, _ = published(hub)
    hub.publish(changed(hub.newest(REPOSITORY).repository, QUANT))
    hub.withdraw(REPOSITORY, old)
    with pytest.raises(HubError, match="revision"):
        make(carrier="modelfile")
    assert make(carrier="modelfile", upgrade=True).changed


def test_the_hub_is_not_asked_where_nothing_is_to_do(make: Make, hub: Hub) -> None:
    make()
    hub.publish(changed(hub.newest(REPOSITORY).repository, QUANT))
    hub.forget()
    assert not make().changed
    assert hub.requests == []


# Pins


def test_a_commit_pins_the_weights(make: Make, hub: Hub) -> None:
    old, sha256 = published(hub)
    new = hub.publish(changed(hub.newest(REPOSITORY).repository, QUANT))
    newest = make()
    assert newest.origin is not None
    assert newest.origin.commit == new.id

    pinned = make(revision=old)
    assert pinned.changed
    assert pinned.origin is not None
    assert (pinned.origin.commit, pinned.origin.sha256) == (old, sha256)
    hub.forget()
    assert not make(revision=old).changed
    assert hub.requests == []
    # The weights are right without a pin too, so nothing is to do.
    assert not make().changed


@pytest.mark.parametrize("via", WAYS)
def test_a_digest_pins_the_weights(make: Make, hub: Hub, server: Server, via: str) -> None:
    _, old = published(hub)
    first = make(f"{QUANT}@sha256:{old}", via=via)
    assert first.origin is not None
    assert first.origin.sha256 == old
    hub.publish(changed(hub.newest(REPOSITORY).repository, QUANT))
    _, new = published(hub)
    assert not make(f"{QUANT}@sha256:{old}", via=via).changed
    before = model_names(server)
    second = make(f"{QUANT}@sha256:{new}", via=via, upgrade=True)
    assert second.origin is not None
    assert second.origin.sha256 == new
    assert model_names(server) != before


@pytest.mark.parametrize("via", WAYS)
def test_a_pin_that_nothing_meets_is_refused_and_leaves_nothing(
    make: Make, hub: Hub, server: Server, via: str
) -> None:
    with pytest.raises((HubError, PullFailed), match="not the pinned 000000000000"):
        make(f"{QUANT}@sha256:{'0' * 64}", via=via)
    assert model_names(server) == []


def test_a_server_that_pulls_another_file_than_the_pinned_commits_is_refused(
    make: Make, hub: Hub, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The stand-in is the hub itself here, whose registry no server of the bed could reach.
    monkeypatch.setattr(RegistryAddress, "is_hub", True)
    old, _ = published(hub)
    hub.publish(changed(hub.newest(REPOSITORY).repository, QUANT))
    with pytest.raises(PullFailed, match="not the pinned") as caught:
        make(via="server", revision=old)
    assert "--via upload" in caught.value.fix
    assert model_names(server) == []
    newest, _ = published(hub)
    assert make(via="server", revision=newest).origin is not None


def test_a_file_is_held_to_its_pin(make: Make, hub: Hub, tmp_path: Path) -> None:
    content = hub.newest(REPOSITORY).repository.files[f"Devstral-Small-2507-{QUANT}.gguf"]
    path = tmp_path / "tune-2507-devstral.gguf"
    with content.open() as file:
        path.write_bytes(file.read())
    assert make(f"{path}@sha256:{content.sha256}").changed
    with pytest.raises(FileProblem, match="not the pinned"):
        make(f"{path}@sha256:{'0' * 64}")


@pytest.mark.parametrize(
    ("reference", "options", "kind"),
    [
        (f"{QUANT}@sha256:beef", {}, UnknownReference),
        (f"nosuch:model@sha256:{'0' * 64}", {}, UnknownReference),
        ("nosuch:model", {"revision": "main", "release": "2507"}, UsageError),
        (f"hf.co/{REPOSITORY}@abc:{QUANT}", {"revision": "def"}, UsageError),
    ],
)
def test_a_pin_that_means_nothing_is_refused(
    make: Make, reference: str, options: dict[str, Any], kind: type[Exception]
) -> None:
    with pytest.raises(kind):
        make(reference, **options)


# Builds of earlier versions


@pytest.fixture
def earlier(make: Make, server: Server, hub: Hub) -> tuple[Outcome, str]:
    """A model whose build has the name that versions before 0.2 gave it."""
    from ollama_tools.model.ensure import compare_with
    from ollama_tools.model.steps import Policy
    from ollama_tools.progress import Silence

    made = make(system="bundled")
    wish = Wish(reference=QUANT, context=4096, via="upload", system="bundled")
    compared = compare_with(server, wish, Policy(check=False), Silence()).compared
    assert compared.unchanged is not None
    name = compared.unchanged.earlier_builds((made.weights or "",))[0]
    server.copy(made.build, name)
    server.delete(made.build)
    return made, name


def test_a_build_of_an_earlier_version_is_renamed_and_no_bytes_move(
    make: Make, server: Server, hub: Hub, earlier: tuple[Outcome, str]
) -> None:
    made, name = earlier
    assert model_names(server) == sorted([NAME, name])
    found = model_status(
        server, Wish(reference=QUANT, context=4096, via="upload", system="bundled")
    )
    assert [(each.field, each.found) for each in found.differences] == [("build", name)]
    hub.forget()
    renamed = make(system="bundled")
    assert renamed.changed
    assert (renamed.build, renamed.digest) == (made.build, made.digest)
    assert model_names(server) == sorted([NAME, made.build])
    assert hub.requests == []
    assert not make(system="bundled").changed


# Names


def test_a_name_in_other_letters_is_refused(make: Make, server: Server) -> None:
    made = make(name="a-bash")
    with pytest.raises(UsageError, match="ignores case") as caught:
        make(name="a-Bash")
    assert "a-bash:latest" in caught.value.fix
    assert model_names(server) == sorted(["a-bash:latest", made.build])


def test_one_wish_is_one_build_however_it_is_said(make: Make, bed: OllamaServer, hub: Hub) -> None:
    options = ["--context", "4096", "--no-check", "--via", "upload", "--json"]
    said = run_here("create", QUANT, "-p", "temperature=1", *options, server=bed.url, hub=hub)
    build = json.loads(said.stdout)["build"]
    for temperature in (1, 1.0, "1", "1.0"):
        again = make(parameters={"temperature": temperature})
        assert (again.build, again.changed) == (build, False)
    first = make(parameters={"stop": ["B", "A"]})
    assert not make(parameters={"stop": ("A", "B", "A")}).changed
    assert first.build != build


def test_the_json_of_status_has_weights_and_build(make: Make, bed: OllamaServer, hub: Hub) -> None:
    made = make()
    done = run_here(
        "status", QUANT, "--context", "4096", "--via", "upload", "--json", server=bed.url, hub=hub
    )
    assert done.returncode == ExitCode.OK
    document = json.loads(done.stdout)
    assert (document["weights"], document["build"]) == (made.weights, made.build)
    assert made.build == build_name(NAME, made.build.rpartition("-")[2])
