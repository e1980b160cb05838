"""A server that never stops to answer: each byte keeps a client's time limit from passing."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.testbed.listening import each_client

SECONDS = 0.05

DRIPS = {
    "status line": (b"HTTP/1.1 200 ", b"O"),
    "headers": (b"HTTP/1.1 200 OK\r\nX-Long: ", b"x"),
    "interim answers": (b"", b"HTTP/1.1 103 Early Hints\r\nX-A: b\r\n\r\n"),
    "body": (b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n", b" "),
}
"""What is sent at first, and then again and again."""


@contextmanager
def dripping(drip: str) -> Iterator[str]:
    """Such a server.

    Args:
        drip: One of :data:`DRIPS`.

    Yields:
        Its URL.
    """
    first, then = DRIPS[drip]
    over = threading.Event()

    def answer(client: socket.socket) -> None:
        with client, suppress(OSError):
            client.recv(65536)
            client.sendall(first)
            while not over.wait(SECONDS):
                client.sendall(then)

    with each_client(answer) as port:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            over.set()
