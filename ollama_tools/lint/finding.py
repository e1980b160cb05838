"""One finding, and the table of rules that findings come from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias, TypedDict

if TYPE_CHECKING:
    from ollama_tools.lint.subject import Subject


class Severity(StrEnum):
    """How bad a finding is. Errors end in exit code 4."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class FindingJson(TypedDict):
    """Something that is wrong with a model, a template or a tool."""

    code: str
    name: str
    severity: str
    file: str
    line: int | None
    field: str
    message: str
    fix: str


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong with a model, a template or a tool.

    Attributes:
        code: The rule's code, such as ``DV101``.
        name: The rule's name, such as ``bos-in-template``.
        severity: How bad it is.
        file: The file, or the model's name.
        line: Line of the file, from 1; None where the file has none.
        field: The field that it is about, such as ``PARAMETER num_ctx`` or a path in JSON.
        message: What is wrong, one line.
        fix: What to do about it, one line.
    """

    code: str
    name: str
    severity: Severity
    file: str
    line: int | None
    field: str
    message: str
    fix: str

    @property
    def place(self) -> str:
        """Where it is: ``file:line``, or ``file: field``."""
        if self.line is not None:
            return f"{self.file}:{self.line}"
        return f"{self.file}: {self.field}" if self.field else self.file

    def as_json(self) -> FindingJson:
        """The finding as JSON has it."""
        return {
            "code": self.code,
            "name": self.name,
            "severity": self.severity.value,
            "file": self.file,
            "line": self.line,
            "field": self.field,
            "message": self.message,
            "fix": self.fix,
        }


@dataclass(frozen=True, slots=True)
class Hit:
    """What a rule's function says: the message, and where it is.

    Attributes:
        message: What is wrong, one line.
        field: The field that it is about.
        line: Line of the file; None where there is none.
        fix: A fix that fits better than the rule's own; empty for the rule's.
    """

    message: str
    field: str = ""
    line: int | None = None
    fix: str = ""


Check: TypeAlias = "Callable[[Subject], Iterator[Hit]]"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule; the documentation's table is made of these.

    Attributes:
        code: Its code, such as ``DV101``.
        name: Its name, such as ``bos-in-template``.
        severity: How bad it is where it holds.
        what: What it finds.
        why: What goes wrong.
        source: How that is known.
        fix: What to do about it.
    """

    code: str
    name: str
    severity: Severity
    what: str
    why: str
    source: str
    fix: str

    def finding(self, file: str, hit: Hit) -> Finding:
        """A finding of this rule."""
        return Finding(
            self.code,
            self.name,
            self.severity,
            file,
            hit.line,
            hit.field,
            hit.message,
            hit.fix or self.fix,
        )


RULES: dict[str, Rule] = {}
"""Every rule by its code."""

CHECKS: list[tuple[Rule, Check]] = []
"""The rules about a model, each with the function that looks for it."""


def add_rule(
    code: str, name: str, severity: Severity, *, what: str, why: str, source: str, fix: str
) -> Rule:
    """Put a rule into the table."""
    if code in RULES:
        raise ValueError(f"two rules have the code {code}")
    RULES[code] = Rule(code, name, severity, what, why, source, fix)
    return RULES[code]


def rule(
    code: str, name: str, severity: Severity, *, what: str, why: str, source: str, fix: str
) -> Callable[[Check], Check]:
    """Put a rule into the table, together with the function that looks for it."""

    def register(check: Check) -> Check:
        made = add_rule(code, name, severity, what=what, why=why, source=source, fix=fix)
        CHECKS.append((made, check))
        return check

    return register
