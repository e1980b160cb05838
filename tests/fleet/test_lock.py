"""Two runs at once: the second is told who is at work, and no lock outlives its run."""

from __future__ import annotations

import getpass
import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.fleet.fleet import Fleet
from tests.testbed.hosts import Host

LOCK = "/run/devstral-ollama.lock"
WAITS = """
- hosts: ollama
  gather_facts: false
  become: true
  tasks:
    - devstral.ollama.devstral_lock:
    - ansible.builtin.wait_for:
        timeout: "{{ seconds }}"
"""

pytestmark = pytest.mark.xdist_group("fleet")

Start = Callable[[int], subprocess.Popen[str]]


@pytest.fixture
def other(fleet: Fleet, tmp_path: Path) -> Iterator[Start]:
    """Start a run that has the second host to itself for so many seconds."""
    fleet.hosts.reset([fleet.hosts["gpu2"]])
    playbook = tmp_path / "waits.yml"
    playbook.write_text(WAITS)
    started: list[subprocess.Popen[str]] = []

    def start(seconds: int) -> subprocess.Popen[str]:
        process = fleet.start(
            str(playbook), "--limit", "gpu2", place=tmp_path, seconds=str(seconds)
        )
        started.append(process)
        within(20, lambda: lock(fleet.hosts["gpu2"]))
        return process

    yield start
    for each in started:
        each.kill()
        each.communicate()


def within(seconds: float, look: Callable[[], Any]) -> Any:
    """What is there at last."""
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, "it never came"
        time.sleep(0.1)
    return found


def lock(host: Host) -> dict[str, Any] | None:
    """Who has a host; None where nobody has."""
    text = host.run(f"cat {LOCK}", check=False).stdout
    found: dict[str, Any] | None = json.loads(text.splitlines()[2]) if text else None
    return found


def is_free(host: Host) -> bool:
    """Whether nobody has a host."""
    return lock(host) is None


def keepers(run: subprocess.Popen[str]) -> list[int]:
    """The processes beside a run that are left when it is killed."""
    command = ["pgrep", "--full", "--", re.escape(str(list(run.args)[1]))]  # type: ignore[arg-type]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    return [each for each in map(int, found.stdout.split()) if each != run.pid]


@pytest.mark.parametrize("playbook", ["site", "rollback"])
def test_a_second_run_is_told_who_is_at_work_and_changes_nothing(
    fleet: Fleet, other: Start, playbook: str
) -> None:
    first = other(300)
    second = fleet.play(playbook)
    assert second.code != 0
    assert set(second.failures()) == {"gpu2"}
    me = re.escape(f"{getpass.getuser()}@{socket.gethostname()}")
    assert re.fullmatch(
        rf"{me} is at work on this host since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d "
        rf"\(waits\.yml, process {first.pid} there\); nothing was changed: wait for the end of "
        r"that run, whose lock goes with it, within 120 seconds even where its machine went down",
        second.failures()["gpu2"],
    )
    # Neither is anything done on the hosts that nobody has, nor do they stay taken.
    assert second.changed() == []
    for name in ("gpu1", "gpu3"):
        within(10, partial(is_free, fleet.hosts[name]))
    assert first.poll() is None


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_lock_goes_with_its_run(fleet: Fleet, other: Start, end: signal.Signals) -> None:
    first = other(300)
    first.send_signal(end)
    first.wait(20)
    # At once: whoever interrupts a run and begins again does not meet himself.
    assert other(0).wait(30) == 0
    within(10, partial(is_free, fleet.hosts["gpu2"]))


def test_a_lock_of_another_machine_that_is_gone_ends_by_itself(fleet: Fleet, other: Start) -> None:
    host = fleet.hosts["gpu2"]
    first = other(300)
    before = lock(host)
    for pid in keepers(first):
        os.kill(pid, signal.SIGKILL)
    first.kill()
    first.wait()
    assert lock(host) == before is not None
    # Nobody here can know of a process of another machine.
    host.run(f'sed -i \'s/"machine": "[^"]*"/"machine": "elsewhere"/\' {LOCK}')
    again = fleet.play("rollback", "--limit", "gpu2")
    assert "is at work on this host" in again.failures()["gpu2"]
    # As if two minutes had gone by.
    host.run(f"sed -i 1s/.*/$(cut -d. -f1 /proc/uptime)/ {LOCK}")
    assert other(0).wait(30) == 0


def test_check_mode_takes_nothing_and_a_lock_is_renewed(fleet: Fleet, other: Start) -> None:
    host = fleet.hosts["gpu2"]
    other(300)
    before = host.run(f"head -1 {LOCK}").stdout
    assert fleet.play("site", "--check", "--limit", "gpu2").code == 0
    within(40, lambda: host.run(f"head -1 {LOCK}").stdout != before)
