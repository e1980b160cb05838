"""A proxy on loopback that writes down what a client asks of a server."""

from __future__ import annotations

import http.client
import json
import sys
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, ClassVar, Self
from urllib.parse import urlsplit

_OWN = frozenset({"connection", "keep-alive", "transfer-encoding", "host"})
_PATIENCE = 120.0


@dataclass(frozen=True)
class Exchange:
    """A request with a body, and how it was answered.

    Attributes:
        path: Where it went.
        body: Its JSON.
        status: The status of the answer.
    """

    path: str
    body: dict[str, Any]
    status: int


class Recorder:
    """A reverse proxy in front of a server; use it as a context manager.

    It also stands in for the proxy of the wide world, where it refuses everything: what a client
    wants of other hosts is kept in ``strays``.

    Args:
        upstream: The server's URL.

    Attributes:
        exchanges: The requests with a body, in the order in which their answers began.
        strays: Hosts that the client tried to reach.
    """

    def __init__(self, upstream: str) -> None:
        self.exchanges: list[Exchange] = []
        self.strays: list[str] = []
        host = urlsplit(upstream)

        class Handler(_Handler):
            recorder = self
            upstream = (host.hostname or "127.0.0.1", host.port or 80)

        self._server = _QuietServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        """Where clients are to go."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing of a client that leaves without a word; other errors go on."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    recorder: ClassVar[Recorder]
    upstream: ClassVar[tuple[str, int]]
    protocol_version = "HTTP/1.1"

    def do_CONNECT(self) -> None:
        self._refuse(self.path)

    def do_GET(self) -> None:
        self._pass_on()

    def do_HEAD(self) -> None:
        self._pass_on()

    def do_POST(self) -> None:
        self._pass_on()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
        """Says nothing."""

    def _refuse(self, target: str) -> None:
        self.recorder.strays.append(target)
        self.close_connection = True
        self.send_error(403)

    def _pass_on(self) -> None:
        if not self.path.startswith("/"):
            self._refuse(self.path)
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        connection = http.client.HTTPConnection(*self.upstream, timeout=_PATIENCE)
        try:
            headers = {key: value for key, value in self.headers.items() if key.lower() not in _OWN}
            connection.request(self.command, self.path, body or None, headers)
            answer = connection.getresponse()
            if self.command == "POST":
                path = urlsplit(self.path).path
                self.recorder.exchanges.append(Exchange(path, json.loads(body), answer.status))
            self._answer(answer)
        except (OSError, http.client.HTTPException):
            # A client that went away, or a server: the other side has to see the same.
            self.close_connection = True
        finally:
            connection.close()

    def _answer(self, answer: http.client.HTTPResponse) -> None:
        self.send_response_only(answer.status, answer.reason)
        for key, value in answer.getheaders():
            if key.lower() not in _OWN:
                self.send_header(key, value)
        # Pieces go on as they come; a stream that breaks off has to look like one.
        pieces = answer.getheader("Content-Length") is None and self.command != "HEAD"
        if pieces:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while data := answer.read1(65536):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data) if pieces else data)
            self.wfile.flush()
        if pieces:
            self.wfile.write(b"0\r\n\r\n")
