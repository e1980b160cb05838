"""A picture of ``fit``: memory over context, a line for each type of KV cache."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from ollama_tools.cli.picture import COLOURS, DASHES, start, write_picture
from ollama_tools.progress import size_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ollama_tools.devstral.fit import Cards, Weights
    from ollama_tools.devstral.memory import KvType

_GIB = 1 << 30
_STEPS = 64
_WIDTH, _HEIGHT = 820, 480
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 150, 64, 56
_APART = 15


def draw(
    path: Path, cards: Cards, weights: Weights, kinds: Sequence[KvType], parallel: int
) -> None:
    """Write the picture.

    Args:
        path: An ``.svg``, or an ``.html`` that holds it.
        cards: Whose memory is the limit.
        weights: The model.
        kinds: Types of the KV cache.
        parallel: Slots.

    Raises:
        UsageError: The name has another ending.
        FileProblem: The file cannot be written.
    """
    title = f"Memory of {weights.name}"
    write_picture(path, title, _lines(cards, weights, kinds, parallel))


def _lines(cards: Cards, weights: Weights, kinds: Sequence[KvType], parallel: int) -> Iterator[str]:
    longest = weights.architecture.context
    contexts = [longest * step // _STEPS for step in range(1, _STEPS + 1)]
    curves = {
        kind: [cards.estimate(weights, each, kind, parallel).total / _GIB for each in contexts]
        for kind in kinds
    }
    room, whole = cards.room / _GIB, sum(cards.totals) / _GIB
    highest = 1.06 * max(whole, *(curve[-1] for curve in curves.values()))
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM

    def x(context: float) -> float:
        return round(_LEFT + (right - _LEFT) * context / longest, 1)

    def y(gib: float) -> float:
        return round(bottom - (bottom - _TOP) * gib / highest, 1)

    name = escape(weights.name)
    slots = "" if parallel == 1 else f", {parallel} requests at a time"
    title = f"Memory of {weights.name} over the context, by type of the KV cache"
    yield from start(title, _WIDTH, _HEIGHT)
    yield f'<text x="{_LEFT}" y="26" font-size="17" font-weight="bold">{name}</text>'
    yield (
        f'<text x="{_LEFT}" y="46" fill="#555">GiB on the graphics card over the context in tokens'
        f"{slots}</text>"
    )
    for gib in _ticks(highest):
        yield f'<path d="M{_LEFT} {y(gib)}H{right}" stroke="#e4e4e4"/>'
        yield f'<text x="{_LEFT - 8}" y="{y(gib) + 4}" text-anchor="end">{gib:g}</text>'
    for eighth in range(9):
        context = longest * eighth // 8
        label = f"{context // 1024}k" if context else "0"
        yield f'<path d="M{x(context)} {bottom}v5" stroke="#888"/>'
        yield f'<text x="{x(context)}" y="{bottom + 20}" text-anchor="middle">{label}</text>'
    yield f'<path d="M{_LEFT} {bottom}H{right}" stroke="#888"/>'
    yield (
        f'<rect x="{_LEFT}" y="{y(whole)}" width="{right - _LEFT}" '
        f'height="{round(y(room) - y(whole), 1)}" fill="#888" fill-opacity="0.18"/>'
    )
    yield f'<path d="M{_LEFT} {y(room)}H{right}" stroke="#222" stroke-width="1.5"/>'
    wanted = {f"{cards}": y(whole) + 4, f"room {size_text(cards.room)}": y(room) + 4}
    colours = dict.fromkeys(wanted, "#222")
    for number, (kind, curve) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        dash = f' stroke-dasharray="{DASHES[number]}"' if number % len(DASHES) else ""
        points = " ".join(
            f"{x(context)},{y(gib)}" for context, gib in zip(contexts, curve, strict=True)
        )
        stroke = f'stroke="{colour}" stroke-width="2.5"{dash}'
        yield f'<polyline points="{points}" fill="none" {stroke}/>'
        wanted[kind.value] = y(curve[-1]) + 4
        colours[kind.value] = colour
    for label, place in _apart(wanted).items():
        yield (
            f'<text x="{right + 8}" y="{place}" fill="{colours[label]}" font-weight="bold">'
            f"{escape(label)}</text>"
        )


def _ticks(highest: float) -> Iterator[int]:
    step = next(each for each in (1, 2, 4, 8, 16, 32, 64, 128) if highest / each <= 8)
    yield from range(0, int(highest) + 1, step)


def _apart(wanted: dict[str, float]) -> dict[str, float]:
    """The heights of labels, those that would lie over each other moved down."""
    places: dict[str, float] = {}
    last = float("-inf")
    for label, place in sorted(wanted.items(), key=lambda each: each[1]):
        last = max(place, last + _APART)
        places[label] = round(last, 1)
    return places
