"""How a function becomes a command: it gets an output, and its command the global options."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator
from typing import (
    Annotated,
    Any,
    Concatenate,
    NamedTuple,
    ParamSpec,
    TypeAlias,
    get_args,
    get_origin,
    get_type_hints,
)

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


class FieldsOf(NamedTuple):
    """Marks a parameter that stands for one option per field of a dataclass.

    Written as ``Annotated[dict[str, Any], FieldsOf(ServerSettings, "Settings")]``; the function
    gets those fields that were given. A field's ``metadata`` gives its option's help. Fields in
    ``without`` have no option here.
    """

    dataclass: type[Any]
    panel: str
    without: tuple[str, ...] = ()

    @property
    def fields(self) -> list[dataclasses.Field[Any]]:
        """The fields that have an option."""
        return [
            each for each in dataclasses.fields(self.dataclass) if each.name not in self.without
        ]


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
    as typer reads them, or :class:`FieldsOf`. What it returns becomes the exit code; None is 0.
    People write global options wherever they like, so every command has them beside the app itself.

    Args:
        app: The app.
        name: The command's name.
        panel: Under which heading the help lists it.
    """

    def register(function: Command[P]) -> Command[P]:
        groups = _groups(function)

        def run(ctx: typer.Context, **arguments: Any) -> ExitCode | None:
            early = ctx.obj if isinstance(ctx.obj, Globals) else Globals()
            late = Globals(**{option: arguments.pop(option) for option in _GLOBAL_OPTIONS})
            given = Globals(*(one or other for one, other in zip(early, late, strict=True)))
            for parameter, group in groups.items():
                names = [each.name for each in group.fields]
                values = {each: arguments.pop(each) for each in names}
                arguments[parameter] = {
                    each: tuple(value) if isinstance(value, list) else value
                    for each, value in values.items()
                    if value not in (None, [])
                }
            with Output(json=given.json, quiet=given.quiet, color=not given.no_color) as output:
                return function(output, **arguments)  # type: ignore[call-arg]

        parameters = list(_parameters(function, groups))
        run.__doc__ = function.__doc__
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        app.command(name, rich_help_panel=panel)(run)
        return function

    return register


def _groups(function: Callable[..., Any]) -> dict[str, FieldsOf]:
    return {
        name: extra
        for name, hint in get_type_hints(function, include_extras=True).items()
        if get_origin(hint) is Annotated
        for extra in hint.__metadata__
        if isinstance(extra, FieldsOf)
    }


def _parameters(
    function: Callable[..., Any], groups: dict[str, FieldsOf]
) -> Iterator[inspect.Parameter]:
    """What typer shall see: no output, an option per field of a group, and the global options."""
    hints = get_type_hints(function, include_extras=True)
    keyword = inspect.Parameter.KEYWORD_ONLY
    yield inspect.Parameter("ctx", keyword, annotation=typer.Context)
    for each in list(inspect.signature(function).parameters.values())[1:]:
        if each.name in groups:
            yield from _options(groups[each.name])
        else:
            yield each.replace(kind=keyword, annotation=hints[each.name])
    for option, annotation in _GLOBAL_OPTIONS.items():
        yield inspect.Parameter(option, keyword, default=False, annotation=annotation)


def _options(group: FieldsOf) -> Iterator[inspect.Parameter]:
    hints = get_type_hints(group.dataclass)
    for each in group.fields:
        kind = hints[each.name]
        if get_args(kind) == (str, ...):
            kind = list[str]
        text = f"{each.metadata['variable']}: {each.metadata['why']}"
        if not isinstance(each.default, bool) and each.default not in (None, ()):
            text += f" ({each.default} if absent)"
        option = typer.Option(
            help=text,
            metavar=None if kind is bool else each.name.rpartition("_")[2].upper(),
            rich_help_panel=group.panel,
        )
        yield inspect.Parameter(
            each.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[kind | None, option],
        )
