"""Runs a Go template on values, as Go's text/template does, within limits.

Nothing but the template's text can make this slow or large, so steps, every text that it builds
and all of them together are counted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import NoneType
from typing import Any, TypeAlias

from ollama_tools.lint.fault import TemplateFault, TooCostly
from ollama_tools.lint.gotemplate.parse import (
    Action,
    Argument,
    Branch,
    Call,
    Chain,
    Dot,
    Field,
    Function,
    GoTemplate,
    Jump,
    Literal,
    Node,
    Pipe,
    Text,
    Variable,
)

_MAX_STEPS = 50_000
_MAX_TEXT = 1 << 20
"""Characters of what is written, and of each text on the way."""
_MAX_BUILT = 1 << 22
"""Characters of all texts together, those that are thrown away as well."""
_MAX_CALLS = 60
"""Of templates inside each other. What is rendered here is short, and so is honest recursion."""
_MAX_WIDTH = 10_000

_HTML_TEXT = str.maketrans(
    {
        '"': "&#34;",
        "'": "&#39;",
        "&": "&amp;",
        "<": "&lt;",
        ">": "&gt;",
        "\0": "\ufffd",
    }
)
_HTML = str.maketrans(
    {
        "<": "\\u003c",
        ">": "\\u003e",
        "&": "\\u0026",
        "\u2028": "\\u2028",
        "\u2029": "\\u2029",
    }
)


@dataclass(slots=True)
class Struct:
    """A Go struct: fields that exist, and how it is written as JSON.

    Attributes:
        type: Name of its type.
        fields: Its fields by name.
        keys: JSON key by field, and whether it is left out where it is empty.
        has_string: Whether it has a ``String`` method, which writes JSON.
    """

    type: str
    fields: dict[str, Any]
    keys: dict[str, tuple[str, bool]] = field(default_factory=dict)
    has_string: bool = False


@dataclass(slots=True)
class Map:
    """A Go map; see :class:`Struct` for its attributes."""

    type: str
    items: dict[str, Any]
    has_string: bool = False


@dataclass(slots=True)
class Slice:
    """A Go slice; see :class:`Struct` for its attributes."""

    type: str
    items: list[Any]
    has_string: bool = False


class _Absent:
    """What a template gets for a key that a map does not have."""


_ABSENT = _Absent()


def go_json(value: Any) -> str:
    """A value as Go's ``json.Marshal`` writes it: compact, keys sorted, ``< > &`` escaped."""
    return json.dumps(_plain(value), separators=(",", ":"), ensure_ascii=False).translate(_HTML)


def _plain(value: Any) -> Any:
    match value:
        case Struct():
            found = {}
            for name, each in value.fields.items():
                key, omit_empty = value.keys.get(name, (name, False))
                if key and not (omit_empty and not _truth(each)):
                    found[key] = _plain(each)
            return found
        case Map():
            return {key: _plain(value.items[key]) for key in sorted(value.items)}
        case Slice():
            return [_plain(each) for each in value.items]
        case dict():
            return {key: _plain(value[key]) for key in sorted(value)}
        case list():
            return [_plain(each) for each in value]
        case _Absent():
            return None
    return value


class _Break(Exception):
    pass


class _Continue(Exception):
    pass


class _Stop(Exception):
    pass


_Scope = list[tuple[str, Any]]


Functions: TypeAlias = Mapping[str, Callable[[list[Any]], Any]]
"""Functions that a program adds to Go's own, each of which takes the list of its arguments."""


def run(template: GoTemplate, data: Any, functions: Functions, *, stop_at: str = "") -> str:
    """What a template writes of a value.

    Args:
        template: The template.
        data: The value, of plain values and the classes above.
        functions: Functions beside Go's own.
        stop_at: A field; what follows the first time that it is asked for is left out.

    Raises:
        TemplateFault: The template fails on it, or does not come to an end.
    """
    return _Run(template, functions, stop_at).main(data)


