"""A gateway of our own before a server."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, ClassVar

import uvicorn

from ollama_tools.devstral.carriers import jinja_template
from ollama_tools.devstral.catalog import TokenizerVersion
from ollama_tools.devstral.miniature import Script, write_miniature
from ollama_tools.gateway.app import Gateway
from ollama_tools.gateway.heads import BoundedHead
from ollama_tools.gateway.settings import GatewaySettings
from ollama_tools.gateway.watch import Watch
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


def write_endless(path: Path) -> None:
    """A model that only ends where it is told to, or nobody listens any more."""
    write_miniature(
        path,
        layers=1,
        heads=1,
        kv_heads=1,
        chat_template=jinja_template(TokenizerVersion.V13),
        script=Script(endless=True),
    )


@contextmanager
def gateway_in_thread(upstream: str, lines: list[str], **settings: Any) -> Iterator[str]:
    """A gateway in this process.

    Args:
        upstream: Base URL of the server behind it.
        lines: Gets what it logs.
        settings: Its other settings.

    Yields:
        Its base URL.
    """
    made = GatewaySettings(upstream=upstream, **settings)
    config = uvicorn.Config(
        Gateway(made, Watch(lines.append)),
        http=BoundedHead,
        log_level="critical",
        lifespan="on",
        access_log=False,
    )
    server = uvicorn.Server(config)
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join()
