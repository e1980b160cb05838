"""What a benchmark's figures are, and how they come of answers; nobody is asked here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Annotated, Any, TypedDict

FEWEST_TOKENS = 8
"""Tokens of an answer below which nothing is said of a speed."""
_KNOWN = 0.02
"""The part of a prompt that may have come out of the server's cache: what all templates begin
with."""
_FEW = 16
_HELD, _HELD_SECONDS = 0.5, 0.25
"""From which part of an answer's time, and from how many seconds, its text counts as late."""


class BenchModelJson(TypedDict):
    """What was measured."""

    name: Annotated[str, "Its name on the server."]
    weights: Annotated[str | None, "``sha256:…`` of the blob; null where the server hides it."]
    context: Annotated[int | None, "Tokens in force."]
    kv_cache_type: Annotated[str | None, "The type in force; null where nothing shows it."]
    slots: Annotated[int | None, "Requests answered at a time; null where no log shows it."]
    beside: Annotated[list[str], "Other models that were loaded."]


class BenchMachineJson(TypedDict):
    """The server's machine, as far as it can be seen."""

    cards: Annotated[list[str], "Its graphics cards, by its log or drivers."]
    processor: Annotated[str | None, "Its processor; null where it is another machine."]


class BenchPlaceJson(TypedDict):
    """Where the model was."""

    text: Annotated[str, "In words, with the evidence."]
    on_gpu: Annotated[float | None, "The share on cards, 0 to 1; null where nothing tells."]
    bytes: Annotated[int | None, "Bytes on cards; null where nothing tells."]


class BenchLoadJson(TypedDict):
    """Loading it."""

    seconds: Annotated[float, "Until it was loaded; its file may have been in memory already."]
    warm_up_seconds: Annotated[
        float, "Of a first long prompt: 2500 tokens, or what has room and time."
    ]


class BenchPromptJson(TypedDict):
    """A prompt that the server did not know, alone on it; medians over the runs."""

    depth: Annotated[int, "Tokens that the prompt was to have."]
    runs: Annotated[int, "How many prompts its figures are of."]
    prompt_tokens: Annotated[int | None, "Tokens that it had."]
    cached_tokens: Annotated[
        int | None, "Of those, out of the server's cache; null where it does not say."
    ]
    first_token_seconds: Annotated[
        float | None, "Until the first token of the answer, by the server."
    ]
    prompt_tokens_per_second: Annotated[float | None, "Read; those out of the cache taken off."]
    answer_tokens: Annotated[int | None, "Tokens of the answer."]
    tokens_per_second: Annotated[float | None, "Of the answer; null where it was too short."]
    spread: Annotated[float | None, "Slowest by fastest time to the first token; null for one run."]
    why: Annotated[str | None, "Why a figure is missing, or the text late."]


class BenchTogetherJson(TypedDict):
    """Short prompts, several at a time."""

    at_a_time: Annotated[int, "How many."]
    answer_tokens: Annotated[list[int], "Tokens of each answer."]
    tokens_per_second: Annotated[float | None, "Of all together, waiting included."]
    each_tokens_per_second: Annotated[float | None, "Of one of them while it was written; median."]
    why: Annotated[str | None, "Why a figure is missing, or the text late."]


class BenchTurnJson(TypedDict):
    """A turn of a session."""

    prompt_tokens: Annotated[int, "Tokens of its prompt."]
    cached_tokens: Annotated[int | None, "Out of the server's cache; null where it does not say."]
    prompt_seconds: Annotated[float, "Until the prompt was read."]
    seconds: Annotated[float, "Until the answer was there."]


class BenchSessionJson(TypedDict):
    """An agent's session, whose prompt grows at its end."""

    turns: Annotated[list[BenchTurnJson], "Its turns."]
    first_seconds: Annotated[float | None, "Reading the first prompt."]
    further_seconds: Annotated[float | None, "Reading that of a further turn; median."]
    unknown_seconds: Annotated[float | None, "Reading the last prompt where it is not known."]
    reused: Annotated[
        float | None, "The part of the further prompts out of the cache; null if not said."
    ]
    why: Annotated[str | None, "Why a figure is missing."]


class BenchMemoryJson(TypedDict):
    """Memory."""

    bytes_per_token: Annotated[float | None, "Of KV cache, for a token of a slot."]
    kv_cache_bytes: Annotated[int | None, "Of all slots."]
    source: Annotated[str, "What shows it."]


