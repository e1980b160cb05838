"""``python -m docs.generate`` writes docs/cli.md out of the command line itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from ollama_tools.cli.app import app

TARGET = Path(__file__).with_name("cli.md")
_GLOBAL = {"json", "quiet", "no_color", "debug"}


def _text(value: str | None) -> str:
    return " ".join((value or "").split()).replace("|", "\\|").replace("\\[", "[")


def _row(parameter: Any) -> str:
    names = ", ".join(f"`{each}`" for each in parameter.opts)
    metavar = getattr(parameter, "metavar", None)
    if parameter.param_type_name == "argument":
        names = f"`{metavar or parameter.name}`"
    elif metavar:
        names = f"{names} `{metavar}`".replace("|", "\\|")
    variable = f" (env: `{parameter.envvar}`)" if getattr(parameter, "envvar", None) else ""
    return f"| {names} | {_text(parameter.help)}{variable} |"


def _table(parameters: list[Any]) -> Iterator[str]:
    yield "| option | meaning |"
    yield "|---|---|"
    yield from (_row(each) for each in parameters)


def markdown() -> str:
    """The reference of every command, as the command line describes itself."""
    group: Any = typer.main.get_command(app)
    lines = [
        "# Command line",
        "",
        "Written by `make docs` out of the commands themselves; a test holds it to them.",
        "",
        _text(group.help),
    ]
    shared: list[Any] = []
    for name, command in group.commands.items():
        shared = [each for each in command.params if each.name in _GLOBAL]
        own = [each for each in command.params if each.name not in _GLOBAL | {"help"}]
        lines += ["", f"## devstral-ollama {name}", "", _text(command.help), ""]
        lines += _table(own)
    lines += ["", "## Options of every command", "", *_table(shared), ""]
    return "\n".join(lines)


if __name__ == "__main__":
    TARGET.write_text(markdown(), encoding="utf-8")
