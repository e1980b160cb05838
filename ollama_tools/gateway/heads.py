"""The head of a request, which has an end: whoever sends it need not have a key yet."""

from __future__ import annotations

import asyncio
import re
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_LIMIT: Final = 64 * 1024
"""The most bytes of a request's line and headers; Ollama itself takes no more than 1 MiB."""
HEAD_SECONDS: Final = 60.0
"""How long it may take to come."""

_UPGRADE: Final = re.compile(rb"(?i)(?<=\r\n)upgrade(?=[ \t]*:)")
# As long, of no meaning to the parser, and no more handed on than the other.
_NO_UPGRADE: Final = b"Trailer"


class BoundedHead(HttpToolsProtocol):
    """uvicorn's protocol, which would take a head of any size, and wait for it for ever.

    Its parser also takes what follows a head with an ``Upgrade`` for no HTTP any more, though who
    asks for one and gets an answer goes on as before (RFC 9110, 7.8): so Java's client, which asks
    for HTTP/2 with its first request, would be one without a body.
    """

    _is_in_head = True
    _is_in_body = False
    _taken = 0
    _giving_up: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        if not self._is_in_body:
            head, blank, rest = data.partition(b"\r\n\r\n")
            data = _UPGRADE.sub(_NO_UPGRADE, head) + blank + rest
        super().data_received(data)
        if self._is_in_head:
            self._taken += len(data)
            if self._taken > HEAD_LIMIT and not self.transport.is_closing():
                self.send_400_response("the head of the request is too large")

    def on_message_begin(self) -> None:
        """A request begins."""
        self._is_in_head, self._taken = True, 0
        self._wait_for_head()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Its head has ended."""
        self._is_in_head, self._is_in_body = False, True
        self._stop_waiting()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """It has ended."""
        self._is_in_body = False
        super().on_message_complete()

    def _wait_for_head(self) -> None:
        if self._giving_up is None:
            self._giving_up = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _stop_waiting(self) -> None:
        if self._giving_up is not None:
            self._giving_up.cancel()
            self._giving_up = None

    def _give_up(self) -> None:
        self.transport.close()
