"""``/api/chat``: the server's own surface, whose answers pass as they are."""

from __future__ import annotations

from collections.abc import Iterator

from ollama_tools.gateway.asked import (
    Asked,
    JsonObject,
    NotUnderstood,
    Problem,
    Tool,
    arguments_of,
    flag_of,
    is_role,
    object_of,
    objects_of,
    role_of,
    text_of,
)
from ollama_tools.gateway.exact import compact
from ollama_tools.gateway.surfaces.surface import Piece, Writer

_OURS = ("model", "messages", "tools", "options", "stream")
_WHOLE = {"num_ctx", "num_predict"}
"""Options that are whole numbers, of those that the gateway itself reckons with."""


class Native:
    """Ollama's own chat."""

    path = "/api/chat"
    media_type = "application/x-ndjson"

    def read(self, body: JsonObject) -> Asked:
        """What a client asks for."""
        messages = [
            each if _is_ready(each) else _message(each, f"messages[{index}].")
            for index, each in enumerate(objects_of(body, "messages"))
        ]
        if not messages:
            # Without messages it asks to load the model, or to unload it.
            raise NotUnderstood("no messages")
        # Those that the server may never get to judge.
        flag_of(body, "shift")
        if not isinstance(body.get("think"), str):
            flag_of(body, "think")
        return Asked(
            model=text_of(body, "model"),
            messages=messages,
            tools=[
                read_tool(each, f"tools[{i}].") for i, each in enumerate(objects_of(body, "tools"))
            ],
            options=_options(object_of(body, "options")),
            # To the server null is what is not there.
            fields={
                key: value for key, value in body.items() if key not in _OURS and value is not None
            },
            stream=flag_of(body, "stream", default=True),
            body=body,
        )

    def whole(self, asked: Asked, answer: Piece) -> JsonObject:  # noqa: ARG002
        """The server's answer."""
        return answer.content

    def writer(self, asked: Asked) -> Writer:  # noqa: ARG002
        """The server's answer."""
        return _Lines()

    def problem(self, problem: Problem) -> JsonObject:
        """An error."""
        return {"error": problem.what}


class _Lines:
    def feed(self, piece: Piece) -> Iterator[bytes]:
        if piece.line:
            yield piece.line + b"\n"

    def broken(self, problem: Problem) -> bytes:
        return compact({"error": problem.what}) + b"\n"


def read_tool(tool: JsonObject, where: str) -> Tool:
    """A tool as OpenAI's chat has it, and Ollama's.

    Raises:
        Problem: It is none.
        NotUnderstood: It is another kind of tool.
    """
    if tool.get("type", "function") != "function":
        raise NotUnderstood(f"{where}type is {tool['type']}")
    function, here = object_of(tool, "function", where), f"{where}function."
    name = text_of(function, "name", here)
    if not name:
        raise Problem(f"{where}function has no name")
    return Tool(
        name, text_of(function, "description", here), object_of(function, "parameters", here)
    )


def _is_ready(message: JsonObject) -> bool:
    """Whether a message is as it goes on, which most are: then nothing of it is made anew."""
    calls = message.get("tool_calls")
    return (
        isinstance(message.get("content"), str)
        and is_role(message.get("role"))
        # What is null is not there, and some templates take it for something.
        and all(each is not None for each in message.values())
        and (calls is None or (isinstance(calls, list) and all(map(_is_ready_call, calls))))
    )


def _options(given: JsonObject) -> JsonObject:
    """The options that are set; the server cuts numbers to whole ones where it wants such."""
    found = {key: each for key, each in given.items() if each is not None}
    for key in found.keys() & _WHOLE:
        if isinstance(found[key], bool) or not isinstance(found[key], (int, float)):
            raise Problem(f"options.{key} is no whole number")
        found[key] = int(found[key])
    return found


def _message(message: JsonObject, where: str) -> JsonObject:
    given = {key: each for key, each in message.items() if each is not None}
    found = {
        **given,
        "role": role_of(message, where),
        "content": text_of(message, "content", where),
    }
    if calls := objects_of(message, "tool_calls", where):
        found["tool_calls"] = [
            _call(each, f"{where}tool_calls[{index}].") for index, each in enumerate(calls)
        ]
    return found


def _is_ready_call(call: object) -> bool:
    return (
        isinstance(call, dict)
        and isinstance(function := call.get("function"), dict)
        and isinstance(function.get("arguments"), dict)
        and isinstance(name := function.get("name"), str)
        and bool(name)
    )


def _call(call: JsonObject, where: str) -> JsonObject:
    function = object_of(call, "function", where)
    if not text_of(function, "name", f"{where}function."):
        raise Problem(f"{where}function has no name")
    return {**call, "function": {**function, "arguments": arguments_of(function.get("arguments"))}}
