"""An end for answers that never end, whoever sends them.

The time limits of an HTTP client start anew with every byte, so headers that come one byte at a
time, or interim answers (1xx) without end, would keep it for days.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Self
from weakref import WeakSet


class Sockets:
    """The connections of one HTTP client, seen by the ``trace`` extension of its requests."""

    def __init__(self) -> None:
        self._streams: WeakSet[Any] = WeakSet()

    def trace(self, _event: str, info: Mapping[str, Any]) -> None:
        """Hear what httpcore does; what it returns may be a new connection."""
        stream = info.get("return_value")
        if hasattr(stream, "get_extra_info"):
            self._streams.add(stream)

    def cut(self) -> None:
        """End all of them, so that whoever waits for one of them gets an error."""
        for stream in list(self._streams):
            with suppress(OSError):
                stream.get_extra_info("socket").shutdown(socket.SHUT_RDWR)


_AGAIN = 0.1
"""Seconds between one cut and the next."""


class Deadline:
    """Does something where it is not closed in time, and again until it is.

    What has to be cut may come into being only after the time is over, on a machine that was busy.

    Attributes:
        passed: Whether it was too late.
    """

    def __init__(self, seconds: float, act: Callable[[], None]) -> None:
        self.passed = False
        self._act = act
        self._over = threading.Event()
        self.extend(seconds)
        threading.Thread(target=self._watch, daemon=True).start()

    def extend(self, seconds: float) -> None:
        """Let it be so many seconds from now."""
        self._ends = time.monotonic() + seconds

    def close(self) -> None:
        """The work is done."""
        self._over.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _watch(self) -> None:
        while (left := self._ends - time.monotonic()) > 0:
            if self._over.wait(left):
                return
        if self._over.is_set():
            return
        self.passed = True
        self._act()
        while not self._over.wait(_AGAIN):
            self._act()
