"""The page about memory: what to take for which card, and how far the arithmetic can be trusted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ollama_tools.devstral.catalog_file import load_catalog
from ollama_tools.devstral.fit import Cards, recommend, weights_of_release
from ollama_tools.devstral.memory import (
    KvType,
    batch_tokens,
    compute_bytes,
    host_compute_bytes,
    kv_cache_bytes,
)
from ollama_tools.progress import size_text

TARGET = Path(__file__).parent / "reference" / "memory.md"
MEASURED = Path(__file__).parent / "reference" / "gpu"
CARDS = (12, 16, 20, 24, 32, 48)
"""GiB of memory that cards have."""

_MIB = 1 << 20


class Load(NamedTuple):
    """A model of Devstral Small's true shape, as a card's engine logged it and as it is reckoned.

    Attributes:
        card: The card's name.
        context: Tokens of a slot.
        slots: Slots.
        kv_type: Type of the KV cache.
        batch: Tokens at a time, as logged.
        logged: Bytes by kind, as logged: KV, compute, host.
        reckoned: The same by the arithmetic.
        reckoned_batch: The batch by the arithmetic.
    """

    card: str
    context: int
    slots: int
    kv_type: str
    batch: int
    logged: tuple[int, int, int]
    reckoned: tuple[int, int, int]
    reckoned_batch: int


def loads() -> list[Load]:
    """Every load with flash attention and all layers on a card, in the documents of all cards."""
    found = {}
    for path in sorted(MEASURED.glob("*.json")):
        document = json.loads(path.read_text(encoding="utf-8"))
        for each in _loads(document):
            found[each[:5]] = each
    return sorted(found.values())


def _loads(value: Any) -> Iterator[Load]:
    match value:
        case {
            "model": "zeros",
            "context": context,
            "log": {"command": command, "buffers": buffers},
            "cards_before": [{"name": card, "free_bytes": free}],
        } if command["flash_attention"] != "off" and "gpu_layers" not in command:
            shape = load_catalog().default.architecture
            cells, slots = int(command["cells"]), int(command["slots"])
            batch = batch_tokens(shape, cells, _ZEROS, free)
            device = next(each for each in buffers if not each.startswith(("CPU", "Vulkan_Host")))
            yield Load(
                card,
                context,
                slots,
                command["kv_type"],
                int(command["batch"]),
                (
                    buffers[device]["KV"],
                    buffers[device]["compute"],
                    buffers[f"{device.rstrip('0123456789')}_Host"]["compute"],
                ),
                (
                    kv_cache_bytes(shape, context, KvType(command["kv_type"]), slots),
                    compute_bytes(shape, context, batch, on_card=True),
                    host_compute_bytes(shape, context, batch),
                ),
                batch,
            )
        case dict():
            for each in value.values():
                yield from _loads(each)
        case list():
            for each in value:
                yield from _loads(each)


_ZEROS = 13_264_360_064
"""Bytes of the file that was loaded."""


def card_rows() -> list[str]:
    """What ``fit`` recommends for each card, as the rows of a table."""
    models = weights_of_release(load_catalog().default)
    rows = []
    for gib in CARDS:
        best = recommend(Cards((gib << 30,)), models)
        if best is None:
            raise ValueError(f"nothing fits on {gib} GiB")
        file = size_text(best.weights.file_bytes, estimated=best.weights.estimated)
        rows.append(
            f"| {gib} GiB | `{best.weights.name}` | {best.context} | {best.kv_type} | {file} "
            f"| {size_text(best.total)} |"
        )
    return rows


def markdown() -> str:
    """The page."""
    return _PAGE.format(
        cards="\n".join(card_rows()), loads="\n".join(_row(each) for each in loads())
    )


def _row(load: Load) -> str:
    cells = [
        f"{round(logged / _MIB):,} | {_percent(reckoned, logged)}"
        for logged, reckoned in zip(load.logged, load.reckoned, strict=True)
    ]
    return (
        f"| {load.context} | {load.slots} | {load.kv_type} | {load.batch} | " + " | ".join(cells)
    ) + " |"


def _percent(reckoned: int, logged: int) -> str:
    error = 100 * (reckoned / logged - 1)
    return "0" if abs(error) < 0.25 else f"{error:+.1f} %"


_PAGE = """# Memory

Written by `make docs` out of [`devstral/fit.py`](../../ollama_tools/devstral/fit.py) and the
[documents of real cards](gpu/README.md); a test holds it to both.

## What to take for which card

`devstral-ollama fit --vram SIZE` says it for any card, quant and context, `devstral-ollama fit` for
the cards of this machine. For Devstral-Small-2507:

| card | quant | context | KV cache | download | on the card |
|---|---|---|---|---|---|
{cards}

First enough bits, then an agent's context, then more bits: below four bits a weight answers become
worse, and 65536 tokens are what coding agents fill. A size with "about" counts as a twentieth more.

## What takes memory

On the card, of one model:

- **Weights**: the file, without its header and its input matrix, which stays in main memory.
- **KV cache**: `layers x 2 x KV heads x head dimension x slots x roundup(context, 256) x bytes`; a
  number takes 2 bytes in f16, 34/32 in q8_0, 18/32 in q4_0. Exact to the byte.
- **Compute buffers**: `batch x (2 x roundup(context, 256) + row)`. A row is four bytes for each
  number of the widest moment of a layer (three times the feed-forward width, twice hidden state and
  queries): 456 KiB for Devstral Small. From a batch of 2048 on, the engine finds the same place or
  one that is a tenth larger, without an order in it; the arithmetic takes a tenth more.
- **The batch** is Ollama's choice (`automaticGenerationBatch` in its server/sched.go): 2048 tokens
  above 32768 in all slots, 1024 above 4096, else 512; and less where memory is short, by a guess of
  its own that takes the KV cache for f16. So a small card holds more than a large one's say.

In main memory: the file's input matrix, buffers of *host* below, and the prompts of earlier
sessions, which the engine puts there as they were in the KV cache, up to 8 GiB of them.

On the card, beside it, the driver keeps 0.5 GiB, and the engine 1 GiB free
(`LLAMA_ARG_FIT_TARGET`): what does not fit into the rest is computed by the processor, without a
word. Several cards have compute buffers each; how layers are shared out between them was not
measured.

## Reckoned and logged

Ollama 0.34.4 on an NVIDIA H100 by Vulkan, Devstral Small's true shape in Q4_0, flash attention on;
MiB as the engine logged them, and how far the arithmetic is off. *Host* is main memory for the
work. With CUDA or ROCm nothing was measured.

| context | slots | type | batch | KV, MiB | off by | compute, MiB | off by | host, MiB | off by |
|---|---|---|---|---|---|---|---|---|---|
{loads}

On a processor, without a card, the row has the input once more (476 KiB), and the buffer is what
the engine logged to 0.1 MiB: 492 at 8192 tokens, 540 at 32768, 1464 at 131072.
"""
