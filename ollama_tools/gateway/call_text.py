"""What a model writes, taken apart as it comes: what it says, and the calls that it makes.

Two forms are known, whichever the model's version: ``[TOOL_CALLS]name[ARGS]{…}`` once for each call
(v13), and ``[TOOL_CALLS][{"name": …, "arguments": …, "id": …}]`` (v7).

A control token is never cut: it comes in a piece of its own, or behind other text where a stop
string has made the server wait (llama-server, 0.34.4). The same characters written as text are
several tokens and come in as many pieces. So what does not stand in one piece is no control token;
and inside of arguments, which may quote one, only what comes alone is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Generator, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from ollama_tools.json_text import MalformedJson, parse_json

_TOOL_CALLS: Final = "[TOOL_CALLS]"
_LONGEST_NAME: Final = 256
"""Characters; what is longer and no name yet is text."""

_NAME_ENDS = re.compile(r"\[TOOL_CALLS\]|(?P<args>\[ARGS\])|(?P<object>\{)|(?P<list>\A\s*\[)")
_MARKS = re.compile(r'["\\{}\[\]]')
_CONTROL = re.compile(r"[\x00-\x1f]")
_IN_STRINGS = re.compile(r'["\\\x00-\x1f]')
_DECODER = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class Said:
    """Text that is for people."""

    text: str


@dataclass(frozen=True, slots=True)
class Begun:
    """A call begins.

    Attributes:
        name: Its name as the model wrote it.
        call_id: The id that the model gave it; empty where its form has none.
    """

    name: str
    call_id: str = ""


@dataclass(frozen=True, slots=True)
class Written:
    """A piece of the arguments of the call that has begun."""

    text: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The call that has begun is over.

    Attributes:
        whole: Whether its arguments came to an end of their own.
    """

    whole: bool


Event: TypeAlias = Said | Begun | Written | Ended
_Rest: TypeAlias = Generator[Event, None, str]
"""Events, and what is left of a piece."""


class CallText:
    """Takes apart what a model writes.

    Args:
        offered: The names of the tools that the model may call.
    """

    def __init__(self, offered: Collection[str]) -> None:
        self._offered = offered
        self._state: Callable[[str], _Rest] = self._in_text
        self._kept: list[str] = []
        self._extent = _Extent()
        self._has_called = False

    @property
    def is_in_call(self) -> bool:
        """Whether what comes next belongs to a call, as far as anybody can tell."""
        return self._state != self._in_text

    def feed(self, piece: str) -> Iterator[Event]:
        """What the next piece of the model's words means."""
        if piece == _TOOL_CALLS:
            yield from self._cut_short()
            self._goes(self._in_name)
            return
        while piece:
            piece = yield from self._state(piece)

    def end(self, *, cut: bool) -> Iterator[Event]:
        """What is left when it says no more.

        Args:
            cut: Whether it would have said more.
        """
        if self._state != self._in_name:
            if not (cut and self._state == self._in_list):
                yield from self._cut_short(at_end=not cut)
        elif not cut:
            yield from self._called_bare("".join(self._kept))

    def _goes(self, state: Callable[[str], _Rest]) -> None:
        self._state = state
        self._kept = []
        self._extent = _Extent()

    def _cut_short(self, *, at_end: bool = False) -> Iterator[Event]:
        """The end of whatever has begun."""
        text = "".join(self._kept)
        if self._state == self._in_name:
            yield from self._called_bare(text)
        elif self._state == self._in_list:
            yield Said(text)
        elif self._state != self._in_text:
            yield Ended(_is_json(text) or (at_end and not text.strip()))

    def _in_text(self, piece: str) -> _Rest:
        text, mark, rest = piece.partition(_TOOL_CALLS)
        self._kept.append(text)
        # What only separates two calls is nobody's words.
        if text.strip() or (text and not self._has_called):
            yield Said("".join(self._kept))
            self._kept, self._has_called = [], False
        if mark:
            self._goes(self._in_name)
        return rest

    def _in_name(self, piece: str) -> _Rest:
        self._kept.append(piece)
        text = "".join(self._kept)
        found = _NAME_ENDS.search(text)
        if found is None:
            if len(text) > _LONGEST_NAME:
                self._goes(self._in_text)
                yield Said(text)
            return ""
        name, rest = text[: found.start()], text[found.end() :]
        if found["list"] or (found["object"] and not name.strip()):
            self._goes(self._in_list)
            return text
        if found["args"] and not name.strip():
            self._goes(self._in_text)
            return text
        if found["args"] or found["object"]:
            self._goes(self._in_arguments)
            yield Begun(name)
            return (found["object"] or "") + rest
        yield from self._called_bare(name)
        self._goes(self._in_name)
        return rest

    def _called_bare(self, name: str) -> Iterator[Event]:
        """A name that no arguments follow; where it is no tool's it is text."""
        if name.strip() in self._offered:
            yield Begun(name)
            yield Ended(whole=True)
            self._has_called = True
        elif name.strip():
            yield Said(name)

    def _in_arguments(self, piece: str) -> _Rest:
        if not self._extent.has_begun and piece.strip() and piece.lstrip()[0] not in '{["':
            self._state = self._in_rest
            return piece
        end = self._extent.end_in(piece)
        text = piece[:end]
        self._kept.append(text)
        yield Written(text)
        if end is None:
            return ""
        if _is_json("".join(self._kept)):
            yield Ended(whole=True)
            self._goes(self._in_text)
            self._has_called = True
        else:
            self._state = self._in_rest
        return piece[end:]

    def _in_rest(self, piece: str) -> _Rest:
        """What is no JSON ends where something else begins."""
        text, mark, rest = piece.partition(_TOOL_CALLS)
        self._kept.append(text)
        if text:
            yield Written(text)
        if mark:
            yield from self._cut_short()
            self._goes(self._in_name)
        return rest

    def _in_list(self, piece: str) -> _Rest:
        end = self._extent.end_in(piece)
        self._kept.append(piece[:end])
        if end is None:
            return ""
        text = "".join(self._kept)
        self._goes(self._in_text)
        try:
            listed = [*_listed(text)]
        except MalformedJson:
            yield Said(text)
            return piece[end:]
        for call, arguments in listed:
            yield call
            yield Written(arguments)
            yield Ended(whole=True)
        self._has_called = True
        return piece[end:]


