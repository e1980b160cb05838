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
