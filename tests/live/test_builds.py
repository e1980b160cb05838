"""Builds on a real server: their history, the way back, and what is removed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ollama_tools import Outcome, ensure_model
from ollama_tools.checks.result import Status
from ollama_tools.checks.vouching import judge_weights
from ollama_tools.devstral.carriers import earlier_jinja_templates
from ollama_tools.errors import (
    CheckFailed,
    ExitCode,
    ModelNotFound,
    Overtaken,
    ServerError,
    UsageError,
)
from ollama_tools.model.builds import history, prune, rollback
from ollama_tools.model.status import model_status
from ollama_tools.progress import Silence
from ollama_tools.server.client import Server
from ollama_tools.wanted.wish import Wish
from tests.live.test_create import NAME, QUANT, hub, model_names, run_here
from tests.testbed.build import OLDEST, ollama_build
from tests.testbed.hub import Hub
from tests.testbed.server import OllamaServer

__all__ = ["hub"]


def make(server: Server, hub: Hub, context: int, **wish: Any) -> Outcome:
    return ensure_model(
        QUANT,
        host=server.url,
        context=context,
        check=False,
        via="server",
        registry=hub.registry,
        **wish,
    )


def serving(server: Server) -> int | None:
    return server.show(NAME).context


def contexts(server: Server) -> list[int | None]:
    return [server.show(each.name).context for each in history(server, NAME)]


def check_history_and_rollback(server: Server, hub: Hub) -> None:
    builds = [make(server, hub, context).build for context in (4096, 8192, 16384)]
    assert [each.name for each in history(server, NAME)] == builds[::-1]
    assert [each.serving for each in history(server, NAME)] == [True, False, False]

    back = rollback(server, NAME)
    assert (back.build, back.previous, back.changed) == (builds[1], builds[2], True)
    assert serving(server) == 8192
    assert contexts(server) == [8192, 16384, 4096]

    assert rollback(server, NAME, to=builds[0]).changed
    assert serving(server) == 4096
    assert not rollback(server, NAME, to=builds[0][-12:]).changed
    # The one that served before is the one that was rolled back to first.
    assert rollback(server, NAME).build == builds[1]

    # A build that is there already begins to serve anew.
    assert make(server, hub, 4096).build == builds[0]
    assert contexts(server)[0] == 4096
    assert rollback(server, NAME).build == builds[1]


def test_history_and_rollback(server: Server, hub: Hub) -> None:
    check_history_and_rollback(server, hub)


@pytest.mark.old_server
def test_so_on_the_older_generation(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("builds")
    with (
        OllamaServer(
            ollama_build(OLDEST), models_dir=root / "models", log_path=root / "ollama.log"
        ) as bed,
        Server(bed.url) as server,
    ):
        check_history_and_rollback(server, hub)


def test_what_somebody_made_by_hand_is_kept_by_a_rollback(server: Server, hub: Hub) -> None:
    build = make(server, hub, 4096).build
    server.create({"model": NAME, "from": NAME, "parameters": {"num_ctx": 512}}, lambda *_: None)
    assert rollback(server, NAME).build == build
    assert serving(server) == 4096
    assert rollback(server, NAME).changed
    assert serving(server) == 512


def test_a_build_that_failed_its_checks_is_none_to_go_back_to(server: Server, hub: Hub) -> None:
    good = [make(server, hub, context).build for context in (4096, 8192)]
    wish: dict[str, Any] = {"via": "server", "registry": hub.registry, "system": ""}
    with pytest.raises(CheckFailed) as caught:
        # So small a context holds no agent's prompt, which is what the check is about.
        ensure_model(QUANT, host=server.url, context=1024, prompt_tokens=300, **wish)
    assert [each.name for each in history(server, NAME)] == good[::-1]
    left = [each for each in model_names(server) if each.endswith(".failed")]
    assert len(left) == 1
    assert left[0].removesuffix(".failed") in caught.value.what
    assert rollback(server, NAME).build == good[0]


def test_a_rollback_that_cannot_be_changes_nothing(server: Server, hub: Hub) -> None:
    with pytest.raises(ModelNotFound, match="keeps no build"):
        rollback(server, NAME)
    build = make(server, hub, 4096).build
    with pytest.raises(ModelNotFound, match="no build but the one"):
        rollback(server, NAME)
    with pytest.raises(ModelNotFound, match="has no build 'abcd'") as caught:
        rollback(server, NAME, to="abcd")
    assert build in caught.value.fix
    assert model_names(server) == sorted([NAME, build])


def test_prune_never_removes_what_a_name_stands_for(server: Server, hub: Hub) -> None:
    builds = [make(server, hub, context).build for context in (4096, 8192, 16384, 32768)]
    server.copy(builds[0], "mine:latest")
    rollback(server, NAME, to=builds[1])

    would, _ = prune(server, NAME, 1, dry_run=True)
    assert {each.name for each in would} == {builds[2], builds[3]}
    assert len(history(server, NAME)) == 4
    removed, kept = prune(server, None, 1)
    assert removed == would
    assert {each.name for each in kept} == {builds[0], builds[1]}
    names = [each for each in model_names(server) if not each.startswith(f"{builds[1]}.s")]
    assert names == sorted([NAME, "mine:latest", builds[0], builds[1]])
    with pytest.raises(UsageError, match="cannot keep 0"):
        prune(server, None, 0)


def test_create_keeps_as_many_builds_as_it_is_told(server: Server, hub: Hub) -> None:
    for context in (4096, 8192, 16384):
        make(server, hub, context, keep=2)
    assert contexts(server) == [16384, 8192]


class Remover(Silence):
    """Another run that removes a build just before the name is switched to it, once."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.removed: list[str] = []
        self.warnings: list[str] = []

    def step(self, text: str) -> None:
        if text == f"name it {NAME}" and not self.removed:
            self.removed = [each.name for each in history(self._server, NAME)]
            for each in self.removed:
                self._server.delete(each)

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def test_a_build_that_another_run_removes_before_its_switch_is_made_again(
    server: Server, hub: Hub
) -> None:
    remover = Remover(server)
    outcome = make(server, hub, 4096, progress=remover)
    assert remover.removed == [outcome.build]
    assert [each for each in remover.warnings if "made again" in each and outcome.build in each]
    assert [each.name for each in history(server, NAME)] == [outcome.build]
    assert serving(server) == 4096
    assert not [each for each in model_names(server) if ".try-" in each]


