"""The server behind the gateway, and what is known of its models."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from itertools import chain, repeat
from typing import Final, Generic, TypeVar
from urllib.parse import quote

import aiohttp
from yarl import URL

from ollama_tools.errors import MALFORMED
from ollama_tools.gateway.asked import JsonObject, Problem
from ollama_tools.gateway.exact import compact, read_json
from ollama_tools.gateway.known import Known, known
from ollama_tools.json_text import MalformedJson
from ollama_tools.server.shown import Shown

_T = TypeVar("_T")

_PAUSES: Final = (0.1, 0.2, 0.4, 0.8, 1.6)
_KNOWN_SECONDS: Final = 2.0
_MOST_KEPT: Final = 1000
"""Models and origins of which something is kept; clients may name any."""
_NONE_OF_IT: Final = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.NOT_FOUND,
)
"""What Ollama says of a model that it has not, or shows to nobody: a chat hears the same."""
_CONNECT_SECONDS: Final = 5.0
_IDLE_SECONDS: Final = 5.0
MOST_BYTES: Final = 16 * 2**20
"""Of an answer, or a line of one, that is read as a whole: the longest context makes some hundred
thousand."""
_ANSWERS: Final = range(HTTPStatus.OK, 600)
"""Statuses that end an exchange of HTTP."""
_OF_A_TARGET: Final = "!$%&'()*+,/:;<=>?@[\\]^`{|}~\""
_NOT_SENT_UNASKED: Final = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


@dataclass(frozen=True)
class _Kept(Generic[_T]):
    value: _T
    until: float


@dataclass(frozen=True)
class Presumed:
    """What is known of a model.

    Attributes:
        known: What is known; None where there is no such model.
        asking: What becomes known of it, where the other may be out of date.
    """

    known: Known | None
    asking: asyncio.Task[Known | None] | None = None

    async def holds(self) -> bool:
        """Whether it is so.

        Raises:
            Problem: Nobody can say.
        """
        return self.asking is None or await asyncio.shield(self.asking) == self.known


class Answer:
    """What a server answers, as it comes.

    Attributes:
        status: HTTP status.
        headers: The headers, as they came.
    """

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status: int = response.status
        self.headers = response.raw_headers

    async def read(self) -> bytes:
        """The whole of it.

        Raises:
            Problem: It broke off, or has no end.
        """
        pieces, size = [], 0
        async for piece in self.pieces():
            size += len(piece)
            if size > MOST_BYTES:
                raise endless()
            pieces.append(piece)
        return b"".join(pieces)

    async def pieces(self) -> AsyncIterator[bytes]:
        """Its pieces, as they come.

        Raises:
            Problem: It broke off.
        """
        try:
            async for piece in self._response.content.iter_any():
                yield piece
        except aiohttp.ClientError as error:
            raise _problem(error) from error


class Upstream:
    """One Ollama server.

    Attributes:
        url: Its base URL.
    """

    def __init__(self, url: str, *, wait: float, silence: float, template: str = "") -> None:
        """Make what will ask it; nothing is sent yet.

        Args:
            url: Its base URL.
            wait: Seconds to wait for a server that is full or being started again.
            silence: Seconds after which a server that says nothing is given up.
            template: What it has for all models without one of their own; empty for nothing.
        """
        self.url = url
        self._template = template
        self._wait = wait
        self._known: dict[str, _Kept[Known | None]] = {}
        self._shared: dict[str, _Kept[list[tuple[bytes, bytes]] | None]] = {}
        self._asking: dict[str, asyncio.Task[Known | None]] = {}
        self._timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=_CONNECT_SECONDS, sock_read=silence
        )
        self._made: aiohttp.ClientSession | None = None

    @property
    def _session(self) -> aiohttp.ClientSession:
        # It belongs to the loop that runs, and there is none yet where this is made.
        if self._made is None:
            self._made = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_IDLE_SECONDS),
                # What passes is neither unpacked nor remembered, and gets no word of ours.
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=_NOT_SENT_UNASKED,
                timeout=self._timeout,
            )
        return self._made

    async def close(self) -> None:
        """Close all connections, and ask no more."""
        for asking in self._asking.values():
            asking.cancel()
        if self._made is not None:
            await self._made.close()

    @asynccontextmanager
    async def ask(
        self,
        method: str,
        path: str,
        content: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Answer]:
        """Send a request, and wait for the first bytes of its answer.

        A server that is full, or being started again, is waited for: nothing has come of the
        request yet.

        Raises:
            Problem: No answer came, or nothing that ends an exchange.
        """
        response = await self._answered(method, path, content, headers or {})
        try:
            yield Answer(response)
        finally:
            # Closing is what tells the server that nobody listens any more.
            response.close()

    async def json(self, path: str, body: bytes) -> tuple[int, JsonObject]:
        """A whole answer that is JSON: status and object.

        Raises:
            Problem: No answer came, or none that is JSON.
        """
        async with self.ask("POST", path, body, {"content-type": "application/json"}) as answer:
            try:
                found = read_json(await answer.read())
            except MalformedJson as error:
                raise _no_json(path) from error
        if not isinstance(found, dict):
            raise _no_json(path)
        return answer.status, found

    async def known(self, model: str) -> Presumed:
        """What is known of a model; None where the server has none of that name.

        A server that is asked for a chat is not kept waiting for what it said before: where that
        is a model of ours, it is presumed to be one still, and asked for beside the chat.
        """
        kept = self._known.get(model)
        if kept is not None and time.monotonic() < kept.until:
            return Presumed(kept.value)
        asking = self._asking.get(model)
        if asking is None:
            asking = self._asking[model] = asyncio.ensure_future(self._shown(model))
            asking.add_done_callback(lambda done: self._has_asked(model, done))
        if kept is not None and kept.value is not None and kept.value.understands:
            return Presumed(kept.value, asking)
        return Presumed(await asyncio.shield(asking))

    def _has_asked(self, model: str, done: asyncio.Task[Known | None]) -> None:
        del self._asking[model]
        if not done.cancelled():
            # Who waits for it hears of it; there may be nobody.
            done.exception()

    async def _shown(self, model: str) -> Known | None:
        status, answer = await self.json("/api/show", compact({"model": model}))
        found: Known | None = None
        if status == HTTPStatus.OK:
            try:
                found = known(Shown(model, answer), self._template)
            except MALFORMED as error:
                raise _no_json("/api/show") from error
        elif status not in _NONE_OF_IT:
            # As if it were another's model it would get another prompt, and nobody would know.
            said = f"the server cannot show the model: it answers {status}"
            raise Problem(said, HTTPStatus.BAD_GATEWAY)
        _keep(self._known, model, found)
        return found

    async def shared_with(self, origin: str) -> list[tuple[bytes, bytes]] | None:
        """The headers by which a browser shares answers with pages of an origin.

        Returns:
            What the server itself says (``OLLAMA_ORIGINS``); None where it serves no such page.
        """
        kept = self._shared.get(origin)
        if kept is not None and time.monotonic() < kept.until:
            return kept.value
        async with self.ask("GET", "/api/version", headers={"origin": origin}) as answer:
            found = [
                (name, value)
                for name, value in answer.headers
                if name.lower() == b"vary" or name.lower().startswith(b"access-control-")
            ]
            headers = None if answer.status == HTTPStatus.FORBIDDEN else found
        _keep(self._shared, origin, headers)
        return headers

    async def _answered(
        self, method: str, path: str, content: bytes, headers: Mapping[str, str]
    ) -> aiohttp.ClientResponse:
        url = URL(f"{self.url}{quote(path, _OF_A_TARGET, 'latin-1')}", encoded=True)
        until = time.monotonic() + self._wait
        pauses = chain(_PAUSES, repeat(_PAUSES[-1]))
        while True:
            pause = next(pauses)
            try:
                response = await self._session.request(
                    method, url, data=content or None, headers=headers, allow_redirects=False
                )
            except aiohttp.SocketTimeoutError as error:
                raise _problem(error) from error
            except aiohttp.ClientError as error:
                if time.monotonic() + pause > until:
                    raise _problem(error) from error
            else:
                if response.status not in _ANSWERS:
                    response.close()
                    raise Problem(f"the server answers {response.status}", HTTPStatus.BAD_GATEWAY)
                is_full = response.status == HTTPStatus.SERVICE_UNAVAILABLE
                # In the end it says itself what it waits for.
                if not is_full or time.monotonic() + pause > until:
                    return response
                response.close()
            await asyncio.sleep(pause)


def _keep(kept: dict[str, _Kept[_T]], key: str, value: _T) -> None:
    """Keep what a server said for a while, and no more of it than has room."""
    if len(kept) >= _MOST_KEPT:
        kept.clear()
    kept[key] = _Kept(value, time.monotonic() + _KNOWN_SECONDS)


def _problem(error: aiohttp.ClientError) -> Problem:
    """What it means that a server's answer did not come, or not to its end."""
    if isinstance(error, aiohttp.SocketTimeoutError):
        return Problem("the server says nothing", HTTPStatus.GATEWAY_TIMEOUT)
    if isinstance(error, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)):
        return Problem("the server cannot be reached", HTTPStatus.BAD_GATEWAY)
    return Problem("the server hung up", HTTPStatus.BAD_GATEWAY)


def endless() -> Problem:
    """A server's answer is larger than any that means something."""
    return Problem("the server's answer has no end", HTTPStatus.BAD_GATEWAY)


def _no_json(path: str) -> Problem:
    return Problem(f"the server's {path} gives no JSON object", HTTPStatus.BAD_GATEWAY)
