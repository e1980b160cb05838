"""A stand-in for the Hugging Face hub and its registry, on one port of this machine.

Three faces on one threaded server:

* ``/v2/...``: the registry that ``ollama pull 127.0.0.1:PORT/OWNER/NAME:QUANT`` asks. A blob is
  answered with a redirect to another *host name* (``localhost``), as Ollama demands.
* ``/api/models/...`` and ``/OWNER/NAME/resolve/...``: what huggingface_hub asks when
  ``HF_ENDPOINT`` names this server. Large files redirect to ``/lfs/...``, as the real hub's do.
* ``/blobs/...`` and ``/lfs/...``: the bytes themselves, with ranges.

Tests make it fail with :meth:`Hub.fail` and look at what was asked in :attr:`Hub.requests`.
:meth:`Hub.publish` puts another commit on top of a repository, as its owner would; the older ones
can be asked for by their forty digits until :meth:`Hub.withdraw`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from tests.testbed.history import UPLOAD, Commit, History
from tests.testbed.hub_routes import NotFoundError, Reply, Router
from tests.testbed.repository import Content, Repository

_CHUNK = 256 * 1024


@dataclass(frozen=True)
class Request:
    """One request as it came in.

    Attributes:
        method: ``GET``, ``HEAD`` or ``POST``.
        path: Path without the query.
        query: The query without its question mark.
        range: Value of the ``Range`` header, or None.
        headers: All headers by lower-case name, ``authorization`` left out.
        authorized: Whether there was an ``Authorization`` header.
    """

    method: str
    path: str
    query: str
    range: str | None
    headers: Mapping[str, str]
    authorized: bool


@dataclass
class Fault:
    """What goes wrong for paths that start with a prefix; see :meth:`Hub.fail`."""

    prefix: str
    status: int | None = None
    retry_after: int | None = None
    cut_after: int | None = None
    bytes_per_second: int | None = None
    corrupt: bool = False
    times: int | None = None


@dataclass
class _State:
    router: Router
    token: str | None
    port: int
    bytes_name: str
    requests: list[Request] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    closing: threading.Event = field(default_factory=threading.Event)


class Hub:
    """The stand-in; use it as a context manager.

    Args:
        repositories: What it holds at first, one commit of each.
        token: When given, hub and registry answer 401 to requests without it as bearer token.
        port: Port to listen on; 0 takes a free one.
        address: Address to listen on.
        name: What clients call this machine; the address when None.
        bytes_name: What redirects call it; has to be another name.
    """

    def __init__(
        self,
        repositories: Iterable[Repository],
        *,
        token: str | None = None,
        port: int = 0,
        address: str = "127.0.0.1",
        name: str | None = None,
        bytes_name: str = "localhost",
    ) -> None:
        self._history = History(repositories)
        self._state = _State(Router(self._history), token, port, bytes_name)
        self._first_token = token
        self._address = address
        self._name = name or address
        self._server: ThreadingHTTPServer | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def registry(self) -> str:
        """``NAME:PORT``, the first part of a model's name for ``ollama pull``."""
        return f"{self._name}:{self._state.port}"

    @property
    def endpoint(self) -> str:
        """Value for ``HF_ENDPOINT``."""
        return f"http://{self.registry}"

    @property
    def requests(self) -> list[Request]:
        """What was asked so far, oldest first; a copy."""
        with self._state.lock:
            return list(self._state.requests)

    @property
    def token(self) -> str | None:
        """The bearer token that is asked for; may be set at any time."""
        return self._state.token

    @token.setter
    def token(self, token: str | None) -> None:
        self._state.token = token

    def newest(self, name: str) -> Commit:
        """The commit that ``main`` means now; its repository is what to make the next one of.

        Args:
            name: ``OWNER/NAME``.

        Raises:
            ValueError: When there is no such repository.
        """
        line = self._history.line(name)
        if not line:
            raise ValueError(f"no repository {name}")
        return line[0]

    def publish(
        self, repository: Repository, *, message: str = UPLOAD, date: datetime | None = None
    ) -> Commit:
        """Puts a commit on top of the repository of that name, or makes the repository.

        From now on ``main`` and the registry's tags mean this one. Older commits are still served
        to those who ask for their forty digits, and their blobs by digest.

        Args:
            repository: All files from now on.
            message: What was done; the first line is the title.
            date: When, with its time zone; None means a day after the commit before.

        Returns:
            The new commit.

        Raises:
            ValueError: When ``date`` has no time zone.
        """
        return self._history.publish(repository, message, date)

    def withdraw(self, name: str, commit: str) -> None:
        """Makes a commit unknown, as if the repository's owner had rewritten its history.

        Blobs and links that no other commit has are gone with it. ``main`` falls back to the
        commit before where it was the newest.

        Args:
            name: ``OWNER/NAME``.
            commit: Its forty digits.

        Raises:
            ValueError: When there is no such commit, or no other one.
        """
        self._history.withdraw(name, commit)

    def fail(
        self,
        prefix: str,
        *,
        status: int | None = None,
        retry_after: int | None = None,
        cut_after: int | None = None,
        bytes_per_second: int | None = None,
        corrupt: bool = False,
        times: int | None = None,
    ) -> None:
        """Makes requests go wrong from now on; the newest fault that fits a path counts.

        Args:
            prefix: Beginning of the paths it is for: ``/v2/``, ``/blobs/``, ``/lfs/``, ``/api/``,
                ``/unsloth/...``, or ``/`` for all.
            status: Answer with this code (401, 403, 404, 429, 500 ...).
            retry_after: ``Retry-After`` of that answer, in seconds.
            cut_after: Close the connection after so many bytes of a GET's body.
            bytes_per_second: Send bodies no faster than this.
            corrupt: Send the right number of bytes with the last one of the file wrong.
            times: Number of requests it applies to; None means until :meth:`heal`.
        """
        fault = Fault(prefix, status, retry_after, cut_after, bytes_per_second, corrupt, times)
        with self._state.lock:
            self._state.faults.append(fault)

    def heal(self) -> None:
        """Removes all faults."""
        with self._state.lock:
            self._state.faults.clear()

    def forget(self) -> None:
        """Empties the log of requests."""
        with self._state.lock:
            self._state.requests.clear()

    def reset(self) -> None:
        """Puts all back to how it began: commits and token, no faults, an empty log."""
        self._history.reset()
        self.token = self._first_token
        self.heal()
        self.forget()

    def start(self) -> None:
        """Starts to serve.

        Raises:
            OSError: When the port is taken.
        """
        state = self._state

        class Handler(_Handler):
            bed = state

        self._state.closing.clear()
        self._server = ThreadingHTTPServer((self._address, self._state.port), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._state.port = self._server.server_address[1]
        serve = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="testbed hub", daemon=True
        )
        serve.start()

    def stop(self) -> None:
        """Stops serving; transfers under way are cut."""
        if self._server is not None:
            self._state.closing.set()
            self._server.shutdown()
            self._server.server_close()
            self._server = None


