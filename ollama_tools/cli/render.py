"""``render``: what a model or a server is made of, as text for people and other programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from ollama_tools.cli.command import FieldsOf, command
from ollama_tools.cli.options import MODEL, MODELS, values_of_wish
from ollama_tools.cli.output import Output
from ollama_tools.errors import ExitCode, FileProblem, UsageError
from ollama_tools.gateway.settings import GatewaySettings
from ollama_tools.settings.environment import ServerSettings
from ollama_tools.settings.llama_programs import LlamaTarget
from ollama_tools.settings.targets import Gpu, Target
from ollama_tools.wanted.wish import Wish

if TYPE_CHECKING:
    from ollama_tools.devstral.catalog import Catalog

_SETTINGS = "Settings, with --target"
_GATEWAY = "The gateway, with --target systemd or compose"
_LLAMA = "llama.cpp, with --target llama-…"

commands = typer.Typer()

_ModelfileWish: TypeAlias = Annotated[
    dict[str, Any], FieldsOf(Wish, MODEL, without=("reference", "vram", "via", "revision"))
]


@command(commands, "render", panel=MODELS)
def render(
    output: Output,
    said: _ModelfileWish,
    settings: Annotated[dict[str, Any], FieldsOf(ServerSettings, _SETTINGS, without=("context",))],
    before: Annotated[
        dict[str, Any], FieldsOf(GatewaySettings, _GATEWAY, without=("listen", "dedicated_to"))
    ],
    reference: Annotated[
        str | None,
        typer.Argument(metavar="REFERENCE", help="UD-Q4_K_XL and the like; see create."),
    ] = None,
    everything: Annotated[
        bool,
        typer.Option(
            "--all", help="Write the Modelfile of every quant of every release to --directory."
        ),
    ] = False,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Fail with a diff where the releases' Modelfiles, or with --all those of every "
            "quant, are not as the catalog says.",
        ),
    ] = False,
    directory: Annotated[
        Path | None,
        typer.Option(
            "--directory",
            metavar="DIR",
            help="Where --all writes, and --check looks; modelfiles if absent, for --check. With "
            "--gateway where the files are written, as /etc/systemd/system.",
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            metavar="|".join([*Target, *LlamaTarget]),
            help="Print a server's settings instead, for what starts the server; or with a "
            "REFERENCE the command line of a program of llama.cpp, or its router's preset.",
        ),
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(
            "--prompt",
            metavar="TEXT",
            help="What a person says: print the raw prompt of it, without <s>; or let the program "
            "of --target answer it.",
        ),
    ] = None,
    run: Annotated[
        bool,
        typer.Option("--run", help="Start the program of --target.", rich_help_panel=_LLAMA),
    ] = False,
    program: Annotated[
        str | None,
        typer.Option(
            "--program",
            metavar="PATH",
            help="The program: the line suits its version. Else today's, or with --run that of "
            "PATH.",
            rich_help_panel=_LLAMA,
        ),
    ] = None,
    adapter: Annotated[
        Path | None,
        typer.Option(
            "--adapter",
            metavar="FILE",
            help="A LoRA adapter, as GGUF, that the program applies to the model.",
            rich_help_panel=_LLAMA,
        ),
    ] = None,
    more: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ARGUMENTS",
            help="Behind --: further arguments of the program of llama.cpp, as they are.",
        ),
    ] = None,
    ollama_version: Annotated[
        str | None,
        typer.Option(
            "--ollama-version",
            metavar="VERSION",
            help="The server's version, which the settings must suit.",
            rich_help_panel=_SETTINGS,
        ),
    ] = None,
    gpu: Annotated[
        Gpu | None,
        typer.Option(
            "--gpu",
            help="Whose cards the container of --target compose gets; nvidia if absent.",
            rich_help_panel=_SETTINGS,
        ),
    ] = None,
    gateway: Annotated[
        bool,
        typer.Option(
            "--gateway",
            help="With the gateway before the server: it takes the server's address, and the "
            "server one behind it that nobody else reaches.",
            rich_help_panel=_GATEWAY,
        ),
    ] = False,
) -> ExitCode | None:
    """Print a Modelfile, a server's settings, or how llama.cpp runs a model; no server is asked."""
    from ollama_tools.devstral.catalog import suggest

    if target is not None and target not in (*Target, *LlamaTarget):
        raise UsageError(f"there is no target {target!r}", suggest(target, (*Target, *LlamaTarget)))
    if (gateway or before) and (target not in tuple(Target) or not gateway):
        raise UsageError(
            "what is said of a gateway is for the files of one",
            "add --target systemd --gateway, or leave it out",
        )
    if target in tuple(LlamaTarget) and not (everything or check):
        _render_line(
            output,
            LlamaTarget(target),
            reference,
            said,
            settings | _asked(ollama_version=ollama_version, gpu=gpu),
            prompt=prompt,
            program=program,
            run=run,
            more=more or (),
            adapter=adapter,
        )
        return None
    if run or program is not None or more or adapter is not None:
        raise UsageError(
            "--run, --program, --adapter and further arguments are for a program of llama.cpp",
            "add --target llama-cli, or leave them out",
        )
    if prompt is not None:
        if (
            everything
            or check
            or target is not None
            or settings
            or _asked(ollama_version=ollama_version, gpu=gpu)
        ):
            raise UsageError(
                "--prompt is for itself, or for a program of llama.cpp",
                "leave out the rest, or add --target llama-cli",
            )
        _render_prompt(output, reference, said, prompt)
        return None
    if sum((reference is not None, everything or check, target is not None)) != 1:
        raise UsageError(
            "render takes one of REFERENCE, --all, --check and --target", "as in render UD-Q4_K_XL"
        )
    unheard = set(said) - ({"context"} if target else set())
    if unheard and reference is None:
        raise UsageError(
            f"without a REFERENCE there is no model of which {', '.join(sorted(unheard))} could "
            "be said",
            "name one, as in render UD-Q4_K_XL",
        )
    if target is not None:
        context = said.get("context")
        if gateway:
            _render_both(
                output, Target(target), settings, context, ollama_version, gpu, before, directory
            )
        else:
            _render_settings(output, Target(target), settings, context, ollama_version, gpu)
        return None
    if settings or ollama_version is not None or gpu is not None:
        raise UsageError("a Modelfile carries no settings of a server", "add --target systemd")
    return _render_modelfiles(output, reference, said, everything, check, directory)


