"""A callback of Ansible that writes what each task did, one line of JSON each."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: tasks
type: aggregate
short_description: Writes what each task did
description: One line of JSON for each task of each host, in the file of DEVSTRAL_TASKS.
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """The callback."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "tasks"

    def _write(self, kind: str, result: Any) -> None:
        answer = result.result
        line = {
            "kind": kind,
            "host": result.host.get_name(),
            "task": result.task.get_name(),
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
