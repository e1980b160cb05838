"""What the gateway and our templates have agreed upon: how a request's JSON passes the server.

Ollama decodes tools and arguments into structs and writes them anew, which loses keywords and
orders. So a tool's JSON travels in its description and a call's arguments as one text, and the
template writes both as they stand (``modelfiles/templates``). The mark is in the template's text,
so that a model tells by itself whether it understands.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

VERBATIM: Final = "devstral-ollama/verbatim/1"
"""Marks what is to be written as it stands; the digit is the version of the agreement."""

PREFIX_ROLE: Final = "devstral-ollama/prefix/1"
"""Role of a last message that the model is to go on from.

llama.cpp lets an assistant's last message begin with a thought, which the format does not have.
"""

TOOLS_ROLE: Final = "devstral-ollama/tools/1"
"""Role of a message that is the text of all tools, for requests that give the server none."""

_ENCODER: Final = json.JSONEncoder(ensure_ascii=False)

ROLES: Final = (PREFIX_ROLE, TOOLS_ROLE)
"""Roles that no client may use."""


def understands(template: str) -> bool:
    """Whether a model's template, as ``/api/show`` gives it, keeps to the agreement."""
    return VERBATIM in template


def reads_tools_as_text(template: str) -> bool:
    """Whether a model's template takes the text of all tools; Go templates do not."""
    return TOOLS_ROLE in template


def lists_calls(template: str) -> bool:
    """Whether a model writes its calls as one list of JSON (v7), and not each by itself (v13)."""
    return "[ARGS]" not in template


def opened_call(name: str, *, in_list: bool) -> tuple[str, ...]:
    """How an answer begins that begins with a call, in the pieces in which a model writes it.

    Args:
        name: The tool; empty where the model is to name it.
        in_list: Whether it writes calls as one list.
    """
    if not name:
        return ("[TOOL_CALLS]",)
    if in_list:
        # Where a token ends: the space belongs to the one that follows.
        return ("[TOOL_CALLS]", f'[{{"name": {written(name)}, "arguments":')
    return ("[TOOL_CALLS]", name, "[ARGS]")


def written(value: object) -> str:
    """JSON as mistral-common writes it."""
    return _ENCODER.encode(value)


def tool_text(name: str, description: str, parameters: object) -> str:
    """A tool as it stands in a prompt."""
    function = {"name": name, "description": description, "parameters": parameters}
    return written({"type": "function", "function": function})


def sealed_description(name: str, description: str, parameters: object) -> str:
    """The description that carries a whole tool."""
    return f"{VERBATIM}:{tool_text(name, description, parameters)}"


def sealed_tools(tools: Iterable[str]) -> Mapping[str, Any]:
    """The message that carries all tools, each a text of :func:`tool_text`."""
    return {"role": TOOLS_ROLE, "content": f"[{', '.join(tools)}]"}


def sealed_arguments(text: str) -> Mapping[str, Any]:
    """The arguments that carry others as text."""
    return {VERBATIM: text}


def sealed_speech(text: str) -> str:
    """What an assistant says for a Go template, which takes newlines off its beginning else.

    It cannot know whether they are the server's.
    """
    return f"{VERBATIM}:{text}" if text.startswith(("\n", VERBATIM)) else text
