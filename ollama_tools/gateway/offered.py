"""Tools as they go to the server; a session brings the same ones with each of its requests."""

from __future__ import annotations

from collections import OrderedDict

from ollama_tools.devstral.contract import sealed_description
from ollama_tools.gateway.asked import JsonObject, Tool
from ollama_tools.gateway.exact import compact
from ollama_tools.gateway.grammar import loosened

_KEPT = 64
_LARGEST = 2**18
"""Bytes of tools that are kept."""


class Offered:
    """Seals tools for our templates, and keeps those of the last sessions."""

    def __init__(self) -> None:
        self._kept: OrderedDict[bytes, list[JsonObject]] = OrderedDict()

    def sealed(self, tools: list[Tool], *, is_loosened: bool) -> list[JsonObject]:
        """The tools for the server, to be read and not to be changed.

        Args:
            tools: What a client offers.
            is_loosened: Whether the schemas are those for the grammar alone.
        """
        key = compact((is_loosened, tools))
        found = self._kept.get(key)
        if found is None:
            found = [_tool(each, is_loosened=is_loosened) for each in tools]
            if len(key) <= _LARGEST:
                self._kept[key] = found
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(key)
        return found


def _tool(tool: Tool, *, is_loosened: bool) -> JsonObject:
    function = {
        "name": tool.name,
        "description": sealed_description(tool.name, tool.description, tool.parameters),
        "parameters": loosened(tool.parameters) if is_loosened else tool.parameters,
    }
    return {"type": "function", "function": function}
