"""The typer app: the global options, and the commands of every group."""

from __future__ import annotations

from typing import Annotated

import typer

from ollama_tools import __version__
from ollama_tools.cli import (
    PROGRAM,
    bench,
    catalog,
    download,
    fit,
    gateway,
    lint,
    merge,
    models,
    render,
    servers,
)
from ollama_tools.cli.command import Globals
from ollama_tools.cli.options import DebugOption, JsonOption, NoColorOption, QuietOption
from ollama_tools.errors import ExitCode

app = typer.Typer(
    name=PROGRAM,
    help="Makes Mistral's Devstral work on Ollama, provably: prompts, tools, context, KV cache.",
    epilog="Exit codes: " + " · ".join(f"{each} {each.meaning}" for each in ExitCode),
    context_settings={"help_option_names": ["--help", "-h"]},
    invoke_without_command=True,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"{PROGRAM} {__version__}")
        raise typer.Exit


@app.callback()
def _globals(
    ctx: typer.Context,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show it.")
    ] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    no_color: NoColorOption = False,
    debug: DebugOption = False,
) -> None:
    ctx.obj = Globals(json, quiet, no_color, debug)
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


for group in (models, bench, render, catalog, download, merge, fit, lint, servers):
    app.add_typer(group.commands)
app.add_typer(gateway.commands, name="gateway", rich_help_panel=servers.PANEL)
