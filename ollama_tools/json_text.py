"""JSON out of strange hands: one way to read it, and one way in which that fails."""

from __future__ import annotations

import json
import math
import re
from typing import Any

DEEPEST = 200
"""How deep lists and objects may stand in one another; nothing that is meant to be read has more.

Python's two readers end at other depths than this, which differ by its version, and a value that
one of them has read may still be too deep for what comes after it.
"""

TOO_DEEP = "nested too deeply"
"""The message about a text that is JSON, and nested deeper than that."""

TOO_MANY_DIGITS = "a number of too many digits"
"""The message about one with a number that Python does not read, and others do."""

_SURROGATE = re.compile(r"[\ud800-\udfff]|\\u[dD][89a-fA-F]")
_MARKS = re.compile(rb'[\[\]{}"\\]')


class MalformedJson(ValueError):
    """A text is no JSON, or none that can be read; the message is a reason of one line."""


class Nesting:
    """Follows a JSON text, piece by piece, and ends where it is nested too deeply."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_text = False
        self._escaped = False

    def feed(self, piece: bytes) -> None:
        """Follow the next piece of a text in UTF-8.

        Raises:
            MalformedJson: It is nested deeper than :data:`DEEPEST`.
        """
        escaped = 0 if self._escaped else -1
        for match in _MARKS.finditer(piece):
            mark, at = match[0], match.start()
            if at == escaped:
                continue
            if mark == b'"':
                self._in_text = not self._in_text
            elif self._in_text:
                if mark == b"\\":
                    escaped = at + 1
            elif mark in b"[{":
                self._depth += 1
                if self._depth > DEEPEST:
                    raise MalformedJson(TOO_DEEP)
            elif mark in b"]}":
                self._depth -= 1
        if piece:
            self._escaped = escaped == len(piece)


def parse_json(text: str | bytes, *, strict: bool = False) -> Any:
    """The value that a text stands for.

    ``json`` has an exception of its own for syntax, and another for bytes that are no text.

    Args:
        text: The text.
        strict: Whether to refuse what readers of JSON disagree about: keys that stand twice in an
            object, NaN and numbers without end, and half of a surrogate pair.

    Raises:
        MalformedJson: It cannot be read, for whatever reason.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode(json.detect_encoding(text), "surrogatepass")
        if strict and (not text.isascii() or "\\u" in text) and _SURROGATE.search(text):
            _no_half_pairs(json.loads(text))
        found = json.loads(text, **_STRICTLY) if strict else json.loads(text)
    except json.JSONDecodeError as error:
        raise MalformedJson(f"line {error.lineno}: {error.msg}") from error
    except MalformedJson:
        raise
    except RecursionError as error:
        # Whoever asks may stand deep already.
        raise MalformedJson(TOO_DEEP) from error
    except UnicodeError as error:
        raise MalformedJson(str(error)) from error
    except ValueError as error:
        raise MalformedJson(TOO_MANY_DIGITS) from error
    if isinstance(found, (dict, list)):
        _look_at_depth(found)
    return found


def _look_at_depth(value: Any) -> None:
    """What :class:`Nesting` does, for an object or list that has been read: many times as fast."""
    level = [value]
    for _ in range(DEEPEST):
        level = [
            inner
            for each in level
            for inner in (each.values() if isinstance(each, dict) else each)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return
    raise MalformedJson(TOO_DEEP)


def _no_half_pairs(value: object) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise MalformedJson("half of a surrogate pair is no character") from error


def _no_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise MalformedJson("a key stands twice in an object")
    return found


def _no_constant(text: str) -> None:
    raise MalformedJson(f"{text} is no number")


def _finite(text: str) -> float:
    found = float(text)
    if math.isinf(found):
        raise MalformedJson("a number is too large")
    return found


_STRICTLY: dict[str, Any] = {
    "object_pairs_hook": _no_doubles,
    "parse_constant": _no_constant,
    "parse_float": _finite,
}
