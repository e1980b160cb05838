"""``/v1/chat/completions``: OpenAI's chat.

The forms of requests and answers are OpenAI's (the types of its SDK), and where those leave a
choice, what Ollama writes (``openai/openai.go`` of 0.34.4).
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterator
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final

from ollama_tools.gateway.asked import (
    Asked,
    JsonObject,
    NotUnderstood,
    Problem,
    call,
    flag_of,
    is_plain,
    joined,
    numbers_of,
    object_of,
    objects_of,
    parts_of,
    require_base64,
    role_of,
    text_of,
    texts_of,
)
from ollama_tools.gateway.surfaces.native import read_tool
from ollama_tools.gateway.surfaces.surface import CallPart, Piece, Writer, count, event
from ollama_tools.gateway.tool_choice import openai_choice

_OPTIONS: Final = {
    "temperature": ("temperature", float),
    "top_p": ("top_p", float),
    "seed": ("seed", int),
    "frequency_penalty": ("frequency_penalty", float),
    "presence_penalty": ("presence_penalty", float),
    "max_tokens": ("num_predict", int),
    "max_completion_tokens": ("num_predict", int),
}
_IMAGE = re.compile(r"data:(?:image/(?:jpeg|jpg|png|webp))?;base64,")
_TYPES = {
    HTTPStatus.BAD_REQUEST: "invalid_request_error",
    HTTPStatus.UNAUTHORIZED: "invalid_request_error",
    HTTPStatus.FORBIDDEN: "permission_error",
    HTTPStatus.NOT_FOUND: "not_found_error",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "invalid_request_error",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_error",
}


class Chat:
    """OpenAI's chat completions."""

    path = "/v1/chat/completions"
    media_type = "text/event-stream"

    def read(self, body: JsonObject) -> Asked:
        """What a client asks for."""
        messages = objects_of(body, "messages")
        if not messages:
            raise Problem("messages is empty")
        if flag_of(body, "logprobs") or body.get("top_logprobs"):
            raise NotUnderstood("logprobs")
        object_of(body, "stream_options")
        fields: JsonObject = {}
        if (form := _format(object_of(body, "response_format"))) is not None:
            fields["format"] = form
        effort = text_of(object_of(body, "reasoning"), "effort") or text_of(
            body, "reasoning_effort"
        )
        if effort and effort != "none":
            fields["think"] = True
        options = numbers_of(body, _OPTIONS)
        if (stop := body.get("stop")) is not None:
            options["stop"] = [stop] if isinstance(stop, str) else texts_of(body, "stop")
        names = _names(messages)
        given = [
            read_tool(each, f"tools[{i}].") for i, each in enumerate(objects_of(body, "tools"))
        ]
        tools, choice = openai_choice(body, [(each.name, each) for each in given])
        return Asked(
            model=text_of(body, "model"),
            messages=[
                each if is_plain(each) else _message(each, f"messages[{index}].", names)
                for index, each in enumerate(messages)
            ],
            tools=tools,
            choice=choice,
            options=options,
            fields=fields,
            defaults={"temperature": 1.0, "top_p": 1.0},
            stream=flag_of(body, "stream"),
            body=body,
        )

    def whole(self, asked: Asked, answer: Piece) -> JsonObject:
        """An answer in one piece."""
        content = answer.content
        said = content.get("message", {})
        message = {"role": "assistant", "content": said.get("content", "")}
        if said.get("thinking"):
            message["reasoning"] = said["thinking"]
        if answer.calls:
            message["tool_calls"] = [_call(*each) for each in enumerate(answer.calls)]
        choice = {
            "index": 0,
            "message": message,
            "finish_reason": _reason(content, bool(answer.calls)),
        }
        head = _head("chat.completion", asked.model, created(content))
        return {**head, "choices": [choice], "usage": usage(content)}

    def writer(self, asked: Asked) -> Writer:
        """An answer in pieces."""
        return _Chunks(asked)

    def problem(self, problem: Problem) -> JsonObject:
        """An error."""
        return openai_problem(problem)


class _Chunks:
    def __init__(self, asked: Asked) -> None:
        self._with_usage = flag_of(object_of(asked.body, "stream_options"), "include_usage")
        self._model = asked.model
        self._head: JsonObject = {}
        self._calls = 0

    def feed(self, piece: Piece) -> Iterator[bytes]:
        content = piece.content
        said = content.get("message", {})
        calls = []
        for each in piece.calls:
            self._calls += each.begins
            calls.append(_call(self._calls - 1, each))
        first = not self._head
        if first:
            self._head = _head("chat.completion.chunk", self._model, created(content))
        delta: JsonObject = {"role": "assistant"} if first else {}
        if said.get("thinking"):
            delta["reasoning"] = said["thinking"]
        if said.get("content") or (first and not calls):
            delta["content"] = said.get("content", "")
        if calls:
            delta["tool_calls"] = calls
        if delta:
            yield self._chunk(delta, None)
        if content.get("done"):
            yield self._chunk({}, _reason(content, bool(self._calls)))
            if self._with_usage:
                yield event({**self._head, "choices": [], "usage": usage(content)})
            yield b"data: [DONE]\n\n"

    def broken(self, problem: Problem) -> bytes:
        return event(openai_problem(problem))

    def _chunk(self, delta: JsonObject, reason: str | None) -> bytes:
        return event(
            {**self._head, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}
        )


