"""What can go wrong with one exchange, each as a small object that serves it wrongly."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlsplit

from tests.testbed.faults import bodies
from tests.testbed.faults.wire import Head, dechunked

_REASONS = {
    200: "OK",
    301: "Moved Permanently",
    302: "Found",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    407: "Proxy Authentication Required",
    413: "Request Entity Too Large",
    429: "Too Many Requests",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Temporarily Unavailable",
    504: "Gateway Time-out",
}


class Exchange(Protocol):
    """One request of a client, and all that can be done about it."""

    request: Head
    method: str
    target: str

    def take_body(self, limit: int | None = None) -> int:
        """Read the request's body, or so many bytes of it; how many there were."""

    def forward(self) -> tuple[Head, Iterator[bytes]]:
        """Let the server behind do what is asked: its head, and its body as it is framed."""

    def send(self, data: bytes) -> None:
        """Send bytes to the client as they are."""

    def reset(self) -> None:
        """End the connection with a reset, so that what is on its way is lost."""

    def close(self) -> None:
        """End the connection in order."""

    def linger(self) -> None:
        """Say that nothing follows, and read what the client still sends."""

    def hold(self, seconds: float | None = None) -> None:
        """Do nothing until the client leaves, or for so long."""

    def refuse(self, seconds: float | None = None) -> None:
        """Listen no more, for so long or until the proxy is healed."""


class Fault(Protocol):
    """What goes wrong."""

    def serve(self, exchange: Exchange) -> None:
        """Serve one exchange wrongly."""


@dataclass(frozen=True)
class Refuse:
    """The connection is lost, and another one refused: for so long, or for ever."""

    seconds: float | None = None

    def serve(self, exchange: Exchange) -> None:
        """See :class:`Fault`."""
        exchange.refuse(self.seconds)
        exchange.reset()


@dataclass(frozen=True)
class ResetRequest:
    """A reset before the request is done, after so many bytes of its body."""

    after: int = 0

    def serve(self, exchange: Exchange) -> None:
        """See :class:`Fault`."""
        exchange.take_body(self.after)
        exchange.reset()


@dataclass(frozen=True)
class ResetAnswer:
    """A reset after so many bytes of the right answer; the server has done what was asked."""

    after: int = 0

    def serve(self, exchange: Exchange) -> None:
        """See :class:`Fault`."""
        for piece in _first(_whole(exchange), self.after):
            exchange.send(piece)
        exchange.reset()


@dataclass(frozen=True)
class Lost:
    """The server does it all, and nobody is told: the connection ends without a byte."""

    def serve(self, exchange: Exchange) -> None:
        """See :class:`Fault`."""
        for _ in _whole(exchange):
            pass
        exchange.close()


@dataclass(frozen=True)
class Stall:
    """The request is taken, and no byte ever comes back; or none after so many of the answer."""

    after: int | None = None

    def serve(self, exchange: Exchange) -> None:
        """See :class:`Fault`."""
        if self.after is None:
            exchange.take_body()
        else:
            for piece in _first(_whole(exchange), self.after):
                exchange.send(piece)
        exchange.hold()


@dataclass(frozen=True)
class Slow:
    """The right answer, whose head or body takes so many seconds; it never stands still."""

    head: float = 0.0
    body: float = 0.0
    pieces: int = 40

    def serve(self, exchange: Exchange) -> None:
        """See :class:`Fault`."""
        head, body = exchange.forward()
        for part, seconds in ((bytes(head), self.head), (b"".join(body), self.body)):
            for piece in _pieces(part, self.pieces if seconds else 1):
                exchange.send(piece)
                if seconds:
                    time.sleep(seconds / self.pieces)


@dataclass(frozen=True)
class Cut:
    """The right answer up to a share of its body, and then the end of the connection."""

    share: float = 0.5

    def serve(self, exchange: Exchange) -> None:
        """See :class:`Fault`."""
        head, body = exchange.forward()
        whole = b"".join(body)
        exchange.send(bytes(head) + whole[: int(len(whole) * self.share)])
        exchange.close()


