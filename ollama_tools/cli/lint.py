"""``lint``: what is wrong with a Modelfile, a template, a GGUF, a model on a server, or tools."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ollama_tools.cli.command import AccessOptions, command
from ollama_tools.cli.output import Output
from ollama_tools.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ollama_tools.lint import Finding

commands = typer.Typer()

_COLORS = {"error": "bold red", "warning": "yellow", "info": "cyan"}


@command(commands, "lint", panel="Models")
def lint(
    output: Output,
    access: AccessOptions,
    subject: Annotated[
        str | None,
        typer.Argument(
            metavar="SUBJECT",
            help="A Modelfile, a template (.gotmpl, .jinja), a .gguf, or a model on the server.",
        ),
    ] = None,
    release: Annotated[
        str | None,
        typer.Option(
            "--release",
            metavar="RELEASE",
            help="The Devstral whose format holds, where no name tells: 2507, 2505 …",
        ),
    ] = None,
    tools: Annotated[
        Path | None,
        typer.Option(
            "--tools", metavar="FILE", help="Also say what Ollama drops from the tools in a JSON."
        ),
    ] = None,
    live: Annotated[
        bool,
        typer.Option(
            "--live",
            help="Let the server render, and compare with the reference; it loads the model, and "
            "for a file a small one that is removed again.",
        ),
    ] = False,
    select: Annotated[
        list[str] | None,
        typer.Option("--select", metavar="CODES", help="Only these rules, as DV1,DV301."),
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option("--ignore", metavar="CODES", help="Not these rules, as DV306."),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="End with code 4 for warnings as well.")
    ] = False,
) -> ExitCode | None:
    """Find what is wrong with a Modelfile, template, GGUF or model, each finding with its fix."""
    from ollama_tools.cli.documents import LintJson
    from ollama_tools.errors import UsageError
    from ollama_tools.lint import Severity, lint_tools
    from ollama_tools.lint.ignores import chosen, parse_codes
    from ollama_tools.lint.tools import read_tools

    if subject is None and tools is None:
        raise UsageError("nothing to lint is named", "as in devstral-ollama lint ./Modelfile")
    selected, ignored = parse_codes(select or []), parse_codes(ignore or [])
    findings: list[Finding] = []
    if subject is not None:
        findings += _lint(subject, access, release, live=live)
    if tools is not None:
        findings += lint_tools(read_tools(tools), label=str(tools))
    findings = chosen(findings, selected, ignored)
    bad = {Severity.ERROR, Severity.WARNING} if strict else {Severity.ERROR}
    failed = any(each.severity in bad for each in findings)
    output.result(
        LintJson(
            subject=subject,
            tools=None if tools is None else str(tools),
            passed=not failed,
            findings=[each.as_json() for each in findings],
        ),
        lambda: _print(findings, output),
        [each.code for each in findings],
    )
    return ExitCode.CHECK_FAILED if failed else None


def _lint(
    subject: str, access: dict[str, Any], release: str | None, *, live: bool
) -> list[Finding]:
    from ollama_tools.lint import lint_file, lint_model

    path = Path(subject).expanduser()
    if path.exists() or _is_path(subject):
        return lint_file(path, release=release, live=live, **access)
    return lint_model(subject, release=release, live=live, **access)


def _is_path(text: str) -> bool:
    """Whether a text can be no model's name, so that a missing file is the honest answer."""
    ends = (".gguf", ".gotmpl", ".jinja", ".jinja2", "modelfile")
    return text.startswith(("/", "./", "../", "~")) or text.lower().endswith(ends)


def _print(findings: Sequence[Finding], output: Output) -> None:
    from ollama_tools.safe_text import printable

    for each in findings:
        place, message = printable(each.place), printable(each.message)
        fix = printable(each.fix)
        if output.on_terminal:
            from rich.text import Text

            line = Text(f"{place}: ", style="bold")
            line.append(f"{each.code} {each.severity}", style=_COLORS[each.severity])
            line.append(f": {message}", style="not bold")
            output.console.print(line, Text(f"  fix: {fix}", style="dim"), sep="\n", soft_wrap=True)
        else:
            output.write(f"{place}: {each.code} {each.severity}: {message}", f"  fix: {fix}")
    counts = Counter(each.severity.value for each in findings)
    words = {"error": "error", "warning": "warning", "info": "note"}
    summary = ", ".join(
        f"{counts[each]} {word}{'s' if counts[each] > 1 else ''}"
        for each, word in words.items()
        if counts[each]
    )
    output.write(summary or "nothing found")
