"""What all drivers in Python share: the session, the caller's tools, and what came of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_SESSION = json.loads(Path(__file__).with_name("session.json").read_text(encoding="utf-8"))
SYSTEM: str = _SESSION["system"]
USERS: list[str] = _SESSION["users"]
TOOLS: list[dict[str, Any]] = _SESSION["tools"]
RESULTS: dict[str, str] = _SESSION["results"]


class Session:
    """One conversation with one model: what the tools were called with, and the answers."""

    def __init__(self, base: str, model: str, stream: bool, options: list[str]) -> None:
        self.base = base
        self.model = model
        self.stream = stream
        self.options = options
        self.calls: list[tuple[str, Any]] = []
        self.answers: list[str | None] = []
        self.error = ""

    def use(self, name: str, arguments: object) -> str:
        """The caller's side of a tool call."""
        if isinstance(arguments, str):
            arguments = json.loads(arguments)
        self.calls.append((name, arguments))
        return RESULTS[name]

    @property
    def report(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "stream": self.stream,
            "calls": self.calls,
            "answers": self.answers,
            "error": self.error,
        }


def drive(converse: Callable[[Session], None], ways: tuple[bool, ...] = (False, True)) -> None:
    """Holds a session with each model that the command line names, plain and streamed.

    Arguments of the command line: the server's URL, models by comma, options of the driver.
    """
    base, models, *options = sys.argv[1:]
    reports = []
    for model in models.split(","):
        for stream in ways:
            session = Session(base, model, stream, options)
            try:
                converse(session)
            except Exception as error:
                # Told with the session; others go on.
                session.error = f"{type(error).__name__}: {error}"
            reports.append(session.report)
    # What a client prints by itself stands on lines of its own.
    print("\n" + json.dumps(reports), flush=True)
