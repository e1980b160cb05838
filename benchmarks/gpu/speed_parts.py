"""The part about speed: ``bench``, as everybody runs it, on the model of zeros."""

from __future__ import annotations

import json
from typing import Any

from benchmarks.gpu import card
from benchmarks.gpu.bench import ZEROS, Bench
from benchmarks.gpu.document import NotPossible
from benchmarks.gpu.true_shape import tensors
from ollama_tools.devstral.memory import KvType, kv_cache_bytes, round_up_context

_AT_A_TIME = (1, 2, 4)
_MEASURED = f"{ZEROS}-bench"
# Beside weights and cache: compute buffers, and what the driver itself takes.
_HEADROOM = 5 << 30
# A session with its tools has no room in less.
_LEAST = 3072
# What a last request may take longer than it was reckoned to.
_SHARE = 0.85


def measured(bench: Bench, data: dict[str, Any]) -> None:
    """Loading, requests at a time, a session, prompts by their length, as far as the time goes."""
    sizes, slots = bench.sizes, max(_AT_A_TIME)
    context, data["context"] = _largest_context(bench, slots)
    with bench.server(OLLAMA_NUM_PARALLEL=str(slots)) as running:
        parameters = {"num_ctx": context, **sizes.options}
        running.client.create(
            {"model": _MEASURED, "from": ZEROS, "parameters": parameters}, lambda *_: None
        )
        depths = [f"--depth={each}" for each in sizes.depths]
        counts = [f"--parallel={each}" for each in _AT_A_TIME]
        data["bench"] = running.command(
            *("bench", _MEASURED, *depths, *counts, "--runs", str(sizes.runs)),
            *("--tokens", str(sizes.predict), "--turns", str(sizes.turns)),
            *("--seconds", f"{max(1.0, bench.left * _SHARE):.0f}", "--no-require-gpu"),
        )
        data["cards"] = card.cards()
    if data["bench"]["answer"] is not None:
        # As the command takes it for --compare.
        text = json.dumps(data["bench"]["answer"], indent=1)
        (bench.out / "bench.json").write_text(f"{text}\n", encoding="utf-8")


def _largest_context(bench: Bench, slots: int) -> tuple[int, dict[str, Any]]:
    """The largest context of which the card has room for so many, and how that was reckoned."""
    shape = bench.sizes.shape
    # Beside prompt and answer what bench keeps free of a context.
    wanted = round_up_context(max(bench.sizes.depths) * 128 // 127 + bench.sizes.predict + 128)
    wanted = min(max(wanted, _LEAST), shape.context)
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
