"""The httpx transport of both clients: their waits and bounds are the same, whoever asks."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import httpx

from ollama_tools.server.waits import Waits, is_chat

LARGEST_ANSWER = 16 * 1024 * 1024
LARGEST_LINE = 1024 * 1024
_MOST_LINES = 10_000
"""Lines of a streamed chat; none that is asked here has a tenth of that."""

_TRICKLING = 2
"""How many waits for a byte a whole answer of what the server has at hand may take."""


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

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, and bound its answer."""
        path = request.url.path
        first, then = self._waits.of(request.method, path)
        limits = {"connect": self._waits.connect, "read": first, "write": then, "pool": first}
        request.extensions["timeout"] = limits
        request.headers.update(self._headers)
        with self._noticed(path):
            response = self._inner.handle_request(request)
        # The connection reads this anew for every piece of the body.
        limits["read"] = then
        assert isinstance(response.stream, httpx.SyncByteStream)  # noqa: S101 - a sync transport
        if path.endswith(("/api/pull", "/api/create")):
            response.stream = _Bounded(response.stream, LARGEST_LINE, by_line=True)
        elif is_chat(path):
            # A chat without a stream is one line, as long as any other answer.
            response.stream = _Bounded(
                response.stream, LARGEST_ANSWER, lines=_MOST_LINES, by_line=True
            )
        else:
            response.stream = _Bounded(
                response.stream, LARGEST_ANSWER, _TRICKLING * then, by_line=False
            )
        return response

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


class _Bounded(httpx.SyncByteStream):
    def __init__(
        self,
        inner: httpx.SyncByteStream,
        most: int,
        seconds: float = math.inf,
        lines: float = math.inf,
        *,
        by_line: bool,
    ) -> None:
        self._inner = inner
        self._most = most
        self._by_line = by_line
        self._lines = lines
        self._ends = time.monotonic() + seconds

    def __iter__(self) -> Iterator[bytes]:
        size = lines = 0
        for piece in self._inner:
            size += len(piece)
            lines += piece.count(b"\n")
            if self._by_line and b"\n" in piece:
                size = len(piece) - piece.rindex(b"\n")
            if size > self._most or lines > self._lines or time.monotonic() > self._ends:
                raise TooLong("an answer without an end")
            yield piece

    def close(self) -> None:
        self._inner.close()
