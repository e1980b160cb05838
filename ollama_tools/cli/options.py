"""Options that more than one command has, each said once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

MODELS = "Models"
"""The heading of the commands about one model."""
MODEL = "The model"
"""The heading of the options that say what a person wants of it."""
_GLOBAL = "Global options"

JunitOption: TypeAlias = Annotated[
    Path | None,
    typer.Option("--junit", metavar="FILE", help="Also write the checks as JUnit XML."),
]


def require_gpu_option(panel: str | None = None) -> Any:
    """Whether the model must be on graphics cards, under a heading."""
    return typer.Option(
        "--require-gpu/--no-require-gpu",
        help="Whether all of the model must be on graphics cards; if absent, where one is seen.",
        rich_help_panel=panel,
    )


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


def values_of_wish(said: Mapping[str, Any]) -> dict[str, Any]:
    """What a command line says of a model, as the fields of a wish."""
    from ollama_tools.wanted.spec import parse_parameters

    if "parameters" in said:
        return {**said, "parameters": parse_parameters(said["parameters"])}
    return dict(said)
