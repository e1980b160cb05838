"""The answer to one check, and the answers to all of them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypedDict


class Status(StrEnum):
    """How a check ended. Only ``FAIL`` fails a report."""

    PASS = "pass"  # noqa: S105 - a status, not a password
    WARN = "warn"
    FAIL = "fail"
    UNKNOWN = "unknown"


class CheckResultJson(TypedDict):
    """One check's answer."""

    id: str
    status: str
    saw: str
    fix: str
    seconds: float


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One check's answer.

    Attributes:
        id: Which check, as ``tool-call /v1/messages streamed``.
        status: How it ended.
        saw: What the check saw, one line.
        fix: What to do where it did not pass; else empty.
        seconds: How long it took.
    """

    id: str
    status: Status
    saw: str
    fix: str = ""
    seconds: float = 0.0

    def as_json(self) -> CheckResultJson:
        """The answer as JSON has it."""
        return {
            "id": self.id,
            "status": self.status.value,
            "saw": self.saw,
            "fix": self.fix,
            "seconds": round(self.seconds, 3),
        }


class ReportJson(TypedDict):
    """All answers about one model, or about one server."""

    passed: bool
    subject: str
    server: str
    version: str
    checks: list[CheckResultJson]


@dataclass(frozen=True, slots=True)
class Report:
    """All answers about one model, or about one server.

    Attributes:
        subject: The model's name, or the server's URL.
        server: The server's URL.
        version: The server's version as it says it.
        checks: The answers, in the order they were asked.
    """

    subject: str
    server: str
    version: str
    checks: tuple[CheckResult, ...]

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return not self.failures

    @property
    def failures(self) -> tuple[CheckResult, ...]:
        """The checks that failed."""
        return tuple(each for each in self.checks if each.status is Status.FAIL)

    def as_json(self) -> ReportJson:
        """The report as JSON has it."""
        return {
            "passed": self.passed,
            "subject": self.subject,
            "server": self.server,
            "version": self.version,
            "checks": [each.as_json() for each in self.checks],
        }
