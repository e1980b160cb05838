"""One request and its answer, as ASGI has them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any, Final

from ollama_tools.gateway.asked import JsonObject, Problem
from ollama_tools.gateway.exact import compact

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

JSON_TYPE: Final = b"application/json"


class Gone(Exception):
    """The client does not listen any more."""


class BrokenOff(Exception):
    """The server ended in the middle of an answer that has begun; so does ours."""


class Exchange:
    """One request and its answer.

    Attributes:
        method: The method.
        path: The path, without escapes.
        target: Path and query as they came.
        headers: The headers, by their names in small letters.
        content: The body; empty until it has been read.
        shared: Headers of every answer that is the gateway's own: what a browser shares with the
            page that asked.
        begins: Called when the answer begins, with its status.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        raw: bytes = scope.get("raw_path") or self.path.encode()
        self._raw = raw.decode("latin-1")
        query = (scope.get("query_string") or b"").decode("latin-1")
        self.target = f"{self._raw}?{query}" if query else self._raw
        self.headers = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in scope["headers"]
        }
        self.content = b""
        self.shared: Headers = []
        # Such a client knows of no pieces, so it gets the whole at once.
        self._is_old = scope.get("http_version") == "1.0"
        self._held: list[bytes] | None = None
        self._head: Message = {}
        self.begins: Callable[[int], None] = lambda _: None
        self.has_begun = False

    @property
    def is_plain(self) -> bool:
        """Whether its path is written in the one way that has no other meaning."""
        return self._raw == self.path

    async def read(self, limit: int) -> None:
        """Read the body.

        Raises:
            Problem: It is larger than ``limit`` bytes.
            Gone: Nobody waits for an answer.
        """
        pieces, size = [], 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise Gone
            piece = message.get("body", b"")
            size += len(piece)
            if size > limit:
                status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
                raise Problem(f"the request is larger than {limit} bytes", status)
            pieces.append(piece)
            if not message.get("more_body"):
                self.content = b"".join(pieces)
                return

    async def while_heard(self, work: Awaitable[None]) -> None:
        """Do what answers it, and stop at once where nobody listens any more.

        Raises:
            Gone: Nobody does.
        """
        try:
            async with asyncio.timeout(None) as heard:
                hearing = asyncio.create_task(self._until_gone(heard))
                try:
                    await work
                finally:
                    hearing.cancel()
        except TimeoutError:
            if heard.expired():
                raise Gone from None
            raise

    async def start(self, status: int, headers: Headers) -> None:
        """Begin the answer."""
        self.has_begun = True
        self.begins(status)
        headers = [*headers, *self.shared]
        head = {"type": "http.response.start", "status": status, "headers": headers}
        if self._is_old and all(name.lower() != b"content-length" for name, _ in headers):
            self._held, self._head = [], head
        else:
            await self._send(head)

    async def send(self, piece: bytes) -> None:
        """A piece of the answer."""
        if self._held is not None:
            self._held.append(piece)
        else:
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})

    async def end(self) -> None:
        """The end of the answer."""
        content = b"".join(self._held or ())
        if self._held is not None:
            self._head["headers"].append((b"content-length", str(len(content)).encode()))
            await self._send(self._head)
        await self._send({"type": "http.response.body", "body": content, "more_body": False})

    async def whole(self, status: int, kind: bytes, content: bytes, *headers: Any) -> None:
        """An answer in one piece."""
        length = str(len(content)).encode()
        await self.start(status, [(b"content-type", kind), (b"content-length", length), *headers])
        await self._send({"type": "http.response.body", "body": content, "more_body": False})

    async def json(self, status: int, body: JsonObject, *headers: tuple[bytes, bytes]) -> None:
        """An answer in one piece that is JSON."""
        await self.whole(status, JSON_TYPE, compact(body), *headers)

    async def _until_gone(self, heard: asyncio.Timeout) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        heard.reschedule(0)
