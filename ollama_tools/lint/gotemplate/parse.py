"""Go's text/template, parsed: enough of it to say where a template is wrong, and to run it.

What Go refuses is refused here with the line: unknown functions, actions that are not closed,
variables that nobody declared. The nodes are those of Go's own parser, because one of Ollama's
rules (where the tag of tool calls is found) is about them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from ollama_tools.lint.fault import TemplateFault


def words(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


FUNCTIONS = words(
    "and or not len index slice print printf println html js urlquery call eq ne lt le gt ge"
)
"""Go's own."""

_MAX_DEPTH = 60
"""Of nested actions and parentheses; no chat template comes near it."""

_TOKEN = re.compile(
    r"""
    (?P<space>\s+)
    |(?P<string>"(?:[^"\\\n]|\\.)*"|`[^`]*`)
    |(?P<char>'(?:[^'\\\n]|\\.)+')
    |(?P<number>[+-]?(?:0[xX][0-9a-fA-F_]+|\d[\d_]*(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+))
    |(?P<variable>\$\w*(?:\.\w+)*)
    |(?P<field>(?:\.[^\W\d]\w*)+)
    |(?P<word>[^\W\d]\w*)
    |(?P<dot>\.(?!\w))
    |(?P<sign>:=|[=|(),])
    """,
    re.VERBOSE,
)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_KEYWORDS = words("if range with define block template end else break continue")


@dataclass(slots=True)
class Text:
    """Text outside of actions, its white space trimmed as the actions beside it ask."""

    text: str
    line: int


@dataclass(slots=True)
class Literal:
    """A constant."""

    value: str | int | float | bool | None


@dataclass(slots=True)
class Dot:
    """The value that a template stands on."""


@dataclass(slots=True)
class Field:
    """A field of it: ``.Function.Name``."""

    names: tuple[str, ...]


@dataclass(slots=True)
class Variable:
    """A variable, with the fields that are asked of it: ``$call.ID``."""

    name: str
    names: tuple[str, ...]


@dataclass(slots=True)
class Function:
    """The name of a function."""

    name: str


@dataclass(slots=True)
class Chain:
    """Fields of a value in parentheses."""

    of: Pipe
    names: tuple[str, ...]


Argument: TypeAlias = "Literal | Dot | Field | Variable | Function | Chain | Pipe"


@dataclass(slots=True)
class Pipe:
    """Commands joined by ``|``; each command is its arguments."""

    line: int
    variables: tuple[str, ...] = ()
    declares: bool = False
    commands: list[list[Argument]] = field(default_factory=list)


@dataclass(slots=True)
class Action:
    """``{{ pipe }}``."""

    pipe: Pipe


@dataclass(slots=True)
class Branch:
    """``if``, ``range`` or ``with``."""

    kind: str
    pipe: Pipe
    body: list[Node]
    otherwise: list[Node]


@dataclass(slots=True)
class Call:
    """``{{ template "name" pipe }}``; the pipe may be left out."""

    name: str
    pipe: Pipe | None
    line: int


@dataclass(slots=True)
class Jump:
    """``break`` or ``continue``."""

    kind: str


Node: TypeAlias = "Text | Action | Branch | Call | Jump"


@dataclass(slots=True)
class GoTemplate:
    """A parsed template.

    Attributes:
        root: The main template.
        defined: The named templates.
        calls: Every call of one.
    """

    root: list[Node]
    defined: dict[str, list[Node]]
    calls: list[Call]


def parse(text: str, functions: frozenset[str] = frozenset()) -> GoTemplate:
    """Parse a Go template.

    Args:
        text: The template.
        functions: The names of functions beside Go's own.

    Raises:
        TemplateFault: It cannot be parsed.
    """
    return _Parser(text, FUNCTIONS | functions).parse()


@dataclass(slots=True)
class _Token:
    kind: str
    text: str


