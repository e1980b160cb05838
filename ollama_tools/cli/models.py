"""``create``, ``smoke``, ``status`` and the like: what is done with one model."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from ollama_tools.cli.command import AccessOptions, FieldsOf, command, field_option
from ollama_tools.cli.options import MODEL, MODELS, JunitOption, require_gpu_option, values_of_wish
from ollama_tools.cli.output import Output
from ollama_tools.declared import choice
from ollama_tools.errors import ExitCode
from ollama_tools.settings.environment import ServerSettings
from ollama_tools.wanted.wish import Wish

if TYPE_CHECKING:
    from ollama_tools.checks.result import Report
    from ollama_tools.cli.documents import PrunedJson, RemovedJson

_RUN = "What is done"
_TASK = "A task"

commands = typer.Typer()

_Reference: TypeAlias = Annotated[
    str, typer.Argument(metavar="REFERENCE", help=choice(fields(Wish)[0]).help)
]
_Wish: TypeAlias = Annotated[dict[str, Any], FieldsOf(Wish, MODEL, without=("reference",))]
_PublicName: TypeAlias = Annotated[
    str, typer.Argument(metavar="NAME", help="A model's public name, as list shows it.")
]


def _prompt_tokens(panel: str | None = None) -> Any:
    return typer.Option(
        "--prompt-tokens",
        metavar="TOKENS",
        help="Size of the long prompt of the checks; 18500 if absent, as a coding agent's first.",
        rich_help_panel=panel,
    )


@command(commands, "create", panel=MODELS)
def create(
    output: Output,
    reference: _Reference,
    said: _Wish,
    access: AccessOptions,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Show what would be done, and do nothing.", rich_help_panel=_RUN
        ),
    ] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Pull and build again even if nothing differs, and though it cannot fit.",
            rich_help_panel=_RUN,
        ),
    ] = False,
    upgrade: Annotated[
        bool,
        typer.Option(
            "--upgrade",
            help="Take the newest file of the hub or the mirror, where what serves is older.",
            rich_help_panel=_RUN,
        ),
    ] = False,
    no_check: Annotated[
        bool,
        typer.Option(
            "--no-check", help="Switch to the new build without checking it.", rich_help_panel=_RUN
        ),
    ] = False,
    no_preflight: Annotated[
        bool,
        typer.Option(
            "--no-preflight",
            help="Do not try the server by a miniature before more than 1 GB is brought.",
            rich_help_panel=_RUN,
        ),
    ] = False,
    prompt_tokens: Annotated[int | None, _prompt_tokens(_RUN)] = None,
    require_gpu: Annotated[bool | None, require_gpu_option(_RUN)] = None,
    keep: Annotated[
        int | None,
        typer.Option(
            "--keep",
            metavar="N",
            help="Then remove all builds of the name but the newest N.",
            rich_help_panel=_RUN,
        ),
    ] = None,
) -> ExitCode | None:
    """Make a Devstral on a server: bring it, build it, check it, then switch the name to it.

    Exit code 4 where the build fails a check, 5 where another run switched the name in the same
    moment; the name serves as before, or what that run made.
    """
    from ollama_tools.devstral.context import AGENT_PROMPT
    from ollama_tools.files.digests import short_digest
    from ollama_tools.model.apply import apply
    from ollama_tools.model.ensure import plan_for
    from ollama_tools.model.steps import Policy
    from ollama_tools.server.client import Server

    wish = Wish(reference=reference, **values_of_wish(said))
    policy = Policy(
        check=not no_check,
        prompt_tokens=AGENT_PROMPT if prompt_tokens is None else prompt_tokens,
        force=force,
        upgrade=upgrade,
        keep=keep,
        require_gpu=require_gpu,
        preflight=not no_preflight,
    )
    with Server(**access, progress=output) as server:
        plan = plan_for(server, wish, policy, output)
        if dry_run:
            lines = [str(each) for each in plan.steps] or ["unchanged"]
            if plan.needs is not None:
                lines.append(f"it {plan.needs.text}")
            title = f"{plan.name} on {server.url} (Ollama {plan.version})"
            if plan.compared.reason:
                title += f": {plan.compared.reason}"
            output.result(plan.as_json(), [title, *(f"  {each}" for each in lines)], plan.name)
            return None
        model = apply(plan, server, output)
    where = f"on {model.server} (Ollama {model.version})"
    facts = (
        f"{short_digest(model.digest)}, carrier {model.carrier.value}, context {model.context}, "
        f"{'vision' if model.vision else 'no vision'}"
    )
    if not model.changed:
        text = f"{model.name} is unchanged {where}: {facts}"
    elif model.report is not None:
        text = f"{model.name} is ready {where}: {facts}; {len(model.report.checks)} checks passed"
    else:
        text = f"{model.name} is ready {where}: {facts}; not checked"
    output.result(model.as_json(), text, model.name)
    return None


@command(commands, "smoke", panel=MODELS)
def smoke(
    output: Output,
    access: AccessOptions,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="A model on the server, or UD-Q4_K_XL and the like; a llama-server's only model "
            "may be left out.",
        ),
    ] = None,
    llama_server: Annotated[
        str | None,
        typer.Option(
            "--llama-server",
            metavar="URL",
            help="Ask llama.cpp's own server instead of Ollama, as in http://127.0.0.1:8080.",
        ),
    ] = None,
    release: Annotated[str | None, field_option(Wish, "release")] = None,
    prompt_tokens: Annotated[int | None, _prompt_tokens()] = None,
    log: Annotated[
        Path | None,
        typer.Option(
            "--log",
            metavar="FILE",
            help="The server's log, as evidence of the KV cache type and of the graphics card.",
        ),
    ] = None,
    require_gpu: Annotated[bool | None, require_gpu_option()] = None,
    keep_template: Annotated[
        bool,
        typer.Option(
            "--keep-template",
            help="Its own template is meant: ask no more of the prompt than of any.",
        ),
    ] = False,
    junit: JunitOption = None,
    task: Annotated[
        str | None,
        typer.Option(
            "--task",
            metavar="TASK",
            help="Let the model write a program instead, and try it: flappy-bird.",
            rich_help_panel=_TASK,
        ),
    ] = None,
    prompt_file: Annotated[
        Path | None,
        typer.Option(
            "--prompt-file",
            metavar="FILE",
            help="What the model is asked, in place of the task's own prompt.",
            rich_help_panel=_TASK,
        ),
    ] = None,
    task_dir: Annotated[
        Path | None,
        typer.Option(
            "--task-dir",
            metavar="DIR",
            help="Where prompt, answer, program, a picture and the report are kept; else a folder "
            "of your cache.",
            rich_help_panel=_TASK,
        ),
    ] = None,
) -> ExitCode | None:
    """Check a model on a live server: prompt, context, KV cache, tool calls on every surface.

    With --task the model writes a game, which is then played without a screen in a sandbox.
    """
    from ollama_tools.devstral.context import AGENT_PROMPT
    from ollama_tools.errors import UsageError
    from ollama_tools.model import ensure

    if task is not None:
        if release is not None or prompt_tokens is not None or log is not None:
            raise UsageError(
                "--task asks none of the other checks", "leave out what is for those, or --task"
            )
        if name is None or llama_server is not None:
            raise UsageError("a task is for a model of an Ollama server", "name the model")
        report, folder = ensure.smoke_task(
            name, task, **access, prompt_file=prompt_file, folder=task_dir, progress=output
        )
        return _smoked(output, report, junit, folder)
    if prompt_file is not None or task_dir is not None:
        raise UsageError("without a --task there is no prompt", "add --task flappy-bird")
    if llama_server is not None:
        # OLLAMA_HOST may be set, and means the other server.
        access = {**access, "host": None}
    report = ensure.smoke(
        name,
        **access,
        llama_server=llama_server,
        release=release,
        prompt_tokens=AGENT_PROMPT if prompt_tokens is None else prompt_tokens,
        log=log,
        require_gpu=require_gpu,
        keep_template=keep_template,
        progress=output,
    )
    return _smoked(output, report, junit)


@command(commands, "preflight", panel=MODELS)
def preflight(
    output: Output,
    said: Annotated[
        dict[str, Any],
        FieldsOf(
            Wish,
            MODEL,
            without=("reference", "name", "parameters", "system", "vision", "registry", "revision"),
        ),
    ],
    access: AccessOptions,
    reference: Annotated[
        str | None,
        typer.Argument(
            metavar="REFERENCE", help="The model that is to come, whose memory is then reckoned."
        ),
    ] = None,
    kv_cache_type: Annotated[
        str | None,
        typer.Option(
            "--kv-cache-type", metavar="TYPE", help="The type that the KV cache must have: q8_0 …"
        ),
    ] = None,
    parallel: Annotated[
        int | None,
        typer.Option(
            "--parallel", metavar="N", help="How many requests at a time the server must answer."
        ),
    ] = None,
    log: Annotated[
        Path | None,
        typer.Option("--log", metavar="FILE", help="The server's log, where it cannot be seen."),
    ] = None,
    require_gpu: Annotated[bool | None, require_gpu_option()] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Load all of it, though a model that serves may have to go."),
    ] = False,
    junit: JunitOption = None,
) -> ExitCode | None:
    """Prove by a miniature of a few MB what a model will need of a server, before it is brought.

    Template, tool calls, context, KV cache, graphics card and memory; afterwards nothing of it is
    left. A model that serves stays loaded: beside one only what takes no memory is tried.
    """
    from ollama_tools.model import ensure

    report = ensure.preflight(
        reference,
        **access,
        kv_cache_type=kv_cache_type,
        parallel=parallel,
        require_gpu=require_gpu,
        force=force,
        log=log,
        progress=output,
        **said,
    )
    return _smoked(output, report, junit)


def _smoked(
    output: Output, report: Report, junit: Path | None, folder: Path | None = None
) -> ExitCode:
    from ollama_tools.checks.junit import write_junit
    from ollama_tools.cli.report import print_report

    if junit is not None:
        write_junit(report, junit)
    output.result(
        report.as_json(),
        lambda: print_report(report, output),
        [each.id for each in report.failures],
    )
    if folder is not None:
        output.note(f"kept in {folder}")
    return ExitCode.OK if report.passed else ExitCode.CHECK_FAILED


@command(commands, "status", panel=MODELS)
def status(
    output: Output,
    reference: _Reference,
    said: _Wish,
    settings: Annotated[
        dict[str, Any],
        FieldsOf(
            ServerSettings, "Settings to compare with the process", without=("host", "context")
        ),
    ],
    access: AccessOptions,
    upstream: Annotated[
        bool,
        typer.Option(
            "--upstream", help="Ask the hub or the mirror as well whether it has a newer file."
        ),
    ] = False,
    require_gpu: Annotated[bool | None, require_gpu_option()] = None,
) -> ExitCode | None:
    """Compare a server with what create would make; nothing is changed. Exit code 3 on drift.

    A model that is loaded, and not on the graphics card of its machine, is drift as well.

    Settings that are named are compared with the environment of the server's process, which shows
    on its own machine only.
    """
    from ollama_tools.checks.result import Status
    from ollama_tools.files.digests import short_digest
    from ollama_tools.model.status import model_status
    from ollama_tools.server.client import Server
    from ollama_tools.settings.environment import asked_environment, on_this_machine

    wish = Wish(reference=reference, **values_of_wish(said))
    wanted = asked_environment(on_this_machine(settings)) if settings else None
    with Server(**access, progress=output) as server:
        found = model_status(
            server, wish, wanted, output, upstream=upstream, require_gpu=require_gpu
        )
    lines = [f"{found.name} on {found.server} (Ollama {found.version})"]
    where = found.placement
    misplaced = where is not None and where.status is Status.FAIL
    different = [f"~ {each}" for each in (*found.differences, *found.settings)]
    lines += different or ([] if misplaced else ["as it should be"])
    if where is not None:
        fix = f"; fix: {where.fix}" if misplaced else ""
        lines.append(f"{'~ ' if misplaced else ''}{where.saw}{fix}")
    if found.build and found.weights:
        origin = f" of {found.origin}" if found.origin else ""
        sees = "vision" if found.vision else "no vision"
        lines.insert(
            1, f"build {found.build}, weights sha256:{short_digest(found.weights)}{origin}, {sees}"
        )
    if found.upstream:
        lines.append(str(found.upstream))
    lines += [
        f"{each.code} {each.severity}: {each.message}; fix: {each.fix}" for each in found.findings
    ]
    output.result(
        found.as_json(),
        [lines[0], *(f"  {each}" for each in lines[1:])],
        [
            *(each.field for each in (*found.differences, *found.settings)),
            *([where.id] if where is not None and misplaced else []),
        ],
    )
    return ExitCode.DRIFT if found.drifted else None


@command(commands, "history", panel=MODELS)
def history(output: Output, name: _PublicName, access: AccessOptions) -> None:
    """Show the builds that are kept of a model, the one that began to serve last first."""
    from ollama_tools.cli.documents import HistoryJson
    from ollama_tools.files.digests import short_digest
    from ollama_tools.model.builds import history as kept_builds
    from ollama_tools.model.builds import with_weights
    from ollama_tools.server.client import Server

    with Server(**access, progress=output) as server:
        kept = with_weights(server, kept_builds(server, name))
    rows = [
        (
            each.name,
            short_digest(each.digest),
            short_digest(each.weights or ""),
            each.since.partition(".")[0].replace("T", " "),
            each.state,
        )
        for each in kept
    ]
    output.result(
        HistoryJson(name=name, builds=[each.as_json() for each in kept]),
        lambda: output.table(("BUILD", "DIGEST", "WEIGHTS", "SINCE", "STATE"), rows),
        [each.name for each in kept],
    )


@command(commands, "rollback", panel=MODELS)
def rollback(
    output: Output,
    name: _PublicName,
    access: AccessOptions,
    to: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="BUILD", help="A build, or the digits at its end; else the one before."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")
    ] = False,
) -> None:
    """Let a model's name stand for the build that served before; only metadata moves.

    Exit code 5 where another run switched the name in the same moment.
    """
    from ollama_tools.model.builds import rollback as roll_back
    from ollama_tools.server.client import Server

    with Server(**access, progress=output) as server:
        done = roll_back(server, name, to, output, dry_run=dry_run)
    if done.changed and dry_run:
        text = f"{done.name} would be {done.build}, instead of {done.previous}"
    elif done.changed:
        text = f"{done.name} is {done.build} now, instead of {done.previous}"
    else:
        text = f"{done.name} is {done.build} already"
    output.result(done.as_json(), text, done.build)


@command(commands, "prune", panel=MODELS)
def prune(
    output: Output,
    keep: Annotated[
        int,
        typer.Option(
            "--keep", metavar="N", help="How many builds of each name stay; the serving one counts."
        ),
    ],
    access: AccessOptions,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="A model's public name; else all of them.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be removed, and remove nothing.")
    ] = False,
) -> None:
    """Remove old builds, never one that a name stands for, and what is left over."""
    from ollama_tools.cli.documents import PrunedJson
    from ollama_tools.model.builds import prune as remove
    from ollama_tools.model.leftovers import remove_leftovers
    from ollama_tools.server.client import Server

    with Server(**access, progress=output) as server:
        removed, kept = remove(server, name, keep, dry_run=dry_run)
        left = remove_leftovers(server, name, dry_run=dry_run)
    document = PrunedJson(
        removed=[each.as_json() for each in removed],
        kept=[each.as_json() for each in kept],
        leftovers=[each.as_json() for each in left],
        dry_run=dry_run,
    )
    gone = {each.name: "" for each in removed} | {each.name: f" ({each.why})" for each in left}
    _print_removal(output, document, gone, f", {len(kept)} kept", dry_run=dry_run)


@command(commands, "remove", panel=MODELS)
def remove(
    output: Output,
    name: _PublicName,
    access: AccessOptions,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be removed, and remove nothing.")
    ] = False,
) -> None:
    """Remove a model with all its builds and what is left over of it."""
    from ollama_tools.cli.documents import RemovedJson
    from ollama_tools.model.leftovers import remove_model
    from ollama_tools.server.client import Server

    with Server(**access, progress=output) as server:
        gone = remove_model(server, name, dry_run=dry_run)
    names = dict.fromkeys(gone.names, "")
    document = RemovedJson(
        name=gone.name, previous=gone.previous, removed=list(gone.names), dry_run=dry_run
    )
    _print_removal(output, document, names, dry_run=dry_run)


def _print_removal(
    output: Output,
    document: RemovedJson | PrunedJson,
    gone: dict[str, str],
    rest: str = "",
    *,
    dry_run: bool,
) -> None:
    """Print what is gone, or would be: each name with a remark, then how many."""
    lines = [f"- {name}{remark}" for name, remark in gone.items()]
    verb = "would be removed" if dry_run else "removed"
    lines.append(f"{len(gone)} {verb}{rest}")
    output.result(document, lines, list(gone))
