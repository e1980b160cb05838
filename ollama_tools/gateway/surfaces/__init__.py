"""The four ways in which clients ask for a chat, each read and written in its own words."""

from __future__ import annotations

from typing import Final

from ollama_tools.gateway.surfaces.chat import Chat
from ollama_tools.gateway.surfaces.messages import Messages
from ollama_tools.gateway.surfaces.native import Native
from ollama_tools.gateway.surfaces.responses import Responses
from ollama_tools.gateway.surfaces.surface import Surface

SURFACES: Final[dict[str, Surface]] = {
    each.path: each for each in (Native(), Chat(), Responses(), Messages())
}
"""Each by its path."""
