"""``fit``: what fits on a graphics card, before anything is downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ollama_tools.cli.command import command
from ollama_tools.cli.output import Output
from ollama_tools.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ollama_tools.devstral.fit import Cards, Estimate, Weights
    from ollama_tools.devstral.memory import KvType

commands = typer.Typer()

_WHAT = "What is asked for"


@command(commands, "fit", panel="Models")
def fit(
    output: Output,
    reference: Annotated[
        str | None,
        typer.Argument(
            metavar="REFERENCE",
            help="A release, a quant, a GGUF or a hub reference; all quants of 2507 if absent.",
        ),
    ] = None,
    vram: Annotated[
        list[str] | None,
        typer.Option(
            "--vram",
            metavar="SIZE",
            help="Memory of a card, as in 24GiB, once for each; this machine's cards if absent.",
        ),
    ] = None,
    context: Annotated[
        list[str] | None,
        typer.Option(
            "--context", metavar="TOKENS", help="This context, as in 64k.", rich_help_panel=_WHAT
        ),
    ] = None,
    kv_cache_type: Annotated[
        list[str] | None,
        typer.Option(
            "--kv-cache-type",
            metavar="TYPE",
            help="This type of the KV cache: f16, q8_0, q4_0 …",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    parallel: Annotated[
        int,
        typer.Option(
            "--parallel",
            metavar="N",
            min=1,
            max=256,
            help="Requests at a time; each has a context of its own.",
            rich_help_panel=_WHAT,
        ),
    ] = 1,
    vision: Annotated[
        bool,
        typer.Option("--vision", help="With the projector for images.", rich_help_panel=_WHAT),
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot",
            metavar="FILE",
            help="Draw memory over context, as .svg or .html; of one quant, the named or the best.",
        ),
    ] = None,
) -> ExitCode | None:
    """Say which quant, context and KV cache fit on a graphics card, and which to take.

    Nothing is downloaded and no server is asked. Figures are for Ollama 0.34 with flash attention.
    """
    from ollama_tools.devstral import fit as fits
    from ollama_tools.devstral.catalog_file import load_catalog
    from ollama_tools.devstral.context import parse_context
    from ollama_tools.model.weights import weights_of
    from ollama_tools.settings.environment import parse_kv_type

    cards = _cards(output, vram or [], vision=vision)
    contexts = [size for each in context or () if (size := parse_context(each))]
    kinds = [parse_kv_type(each) for each in kv_cache_type or ()]
    models = weights_of(reference, load_catalog(), output)
    if vision:
        fits.require_projector(models)
    best = fits.recommend(cards, models, contexts, kinds, parallel)
    found = list(
        fits.estimates(cards, models, contexts or fits.CONTEXTS, kinds or fits.KV_TYPES, parallel)
    )
    if plot is not None:
        from ollama_tools.cli.fit_plot import draw

        draw(plot, cards, best.weights if best else models[0], kinds or fits.KV_TYPES, parallel)
        output.note(f"{plot} is written")

    def human() -> None:
        if len(models) > 1 and not contexts:
            _overview(output, cards, models, kinds or fits.KV_TYPES, parallel)
        else:
            _parts(output, found)
        output.write("", *_advice(best, cards, models, found))

    output.result(
        [each.as_json() for each in found],
        human,
        [best.weights.name] if best else [],
    )
    return None if best else ExitCode.CHECK_FAILED


def _cards(output: Output, said: list[str], *, vision: bool) -> Cards:
    from ollama_tools.devstral.fit import Cards
    from ollama_tools.devstral.memory import PROJECTOR_BYTES
    from ollama_tools.hardware.cards import cards
    from ollama_tools.progress import parse_size, size_text

    totals = [parse_size(each) for one in said for each in one.split(",")]
    if not totals:
        for card in cards():
            used = f", of which {size_text(card.used)} are in use now" if card.used else ""
            output.note(f"{card.name}: {size_text(card.total)}{used}")
            totals.append(card.total)
    if not totals:
        raise UsageError(
            "this machine has no graphics card whose driver tells of it",
            "say how much memory the card has, as in --vram 24GiB",
        )
    return Cards(tuple(totals), PROJECTOR_BYTES if vision else 0)


def _overview(
    output: Output,
    cards: Cards,
    models: Sequence[Weights],
    kinds: Sequence[KvType],
    parallel: int,
) -> None:
    """The largest context of each quant with each type of KV cache."""
    from ollama_tools.progress import size_text

    rows = []
    for weights in models:
        largest = [cards.largest_context(weights, kind, parallel) for kind in kinds]
        rows.append(
            (
                weights.name,
                size_text(weights.file_bytes, estimated=weights.estimated),
                *(str(each.context) if each else "-" for each in largest),
            )
        )
    output.write(f"The largest context that is wholly on {cards}:")
    output.table(("QUANT", "FILE", *(f"KV CACHE {kind}" for kind in kinds)), rows)


def _parts(output: Output, found: Sequence[Estimate]) -> None:
    """What each choice takes, part by part."""
    from ollama_tools.progress import size_text

    rows = [
        (
            each.weights.name,
            str(each.context),
            each.kv_type.value,
            *map(
                size_text,
                (each.weights_bytes, each.kv_cache, each.compute, each.projector, each.total),
            ),
            "yes" if each.fits else f"{each.layers_on_card} of {each.layers} layers",
        )
        for each in found
    ]
    header = ("QUANT", "CONTEXT", "KV CACHE", "WEIGHTS", "CACHE", "COMPUTE", "VISION", "TOTAL")
    output.table((*header, "ON THE CARD"), rows)


def _advice(
    best: Estimate | None, cards: Cards, models: Sequence[Weights], found: Sequence[Estimate]
) -> list[str]:
    """What to take and why, or what is missing."""
    from ollama_tools.devstral.context import AGENT_CONTEXT
    from ollama_tools.devstral.fit import FEW_BITS
    from ollama_tools.progress import size_text

    if best is None:
        least = min(found, key=lambda each: each.total)
        return [
            f"Nothing of this fits on {cards}: the least takes {size_text(least.total)} "
            f"({least.weights.name}, context {least.context}, {least.kv_type}), and "
            f"{size_text(cards.room)} are there for it.",
            "The engine would compute the other layers on the processor, many times slower.",
        ]
    lines = [
        f"Take {best.weights.name} with a context of {best.context} and a KV cache of "
        f"{best.kv_type}: {size_text(best.total)} of the {size_text(cards.room)} that "
        f"{cards} {'have' if len(cards.totals) > 1 else 'has'} for it, and "
        f"{size_text(best.host)} of main memory.",
    ]
    if best.weights.bits < FEW_BITS and len(models) > 1:
        lines.append(
            f"With {best.weights.bits:.1f} bits a weight its answers are worse than those of the "
            "usual quants; more memory would help."
        )
    if best.context < AGENT_CONTEXT:
        lines.append("Coding agents want 65536 tokens: long sessions will not fit.")
    return lines
