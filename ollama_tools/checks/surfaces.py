"""The four ways in which clients talk to an Ollama server, told apart by their path.

The checks think in the form of the OpenAI chat API; each surface says a conversation in its own
form, and its answer back in one form for all.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar

from ollama_tools.errors import NotOllama, ServerError
from ollama_tools.json_text import MalformedJson, parse_json
from ollama_tools.lint.cases import Message
from ollama_tools.server.answers import CHECK_ADDRESS
from ollama_tools.server.client import Api, Server

_Server_contra = TypeVar("_Server_contra", contravariant=True)

ANSWER_TOKENS = 512
"""Tokens of the longest answer asked for; a check must end even where a model rambles."""


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call as it reached the client; ``arguments`` is None where they are no JSON object."""

    id: str
    name: str
    arguments: Mapping[str, Any] | None

    @classmethod
    def from_text(cls, id_: str, name: str, arguments: str) -> Call:
        """A call whose arguments came as JSON text."""
        try:
            value = parse_json(arguments)
        except MalformedJson:
            value = None
        return cls(id_, name, value if isinstance(value, dict) else None)

    def as_message_part(self) -> dict[str, Any]:
        """The call as part of an assistant's message."""
        return {
            "id": self.id,
            "type": "function",
            "function": {
                "name": self.name,
                "arguments": json.dumps(self.arguments, ensure_ascii=False),
            },
        }


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model answered, as it reached the client."""

    text: str
    calls: tuple[Call, ...]

    def as_message(self) -> Message:
        """The reply as a message to send back."""
        message: Message = {"role": "assistant", "content": self.text}
        if self.calls:
            message["tool_calls"] = [each.as_message_part() for each in self.calls]
        return message


class SurfaceOf(Protocol[_Server_contra]):
    """A chat API of a kind of server."""

    path: str

    def ask(
        self,
        server: _Server_contra,
        model: str,
        messages: list[Message],
        tools: list[dict[str, Any]],
        *,
        stream: bool,
    ) -> Reply:
        """Ask a model; raises ServerError where the server answers with an error."""


Surface: TypeAlias = SurfaceOf[Server]
"""One of an Ollama server's chat APIs."""

SharedSurface: TypeAlias = SurfaceOf[Api]
"""A chat API that servers of more than one kind have."""


class OllamaChat:
    """``/api/chat``, through the official Python client."""

    path = "/api/chat"

    def ask(
        self,
        server: Server,
        model: str,
        messages: list[Message],
        tools: list[dict[str, Any]],
        *,
        stream: bool,
    ) -> Reply:
        """See :class:`SurfaceOf`."""
        client = server.client
        import ollama

        options = {"temperature": 0, "num_predict": ANSWER_TOKENS}
        own = [ollama_message(each) for each in messages]
        try:
            with server.explained(self.path):
                if stream:
                    parts = list(client.chat(model, own, tools=tools, stream=True, options=options))
                else:
                    parts = [client.chat(model, own, tools=tools, options=options)]
        except ollama.ResponseError as error:
            raise ServerError(f"{self.path} answers {error.status_code}: {error.error}") from error
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise NotOllama(f"{server.url}{self.path} gives no JSON", CHECK_ADDRESS) from error
        return Reply(
            text="".join(part.message.content or "" for part in parts),
            calls=tuple(
                Call("", call.function.name, dict(call.function.arguments))
                for part in parts
                for call in part.message.tool_calls or ()
            ),
        )


def _text_of(message: Message) -> str:
    """The text of a message, which beside a picture is one of its parts."""
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content if part["type"] == "text")


