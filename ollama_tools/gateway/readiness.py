"""Whether a server answers, or a model of it; strangers may ask, and no model works for them."""

from __future__ import annotations

import asyncio
import time
from http import HTTPStatus
from typing import Final

from ollama_tools.gateway.exact import compact, read_json
from ollama_tools.gateway.upstream import Upstream
from ollama_tools.json_text import MalformedJson

_KEPT_SECONDS: Final = 1.0


def _is_version(content: bytes) -> bool:
    """Whether it is Ollama that answers, and not a page of what stands before it."""
    try:
        return "version" in read_json(content)
    except (MalformedJson, TypeError):
        return False


class Readiness:
    """Asks one question at a time, and not more often than once a second, whoever wants to know."""

    def __init__(self, upstream: Upstream, model: str | None) -> None:
        """Make what will ask; nothing is sent yet.

        Args:
            upstream: The server.
            model: The model that it is about; None for the server alone.
        """
        self._upstream = upstream
        self._model = model
        self._asking: asyncio.Task[bool] | None = None
        self._until = 0.0

    async def holds(self) -> bool:
        """Whether it answers.

        Raises:
            Problem: The server does not.
        """
        if self._asking is None or (self._asking.done() and time.monotonic() > self._until):
            self._asking = asyncio.ensure_future(self._ask())
            self._asking.add_done_callback(self._has_asked)
        # Who goes away leaves the others waiting for it.
        return await asyncio.shield(self._asking)

    def _has_asked(self, asked: asyncio.Task[bool]) -> None:
        self._until = time.monotonic() + _KEPT_SECONDS
        if not asked.cancelled():
            # Who waits for it hears of it; there may be nobody.
            asked.exception()

    async def _ask(self) -> bool:
        if self._model is None:
            async with self._upstream.ask("GET", "/api/version") as answer:
                return answer.status == HTTPStatus.OK and _is_version(await answer.read())
        messages = [{"role": "user", "content": "ready?"}]
        body = {"model": self._model, "messages": messages, "options": {"num_predict": 1}}
        status, _ = await self._upstream.json("/api/chat", compact({**body, "stream": False}))
        return status == HTTPStatus.OK
