"""What every surface can do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Protocol

from ollama_tools.gateway.asked import Asked, JsonObject, Problem

_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


class Writer(Protocol):
    """Writes an answer that comes in pieces."""

    def feed(self, piece: JsonObject, line: bytes) -> Iterator[bytes]:
        """What a piece of the server's answer becomes; ``line`` is how the server wrote it."""

    def broken(self, problem: Problem) -> bytes:
        """What the client gets where the answer ends before its end."""


class Surface(Protocol):
    """A way in which clients ask for a chat.

    Attributes:
        path: Where they ask.
        media_type: Content type of an answer that comes in pieces.
    """

    path: str
    media_type: str

    def read(self, body: JsonObject) -> Asked:
        """What a client asks for.

        Raises:
            Problem: It cannot be meant.
            NotUnderstood: Only the server knows what to do with it.
        """

    def whole(self, asked: Asked, answer: JsonObject) -> JsonObject:
        """An answer in one piece."""

    def writer(self, asked: Asked) -> Writer:
        """An answer in pieces."""

    def problem(self, problem: Problem) -> JsonObject:
        """An error."""


def event(data: object, name: str = "") -> bytes:
    """A server-sent event."""
    return (f"event: {name}\n" if name else "").encode() + f"data: {compact(data)}\n\n".encode()


def compact(value: object) -> str:
    """JSON as answers have it."""
    return _ENCODER.encode(value)


def calls_of(piece: JsonObject) -> list[tuple[str, str, Any]]:
    """The calls in a piece of the server's answer: id, name and arguments."""
    return [
        (each.get("id") or "", each["function"]["name"], each["function"].get("arguments") or {})
        for each in piece.get("message", {}).get("tool_calls") or []
    ]


def count(piece: JsonObject, name: str) -> int:
    """A number of tokens that the server reports; 0 where it does not."""
    found = piece.get(name)
    return found if isinstance(found, int) else 0