def _pictures_of(message: Message) -> list[tuple[str, str]]:
    """The pictures of a message: the media type of each, and its bytes in base64."""
    content = message.get("content")
    if not isinstance(content, list):
        return []
    urls = [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
    heads = (url.removeprefix("data:").partition(";base64,") for url in urls)
    return [(kind, data) for kind, _, data in heads]


def ollama_message(message: Message) -> dict[str, Any]:
    """A message in the form of Ollama's own chat API."""
    own: dict[str, Any] = {"role": message["role"]}
    if "content" in message:
        own["content"] = _text_of(message)
    if pictures := _pictures_of(message):
        own["images"] = [data for _, data in pictures]
    if calls := message.get("tool_calls"):
        own["tool_calls"] = [
            {
                "function": {
                    "name": call["function"]["name"],
                    "arguments": json.loads(call["function"]["arguments"]),
                }
            }
            for call in calls
        ]
    if message["role"] == "tool" and "name" in message:
        own["tool_name"] = message["name"]
    return own


class Generate:
    """``/api/generate``, which knows no conversations and no tools: the last message alone."""

    path = "/api/generate"

    def ask(
        self,
        server: Api,
        model: str,
        messages: list[Message],
        tools: list[dict[str, Any]],
        *,
        stream: bool,
    ) -> Reply:
        """See :class:`SurfaceOf`."""
        del tools
        last = ollama_message(messages[-1])
        body = {
            "model": model,
            "prompt": last["content"],
            "images": last.get("images", []),
            "options": {"temperature": 0, "num_predict": ANSWER_TOKENS},
        }
        if stream:
            parts = list(server.events(self.path, {**body, "stream": True}))
        else:
            parts = [server.post(self.path, {**body, "stream": False})]
        return Reply("".join(part.get("response") or "" for part in parts), ())


class ChatCompletions:
    """``/v1/chat/completions``, as OpenAI's chat clients use it."""

    path = "/v1/chat/completions"

    def ask(
        self,
        server: Api,
        model: str,
        messages: list[Message],
        tools: list[dict[str, Any]],
        *,
        stream: bool,
    ) -> Reply:
        """See :class:`SurfaceOf`."""
        body = {
            "model": model,
            "messages": messages,
            "tools": tools,
            "temperature": 0,
            "max_tokens": ANSWER_TOKENS,
        }
        if not stream:
            message = server.post(self.path, body)["choices"][0]["message"]
            return Reply(
                message.get("content") or "",
                tuple(
                    Call.from_text(
                        each["id"], each["function"]["name"], each["function"]["arguments"]
                    )
                    for each in message.get("tool_calls") or ()
                ),
            )
        text = ""
        calls: dict[int, dict[str, str]] = {}
        for event in server.events(self.path, body):
            for choice in event.get("choices") or ():
                delta = choice.get("delta") or {}
                text += delta.get("content") or ""
                for part in delta.get("tool_calls") or ():
                    call = calls.setdefault(part["index"], {"id": "", "name": "", "arguments": ""})
                    function = part.get("function") or {}
                    call["id"] = part.get("id") or call["id"]
                    call["name"] += function.get("name") or ""
                    call["arguments"] += function.get("arguments") or ""
        return Reply(
            text,
            tuple(
                Call.from_text(each["id"], each["name"], each["arguments"])
                for _, each in sorted(calls.items())
            ),
        )


class Responses:
    """``/v1/responses``, as Codex and the newer OpenAI clients use it."""

    path = "/v1/responses"

    def ask(
        self,
        server: Api,
        model: str,
        messages: list[Message],
        tools: list[dict[str, Any]],
        *,
        stream: bool,
    ) -> Reply:
        """See :class:`SurfaceOf`."""
        body = {
            "model": model,
            "input": [item for message in messages for item in _response_items(message)],
            "tools": [{"type": "function", **each["function"]} for each in tools],
            "temperature": 0,
            "max_output_tokens": ANSWER_TOKENS,
        }
        if not stream:
            return _reply_of_items(server.post(self.path, body)["output"])
        items = []
        for event in server.events(self.path, body):
            if event.get("type") == "response.output_item.done":
                items.append(event["item"])
            elif event.get("type") == "response.failed":
                error = (event.get("response") or {}).get("error") or {}
                raise ServerError(f"{self.path}: {error.get('message', 'response.failed')}")
        return _reply_of_items(items)


def _response_items(message: Message) -> Iterable[dict[str, Any]]:
    if message["role"] == "tool":
        yield {
            "type": "function_call_output",
            "call_id": message["tool_call_id"],
            "output": message["content"],
        }
        return
    if pictures := _pictures_of(message):
        content: Any = [
            {"type": "input_text", "text": _text_of(message)},
            *(
                {"type": "input_image", "image_url": f"data:{kind};base64,{data}"}
                for kind, data in pictures
            ),
        ]
        yield {"type": "message", "role": message["role"], "content": content}
    elif message.get("content"):
        yield {"type": "message", "role": message["role"], "content": message["content"]}
    for call in message.get("tool_calls", ()):
        yield {"type": "function_call", "call_id": call["id"], **call["function"]}


def _reply_of_items(items: Iterable[Mapping[str, Any]]) -> Reply:
    items = list(items)
    return Reply(
        text="".join(
            part.get("text") or ""
            for item in items
            if item.get("type") == "message"
            for part in item.get("content") or ()
        ),
        calls=tuple(
            Call.from_text(item["call_id"], item["name"], item["arguments"])
            for item in items
            if item.get("type") == "function_call"
        ),
    )


class Messages:
    """``/v1/messages``, as Anthropic's clients use it."""

    path = "/v1/messages"

    def ask(
        self,
        server: Api,
        model: str,
        messages: list[Message],
        tools: list[dict[str, Any]],
        *,
        stream: bool,
    ) -> Reply:
        """See :class:`SurfaceOf`."""
        body = {
            "model": model,
            "system": "\n".join(each["content"] for each in messages if each["role"] == "system"),
            "messages": [_anthropic_message(each) for each in messages if each["role"] != "system"],
            "tools": [
                {
                    "name": each["function"]["name"],
                    "description": each["function"]["description"],
                    "input_schema": each["function"]["parameters"],
                }
                for each in tools
            ],
            "temperature": 0,
            "max_tokens": ANSWER_TOKENS,
        }
        if not stream:
            return _reply_of_blocks(server.post(self.path, body)["content"])
        blocks: dict[int, dict[str, Any]] = {}
        for event in server.events(self.path, body):
            if event.get("type") == "content_block_start":
                blocks[event["index"]] = {"text": "", "partial": "", **event["content_block"]}
            elif event.get("type") == "content_block_delta":
                delta = event["delta"]
                blocks[event["index"]]["text"] += delta.get("text") or ""
                blocks[event["index"]]["partial"] += delta.get("partial_json") or ""
        for block in blocks.values():
            if block["partial"]:
                block["input"] = block["partial"]
        return _reply_of_blocks(block for _, block in sorted(blocks.items()))


def _anthropic_message(message: Message) -> dict[str, Any]:
    if message["role"] == "tool":
        result = {
            "type": "tool_result",
            "tool_use_id": message["tool_call_id"],
            "content": message["content"],
        }
        return {"role": "user", "content": [result]}
    blocks: list[dict[str, Any]] = []
    if text := _text_of(message):
        blocks.append({"type": "text", "text": text})
    blocks += [
        {"type": "image", "source": {"type": "base64", "media_type": kind, "data": data}}
        for kind, data in _pictures_of(message)
    ]
    blocks += [
        {
            "type": "tool_use",
            "id": call["id"],
            "name": call["function"]["name"],
            "input": json.loads(call["function"]["arguments"]),
        }
        for call in message.get("tool_calls", ())
    ]
    return {"role": message["role"], "content": blocks}


def _reply_of_blocks(blocks: Iterable[Mapping[str, Any]]) -> Reply:
    blocks = list(blocks)
    return Reply(
        text="".join(block.get("text") or "" for block in blocks if block["type"] == "text"),
        calls=tuple(
            Call.from_text(
                block["id"],
                block["name"],
                block["input"]
                if isinstance(block["input"], str)
                else json.dumps(block["input"], ensure_ascii=False),
            )
            for block in blocks
            if block["type"] == "tool_use"
        ),
    )


SHARED_SURFACES: tuple[SharedSurface, ...] = (ChatCompletions(), Responses(), Messages())
"""The surfaces of other makers' APIs, which llama-server has as well."""

SURFACES: tuple[Surface, ...] = (OllamaChat(), *SHARED_SURFACES)
"""Every surface, in the order in which reports show them."""

SURFACES_OF_IMAGES: tuple[Surface, ...] = (OllamaChat(), Generate(), *SHARED_SURFACES)
"""Every surface that takes images: ``/api/generate`` knows no tools, and so is none of the others.
"""
