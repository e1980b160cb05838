"""A picture of ``fit``: memory over context, a line for each type of KV cache."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from ollama_tools.errors import FileProblem, UsageError
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
# Okabe and Ito's colours, which people with any kind of colour vision tell apart; dashes help too.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_DASHES = ("", "8 4", "2 3", "12 4 2 4", "6 2", "1 4")


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
    if path.suffix.lower() not in (".svg", ".html"):
        raise UsageError(f"{path} is no name of a picture", "let it end with .svg or .html")
    picture = "\n".join(_lines(cards, weights, kinds, parallel)) + "\n"
    if path.suffix.lower() == ".html":
        title = f"Memory of {escape(weights.name)}"
        picture = (
            f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{title}</title>\n'
            f"{picture}</html>\n"
        )
    try:
        path.write_text(picture, encoding="utf-8")
    except OSError as error:
        raise FileProblem(
            f"{path} cannot be written: {error.strerror}", "name a file in a folder that is there"
        ) from error


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
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'font-family="sans-serif" font-size="13" fill="#222" role="img">'
    )
    yield f"<title>Memory of {name} over the context, by type of the KV cache</title>"
    yield f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>'
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
        colour = _COLOURS[number % len(_COLOURS)]
        dash = f' stroke-dasharray="{_DASHES[number]}"' if number % len(_DASHES) else ""
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
    yield "</svg>"


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
