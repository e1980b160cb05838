"""The head of a request, which has an end: whoever sends it need not have a key yet."""

from __future__ import annotations

from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_LIMIT: Final = 64 * 1024
"""The most bytes of a request's line and headers; Ollama itself takes no more than 1 MiB."""


class BoundedHead(HttpToolsProtocol):
    """uvicorn's protocol, which would take a head of any size."""

    _is_in_head = True
    _taken = 0

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        super().data_received(data)
        if self._is_in_head:
            self._taken += len(data)
            if self._taken > HEAD_LIMIT and not self.transport.is_closing():
                self.send_400_response("the head of the request is too large")

    def on_message_begin(self) -> None:
        """A request begins."""
        self._is_in_head, self._taken = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Its head has ended."""
        self._is_in_head = False
        super().on_headers_complete()