def test_a_base_that_another_run_removes_after_its_pull_is_pulled_again(
    server: Server, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Server.pull
    pulled: list[str] = []

    def pull(self: Server, name: str, **options: Any) -> None:
        real(self, name, **options)
        pulled.append(name)
        if len(pulled) == 1:
            self.delete(name)

    monkeypatch.setattr(Server, "pull", pull)
    assert make(server, hub, 4096).changed
    assert len(pulled) == 2
    assert serving(server) == 4096
    assert not [each for each in model_names(server) if "GGUF" in each]


class Stopper(Silence):
    """A person who stops a run just before a step."""

    def __init__(self, before: str) -> None:
        self._before = before

    def step(self, text: str) -> None:
        if text.startswith(self._before):
            raise KeyboardInterrupt


def unserved(server: Server) -> list[str]:
    return [each.name for each in history(server, NAME) if not each.served]


def test_a_build_that_was_overtaken_is_none_to_go_back_to(
    server: Server, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = make(server, hub, 4096).build, make(server, hub, 8192).build
    real = Server.copy

    def copy(self: Server, source: str, destination: str) -> None:
        real(self, source, destination)
        if destination == NAME:
            real(self, first, NAME)

    with monkeypatch.context() as patch:
        patch.setattr(Server, "copy", copy)
        with pytest.raises(Overtaken, match=first) as caught:
            make(server, hub, 16384)
    lost = caught.value.fix.split()[-1]
    assert unserved(server) == [lost]
    assert server.show(lost).context == 16384
    # What was pulled for it goes as after any other run.
    assert not [each for each in model_names(server) if "GGUF" in each or ".try-" in each]

    assert rollback(server, NAME).build == second
    assert unserved(server) == [lost]
    # It takes no place of one that served, and is spared as long as its run may be at it.
    assert prune(server, NAME, 2)[0] == []
    back = rollback(server, NAME, to=lost)
    assert (back.build, back.previous) == (lost, second)
    assert unserved(server) == []
    assert rollback(server, NAME).build == second
    assert contexts(server) == [8192, 16384, 4096]
    assert not [each for each in model_names(server) if ".n" in each]


def test_a_build_whose_run_was_stopped_before_its_switch_never_served(
    server: Server, hub: Hub, bed: OllamaServer
) -> None:
    first, second = make(server, hub, 4096).build, make(server, hub, 8192).build
    with pytest.raises(KeyboardInterrupt):
        make(server, hub, 16384, progress=Stopper("switch"))
    (stopped,) = unserved(server)
    assert [each.name for each in history(server, NAME)] == [second, first, stopped]
    listed = run_here("history", NAME, server=bed.url).stdout.splitlines()
    assert [line.endswith("never served") for line in listed][-1]

    assert rollback(server, NAME).build == first
    server.delete(second)
    with pytest.raises(ModelNotFound, match="no build that served before") as caught:
        rollback(server, NAME)
    assert stopped in caught.value.fix
    # The next run goes on with it, and then it has served.
    assert make(server, hub, 16384).build == stopped
    assert unserved(server) == []
    assert rollback(server, NAME).build == first
    assert not [each for each in model_names(server) if ".n" in each]


def test_a_build_that_serves_has_served_though_its_run_could_not_say_so(
    server: Server, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(server, hub, 4096)
    real = Server.delete

    def refuse(self: Server, name: str) -> None:
        if ".n" in name:
            raise ServerError("the disk is read-only")
        real(self, name)

    with monkeypatch.context() as patch:
        patch.setattr(Server, "delete", refuse)
        with pytest.raises(
            ServerError, match=f"{NAME} stands for {NAME}-[0-9a-f]+ already"
        ) as caught:
            make(server, hub, 8192)
    assert caught.value.switched
    assert unserved(server) == []
    second = next(each.name for each in history(server, NAME) if each.serving)
    make(server, hub, 16384)
    assert unserved(server) == []
    assert rollback(server, NAME).build == second
    assert not [each for each in model_names(server) if ".n" in each]


def test_status_tells_drift_field_by_field(server: Server, bed: OllamaServer, hub: Hub) -> None:
    wish = Wish(reference=QUANT, context=8192, via="server", registry=hub.registry)
    assert [each.field for each in model_status(server, wish).differences] == ["model"]
    build = make(server, hub, 8192).build
    assert not model_status(server, wish).drifted

    server.create({"model": NAME, "from": NAME, "parameters": {"num_ctx": 512}}, lambda *_: None)
    found = model_status(server, wish, {"OLLAMA_KV_CACHE_TYPE": "q4_0"})
    assert {each.field: (each.found, each.wanted) for each in found.differences} == {
        "parameter num_ctx": ("512", "8192"),
        "build": (None, build),
    }
    assert [each.field for each in found.settings] == ["OLLAMA_KV_CACHE_TYPE"]
    before = model_names(server)

    arguments = [
        "status",
        QUANT,
        "--context",
        "8192",
        "--via",
        "server",
        "--registry",
        hub.registry,
    ]
    shown = run_here(*arguments, "--json", server=bed.url)
    assert shown.returncode == ExitCode.DRIFT
    assert json.loads(shown.stdout)["drifted"]
    assert model_names(server) == before
    make(server, hub, 8192)
    assert run_here(*arguments, server=bed.url).returncode == ExitCode.OK


def test_the_commands(server: Server, bed: OllamaServer, hub: Hub) -> None:
    builds = [make(server, hub, context).build for context in (4096, 8192)]
    kept = json.loads(run_here("history", NAME, "--json", server=bed.url).stdout)["builds"]
    assert [each["name"] for each in kept] == builds[::-1]
    assert json.loads(run_here("doctor", "--json", server=bed.url).stdout)["subject"] == bed.url
    done = json.loads(run_here("rollback", NAME, "--json", server=bed.url).stdout)
    assert (done["build"], done["previous"]) == tuple(builds)
    gone = run_here("prune", NAME, "--keep", "1", "--quiet", server=bed.url)
    assert gone.stdout.split() == [builds[1]]
    assert run_here("rollback", NAME, server=bed.url).returncode == ExitCode.FAILED


def test_a_model_with_an_earlier_template_is_ours_and_updated_like_any_other(
    server: Server, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make_exact() -> Outcome:
        return ensure_model(
            QUANT, host=server.url, context=4096, check=False, via="upload", carrier="gguf"
        )

    wish = Wish(reference=QUANT, context=4096, via="upload", carrier="gguf")
    with monkeypatch.context() as earlier:
        for module in ("devstral.carriers", "model.ensure"):
            earlier.setattr(
                f"ollama_tools.{module}.jinja_template",
                lambda each: earlier_jinja_templates(each)[0],
            )
        first = make_exact()
    shown = server.show(NAME)
    assert (shown.carrier, shown.has_earlier_template) == ("gguf", True)
    assert judge_weights(shown, server.models(), NAME)[0] is Status.PASS
    found = model_status(server, wish)
    assert [each.field for each in found.differences] == ["template", "build"]
    assert found.build == first.build
    second = make_exact()
    assert (second.changed, second.previous) == (True, first.build)
    assert not server.show(NAME).has_earlier_template
    assert not make_exact().changed
    assert rollback(server, NAME).build == first.build