def _asked(**options: object) -> dict[str, object]:
    """Options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def _render_modelfiles(
    output: Output,
    reference: str | None,
    said: Mapping[str, Any],
    everything: bool,
    check: bool,
    directory: Path | None,
) -> ExitCode | None:
    from ollama_tools.cli.documents import RenderAllJson, RenderJson
    from ollama_tools.devstral.catalog_file import load_catalog
    from ollama_tools.model import render as rendering

    catalog = load_catalog()
    if everything and directory is None:
        raise UsageError("--all writes many files", "say where: --directory DIR")
    if check:
        return _check_rendered(output, catalog, directory or Path("modelfiles"), everything)
    if everything and directory is not None:
        written = rendering.write_modelfiles(directory, rendering.every_modelfile(catalog))
        changed = [str(path) for path in written]
        output.result(
            RenderAllJson(directory=str(directory), changed=changed),
            f"{len(changed)} Modelfiles changed in {directory}",
            changed,
        )
        return None
    wish = rendering.modelfile_wish(reference or "", **values_of_wish(said))
    text = rendering.render_wish(wish, catalog)
    output.result(RenderJson(modelfile=text), text.rstrip("\n").split("\n"), None)
    return None


def _check_rendered(
    output: Output, catalog: Catalog, directory: Path, everything: bool
) -> ExitCode | None:
    from ollama_tools.cli.documents import RenderCheckJson
    from ollama_tools.model import render as rendering

    make = rendering.every_modelfile if everything else rendering.default_modelfiles
    diffs = rendering.stale_modelfiles(directory, make(catalog))
    output.result(
        RenderCheckJson(directory=str(directory), stale=len(diffs), diffs=diffs),
        [line for each in diffs for line in each.split("\n")]
        or f"every Modelfile in {directory} is as the catalog says",
        (),
    )
    if diffs:
        mend = (
            f"devstral-ollama render --all --directory {directory}" if everything else "make docs"
        )
        output.hint(f"run: {mend}")
    return ExitCode.FAILED if diffs else None


def _render_settings(
    output: Output,
    target: Target,
    settings: dict[str, Any],
    context: str | None,
    ollama_version: str | None,
    gpu: Gpu | None,
) -> None:
    from ollama_tools.cli.documents import RenderTargetJson
    from ollama_tools.devstral.context import parse_context
    from ollama_tools.server.versions import require_supported
    from ollama_tools.settings.environment import environment
    from ollama_tools.settings.targets import render_settings

    if context is not None:
        settings["context"] = parse_context(context)
    wanted = ServerSettings(**settings)
    version = None if ollama_version is None else require_supported(ollama_version)
    text = render_settings(wanted, target, version=version, gpu=gpu)
    document = RenderTargetJson(
        target=target.value, environment=environment(wanted), command=[], text=text, files={}
    )
    output.result(document, text.split("\n"), None)


def _render_both(
    output: Output,
    target: Target,
    settings: dict[str, Any],
    context: str | None,
    ollama_version: str | None,
    gpu: Gpu | None,
    before: Mapping[str, Any],
    directory: Path | None,
) -> None:
    """The server's settings and the gateway's, which may be more than one file."""
    from ollama_tools.cli.documents import RenderTargetJson
    from ollama_tools.devstral.context import parse_context
    from ollama_tools.gateway.targets import render_both
    from ollama_tools.server.versions import require_supported

    if context is not None:
        settings["context"] = parse_context(context)
    version = None if ollama_version is None else require_supported(ollama_version)
    files = render_both(settings, before, target, version=version, gpu=gpu)
    # As systemctl cat shows more than one.
    named = [f"# {path}\n{text}" for path, text in files.items()]
    text = "\n".join(named if len(files) > 1 else files.values()).rstrip("\n")
    lines = text.split("\n")
    if directory is not None:
        lines = [str(_write(directory, path, content)) for path, content in files.items()]
    document = RenderTargetJson(
        target=target.value, environment={}, command=[], text=text, files=files
    )
    output.result(document, lines, None)


def _write(directory: Path, path: str, text: str) -> Path:
    """Write a file where it belongs below a folder, which stands for that of systemd's units."""
    from ollama_tools.settings.targets import UNITS

    place = directory / (Path(path).relative_to(UNITS) if path.startswith("/") else path)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")
    except OSError as error:
        raise FileProblem(
            f"cannot write {place}: {error.strerror}", "name a folder of yours by --directory"
        ) from error
    return place


