"""Tables for people: fitted to a terminal, or aligned text that loses nothing in a pipe."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ollama_tools.checks.result import CheckResult, Report, Status

if TYPE_CHECKING:
    from rich.table import Table

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


def printable(text: str) -> str:
    """A text without control characters: what a model or a server says must not move the cursor."""
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows as columns of text, as wide as they need to be; the last column is not padded."""
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )


def rich_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """The same as a table that wraps its cells to the terminal's width."""
    from rich.text import Text

    table = _borderless(header)
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table


def _borderless(header: Sequence[str]) -> Table:
    from rich.table import Table

    table = Table(*header, box=None, show_header=bool(header), pad_edge=False, header_style="bold")
    for column in table.columns:
        column.overflow = "fold"
    return table


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


def report_text(report: Report) -> str:
    """A report as plain text; every word that a check said is in it."""
    checks = aligned([row for each in report.checks for row in _lines(each)])
    return "\n".join(filter(None, (printable(title(report)), checks, summary(report))))


def _lines(check: CheckResult) -> Iterator[tuple[str, str, str]]:
    yield check.status.value, check.id, check.saw
    if _needs_fix(check):
        yield "", "", f"fix: {check.fix}"


def print_report(report: Report, output: Output) -> None:
    """Write a report to stdout, coloured and wrapped where that is a terminal."""
    if not output.on_terminal:
        output.write(report_text(report))
        return
    from rich.text import Text

    table = _borderless(["", "", ""])
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