class _Handler(BaseHTTPRequestHandler):
    bed: _State
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Says nothing: the log is :attr:`Hub.requests`."""

    def do_GET(self) -> None:
        self._serve()

    def do_HEAD(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        self._record(url.path, url.query)
        fault = self._fault(url.path)
        if fault and fault.status:
            retry = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
            self._send(Reply.failure(fault.status, retry), None)
            return
        if not self._may_enter(url.path):
            self._send(Reply.failure(401), fault)
            return
        host = f"{self.bed.bytes_name}:{self.bed.port}"
        kind = self.headers.get("Content-Type", "")
        try:
            reply = self.bed.router.route(url.path, url.query, body, kind, bytes_host=host)
        except NotFoundError as error:
            reply = Reply.failure(404, {"X-Error-Code": error.code, "X-Error-Message": str(error)})
        try:
            self._send(reply, fault)
        except OSError:
            self.close_connection = True

    def _record(self, path: str, query: str) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        authorized = headers.pop("authorization", None) is not None
        request = Request(self.command, path, query, headers.get("range"), headers, authorized)
        with self.bed.lock:
            self.bed.requests.append(request)

    def _fault(self, path: str) -> Fault | None:
        with self.bed.lock:
            for fault in reversed(self.bed.faults):
                applies = path.startswith(fault.prefix) and fault.times != 0
                # A connection can only be cut where there is something to send.
                if applies and (fault.cut_after is None or self.command == "GET"):
                    if fault.times is not None:
                        fault.times -= 1
                    return fault
        return None

    def _may_enter(self, path: str) -> bool:
        token = self.bed.token
        # Signed links carry their own right on the real hub.
        if token is None or path.startswith(("/lfs/", "/blobs/")):
            return True
        return self.headers.get("Authorization") == f"Bearer {token}"

    def _send(self, reply: Reply, fault: Fault | None) -> None:
        first, last = 0, reply.content.size - 1
        status = reply.status
        headers = dict(reply.headers)
        wanted = self.headers.get("Range")
        if reply.ranges and wanted and status == 200:
            span = _parse_range(wanted, reply.content.size)
            if span is None:
                reply = Reply.failure(416, {"Content-Range": f"bytes */{reply.content.size}"})
                headers, status = dict(reply.headers), reply.status
                first, last = 0, reply.content.size - 1
            else:
                first, last = span
                status = 206
                headers["Content-Range"] = f"bytes {first}-{last}/{reply.content.size}"
        if reply.ranges:
            headers["Accept-Ranges"] = "bytes"
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(last - first + 1))
        self.end_headers()
        if self.command != "HEAD":
            self._send_body(reply.content, first, last, fault)

    def _send_body(self, content: Content, first: int, last: int, fault: Fault | None) -> None:
        left = last - first + 1
        cut = fault.cut_after if fault else None
        pace = fault.bytes_per_second if fault else None
        chunk = min(_CHUNK, max(1, pace // 20)) if pace else _CHUNK
        sent = 0
        with content.open() as source:
            source.seek(first)
            while left > 0 and not self.bed.closing.is_set():
                size = min(chunk, left) if cut is None else min(chunk, left, cut - sent)
                if size <= 0:
                    break
                data = source.read(size)
                if fault and fault.corrupt and first + sent + len(data) == content.size:
                    data = data[:-1] + bytes([data[-1] ^ 0xFF])
                self.wfile.write(data)
                sent += len(data)
                left -= len(data)
                if pace:
                    time.sleep(len(data) / pace)
        if left > 0:
            self.close_connection = True


def _parse_range(value: str, size: int) -> tuple[int, int] | None:
    """First and last byte of a single range, or None when it lies outside the content."""
    start, _, end = value.removeprefix("bytes=").partition("-")
    if not start:
        first, last = max(0, size - int(end)), size - 1
    else:
        first, last = int(start), min(int(end), size - 1) if end else size - 1
    return (first, last) if first <= last and first < size else None
