"""The arguments that models wrote, as they wrote them: so the prompt cache still knows them.

A client reads a call's arguments and writes them anew, with other spaces, orders and numbers. What
it sends back is compared by what it means, and what the model wrote stands in the prompt. Of what
no model is known to have written mistral-common's form does.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any

from ollama_tools.devstral.contract import written
from ollama_tools.gateway.asked import arguments_of

_KEPT_BYTES = 64 * 2**20
_ENTRY_BYTES = 256
"""What an entry takes beside its text."""
_EXACT = 2**53


class Recalled:
    """The texts of calls, those forgotten first that nobody has asked for longest."""

    def __init__(self, limit: int = _KEPT_BYTES) -> None:
        """Begin with none.

        Args:
            limit: Bytes that they may take.
        """
        self._limit = limit
        self._size = 0
        self._texts: OrderedDict[bytes, str] = OrderedDict()

    def remember(self, call_id: str, name: str, text: str, *forms: object) -> None:
        """Keep what a model wrote.

        Args:
            call_id: The call's id.
            name: The tool's name.
            text: The arguments as the model wrote them.
            forms: The arguments as clients get them, where that is not the text itself.
        """
        if not text:
            return
        distinct: list[object] = []
        for arguments in (arguments_of(text), *forms):
            if arguments in distinct:
                continue
            distinct.append(arguments)
            for key in _keys(call_id, name, arguments):
                self._put(key, text)

    def text(self, call_id: str, name: str, arguments: object) -> str:
        """A call's arguments as they stand in a prompt."""
        if self._texts:
            for key in _keys(call_id, name, arguments):
                if key in self._texts:
                    self._texts.move_to_end(key)
                    return self._texts[key]
        return written(arguments)

    def _put(self, key: bytes, text: str) -> None:
        self._size += _weight(text)
        if key in self._texts:
            self._size -= _weight(self._texts.pop(key))
        self._texts[key] = text
        while self._size > self._limit:
            _, forgotten = self._texts.popitem(last=False)
            self._size -= _weight(forgotten)


def _weight(text: str) -> int:
    return _ENTRY_BYTES + len(text.encode("utf-8", "surrogatepass"))


def _keys(call_id: str, name: str, arguments: object) -> Iterator[bytes]:
    """What a call is known by: with its id, and without, since some clients drop or change it.

    Only the id says whose call it is, and that a large number is one that JavaScript has rounded.
    """
    for known, most in ((call_id, _EXACT), ("", None)):
        meant = json.dumps([known, name, _plain(arguments, most)], sort_keys=True)
        yield blake2b(meant.encode(), digest_size=16).digest()


def _plain(value: Any, most: int | None) -> Any:
    """A value with its numbers as JavaScript has them, which writes 1 for 1.0.

    Args:
        value: The value.
        most: The largest integer that is not rounded; None rounds none.
    """
    if isinstance(value, dict):
        return {key: _plain(each, most) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each, most) for each in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if most is not None and type(value) is int and abs(value) > most:
        try:
            return int(float(value))
        except OverflowError:
            return value
    return value