def _render_prompt(
    output: Output, reference: str | None, said: Mapping[str, Any], prompt: str
) -> None:
    from ollama_tools.cli.documents import RenderPromptJson
    from ollama_tools.devstral.catalog_file import load_catalog
    from ollama_tools.model.llama_cpp import wished_prompt

    if unheard := set(said) - ({"system", "release"} if reference else {"system"}):
        raise UsageError(
            f"a prompt is made of the release and the system prompt, not of {', '.join(unheard)}",
            "leave it out",
        )
    catalog = load_catalog()
    default = f"{catalog.default.slug}:{catalog.default.default_quant}"
    text = wished_prompt(Wish(reference=reference or default, **said), catalog, prompt)
    output.result(RenderPromptJson(prompt=text), text.split("\n"), None)


def _render_line(
    output: Output,
    target: LlamaTarget,
    reference: str | None,
    said: Mapping[str, Any],
    settings: Mapping[str, Any],
    *,
    prompt: str | None,
    program: str | None,
    run: bool,
    more: Sequence[str],
    adapter: Path | None,
) -> None:
    from ollama_tools.cli.documents import RenderTargetJson
    from ollama_tools.model.llama_cpp import command_line
    from ollama_tools.settings.llama_programs import find_llama_program
    from ollama_tools.settings.serve import become

    if reference is None:
        raise UsageError(f"{target} needs a model", f"as in render UD-Q4_K_XL --target {target}")
    if run and target is LlamaTarget.PRESET:
        raise UsageError(
            "a preset is a file, and nothing that runs",
            "write it to one, and run llama-server --models-preset FILE",
        )
    wish = Wish(reference=reference, **values_of_wish(said))
    # What cannot be is refused before a program is looked for.
    line = command_line(wish, target, settings, prompt=prompt, more=more, adapter=adapter)
    if run or program is not None:
        line = line.suited(find_llama_program(target.program, program))
    for note in line.notes:
        output.hint(note)
    if run:
        for each in line.shell.split("\n"):
            output.note(each)
        become(line.arguments, {}, option="--program")
    text = line.preset if target is LlamaTarget.PRESET else line.shell
    document = RenderTargetJson(
        target=target.value, environment={}, command=line.arguments, text=text, files={}
    )
    output.result(document, text.split("\n"), None)
