"""What the hosts of a fleet serve, beside one another."""

from __future__ import annotations

from typing import Any

import pytest

from ollama_tools.checks.fleet import unlike_peers


def seen(**changes: Any) -> dict[str, Any]:
    """What a host was asked for and serves."""
    return {
        "asked": {"reference": "UD-Q4_K_XL", "context": 32768},
        "version": "0.34.4",
        "build": "devstral:agent-aaaaaaaaaaaa",
        "weights": "sha256:aa",
        "problems": [],
        **changes,
    }


def test_hosts_that_serve_the_same_are_alike() -> None:
    assert unlike_peers({"gpu1": seen(), "gpu2": seen()}) == {}


def test_other_weights_are_told_before_the_build_that_they_make() -> None:
    other = seen(weights="sha256:bb", build="devstral:agent-bbbbbbbbbbbb")
    assert unlike_peers({"gpu1": seen(), "gpu2": other, "gpu3": seen()}) == {
        "gpu2": ["weights: sha256:bb instead of sha256:aa as on gpu1"]
    }


def test_another_build_of_the_same_weights_is_told() -> None:
    other = seen(build="devstral:agent-bbbbbbbbbbbb")
    assert unlike_peers({"gpu1": seen(), "gpu2": other}) == {
        "gpu2": [
            "build: devstral:agent-bbbbbbbbbbbb instead of devstral:agent-aaaaaaaaaaaa as on gpu1"
        ]
    }


@pytest.mark.parametrize(
    "why",
    [
        {"asked": {"reference": "Q8_0", "context": 32768}},
        {"version": "0.24.0"},
        {"problems": ["parameter num_ctx: 4096 instead of 32768"]},
    ],
)
def test_hosts_that_need_not_be_alike_are_not_compared(why: dict[str, Any]) -> None:
    assert unlike_peers({"gpu1": seen(), "gpu2": seen(weights="sha256:bb", **why)}) == {}


def test_a_host_that_said_nothing_is_no_measure_for_others() -> None:
    silent = {"asked": None, "version": None, "build": None, "weights": None, "problems": ["away"]}
    hosts = {"gpu1": silent, "gpu2": seen(), "gpu3": seen(weights="sha256:bb")}
    assert list(unlike_peers(hosts)) == ["gpu3"]
