"""What long work says while it goes on; the command line and Python callers show it their way."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Hears of the steps of long work."""

    def step(self, text: str) -> None:
        """A new step begins."""

    def transfer(self, label: str, done: int, total: int | None) -> None:
        """Bytes done of a transfer, and bytes of the whole where they are known."""

    def warn(self, text: str) -> None:
        """Something a person should know, though the work goes on."""


class Silence:
    """Says nothing: the default for Python callers."""

    def step(self, text: str) -> None:
        """See :class:`Progress`."""

    def transfer(self, label: str, done: int, total: int | None) -> None:
        """See :class:`Progress`."""

    def warn(self, text: str) -> None:
        """See :class:`Progress`."""
