"""``/v1/messages``: Anthropic's chat.

The forms are Anthropic's (the types of its SDK), and where those leave a choice, what Ollama writes
(``anthropic/anthropic.go`` of 0.34.4).
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, Final

from ollama_tools.gateway.asked import (
    Asked,
    JsonObject,
    NotUnderstood,
    Problem,
    Tool,
    call,
    flag_of,
    joined,
    numbers_of,
    object_of,
    objects_of,
    require_base64,
    role_of,
    text_of,
    texts_of,
)
from ollama_tools.gateway.exact import compact
from ollama_tools.gateway.surfaces.surface import Piece, Writer, count, event
from ollama_tools.gateway.tool_choice import anthropic_choice

_OPTIONS: Final = {
    "max_tokens": ("num_predict", int),
    "temperature": ("temperature", float),
    "top_p": ("top_p", float),
    "top_k": ("top_k", int),
}
_TYPES = {
    HTTPStatus.BAD_REQUEST: "invalid_request_error",
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.FORBIDDEN: "permission_error",
    HTTPStatus.NOT_FOUND: "not_found_error",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "request_too_large",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_error",
    HTTPStatus.SERVICE_UNAVAILABLE: "overloaded_error",
}


class Messages:
    """Anthropic's messages."""

    path = "/v1/messages"
    media_type = "text/event-stream"

    def read(self, body: JsonObject) -> Asked:
        """What a client asks for."""
        limit = body.get("max_tokens")
        if not isinstance(limit, int) or limit <= 0:
            raise Problem("max_tokens is missing, or no number above 0")
        given = objects_of(body, "messages")
        if not given:
            raise Problem("messages is empty")
        messages = [
            said for at, each in enumerate(given) for said in _messages(each, f"messages[{at}].")
        ]
        if not messages:
            # Without messages the server would be asked to load the model, and nothing more.
            raise Problem("no message says anything")
        if system := _system(body.get("system")):
            messages.insert(0, {"role": "system", "content": system})
        fields: JsonObject = {}
        if text_of(object_of(body, "thinking"), "type") == "enabled":
            fields["think"] = True
        for name in ("metadata", "output_config"):
            object_of(body, name)
        options = numbers_of(body, _OPTIONS)
        if stop := texts_of(body, "stop_sequences"):
            options["stop"] = stop
        tools = objects_of(body, "tools")
        own = [_is_web_search(each) for each in tools]
        offered = [
            _tool(each, f"tools[{index}].") for index, each in enumerate(tools) if not own[index]
        ]
        searches = [
            str(each.get("name")) for each, is_own in zip(tools, own, strict=True) if is_own
        ]
        return Asked(
            model=text_of(body, "model"),
            messages=messages,
            tools=offered,
            choice=anthropic_choice(body, offered, own=searches),
            web_search=any(own),
            options=options,
            fields=fields,
            stream=flag_of(body, "stream"),
            body=body,
        )

    def whole(self, asked: Asked, answer: Piece) -> JsonObject:
        """An answer in one piece."""
        said = answer.content.get("message", {})
        content: list[JsonObject] = []
        if said.get("thinking"):
            content.append({"type": "thinking", "thinking": said["thinking"], "signature": ""})
        if said.get("content"):
            content.append({"type": "text", "text": said["content"]})
        calls = [
            {"type": "tool_use", "id": each.call_id, "name": each.name, "input": each.arguments}
            for each in answer.calls
            if each.arguments is not None
        ]
        head = _head(asked.model, content + calls)
        reason = _reason(answer.content, bool(calls))
        return {**head, "stop_reason": reason, "usage": _usage(answer.content)}

    def writer(self, asked: Asked) -> Writer:
        """An answer in pieces."""
        return _Events(asked)

    def problem(self, problem: Problem) -> JsonObject:
        """An error."""
        kind = _TYPES.get(problem.status, "api_error")
        return {
            "type": "error",
            "error": {"type": kind, "message": problem.what},
            "request_id": f"req_{secrets.token_hex(12)}",
        }


class _Events:
    """Blocks of thinking, text and calls, one after the other.

    A call goes on when its arguments are known to be JSON, as Anthropic's own servers do it:
    clients end in an error of their own else.
    """

    def __init__(self, asked: Asked) -> None:
        self._model = asked.model
        self._started = False
        self._index = -1
        self._open = ""
        self._called = False

    def feed(self, piece: Piece) -> Iterator[bytes]:
        if not self._started:
            self._started = True
            # Nothing is counted yet: the last event has the numbers.
            head = {**_head(self._model, []), "stop_reason": None, "usage": _usage({})}
            yield self._event("message_start", message=head)
        said = piece.content.get("message", {})
        if said.get("thinking"):
            yield from self._begin("thinking", {"thinking": "", "signature": ""})
            yield self._delta(type="thinking_delta", thinking=said["thinking"])
        if said.get("content"):
            yield from self._begin("text", {"text": ""})
            yield self._delta(type="text_delta", text=said["content"])
        for part in piece.calls:
            if part.arguments is None:
                continue
            self._called = True
            yield from self._end()
            yield from self._begin("tool_use", {"id": part.call_id, "name": part.name, "input": {}})
            yield self._delta(
                type="input_json_delta", partial_json=compact(part.arguments).decode()
            )
            yield from self._end()
        if piece.content.get("done"):
            yield from self._end()
            reason = _reason(piece.content, self._called)
            delta = {"stop_reason": reason, "stop_sequence": None}
            yield self._event("message_delta", delta=delta, usage=_usage(piece.content))
            yield self._event("message_stop")

    def broken(self, problem: Problem) -> bytes:
        kind = _TYPES.get(problem.status, "api_error")
        return self._event("error", error={"type": kind, "message": problem.what})

    def _begin(self, kind: str, block: JsonObject) -> Iterator[bytes]:
        if self._open == kind:
            return
        yield from self._end()
        self._open = kind
        self._index += 1
        content = {"type": kind, **block}
        yield self._event("content_block_start", index=self._index, content_block=content)

    def _end(self) -> Iterator[bytes]:
        if self._open:
            self._open = ""
            yield self._event("content_block_stop", index=self._index)

    def _delta(self, **delta: str) -> bytes:
        return self._event("content_block_delta", index=self._index, delta=delta)

    def _event(self, kind: str, **data: object) -> bytes:
        return event({"type": kind, **data}, kind)


