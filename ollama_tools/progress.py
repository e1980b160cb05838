"""What long work says while it goes on; the command line and Python callers show it their way."""

from __future__ import annotations

import re
from typing import Protocol

from ollama_tools.errors import UsageError

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_SIZE = re.compile(r"(\d{1,6}(?:\.\d{1,6})?) ?(?:([kmgt])(?:i?b)?)?", re.ASCII)


def size_text(count: int, *, estimated: bool = False) -> str:
    """Bytes as a person reads them: ``13.4 GiB``, in powers of 1024 as memory and disks count.

    Args:
        count: How many bytes.
        estimated: Whether it is not known to the byte, which is then said.
    """
    size, unit = float(count), _UNITS[0]
    for unit in _UNITS:
        if size < 1023.5 or unit == _UNITS[-1]:
            break
        size /= 1024
    about = "about " if estimated else ""
    return f"{about}{size:.{0 if size >= 99.95 or unit == 'B' else 1}f} {unit}"


def parse_size(said: str) -> int:
    """A size as people write it: ``24GiB``, ``24 GB``, ``24g``, ``24`` or ``24576MiB``, in bytes.

    A unit means powers of 1024 however it is written, as the makers of graphics cards mean theirs.

    Raises:
        UsageError: It is no size.
    """
    match = _SIZE.fullmatch(said.strip().lower())
    if match is None or not float(match[1]):
        raise UsageError(f"{said!r} is no size", "as in 24GiB or 24576MiB")
    return round(float(match[1]) * (1 << 10 * ("kmgt".index(match[2] or "g") + 1)))


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
