"""How many tokens of context a Devstral needs, and what a coding agent takes of them."""

from __future__ import annotations

from ollama_tools.errors import UsageError

AGENT_PROMPT = 18_500
"""Tokens of the longest first prompt that a coding agent was seen to send (Claude Code, recorded
against a real server in 2026, began with 18,287)."""

AGENT_ROOM = 2_048
"""Tokens that must be left for the first answer."""

SMALLEST_CONTEXT = 1024
"""Tokens; below it not even a chat with one tool fits."""

_SHORTEST_PROMPT = 256


def check_prompt_tokens(tokens: int) -> None:
    """Refuse a long prompt that is too short to prove anything.

    Raises:
        UsageError: It is.
    """
    if tokens < _SHORTEST_PROMPT:
        raise UsageError(
            f"a long prompt of {tokens} tokens proves nothing", f"use {_SHORTEST_PROMPT} or more"
        )
