"""Builds beside other runs: what one of them does between two requests of ours."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, cast

import pytest

from ollama_tools.errors import BuildLost, ModelNotFound, NotOllama, Overtaken, ServerError
from ollama_tools.model.builds import history, prune, rollback, switch, whole
from ollama_tools.model.leftovers import find_leftovers
from ollama_tools.server.answers import OF_THE_WAY
from ollama_tools.server.client import InstalledModel, Server, find_model
from ollama_tools.server.names import Kind, new_unserved_name, own_name
from ollama_tools.server.shown import Shown

NAME = "devstral:latest"
ONE, TWO, THREE = (f"{NAME}-{digit * 12}" for digit in "123")
START = datetime(2026, 11, 26, 12, tzinfo=UTC)


class Memory:
    """A server in memory, on which others act at chosen moments.

    Attributes:
        manifests: Content and time of each name.
        now: Its time; every write takes a minute.
        url: Its address.
        before: Called before each request, with its name and what it is about.
    """

    def __init__(self, *names: str) -> None:
        self.manifests: dict[str, tuple[str, datetime]] = {}
        self.now = START
        self.url = "http://memory"
        self.before: Callable[[str, str], None] = lambda *_: None
        for each in names:
            self.write(each, f'{{"context": "{each}"}}')

    def write(self, name: str, content: str) -> None:
        self.now += timedelta(minutes=1)
        self.manifests[name] = (content, self.now)

    def models(self) -> list[InstalledModel]:
        self.before("tags", "")
        return [
            InstalledModel(name, sha256(content.encode()).hexdigest(), 1, time.isoformat())
            for name, (content, time) in self.manifests.items()
            if content
        ]

    def models_with(self, _name: str) -> list[InstalledModel]:
        return self.models()

    def model(self, name: str) -> InstalledModel | None:
        return find_model(self.models(), name)

    def show(self, name: str, *, anew: bool = False) -> Shown:
        del anew
        self.before("show", name)
        # The server reads one document, and nothing behind it.
        found, _ = json.JSONDecoder().raw_decode(self._content(name))
        return Shown(name, {**found, "modelfile": f"# FROM {name}\n\nFROM /x", "modified_at": name})

    def has_blob(self, _digest: str) -> bool:
        return True

    def copy(self, source: str, destination: str) -> None:
        self.before("copy", destination)
        self.write(destination, self._content(source))

    def delete(self, name: str) -> None:
        self.before("delete", name)
        self.manifests.pop(name, None)
        self.before("deleted", name)

    def _content(self, name: str) -> str:
        if name not in self.manifests:
            raise ModelNotFound(f"model {name!r} not found")
        return self.manifests[name][0]

    def kinds(self) -> list[Kind | None]:
        found = [own_name(each) for each in self.manifests]
        return [each.kind if each else None for each in found]


@pytest.fixture
def memory() -> Memory:
    found = Memory(ONE, TWO)
    found.copy(TWO, NAME)
    return found


def as_server(memory: Memory) -> Server:
    return cast("Server", memory)


def do_switch(memory: Memory, build: str) -> str | None:
    return switch(as_server(memory), NAME, build).previous


def once(memory: Memory, request: str, about: str, act: Callable[[], Any]) -> None:
    """Let somebody act before the first such request."""

    def before(what: str, name: str) -> None:
        if (what, name) == (request, about):
            memory.before = lambda *_: None
            act()

    memory.before = before


def test_a_switch_says_what_served_and_when_each_began(memory: Memory) -> None:
    assert do_switch(memory, ONE) == TWO
    assert [each.name for each in history(as_server(memory), NAME)] == [ONE, TWO]
    for _ in range(5):
        do_switch(memory, TWO)
        do_switch(memory, ONE)
    # One mark a build, however often it serves again.
    assert len(memory.manifests) == 5


def test_the_end_of_one_manifest_behind_another_is_no_persons_model(memory: Memory) -> None:
    memory.write(NAME, memory.manifests[TWO][0] + '"}')
    assert do_switch(memory, ONE) == TWO
    assert memory.kinds().count(Kind.BUILD) == 2


def test_what_a_person_made_is_kept(memory: Memory) -> None:
    memory.write(NAME, '{"context": "by hand"}')
    kept = do_switch(memory, ONE)
    assert kept not in (None, ONE, TWO)
    assert memory.kinds().count(Kind.BUILD) == 3


def test_a_name_that_is_torn_is_written_again(memory: Memory) -> None:
    def tear() -> None:
        once(memory, "tags", "", lambda: memory.write(NAME, memory.manifests[ONE][0] + '"}'))

    once(memory, "copy", NAME, tear)
    do_switch(memory, ONE)
    assert memory.manifests[NAME][0] == memory.manifests[ONE][0]


def test_another_runs_build_is_left_where_it_won(memory: Memory) -> None:
    memory.write(THREE, '{"context": "third"}')

    def win() -> None:
        once(memory, "tags", "", lambda: memory.write(NAME, memory.manifests[THREE][0]))

    once(memory, "copy", NAME, win)
    with pytest.raises(Overtaken, match=THREE):
        do_switch(memory, ONE)
    assert memory.manifests[NAME][0] == memory.manifests[THREE][0]


def test_a_switch_that_nobody_writes_is_no_other_runs(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Memory, "copy", lambda *_: None)
    with pytest.raises(NotOllama, match=f"as if {NAME} were switched"):
        do_switch(memory, ONE)
    assert memory.manifests[NAME][0] == memory.manifests[TWO][0]


def leftovers(server: Server) -> object:
    return find_leftovers(server, server.models(), NAME)


@pytest.mark.parametrize("kind", OF_THE_WAY)
@pytest.mark.parametrize("ask", [lambda server: whole(server, ONE), leftovers])
def test_a_lost_answer_says_nothing_of_a_build(
    memory: Memory, kind: type[ServerError], ask: Callable[[Server], object]
) -> None:
    memory.manifests.pop(NAME)

    def lost(what: str, _: str) -> None:
        if what == "show":
            raise kind("no answer", "")

    memory.before = lost
    with pytest.raises(kind):
        ask(as_server(memory))


def test_a_build_that_goes_before_its_switch_is_lost(memory: Memory) -> None:
    once(memory, "copy", NAME, lambda: memory.manifests.pop(ONE))
    with pytest.raises(BuildLost, match=ONE):
        do_switch(memory, ONE)


@pytest.mark.parametrize(("after", "what"), [(False, "serves as before"), (True, f"for {ONE}")])
def test_an_interrupted_rollback_says_what_serves(memory: Memory, after: bool, what: str) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    once(
        memory,
        "copy",
        NAME,
        (lambda: once(memory, "tags", "", interrupt)) if after else interrupt,
    )
    with pytest.raises(KeyboardInterrupt) as caught:
        rollback(as_server(memory), NAME)
    assert what in " ".join(caught.value.__notes__)


def test_a_rollback_chooses_again_where_its_build_goes() -> None:
    memory = Memory(THREE, ONE, TWO)
    memory.copy(TWO, NAME)
    once(memory, "copy", NAME, lambda: memory.manifests.pop(ONE))
    assert rollback(as_server(memory), NAME).build == THREE


def test_a_build_that_never_served_is_spared_for_an_hour(memory: Memory) -> None:
    memory.copy(ONE, THREE)
    memory.write(THREE, '{"context": "new"}')
    removed, kept = prune(as_server(memory), NAME, 1)
    assert [each.name for each in removed] == [ONE]
    assert [each.name for each in kept] == [TWO, THREE]
    memory.now += timedelta(hours=1)
    assert [each.name for each in prune(as_server(memory), NAME, 1)[0]] == [THREE]


def test_a_build_that_never_served_takes_the_place_of_none_that_did(memory: Memory) -> None:
    memory.write(THREE, '{"context": "overtaken"}')
    memory.copy(THREE, new_unserved_name(THREE))
    # Whoever overtook its run began to serve later.
    do_switch(memory, ONE)
    assert [each.name for each in history(as_server(memory), NAME)] == [ONE, TWO, THREE]
    assert prune(as_server(memory), NAME, 2)[0] == []
    memory.now += timedelta(hours=2)
    assert [each.name for each in prune(as_server(memory), NAME, 2)[0]] == [THREE]
    assert Kind.UNSERVED not in memory.kinds()


def test_a_build_that_served_is_not_spared(memory: Memory) -> None:
    memory.write(THREE, '{"context": "new"}')
    do_switch(memory, THREE)
    do_switch(memory, TWO)
    assert {each.name for each in prune(as_server(memory), NAME, 1)[0]} == {ONE, THREE}


def test_a_removed_build_comes_back_where_a_name_came_to_stand_for_it(memory: Memory) -> None:
    content = memory.manifests[ONE][0]
    once(memory, "delete", ONE, lambda: memory.write(NAME, content))
    removed, kept = prune(as_server(memory), NAME, 1)
    assert (removed, [each.name for each in kept]) == ([], [TWO, ONE])
    assert memory.manifests[ONE][0] == content
