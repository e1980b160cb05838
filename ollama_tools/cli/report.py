"""A report of checks for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ollama_tools.checks.result import CheckResult, Report, Status
from ollama_tools.cli.table import aligned, borderless
from ollama_tools.safe_text import printable

if TYPE_CHECKING:
    from ollama_tools.cli.output import Output

_SYMBOLS = {Status.PASS: "✓", Status.WARN: "!", Status.FAIL: "✗", Status.UNKNOWN: "?"}
_STYLES = {
    Status.PASS: "green",
    Status.WARN: "yellow",
    Status.FAIL: "bold red",
    Status.UNKNOWN: "cyan",
}
_COUNTED = {
    Status.PASS: "passed",
    Status.FAIL: "failed",
    Status.WARN: "to look at",
    Status.UNKNOWN: "unknown",
}


def title(report: Report) -> str:
    """What was checked: the model, the server and its version."""
    where = f"{report.server}, Ollama {report.version}"
    return where if report.subject == report.server else f"{report.subject} on {where}"


def summary(report: Report) -> str:
    """How the checks ended: ``7 passed, 1 failed``."""
    counts = Counter(each.status for each in report.checks)
    return ", ".join(
        f"{counts[status]} {word}"
        for status, word in _COUNTED.items()
        if counts[status] or status in (Status.PASS, Status.FAIL)
    )


def report_lines(report: Report) -> list[str]:
    """A report as lines of plain text; every word that a check said is in it."""
    rows = [row for each in report.checks for row in _lines(each)]
    return [printable(title(report)), *(aligned(rows) if rows else ()), summary(report)]


def _lines(check: CheckResult) -> Iterator[tuple[str, str, str]]:
    yield check.status.value, check.id, check.saw
    if _needs_fix(check):
        yield "", "", f"fix: {check.fix}"


def print_report(report: Report, output: Output) -> None:
    """Write a report to stdout, coloured and wrapped where that is a terminal."""
    if not output.on_terminal:
        output.write(*report_lines(report))
        return
    from rich.text import Text

    table = borderless(["", "", ""])
    table.show_header = False
    for check in report.checks:
        style = _STYLES[check.status]
        seen = Text(printable(check.saw))
        if _needs_fix(check):
            seen.append(f"\nfix: {printable(check.fix)}", style="dim")
        table.add_row(
            Text(_SYMBOLS[check.status], style=style), Text(printable(check.id), style=style), seen
        )
    output.console.print(Text(printable(title(report)), style="bold"), table, sep="\n")
    output.console.print(Text(summary(report), style="green" if report.passed else "bold red"))


def _needs_fix(check: CheckResult) -> bool:
    return bool(check.fix) and check.status is not Status.PASS
