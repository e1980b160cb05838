"""About a minute of what ``python -m tests.stress`` does for as long as one likes."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.stress.run import stress
from tests.testbed.hub import Hub
from tests.testbed.server import OllamaServer
from tests.testbed.until import end_with_parent


def test_many_processes_switch_one_name_and_nothing_is_lost(bed: OllamaServer, hub: Hub) -> None:
    found = stress(bed.url, hub.registry, switches=60, processes=4)
    figures = json.dumps(found.as_json(), indent=1, ensure_ascii=False)
    assert found.passed, "\n".join([figures, *found.counts.where.values()])
    done = found.counts.done
    assert done["switch"] + done["switch overtaken"] == 240, figures
    # What no actor did proves nothing.
    for what in ("create", "rollback", "prune", "history", "list", "show", "status"):
        assert done[what], figures


def sleep_on(path: str) -> None:
    """What a process does that nobody tells to stop."""
    end_with_parent()
    Path(path).write_text(str(os.getpid()))
    time.sleep(600)


def start_sleeper(path: str) -> None:
    """Starts such a process, as the processes of a stress run are started."""
    context = multiprocessing.get_context("spawn")
    context.Process(target=sleep_on, args=(path,), daemon=True).start()
    time.sleep(600)


def test_its_processes_end_with_it_however_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    code = f"from tests.stress.test_stress import start_sleeper; start_sleeper({str(path)!r})"
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2])
    try:
        waited_for(lambda: path.exists() and path.read_text() != "")
        child = int(path.read_text())
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    waited_for(lambda: not Path(f"/proc/{child}").exists())


def waited_for(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)