class _Run:
    """One execution."""

    def __init__(self, template: GoTemplate, functions: Functions, stop_at: str) -> None:
        self._template = template
        self._functions = functions
        self._stop_at = stop_at
        self._parts: list[str] = []
        self._length = 0
        self._built = 0
        self._steps = 0
        self._calls = 0
        self._line = 0

    def main(self, data: Any) -> str:
        try:
            self._nodes(self._template.root, data, [("$", data)])
        except _Stop:
            pass
        except RecursionError:
            raise TooCostly("it calls itself without an end", self._line) from None
        whole = "".join(self._parts)
        return whole.encode("utf-8", "surrogateescape").decode("utf-8", "replace")

    def _write(self, text: str) -> None:
        self._length += len(text)
        if self._length > _MAX_TEXT:
            raise TooCostly("it writes without an end", self._line)
        self._parts.append(text)

    def _text(self, parts: Iterable[str]) -> str:
        """One text out of many, which is given up before it is too long."""
        found, length = [], 0
        for each in parts:
            length += len(each)
            self._built += len(each)
            if length > _MAX_TEXT or self._built > _MAX_BUILT:
                raise TooCostly("it builds a text without an end", self._line)
            found.append(each)
        return "".join(found)

    def _step(self) -> None:
        self._steps += 1
        if self._steps > _MAX_STEPS:
            raise TooCostly("it does not come to an end", self._line)

    def _fail(self, message: str) -> TemplateFault:
        return TemplateFault(message, self._line)

    def _nodes(self, nodes: list[Node], dot: Any, scope: _Scope) -> None:
        mark = len(scope)
        for node in nodes:
            self._step()
            match node:
                case Text():
                    self._write(node.text)
                case Action():
                    value = self._pipe(node.pipe, dot, scope)
                    if not node.pipe.variables:
                        self._write(_printed(value))
                case Branch():
                    self._branch(node, dot, scope)
                case Call():
                    self._call(node, dot, scope)
                case Jump():
                    raise _Break if node.kind == "break" else _Continue
        del scope[mark:]

    def _branch(self, node: Branch, dot: Any, scope: _Scope) -> None:
        mark = len(scope)
        value = self._pipe(node.pipe, dot, scope, declare=node.kind != "range")
        if node.kind == "range":
            self._range(node, value, dot, scope)
        elif _truth(value):
            self._nodes(node.body, value if node.kind == "with" else dot, scope)
        else:
            self._nodes(node.otherwise, dot, scope)
        del scope[mark:]

    def _range(self, node: Branch, value: Any, dot: Any, scope: _Scope) -> None:
        pairs = list(self._pairs(value))
        self._steps += len(pairs)
        mark = len(scope)
        for key, item in pairs:
            names = node.pipe.variables
            bound = [key, item] if len(names) == 2 else [item]
            for name, each in zip(names, bound, strict=False):
                if node.pipe.declares:
                    scope.append((name, each))
                else:
                    _assign(scope, name, each)
            try:
                self._nodes(node.body, item, scope)
            except _Break:
                break
            except _Continue:
                pass
            finally:
                del scope[mark:]
        if not pairs:
            self._nodes(node.otherwise, dot, scope)

    def _pairs(self, value: Any) -> Iterator[tuple[Any, Any]]:
        match value:
            case Slice():
                yield from enumerate(value.items)
            case Map():
                for key in sorted(value.items):
                    yield key, value.items[key]
            case bool():
                raise self._fail("range cannot iterate over a bool")
            case int():
                if value > _MAX_STEPS:
                    raise TooCostly("it does not come to an end", self._line)
                yield from ((each, each) for each in range(value))
            case None | _Absent():
                return
            case _:
                raise self._fail(f"range cannot iterate over a {_type(value)}")

    def _call(self, node: Call, dot: Any, scope: _Scope) -> None:
        self._calls += 1
        if self._calls > _MAX_CALLS:
            raise TooCostly("it calls itself without an end", node.line)
        value = None if node.pipe is None else self._pipe(node.pipe, dot, scope)
        self._nodes(self._template.defined[node.name], value, [("$", value)])
        self._calls -= 1

    # Values

    def _pipe(self, pipe: Pipe, dot: Any, scope: _Scope, *, declare: bool = True) -> Any:
        self._line = pipe.line
        value: Any = None
        for index, command in enumerate(pipe.commands):
            value = self._command(command, dot, scope, [value] if index else [])
        if declare:
            for name in pipe.variables:
                if pipe.declares:
                    scope.append((name, value))
                else:
                    _assign(scope, name, value)
        return value

    def _command(self, command: list[Argument], dot: Any, scope: _Scope, last: list[Any]) -> Any:
        self._step()
        first, rest = command[0], command[1:]
        if isinstance(first, Function):
            if first.name in ("and", "or"):
                return self._logic(first.name, rest, dot, scope, last)
            values = [self._argument(each, dot, scope) for each in rest] + last
            try:
                return self._function(first.name, values)
            except (TypeError, IndexError, KeyError, ValueError, AttributeError, OverflowError):
                raise self._fail(f"{first.name} cannot take what it is given") from None
        if rest or last:
            raise self._fail("a value that is no function is given arguments")
        return self._argument(first, dot, scope)

    def _logic(
        self, name: str, rest: list[Argument], dot: Any, scope: _Scope, last: list[Any]
    ) -> Any:
        value: Any = None
        for each in rest:
            value = self._argument(each, dot, scope)
            if _truth(value) != (name == "and"):
                return value
        return last[0] if last else value

    def _argument(self, argument: Argument, dot: Any, scope: _Scope) -> Any:
        match argument:
            case Literal():
                return argument.value
            case Dot():
                return dot
            case Field():
                return self._fields(dot, argument.names)
            case Variable():
                value = next(each for name, each in reversed(scope) if name == argument.name)
                return self._fields(value, argument.names)
            case Chain():
                return self._fields(self._pipe(argument.of, dot, scope), argument.names)
            case Pipe():
                return self._pipe(argument, dot, scope)
            case Function():
                return self._command([argument], dot, scope, [])

    def _fields(self, value: Any, names: tuple[str, ...]) -> Any:
        for name in names:
            if name == self._stop_at:
                raise _Stop
            match value:
                case Struct() if name in value.fields:
                    value = value.fields[name]
                case Map():
                    value = value.items.get(name, _ABSENT)
                case Struct():
                    raise self._fail(f"can't evaluate field {name} in type {value.type}")
                case None | _Absent():
                    raise self._fail(f"nothing is there that could have a field {name}")
                case _:
                    raise self._fail(f"can't evaluate field {name} in type {_type(value)}")
        return value

    def _function(self, name: str, values: list[Any]) -> Any:
        match name:
            case "eq":
                if len(values) < 2:
                    raise TypeError
                return any(self._equal(values[0], each) for each in values[1:])
            case "ne":
                return not self._equal(values[0], values[1])
            case "lt" | "le" | "gt" | "ge":
                return self._compare(name, values[0], values[1])
            case "not":
                return not _truth(values[0])
            case "len":
                return _length(values[0])
            case "index":
                return _index(values[0], values[1:])
            case "slice":
                return _slice(values[0], values[1:])
            case "printf":
                return self._text(self._printf(str(values[0]), values[1:]))
            case "print":
                return self._text(_print(values))
            case "println":
                return self._text(_println(values))
            case "html":
                return self._text(each.translate(_HTML_TEXT) for each in _print(values))
            case "js":
                return self._text(_js(letter) for each in _print(values) for letter in each)
        if name in self._functions:
            found = self._functions[name](values)
            return self._text([found]) if isinstance(found, str) else found
        raise self._fail(f"{name} is not run here")

    def _equal(self, one: Any, other: Any) -> bool:
        if isinstance(one, NoneType | _Absent) or isinstance(other, NoneType | _Absent):
            return isinstance(one, NoneType | _Absent) and isinstance(other, NoneType | _Absent)
        self._check_comparable(one, other)
        return bool(one == other)

    def _compare(self, name: str, one: Any, other: Any) -> bool:
        self._check_comparable(one, other)
        if isinstance(one, str):
            one, other = (each.encode("utf-8", "surrogateescape") for each in (one, other))
        return bool(
            {"lt": one < other, "le": one <= other, "gt": one > other, "ge": one >= other}[name]
        )

    def _check_comparable(self, one: Any, other: Any) -> None:
        if type(one) is not type(other) or not isinstance(one, str | int | float | bool):
            raise self._fail(f"a {_type(one)} cannot be compared with a {_type(other)}")

    def _printf(self, form: str, values: list[Any]) -> Iterator[str]:
        left = iter(values)
        at = 0
        for match in _VERB.finditer(form):
            yield form[at : match.start()]
            at = match.end()
            yield self._formatted(match, left)
        yield form[at:]

    def _formatted(self, match: re.Match[str], left: Iterator[Any]) -> str:
        flags, width, verb = match[1], match[2], match[4]
        if verb == "%":
            return "%"
        if _is_absurd(width) or _is_absurd((match[3] or ".")[1:]):
            raise self._fail("a width is absurd")
        value = next(left, _ABSENT)
        if verb == "T":
            text = _type(value)
        elif verb == "q" and isinstance(value, str):
            text = _quoted(value)
        elif verb in "dxXofeg" and isinstance(value, int | float):
            try:
                text = f"%{match[3] or ''}{verb}" % value
            except (TypeError, ValueError):
                text = _printed(value)
        else:
            text = _printed(value)
        fill = "0" if "0" in flags and "-" not in flags and verb in "dxXofeg" else " "
        padded = text.ljust if "-" in flags else text.rjust
        return padded(int(width or 0), fill)


