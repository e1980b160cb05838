"""The Ansibles that ``requires_ansible`` promises: the lowest, and the newest on its own Python."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.fleet import controllers
from tests.fleet import fleet as running
from tests.fleet.fleet import COLLECTION, Fleet
from tests.fleet.test_scenarios import verify

pytestmark = [pytest.mark.xdist_group("fleet"), pytest.mark.long]


def test_the_lowest_ansible_that_is_tried_is_the_one_that_is_asked_for() -> None:
    runtime = yaml.safe_load((COLLECTION / "meta" / "runtime.yml").read_text())
    assert runtime["requires_ansible"] == f">={controllers.LOWEST}"
    minor = controllers.LOWEST.rpartition(".")[0]
    for role in (COLLECTION / "roles").iterdir():
        meta = yaml.safe_load((role / "meta" / "main.yml").read_text())
        assert meta["galaxy_info"]["min_ansible_version"] == minor
    assert f"'ansible-core>={minor}'" in (COLLECTION / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("controller", [controllers.lowest, controllers.newest])
def test_another_ansible_converges_a_host(
    fleet: Fleet,
    controller: Callable[[Path], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    only = ("--limit", "gpu1")
    fleet.hosts.reset([fleet.hosts["gpu1"]])
    # The collection is built by our own, and installed where the others find it too.
    running.collections_path()
    monkeypatch.setattr(running, "_BIN", controller(tmp_path))
    done = fleet.play("site", *only)
    assert done.code == 0, done.output
    verify(fleet.hosts, "gpu1")
    drift = fleet.play("drift", *only)
    assert drift.code == 0, drift.output
