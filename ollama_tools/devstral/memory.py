"""How many bytes a context takes: the KV cache, exact to the byte.

The formula was compared with what Ollama 0.24.0 and 0.34.4 log when they load a model, over 23
combinations of context, type and slots, without any deviation.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from ollama_tools.errors import UsageError

if TYPE_CHECKING:
    from ollama_tools.files.architecture import Architecture

CONTEXT_STEP = 256
"""The server allocates cells in steps of this many tokens."""

_BLOCK = 32


class KvType(StrEnum):
    """What `OLLAMA_KV_CACHE_TYPE` accepts.

    Servers before 0.30 know only f16, q8_0 and q4_0; later ones pass the word on to llama.cpp.
    """

    F32 = "f32"
    F16 = "f16"
    BF16 = "bf16"
    Q8_0 = "q8_0"
    Q5_1 = "q5_1"
    Q5_0 = "q5_0"
    Q4_1 = "q4_1"
    Q4_0 = "q4_0"
    IQ4_NL = "iq4_nl"

    @property
    def bytes_per_element(self) -> float:
        """Bytes per cached number, with the share of the block's scale: 1.0625 for q8_0."""
        return _BLOCK_BYTES[self] / _BLOCK


# Bytes of one block of 32 numbers, after the block layouts in ggml-common.h.
_BLOCK_BYTES = {
    KvType.F32: 128,
    KvType.F16: 64,
    KvType.BF16: 64,
    KvType.Q8_0: 34,
    KvType.Q5_1: 24,
    KvType.Q5_0: 22,
    KvType.Q4_1: 20,
    KvType.Q4_0: 18,
    KvType.IQ4_NL: 18,
}


def round_up_context(context: int) -> int:
    """Round a context up to what the server allocates for it.

    Args:
        context: Tokens asked for (`num_ctx`).

    Returns:
        Tokens allocated: the next multiple of 256.

    Raises:
        UsageError: The context is not positive.
    """
    if context < 1:
        raise UsageError(f"a context of {context} tokens is impossible", "ask for at least 1")
    return -(-context // CONTEXT_STEP) * CONTEXT_STEP


def kv_cache_bytes(
    architecture: Architecture, context: int, kv_type: KvType, slots: int = 1
) -> int:
    """Compute the size of the KV cache.

    Args:
        architecture: The model's shape. What counts is the head dimension as such, which for
            Devstral is not embedding ÷ heads.
        context: Tokens per slot (`num_ctx`).
        kv_type: Type of both keys and values; they always share it in Ollama.
        slots: Parallel requests (`OLLAMA_NUM_PARALLEL`); each has a cache of its own.

    Returns:
        Bytes, of keys and values together.

    Raises:
        UsageError: Context or slots are not positive, or a row of this shape cannot be quantised.
    """
    if slots < 1:
        raise UsageError(f"{slots} parallel slots are impossible", "ask for at least 1")
    row = architecture.kv_heads * architecture.head_dim
    if row % _BLOCK and kv_type not in {KvType.F32, KvType.F16, KvType.BF16}:
        raise UsageError(
            f"a KV cache of type {kv_type} is impossible with rows of {row} numbers", "use f16"
        )
    elements = 2 * architecture.layers * row * slots * round_up_context(context)
    return elements * _BLOCK_BYTES[kv_type] // _BLOCK


FIT_MARGIN = 1 << 30
"""Bytes of a card that llama-server leaves free; else layers go to the processor without a word.

Its log says ``will leave … >= 1024 MiB of free device memory``; ``LLAMA_ARG_FIT_TARGET`` moves it.
"""

PROJECTOR_EMBEDDING = 5120
"""Width of the hidden state of the models for which there is a vision projector, the Smalls."""

PROJECTOR_BYTES = 2 * (
    24 * (4 * 1024 * 1024 + 3 * 1024 * 4096)  # layers of the encoder
    + 3 * 14 * 14 * 1024  # patches
    + 4 * 1024 * 1024
    + 1024 * 5120
    + 5120 * 5120  # four patches become one hidden state
)
"""Bytes of the Smalls' vision projector in F16, by the shape in Mistral Small 3.1's config.json."""

_GIB = 1 << 30
_FLOAT = 4
_UNLUCKY = 1.1


def batch_tokens(
    architecture: Architecture, cells: int, file_bytes: int, free: int | None = None
) -> int:
    """Tokens that Ollama lets its engine evaluate at a time, which the compute buffers follow.

    Args:
        architecture: The model's shape.
        cells: Tokens of all slots together.
        file_bytes: Size of the GGUF.
        free: Bytes free on the cards, or of main memory where there is none; None if unknown.

    Returns:
        512, 1024 or 2048, as ``automaticGenerationBatch`` of Ollama 0.34.4 (server/sched.go) has
        it. Its guess of the KV cache is of f16 and takes embedding ÷ heads for a head's dimension.
    """
    width = architecture.embedding // architecture.heads
    guess = file_bytes + 4 * architecture.layers * architecture.kv_heads * width * cells
    batch = 2048 if cells > 32768 else 1024 if cells > 4096 else 512
    while batch > 512 and free:
        share, surcharge = (60, 2 * _GIB) if batch == 2048 else (75, 768 << 20)
        if guess <= free * share // 100 and guess + surcharge <= free * 80 // 100:
            break
        batch //= 2
    return batch


def compute_bytes(architecture: Architecture, context: int, batch: int, *, on_card: bool) -> int:
    """Size of the buffer for the work on one batch, with flash attention.

    A batch needs a mask of two bytes for each token and cell, and the widest moment of a layer: the
    feed-forward part thrice, the hidden state and the queries twice. That is what 0.34.4 logs for
    the true shape, with one exception: from batches of 2048 on the allocator finds now the same
    place and now one that is a tenth larger, without an order in it. Halfway errs by -2 to +9 %
    (docs/reference/gpu, 27 loads on a card; twelve on processors).

    Args:
        architecture: The model's shape.
        context: Tokens per slot.
        batch: Tokens at a time, see :func:`batch_tokens`.
        on_card: Whether the layers are on a card, so that the input stays with the processor.

    Returns:
        Bytes, on the card or in main memory; a card's share of main memory is
        :func:`host_compute_bytes`.
    """
    shape = architecture
    queries = shape.heads * shape.head_dim
    row = _FLOAT * (3 * shape.feed_forward + 2 * (shape.embedding + queries))
    if not on_card:
        row += _FLOAT * shape.embedding
    elif batch > 1024:
        row = round(row * _UNLUCKY)
    return batch * (2 * round_up_context(context) + row)


def host_compute_bytes(architecture: Architecture, context: int, batch: int) -> int:
    """Main memory for the work of layers that are on a card: the mask, and the input twice."""
    return batch * (2 * round_up_context(context) + 2 * _FLOAT * architecture.embedding)
