"""The modules against a real server on this machine: what they promise, do and say.

No host is needed: Ansible runs them beside itself, as it does what is delegated to the controller.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from ollama_tools import Outcome, ensure_model
from ollama_tools.model.builds import history
from ollama_tools.server.client import Server
from ollama_tools.server.names import build_name, failed_name, new_trial_name
from tests.fleet.fleet import (
    MODEL,
    QUANT,
    answer_of,
    collections_path,
    overtaking,
    run_playbook,
)
from tests.testbed.hub import Hub
from tests.testbed.models import PROJECTOR, changed

REPOSITORY = "unsloth/Devstral-Small-2507-GGUF"
PROMISED = {
    "name",
    "version",
    "context",
    "previous",
    "reason",
    "differences",
    "steps",
    "removed",
    "changed",
}
AFTERWARDS = {"build", "digest", "weights", "origin", "carrier", "verbatim", "vision", "report"}

Module = Callable[..., dict[str, Any]]
Make = Callable[..., Outcome]


@pytest.fixture
def module(server: Server, hub: Hub, tmp_path: Path) -> Module:
    """Run a module of the installed collection against the server, and give its answer."""

    def run(
        kind: str, /, *, dry: bool = False, meddler: str = "", **options: Any
    ) -> dict[str, Any]:
        return answer_of(
            kind,
            "localhost",
            *("-e", f"ansible_python_interpreter={sys.executable}"),
            *(["--check"] if dry else []),
            place=tmp_path,
            environment=environment(tmp_path, hub, meddler),
            **{"host": server.url, **options},
        )

    return run


def environment(place: Path, hub: Hub, meddler: str) -> dict[str, str]:
    """What Ansible's programs have in their environment.

    A ``meddler`` is code that runs in a module's process before it: another run, or a fault.
    """
    (place / "sitecustomize.py").write_text(meddler)
    return {
        "PYTHONPATH": str(place),
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(place / "hub"),
    }


@pytest.fixture
def wish(hub: Hub) -> dict[str, Any]:
    """A model that is pulled and not checked."""
    return {
        "reference": QUANT,
        "name": MODEL,
        "via": "server",
        "registry": f"http://{hub.registry}",
        "check": False,
    }


@pytest.fixture
def make(server: Server, wish: dict[str, Any]) -> Make:
    """Make a model beforehand, without Ansible."""

    def ensure(context: int) -> Outcome:
        return ensure_model(**wish, host=server.url, context=context)

    return ensure


def failing(module: str, function: str, error: str = "ServerError") -> str:
    """Code after which a function of the package fails, as if its server had gone down."""
    return f"""\
from ollama_tools import errors
from ollama_tools.model import {module}

assert hasattr({module}, "{function}")

def fail(*_, **__):
    raise errors.{error}("no answer")