@dataclass(frozen=True)
class Length:
    """The right answer under a Content-Length that is too long or too short by so many bytes."""

    by: int

    def serve(self, exchange: Exchange) -> None:
        """See :class:`Fault`."""
        head, body = exchange.forward()
        whole = b"".join(body)
        plain = dechunked(whole) if head.is_chunked else whole
        length = head.length if exchange.method == "HEAD" else len(plain)
        wrong = max(0, (length or 0) + self.by)
        exchange.send(bytes(head.but(content_length=str(wrong), transfer_encoding=None)) + plain)
        if self.by > 0:
            exchange.close()


@dataclass(frozen=True)
class Say:
    """An answer that the server never gave; it is not asked.

    Attributes:
        status: The status.
        body: All of the body.
        kind: Its type.
        headers: More headers.
        early: Whether it comes before the request's body was read, as of a proxy with a limit.
    """

    status: int
    body: bytes = b""
    kind: str = "text/html"
    headers: Mapping[str, str] = field(default_factory=dict)
    early: bool = False

    def serve(self, exchange: Exchange) -> None:
        """See :class:`Fault`."""
        if not self.early:
            exchange.take_body()
        headers = {
            "Content-Type": self.kind,
            "Content-Length": str(len(self.body)),
            **({"Connection": "close"} if self.early else {}),
            **self.headers,
        }
        exchange.send(_head(self.status, headers))
        if exchange.method != "HEAD":
            exchange.send(self.body)
        if self.early:
            exchange.linger()


@dataclass(frozen=True)
class Elsewhere:
    """A redirect: to itself for ever, or to an address.

    Attributes:
        status: The status.
        location: Where to; ``{path}`` stands for the path that was asked for. None means itself.
    """

    status: int = 302
    location: str | None = None

    def serve(self, exchange: Exchange) -> None:
        """See :class:`Fault`."""
        path = urlsplit(exchange.target).path
        where = path if self.location is None else self.location.format(path=path)
        Say(self.status, bodies.page(_REASONS[self.status]), headers={"Location": where}).serve(
            exchange
        )


@dataclass(frozen=True)
class Huge:
    """An answer of so many bytes of JSON."""

    size: int = bodies.HUGE

    def serve(self, exchange: Exchange) -> None:
        """See :class:`Fault`."""
        exchange.take_body()
        headers = {"Content-Type": "application/json", "Content-Length": str(self.size)}
        exchange.send(_head(200, headers))
        if exchange.method != "HEAD":
            for piece in bodies.huge(self.size):
                exchange.send(piece)


@dataclass(frozen=True)
class Endless:
    """A stream that goes on for ever."""

    def serve(self, exchange: Exchange) -> None:
        """See :class:`Fault`."""
        exchange.take_body()
        events = exchange.target.startswith("/v1/")
        kind = "text/event-stream" if events else "application/x-ndjson"
        exchange.send(_head(200, {"Content-Type": kind, "Connection": "close"}))
        if exchange.method == "HEAD":
            exchange.close()
            return
        for line in bodies.endless(events=events):
            exchange.send(line)
            # A thousand lines a second are more than any server writes, and spare this machine.
            time.sleep(0.001)


def json_answer(status: int, document: object) -> Say:
    """An answer of JSON."""
    return Say(status, json.dumps(document).encode(), "application/json")


def html_answer(status: int, **headers: str) -> Say:
    """A page of a proxy; underscores in the names of headers stand for hyphens."""
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return Say(status, bodies.page(f"{status} {_REASONS[status]}"), headers=named)


def _head(status: int, headers: Mapping[str, str]) -> bytes:
    return bytes(Head(f"HTTP/1.1 {status} {_REASONS[status]}", tuple(headers.items())))


def _whole(exchange: Exchange) -> Iterator[bytes]:
    head, body = exchange.forward()
    yield bytes(head)
    yield from body


def _first(pieces: Iterable[bytes], count: int) -> Iterator[bytes]:
    """The first bytes; the rest is read as well, so that the server behind comes to its end."""
    for piece in pieces:
        if count > 0:
            yield piece[:count]
        count -= len(piece)


def _pieces(data: bytes, count: int) -> Iterator[bytes]:
    size = max(1, -(-len(data) // count))
    for start in range(0, len(data), size):
        yield data[start : start + size]