class BenchChangeJson(TypedDict):
    """A figure of two runs."""

    figure: Annotated[str, "What it is, with its unit."]
    before: Annotated[float, "Of the earlier run."]
    now: Annotated[float, "Of this run."]
    ratio: Annotated[float, "Now by before."]
    change: Annotated[
        str, "``better``, ``worse``, or ``same``: within 5 % or the runs' own spread."
    ]


class BenchDifferenceJson(TypedDict):
    """What makes two runs different things."""

    what: Annotated[str, "What differs: the machine, the model, its context …"]
    before: Annotated[str, "Of the earlier run."]
    now: Annotated[str, "Of this run."]


class BenchComparedJson(TypedDict):
    """This run beside an earlier one."""

    file: Annotated[str, "The earlier document."]
    measured: Annotated[str, "When it was measured."]
    counts: Annotated[bool, "Whether the two measured the same thing: no ``differences``."]
    differences: Annotated[list[BenchDifferenceJson], "What they have not in common."]
    changes: Annotated[list[BenchChangeJson], "The figures that both have."]


class BenchJson(TypedDict):
    """What a benchmark measured. Times are seconds."""

    complete: Annotated[bool, "Whether it was not interrupted."]
    measured: Annotated[str, "When it began, ISO 8601 in UTC."]
    seconds: Annotated[float, "How long it took."]
    server: Annotated[str, "The server's URL."]
    version: Annotated[str, "The server's version."]
    package: Annotated[str, "This package's version."]
    counts: Annotated[bool, "Whether all of the model was on graphics cards."]
    model: BenchModelJson
    machine: BenchMachineJson
    placement: BenchPlaceJson | None
    load: BenchLoadJson | None
    prompts: list[BenchPromptJson]
    together: list[BenchTogetherJson]
    session: BenchSessionJson | None
    memory: BenchMemoryJson | None
    compared: Annotated[BenchComparedJson | None, "With ``--compare``."]


@dataclass(frozen=True, slots=True)
class Asked:
    """One answer of a server to one prompt, timed.

    Attributes:
        began: When it was sent, by the monotonic clock; likewise the others.
        first: When the first of the answer came.
        last: When the last came.
        prompt_tokens: Tokens of the prompt.
        cached_tokens: Those of them that were not read anew; None where the server does not say.
        prompt_seconds: How long the server read.
        answer_tokens: Tokens of the answer.
        answer_seconds: How long the server wrote.
    """

    began: float
    first: float
    last: float
    prompt_tokens: int
    cached_tokens: int | None
    prompt_seconds: float
    answer_tokens: int
    answer_seconds: float

    @property
    def wrote(self) -> float:
        """When the server had the first token, by its own account of how long it wrote.

        What a client sees of it can come far later: behind a proxy that gathers an answer, or of a
        model that writes tokens without text.
        """
        return max(self.began, min(self.first, self.last - self.answer_seconds))

    @property
    def is_held_back(self) -> bool:
        """Whether most of the answer was written before any of it came."""
        return self.first - self.wrote > max(_HELD_SECONDS, _HELD * self.answer_seconds)

    @property
    def is_known(self) -> bool:
        """Whether so much of the prompt was known to the server that it is no measure."""
        return (self.cached_tokens or 0) > max(_FEW, _KNOWN * self.prompt_tokens)

    @property
    def prompt_rate(self) -> float | None:
        """Tokens a second of reading, those alone that were read."""
        read = self.prompt_tokens - (self.cached_tokens or 0)
        return read / self.prompt_seconds if self.prompt_seconds > 0 and read > 0 else None

    @property
    def answer_rate(self) -> float | None:
        """Tokens a second of writing; None where there are too few for it."""
        enough = self.answer_tokens >= FEWEST_TOKENS and self.answer_seconds > 0
        return self.answer_tokens / self.answer_seconds if enough else None


def prompt_figures(depth: int, found: Sequence[Asked]) -> BenchPromptJson:
    """The figures of runs with prompts of one length."""
    waits = [each.wrote - each.began for each in found]
    figures = no_prompt(depth, None)
    figures["runs"] = len(found)
    figures["prompt_tokens"] = round(median(each.prompt_tokens for each in found))
    cached = [each.cached_tokens for each in found if each.cached_tokens is not None]
    figures["cached_tokens"] = max(cached) if cached else None
    fewest = figures["answer_tokens"] = min(each.answer_tokens for each in found)
    why = []
    if any(each.is_known for each in found):
        why.append(f"{max(cached)} tokens of the prompt came out of the server's cache")
    else:
        figures["first_token_seconds"] = round(median(waits), 4)
        figures["prompt_tokens_per_second"] = _median([each.prompt_rate for each in found])
        if len(waits) > 1 and min(waits) > 0:
            figures["spread"] = round(max(waits) / min(waits), 3)
    figures["tokens_per_second"] = _median([each.answer_rate for each in found])
    if figures["tokens_per_second"] is None:
        why.append(_too_short(fewest))
    figures["why"] = "; ".join([*why, *_held_back(found)]) or None
    return figures


