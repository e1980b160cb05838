"""What runs leave behind that were stopped or failed: it is listed, and it goes."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ollama_tools import Outcome, ensure_model
from ollama_tools.errors import CheckFailed, ExitCode, ModelNotFound, ServerError
from ollama_tools.files import remembered as state
from ollama_tools.model.builds import history, prune
from ollama_tools.model.leftovers import (
    Leftover,
    LeftoverKind,
    find_leftovers,
    remove_leftovers,
    remove_model,
)
from ollama_tools.server.client import Server
from ollama_tools.server.names import (
    failed_name,
    new_served_name,
    new_trial_name,
    new_unserved_name,
)
from tests.live.test_create import NAME, QUANT, hub, model_names, run_cli, run_here, unloaded
from tests.testbed.hub import Hub
from tests.testbed.server import OllamaServer

__all__ = ["hub", "unloaded"]

HOUR = 3600
Make = Callable[..., Outcome]


@pytest.fixture
def make(server: Server, hub: Hub) -> Make:
    """``ensure_model`` on the server and hub of the bed, unchecked."""

    def ensure(**wish: Any) -> Outcome:
        options = {"check": False, "context": 4096, "via": "upload", "system": "bundled", **wish}
        return ensure_model(QUANT, host=server.url, **options)

    return ensure


def manifest(bed: OllamaServer, name: str) -> Path:
    model, tag = name.split(":")
    return bed.models_dir / "manifests" / "registry.ollama.ai" / "library" / model / tag


def aged(bed: OllamaServer, name: str, seconds: float = 2 * HOUR) -> str:
    """Gives a model's manifest an age, as if it had been written then."""
    then = time.time() - seconds
    os.utime(manifest(bed, name), (then, then))
    return name


def kinds(found: list[Leftover]) -> dict[str, LeftoverKind]:
    return {each.name: each.kind for each in found}


@pytest.fixture
def littered(
    make: Make, server: Server, bed: OllamaServer, hub: Hub, tmp_path: Path
) -> dict[str, LeftoverKind]:
    """A server with one leftover of each kind, beside a model that is as it should be."""
    made = make()
    failed = failed_name(f"{NAME}-{'a' * 12}")
    trial = new_trial_name(NAME)
    mark = new_served_name(f"{NAME}-{'b' * 12}")
    unserved = new_unserved_name(f"{NAME}-{'e' * 12}")
    false = new_unserved_name(made.build)
    orphan = f"gone:q4-{'c' * 12}"
    empty = f"{NAME}-{'d' * 12}"
    for name in (failed, trial, mark, unserved, false, orphan, empty):
        server.copy(made.build, name)
    aged(bed, trial)
    aged(bed, unserved)
    aged(bed, false)
    aged(bed, orphan)
    manifest(bed, empty).write_bytes(b"")
    aged(bed, empty)
    base = f"{hub.registry}/unsloth/Devstral-Small-2507-GGUF:{QUANT}"
    server.pull(base, insecure=True, advance=lambda *_: None)
    state.note_base(server.url, base, NAME)
    download = tmp_path / "hub" / "models--unsloth--Devstral-Small-2507-GGUF" / "blobs"
    download.mkdir(parents=True, exist_ok=True)
    cut = download / "0123.abcd.incomplete"
    cut.write_bytes(b"GG")
    temporary = tmp_path / "state" / "devstral-ollama" / "bases.jsonx7y8z9"
    temporary.write_text("{")
    for path in (cut, temporary):
        os.utime(path, (time.time() - 2 * HOUR,) * 2)
    return {
        failed: LeftoverKind.FAILED,
        trial: LeftoverKind.TRIAL,
        mark: LeftoverKind.MARK,
        unserved: LeftoverKind.MARK,
        false: LeftoverKind.MARK,
        orphan: LeftoverKind.ORPHAN,
        empty: LeftoverKind.BROKEN,
        base: LeftoverKind.BASE,
        str(cut): LeftoverKind.DOWNLOAD,
        str(temporary): LeftoverKind.TEMPORARY,
    }


def test_each_kind_is_found_and_removed_and_the_model_stays(
    littered: dict[str, LeftoverKind], server: Server, make: Make
) -> None:
    assert kinds(find_leftovers(server, server.models())) == littered
    assert kinds(remove_leftovers(server, None, dry_run=True)) == littered
    assert kinds(find_leftovers(server, server.models())) == littered

    assert kinds(remove_leftovers(server, None)) == littered
    assert find_leftovers(server, server.models()) == []
    assert not [each for each in littered if "/" in each and Path(each).exists()]
    assert state.noted_bases(server.url) == {}
    assert not make().changed
    assert model_names(server) == sorted([NAME, history(server, NAME)[0].name])


def test_list_shows_them_and_prune_removes_them(
    littered: dict[str, LeftoverKind], server: Server, bed: OllamaServer, hub: Hub
) -> None:
    # The downloads of the person who runs the command are in another cache here.
    there = {name for name in littered if not name.startswith("/")}
    shown = json.loads(run_cli("list", "--json", server=bed.url, hub=hub).stdout)
    assert there <= {each["name"] for each in shown["leftovers"]}
    assert [each["name"] for each in shown["models"]] == [NAME]
    text = run_cli("list", server=bed.url, hub=hub)
    for name in there:
        assert name in text.stdout
    gone = run_cli("prune", "--keep", "1", "--json", server=bed.url, hub=hub)
    assert there <= {each["name"] for each in json.loads(gone.stdout)["leftovers"]}
    assert not there & set(model_names(server))
    after = json.loads(run_cli("list", "--json", server=bed.url, hub=hub).stdout)
    assert not there & {each["name"] for each in after["leftovers"]}


