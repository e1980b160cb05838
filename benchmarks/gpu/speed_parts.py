"""The parts about speed: prefill and generation by depth, and an agent's session."""

from __future__ import annotations

import itertools
import math
import string
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.gpu import card
from benchmarks.gpu.bench import ZEROS, Bench, Running
from benchmarks.gpu.document import NotPossible
from benchmarks.gpu.true_shape import tensors
from ollama_tools.devstral.memory import KvType, kv_cache_bytes, round_up_context

_AT_A_TIME = (1, 2, 4)
_NS = 1e9
# Beside weights and cache: compute buffers, and what the driver itself takes.
_HEADROOM = 5 << 30
# A prompt slows down as it grows; what was measured at a smaller depth is too hopeful.
_SLOWER = 2.0


def speed(bench: Bench, data: dict[str, Any]) -> None:
    """Prefill and generation at some depths of context, one and several requests at a time."""
    data["cells"] = cells = []
    slots = max(_AT_A_TIME)
    context, data["context"] = _largest_context(bench, slots)
    with bench.server(OLLAMA_NUM_PARALLEL=str(slots)) as running:
        data["load"] = running.load(ZEROS, context)
        # No two prompts begin alike, so that no slot knows more of one than its BOS.
        letters = iter(string.ascii_letters)
        data["warm_up_seconds"] = _warm_up(running, context, letters, _AT_A_TIME)
        rate = 0.0
        # The cheapest first, so that what does not fit into the time is the dearest.
        pairs = itertools.product(bench.sizes.depths, _AT_A_TIME)
        for depth, count in sorted(pairs, key=math.prod):
            cell: dict[str, Any] = {"depth": depth, "at_a_time": count}
            cells.append(cell)
            expected = _SLOWER * depth * count / rate if rate else 0.0
            if depth + bench.sizes.predict > context:
                cell["why"] = f"the card has no room for {slots} such contexts"
            elif expected > bench.left:
                cell["why"] = f"would take about {expected:.0f} s; {bench.left:.0f} s are left"
            else:
                cell |= _together(running, depth, list(itertools.islice(letters, count)), context)
                rate = cell["prefill"]["tokens_per_second"]
            bench.document.save()


def prefix_reuse(bench: Bench, data: dict[str, Any]) -> None:
    """An agent's session, whose prompt grows at its end: seconds until the first token, by turn."""
    sizes = bench.sizes
    turns: list[dict[str, Any]] = []
    data["turns"] = turns
    whole = sizes.tools + (sizes.turns + 1) * (sizes.result + 600)
    context = round_up_context(min(whole, sizes.shape.context))
    with bench.server() as running:
        running.load(ZEROS, context)
        data["warm_up_seconds"] = _warm_up(running, context, iter("w"), (1,))
        messages = _session_begin("You are a coding agent.")
        for number in range(sizes.turns):
            turns.append(_turn(running, messages, context))
            messages += _step(number, sizes.result)
            bench.document.save()
        # The same prompt but for its first words, so that nothing of it is known.
        messages[0] = _session_begin("Somebody else is asked.")[0]
        cold = _turn(running, messages[: -len(_step(0, 1))], context)
    prompts = sum(each["prompt_tokens"] for each in turns)
    data["cold_last_prompt"] = cold
    data["session"] = {
        "prompt_tokens": prompts,
        "evaluated_tokens": prompts - sum(each["cached_tokens"] for each in turns),
        "seconds": round(sum(each["seconds"] for each in turns), 3),
        "reused": round(sum(each["cached_tokens"] for each in turns) / prompts, 4),
    }


def _warm_up(
    running: Running, context: int, letters: Iterator[str], counts: Sequence[int]
) -> float:
    """Seconds of the first prompts, which wait for the card's programs to be compiled.

    A program is compiled when a batch of its shape comes for the first time: whole batches, rests
    of one, and one token of each request.
    """
    begin = time.monotonic()
    for count in counts:
        _together(
            running, running.bench.sizes.warm_up, list(itertools.islice(letters, count)), context
        )
    return round(time.monotonic() - begin, 3)


def _largest_context(bench: Bench, slots: int) -> tuple[int, dict[str, Any]]:
    """The largest context of which the card has room for so many, and how that was reckoned."""
    shape = bench.sizes.shape
    wanted = round_up_context(max(bench.sizes.depths) + bench.sizes.predict)
    found = card.cards()
    free = sum(each["free_bytes"] or 0 for each in found)
    contexts = [wanted, *(each for each in (65536, 33024, 16384, 4096) if each < wanted)]
    if not free:
        return wanted, {"tokens": wanted, "slots": slots, "free_bytes": None}
    weights = sum(each.bytes for each in tensors(shape))
    for context in contexts:
        cache = kv_cache_bytes(shape, context, KvType.Q8_0, slots)
        if weights + cache + _HEADROOM <= free:
            return context, {"tokens": context, "slots": slots, "free_bytes": free}
    raise NotPossible(f"{free >> 20} MiB of the card are free: too few for {slots} requests")


