"""The context that fits, and what cannot fit, on a real server."""

from __future__ import annotations

import json

import pytest

from ollama_tools.errors import UsageError
from ollama_tools.model.apply import apply
from ollama_tools.model.ensure import plan_for
from ollama_tools.model.plan import Plan
from ollama_tools.model.status import model_status
from ollama_tools.model.steps import Policy
from ollama_tools.server.client import Server
from ollama_tools.wanted.wish import Wish
from tests.live.test_create import NAME, QUANT, Heard, hub, run_here
from tests.testbed.hub import Hub

__all__ = ["hub"]

pytestmark = pytest.mark.usefixtures("hub")


def wish(vram: str | None, **options: object) -> Wish:
    said = {"context": "auto", "system": "bundled", **options}
    return Wish(reference=QUANT, vram=vram, **said)  # type: ignore[arg-type]


def plan(server: Server, vram: str | None, policy: Policy | None = None, **options: object) -> Plan:
    return plan_for(server, wish(vram, **options), policy or Policy(check=False), Heard())


def test_auto_takes_what_fits_and_keeps_it(server: Server) -> None:
    heard = Heard()
    planned = plan_for(server, wish("20GiB"), Policy(check=False), heard)
    # The server of the test bed has a KV cache of f16.
    assert planned.as_json()["context"] == 32768
    assert any(each.startswith(f"a context of 32768 for {NAME}: the ") for each in heard.steps)
    made = apply(plan(server, "22GiB"), server, heard)
    assert 32768 < made.context < 65536
    assert any(f"{NAME} takes" in each for each in heard.steps)

    # A larger card, or none that is known, is no reason to build anew.
    for vram in ("80GiB", "40GiB,40GiB", None):
        assert plan(server, vram).steps == ()
    assert not model_status(server, wish("80GiB")).drifted
    status = model_status(server, wish("20GiB"))
    assert ("parameter num_ctx", "32768") in [
        (each.field, each.wanted) for each in status.differences
    ]
    assert plan(server, None, context=None).as_json()["context"] == 32768


def test_what_cannot_fit_is_refused_before_anything_is_brought(server: Server) -> None:
    with pytest.raises(UsageError, match="does not fit") as caught:
        plan(server, "16GiB")
    assert "devstral-ollama fit --vram 16.0GiB" in caught.value.fix
    for policy in (Policy(check=False, force=True), Policy(check=False, require_gpu=False)):
        planned = plan(server, "16GiB", policy)
        assert planned.needs is not None
        assert not planned.needs.as_json()["memory"]["fits"]


def test_the_command_line_says_what_a_build_takes(server: Server, hub: Hub) -> None:
    command = ("create", QUANT, "--context", "auto", "--vram", "24GiB", "--dry-run")
    document = json.loads(run_here(*command, "--json", server=server.url, hub=hub).stdout)
    needs = document["needs"]
    assert (document["context"], needs["memory"]["context"]) == (58368, 58368)
    assert needs["memory"]["total_bytes"] <= needs["room_bytes"]
    done = run_here(*command, server=server.url, hub=hub)
    assert "of the 22.5 GiB that a card of 24.0 GiB leaves for it" in done.stdout
    assert "a context of 58368 for" in done.stderr
    done = run_here(*command, "--vram", "2", server=server.url, hub=hub)
    assert done.returncode == 2
    assert "does not fit" in done.stderr


def test_nothing_is_left_to_what_fits_where_no_server_is_asked() -> None:
    done = run_here("render", QUANT, "--context", "auto", server="127.0.0.1:9")
    assert done.returncode == 2
    assert "no server is asked here" in done.stderr
