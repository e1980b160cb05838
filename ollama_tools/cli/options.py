"""Options that more than one command has, each said once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

_GLOBAL = "Global options"

JunitOption: TypeAlias = Annotated[
    Path | None,
    typer.Option("--junit", metavar="FILE", help="Also write the checks as JUnit XML."),
]

JsonOption: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--json", help="One JSON document on stdout, also for errors.", rich_help_panel=_GLOBAL
    ),
]
QuietOption: TypeAlias = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="Names only; no progress.", rich_help_panel=_GLOBAL),
]
NoColorOption: TypeAlias = Annotated[
    bool,
    typer.Option("--no-color", help="No colours; NO_COLOR does the same.", rich_help_panel=_GLOBAL),
]
DebugOption: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--debug",
        envvar="DEVSTRAL_OLLAMA_DEBUG",
        help="Show a traceback when something fails.",
        rich_help_panel=_GLOBAL,
    ),
]