class _Parser:
    def __init__(self, text: str, functions: frozenset[str]) -> None:
        self._functions = functions
        self._pieces = list(_pieces(text))
        self._at = 0
        self._defined: dict[str, list[Node]] = {}
        self._called: list[Call] = []
        self._scopes: list[set[str]] = [{"$"}]
        self._loops = 0
        self._depth = 0

    def parse(self) -> GoTemplate:
        root, ending, line = self._nodes()
        if ending:
            raise TemplateFault(f"{{{{ {ending} }}}} closes nothing", line)
        for each in self._called:
            if each.name not in self._defined:
                raise TemplateFault(f"the template {each.name!r} is defined nowhere", each.line)
        return GoTemplate(root, self._defined, self._called)

    def _nodes(self) -> tuple[list[Node], str, int]:
        """Nodes up to an ``end``, an ``else`` or the end; the word that ended them, its line."""
        nodes: list[Node] = []
        while self._at < len(self._pieces):
            piece = self._pieces[self._at]
            self._at += 1
            if isinstance(piece, Text):
                if piece.text:
                    nodes.append(piece)
                continue
            tokens, line = piece
            word = tokens[0].text if tokens and tokens[0].kind == "word" else ""
            rest = _Stream(tokens[1:], line) if word in _KEYWORDS else _Stream(tokens, line)
            if word in ("end", "else"):
                if word == "else":
                    self._else_rest = rest
                else:
                    rest.finish()
                return nodes, word, line
            if word in ("if", "range", "with"):
                nodes.append(self._branch(word, rest, line))
            elif word in ("define", "block"):
                nodes += self._define(word, rest, line)
            elif word == "template":
                name = rest.string("a template's name")
                call = Call(name, None if rest.is_done() else self._pipe(rest), line)
                self._called.append(call)
                nodes.append(call)
            elif word in ("break", "continue"):
                rest.finish()
                if not self._loops:
                    raise TemplateFault(f"{{{{ {word} }}}} outside of a range", line)
                nodes.append(Jump(word))
            else:
                nodes.append(Action(self._pipe(rest)))
        return nodes, "", 0

    def _branch(self, kind: str, rest: _Stream, line: int) -> Branch:
        with _Nesting(self, line):
            self._scopes.append(set())
            pipe = self._pipe(rest, in_range=kind == "range")
            self._loops += kind == "range"
            body, ending, _ = self._scoped_nodes()
            self._loops -= kind == "range"
            otherwise: list[Node] = []
            if ending == "else":
                following = self._else_rest
                chained = following.peek_word()
                if chained in ("if", "with") and kind == chained:
                    following.take()
                    otherwise = [self._branch(chained, following, following.line)]
                    self._scopes.pop()
                    return Branch(kind, pipe, body, otherwise)
                following.finish()
                otherwise, ending, _ = self._scoped_nodes()
            if ending != "end":
                raise TemplateFault(f"{{{{ {kind} }}}} is not closed by {{{{ end }}}}", line)
            self._scopes.pop()
            return Branch(kind, pipe, body, otherwise)

    def _scoped_nodes(self) -> tuple[list[Node], str, int]:
        self._scopes.append(set())
        found = self._nodes()
        self._scopes.pop()
        return found

    def _define(self, kind: str, rest: _Stream, line: int) -> list[Node]:
        name = rest.string("a template's name")
        nodes: list[Node] = []
        if kind == "block":
            call = Call(name, self._pipe(rest), line)
            self._called.append(call)
            nodes.append(call)
        else:
            rest.finish()
        with _Nesting(self, line):
            outer, self._scopes = self._scopes, [{"$"}]
            loops, self._loops = self._loops, 0
            body, ending, _ = self._nodes()
            self._scopes, self._loops = outer, loops
        if ending != "end":
            raise TemplateFault(f"{{{{ {kind} {name!r} }}}} is not closed by {{{{ end }}}}", line)
        self._defined[name] = body
        return nodes

    def _pipe(self, stream: _Stream, *, in_range: bool = False) -> Pipe:
        pipe = Pipe(stream.line)
        if names := stream.assigned(in_range=in_range):
            pipe.variables, pipe.declares = names
        self._commands(stream, pipe)
        stream.finish()
        for each in pipe.variables:
            if pipe.declares:
                self._scopes[-1].add(each)
            elif not self._is_known(each):
                raise TemplateFault(f"undefined variable {each}", stream.line)
        return pipe

    def _commands(self, stream: _Stream, pipe: Pipe) -> None:
        while True:
            arguments: list[Argument] = []
            while not stream.is_done() and stream.peek() not in ("|", ")"):
                arguments.append(self._argument(stream))
            if not arguments:
                raise TemplateFault("a value is missing", stream.line)
            if pipe.commands and not isinstance(arguments[0], Function | Field | Variable | Chain):
                raise TemplateFault("what stands behind | is no function", stream.line)
            pipe.commands.append(arguments)
            if stream.is_done() or stream.peek() == ")":
                return
            stream.take()

    def _argument(self, stream: _Stream) -> Argument:
        token = stream.take()
        match token.kind:
            case "string" | "char" | "number":
                return _constant(token, stream.line)
            case "dot":
                return Dot()
            case "field":
                return Field(tuple(token.text[1:].split(".")))
            case "variable":
                name, *names = token.text.split(".")
                if not self._is_known(name):
                    raise TemplateFault(f"undefined variable {name}", stream.line)
                return Variable(name, tuple(names))
            case "word" if token.text in ("true", "false", "nil"):
                return Literal({"true": True, "false": False, "nil": None}[token.text])
            case "word" if token.text in self._functions:
                return Function(token.text)
            case "word":
                raise TemplateFault(f"function {token.text!r} is not defined", stream.line)
            case "sign" if token.text == "(":
                with _Nesting(self, stream.line):
                    pipe = Pipe(stream.line)
                    self._commands(stream, pipe)
                if stream.is_done():
                    raise TemplateFault("a parenthesis is not closed", stream.line)
                stream.take()
                if stream.peek_kind() == "field":
                    return Chain(pipe, tuple(stream.take().text[1:].split(".")))
                return pipe
        raise TemplateFault(f"{token.text!r} is not expected here", stream.line)

    def _is_known(self, name: str) -> bool:
        return any(name in scope for scope in self._scopes)

    def enter(self, line: int) -> None:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise TemplateFault("actions are nested too deeply", line)

    def leave(self) -> None:
        self._depth -= 1


