"""What the gateway does to a request that its client did not ask for; each can be switched off."""

from __future__ import annotations

from enum import StrEnum


class Repair(StrEnum):
    """A repair, by the word that names it in options, headers and metrics.

    Attributes:
        TEMPERATURE: The model's own temperature and top_p hold where a client sets none, and not
            the 1.0 of the server's OpenAI surfaces.
        EFFORT: Nobody asks a model to think that cannot; the server answers 400.
        SCHEMA: The grammar keeps no order that a schema does not have.
        TOOLS: No tools are offered where no user has spoken, as the reference has it.
        CONTEXT: The model's own context whatever a client asks for, with ``--pin-context``.
        ROOM: An answer ends where the context does, and pushes nothing out of it.
        SHIFT: A client's shift, which starts the engine anew, is left out.
        WEB_SEARCH: The server's own web search, which asks a service elsewhere, is left out.
    """

    TEMPERATURE = "temperature"
    EFFORT = "effort"
    SCHEMA = "schema"
    TOOLS = "tools"
    CONTEXT = "context"
    ROOM = "room"
    SHIFT = "shift"
    WEB_SEARCH = "web_search"