def openai_problem(problem: Problem) -> JsonObject:
    """An error as OpenAI's surfaces have it."""
    return {
        "error": {
            "message": problem.what,
            "type": _TYPES.get(problem.status, "api_error"),
            "param": "messages" if problem.code == "context_length_exceeded" else None,
            "code": problem.code or None,
        }
    }


def usage(piece: JsonObject) -> JsonObject:
    """The tokens of a request, as OpenAI's chat counts them."""
    prompt, written = count(piece, "prompt_eval_count"), count(piece, "eval_count")
    found: JsonObject = {
        "prompt_tokens": prompt,
        "completion_tokens": written,
        "total_tokens": prompt + written,
    }
    if "prompt_eval_cached_count" in piece:
        cached = count(piece, "prompt_eval_cached_count")
        found["prompt_tokens_details"] = {"cached_tokens": cached}
    return found


def created(piece: JsonObject) -> int:
    """When an answer began, in seconds since 1970."""
    try:
        return int(datetime.fromisoformat(str(piece.get("created_at"))).timestamp())
    except ValueError:
        return int(time.time())


def image_of(url: str, where: str) -> str:
    """The base64 of an image that is given as an address.

    Raises:
        Problem: It is somewhere else, or none.
    """
    if url.startswith(("http://", "https://")):
        raise Problem(f"{where} is an address: send the image itself, in base64")
    found, head = _IMAGE.subn("", url, count=1)
    if not head:
        raise Problem(f"{where} is no image that is known: jpeg, png or webp in base64")
    return require_base64(found, where)


def _head(kind: str, model: str, at: int) -> JsonObject:
    return {
        "id": f"chatcmpl-{secrets.token_hex(12)}",
        "object": kind,
        "created": at,
        "model": model,
        "system_fingerprint": "fp_ollama",
    }


def _call(index: int, part: CallPart) -> JsonObject:
    if not part.begins:
        return {"index": index, "function": {"arguments": part.text}}
    return {
        "id": part.call_id,
        "index": index,
        "type": "function",
        "function": {"name": part.name, "arguments": part.text},
    }


def _reason(piece: JsonObject, called: bool) -> str:
    reason = piece.get("done_reason") or "stop"
    return "tool_calls" if called and reason == "stop" else str(reason)


def _format(asked: JsonObject) -> Any:
    match text_of(asked, "type", "response_format."):
        case "json_object":
            return "json"
        case "json_schema":
            return object_of(asked, "json_schema", "response_format.").get("schema")
        case _:
            return None


def _names(messages: list[JsonObject]) -> dict[str, str]:
    """The name of the tool that each call was for."""
    return {
        str(each["id"]): each["function"]["name"]
        for message in messages
        for each in (message.get("tool_calls") or [])
        if isinstance(each, dict)
        and each.get("id")
        and isinstance(each.get("function"), dict)
        and isinstance(each["function"].get("name"), str)
    }


def _message(message: JsonObject, where: str, names: dict[str, str]) -> JsonObject:
    role = role_of(message, where)
    calls = objects_of(message, "tool_calls", where)
    content = message.get("content")
    if content is None and "tool_calls" not in message:
        raise Problem(f"{where}content is missing")
    texts, images = _texts_and_images(content, f"{where}content")
    found: JsonObject = {"role": role, "content": joined(texts)}
    if images:
        found["images"] = images
    if reasoning := text_of(message, "reasoning", where):
        found["thinking"] = reasoning
    if calls:
        found["tool_calls"] = [
            _read_call(each, f"{where}tool_calls[{index}].") for index, each in enumerate(calls)
        ]
    if call_id := text_of(message, "tool_call_id", where):
        found["tool_call_id"] = call_id
    if role == "tool" and (name := text_of(message, "name", where) or names.get(call_id, "")):
        found["tool_name"] = name
    return found


def _texts_and_images(content: object, where: str) -> tuple[list[str], list[str]]:
    """The texts and the images of a message's content."""
    if isinstance(content, str):
        return [content], []
    texts, images = [], []
    for here, part in parts_of(content, where):
        match part.get("type"):
            case "text":
                texts.append(text_of(part, "text", f"{here}."))
            case "image_url":
                url = part.get("image_url")
                url = url.get("url") if isinstance(url, dict) else url
                if not isinstance(url, str):
                    raise Problem(f"{here} has no address of an image")
                images.append(image_of(url, here))
            case kind:
                raise NotUnderstood(f"{here} is of the type {kind}")
    return texts, images


def _read_call(each: JsonObject, where: str) -> JsonObject:
    function = object_of(each, "function", where)
    name = text_of(function, "name", f"{where}function.")
    if not name:
        raise Problem(f"{where}function has no name")
    return call(name, function.get("arguments"), text_of(each, "id", where))
