"""How a function becomes a command: it gets an output, and its command the global options."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping
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
from ollama_tools.declared import choice
from ollama_tools.errors import ExitCode, UsageError
from ollama_tools.server.access import Access

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
    gets those fields that were given. What is declared of a field
    (:class:`ollama_tools.declared.Choice`) makes its options, under ``panel`` where the field has
    no heading of its own. Fields in ``without`` have none here, and secrets have none anywhere.
    """

    dataclass: type[Any]
    panel: str | None = None
    without: tuple[str, ...] = ()

    @property
    def fields(self) -> list[dataclasses.Field[Any]]:
        """The fields that have an option."""
        return [
            each
            for each in dataclasses.fields(self.dataclass)
            if each.name not in self.without and not choice(each).secret
        ]

    def options(self) -> Iterator[inspect.Parameter]:
        """The parameters that typer makes options of: the fields', and their other spellings'."""
        for each in self.fields:
            yield _parameter(each.name, field_option(self.dataclass, each.name, panel=self.panel))
            told = choice(each)
            if told.formerly:
                hidden = typer.Option(*told.formerly, hidden=True)
                yield _parameter(_formerly(each.name), Annotated[str | None, hidden])
            if told.off is not None:
                flag, text = told.off
                off = typer.Option(flag, help=text, rich_help_panel=told.panel or self.panel)
                yield _parameter(_off(each.name), Annotated[bool, off], default=False)

    def take(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Take the fields that were given out of a command's arguments.

        Raises:
            UsageError: Two options give a field different values.
        """
        given: dict[str, Any] = {}
        for each in self.fields:
            told = choice(each)
            value = arguments.pop(each.name)
            other = arguments.pop(_formerly(each.name), None)
            off = arguments.pop(_off(each.name), False)
            if (value is not None and other is not None) or (off and (value or other)):
                flag = (*told.flags, f"--{each.name.replace('_', '-')}")[0]
                instead = told.off[0] if off and told.off else told.formerly[0]
                raise UsageError(f"{flag} and {instead} contradict each other", "give one of them")
            value = "" if off else other if value is None else value
            if value is not None and value != []:
                given[each.name] = tuple(value) if isinstance(value, list) else value
        return given


AccessOptions: TypeAlias = Annotated[dict[str, Any], FieldsOf(Access)]
"""How the server is reached; the keywords of :class:`ollama_tools.server.client.Server`."""


def field_option(dataclass: type[Any], name: str, *, panel: str | None = None) -> Any:
    """The annotation that makes an option of one field of a dataclass."""
    (each,) = (each for each in dataclasses.fields(dataclass) if each.name == name)
    told = choice(each)
    kind = str if told.written else _kind(get_type_hints(dataclass)[name])
    text = told.help
    if isinstance(each.default, str | int | float) and not isinstance(each.default, bool):
        text = _with_default(text, each.default)
    if kind == list[str]:
        text += " (repeatable)"
    option = typer.Option(
        *told.flags,
        help=text,
        envvar=told.variable,
        metavar=None if kind is bool else told.metavar or name.upper(),
        rich_help_panel=told.panel or panel,
    )
    return Annotated[kind | None, option]


def _with_default(text: str, default: str | float) -> str:
    # What a help text of its own says already is not said twice.
    if "absent" in text:
        return text
    said = f"{default:g}" if isinstance(default, float) else default
    return f"{text.removesuffix('.')} ({said} if absent){'.' * text.endswith('.')}"


def _kind(hint: Any) -> Any:
    """The type that a command line gives: text for whatever else a Python caller may hand over."""
    if get_origin(hint) is Mapping or get_args(hint) == (str, ...):
        return list[str]
    kinds = [each for each in get_args(hint) if each is not type(None)] or [hint]
    return str if str in kinds else kinds[0]


def _formerly(name: str) -> str:
    return f"{name}_formerly"


def _off(name: str) -> str:
    return f"no_{name}"


def _parameter(name: str, annotation: Any, *, default: Any = None) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )


_GLOBAL_OPTIONS = {
    "json": JsonOption,
    "quiet": QuietOption,
    "no_color": NoColorOption,
    "debug": DebugOption,
}


def command(
    app: typer.Typer, name: str, *, panel: str | None = None, with_others: bool = False
) -> Callable[[Command[P]], Command[P]]:
    """Register a function as a command of an app.

    The function's first parameter gets the :class:`Output`; the others are options and arguments
    as typer reads them, or :class:`FieldsOf`. What it returns becomes the exit code; None is 0.
    People write global options wherever they like, so every command has them beside the app itself.

    Args:
        app: The app.
        name: The command's name.
        panel: Under which heading the help lists it.
        with_others: Whether it is what an app of commands does where none of them is named.
    """

    def register(function: Command[P]) -> Command[P]:
        groups = _groups(function)

        def run(ctx: typer.Context, **arguments: Any) -> ExitCode | None:
            early = ctx.obj if isinstance(ctx.obj, Globals) else Globals()
            late = Globals(**{option: arguments.pop(option) for option in _GLOBAL_OPTIONS})
            given = Globals(*(one or other for one, other in zip(early, late, strict=True)))
            if ctx.invoked_subcommand is not None:
                ctx.obj = given
                return None
            for parameter, group in groups.items():
                arguments[parameter] = group.take(arguments)
            with Output(json=given.json, quiet=given.quiet, color=not given.no_color) as output:
                return function(output, **arguments)  # type: ignore[call-arg]

        parameters = list(_parameters(function, groups))
        run.__doc__ = function.__doc__
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        if with_others:
            app.callback(invoke_without_command=True)(run)
        else:
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
            yield from groups[each.name].options()
        else:
            yield each.replace(kind=keyword, annotation=hints[each.name])
    for option, annotation in _GLOBAL_OPTIONS.items():
        yield inspect.Parameter(option, keyword, default=False, annotation=annotation)
