"""A request as it goes to the server's ``/api/chat``, sealed for our templates."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ollama_tools.gateway.asked import Asked, JsonObject, Problem, Tool, joined
from ollama_tools.gateway.contract import (
    PREFIX_ROLE,
    ROLES,
    sealed_arguments,
    sealed_description,
)
from ollama_tools.gateway.grammar import loosened
from ollama_tools.gateway.known import Known

_SYSTEM = {"system": "developer", "developer": "system"}
_NOT_USERS = ("system", "developer", "assistant", "tool")


class Repair(StrEnum):
    """What the gateway does to a request that nobody asked it to do."""

    TEMPERATURE = "temperature"
    EFFORT = "effort"
    SCHEMA = "schema"
    TOOLS = "tools"
    CONTEXT = "context"
    ROOM = "room"
    WEB_SEARCH = "web_search"

    @property
    def meaning(self) -> str:
        """What it does."""
        return _MEANINGS[self]


_MEANINGS = {
    Repair.TEMPERATURE: "the model's own temperature and top_p where the client sets none",
    Repair.EFFORT: "no thinking is asked for of a model that does not think",
    Repair.SCHEMA: "the grammar keeps to the order in which a schema was sent",
    Repair.TOOLS: "no tools are offered where no user has spoken",
    Repair.CONTEXT: "the model's own context, whatever the client asks for",
    Repair.ROOM: "an answer ends where the context does, and pushes nothing out of it",
    Repair.WEB_SEARCH: "the server's own web search is not offered",
}


@dataclass(frozen=True)
class Sealed:
    """What goes to the server.

    Attributes:
        body: The body for ``/api/chat``.
        repairs: What was done to it.
    """

    body: JsonObject
    repairs: tuple[Repair, ...]


def sealed(asked: Asked, known: Known, off: frozenset[Repair] = frozenset()) -> Sealed:
    """The request for the server.

    Args:
        asked: What the client asked for.
        known: The model.
        off: Repairs that are not made.

    Raises:
        Problem: A message claims to be the gateway's own.
    """
    repairs = []
    for index, message in enumerate(asked.messages):
        if message.get("role") in ROLES:
            raise Problem(f"messages[{index}].role is the gateway's own, and no client's")
    tools = asked.tools
    has_user = any(each.get("role") not in _NOT_USERS for each in asked.messages)
    if tools and not has_user and Repair.TOOLS not in off:
        tools = []
        repairs.append(Repair.TOOLS)
    messages = [_message(each) for each in asked.messages]
    messages = _with_prefix(messages) if known.is_jinja else _apart(messages)
    fields, options = dict(asked.fields), dict(asked.options)
    if fields.get("think") and not known.thinks and Repair.EFFORT not in off:
        del fields["think"]
        repairs.append(Repair.EFFORT)
    if "num_ctx" in options and Repair.CONTEXT not in off:
        del options["num_ctx"]
        repairs.append(Repair.CONTEXT)
    offered = []
    for tool in tools:
        parameters = loosened(tool.parameters) if Repair.SCHEMA not in off else tool.parameters
        if parameters != tool.parameters and Repair.SCHEMA not in repairs:
            repairs.append(Repair.SCHEMA)
        offered.append(_tool(tool, parameters))
    body: JsonObject = {"model": asked.model, **fields, "messages": messages, "truncate": False}
    if offered:
        body["tools"] = offered
    if options:
        body["options"] = options
    return Sealed({**body, "stream": asked.stream}, tuple(repairs))


def _tool(tool: Tool, parameters: JsonObject) -> JsonObject:
    function = {
        "name": tool.name,
        "description": sealed_description(tool.name, tool.description, tool.parameters),
        "parameters": parameters,
    }
    return {"type": "function", "function": function}


def _message(message: JsonObject) -> JsonObject:
    calls = message.get("tool_calls")
    if not calls:
        return message
    return {**message, "tool_calls": [_call(each) for each in calls]}


def _call(call: JsonObject) -> JsonObject:
    function = call["function"]
    return {
        **call,
        "function": {**function, "arguments": sealed_arguments(function["arguments"])},
    }


def _with_prefix(messages: list[JsonObject]) -> list[JsonObject]:
    """The messages, with the assistant's last words as those that the model goes on from."""
    start = len(messages)
    while start and _is_prefix(messages[start - 1]):
        start -= 1
    text = joined([each["content"] for each in messages[start:]])
    if not text or (start and messages[start - 1].get("role") == "assistant"):
        return messages
    return [*messages[:start], {"role": PREFIX_ROLE, "content": text}]


def _apart(messages: list[JsonObject]) -> list[JsonObject]:
    """The messages, with no neighbours of one role but results.

    A server joins such neighbours for a Go template: system messages, which are messages of their
    own (the template takes a developer for the system); empty ones, which leave a blank line; and
    of the assistant's it keeps the calls of one alone.
    """
    found: list[JsonObject] = []
    for message in messages:
        role = message.get("role")
        last = found[-1] if found else {}
        if role != last.get("role"):
            found.append(message)
        elif role in _SYSTEM:
            found.append({**message, "role": _SYSTEM[role]})
        elif role in ("user", "assistant"):
            found[-1] = _one(last, message)
        else:
            found.append(message)
    return found


def _one(first: JsonObject, second: JsonObject) -> JsonObject:
    """Two messages of one role as one."""
    both = {**first, **second, "content": joined([first["content"], second["content"]])}
    for name in ("images", "tool_calls"):
        if name in first and name in second:
            both[name] = [*first[name], *second[name]]
    return both


def _is_prefix(message: JsonObject) -> bool:
    return message.get("role") == "assistant" and not message.get("tool_calls")
