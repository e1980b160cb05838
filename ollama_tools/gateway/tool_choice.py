"""What a client says of calls: whether the model may, must or must not, and how many at once.

The forms are OpenAI's and Anthropic's (the types of their SDKs); ``any`` is Mistral's word for
``required``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ollama_tools.gateway.asked import (
    JsonObject,
    Problem,
    Tool,
    ToolChoice,
    flag_of,
    object_of,
    objects_of,
    text_of,
)

_WORDS: Final = {
    "auto": ToolChoice(),
    "none": ToolChoice(most=0),
    "required": ToolChoice(is_forced=True),
    "any": ToolChoice(is_forced=True),
}
_HERE: Final = "tool_choice"


def openai_choice(
    body: JsonObject, tools: Sequence[tuple[str, Tool]], *, searches: bool = False
) -> tuple[list[Tool], ToolChoice]:
    """The tools that are offered, and what one of OpenAI's requests says of their calls.

    Args:
        body: The request.
        tools: Its tools, with the names that it has for them.
        searches: Whether it also offers a tool of the server's own.

    Raises:
        Problem: It says what cannot be meant.
    """
    value = body.get(_HERE)
    allowed = None
    if isinstance(value, Mapping) and value.get("type") == "allowed_tools":
        # The chat has a level more than the responses.
        held = object_of(value, "allowed_tools", f"{_HERE}.") or value
        allowed = [_named(each, f"{_HERE}.tools.") for each in objects_of(held, "tools", _HERE)]
        for name in allowed:
            _require(name, tools)
        choice = _word(text_of(held, "mode", f"{_HERE}.") or "auto")
    elif isinstance(value, Mapping) and value.get("type") == "function":
        choice = ToolChoice(is_forced=True, name=_named(value, f"{_HERE}."))
    elif isinstance(value, Mapping) and searches and value.get("type") == "web_search":
        choice = ToolChoice()
    else:
        choice = _word("auto" if value is None else value)
    if body.get("parallel_tool_calls") is not None and not flag_of(body, "parallel_tool_calls"):
        choice = choice.at_most(1)
    offered = [(name, tool) for name, tool in tools if allowed is None or name in allowed]
    return [tool for _, tool in offered], _of_offered(choice, offered, searches=searches)


def anthropic_choice(
    body: JsonObject, tools: Sequence[Tool], *, own: Sequence[str] = ()
) -> ToolChoice:
    """What one of Anthropic's requests says of calls.

    Args:
        body: The request.
        tools: Its tools.
        own: The names of those that the server itself runs.

    Raises:
        Problem: It says what cannot be meant.
    """
    value = object_of(body, _HERE)
    match value.get("type"):
        case "tool":
            choice = ToolChoice(is_forced=True, name=text_of(value, "name", f"{_HERE}."))
            if not choice.name:
                raise Problem(f"{_HERE}.name is missing")
        case "auto" | "any" | "none" as word:
            choice = _WORDS[word]
        case None if not value:
            choice = ToolChoice()
        case _:
            raise Problem(f"{_HERE}.type is none of auto, any, tool, none")
    if flag_of(value, "disable_parallel_tool_use"):
        choice = choice.at_most(1)
    if choice.name in own:
        return ToolChoice(most=choice.most)
    return _of_offered(choice, [(each.name, each) for each in tools], searches=bool(own))


def _word(value: object) -> ToolChoice:
    if not isinstance(value, str) or value not in _WORDS:
        raise Problem(f"{_HERE} is none of none, auto, required, and names no function")
    return _WORDS[value]


def _named(choice: Mapping[str, Any], where: str) -> str:
    held = object_of(choice, "function", where) or choice
    name = text_of(held, "name", where)
    if not name:
        raise Problem(f"{where}name is missing")
    return name


def _require(name: str, tools: Sequence[tuple[str, Tool]]) -> str:
    """What the model calls a tool of that name."""
    for known, tool in tools:
        if name in (known, tool.name):
            return tool.name
    raise Problem(f"{_HERE} names {name}, and no tool of that name is offered")


def _of_offered(
    choice: ToolChoice, tools: Sequence[tuple[str, Tool]], *, searches: bool
) -> ToolChoice:
    """The choice by the names that the model knows."""
    if not choice.is_forced:
        return choice
    if choice.name:
        return choice.of(_require(choice.name, tools))
    if not tools:
        if searches:
            # The server's own tool is left out, so that nothing is left to be forced.
            return ToolChoice(most=choice.most)
        raise Problem(f"{_HERE} asks for a call, and no tools are offered")
    return choice.of(tools[0][1].name) if len(tools) == 1 else choice
