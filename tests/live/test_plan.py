"""What a plan says is what runs: dry run and real run, step by step, over the situations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ollama_tools import Outcome
from ollama_tools.errors import CheckFailed, ServerError
from ollama_tools.model.apply import apply
from ollama_tools.model.ensure import plan_for
from ollama_tools.model.plan import Plan
from ollama_tools.model.steps import Policy
from ollama_tools.progress import Silence
from ollama_tools.server.client import Server
from ollama_tools.wanted.wish import Wish
from tests.live.test_create import (
    NAME,
    QUANT,
    REPOSITORY,
    Heard,
    Requests,
    broken,
    broken_hub,
    hub,
    model_names,
    run_here,
    unloaded,
)
from tests.testbed.hub import Hub
from tests.testbed.models import changed
from tests.testbed.server import OllamaServer

__all__ = ["broken", "broken_hub", "hub", "unloaded"]

UNCHECKED = Policy(check=False)


def plan(server: Server, policy: Policy = UNCHECKED, reference: str = QUANT, **wish: Any) -> Plan:
    options = {"context": 4096, "via": "upload", "system": "bundled", **wish}
    return plan_for(server, Wish(reference=reference, **options), policy, Silence())


def make(server: Server, policy: Policy = UNCHECKED, **wish: Any) -> Outcome:
    return apply(plan(server, policy, **wish), server, Silence())


def by_hand(server: Server) -> None:
    make(server)
    server.create({"model": NAME, "from": NAME, "system": "Be rude."}, lambda *_: None)


def with_three_builds(server: Server) -> None:
    for context in (8192, 16384, 4096):
        make(server, context=context)


def with_a_standing_build(server: Server) -> None:
    make(server)
    make(server, context=8192)


def overwritten(server: Server) -> None:
    made = make(server)
    edit = {"model": made.build, "from": made.build, "parameters": {"temperature": 1.5}}
    server.create(edit, lambda *_: None)
    server.copy(made.build, NAME)


def orphaned(server: Server) -> None:
    make(server)
    server.delete(NAME)


Situation = tuple[Callable[[Server], Any], dict[str, Any], Policy, list[str]]
SITUATIONS: dict[str, Situation] = {
    "an empty server": (
        lambda _: None,
        {},
        UNCHECKED,
        ["+ bring", "+ build", "? compare", "+ keep", "+ switch"],
    ),
    "nothing to do": (make, {}, UNCHECKED, []),
    "another context": (
        make,
        {"context": 8192},
        UNCHECKED,
        ["= bring", "+ build", "? compare", "+ keep", "~ switch"],
    ),
    "another carrier": (
        make,
        {"carrier": "modelfile"},
        UNCHECKED,
        ["+ bring", "+ build", "+ keep", "~ switch"],
    ),
    "a standing build": (
        with_a_standing_build,
        {},
        UNCHECKED,
        ["= build", "? compare", "~ switch"],
    ),
    "a model made by hand": (by_hand, {}, UNCHECKED, ["= build", "? compare", "~ switch"]),
    "a build that was overwritten": (
        overwritten,
        {},
        UNCHECKED,
        ["= bring", "+ build", "? compare", "+ keep", "~ switch"],
    ),
    "a build without its public name": (
        orphaned,
        {},
        UNCHECKED,
        ["= build", "? compare", "+ switch"],
    ),
    "by force": (
        make,
        {},
        Policy(check=False, force=True),
        ["= bring", "+ build", "? compare", "+ keep", "~ switch"],
    ),
    "one build too many": (
        with_three_builds,
        {},
        Policy(check=False, keep=2),
        ["- remove"],
    ),
    "one build too many afterwards": (
        with_three_builds,
        {"context": 32768},
        Policy(check=False, keep=2),
        ["= bring", "+ build", "? compare", "+ keep", "~ switch", "- remove"],
    ),
    "by force, with one build too many": (
        with_three_builds,
        {},
        Policy(check=False, force=True, keep=2),
        ["= bring", "+ build", "? compare", "+ keep", "~ switch", "- remove"],
    ),
    "an overwritten build, and one may stay": (
        overwritten,
        {},
        Policy(check=False, keep=1),
        ["= bring", "+ build", "? compare", "+ keep", "~ switch", "- remove"],
    ),
    "a model made by hand that is over what shall stay": (
        by_hand,
        {},
        Policy(check=False, keep=1),
        ["= build", "? compare", "~ switch", "- remove"],
    ),
}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_what_is_planned_is_what_runs(
    server: Server, hub: Hub, bed: OllamaServer, situation: str
) -> None:
    prepare, wish, policy, kinds = SITUATIONS[situation]
    prepare(server)
    before = {each.name: each.digest for each in server.models()}

    seen = Requests(bed)
    planned = plan(server, policy, **wish)
    dry = [each for each in seen.so_far() if each.startswith(("POST", "PUT", "DELETE"))]
    assert set(dry) <= {"POST /api/show"}
    assert {each.name: each.digest for each in server.models()} == before
    assert [f"{each.sign} {each.kind.value}" for each in planned.steps] == kinds

    heard = Heard()
    outcome = apply(planned, server, heard)
    texts = [each.text for each in planned.steps]
    assert [each for each in heard.steps if each in texts] == texts
    assert list(outcome.steps) == [str(each) for each in planned.steps]
    assert list(outcome.steps) == [
        f"{each['sign']} {each['text']}" for each in planned.as_json()["steps"]
    ]
    assert outcome.changed == bool(kinds)
    assert outcome.removed == planned.removed
    assert outcome.previous == planned.compared.previous

    current = server.model(NAME)
    assert current is not None
    assert outcome.digest == current.digest
    assert outcome.build in model_names(server)
    assert not plan(server, **wish).steps


@pytest.mark.parametrize(
    ("wish", "force", "fewer"),
    [({}, True, True), ({"context": 32768}, False, False), ({"context": 32768}, True, False)],
    ids=["the same by force", "another", "another by force"],
)
@pytest.mark.parametrize("knows", [True, False], ids=["a mirror", "a mirror that does not answer"])
def test_what_is_promised_to_go_after_a_pull_is_true(
    server: Server, hub: Hub, knows: bool, wish: dict[str, Any], force: bool, fewer: bool
) -> None:
    pull: dict[str, Any] = {"via": "server", "registry": hub.registry, "carrier": "modelfile"}
    for context in (8192, 16384, 4096):
        make(server, context=context, **pull)
    if not knows:
        hub.fail("/v2/", status=500, times=1)
    planned = plan(server, Policy(check=False, force=force, keep=2), **pull, **wish)
    assert planned.at_most == planned.as_json()["removed_at_most"] == (fewer and not knows)
    outcome = apply(planned, server, Silence())
    assert planned.steps[-1].text in "\n".join(outcome.steps)
    if planned.at_most:
        assert "at most" in planned.steps[-1].text
        assert set(outcome.removed) < set(planned.removed)
    else:
        assert outcome.removed == planned.removed


def test_a_build_of_an_earlier_version_is_told_by_its_new_name(server: Server, hub: Hub) -> None:
    made = make(server)
    unchanged = plan(server).compared.unchanged
    assert unchanged is not None
    (earlier, *_) = unchanged.earlier_builds((made.weights or "",))
    server.copy(made.build, earlier)
    server.delete(made.build)
    planned = plan(server)
    assert [f"{each.sign} {each.kind.value}" for each in planned.steps] == ["~ build"]
    outcome = apply(planned, server, Silence())
    assert planned.compared.previous == outcome.previous == outcome.build == made.build


def test_a_dry_run_speaks_of_no_download_where_a_build_stands(
    server: Server, hub: Hub, bed: OllamaServer
) -> None:
    with_a_standing_build(server)
    hub.forget()
    arguments = ["--context", "4096", "--via", "upload", "--system", "bundled", "--dry-run"]
    done = run_here("create", QUANT, *arguments, server=bed.url, hub=hub)
    assert done.returncode == 0
    assert "GiB" not in done.stdout
    assert "= use the build" in done.stdout
    assert "~ switch" in done.stdout
    assert hub.requests == []


def test_steps_of_a_carrier_that_is_not_taken_are_in_the_outcome(
    server: Server, hub: Hub, broken: Hub
) -> None:
    wish = Wish(
        reference=QUANT, context=4096, via="server", registry=broken.registry, system="bundled"
    )
    planned = plan_for(server, wish, UNCHECKED, Silence())
    outcome = apply(planned, server, Silence())
    assert outcome.carrier == "modelfile"
    told = list(outcome.steps)
    assert [each for each in map(str, planned.steps) if each in told] == [
        str(each) for each in planned.steps
    ]
    assert sum(each.startswith("+ create") for each in told) == 2
    assert model_names(server) == sorted([NAME, outcome.build])


def test_a_failure_before_the_switch_says_that_the_name_serves_as_before(
    server: Server, hub: Hub
) -> None:
    first = make(server)
    policy = Policy(prompt_tokens=300)
    with pytest.raises(CheckFailed, match=f"{NAME} serves as before"):
        make(server, policy, context=1024, system="")
    current = server.model(NAME)
    assert current is not None
    assert current.digest == first.digest


def test_a_failure_after_the_switch_is_said_as_that(
    server: Server, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make(server)
    real = Server.delete

    def refuse(self: Server, name: str) -> None:
        if name == first.build:
            raise ServerError("the disk is read-only")
        real(self, name)

    with monkeypatch.context() as patch:
        patch.setattr(Server, "delete", refuse)
        with pytest.raises(ServerError) as caught:
            make(server, Policy(check=False, keep=1), context=8192)
    assert "stands for" in caught.value.what
    assert "as before" not in caught.value.what
    assert server.show(NAME).context == 8192
    assert make(server, Policy(check=False, keep=1), context=8192).removed == (first.build,)


def unloading(planned: Plan) -> list[tuple[str, str]]:
    """The steps that speak of unloading, each with what it says."""
    return [
        (each.kind, each.text.partition("; the server unloads ")[2])
        for each in planned.steps
        if "unloads" in each.text
    ]


def load(server: Server) -> None:
    server.chat({"model": NAME, "messages": [{"role": "user", "content": "Hi"}]})


@pytest.mark.parametrize("check", [True, False])
def test_what_is_on_the_same_weights_is_said_to_be_unloaded_and_is(
    server: Server, hub: Hub, check: bool
) -> None:
    policy = Policy(check=check, prompt_tokens=300)
    digest = make(server).digest
    load(server)
    assert digest in [each.digest for each in server.running()]
    planned = plan(server, policy, context=8192)
    # The first that asks the build something, whether it is checked or not.
    assert unloading(planned) == [("compare", f"{NAME} for it, since both are on the same weights")]
    apply(planned, server, Silence())
    assert digest not in [each.digest for each in server.running()]


def test_what_only_memory_decides_about_is_said_as_that(server: Server, hub: Hub) -> None:
    make(server)
    load(server)
    other: dict[str, Any] = {"reference": "UD-IQ1_S", "carrier": "modelfile"}
    planned = plan(server, Policy(prompt_tokens=300), **other)
    assert unloading(planned) == [
        (
            "check",
            f"{NAME} for it where it is on the same weights, or its memory cannot hold both, "
            "which only the server knows",
        )
    ]
    make(server, **other)
    planned = plan(server, Policy(prompt_tokens=300), context=8192, **other)
    assert [words.partition(" where ")[2] for _, words in unloading(planned)] == [
        "its memory cannot hold both, which only the server knows"
    ]


def test_an_engine_that_is_used_on_is_not_said_to_be_unloaded(server: Server, hub: Hub) -> None:
    make(server)
    load(server)
    assert unloading(plan(server, parameters={"temperature": 0.7})) == []


def test_an_upgrade_is_planned_as_a_download(server: Server, hub: Hub) -> None:
    make(server)
    hub.publish(changed(hub.newest(REPOSITORY).repository, QUANT))
    planned = plan(server, Policy(check=False, upgrade=True))
    assert planned.steps[0].text.startswith("download ")
    assert apply(planned, server, Silence()).changed


def test_a_file_that_the_server_has_is_not_sent(server: Server, hub: Hub, tmp_path: Path) -> None:
    content = hub.newest(REPOSITORY).repository.files[f"Devstral-Small-2507-{QUANT}.gguf"]
    path = tmp_path / "devstral-2507-tune.gguf"
    with content.open() as file:
        path.write_bytes(file.read())
    planned = plan(server, reference=str(path), name="first")
    assert planned.steps[0].text.startswith("upload ")
    apply(planned, server, Silence())
    again = plan(server, reference=str(path), name="second")
    assert again.steps[0].text.startswith("use the weights of ")
    apply(again, server, Silence())
