"""What every surface can do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from ollama_tools.gateway.asked import Asked, JsonObject, Problem
from ollama_tools.gateway.exact import compact


class CallPart(NamedTuple):
    """A part of a call; the parts of one follow each other.

    Attributes:
        call_id: The call's id.
        name: The name of its tool.
        text: What comes to the JSON text of its arguments.
        begins: Whether it is the first.
        ends: Whether it is the last.
        arguments: The arguments as a whole, with the last part; None where the call is cut off.
    """

    call_id: str
    name: str
    text: str
    begins: bool = True
    ends: bool = True
    arguments: JsonObject | None = None


class Piece(NamedTuple):
    """A piece of an answer, or the whole.

    Attributes:
        content: What it says, as ``/api/chat`` has it.
        line: How the server wrote it; empty where ``/api/chat`` has nothing to say of it.
        calls: What comes of calls with it.
    """

    content: JsonObject
    line: bytes = b""
    calls: Sequence[CallPart] = ()


class Writer(Protocol):
    """Writes an answer that comes in pieces."""

    def feed(self, piece: Piece) -> Iterator[bytes]:
        """What a piece of the server's answer becomes."""

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

    def whole(self, asked: Asked, answer: Piece) -> JsonObject:
        """An answer in one piece."""

    def writer(self, asked: Asked) -> Writer:
        """An answer in pieces."""

    def problem(self, problem: Problem) -> JsonObject:
        """An error."""


def event(data: object, name: str = "") -> bytes:
    """A server-sent event."""
    head = f"event: {name}\n".encode() if name else b""
    return b"%bdata: %b\n\n" % (head, compact(data))


def calls_of(content: JsonObject) -> list[CallPart]:
    """The calls of an answer in which the server has read them."""
    found = []
    for each in content.get("message", {}).get("tool_calls") or ():
        function = each["function"]
        arguments = function.get("arguments") or {}
        call = CallPart(each.get("id") or "", function["name"], compact(arguments).decode())
        found.append(call._replace(arguments=arguments))
    return found


def count(piece: JsonObject, name: str) -> int:
    """A number of tokens that the server reports; 0 where it does not."""
    found = piece.get(name)
    return found if isinstance(found, int) else 0
