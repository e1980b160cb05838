"""A gateway of our own before a server."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from tests.testbed.server import Served


class GatewayServer(Served):
    """A running gateway; use it as a context manager.

    Args:
        upstream: Base URL of the server behind it.
        options: Further options of the command.
        log_path: File that takes stdout and stderr.
        env: Variables on top of the isolated environment.
    """

    HEALTH: ClassVar[str] = "/ready"
    TAKEN: ClassVar[str] = "cannot be listened on"

    def __init__(
        self,
        upstream: str,
        *options: str | Path,
        log_path: Path,
        env: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__("gateway", log_path=log_path, env=env)
        self._upstream = upstream
        self._options = options

    def _command(self) -> list[str | Path]:
        return [
            sys.executable,
            "-m",
            "ollama_tools",
            "gateway",
            "--upstream",
            self._upstream,
            "--listen",
            self.host,
            *self._options,
        ]
