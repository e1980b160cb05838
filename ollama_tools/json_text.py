"""JSON out of strange hands: one way to read it, and one way in which that fails."""

from __future__ import annotations

import json
import re
from typing import Any

DEEPEST = 200
"""How deep lists and objects may stand in one another; nothing that is meant to be read has more.

Python's two readers end at other depths than this, which differ by its version, and a value that
one of them has read may still be too deep for what comes after it.
"""

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
                    raise MalformedJson("nested too deeply")
            elif mark in b"]}":
                self._depth -= 1
        if piece:
            self._escaped = escaped == len(piece)


def parse_json(text: str | bytes) -> Any:
    """The value that a text stands for.

    ``json`` has an exception of its own for syntax, and another for bytes that are no text.

    Raises:
        MalformedJson: It cannot be read, for whatever reason.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode(json.detect_encoding(text), "surrogatepass")
        if text.count("[") + text.count("{") > DEEPEST:
            Nesting().feed(text.encode(errors="surrogatepass"))
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise MalformedJson(f"line {error.lineno}: {error.msg}") from error
    except MalformedJson:
        raise
    except RecursionError as error:
        # Whoever asks may stand deep already.
        raise MalformedJson("nested too deeply") from error
    except ValueError as error:
        raise MalformedJson(str(error)) from error
