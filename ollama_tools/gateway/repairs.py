"""What the gateway does to a request that its client did not ask for, and what it cannot do.

Each repair can be switched off.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class _Told(StrEnum):
    """A word for headers and metrics, and what it stands for.

    Attributes:
        what: What it stands for.
    """

    what: str

    def __new__(cls, word: str, what: str) -> Self:
        """A word with what it stands for; as a text it is the word alone."""
        found = str.__new__(cls, word)
        found._value_ = word
        found.what = what
        return found


class Repair(_Told):
    """A repair, by the word that names it in options, headers and metrics."""

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


class Unmet(_Told):
    """What a client asks for and does not get, by the word that names it in headers and metrics."""

    TOOL_CHOICE = (
        "tool_choice",
        "a call that `tool_choice` forces: of a model whose calls only the server can read "
        "(carrier `modelfile`), or where no tools are offered for another reason; the model is "
        "free to answer otherwise",
    )