_VERB = re.compile(r"%([-+# 0]*)(\d*)(\.\d*)?([a-zA-Z%])", re.ASCII)


def _is_absurd(width: str) -> bool:
    return len(width) > 9 or int(width or 0) > _MAX_WIDTH


def _assign(scope: _Scope, name: str, value: Any) -> None:
    for at in range(len(scope) - 1, -1, -1):
        if scope[at][0] == name:
            scope[at] = (name, value)
            return


def _truth(value: Any) -> bool:
    match value:
        case Map() | Slice():
            return bool(value.items)
        case Struct():
            return True
        case _Absent():
            return False
    return bool(value)


def _length(value: Any) -> int:
    if isinstance(value, Map | Slice):
        return len(value.items)
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogateescape"))
    raise TypeError


def _index(value: Any, keys: list[Any]) -> Any:
    for key in keys:
        if isinstance(value, Map):
            value = value.items.get(key, _ABSENT)
        elif isinstance(key, int) and not isinstance(key, bool) and key >= 0:
            value = value.items[key] if isinstance(value, Slice) else value.encode()[key]
        else:
            raise TypeError
    return value


def _slice(value: Any, bounds: list[int]) -> Any:
    """Go's ``slice``, which counts bytes of a text and accepts no bound beyond its end."""
    whole = _length(value)
    start, end = (*bounds, *(0, whole)[len(bounds) :])[:2]
    if not 0 <= start <= end <= whole:
        raise IndexError
    if isinstance(value, str):
        data = value.encode("utf-8", "surrogateescape")[start:end]
        return data.decode("utf-8", "surrogateescape")
    if isinstance(value, Slice):
        return Slice(value.type, value.items[start:end])
    raise TypeError


