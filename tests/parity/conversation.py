"""A conversation with tools, and the forms in which clients send it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Message = dict[str, Any]
Tool = dict[str, Any]
Body = dict[str, Any]


@dataclass(frozen=True)
class Conversation:
    """Messages and tools as the chat API of OpenAI has them, with arguments as objects.

    A call's arguments stay text where they are no JSON object.
    """

    messages: list[Message]
    tools: list[Tool]

    @property
    def ends_in_prefix(self) -> bool:
        """Whether the model is to go on with the assistant's own last words."""
        last = self.messages[-1]
        return last["role"] == "assistant" and not last.get("tool_calls")


def from_openai(body: Mapping[str, Any]) -> Conversation:
    """Reads a body of ``/v1/chat/completions``, or the like of it for ``/api/chat``."""
    return Conversation([_parsed(each) for each in body["messages"]], list(body.get("tools") or []))


def to_openai(conversation: Conversation) -> Body:
    """The body for ``/v1/chat/completions``, arguments as text."""
    body: Body = {"messages": [_spoken(each) for each in conversation.messages]}
    if conversation.tools:
        body["tools"] = conversation.tools
    return body


def to_native(conversation: Conversation) -> Body:
    """The body for ``/api/chat``: contents are texts, arguments are objects."""
    body: Body = {"messages": [_native(each) for each in conversation.messages]}
    if conversation.tools:
        body["tools"] = conversation.tools
    return body


def from_anthropic(body: Mapping[str, Any], *, apart: bool = False) -> Conversation:
    """Reads a body of ``/v1/messages`` as the server does: texts of a message in one.

    Args:
        body: The body.
        apart: Whether they are kept apart, as the reference keeps the parts of a message.
    """
    joined = text if apart else _joined
    messages: list[Message] = []
    if system := joined(body.get("system")):
        messages.append({"role": "system", "content": system})
    for message in body["messages"]:
        messages += _from_blocks(message, joined)
    tools = [
        _tool(each["name"], each.get("description", ""), each["input_schema"])
        for each in body.get("tools") or []
    ]
    return Conversation(messages, tools)


def from_responses(body: Mapping[str, Any], *, apart: bool = False) -> Conversation:
    """Reads a body of ``/v1/responses``: calls are items of their own, neighbours one message.

    Args:
        body: The body.
        apart: Whether the texts of a message are kept apart, as the reference keeps its parts.
    """
    joined = text if apart else _joined
    messages: list[Message] = []
    if body.get("instructions"):
        messages.append({"role": "system", "content": body["instructions"]})
    items = body["input"]
    if isinstance(items, str):
        items = [{"role": "user", "content": items}]
    for item in items:
        kind = item.get("type", "message")
        if kind == "function_call":
            call = _call(item["call_id"], item["name"], _arguments(item["arguments"]))
            if not messages or messages[-1]["role"] != "assistant":
                messages.append({"role": "assistant", "content": ""})
            messages[-1].setdefault("tool_calls", []).append(call)
        elif kind == "function_call_output":
            messages.append(
                {
                    "role": "tool",
                    "tool_call_id": item["call_id"],
                    "content": joined(item["output"]),
                }
            )
        elif kind == "message":
            messages.append({"role": item["role"], "content": joined(item["content"])})
    tools = [
        _tool(each["name"], each.get("description") or "", each["parameters"])
        for each in body.get("tools") or []
    ]
    return Conversation(messages, tools)


def text(content: object) -> str:
    """What a message says; several parts are set apart as the reference sets them apart."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    assert isinstance(content, list)
    return "\n\n".join(part["text"] for part in content if part.get("text"))


def is_image(part: Mapping[str, Any]) -> bool:
    """Whether a part of a message's content is an image."""
    return bool(part["type"] == "image_url")


def has_images(conversation: Conversation) -> bool:
    """Whether a message of a conversation shows an image."""
    return any(
        is_image(part)
        for message in conversation.messages
        if isinstance(message["content"], list)
        for part in message["content"]
    )


def _parsed(message: Mapping[str, Any]) -> Message:
    result: Message = {"role": message["role"], "content": message.get("content")}
    if calls := message.get("tool_calls"):
        result["tool_calls"] = [
            _call(
                each.get("id"),
                each["function"]["name"],
                _arguments(each["function"].get("arguments")),
            )
            for each in calls
        ]
    if message.get("tool_call_id"):
        result["tool_call_id"] = message["tool_call_id"]
    return result


def _spoken(message: Message) -> Message:
    if "tool_calls" not in message:
        return message
    calls = []
    for call in message["tool_calls"]:
        arguments = call["function"]["arguments"]
        if not isinstance(arguments, str):
            arguments = json.dumps(arguments, ensure_ascii=False)
        calls.append({**call, "function": {**call["function"], "arguments": arguments}})
    return {**message, "tool_calls": calls}


def _native(message: Message) -> Message:
    content = message["content"]
    images = [
        part["image_url"]["url"].partition(",")[2]
        for part in (content if isinstance(content, list) else [])
        if is_image(part)
    ]
    return {**message, "content": text(content)} | ({"images": images} if images else {})


def _arguments(arguments: object) -> object:
    if isinstance(arguments, str):
        try:
            parsed = json.loads(arguments or "{}")
        except ValueError:
            return arguments
        return parsed if isinstance(parsed, dict) else arguments
    return arguments if arguments is not None else {}


def _call(call_id: object, name: str, arguments: object) -> dict[str, Any]:
    call: dict[str, Any] = {
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }
    return {"id": call_id, **call} if call_id else call


def _tool(name: str, description: str, parameters: object) -> Tool:
    function = {"name": name, "description": description, "parameters": parameters}
    return {"type": "function", "function": function}


def _joined(content: object) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    assert isinstance(content, list)
    return "".join(part.get("text", "") for part in content)


def _from_blocks(message: Mapping[str, Any], joined: Callable[[object], str]) -> list[Message]:
    content = message["content"]
    if isinstance(content, str):
        return [{"role": message["role"], "content": content}]
    results = [
        {"role": "tool", "tool_call_id": each["tool_use_id"], "content": joined(each["content"])}
        for each in content
        if each["type"] == "tool_result"
    ]
    said = joined([each for each in content if each["type"] == "text"])
    calls = [
        _call(each["id"], each["name"], each["input"])
        for each in content
        if each["type"] == "tool_use"
    ]
    if not said and not calls:
        return results
    whole: Message = {"role": message["role"], "content": said}
    if calls:
        whole["tool_calls"] = calls
    return [*results, whole]
