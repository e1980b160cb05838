"""Modelfile text, read as Ollama's own parser reads it, but to the end and with line numbers.

The states and their oddities are those of ``parser/parser.go`` (Ollama 0.34): a value ends at the
end of the first line on which its quotes are balanced, a ``#`` behind a value belongs to it, and
characters that cannot be printed are dropped. Where Ollama stops with an error, this parser writes
down a fault and goes on with the next line, so that one run finds them all.
"""

from __future__ import annotations

import codecs
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ollama_tools.errors import FileProblem

INSTRUCTIONS = (
    "FROM",
    "PARAMETER",
    "TEMPLATE",
    "SYSTEM",
    "PARSER",
    "RENDERER",
    "REQUIRES",
    "ADAPTER",
    "DRAFT",
    "LICENSE",
    "MESSAGE",
)
ROLES = ("system", "user", "assistant")

MAX_BYTES = 4 << 20
"""What a text of a person may have, at most."""
_BOM_BYTES = 3
_QUOTES = '"""'


class FaultKind(StrEnum):
    """What is wrong with a place in a Modelfile."""

    INSTRUCTION = "instruction"
    NAME = "name"
    QUOTE = "quote"
    NO_FROM = "no-from"


@dataclass(frozen=True, slots=True)
class Fault:
    """A place at which Ollama refuses a Modelfile.

    Attributes:
        kind: What is wrong there.
        line: Line of the file, from 1.
        message: What is wrong, one line.
    """

    kind: FaultKind
    line: int
    message: str


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction with its value.

    Attributes:
        name: The instruction in capitals, such as ``PARAMETER``.
        key: The parameter's name or the message's role; empty for other instructions.
        value: The value as Ollama takes it, quotes removed.
        line: First line of the file, from 1.
        last_line: Line on which the value ends.
        value_line: Line on which the value begins.
        dropped: Characters that Ollama drops from the value, each once, with the line of the first.
    """

    name: str
    key: str
    value: str
    line: int
    last_line: int
    value_line: int
    dropped: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Modelfile:
    """A Modelfile as far as it can be read.

    Attributes:
        instructions: Its instructions in order.
        faults: Where Ollama refuses it; empty where it does not.
        comments: Text of its comments by line.
    """

    instructions: tuple[Instruction, ...]
    faults: tuple[Fault, ...]
    comments: dict[int, str]

    def all(self, name: str) -> list[Instruction]:
        """Every instruction of a name."""
        return [each for each in self.instructions if each.name == name]

    def last(self, name: str) -> Instruction | None:
        """The last instruction of a name, which is the one that counts; None without any."""
        found = self.all(name)
        return found[-1] if found else None


def read_text(path: Path, what: str = "Modelfile", *, cut: bool = False) -> str:
    """The text of a file that a person wrote.

    Args:
        path: The file.
        what: What it should be, for messages.
        cut: Whether of a text that is far too long just the beginning is read, for whoever has
            words of his own for that; it has more than a quarter of :data:`MAX_BYTES` characters.

    Raises:
        FileProblem: It cannot be read, is no text, or is far too long for one.
    """
    try:
        status = path.stat()
        # A pipe would block on opening, so the kind is asked for first.
        is_file = stat.S_ISREG(status.st_mode)
        is_long = status.st_size > MAX_BYTES
        data = b""
        if is_file and (cut or not is_long):
            with path.open("rb") as file:
                data = file.read(MAX_BYTES + _BOM_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise FileProblem(f"{path}: cannot be read: {reason}", "check the path") from error
    if not is_file:
        raise FileProblem(f"{path}: not a file", f"name a {what}")
    if is_long and not cut:
        raise FileProblem(f"{path}: {status.st_size} bytes are no {what}", "check the path")
    # Ollama takes UTF-16 with a byte order mark as well, as some editors on Windows write it.
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        # A text that is cut may be cut inside of a character.
        return codecs.getincrementaldecoder(encoding)().decode(data, final=not is_long)
    except UnicodeDecodeError as error:
        raise FileProblem(f"{path}: not text in UTF-8", f"name a {what}") from error


def parse_modelfile(text: str) -> Modelfile:
    """Read the text of a Modelfile; never fails, but writes down what Ollama would refuse."""
    return _Parser(text).parse()


def _unquoted(text: str) -> str | None:
    """A value without its quotes; None where they are not closed."""
    if text.startswith(_QUOTES):
        closed = len(text) >= 2 * len(_QUOTES) and text.endswith(_QUOTES)
        return text[len(_QUOTES) : -len(_QUOTES)] if closed else None
    if text.startswith('"'):
        return text[1:-1] if len(text) >= 2 and text.endswith('"') else None
    return text


class _Parser:
    def __init__(self, text: str) -> None:
        # Lines keep their ends: a value may contain carriage returns, and Ollama keeps those.
        self._lines = _split(text.removeprefix("\ufeff"))
        self._at = 0
        self._instructions: list[Instruction] = []
        self._faults: list[Fault] = []
        self._comments: dict[int, str] = {}

    def parse(self) -> Modelfile:
        while self._at < len(self._lines):
            line = self._lines[self._at].strip(" \t\r\n")
            if not line:
                self._at += 1
            elif line.startswith("#"):
                self._comments[self._at + 1] = line[1:].strip()
                self._at += 1
            else:
                self._instruction(self._lines[self._at].lstrip(" \t").rstrip("\r\n"))
        if not self._faults and not any(each.name == "FROM" for each in self._instructions):
            self._fault(FaultKind.NO_FROM, 1, "no FROM says which model it builds on")
        return Modelfile(tuple(self._instructions), tuple(self._faults), self._comments)

    def _fault(self, kind: FaultKind, line: int, message: str) -> None:
        self._faults.append(Fault(kind, line, message))

    def _instruction(self, line: str) -> None:
        number = self._at + 1
        word, rest = _word(line)
        name = word.upper()
        if name not in INSTRUCTIONS:
            self._fault(
                FaultKind.INSTRUCTION, number, f"{_shown(word)} is no instruction of a Modelfile"
            )
            self._at += 1
            return
        if rest is None:
            self._fault(FaultKind.INSTRUCTION, number, f"{name} has no value")
            self._at += 1
            return
        key = ""
        if name in ("PARAMETER", "MESSAGE"):
            what = "name" if name == "PARAMETER" else "role"
            key, after = _word(rest)
            if after is None or not _is_key(key, name):
                reason = f"{_shown(key)} is no {what}" if key else f"no {what} is given"
                if after is None and key:
                    reason = f"{_shown(key)} has no value"
                self._fault(FaultKind.NAME, number, f"{name}: {reason}")
                self._at += 1
                return
            rest = after
        self._value(name, key, rest)

    def _value(self, name: str, key: str, first: str) -> None:
        start = self._at
        dropped: dict[str, int] = {}
        parts: list[str] = []
        for index, part in enumerate(self._pieces(first), start):
            kept = "".join(each for each in part if each.isprintable() or each in "\t\r\n")
            if kept != part:
                for each in part:
                    if each not in kept:
                        dropped.setdefault(each, index + 1)
            parts.append(kept)
            value = None
            # Joined only where it may end, or a long value would be copied once for every line.
            if kept.rstrip().endswith('"') or not parts[0].lstrip().startswith('"'):
                value = _unquoted("".join(parts).strip())
            if value is not None:
                self._at = index + 1
                shown = tuple(dropped.items())
                self._instructions.append(
                    Instruction(name, key, value, start + 1, index + 1, start + 1, shown)
                )
                return
        self._fault(
            FaultKind.QUOTE,
            start + 1,
            f"the quotes of {name} are not closed: everything to the end of the file is its value",
        )
        self._at = len(self._lines)

    def _pieces(self, first: str) -> Iterator[str]:
        """The rest of the instruction's line, then the lines after it, with their ends."""
        ending = self._lines[self._at][len(self._lines[self._at].rstrip("\r\n")) :]
        yield first + ending
        yield from self._lines[self._at + 1 :]


def _split(text: str) -> list[str]:
    """Lines with their ends; line feeds and carriage returns end one, as for Ollama."""
    return re.findall(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+", text)


def _word(text: str) -> tuple[str, str | None]:
    """The first word, and what follows its blank; None where no blank follows."""
    at = min((at for each in " \t" if (at := text.find(each)) >= 0), default=-1)
    return (text, None) if at < 0 else (text[:at], text[at + 1 :])


def _is_key(word: str, name: str) -> bool:
    if name == "MESSAGE":
        return word in ROLES
    return bool(word) and all(each.isascii() and (each.isalnum() or each == "_") for each in word)


def _shown(word: str) -> str:
    return repr(word if len(word) <= 40 else f"{word[:40]}…")
