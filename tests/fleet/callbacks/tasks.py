"""A callback of Ansible that writes what each task did, one line of JSON each."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: tasks
type: aggregate
short_description: Writes what each task did
description: >-
  One line of JSON for each task of each host, in the file of DEVSTRAL_TASKS. Where
  DEVSTRAL_INTERRUPT has the end of a task's name, the run is interrupted as by Ctrl-C in its midst.
"""

_INTO_THE_TASK_SECONDS = 0.4


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """The callback."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "tasks"

    def __init__(self) -> None:
        super().__init__()
        self._interrupt = os.environ.get("DEVSTRAL_INTERRUPT")

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """A task begins."""
        if self._interrupt and task.get_name().endswith(self._interrupt):
            # A terminal interrupts a whole group of processes; that of the tests is another one.
            ours = (os.getpgid(0), signal.SIGINT)
            threading.Timer(_INTO_THE_TASK_SECONDS, os.killpg, ours).start()

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        """A handler begins."""
        self.v2_playbook_on_task_start(task, is_conditional=False)

    def _write(self, kind: str, result: Any) -> None:
        # Up to 2.18 these were nobody's business.
        answer, host, task = (
            getattr(result, name, None) or getattr(result, f"_{name}")
            for name in ("result", "host", "task")
        )
        line = {
            "kind": kind,
            "host": host.get_name(),
            "task": task.get_name(),
            "at": time.monotonic(),
            "changed": bool(answer.get("changed")),
            "message": str(answer.get("msg") or ""),
        }
        with open(os.environ["DEVSTRAL_TASKS"], "a", encoding="utf-8") as file:  # noqa: PTH123
            file.write(json.dumps(line) + "\n")

    def v2_runner_on_ok(self, result: Any) -> None:
        """A task is done."""
        self._write("ok", result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """A task failed."""
        self._write("ignored" if ignore_errors else "failed", result)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """A host was not reached."""
        self._write("unreachable", result)