def _type(value: Any) -> str:
    match value:
        case Struct() | Map() | Slice():
            return value.type
        case bool():
            return "bool"
        case str():
            return "string"
        case int():
            return "int"
        case float():
            return "float64"
    return "<nil>"


def _printed(value: Any) -> str:
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case None | _Absent():
            return "<no value>"
        case Map() | Slice() | Struct() if value.has_string:
            return go_json(value)
        case Map():
            inner = " ".join(f"{key}:{_printed(value.items[key])}" for key in sorted(value.items))
            return f"map[{inner}]"
        case Slice():
            return f"[{' '.join(map(_printed, value.items))}]"
        case Struct():
            return "{" + " ".join(map(_printed, value.fields.values())) + "}"
    return str(value)


def _print(values: list[Any]) -> Iterator[str]:
    """Go's ``print`` puts a blank between two operands where neither is a text."""
    for index, each in enumerate(values):
        if index and not isinstance(each, str) and not isinstance(values[index - 1], str):
            yield " "
        yield _printed(each)


def _println(values: list[Any]) -> Iterator[str]:
    for index, each in enumerate(values):
        yield f"{' ' if index else ''}{_printed(each)}"
    yield "\n"


def _quoted(text: str) -> str:
    """A text as ``%q`` writes it; on text that can be printed it is the same as JSON."""
    return f'"{"".join(map(_quoted_letter, text))}"'


_QUOTED = {
    '"': '\\"',
    "\\": "\\\\",
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
}


def _quoted_letter(letter: str) -> str:
    number = ord(letter)
    if found := _QUOTED.get(letter):
        return found
    if letter.isprintable():
        return letter
    if number < 0x80 or 0xDC80 <= number <= 0xDCFF:
        return f"\\x{number & 0xFF:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _js(letter: str) -> str:
    if letter in "\\'\"":
        return f"\\{letter}"
    if letter in "<>&=" or not letter.isprintable():
        return f"\\u{ord(letter):04X}"
    return letter