def _head(model: str, content: list[JsonObject]) -> JsonObject:
    return {
        "id": f"msg_{secrets.token_hex(12)}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_sequence": None,
    }


def _usage(piece: JsonObject) -> JsonObject:
    prompt = count(piece, "prompt_eval_count")
    cached = min(count(piece, "prompt_eval_cached_count"), prompt)
    found: JsonObject = {
        "input_tokens": prompt - cached,
        "output_tokens": count(piece, "eval_count"),
    }
    if "prompt_eval_cached_count" in piece:
        found["cache_read_input_tokens"] = cached
    return found


def _reason(piece: JsonObject, called: bool) -> str:
    if piece.get("done_reason") == "length":
        return "max_tokens"
    return "tool_use" if called else "end_turn"


def _system(value: object) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    if not isinstance(value, list):
        raise Problem("system is no text and no list of blocks")
    return joined([text_of(each, "text", "system.") for each in value if isinstance(each, dict)])


def _is_web_search(tool: JsonObject) -> bool:
    """Whether a tool is one that the server itself runs, by asking a service elsewhere."""
    return str(tool.get("type") or "").startswith("web_search")


def _tool(tool: JsonObject, where: str) -> Tool:
    kind = text_of(tool, "type", where)
    if kind not in ("", "custom"):
        raise NotUnderstood(f"{where}type is {kind}")
    name = text_of(tool, "name", where)
    if not name:
        raise Problem(f"{where}name is missing")
    description = text_of(tool, "description", where)
    return Tool(name, description, object_of(tool, "input_schema", where))


def _messages(message: JsonObject, where: str) -> list[JsonObject]:
    """The messages that one of Anthropic's stands for: results come before what the user says."""
    role = role_of(message, where)
    content = message.get("content")
    if isinstance(content, str):
        return [{"role": role, "content": content}]
    texts: list[str] = []
    images: list[str] = []
    calls: list[JsonObject] = []
    results: list[JsonObject] = []
    found: JsonObject = {"role": role}
    for index, block in enumerate(objects_of(message, "content", where)):
        here = f"{where}content[{index}]."
        match block.get("type"):
            case "text":
                texts.append(text_of(block, "text", here))
            case "image":
                images.append(_image(block, here))
            case "tool_use":
                calls.append(_call(block, here))
            case "tool_result":
                results.append(_result(block, here))
            case "thinking":
                found["thinking"] = text_of(block, "thinking", here)
            case "redacted_thinking":
                pass
            case kind:
                raise NotUnderstood(f"{here}type is {kind}")
    found["content"] = joined(texts)
    if images:
        found["images"] = images
    if calls:
        found["tool_calls"] = calls
    says = found["content"] or images or calls or found.get("thinking")
    return [*results, *([found] if says else [])]


def _image(block: JsonObject, where: str) -> str:
    source = object_of(block, "source", where)
    if source.get("type") != "base64":
        raise Problem(f"{where}source is an address: send the image itself, in base64")
    return require_base64(text_of(source, "data", f"{where}source."), f"{where}source.data")


def _call(block: JsonObject, where: str) -> JsonObject:
    name, call_id = text_of(block, "name", where), text_of(block, "id", where)
    if not name or not call_id:
        raise Problem(f"{where}{'id' if name else 'name'} is missing")
    return call(name, block.get("input"), call_id)


def _result(block: JsonObject, where: str) -> JsonObject:
    texts: list[str] = []
    images: list[str] = []
    content: Any = block.get("content")
    if isinstance(content, str):
        texts.append(content)
    else:
        for index, part in enumerate(objects_of(block, "content", where)):
            here = f"{where}content[{index}]."
            match part.get("type"):
                case "text":
                    texts.append(text_of(part, "text", here))
                case "image":
                    images.append(_image(part, here))
                case kind:
                    raise NotUnderstood(f"{here}type is {kind}")
    found = {
        "role": "tool",
        "tool_call_id": text_of(block, "tool_use_id", where),
        "content": joined(texts),
    }
    return {**found, "images": images} if images else found
