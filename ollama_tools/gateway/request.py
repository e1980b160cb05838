"""A request as it goes to the server's ``/api/chat``, sealed for our templates."""

from __future__ import annotations

from dataclasses import dataclass

from ollama_tools.devstral.contract import (
    PREFIX_ROLE,
    ROLES,
    opened_call,
    sealed_arguments,
    sealed_speech,
    sealed_tools,
    tool_text,
    written,
)
from ollama_tools.gateway.asked import (
    Asked,
    JsonObject,
    NotUnderstood,
    Problem,
    Tool,
    ToolChoice,
    joined,
)
from ollama_tools.gateway.known import Known
from ollama_tools.gateway.offered import Offered
from ollama_tools.gateway.recalled import Recalled
from ollama_tools.gateway.repairs import Repair, Unmet

_SYSTEM = {"system": "developer", "developer": "system"}
_NOT_USERS = ("system", "developer", "assistant", "tool")


@dataclass(frozen=True)
class Sealed:
    """What goes to the server.

    Attributes:
        body: The body for ``/api/chat``.
        repairs: What was done to it.
        offered: The tools whose calls stand in the text of the answer; none where the server
            reads them.
        opening: What the prompt has of the answer already, in the pieces of a model.
        unmet: What its client asks for and does not get.
    """

    body: JsonObject
    repairs: tuple[Repair, ...]
    offered: frozenset[str] = frozenset()
    opening: tuple[str, ...] = ()
    unmet: tuple[Unmet, ...] = ()


def sealed(
    asked: Asked,
    known: Known,
    off: frozenset[Repair] = frozenset(),
    recalled: Recalled | None = None,
    offered: Offered | None = None,
) -> Sealed:
    """The request for the server.

    Args:
        asked: What the client asked for.
        known: The model.
        off: Repairs that are not made.
        recalled: What models wrote, where the gateway reads their calls and not the server.
        offered: Keeps the tools of sessions.

    Raises:
        Problem: A message claims to be the gateway's own, or it wants two things of which one
            excludes the other.
        NotUnderstood: It has what only the server can do, and the repair of that is off.
    """
    for index, message in enumerate(asked.messages):
        if message.get("role") in ROLES:
            raise Problem(f"messages[{index}].role is the gateway's own, and no client's")
    made: list[Repair] = []

    def makes(repair: Repair, needed: object) -> bool:
        if needed and repair not in off:
            made.append(repair)
        return bool(needed) and repair not in off

    if asked.web_search and not makes(Repair.WEB_SEARCH, asked.web_search):
        raise NotUnderstood("web search")
    fields, options = dict(asked.fields), dict(asked.options)
    if makes(Repair.EFFORT, fields.get("think") and not known.thinks):
        del fields["think"]
    if makes(Repair.SHIFT, "shift" in fields):
        del fields["shift"]
    if makes(Repair.CONTEXT, "num_ctx" in options):
        del options["num_ctx"]
    unset = {name: value for name, value in asked.defaults.items() if name not in options}
    if not makes(Repair.TEMPERATURE, unset):
        options |= unset
    tools = asked.tools
    if makes(
        Repair.TOOLS, tools and all(each.get("role") in _NOT_USERS for each in asked.messages)
    ):
        tools = []
    messages = [
        _with_calls(each, recalled) if each.get("tool_calls") else each for each in asked.messages
    ]
    messages = _with_prefix(messages) if known.is_jinja else _apart(messages)
    body: JsonObject = {"truncate": False, **fields, "model": asked.model, "messages": messages}
    if options:
        body["options"] = options
    choice = asked.choice
    if choice.is_forced and body.get("format"):
        raise Problem("a format leaves no room for the call that tool_choice asks for")
    # A call that is forced or forbidden is nothing that the server could be told of.
    is_ours = recalled is not None or choice.is_forced or choice.most == 0
    if tools and is_ours and known.reads_tools_as_text and _leaves_text_alone(body, choice):
        opening = opened_call(choice.name, in_list=known.lists_calls) if choice.is_forced else ()
        body["messages"] = _opened(_with_tools(messages, tools), opening)
        # Only in a stream control tokens stand apart.
        names = frozenset(each.name for each in tools)
        return Sealed({**body, "stream": True}, tuple(made), names, opening)
    if tools:
        loose = (offered or Offered()).sealed(tools, is_loosened=Repair.SCHEMA not in off)
        body["tools"] = loose
        changed = [each["function"]["parameters"] for each in loose]
        makes(Repair.SCHEMA, changed != [each.parameters for each in tools])
    unmet = (Unmet.TOOL_CHOICE,) if choice.is_forced else ()
    return Sealed({**body, "stream": asked.stream}, tuple(made), unmet=unmet)


def _leaves_text_alone(body: JsonObject, choice: ToolChoice) -> bool:
    """Whether a server lets a model write calls as text, and all of the tools reach it.

    A format is a grammar that no call fits; and what is truncated may be the message of the tools.
    """
    return (choice.most == 0 or not body.get("format")) and body["truncate"] is False


def _opened(messages: list[JsonObject], opening: tuple[str, ...]) -> list[JsonObject]:
    """The messages, with an answer that has begun."""
    if not opening:
        return messages
    text, said = "".join(opening), ""
    if messages[-1].get("role") == PREFIX_ROLE:
        *messages, prefix = messages
        said = prefix["content"].rstrip(" ")
    return [*messages, {"role": PREFIX_ROLE, "content": said + text}]


def _with_tools(messages: list[JsonObject], tools: list[Tool]) -> list[JsonObject]:
    """The messages with that of the tools.

    A server puts the model's own system prompt before a first message that is no system message.
    """
    at = 1 if messages[0].get("role") == "system" else 0
    texts = [tool_text(each.name, each.description, each.parameters) for each in tools]
    return [*messages[:at], dict(sealed_tools(texts)), *messages[at:]]


def _with_calls(message: JsonObject, recalled: Recalled | None) -> JsonObject:
    calls = [_call(each, recalled) for each in message["tool_calls"]]
    return {**message, "tool_calls": calls}


def _call(call: JsonObject, recalled: Recalled | None) -> JsonObject:
    function = call["function"]
    arguments = function["arguments"]
    if recalled is None:
        text = written(arguments)
    else:
        text = recalled.text(str(call.get("id") or ""), function["name"], arguments)
    return {**call, "function": {**function, "arguments": sealed_arguments(text)}}


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
        elif role in ("user", "assistant") and "images" not in last and "images" not in message:
            found[-1] = _one(last, message)
        else:
            found.append(message)
    return [
        {**each, "content": sealed_speech(each["content"])}
        if each.get("role") == "assistant"
        else each
        for each in found
    ]


def _one(first: JsonObject, second: JsonObject) -> JsonObject:
    """Two messages of one role as one."""
    both = {**first, **second, "content": joined([first["content"], second["content"]])}
    if calls := [*first.get("tool_calls", ()), *second.get("tool_calls", ())]:
        both["tool_calls"] = calls
    return both


def _is_prefix(message: JsonObject) -> bool:
    return message.get("role") == "assistant" and not message.get("tool_calls")
