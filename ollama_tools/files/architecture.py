"""A model's shape, as a GGUF's header or the catalog says it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Architecture:
    """A model's shape.

    Attributes:
        name: GGUF architecture, such as `llama`.
        layers: Transformer blocks.
        heads: Attention heads.
        kv_heads: Heads of keys and values.
        head_dim: Numbers per head; for Devstral not embedding ÷ heads.
        embedding: Width of the hidden state.
        feed_forward: Width of the feed-forward part.
        context: Tokens of context that the model was made for.
        source: Where the figures come from.
    """

    name: str
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    embedding: int
    feed_forward: int
    context: int
    source: str
