"""A picture of ``bench``: what is waited for, how fast it reads and writes, and a session."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from ollama_tools.cli.picture import COLOURS, start, write_picture

if TYPE_CHECKING:
    from ollama_tools.checks.bench_figures import BenchJson

_WIDTH, _HEIGHT = 860, 810
_TOP, _LEFT, _APART = 110, 40, 40
_PANEL_WIDTH, _PANEL_HEIGHT = 370, 200
_UNKNOWN = "unknown"
_NOW, _BEFORE = COLOURS[0], COLOURS[5]

_Bars = dict[str, float]


def draw(path: Path, document: BenchJson, earlier: BenchJson | None) -> None:
    """Write the picture.

    Args:
        path: An ``.svg``, or an ``.html`` that holds it.
        document: What was measured.
        earlier: What it is compared with; None for nothing.

    Raises:
        UsageError: The name has another ending.
        FileProblem: The file cannot be written.
    """
    name = document["model"]["name"]
    write_picture(path, f"How fast {name} is", _lines(document, earlier))


def _lines(document: BenchJson, earlier: BenchJson | None) -> Iterator[str]:
    model = document["model"]
    yield from start(f"How fast {model['name']} is", _WIDTH, _HEIGHT)
    yield (
        f'<text x="{_LEFT}" y="26" font-size="17" font-weight="bold">{escape(model["name"])}</text>'
    )
    place = document["placement"]
    facts = [
        f"Ollama {document['version']}",
        f"context {model['context']}",
        f"KV cache {model['kv_cache_type'] or 'unknown'}",
    ]
    lines = [(", ".join(facts), "#555"), (place["text"] if place else "", "#555")]
    if not document["counts"]:
        lines.append(("Not wholly on graphics cards: this says nothing of one.", COLOURS[1]))
    for number, (text, colour) in enumerate(lines):
        y = 46 + 17 * number
        yield f'<text x="{_LEFT}" y="{y}" font-size="12" fill="{colour}">{escape(text)}</text>'
    if earlier is not None:
        yield from _legend(document, earlier)
    second = _LEFT + _PANEL_WIDTH + _APART
    row = _PANEL_HEIGHT + _APART
    panels = (
        ("Seconds until the first token, by tokens of the prompt", _waits, _LEFT, _TOP),
        ("Tokens of a prompt read in a second", _reading, second, _TOP),
        ("Tokens of an answer in a second, after such a prompt", _writing, _LEFT, _TOP + row),
        ("Tokens in a second, by requests at a time", _together, second, _TOP + row),
    )
    for title, figures, x, y in panels:
        bars = [(figures(document), _NOW)]
        if earlier is not None:
            bars.insert(0, (figures(earlier), _BEFORE))
        yield from _panel(title, bars, x, y, _PANEL_WIDTH)
    title = "A session: seconds until each turn's prompt was read; the last one where it is unknown"
    bars = [(_session(document), _NOW)]
    if earlier is not None:
        bars.insert(0, (_session(earlier), _BEFORE))
    yield from _panel(title, bars, _LEFT, _TOP + 2 * row, 2 * _PANEL_WIDTH + _APART)


def _legend(document: BenchJson, earlier: BenchJson) -> Iterator[str]:
    x = _WIDTH - 230
    for number, (colour, each) in enumerate(((_BEFORE, earlier), (_NOW, document))):
        y = 14 + 18 * number
        yield f'<rect x="{x}" y="{y}" width="12" height="12" fill="{colour}"/>'
        yield f'<text x="{x + 18}" y="{y + 11}" font-size="12">{escape(each["measured"])}</text>'


def _panel(
    title: str, series: Sequence[tuple[_Bars, str]], x: int, y: int, width: int
) -> Iterator[str]:
    """Bars, one group for each category, each bar with its figure."""
    yield f'<text x="{x}" y="{y + 12}" font-weight="bold">{escape(title)}</text>'
    bottom, top = y + _PANEL_HEIGHT - 22, y + 44
    names = list(dict.fromkeys(name for bars, _ in series for name in bars))
    yield f'<path d="M{x} {bottom}H{x + width}" stroke="#888"/>'
    if not names:
        yield f'<text x="{x + 8}" y="{bottom - 8}" fill="#555">not measured</text>'
        return
    highest = max(value for bars, _ in series for value in bars.values()) or 1.0
    group = width / len(names)
    bar = min(46.0, group * 0.8 / len(series))
    for place, name in enumerate(names):
        middle = x + group * (place + 0.5)
        yield f'<text x="{middle:.1f}" y="{bottom + 17}" text-anchor="middle">{escape(name)}</text>'
        for number, (bars, colour) in enumerate(series):
            if name not in bars:
                continue
            height = max(1.0, (bottom - top) * bars[name] / highest)
            left = middle + bar * (number - len(series) / 2)
            yield (
                f'<rect x="{left:.1f}" y="{bottom - height:.1f}" width="{bar - 2:.1f}" '
                f'height="{height:.1f}" fill="{colour}"/>'
            )
            yield (
                f'<text x="{left + bar / 2 - 1:.1f}" y="{bottom - height - 4:.1f}" font-size="11" '
                f'text-anchor="middle">{_short(bars[name])}</text>'
            )


def _waits(document: BenchJson) -> _Bars:
    return _known((each["depth"], each["first_token_seconds"]) for each in document["prompts"])


def _reading(document: BenchJson) -> _Bars:
    return _known((each["depth"], each["prompt_tokens_per_second"]) for each in document["prompts"])


def _writing(document: BenchJson) -> _Bars:
    return _known((each["depth"], each["tokens_per_second"]) for each in document["prompts"])


def _together(document: BenchJson) -> _Bars:
    return _known((each["at_a_time"], each["tokens_per_second"]) for each in document["together"])


def _session(document: BenchJson) -> _Bars:
    session = document["session"]
    if session is None:
        return {}
    turns = enumerate((each["prompt_seconds"] for each in session["turns"]), 1)
    return {**_known(turns), **_known([(_UNKNOWN, session["unknown_seconds"])])}


def _known(
    found: Iterator[tuple[object, float | None]] | Sequence[tuple[object, float | None]],
) -> _Bars:
    return {str(name): value for name, value in found if value is not None}


def _short(value: float) -> str:
    """A figure in three digits or so."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
