"""`gateway`: a proxy before one server that keeps a client's request whole, and its keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from ollama_tools.cli.command import FieldsOf, command
from ollama_tools.cli.output import Output
from ollama_tools.gateway.settings import GatewaySettings

commands = typer.Typer()
_keys = typer.Typer(help="Who may ask a gateway.")
commands.add_typer(_keys, name="key")

GatewayOptions: TypeAlias = Annotated[dict[str, Any], FieldsOf(GatewaySettings)]
_KeysOption: TypeAlias = Annotated[
    Path | None,
    typer.Option("--keys", metavar="FILE", help="The file of keys, in your configuration else."),
]
_NameArgument: TypeAlias = Annotated[str, typer.Argument(metavar="NAME", help="Whose key it is.")]


@command(commands, "gateway", with_others=True)
def gateway(
    output: Output,
    settings: GatewayOptions,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A YAML file of settings, named as the options are; an option wins over it.",
        ),
    ] = None,
) -> None:
    """Keep every request to a server whole: exact prompts, and nothing cut in silence.

    It stands before one Ollama server, takes what clients send to the server's four chat surfaces,
    and answers in their own words. Models with a template of this package get it as the client
    sent it; all else passes as it is.
    """
    from ollama_tools.gateway.configuration import read_configuration
    from ollama_tools.gateway.serve import serve

    said = (read_configuration(config) if config is not None else {}) | settings
    wanted = GatewaySettings(**said)
    output.note(f"the gateway to {wanted.upstream} listens on {wanted.listen}")
    serve(wanted)


@command(_keys, "add")
def add(output: Output, name: _NameArgument, keys: _KeysOption = None) -> None:
    """Make a key, and print it this once; the file has its digest alone."""
    from ollama_tools.cli.documents import KeyJson
    from ollama_tools.gateway.keys import add_key, default_file

    file = keys or default_file()
    key = add_key(file, name)
    output.note(f"{file} knows it as {name}; it is shown this once")
    output.result(KeyJson(name=name, key=key), key, key)


@command(_keys, "list")
def list_keys(output: Output, keys: _KeysOption = None) -> None:
    """Show the names of all keys."""
    from ollama_tools.cli.documents import KeyNameJson, KeysJson
    from ollama_tools.gateway.keys import default_file, read_keys

    file = keys or default_file()
    found = read_keys(file)

    def human() -> None:
        if not found:
            output.write(f"no key in {file}")
            output.hint("devstral-ollama gateway key add NAME makes one")
            return
        output.table(("NAME", "CREATED"), [(each.name, each.created) for each in found])

    output.result(
        KeysJson(
            file=str(file),
            keys=[KeyNameJson(name=each.name, created=each.created) for each in found],
        ),
        human,
        [each.name for each in found],
    )


@command(_keys, "revoke")
def revoke(output: Output, name: _NameArgument, keys: _KeysOption = None) -> None:
    """Take a key away; a gateway that runs knows it with the next request."""
    from ollama_tools.cli.documents import KeyRevokedJson
    from ollama_tools.gateway.keys import default_file, revoke_key

    file = keys or default_file()
    revoke_key(file, name)
    output.result(KeyRevokedJson(name=name), f"{name} has no key any more", name)
