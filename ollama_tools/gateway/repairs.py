"""What the gateway does to a request that its client did not ask for; each can be switched off."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Repair(StrEnum):
    """A repair, by the word that names it in options, headers and metrics."""

    TEMPERATURE = "temperature"
    EFFORT = "effort"
    SCHEMA = "schema"
    TOOLS = "tools"
    CONTEXT = "context"
    ROOM = "room"
    SHIFT = "shift"
    WEB_SEARCH = "web_search"


MEANINGS: Final = {
    Repair.TEMPERATURE: "the model's own temperature and top_p where a client sets none, and not "
    "the 1.0 of the server's OpenAI surfaces",
    Repair.EFFORT: "nobody asks a model to think that cannot; the server answers 400",
    Repair.SCHEMA: "the grammar keeps no order that a schema does not have",
    Repair.TOOLS: "no tools are offered where no user has spoken, as the reference has it",
    Repair.CONTEXT: "the model's own context whatever a client asks for, with --pin-context",
    Repair.ROOM: "an answer ends where the context does, and pushes nothing out of it",
    Repair.SHIFT: "a client's shift, which starts the engine anew, is left out",
    Repair.WEB_SEARCH: "the server's own web search, which asks a service elsewhere, is left out",
}
"""What each is for."""
