"""A port of this machine whose clients each get a thread."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


@contextmanager
def each_client(
    serve: Callable[[socket.socket], None], address: tuple[str, int] = ("127.0.0.1", 0)
) -> Iterator[int]:
    """Listen on loopback, or on another address of this machine.

    Args:
        serve: Talks to one client, and closes its connection.
        address: Address and port; port 0 takes a free one.

    Yields:
        The port.
    """

    def accept() -> None:
        with suppress(OSError):
            while True:
                client, _ = listening.accept()
                threading.Thread(target=serve, args=(client,), daemon=True).start()

    with socket.create_server(address) as listening:
        threading.Thread(target=accept, daemon=True).start()
        try:
            yield listening.getsockname()[1]
        finally:
            # A thread that waits in accept does not hear of close alone.
            with suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)
