"""The httpx transport of both clients: their waits and bounds are the same, whoever asks."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import httpx

from ollama_tools.network.deadline import Deadline, Sockets
from ollama_tools.server.waits import Waits, is_chat

LARGEST_ANSWER = 16 * 1024 * 1024
LARGEST_LINE = 1024 * 1024
_MOST_LINES = 10_000
"""Lines of a streamed chat; none that is asked here has a tenth of that."""


class TooLong(httpx.HTTPError):
    """An answer is longer than any of Ollama's."""


class Wire(httpx.BaseTransport):
    """Carries the requests to one server."""

    def __init__(
        self,
        inner: httpx.BaseTransport,
        waits: Waits,
        still_waiting: Callable[[str], None],
        headers: Mapping[str, str],
    ) -> None:
        self._inner = inner
        self._waits = waits
        self._still_waiting = still_waiting
        self._headers = headers
        self._sockets = Sockets()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, and bound its answer."""
        path = request.url.path
        first, then = self._waits.of(request.method, path)
        limits = {"connect": self._waits.connect, "read": first, "write": then, "pool": first}
        request.extensions["timeout"] = limits
        request.headers.update(self._headers)
        request.extensions["trace"] = self._sockets.trace
        with self._noticed(path):
            response = self._begun(request, self._waits.connect + first)
        # The connection reads this anew for every piece of the body.
        limits["read"] = then
        assert isinstance(response.stream, httpx.SyncByteStream)  # noqa: S101 - a sync transport
        if path.endswith(("/api/pull", "/api/create")):
            response.stream = _Bounded(response.stream, LARGEST_LINE, then, by_line=True)
        elif is_chat(path):
            # A chat without a stream is one line, as long as any other answer.
            response.stream = _Bounded(
                response.stream, LARGEST_ANSWER, then, lines=_MOST_LINES, by_line=True
            )
        else:
            whole = self._waits.whole
            response.stream = _Bounded(response.stream, LARGEST_ANSWER, whole, by_line=False)
        return response

    def _begun(self, request: httpx.Request, seconds: float) -> httpx.Response:
        """The answer as soon as its headers are there, in time after the last byte of ours."""
        assert isinstance(request.stream, httpx.SyncByteStream)  # noqa: S101 - a sync transport
        with Deadline(seconds, self._sockets.cut) as deadline:
            request.stream = _Sent(request.stream, lambda: deadline.extend(seconds))
            try:
                return self._inner.handle_request(request)
            except httpx.TransportError as error:
                if deadline.passed:
                    raise httpx.ReadTimeout("headers without an end", request=request) from error
                raise

    def close(self) -> None:
        """Close connections."""
        self._inner.close()

    @contextmanager
    def _noticed(self, path: str) -> Iterator[None]:
        if not is_chat(path):
            yield
            return
        over = threading.Event()

        def notice() -> None:
            seconds = 0.0
            while not over.wait(self._waits.notice):
                seconds += self._waits.notice
                self._still_waiting(f"still waiting for {path}, {seconds:.0f} s so far")

        threading.Thread(target=notice, daemon=True).start()
        try:
            yield
        finally:
            over.set()


class _Sent(httpx.SyncByteStream):
    """A request's body that tells of each piece that was taken."""

    def __init__(self, inner: httpx.SyncByteStream, taken: Callable[[], None]) -> None:
        self._inner = inner
        self._taken = taken

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._inner:
            yield piece
            self._taken()

    def close(self) -> None:
        self._inner.close()


class _Bounded(httpx.SyncByteStream):
    """A body, or each line of it, that is not too long and not too long under way."""

    def __init__(
        self,
        inner: httpx.SyncByteStream,
        most: int,
        seconds: float,
        lines: float = math.inf,
        *,
        by_line: bool,
    ) -> None:
        self._inner = inner
        self._most = most
        self._seconds = seconds
        self._by_line = by_line
        self._lines = lines

    def __iter__(self) -> Iterator[bytes]:
        size, lines, began = 0, 0, time.monotonic()
        for piece in self._inner:
            now = time.monotonic()
            if size == 0:
                began = now
            size += len(piece)
            lines += piece.count(b"\n")
            if self._by_line and b"\n" in piece:
                size, began = len(piece) - piece.rindex(b"\n") - 1, now
            if size > self._most or lines > self._lines:
                raise TooLong("an answer without an end")
            if now - began > self._seconds:
                raise httpx.ReadTimeout("an answer that does not end")
            yield piece

    def close(self) -> None:
        self._inner.close()
