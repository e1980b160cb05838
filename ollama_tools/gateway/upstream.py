"""The server behind the gateway, and what is known of its models."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import httpx

from ollama_tools.errors import MALFORMED
from ollama_tools.gateway.asked import JsonObject, Problem
from ollama_tools.gateway.known import Known, known
from ollama_tools.json_text import MalformedJson, parse_json
from ollama_tools.server.shown import Shown

_PAUSES: Final = (0.1, 0.2, 0.4, 0.8, 1.6)
_KNOWN_SECONDS: Final = 2.0
_CONNECT_SECONDS: Final = 5.0


@dataclass(frozen=True)
class _Kept:
    known: Known | None
    until: float


class Upstream:
    """One Ollama server.

    Attributes:
        url: Its base URL.
    """

    def __init__(self, url: str, *, wait: float, silence: float) -> None:
        """Make what will ask it; nothing is sent yet.

        Args:
            url: Its base URL.
            wait: Seconds to wait for a server that is full or being started again.
            silence: Seconds after which a server that says nothing is given up.
        """
        self.url = url
        self._wait = wait
        self._known: dict[str, _Kept] = {}
        self._http = httpx.AsyncClient(
            base_url=url,
            trust_env=False,
            timeout=httpx.Timeout(silence, connect=_CONNECT_SECONDS, pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    @asynccontextmanager
    async def ask(
        self,
        method: str,
        path: str,
        content: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[httpx.Response]:
        """Send a request, and wait for the first bytes of its answer.

        A server that is full, or being started again, is waited for: nothing has come of the
        request yet.

        Raises:
            Problem: No answer came.
        """
        response = await self._answered(method, path, content, headers or {})
        try:
            yield response
        finally:
            # Closing is what tells the server that nobody listens any more.
            await response.aclose()

    async def json(self, path: str, body: bytes) -> tuple[int, JsonObject]:
        """A whole answer that is JSON: status and object.

        Raises:
            Problem: No answer came, or none that is JSON.
        """
        async with self.ask("POST", path, body, {"content-type": "application/json"}) as response:
            try:
                found = parse_json(await response.aread())
            except httpx.HTTPError as error:
                raise broken(error) from error
            except MalformedJson as error:
                raise _no_json(path) from error
        if not isinstance(found, dict):
            raise _no_json(path)
        return response.status_code, found

    async def known(self, model: str) -> Known | None:
        """What is known of a model; None where the server has none of that name."""
        kept = self._known.get(model)
        if kept is not None and time.monotonic() < kept.until:
            return kept.known
        body = httpx.Request("POST", self.url, json={"model": model}).content
        status, answer = await self.json("/api/show", body)
        found: Known | None = None
        if status == HTTPStatus.OK:
            try:
                found = known(Shown(model, answer))
            except MALFORMED as error:
                raise _no_json("/api/show") from error
        self._known[model] = _Kept(found, time.monotonic() + _KNOWN_SECONDS)
        return found

    async def _answered(
        self, method: str, path: str, content: bytes, headers: Mapping[str, str]
    ) -> httpx.Response:
        until = time.monotonic() + self._wait
        pauses = iter(_PAUSES)
        pause = 0.0
        while True:
            request = self._http.build_request(method, path, content=content, headers=headers)
            problem: Problem
            try:
                response = await self._http.send(request, stream=True)
            except httpx.ReadTimeout as error:
                raise broken(error) from error
            except httpx.HTTPError as error:
                problem = broken(error)
            else:
                if response.status_code != HTTPStatus.SERVICE_UNAVAILABLE:
                    return response
                if time.monotonic() + pause > until:
                    return response
                await response.aclose()
                problem = Problem("the server is full", HTTPStatus.SERVICE_UNAVAILABLE)
            pause = next(pauses, pause)
            if time.monotonic() + pause > until:
                raise problem
            await asyncio.sleep(pause)


def broken(error: httpx.HTTPError) -> Problem:
    """What it means that a server's answer did not come, or not to its end."""
    if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
        return Problem("the server says nothing", HTTPStatus.GATEWAY_TIMEOUT)
    if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout)):
        return Problem("the server cannot be reached", HTTPStatus.BAD_GATEWAY)
    return Problem("the server hung up", HTTPStatus.BAD_GATEWAY)


def _no_json(path: str) -> Problem:
    return Problem(f"the server's {path} gives no JSON object", HTTPStatus.BAD_GATEWAY)