class _Extent:
    """Finds where a JSON value in brackets or quotes ends, piece by piece."""

    def __init__(self) -> None:
        self.has_begun = False
        self._depth = 0
        self._in_text = False
        self._escaped = False

    def end_in(self, piece: str) -> int | None:
        """How much of the next piece still belongs to it; None where all does."""
        at = 0
        if piece and self._escaped:
            at, self._escaped = 1, False
        while match := _MARKS.search(piece, at):
            self.has_begun = True
            at = match.end()
            mark = match[0]
            if mark == '"':
                self._in_text = not self._in_text
            elif self._in_text:
                if mark == "\\":
                    self._escaped = at == len(piece)
                    at += 1
            elif mark in "{[":
                self._depth += 1
            elif mark in "}]":
                self._depth -= 1
            if not self._in_text and self._depth <= 0 and mark != "\\":
                return at
        return None


class Escaper:
    """Escapes control characters in the strings of a JSON text, piece by piece.

    JSON lets none stand there; models write newlines and tabs as they are now and then.
    """

    def __init__(self) -> None:
        self._in_string = False
        self._escaped = False

    def escaped(self, piece: str) -> str:
        """The next piece of the text."""
        found, done, skipped = [], 0, 0 if self._escaped and piece else -1
        self._escaped = self._escaped and not piece
        for match in _IN_STRINGS.finditer(piece):
            mark, at = match[0], match.start()
            if at == skipped:
                continue
            if mark == '"':
                self._in_string = not self._in_string
            elif self._in_string and mark == "\\":
                skipped = at + 1
                self._escaped = skipped == len(piece)
            elif self._in_string:
                found += [piece[done:at], json.dumps(mark)[1:-1]]
                done = at + 1
        return "".join([*found, piece[done:]])


def _plain(text: str) -> str:
    """A text of the same length without control characters."""
    return _CONTROL.sub(" ", text)


def _is_json(text: str) -> bool:
    try:
        parse_json(_plain(text))
    except MalformedJson:
        return False
    return True


def _listed(text: str) -> Iterator[tuple[Begun, str]]:
    """The calls of a list with the text of their arguments, or of one that no list is around."""
    written, text = text, _plain(text)
    found = parse_json(text)
    at = 0
    for call in found if isinstance(found, list) else [found]:
        if not isinstance(call, dict) or not isinstance(call.get("name"), str):
            raise MalformedJson("no call")
        call_id = call.get("id")
        named = Begun(call["name"], call_id if isinstance(call_id, str) else "")
        at = text.index("{", at)
        arguments = ""
        while text[at] != "}":
            key, at = _value(text, at + 1)
            start = at + 1
            value, at = _value(text, start)
            if json.loads(key) == "arguments":
                start = text.index(value, start)
                arguments = written[start : start + len(value)]
        at += 1
        yield named, arguments


def _value(text: str, start: int) -> tuple[str, int]:
    """The text of a JSON value, and where what follows it stands."""
    start = _behind_space(text, start)
    _, end = _DECODER.raw_decode(text, start)
    return text[start:end], _behind_space(text, end)


def _behind_space(text: str, at: int) -> int:
    return len(text) - len(text[at:].lstrip())