def together_figures(found: Sequence[Asked], slots: int | None) -> BenchTogetherJson:
    """The figures of requests at a time.

    The speed of all is that of the tokens after the very first one, until the last: what waits for
    another's answer, where the server has fewer slots, slows it down.
    """
    figures = none_together(len(found), None)
    figures["answer_tokens"] = sorted(each.answer_tokens for each in found)
    span = max(each.last for each in found) - min(each.wrote for each in found)
    if figures["answer_tokens"][0] < FEWEST_TOKENS or span <= 0:
        figures["why"] = _too_short(figures["answer_tokens"][0])
        return figures
    figures["tokens_per_second"] = round((sum(figures["answer_tokens"]) - 1) / span, 2)
    figures["each_tokens_per_second"] = _median([each.answer_rate for each in found])
    why = _held_back(found)
    if slots is not None and slots < len(found):
        why.insert(0, f"the server answers {slots} at a time, the others wait")
    figures["why"] = "; ".join(why) or None
    return figures


def session_figures(
    turns: Sequence[BenchTurnJson], unknown: BenchTurnJson | None
) -> BenchSessionJson:
    """The figures of a session.

    Args:
        turns: Its turns so far.
        unknown: The last turn's prompt, its beginning another; None where it was not asked.
    """
    further = turns[1:]
    cached = [each["cached_tokens"] for each in further if each["cached_tokens"] is not None]
    prompts = sum(each["prompt_tokens"] for each in further)
    why = None
    if unknown is None and turns:
        why = "no time was left for the last prompt, unknown to the server"
    elif unknown and (unknown["cached_tokens"] or 0) > max(_FEW, _KNOWN * unknown["prompt_tokens"]):
        why = f"{unknown['cached_tokens']} tokens of the last prompt were known to the server"
        unknown = None
    return {
        "turns": list(turns),
        "first_seconds": turns[0]["prompt_seconds"] if turns else None,
        "further_seconds": _median([each["prompt_seconds"] for each in further], 4),
        "unknown_seconds": unknown["prompt_seconds"] if unknown else None,
        "reused": round(sum(cached) / prompts, 4) if len(cached) == len(further) > 0 else None,
        "why": why,
    }


def turn_rate(turn: BenchTurnJson) -> float | None:
    """Tokens a second of reading a turn's prompt; None where nothing was read."""
    read = turn["prompt_tokens"] - (turn["cached_tokens"] or 0)
    return read / turn["prompt_seconds"] if turn["prompt_seconds"] > 0 and read > 0 else None


def no_prompt(depth: int, why: str | None) -> BenchPromptJson:
    """A prompt without any figures, and why."""
    return {
        "depth": depth,
        "runs": 0,
        "prompt_tokens": None,
        "cached_tokens": None,
        "first_token_seconds": None,
        "prompt_tokens_per_second": None,
        "answer_tokens": None,
        "tokens_per_second": None,
        "spread": None,
        "why": why,
    }


def none_together(count: int, why: str | None) -> BenchTogetherJson:
    """Requests at a time without any figures, and why."""
    return {
        "at_a_time": count,
        "answer_tokens": [],
        "tokens_per_second": None,
        "each_tokens_per_second": None,
        "why": why,
    }


def _too_short(tokens: int) -> str:
    return f"an answer ended after {tokens} tokens, too few for a speed"


def _held_back(found: Sequence[Asked]) -> list[str]:
    late = [each.first - each.wrote for each in found if each.is_held_back]
    return [f"the text of an answer came {max(late):.1f} s after its first token"] if late else []


def _median(found: Sequence[float | None], digits: int = 2) -> float | None:
    """The median; None where any is missing."""
    known = [each for each in found if each is not None]
    return round(median(known), digits) if known and len(known) == len(found) else None


def cached_tokens(answer: Mapping[str, Any]) -> int | None:
    """Tokens of a prompt out of the server's cache; None before 0.34, which do not say it."""
    count = answer.get("prompt_eval_cached_count")
    return count if isinstance(count, int) else None