class _Nesting:
    """Counts how deep the parser is, so that no text can exhaust the stack."""

    def __init__(self, parser: _Parser, line: int) -> None:
        self._parser = parser
        self._line = line

    def __enter__(self) -> None:
        self._parser.enter(self._line)

    def __exit__(self, *_: object) -> None:
        self._parser.leave()


class _Stream:
    """The tokens of one action."""

    def __init__(self, tokens: list[_Token], line: int) -> None:
        self._tokens = tokens
        self._at = 0
        self.line = line

    def is_done(self) -> bool:
        return self._at >= len(self._tokens)

    def peek(self) -> str:
        return "" if self.is_done() else self._tokens[self._at].text

    def peek_kind(self) -> str:
        return "" if self.is_done() else self._tokens[self._at].kind

    def peek_word(self) -> str:
        return self.peek() if self.peek_kind() == "word" else ""

    def take(self) -> _Token:
        if self.is_done():
            raise TemplateFault("the action ends too early", self.line)
        self._at += 1
        return self._tokens[self._at - 1]

    def finish(self) -> None:
        if not self.is_done():
            raise TemplateFault(f"{self.peek()!r} is not expected here", self.line)

    def string(self, what: str) -> str:
        if self.peek_kind() != "string":
            raise TemplateFault(f"{what} is missing", self.line)
        return str(_constant(self.take(), self.line).value)

    def assigned(self, *, in_range: bool) -> tuple[tuple[str, ...], bool] | None:
        """The variables that the action sets, and whether it declares them."""
        names: list[str] = []
        at = self._at
        while at < len(self._tokens) and self._tokens[at].kind == "variable":
            names.append(self._tokens[at].text)
            at += 1
            if at < len(self._tokens) and self._tokens[at].text in (":=", "="):
                if len(names) > (2 if in_range else 1) or any("." in each for each in names):
                    raise TemplateFault("too many variables", self.line)
                self._at = at + 1
                return tuple(names), self._tokens[at].text == ":="
            if at >= len(self._tokens) or self._tokens[at].text != ",":
                return None
            at += 1
        return None