def test_a_build_that_another_run_may_be_checking_is_spared(make: Make, server: Server) -> None:
    made = make()
    trial = new_trial_name(NAME)
    server.copy(made.build, trial)
    (found,) = find_leftovers(server, server.models())
    assert (found.spared, found.why) == (True, "is being made")
    assert remove_leftovers(server, None) == []
    prune(server, NAME, 1)
    make(context=8192, keep=1)
    assert trial in model_names(server)


@pytest.mark.parametrize("hidden", ["for a moment", "for a while"])
def test_a_build_whose_name_is_just_being_switched_is_no_orphan(
    make: Make, server: Server, bed: OllamaServer, monkeypatch: pytest.MonkeyPatch, hidden: str
) -> None:
    made = make()
    aged(bed, made.build)
    path = manifest(bed, NAME)
    whole = path.read_bytes()
    real = Server.models_with
    looked: list[str] = []

    def models_with(self: Server, name: str) -> Any:
        if hidden == "for a moment":
            path.write_bytes(whole)
        looked.append(name)
        return real(self, name)

    # As a copy does that another run has begun, and has not ended yet.
    path.write_bytes(b"")
    monkeypatch.setattr(Server, "models_with", models_with)
    assert remove_leftovers(server, None) == []
    assert looked
    path.write_bytes(whole)
    assert model_names(server) == [NAME, made.build]


def test_a_persons_model_with_such_a_name_is_none(server: Server, make: Make) -> None:
    make()
    name = f"mine:tag-{'0' * 12}"
    request = {"model": name, "from": NAME, "template": "{{ .Prompt }}", "license": "mine"}
    server.create(request, lambda *_: None)
    assert find_leftovers(server, server.models()) == []
    prune(server, None, 1)
    assert name in model_names(server)


def test_a_failed_build_shields_nothing(make: Make, server: Server) -> None:
    first, second = make(), make(context=8192)
    server.copy(first.build, failed_name(first.build))
    removed, _ = prune(server, NAME, 1)
    assert [each.name for each in removed] == [first.build]
    assert second.build in model_names(server)


def test_a_build_that_failed_once_because_the_machine_was_busy_stays_in_history(
    make: Make, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make()
    make(context=8192)
    with monkeypatch.context() as patch:
        patch.setattr("ollama_tools.checks.smoke.smoke_server", _busy)
        with pytest.raises(CheckFailed):
            make(check=True, prompt_tokens=300)
    assert first.build in [each.name for each in history(server, NAME)]
    assert make().build == first.build


def _busy(server: Server, name: str, *_: Any, **__: Any) -> Any:
    from ollama_tools.checks.result import CheckResult, Report, Status

    slow = CheckResult("context", Status.FAIL, "no answer in time", "try again")
    return Report(name, server.url, "0.34.4", (slow,))


def test_the_next_run_removes_what_a_stopped_one_left(
    make: Make, server: Server, bed: OllamaServer
) -> None:
    made = make()
    trial = new_trial_name(NAME)
    server.copy(made.build, trial)
    aged(bed, trial)
    again = make()
    assert again.changed
    assert again.steps == (f"- remove what is left over: {trial}",)
    assert trial not in model_names(server)
    assert not make().changed


@pytest.mark.parametrize("command", ["remove", "absent"])
def test_removing_a_model_leaves_nothing(
    littered: dict[str, LeftoverKind],
    make: Make,
    server: Server,
    bed: OllamaServer,
    hub: Hub,
    command: str,
) -> None:
    ours = {
        name
        for name, kind in littered.items()
        if kind not in (LeftoverKind.ORPHAN, LeftoverKind.DOWNLOAD, LeftoverKind.TEMPORARY)
    }
    other = make(name="other:latest")
    assert other.build in model_names(server)
    would = remove_model(server, NAME, dry_run=True)
    assert ours <= set(would.names)
    assert NAME in model_names(server)
    if command == "remove":
        # The note of the base is in the memory of this process, not of that.
        done = run_cli("remove", NAME, "--json", server=bed.url, hub=hub)
        assert done.returncode == ExitCode.OK
        assert json.loads(done.stdout)["previous"] == would.previous
        remove_leftovers(server, NAME)
    else:
        assert remove_model(server, NAME) == would
    left = set(model_names(server))
    assert not left & ours
    assert not [each for each in left if each.startswith(NAME)]
    assert {other.name, other.build} <= left
    assert remove_model(server, NAME).names == ()


def test_removing_what_is_not_there_is_said(bed: OllamaServer) -> None:
    done = run_here("remove", "nosuch:model", "--json", server=bed.url)
    assert (done.returncode, json.loads(done.stdout)["removed"]) == (ExitCode.OK, [])


def test_prune_of_a_name_that_has_nothing_says_so(server: Server) -> None:
    with pytest.raises(ModelNotFound, match="keeps no build"):
        prune(server, "nosuch:model", 1)


def test_a_base_whose_removal_failed_is_removed_by_the_next_run(
    server: Server, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = f"{hub.registry}/unsloth/Devstral-Small-2507-GGUF:{QUANT}"
    real = Server.delete

    def refuse(self: Server, name: str) -> None:
        if name == base:
            raise ServerError("it does not want to go")
        real(self, name)

    wish: dict[str, Any] = {"via": "server", "registry": hub.registry, "check": False}
    with monkeypatch.context() as patch:
        patch.setattr(Server, "delete", refuse)
        with pytest.raises(ServerError, match="stands for"):
            ensure_model(QUANT, host=server.url, **wish)
    assert base in model_names(server)
    again = ensure_model(QUANT, host=server.url, **wish)
    assert again.steps == (f"- remove what is left over: {base}",)
    assert base not in model_names(server)
    assert not ensure_model(QUANT, host=server.url, **wish).changed
