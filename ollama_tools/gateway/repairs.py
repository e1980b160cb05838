"""What the gateway does to a request that its client did not ask for; each can be switched off."""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class Repair(StrEnum):
    """A repair, by the word that names it in options, headers and metrics.

    Attributes:
        what: What is done.
    """

    TEMPERATURE = (
        "temperature",
        "the model's own temperature and top_p hold where a client sets none, and not the 1.0 of "
        "Ollama's OpenAI surfaces",
    )
    EFFORT = (
        "effort",
        "a model that does not think is not asked to, which Ollama answers with 400",
    )
    SCHEMA = (
        "schema",
        "the grammar that Ollama makes of a tool forces no order of keys that the schema does not "
        "have, inside of lists and of objects",
    )
    TOOLS = (
        "tools",
        "no tools are offered where no user has spoken, as mistral-common has it",
    )
    CONTEXT = (
        "context",
        "a client's `num_ctx`, which would load the model anew, is left out; only with "
        "`--pin-context`",
    )
    ROOM = (
        "room",
        "an answer ends where the context does, with the reason `length`; Ollama would push the "
        "beginning out of the context and go on",
    )
    SHIFT = "shift", "a client's `shift`, which starts the engine anew, is left out"
    WEB_SEARCH = (
        "web_search",
        "Ollama's own web search, which asks a service elsewhere, is not offered",
    )

    what: str

    def __new__(cls, word: str, what: str) -> Self:
        """A repair with what it does; as a text it is its word alone."""
        found = str.__new__(cls, word)
        found._value_ = word
        found.what = what
        return found
