"""Digests as people read them."""

from __future__ import annotations

SHOWN_DIGITS = 12
"""How many digits of a digest are shown, as the ollama command line does."""


def short_digest(digest: str) -> str:
    """The digits of a digest that are shown; ``sha256:`` before it is left out."""
    return digest.removeprefix("sha256:")[:SHOWN_DIGITS]
