"""HTTP/1.1 as it goes over a socket: heads, and bodies as they are framed."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

_PIECE = 64 * 1024
_LONGEST_HEAD = 256 * 1024


class ClosedError(Exception):
    """The other side went away in the middle of a message."""


@dataclass(frozen=True)
class Head:
    """The first lines of a message, up to the empty one.

    Attributes:
        start: The request line or the status line.
        headers: In their order, as they were written.
    """

    start: str
    headers: tuple[tuple[str, str], ...]

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Take the bytes before the empty line apart."""
        start, *lines = raw.decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines if line)
        return cls(start, tuple((name.strip(), value.strip()) for name, _, value in pairs))

    def get(self, name: str) -> str | None:
        """The first header of a name, in whatever case."""
        wanted = name.lower()
        return next((value for key, value in self.headers if key.lower() == wanted), None)

    def but(self, **changed: str | None) -> Head:
        """The same head with other values for some headers; None takes one out."""
        names = {key.replace("_", "-").lower(): value for key, value in changed.items()}
        kept = [(key, value) for key, value in self.headers if key.lower() not in names]
        added = [(key.title(), value) for key, value in names.items() if value is not None]
        return Head(self.start, (*kept, *added))

    def __bytes__(self) -> bytes:
        lines = [self.start, *(f"{name}: {value}" for name, value in self.headers)]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    @property
    def status(self) -> int:
        """The status of an answer; 0 where this is none."""
        parts = self.start.split(" ")
        return int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else 0

    @property
    def is_chunked(self) -> bool:
        """Whether the body comes in chunks."""
        return "chunked" in (self.get("Transfer-Encoding") or "").lower()

    @property
    def length(self) -> int | None:
        """The announced length of the body."""
        value = self.get("Content-Length")
        return int(value) if value is not None and value.isdigit() else None


class Reader:
    """Reads messages off a socket."""

    def __init__(self, source: socket.socket) -> None:
        self._source = source
        self._held = b""

    def head(self) -> Head | None:
        """The next head; None where the other side has no more to say."""
        while b"\r\n\r\n" not in self._held:
            if len(self._held) > _LONGEST_HEAD:
                raise ClosedError("no end of the head")
            piece = self._source.recv(_PIECE)
            if not piece:
                if self._held:
                    raise ClosedError("in the head")
                return None
            self._held += piece
        raw, _, self._held = self._held.partition(b"\r\n\r\n")
        return Head.parse(raw)

    def body(self, head: Head, *, is_answer: bool) -> Iterator[bytes]:
        """The body as it is on the wire, framing included, in pieces."""
        if head.is_chunked:
            yield from self._chunks()
        elif head.length is not None:
            yield from self._exactly(head.length)
        elif is_answer:
            while piece := self._held or self._source.recv(_PIECE):
                self._held = b""
                yield piece

    def _exactly(self, count: int) -> Iterator[bytes]:
        while count:
            if not self._held:
                self._fill()
            piece, self._held = self._held[:count], self._held[count:]
            count -= len(piece)
            yield piece

    def _chunks(self) -> Iterator[bytes]:
        while True:
            line = self._line()
            size = int(line.split(b";")[0], 16)
            if size == 0:
                trailer = line
                while (line := self._line()) != b"\r\n":
                    trailer += line
                yield trailer + line
                return
            yield line + b"".join(self._exactly(size + 2))

    def _line(self) -> bytes:
        while b"\r\n" not in self._held:
            self._fill()
        line, _, self._held = self._held.partition(b"\r\n")
        return line + b"\r\n"

    def _fill(self) -> None:
        piece = self._source.recv(_PIECE)
        if not piece:
            raise ClosedError("in a body")
        self._held += piece


def dechunked(raw: bytes) -> bytes:
    """A body without the framing of its chunks."""
    plain = b""
    while raw:
        line, _, raw = raw.partition(b"\r\n")
        size = int(line.split(b";")[0], 16)
        if size == 0:
            break
        plain, raw = plain + raw[:size], raw[size + 2 :]
    return plain
