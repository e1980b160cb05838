"""How many tokens of context a Devstral needs, and what a coding agent takes of them."""

from __future__ import annotations

import re

from ollama_tools.errors import UsageError

AGENT_PROMPT = 18_500
"""Tokens of the longest first prompt that a coding agent was seen to send (Claude Code, recorded
against a real server in 2026, began with 18,287)."""

AGENT_ROOM = 2_048
"""Tokens that must be left for the first answer."""

AUTO_CONTEXT = "auto"
"""The choice of a context that is left to the memory of the server's graphics cards."""

LEAST_CONTEXT = 32_768
"""Tokens that :data:`AUTO_CONTEXT` takes where nothing tells of the memory: the first prompt of an
agent, and as much again."""

AGENT_CONTEXT = 65_536
"""Tokens that Ollama's documentation asks of a server for coding agents."""

SMALLEST_CONTEXT = 1024
"""Tokens; below it not even a chat with one tool fits."""

_SHORTEST_PROMPT = 256
_CONTEXT = re.compile(r"([0-9]{1,3}(?:_[0-9]{3})+|[0-9]{1,12})([kK])?")


def check_smallest_context(context: int) -> None:
    """Refuse a context in which no agent could do anything.

    Raises:
        UsageError: It is too small.
    """
    if context < SMALLEST_CONTEXT:
        raise UsageError(
            f"a context of {context} tokens is too small for any tool call",
            "agents start with prompts of up to 18,000 tokens: use --context 32768 or more",
        )


def check_prompt_tokens(tokens: int) -> None:
    """Refuse a long prompt that is too short to prove anything.

    Raises:
        UsageError: It is.
    """
    if tokens < _SHORTEST_PROMPT:
        raise UsageError(
            f"a long prompt of {tokens} tokens proves nothing", f"use {_SHORTEST_PROMPT} or more"
        )


def is_auto(said: int | str | None) -> bool:
    """Whether a context is left to what fits."""
    return isinstance(said, str) and said.strip().casefold() == AUTO_CONTEXT


def parse_context(said: int | str | None) -> int | None:
    """A context as people write it: ``65536``, ``"64k"``, ``"128K"``; a k is 1024 tokens.

    Raises:
        UsageError: It is no number of tokens.
    """
    if said is None or (isinstance(said, int) and not isinstance(said, bool)):
        return said
    match = _CONTEXT.fullmatch(str(said).strip())
    if match is None:
        raise UsageError(f"the context {said!r} is no number of tokens", "as in 65536 or 64k")
    return int(match[1].replace("_", "")) * (1024 if match[2] else 1)
