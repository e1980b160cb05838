"""How much one client may ask for."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus

from ollama_tools.gateway.asked import Problem

_MINUTE = 60.0


@dataclass
class _Use:
    at_work: int = 0
    left: float = math.inf
    seen: float = field(default_factory=time.monotonic)


class Limits:
    """Requests at a time, and a minute, for each key."""

    def __init__(self, at_a_time: int | None, a_minute: int | None) -> None:
        self._at_a_time = at_a_time
        self._a_minute = a_minute
        self._uses: defaultdict[str, _Use] = defaultdict(_Use)

    @contextmanager
    def taken(self, name: str) -> Iterator[None]:
        """While a request of a key's is being answered.

        Raises:
            Problem: It is one too many (429).
        """
        use = self._uses[name]
        if self._at_a_time is not None and use.at_work >= self._at_a_time:
            raise _too_many(f"{use.at_work} requests of {name} are being answered already", 1.0)
        if self._a_minute is not None:
            self._refill(use, self._a_minute)
            if use.left < 1:
                seconds = (1 - use.left) * _MINUTE / self._a_minute
                raise _too_many(f"{name} may ask {self._a_minute} times a minute", seconds)
            use.left -= 1
        use.at_work += 1
        try:
            yield
        finally:
            use.at_work -= 1

    @staticmethod
    def _refill(use: _Use, a_minute: int) -> None:
        now = time.monotonic()
        use.left = min(a_minute, use.left + (now - use.seen) * a_minute / _MINUTE)
        use.seen = now


def _too_many(what: str, seconds: float) -> Problem:
    return Problem(
        what, HTTPStatus.TOO_MANY_REQUESTS, "rate_limit_exceeded", max(1, math.ceil(seconds))
    )
