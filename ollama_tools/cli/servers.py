"""Commands about servers: what is on them, what is wrong with them, and how to start one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from ollama_tools.cli.command import AccessOptions, FieldsOf, command
from ollama_tools.cli.options import JunitOption
from ollama_tools.cli.output import Output
from ollama_tools.errors import ExitCode, UsageError
from ollama_tools.gateway.settings import GatewaySettings
from ollama_tools.settings.environment import ServerSettings

commands = typer.Typer()
PANEL = "Servers"

SettingsOptions: TypeAlias = Annotated[dict[str, Any], FieldsOf(ServerSettings, "Settings")]
_GATEWAY = "The gateway, with --gateway"


@command(commands, "list", panel=PANEL)
def list_models(
    output: Output,
    access: AccessOptions,
    everything: Annotated[bool, typer.Option("--all", help="Other models as well.")] = False,
) -> None:
    """Show the Devstral models on a server."""
    from ollama_tools.cli.documents import ListJson
    from ollama_tools.model.listing import list_models as listed
    from ollama_tools.server.client import Server

    with Server(**access, progress=output) as server:
        found = listed(server, everything=everything)
    entries = found.entries

    def human() -> None:
        if not entries and not found.leftovers:
            output.write(f"no {'model' if everything else 'Devstral'} on {server.url}")
            output.hint("devstral-ollama create makes one; list --all shows every model")
            return
        rows = [row for entry in entries for row in entry.rows()]
        rows += [(each.name, "", "", "", "", "", each.why) for each in found.leftovers]
        output.table(("NAME", "DIGEST", "SIZE", "CONTEXT", "CARRIER", "VISION", "STATE"), rows)
        if any(not each.spared for each in found.leftovers):
            output.hint("devstral-ollama prune --keep N removes what is left over")

    output.result(
        ListJson(
            server=server.url,
            models=[entry.as_json() for entry in entries],
            leftovers=[each.as_json() for each in found.leftovers],
        ),
        human,
        [entry.name for entry in entries],
    )


@command(commands, "env", panel=PANEL)
def env(
    output: Output,
    settings: SettingsOptions,
) -> None:
    """Print the environment that an Ollama server should have for Devstral, with reasons.

    The lines are for a shell; render --target writes files for systemd, compose and others.
    """
    import shlex

    from ollama_tools.cli.documents import EnvJson
    from ollama_tools.settings.environment import environment, explain, on_this_machine

    wanted = ServerSettings(**on_this_machine(settings))
    plain = [f"{variable}={value}" for variable, value in environment(wanted).items()]
    lines = []
    for variable, value, why in explain(wanted):
        lines += [f"# {why}", f"export {variable}={shlex.quote(value)}"]
    output.result(
        EnvJson(
            environment=environment(wanted),
            reasons={variable: why for variable, _, why in explain(wanted)},
        ),
        lines,
        plain,
    )


@command(commands, "serve", panel=PANEL)
def serve(
    output: Output,
    settings: SettingsOptions,
    said: Annotated[
        dict[str, Any], FieldsOf(GatewaySettings, _GATEWAY, without=("listen", "dedicated_to"))
    ],
    ollama: Annotated[
        str, typer.Option(metavar="PATH", help="The ollama program; else that of PATH.")
    ] = "ollama",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would run.")] = False,
    gateway: Annotated[
        bool,
        typer.Option(
            "--gateway",
            help="Put the gateway before it: it takes the server's address, and the server one "
            "of loopback behind it.",
            rich_help_panel=_GATEWAY,
        ),
    ] = False,
    gateway_config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A YAML file of the gateway's settings; an option wins over it.",
            rich_help_panel=_GATEWAY,
        ),
    ] = None,
) -> None:
    """Start ollama serve with the environment that Devstral wants.

    What your own environment sets wins over a default, and an option wins over both.
    """
    from ollama_tools.cli.documents import ServeJson
    from ollama_tools.gateway.beside import plan_behind, serve_both
    from ollama_tools.gateway.configuration import read_configuration
    from ollama_tools.settings.serve import exec_server, plan_server

    before: GatewaySettings | None = None
    if gateway:
        asked = (read_configuration(gateway_config) if gateway_config else {}) | said
        plan, before = plan_behind(settings, ollama, asked)
    elif said or gateway_config:
        raise UsageError("there is no gateway that could have settings", "add --gateway")
    else:
        plan = plan_server(settings, ollama)
    command_line = " ".join(plan.arguments)
    lines = [f"{variable}={value}  # {why}" for variable, value, why in plan.variables]
    if before is not None:
        behind = plan.changes["OLLAMA_HOST"]
        lines += [
            f"# clients ask the gateway at {before.listen}, and Ollama listens behind it",
            f"# what changes the server asks Ollama itself, as create --host {behind} does",
        ]
    if not dry_run:
        for line in (*lines, command_line):
            output.note(line)
        if before is not None:
            serve_both(plan, before)
            return
        exec_server(plan)
    output.result(
        ServeJson(
            command=list(plan.arguments),
            environment=dict(plan.changes),
            gateway=before.listen if before is not None else None,
        ),
        (*lines, command_line),
        command_line,
    )


@command(commands, "doctor", panel=PANEL)
def doctor(output: Output, access: AccessOptions, junit: JunitOption = None) -> ExitCode:
    """Find what is wrong with a server and the Devstral models on it, and how to mend it."""
    from ollama_tools.checks.doctor import doctor as examine
    from ollama_tools.checks.junit import write_junit
    from ollama_tools.cli.report import print_report
    from ollama_tools.server.client import Server

    with Server(**access, progress=output) as server:
        report = examine(server)
    if junit is not None:
        write_junit(report, junit)
    output.result(
        report.as_json(),
        lambda: print_report(report, output),
        [each.id for each in report.failures],
    )
    return ExitCode.OK if report.passed else ExitCode.CHECK_FAILED
