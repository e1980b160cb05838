"""How a function becomes a command: it gets an output, and its command the global options."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeAlias, get_type_hints

import typer

from ollama_tools.cli.options import DebugOption, JsonOption, NoColorOption, QuietOption
from ollama_tools.cli.output import Output
from ollama_tools.errors import ExitCode

P = ParamSpec("P")
Command: TypeAlias = Callable[Concatenate[Output, P], ExitCode | None]


class Globals(NamedTuple):
    """The global options as they were given, before the command's name or after it."""

    json: bool = False
    quiet: bool = False
    no_color: bool = False
    debug: bool = False


_GLOBAL_OPTIONS = {
    "json": JsonOption,
    "quiet": QuietOption,
    "no_color": NoColorOption,
    "debug": DebugOption,
}


def command(
    app: typer.Typer, name: str, *, panel: str | None = None
) -> Callable[[Command[P]], Command[P]]:
    """Register a function as a command of an app.

    The function's first parameter gets the :class:`Output`; the others are options and arguments
    as typer reads them. What it returns becomes the exit code; None is 0. People write global
    options wherever they like, so every command has them beside the app itself.

    Args:
        app: The app.
        name: The command's name.
        panel: Under which heading the help lists it.
    """

    def register(function: Command[P]) -> Command[P]:
        def run(ctx: typer.Context, **arguments: Any) -> ExitCode | None:
            early = ctx.obj if isinstance(ctx.obj, Globals) else Globals()
            late = Globals(**{option: arguments.pop(option) for option in _GLOBAL_OPTIONS})
            given = Globals(*(one or other for one, other in zip(early, late, strict=True)))
            with Output(json=given.json, quiet=given.quiet, color=not given.no_color) as output:
                return function(output, **arguments)  # type: ignore[call-arg]

        _give_signature(run, function)
        app.command(name, rich_help_panel=panel)(run)
        return function

    return register


def _give_signature(run: Callable[..., Any], function: Callable[..., Any]) -> None:
    """Let typer see the parameters of a function, without its output but with global options."""
    hints = get_type_hints(function, include_extras=True)
    own = list(inspect.signature(function).parameters.values())[1:]
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        inspect.Parameter("ctx", keyword, annotation=typer.Context),
        *(each.replace(kind=keyword, annotation=hints[each.name]) for each in own),
        *(
            inspect.Parameter(option, keyword, default=False, annotation=annotation)
            for option, annotation in _GLOBAL_OPTIONS.items()
        ),
    ]
    run.__doc__ = function.__doc__
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