def _pieces(text: str) -> Iterator[Text | tuple[list[_Token], int]]:
    """Text and actions in turn, white space trimmed, comments left out."""
    at, line, trim = 0, 1, False
    while True:
        start = text.find("{{", at)
        raw = text[at:] if start < 0 else text[at:start]
        trims_left = start >= 0 and re.match(r"-[ \t\r\n]", text[start + 2 : start + 4]) is not None
        shown = raw.lstrip(" \t\r\n") if trim else raw
        yield Text(shown.rstrip(" \t\r\n") if trims_left else shown, line)
        line += raw.count("\n")
        if start < 0:
            return
        inside = start + (4 if trims_left else 2)
        comment = re.compile(r"[ \t\r\n]*/\*" if trims_left else r"/\*").match(text, inside)
        if comment:
            close = text.find("*/", comment.end())
            ending = re.compile(r"(?:[ \t\r\n]+-)?\}\}").match(text, close + 2)
            if close < 0 or not ending:
                raise TemplateFault("a comment is not closed", line)
            trim, end = ending[0] != "}}", ending.end()
        else:
            tokens, end, trim = _tokens(text, inside, line)
            yield tokens, line
        line += text.count("\n", start, end)
        at = end


def _tokens(text: str, at: int, line: int) -> tuple[list[_Token], int, bool]:
    found: list[_Token] = []
    begin = at
    closing = re.compile(r"([ \t\r\n]+-)?\}\}")
    while True:
        if match := closing.match(text, at):
            if not found:
                raise TemplateFault("an action is empty", line)
            return found, match.end(), match[1] is not None
        token = _TOKEN.match(text, at)
        if not token:
            if at >= len(text):
                raise TemplateFault("an action is not closed by }}", line)
            where = line + text.count("\n", begin, at)
            raise TemplateFault(f"unexpected character {text[at]!r} in an action", where)
        kind = token.lastgroup or ""
        if kind != "space":
            found.append(_Token(kind, token[0]))
        at = token.end()


def _constant(token: _Token, line: int) -> Literal:
    text = token.text
    if token.kind == "number":
        bare = text.replace("_", "")
        try:
            number = int(bare, 0)
        except ValueError:
            return Literal(float(bare))
        if not -(1 << 63) <= number < 1 << 64:
            raise TemplateFault(f"integer overflow: {text[:40]}", line)
        return Literal(number)
    if text.startswith("`"):
        return Literal(text[1:-1])
    value = re.sub(
        r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-7]{3}|.)", _unescape, text[1:-1]
    )
    if token.kind == "char":
        if len(value) != 1:
            raise TemplateFault(f"malformed character constant {text}", line)
        return Literal(ord(value))
    return Literal(value)


def _unescape(match: re.Match[str]) -> str:
    code = match[1]
    if code[0] in "uU" and len(code) > 1:
        number = int(code[1:], 16)
        return chr(number) if number <= 0x10FFFF else "\ufffd"
    if len(code) == 3:
        # A byte, not a character: Go's texts are bytes, and what is no UTF-8 stays one byte long.
        number = int(code[1:], 16) if code[0] == "x" else int(code, 8) & 0xFF
        return bytes([number]).decode("utf-8", "surrogateescape")
    return _ESCAPES.get(code, code)
