"""Two benchmarks beside one another: what changed, and whether they measured the same thing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, cast

from ollama_tools.checks.bench_figures import (
    BenchChangeJson,
    BenchComparedJson,
    BenchDifferenceJson,
    BenchJson,
)
from ollama_tools.errors import MALFORMED, FileProblem
from ollama_tools.json_text import MalformedJson, parse_json

_LARGEST = 4 << 20
_SAME = 0.05


def read_bench(path: Path) -> BenchJson:
    """An earlier document of a benchmark.

    Raises:
        FileProblem: It cannot be read, or is none.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST + 1)
    except OSError as error:
        raise FileProblem(f"cannot read {path}: {error.strerror}", "check the path") from error
    no_bench = FileProblem(
        f"{path} is no document of a benchmark", "name what devstral-ollama bench --json printed"
    )
    if len(text) > _LARGEST:
        raise no_bench
    try:
        document = cast("BenchJson", parse_json(text))
        # Whatever is asked of it below is there, or it is none.
        compare(document, document, path)
    except (MalformedJson, *MALFORMED) as error:
        raise no_bench from error
    return document


def compare(before: BenchJson, now: BenchJson, path: Path) -> BenchComparedJson:
    """What changed between two runs.

    Args:
        before: The earlier one.
        now: The later one.
        path: Where the earlier one lies.
    """
    earlier = {each.name: each for each in figures(before)}
    differences = [
        BenchDifferenceJson(what=what, before=old, now=new)
        for (what, old), (_, new) in zip(_things(before), _things(now), strict=True)
        if old != new
    ]
    return {
        "file": str(path),
        "measured": str(before["measured"]),
        "counts": not differences,
        "differences": differences,
        "changes": [
            _change(earlier[each.name], each)
            for each in figures(now)
            if each.name in earlier and earlier[each.name].value
        ],
    }


class Figure(NamedTuple):
    """A figure of a run.

    Attributes:
        name: What it is, with its unit.
        value: How much.
        is_cost: Whether less of it is better.
        noise: By which part of itself it differed within the run.
    """

    name: str
    value: float
    is_cost: bool
    noise: float = 0.0


def figures(document: BenchJson) -> Iterator[Figure]:
    """The figures of a run that are there."""
    for name, value, is_cost, noise in _figures(document):
        if value is not None:
            yield Figure(name, float(value), is_cost, float(noise))


def _figures(document: BenchJson) -> Iterator[tuple[str, float | None, bool, float]]:
    if load := document["load"]:
        yield "load, s", load["seconds"], True, 0.0
    for prompt in document["prompts"]:
        depth, noise = prompt["depth"], (prompt["spread"] or 1.0) - 1
        yield f"first token after {depth}, s", prompt["first_token_seconds"], True, noise
        yield f"prompt of {depth}, tokens/s", prompt["prompt_tokens_per_second"], False, noise
        yield f"answer after {depth}, tokens/s", prompt["tokens_per_second"], False, noise
    for each in document["together"]:
        yield f"{each['at_a_time']} at a time, tokens/s", each["tokens_per_second"], False, 0.0
    if session := document["session"]:
        yield "session, first prompt, s", session["first_seconds"], True, 0.0
        yield "session, further prompts, s", session["further_seconds"], True, 0.0
        yield "session, last prompt unknown, s", session["unknown_seconds"], True, 0.0
    if memory := document["memory"]:
        yield "KV cache, bytes a token", memory["bytes_per_token"], True, 0.0


def _things(document: BenchJson) -> Iterator[tuple[str, str]]:
    """What two runs must have in common: each by its name, and in words."""
    model, machine = document["model"], document["machine"]
    place = document["placement"]
    # What nobody sees of a machine its address has to tell.
    where = [*machine["cards"], *filter(None, [machine["processor"]])]
    yield "machine", ", ".join(where) or document["server"]
    yield "server", document["version"]
    yield "model", (model["weights"] or model["name"])[:19]
    yield "context", _said(model["context"])
    yield "KV cache", _said(model["kv_cache_type"])
    yield "requests at a time", _said(model["slots"])
    share = place["on_gpu"] if place else None
    yield "on the GPU", "unknown" if share is None else f"{share:.0%}"
    yield "loaded beside it", ", ".join(model["beside"]) or "nothing"


def _said(value: object) -> str:
    return "unknown" if value is None else str(value)


def _change(before: Figure, now: Figure) -> BenchChangeJson:
    ratio = now.value / before.value
    if abs(ratio - 1) <= max(_SAME, before.noise, now.noise):
        change = "same"
    else:
        change = "better" if (ratio < 1) is now.is_cost else "worse"
    return {
        "figure": now.name,
        "before": before.value,
        "now": now.value,
        "ratio": round(ratio, 3),
        "change": change,
    }
