"""Commands about servers: what is on them, what is wrong with them, and how to start one."""

from __future__ import annotations

import typer

from ollama_tools.cli.command import command
from ollama_tools.cli.options import HostOption
from ollama_tools.cli.output import Output

commands = typer.Typer()
PANEL = "Servers"


@command(commands, "list", panel=PANEL)
def list_models(output: Output, host: HostOption = None) -> None:
    """Show the Devstral models on a server."""
    output.result({}, host or "x")


@command(commands, "list2", panel=PANEL)
def list_models2(output: Output, host: HostOption = None) -> None:
    """Show the Devstral models on a server."""
    import time

    output.step("one")
    output.transfer("up", 0, 1000)
    time.sleep(0.3)
    output.transfer("up", 500, 1000)
    time.sleep(0.3)
    output.warn("foo")
    output.transfer("up", 600, 1000)
    time.sleep(0.3)
    output.transfer("up", 1000, 1000)
    time.sleep(0.3)
    output.step("two")
    time.sleep(1)
    if host:
        raise ValueError("abc")
    output.hint("two")
    output.result({}, host or "x")
