"""A web server for files that the hosts fetch: archives, wheels."""

from __future__ import annotations

import html
import shutil
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote, unquote, urlsplit


class FileServer:
    """Serves single files under names of one's choice; use it as a context manager.

    A path that ends in a slash is answered with links to what lies right below it, so that
    ``pip install --find-links`` can be pointed there.

    Args:
        address: Address to listen on.
        name: What clients call this machine; the address when None.
    """

    def __init__(self, address: str = "127.0.0.1", *, name: str | None = None) -> None:
        self._address = address
        self._name = name or address
        self._files: dict[str, Path] = {}
        self._requests: list[str] = []
        self._server: ThreadingHTTPServer | None = None
        self._port = 0

    def __enter__(self) -> Self:
        files, requests = self._files, self._requests

        class Handler(_Handler):
            served = files
            log = requests

        self._server = ThreadingHTTPServer((self._address, 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._port = self._server.server_address[1]
        serve = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="testbed files", daemon=True
        )
        serve.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    @property
    def url(self) -> str:
        """``http://NAME:PORT``, without a slash at its end."""
        return f"http://{self._name}:{self._port}"

    @property
    def requests(self) -> list[str]:
        """Paths that were asked for with GET so far, oldest first; a copy."""
        return list(self._requests)

    def forget(self) -> None:
        """Empties the log of requests."""
        self._requests.clear()

    def add(self, name: str, path: Path) -> str:
        """Serves a file from now on.

        Args:
            name: Path to serve it under, without a slash at its beginning.
            path: The file.

        Returns:
            Its URL.
        """
        self._files[name] = path
        return f"{self.url}/{quote(name)}"

    def remove(self, name: str) -> None:
        """Stops serving a file; it is answered with 404 from now on."""
        del self._files[name]


class _Handler(BaseHTTPRequestHandler):
    served: Mapping[str, Path]
    log: list[str]
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Says nothing: the log is :attr:`FileServer.requests`."""

    def do_GET(self) -> None:
        self.log.append(urlsplit(self.path).path)
        self._serve()

    def do_HEAD(self) -> None:
        self._serve()

    def _serve(self) -> None:
        name = unquote(urlsplit(self.path).path).removeprefix("/")
        path = self.served.get(name)
        if path is not None:
            self._begin(200, "application/octet-stream", path.stat().st_size)
            if self.command == "GET":
                with path.open("rb") as content:
                    shutil.copyfileobj(content, self.wfile)
            return
        below = sorted(
            {
                inside.removeprefix(name).partition("/")[0]
                for inside in list(self.served)
                if inside.startswith(name)
            }
        )
        found = bool(below) and (not name or name.endswith("/"))
        links = "".join(f'<a href="{quote(x)}">{html.escape(x)}</a><br>\n' for x in below)
        body = links.encode() if found else b"not found\n"
        self._begin(200 if found else 404, "text/html", len(body))
        if self.command == "GET":
            self.wfile.write(body)

    def _begin(self, status: int, kind: str, size: int) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(size))
        self.end_headers()