{module}.{function} = fail
"""


def names(server: Server) -> dict[str, str]:
    """The names on a server with their digests."""
    return {each.name: each.digest for each in server.models()}


def make_by_hand(server: Server, hub: Hub) -> str:
    """A model under the public name that nobody but a person has made; its digest."""
    base = f"{hub.registry}/{REPOSITORY}:{QUANT}"
    server.pull(base, insecure=True, advance=lambda *_: None)
    edit = {"model": MODEL, "from": base, "parameters": {"num_ctx": 2048}}
    server.create(edit, lambda *_: None)
    server.delete(base)
    return names(server)[MODEL]


def promised_and_done(module: Module, **options: Any) -> dict[str, Any]:
    """Run in check mode, in earnest, and once more: what was promised is done, and once."""
    promised = module("devstral_model", dry=True, **options)
    done = module("devstral_model", **options)
    assert set(promised) & (PROMISED | AFTERWARDS) == PROMISED, promised
    assert {key: promised[key] for key in PROMISED} == {key: done[key] for key in PROMISED}
    assert promised["diff"] == done["diff"]
    assert set(done) >= AFTERWARDS
    again = module("devstral_model", **options)
    assert (again["changed"], again["steps"], again["removed"]) == (False, [], [])
    assert again["build"] == again["previous"] == done["build"]
    return done


def test_a_new_model_is_checked_and_named(module: Module, wish: dict[str, Any]) -> None:
    done = promised_and_done(module, **wish | {"check": True, "prompt_tokens": 300})
    assert (done["changed"], done["previous"], done["removed"]) == (True, None, [])
    assert [each[0] for each in done["steps"]] == ["+", "+", "?", "?", "+", "+", "-"]
    assert done["report"]["passed"] is True
    assert done["origin"]["repository"] == REPOSITORY
    assert done["weights"] == f"sha256:{done['origin']['sha256']}"


def test_what_is_there_is_left_alone(module: Module, make: Make, wish: dict[str, Any]) -> None:
    there = make(8192)
    done = promised_and_done(module, **wish, context=8192)
    assert (done["changed"], done["steps"], done["previous"]) == (False, [], there.build)


def test_another_context_and_vision_are_another_build(
    module: Module, make: Make, hub: Hub, wish: dict[str, Any]
) -> None:
    hub.publish(replace(hub.newest(REPOSITORY).repository, projector=PROJECTOR))
    before = make(8192)
    done = promised_and_done(module, **wish, context=16384, vision=True, keep=2)
    assert (done["changed"], done["previous"], done["removed"]) == (True, before.build, [])
    assert (before.vision, done["context"], done["vision"]) == (False, 16384, True)
    assert done["diff"]["before"] == {"parameter num_ctx": "8192", "build": before.build}
    assert done["diff"]["after"]["vision"] == "images"


def test_a_name_that_was_made_by_hand_is_adopted(
    module: Module, server: Server, hub: Hub, wish: dict[str, Any]
) -> None:
    digest = make_by_hand(server, hub)
    done = promised_and_done(module, **wish)
    kept = build_name(MODEL, digest[:12])
    assert (done["changed"], done["previous"]) == (True, kept)
    assert names(server)[kept] == digest


@pytest.mark.parametrize("context", [16384, 32768])
def test_builds_over_what_is_kept_go(
    module: Module, make: Make, server: Server, wish: dict[str, Any], context: int
) -> None:
    builds = [make(each).build for each in (4096, 8192, 16384)]
    done = promised_and_done(module, **wish, context=context, keep=1)
    assert done["changed"] is True
    assert done["previous"] == builds[2]
    gone = builds if context == 32768 else builds[:2]
    assert done["removed"] == gone[::-1]
    assert [each.name for each in history(server, MODEL)] == [done["build"]]


def test_a_model_by_hand_goes_with_the_builds_that_are_not_kept(
    module: Module, make: Make, server: Server, hub: Hub, wish: dict[str, Any]
) -> None:
    build = make(4096).build
    kept = build_name(MODEL, make_by_hand(server, hub)[:12])
    done = promised_and_done(module, **wish, keep=1)
    assert (done["previous"], set(done["removed"])) == (kept, {build, kept})
    assert [each.name for each in history(server, MODEL)] == [done["build"]]


@pytest.mark.parametrize("keep", [None, 1, 2])
def test_a_standing_build_is_switched_back_to(
    module: Module, make: Make, wish: dict[str, Any], keep: int | None
) -> None:
    builds = [make(each).build for each in (4096, 8192, 16384)]
    done = promised_and_done(module, **wish, context=4096, keep=keep)
    assert (done["build"], done["previous"]) == (builds[0], builds[2])
    assert done["steps"][0] == f"= use the build {builds[0]} as it is"
    assert done["removed"] == {None: [], 1: [builds[2], builds[1]], 2: [builds[1]]}[keep]


def test_a_newer_file_is_taken_where_it_is_asked_for(
    module: Module, hub: Hub, wish: dict[str, Any]
) -> None:
    first = module("devstral_model", **wish)
    newer = hub.publish(changed(hub.newest(REPOSITORY).repository, QUANT))
    file = newer.repository.files[f"Devstral-Small-2507-{QUANT}.gguf"]
    stays = promised_and_done(module, **wish)
    assert (stays["changed"], stays["weights"]) == (False, first["weights"])
    taken = promised_and_done(module, **wish, upgrade=True)
    assert (taken["changed"], taken["previous"]) == (True, first["build"])
    assert taken["weights"] == f"sha256:{file.sha256}"


def test_a_revision_pins_the_weights(module: Module, hub: Hub, wish: dict[str, Any]) -> None:
    pinned = hub.newest(REPOSITORY)
    hub.publish(changed(pinned.repository, QUANT))
    newest = module("devstral_model", **wish)
    pin = {**wish, "via": "upload", "registry": None, "revision": pinned.id}
    seen = module("devstral_model_info", **{key: pin[key] for key in pin if key != "check"})
    assert seen["drifted"] is True
    assert (seen["build"], seen["weights"]) == (newest["build"], newest["weights"])
    done = promised_and_done(module, **pin)
    assert done["origin"]["commit"] == pinned.id
    seen = module("devstral_model_info", **{key: pin[key] for key in pin if key != "check"})
    assert seen["drifted"] is False
    assert {key: seen[key] for key in ("build", "weights", "origin")} == {
        key: done[key] for key in ("build", "weights", "origin")
    }
    assert seen["asked"]["revision"] == pinned.id


def test_a_name_of_before_that_its_build_does_not_vouch_for_is_told(
    module: Module, server: Server, wish: dict[str, Any]
) -> None:
    module("devstral_model", **wish)
    before = {**wish, "name": "devstral:before"}
    build = module("devstral_model", **before)["build"]
    asked = {key: wish[key] for key in wish if key != "check"}
    seen = module("devstral_model_info", **asked)
    assert (seen["drifted"], seen["names_differences"]) == (False, [])

    edit = {"model": "devstral:before", "from": build, "parameters": {"num_ctx": 2048}}
    server.create(edit, lambda *_: None)
    seen = module("devstral_model_info", **asked)
    [told] = seen["names_differences"]
    assert (seen["drifted"], told["field"], told["wanted"]) == (True, "devstral:before", build)
    assert told["found"].endswith(
        "is none of its 1 builds: the name was changed after its creation"
    )
    # Where it is asked for, it is compared with that.
    seen = module("devstral_model_info", **{**asked, "name": "devstral:before"})
    assert seen["names_differences"] == []
    assert [each["field"] for each in seen["differences"]] == ["parameter num_ctx", "build"]

    server.delete("devstral:before")
    seen = module("devstral_model_info", **asked)
    assert seen["names_differences"] == [
        {"field": "devstral:before", "found": "gone", "wanted": build}
    ]


def test_a_parameter_is_the_same_in_every_form_of_yaml(
    module: Module, wish: dict[str, Any]
) -> None:
    spelled = {"temperature": 1, "top_k": 40.0, "min_p": 0.05, "stop": "END"}
    other = {"temperature": "1.0", "top_k": "40", "min_p": "0.050", "stop": ["END", "END"]}
    first = module("devstral_model", **wish, parameters=spelled)
    again = module("devstral_model", **wish, parameters=other)
    assert first["changed"] is True
    assert (again["changed"], again["build"]) == (False, first["build"])


@pytest.mark.parametrize(
    ("options", "words", "code"),
    [
        ({"keep": 0}, "cannot keep 0 builds", 2),
        ({"check": True, "prompt_tokens": 10}, "proves nothing", 2),
        ({"parameters": {"temprature": 1}}, "did you mean temperature?", 2),
        ({"parameters": {"top_k": "many"}}, "wants a whole number", 2),
        ({"revision": "main"}, "a server cannot pull the revision 'main'", 2),
    ],
)
def test_what_cannot_be_is_refused_in_check_mode_as_in_earnest(
    module: Module,
    server: Server,
    wish: dict[str, Any],
    options: dict[str, Any],
    words: str,
    code: int,
) -> None:
    for dry in (True, False):
        answer = module("devstral_model", dry=dry, **wish | options)
        assert words in answer["msg"]
        assert (answer["exit_code"], answer["switched"]) == (code, False)
    assert names(server) == {}


def test_a_failure_after_the_switch_says_so(
    module: Module, make: Make, server: Server, wish: dict[str, Any]
) -> None:
    before = make(4096)
    answer = module(
        "devstral_model",
        meddler=failing("steps", "prune"),
        **wish,
        context=8192,
        keep=1,
    )
    assert "no answer" in answer["msg"], answer
    assert answer["switched"] is True
    assert names(server)[MODEL] != before.digest


def test_who_is_overtaken_leaves_the_name_to_the_other_run(
    module: Module, make: Make, server: Server, wish: dict[str, Any]
) -> None:
    other, first = make(4096), make(8192)
    answer = module("devstral_model", meddler=overtaking(other.build), **wish, context=16384)
    assert (answer["exit_code"], answer["switched"]) == (5, False)
    assert f"another run switched {MODEL} to {other.build}" in answer["msg"]
    assert "serves as before" not in answer["msg"]
    assert names(server)[MODEL] == other.digest != first.digest


def test_absent_removes_all_that_was_made_of_a_name(
    module: Module, make: Make, server: Server
) -> None:
    mine = {make(each).build for each in (4096, 8192)}
    serving = make(8192).build
    for beside in (failed_name(serving), new_trial_name(MODEL)):
        server.copy(serving, beside)
        mine.add(beside)
    server.copy(serving, "other:latest")
    gone = {"name": MODEL, "state": "absent"}
    promised = module("devstral_model", dry=True, **gone)
    assert set(promised["removed"]) == {MODEL, *mine}
    done = module("devstral_model", **gone)
    assert {key: done[key] for key in ("changed", "previous", "removed", "diff")} == {
        key: promised[key] for key in ("changed", "previous", "removed", "diff")
    }
    assert (done["changed"], done["previous"]) == (True, serving)
    assert set(names(server)) == {"other:latest"}
    again = module("devstral_model", **gone)
    assert (again["changed"], again["previous"], again["removed"]) == (False, None, [])


@dataclass(frozen=True)
class Fate:
    """What happens to a model after it was made, and what is said of that.

    Attributes:
        told: What is said of the host.
        serves: What the name stands for in the end: ``first``, the ``new`` build or ``other``.
        variables: The variables that make it happen.
        meddler: Code that does.
        wish: What is asked for otherwise.
    """

    told: str
    serves: str
    variables: dict[str, Any] = field(default_factory=dict)
    meddler: str = ""
    wish: dict[str, Any] = field(default_factory=dict)


# No context holds such a prompt.
_UNPASSABLE = {"devstral_smoke_prompt_tokens": 60_000}
_FATES = {
    "the smoke fails": Fate("was put back to FIRST", "first", _UNPASSABLE),
    "the smoke fails, and the way back too": Fate(
        "serves NEW, which failed, and could not be put back to FIRST (no answer)",
        "new",
        _UNPASSABLE,
        failing("builds", "rollback"),
    ),
    "the smoke fails, and the way back is overtaken": Fate(
        "was overtaken by another run, whose model is left alone",
        "new",
        _UNPASSABLE,
        failing("builds", "rollback", "Overtaken"),
    ),
    "the smoke of a new name fails": Fate(
        "serves NEW, which failed, and served nothing before",
        "new",
        _UNPASSABLE,
        wish={"name": "devstral:new"},
    ),
    "the smoke fails where only old builds went": Fate(
        "serves what it served before",
        "first",
        {**_UNPASSABLE, "devstral_model_keep": 1},
        wish={"context": 8192},
    ),
    "the smoke fails where nothing was to do": Fate(
        "serves what it served before",
        "first",
        _UNPASSABLE,
        wish={"context": 8192},
    ),
    "what is over cannot be removed": Fate(
        "was switched to its new build, and failed afterwards",
        "new",
        {"devstral_model_keep": 1},
        failing("steps", "prune"),
    ),
    "what came is not what it should be": Fate(
        "serves what it served before",
        "first",
        {},
        failing("pull", "check_shown"),
        {"reference": "Q8_0"},
    ),
}


@pytest.mark.parametrize("fate", _FATES.values(), ids=_FATES)
def test_a_host_whose_model_fails_is_said_to_serve_what_it_does(
    fate: Fate, make: Make, server: Server, hub: Hub, tmp_path: Path
) -> None:
    make(4096)
    first = make(8192)
    tasks = collections_path() / "ansible_collections/devstral/ollama/playbooks/tasks/model.yml"
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "tasks": [{"ansible.builtin.include_tasks": str(tasks)}],
    }
    (tmp_path / "play.yml").write_text(json.dumps([play]))
    wish = {
        "reference": QUANT,
        "name": MODEL,
        "registry": f"http://{hub.registry}",
        "context": 16384,
        **fate.wish,
    }
    variables = {
        "devstral_model": wish,
        "devstral_tools_path": sys.prefix,
        "devstral_model_host": server.url,
        "devstral_model_check": False,
        "devstral_model_prompt_tokens": 300,
        **fate.variables,
    }
    name = str(wish["name"])
    done = run_playbook(
        str(tmp_path / "play.yml"),
        place=tmp_path,
        variables={**variables, "devstral_name": name},
        environment=environment(tmp_path, hub, fate.meddler),
    )
    assert done.code != 0
    serving = next((each.name for each in history(server, name) if each.serving), "")
    new = serving if fate.serves == "new" else ""
    assert (serving == first.build) == (fate.serves == "first")
    told = fate.told.replace("FIRST", first.build).replace("NEW", new)
    assert done.failures()["localhost"].startswith(f"localhost {told}: "), done.output
