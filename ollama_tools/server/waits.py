"""How long is waited for a server, in one place."""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass

from ollama_tools.errors import ServerUnreachable, UsageError

VARIABLE = "DEVSTRAL_OLLAMA_TIMEOUT"


@dataclass(frozen=True, slots=True)
class Waits:
    """Seconds after which silence is an answer.

    Attributes:
        connect: Until there is a connection.
        metadata: Between two bytes of what the server has at hand.
        whole: Until all of that is there.
        transfer: Without progress of a pull, an upload or a creation: no new status and no growth.
        first_byte: Until a chat's first byte; a model is loaded and reads its prompt meanwhile.
        between_bytes: Between two bytes of a chat.
        notice: After which, and how often, a person hears that a chat is still waited for.
    """

    connect: float = 10.0
    metadata: float = 30.0
    whole: float = 90.0
    transfer: float = 600.0
    first_byte: float = 900.0
    between_bytes: float = 300.0
    notice: float = 30.0

    def of(self, method: str, path: str) -> tuple[float, float]:
        """How long a route may be silent before its first byte, and after it."""
        if path.endswith(("/api/pull", "/api/create")) or (
            method == "POST" and "/api/blobs/" in path
        ):
            return self.transfer, self.transfer
        if is_chat(path):
            return self.first_byte, self.between_bytes
        return self.metadata, self.metadata


def is_chat(path: str) -> bool:
    """Whether a route asks a model, which may take long before it says anything."""
    return "/v1/" in path or path.endswith(("/api/chat", "/api/generate"))


def waits_for(timeout: float | str | None = None) -> Waits:
    """The usual waits, or one number for all of them, which the environment may give as well.

    Raises:
        UsageError: The number is none, or no time.
    """
    said: float | str = os.environ.get(VARIABLE, "") if timeout is None else timeout
    if said == "":
        return Waits()
    try:
        seconds = float(said)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise UsageError(f"{said!r} is no time to wait", "give seconds, as in --timeout 120")
    usual = Waits()
    longest = seconds * usual.whole / usual.metadata
    return Waits(min(usual.connect, seconds), seconds, longest, seconds, seconds, seconds)


class Progressing:
    """Ends a transfer that says the same for too long; lines without news are silence too."""

    def __init__(self, url: str, seconds: float) -> None:
        self._url = url
        self._seconds = seconds
        self._last: object = None
        self._since = time.monotonic()

    def saw(self, *news: object) -> None:
        """Hear what a line says.

        Raises:
            ServerUnreachable: Nothing has changed for too long.
        """
        now = time.monotonic()
        if news != self._last:
            self._last, self._since = news, now
        elif now - self._since > self._seconds:
            raise ServerUnreachable(
                f"{self._url} makes no progress for {self._seconds:.0f} s",
                "check the server's log, or wait longer with --timeout",
            )
