"""``bench``: how fast a model is on a live server, and what changed since an earlier run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ollama_tools.cli.command import AccessOptions, command
from ollama_tools.cli.options import MODELS, require_gpu_option
from ollama_tools.cli.output import Output
from ollama_tools.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from ollama_tools.checks.bench_figures import BenchComparedJson, BenchJson, BenchSessionJson

commands = typer.Typer()

_HOW_MUCH = "How much is measured"
_WHOLE = "context"


@command(commands, "bench", panel=MODELS)
def bench(
    output: Output,
    access: AccessOptions,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="A model on the server, or UD-Q4_K_XL and the like; the loaded or only one if "
            "absent.",
        ),
    ] = None,
    depth: Annotated[
        list[str] | None,
        typer.Option(
            "--depth",
            metavar="TOKENS",
            help="Tokens of a prompt, as in 32k, or context for as many as it holds (repeatable; "
            "2k, 32k and context if absent).",
            rich_help_panel=_HOW_MUCH,
        ),
    ] = None,
    parallel: Annotated[
        list[int] | None,
        typer.Option(
            "--parallel",
            metavar="N",
            min=1,
            max=64,
            help="Requests at a time (repeatable; 1, 2 and 4 if absent).",
            rich_help_panel=_HOW_MUCH,
        ),
    ] = None,
    tokens: Annotated[
        int,
        typer.Option(
            "--tokens",
            metavar="N",
            min=16,
            max=4096,
            help="Tokens of each answer.",
            rich_help_panel=_HOW_MUCH,
        ),
    ] = 128,
    runs: Annotated[
        int,
        typer.Option(
            "--runs",
            metavar="N",
            min=1,
            max=100,
            help="How often each prompt's figures are taken; the median counts.",
            rich_help_panel=_HOW_MUCH,
        ),
    ] = 3,
    turns: Annotated[
        int,
        typer.Option(
            "--turns",
            metavar="N",
            min=0,
            max=100,
            help="Turns of an agent's session; 0 for none.",
            rich_help_panel=_HOW_MUCH,
        ),
    ] = 6,
    seconds: Annotated[
        float,
        typer.Option(
            "--seconds",
            metavar="N",
            min=1,
            help="What would take the whole run longer is left out, which is said.",
            rich_help_panel=_HOW_MUCH,
        ),
    ] = 900,
    log: Annotated[
        Path | None,
        typer.Option(
            "--log", metavar="FILE", help="The server's log, where it cannot be seen from here."
        ),
    ] = None,
    require_gpu: Annotated[bool | None, require_gpu_option()] = None,
    compare: Annotated[
        Path | None,
        typer.Option(
            "--compare",
            metavar="FILE",
            help="Say what changed since an earlier run, of which this is the --json.",
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", help="Draw the figures, as .svg or .html."),
    ] = None,
) -> ExitCode | None:
    """Measure a model: loading, reading prompts, writing answers, a session, memory a token.

    It is loaded anew for it, and whoever asks it meanwhile spoils the figures. They count on a
    graphics card only, and where it is not on one it should be, the exit code is 4. Ctrl-C ends it
    with what was measured so far.
    """
    from ollama_tools.checks.bench import AT_A_TIME, DEPTHS, Bench, Choices
    from ollama_tools.checks.bench_compare import compare as compared
    from ollama_tools.checks.bench_compare import read_bench
    from ollama_tools.cli.picture import require_picture
    from ollama_tools.model.ensure import measured_name
    from ollama_tools.server.client import Server

    # Minutes later would be too late.
    earlier = None if compare is None else read_bench(compare)
    if plot is not None:
        require_picture(plot)
    choices = Choices(
        depths=tuple(map(_depth, depth)) if depth else (*DEPTHS, None),
        at_a_time=tuple(parallel or AT_A_TIME),
        tokens=tokens,
        runs=runs,
        turns=turns,
        seconds=seconds,
        log=log,
        require_gpu=require_gpu,
    )
    code = None
    with Server(**access, progress=output) as server:
        name = measured_name(server, name)
        measured = Bench(server, name, choices, output, lambda: Server(**access))
        try:
            measured.run()
        except KeyboardInterrupt:
            code = ExitCode.INTERRUPTED
            output.warn("interrupted: this is what was measured so far")
    document = measured.document
    if compare is not None and earlier is not None:
        document["compared"] = compared(earlier, document, compare)
    if plot is not None:
        from ollama_tools.cli.bench_plot import draw

        draw(plot, document, earlier)
        output.note(f"{plot} is written")
    output.result(document, lambda: _human(document, output), name)
    return code


def _depth(said: str) -> int | None:
    from ollama_tools.devstral.context import parse_context

    if said.strip().casefold() == _WHOLE:
        return None
    found = parse_context(said)
    if not found:
        raise UsageError(f"a prompt of {said} tokens is none", "as in 2048, 32k or context")
    return found


def _human(document: BenchJson, output: Output) -> None:
    from ollama_tools.progress import size_text

    model, memory, load = document["model"], document["memory"], document["load"]
    slots = model["slots"]
    facts = [
        f"context {model['context'] or 'unknown'}",
        f"KV cache {model['kv_cache_type'] or 'unknown'}",
        *([] if slots is None else [f"{slots} at a time"]),
    ]
    output.write(
        f"{model['name']} on {document['server']}, Ollama {document['version']}: {', '.join(facts)}"
    )
    if place := document["placement"]:
        machine = document["machine"]
        where = "; ".join(filter(None, [*machine["cards"], machine["processor"]]))
        output.write(f"  {place['text']}{f'; {where}' if where else ''}")
    if load is not None:
        warm = _seconds(load["warm_up_seconds"])
        output.write(f"  loaded in {_seconds(load['seconds'])}, a first long prompt took {warm}")
    if memory is not None and memory["bytes_per_token"] is not None:
        whole = memory["kv_cache_bytes"]
        of = "" if whole is None else f", {size_text(whole)} in all"
        output.write(
            f"  {memory['bytes_per_token'] / 1024:.1f} KiB of KV cache a token{of} "
            f"({memory['source']})"
        )
    _prompts(document, output)
    _together(document, output)
    if session := document["session"]:
        output.write("", *_session(session))
    if compared := document["compared"]:
        _compared(compared, output)


def _prompts(document: BenchJson, output: Output) -> None:
    rows = [
        (
            str(each["prompt_tokens"] or each["depth"]),
            _seconds(each["first_token_seconds"]),
            _rate(each["prompt_tokens_per_second"]),
            _rate(each["tokens_per_second"]),
            "-" if each["answer_tokens"] is None else str(each["answer_tokens"]),
            str(each["runs"]),
            each["why"] or "",
        )
        for each in document["prompts"]
    ]
    if rows:
        output.write("")
        header = ("PROMPT", "FIRST TOKEN", "READ, TOKENS/S", "ANSWER, TOKENS/S", "OF TOKENS")
        output.table((*header, "RUNS", ""), rows)


def _together(document: BenchJson, output: Output) -> None:
    rows = [
        (
            str(each["at_a_time"]),
            _rate(each["tokens_per_second"]),
            _rate(each["each_tokens_per_second"]),
            str(sum(each["answer_tokens"])),
            each["why"] or "",
        )
        for each in document["together"]
    ]
    if rows:
        output.write("")
        output.table(("AT A TIME", "TOKENS/S", "EACH", "OF TOKENS", ""), rows)


def _session(session: BenchSessionJson) -> list[str]:
    turns = session["turns"]
    if not turns:
        return [f"The session was not measured: {session['why'] or 'no time was left'}."]
    further = session["further_seconds"]
    lines = [
        f"A session, turns: {len(turns)}, up to a prompt of {turns[-1]['prompt_tokens']} tokens: "
        f"the first prompt was read in {_seconds(session['first_seconds'])}"
        + ("." if further is None else f", each further one in {_seconds(further)}.")
    ]
    if session["reused"] is not None:
        lines.append(f"{session['reused']:.0%} of those came out of the server's cache.")
    if session["unknown_seconds"] is not None:
        lines.append(
            f"The last prompt, unknown to the server, took {_seconds(session['unknown_seconds'])}."
        )
    if session["why"]:
        lines.append(f"({session['why']})")
    return [" ".join(lines)]


def _compared(compared: BenchComparedJson, output: Output) -> None:
    output.write("", f"Beside {compared['file']}, measured {compared['measured']}:")
    if not compared["counts"]:
        output.write(
            "  The two measured different things, so this comparison does not count:",
            *(
                f"  ~ {each['what']}: {each['before']} then, {each['now']} now"
                for each in compared["differences"]
            ),
        )
    rows = [
        (
            each["figure"],
            f"{each['before']:.4g}",
            f"{each['now']:.4g}",
            f"{each['ratio']:.2f}",
            each["change"],
        )
        for each in compared["changes"]
    ]
    output.table(("FIGURE", "BEFORE", "NOW", "RATIO", ""), rows)


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}" if value >= 100 else f"{value:.1f}"