def _together(running: Running, depth: int, letters: Sequence[str], context: int) -> dict[str, Any]:
    """A request for each letter, all at once; first the prompts, then the tokens.

    The same prompts are sent twice: what a request generates while another one's prompt is
    evaluated says little of either.
    """
    prompts = [_prompt(depth, each) for each in letters]
    prefill, prefill_seconds = _side_by_side(running, prompts, context, predict=1)
    answers, seconds = _side_by_side(running, prompts, context, predict=running.bench.sizes.predict)
    evaluated = sum(
        each["prompt_eval_count"] - each["prompt_eval_cached_count"] for each in prefill
    )
    generated = sum(each["eval_count"] for each in answers)
    return {
        "prefill": {
            "tokens": evaluated,
            "seconds": round(prefill_seconds, 3),
            "tokens_per_second": round(evaluated / prefill_seconds, 1),
            "server_seconds_each": [_seconds(each["prompt_eval_duration"]) for each in prefill],
        },
        "generation": {
            "tokens": generated,
            "seconds": round(seconds, 3),
            "cached_tokens": sum(each["prompt_eval_cached_count"] for each in answers),
            "tokens_per_second_each": [
                round(each["eval_count"] * _NS / each["eval_duration"], 2) for each in answers
            ],
        },
        "cards": card.cards(),
    }


def _side_by_side(
    running: Running, prompts: list[str], context: int, *, predict: int
) -> tuple[list[dict[str, Any]], float]:
    """Send all prompts at once; the answers, and the seconds until the last."""
    answers: dict[int, dict[str, Any]] = {}
    failures: list[Exception] = []

    def ask(number: int, prompt: str) -> None:
        try:
            answers[number] = _ask(running, prompt, context, predict)
        except Exception as error:
            failures.append(error)

    # Daemons: when the time is over nobody waits for them, and they end with the server.
    threads = [threading.Thread(target=ask, args=each, daemon=True) for each in enumerate(prompts)]
    begin = time.monotonic()
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    if failures:
        raise failures[0]
    return [answers[number] for number in sorted(answers)], time.monotonic() - begin


def _ask(running: Running, prompt: str, context: int, predict: int = 1) -> dict[str, Any]:
    options = running.options(num_ctx=context, num_predict=predict)
    request = {"model": ZEROS, "prompt": prompt, "raw": True, "stream": False}
    return running.client.post("/api/generate", {**request, "options": options})


def _prompt(tokens: int, mark: str) -> str:
    """A text of so many tokens with its BOS: the vocabulary has a token for each byte alone."""
    return (mark + " word" * tokens)[: tokens - 1]


def _session_begin(system: str) -> list[dict[str, Any]]:
    return [
        {"role": "system", "content": system},
        {"role": "user", "content": "Find out why the build fails, and mend it."},
    ]


def _tools(characters: int) -> list[dict[str, Any]]:
    """Tools as an agent has them; their descriptions are most of its first prompt."""
    names = ("read_file", "write_file", "list_files", "search", "run_command")
    text = "Says what it does, when to use it and when not to. "
    share = characters // len(names)
    return [
        {
            "type": "function",
            "function": {
                "name": name,
                "description": (text * share)[:share],
                "parameters": {
                    "type": "object",
                    "properties": {"path": {"type": "string"}},
                    "required": ["path"],
                },
            },
        }
        for name in names
    ]


def _step(number: int, result: int) -> list[dict[str, Any]]:
    """A call and its result, as a model that can speak would have made it."""
    identity = f"call{number:05d}"
    function = {"name": "read_file", "arguments": {"path": f"src/module_{number}.py"}}
    line = f"{number} def function(argument): return argument\n"
    return [
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": identity, "function": function}],
        },
        {
            "role": "tool",
            "tool_call_id": identity,
            "tool_name": "read_file",
            "content": (line * result)[:result],
        },
    ]


def _turn(running: Running, messages: list[dict[str, Any]], context: int) -> dict[str, Any]:
    sizes = running.bench.sizes
    begin = time.monotonic()
    answer = running.client.chat(
        {
            "model": ZEROS,
            "messages": messages,
            "tools": _tools(sizes.tools),
            # A session that does not fit is to be seen, not cut.
            "truncate": False,
            "options": running.options(num_ctx=context, num_predict=sizes.predict),
        }
    )
    return {
        "seconds": round(time.monotonic() - begin, 3),
        "prompt_tokens": answer["prompt_eval_count"],
        "cached_tokens": answer["prompt_eval_cached_count"],
        "prompt_seconds": _seconds(answer["prompt_eval_duration"]),
        "generation_seconds": _seconds(answer["eval_duration"]),
    }


def _seconds(nanoseconds: int) -> float:
    return round(nanoseconds / _NS, 3)
