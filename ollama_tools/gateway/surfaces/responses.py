"""``/v1/responses``: OpenAI's responses.

The forms are OpenAI's (the types of its SDK), and where those leave a choice, what Ollama writes
(``openai/responses.go`` of 0.34.4).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
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
    parts_of,
    role_of,
    text_of,
    texts_of,
)
from ollama_tools.gateway.surfaces.chat import created, image_of, openai_problem
from ollama_tools.gateway.surfaces.surface import CallPart, Piece, Writer, count, event
from ollama_tools.gateway.tool_choice import openai_choice

_OPTIONS: Final = {
    "temperature": ("temperature", float),
    "top_p": ("top_p", float),
    "max_output_tokens": ("num_predict", int),
}
_TEXTS: Final = ("input_text", "output_text", "text")


class Responses:
    """OpenAI's responses."""

    path = "/v1/responses"
    media_type = "text/event-stream"

    def read(self, body: JsonObject) -> Asked:
        """What a client asks for."""
        for name in ("previous_response_id", "conversation", "prompt"):
            if body.get(name):
                raise NotUnderstood(name)
        text_of(body, "truncation")
        texts_of(body, "include")
        fields: JsonObject = {}
        form = object_of(object_of(body, "text"), "format", "text.")
        if form.get("type") == "json_schema":
            fields["format"] = form.get("schema")
        effort = text_of(object_of(body, "reasoning"), "effort", "reasoning.")
        if effort and effort != "none":
            fields["think"] = True
        searches = any(each.get("type") == "web_search" for each in objects_of(body, "tools"))
        given = [(name, tool) for _, name, tool in tools_of(body)]
        tools, choice = openai_choice(body, given, searches=searches)
        return Asked(
            model=text_of(body, "model"),
            messages=_read_messages(body),
            tools=tools,
            choice=choice,
            options=numbers_of(body, _OPTIONS),
            fields=fields,
            defaults={"temperature": 1.0},
            stream=flag_of(body, "stream"),
            web_search=searches,
            body=body,
        )

    def whole(self, asked: Asked, answer: Piece) -> JsonObject:
        """An answer in one piece."""
        items = _Items(asked)
        for _ in items.feed(answer):
            pass
        for _ in items.close():
            pass
        return items.response(answer.content)

    def writer(self, asked: Asked) -> Writer:
        """An answer in pieces."""
        return _Events(asked)

    def problem(self, problem: Problem) -> JsonObject:
        """An error."""
        return openai_problem(problem)


def tools_of(body: JsonObject) -> list[tuple[str, str, Tool]]:
    """The tools of a request: namespace and name as the client has them, and what the model sees.

    A member of a namespace is called ``namespace.member``, as Ollama does. Ollama's own web search
    is left out: it would ask a service that the client does not know of.
    """
    found = []
    for index, each in enumerate(objects_of(body, "tools")):
        where = f"tools[{index}]."
        match each.get("type"):
            case "function":
                found.append(("", text_of(each, "name", where), _tool(each, "", where)))
            case "namespace":
                space = text_of(each, "name", where)
                for number, member in enumerate(objects_of(each, "tools", where)):
                    here = f"{where}tools[{number}]."
                    if member.get("type") != "function":
                        raise NotUnderstood(f"{here}type is {member.get('type')}")
                    tool = _tool(member, space, here)
                    found.append((space, text_of(member, "name", here), tool))
            case "web_search":
                pass
            case kind:
                raise NotUnderstood(f"{where}type is {kind}")
    return found


def _tool(tool: JsonObject, namespace: str, where: str) -> Tool:
    name = text_of(tool, "name", where)
    if not name:
        raise Problem(f"{where}name is missing")
    return Tool(
        qualified(namespace, name),
        text_of(tool, "description", where),
        object_of(tool, "parameters", where),
    )


def qualified(namespace: str, member: str) -> str:
    """The one name that a member of a namespace has for the model, as Ollama makes it."""
    if not namespace or member.startswith((f"{namespace}.", f"{namespace}_")):
        return member
    return f"{namespace}{member}" if member.startswith("_") else f"{namespace}.{member}"


def _read_messages(body: JsonObject) -> list[JsonObject]:
    messages: list[JsonObject] = []
    if instructions := text_of(body, "instructions"):
        messages.append({"role": "system", "content": instructions})
    given = body.get("input")
    if isinstance(given, str):
        return [*messages, {"role": "user", "content": given}]
    thought = ""
    for index, item in enumerate(objects_of(body, "input")):
        where = f"input[{index}]."
        match item.get("type") or "message":
            case "message":
                found = _message(item, where)
                if thought and found["role"] == "assistant":
                    found["thinking"], thought = thought, ""
                messages.append(found)
            case "function_call":
                _add_call(messages, item, where)
                if thought:
                    messages[-1]["thinking"], thought = thought, ""
            case "function_call_output":
                call_id = text_of(item, "call_id", where)
                if not call_id:
                    raise NotUnderstood(f"{where}call_id is missing")
                texts, images = _parts(item.get("output"), f"{where}output")
                result = {"role": "tool", "tool_call_id": call_id, "content": joined(texts)}
                messages.append({**result, "images": images} if images else result)
            case "reasoning":
                thought = text_of(item, "encrypted_content", where)
            case "web_search_call":
                # What was found stands in the message that follows.
                pass
            case kind:
                raise NotUnderstood(f"{where}type is {kind}")
    if not messages:
        raise Problem("input is empty")
    return messages


def _message(item: JsonObject, where: str) -> JsonObject:
    role = role_of(item, where)
    texts, images = _parts(item.get("content"), f"{where}content")
    found: JsonObject = {"role": role, "content": joined(texts)}
    return {**found, "images": images} if images else found


def _add_call(messages: list[JsonObject], item: JsonObject, where: str) -> None:
    name = text_of(item, "name", where)
    if not name:
        raise Problem(f"{where}name is missing")
    name = qualified(text_of(item, "namespace", where), name)
    made = call(name, text_of(item, "arguments", where), text_of(item, "call_id", where))
    if not messages or messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant", "content": ""})
    messages[-1].setdefault("tool_calls", []).append(made)


def _parts(content: object, where: str) -> tuple[list[str], list[str]]:
    texts, images = [], []
    for here, part in parts_of(content, where):
        if part.get("type") in _TEXTS:
            texts.append(text_of(part, "text", f"{here}."))
        elif part.get("type") == "input_image" and part.get("image_url"):
            images.append(image_of(text_of(part, "image_url", f"{here}."), here))
        else:
            raise NotUnderstood(f"{here} is of the type {part.get('type')}")
    return texts, images


class _Items:
    """The items of an answer: thoughts, a message, calls."""

    def __init__(self, asked: Asked) -> None:
        self._body = asked.body
        self._model = asked.model
        # Two tools cannot have one name for the model, so the first has it.
        self._names: dict[str, tuple[str, str]] = {}
        for space, name, tool in tools_of(dict(asked.body)):
            self._names.setdefault(tool.name, (space, name))
        self._id = secrets.token_hex(12)
        self._created: int | None = None
        self._items: list[JsonObject] = []
        self._open = ""
        self._text = ""
        self._number = 0

    def feed(self, piece: Piece) -> Iterator[tuple[str, JsonObject]]:
        """The events of a piece of the server's answer: names and data."""
        if self._created is None:
            self._created = created(piece.content)
        said = piece.content.get("message", {})
        if said.get("thinking"):
            yield from self._begin("reasoning")
            self._text += said["thinking"]
            yield self._of_item(
                "reasoning_summary_text.delta", delta=said["thinking"], summary_index=0
            )
        if said.get("content"):
            yield from self._begin("message")
            self._text += said["content"]
            yield self._of_item(
                "output_text.delta", delta=said["content"], content_index=0, logprobs=[]
            )
        for part in piece.calls:
            yield from self._called(part)

    def close(self) -> Iterator[tuple[str, JsonObject]]:
        """The events that end the open item."""
        if not self._open:
            return
        kind, self._open = self._open, ""
        if kind == "message":
            part = _text_part(self._text)
            yield self._of_item("output_text.done", text=self._text, content_index=0, logprobs=[])
            yield self._of_item("content_part.done", part=part, content_index=0)
            item = self._item("message", status="completed", role="assistant", content=[part])
        else:
            part = {"type": "summary_text", "text": self._text}
            yield self._of_item("reasoning_summary_text.done", text=self._text, summary_index=0)
            yield self._of_item("reasoning_summary_part.done", part=part, summary_index=0)
            item = self._item("reasoning", summary=[part], encrypted_content=self._text)
        yield from self._done(item)

    def response(self, piece: JsonObject | None = None) -> JsonObject:
        """The answer as a whole; in progress where there is no last piece of the server's."""
        cut = piece is not None and piece.get("done_reason") == "length"
        ended = "incomplete" if cut else "completed"
        body = self._body
        given = {name: body.get(name) for name in ("instructions", "max_output_tokens")}
        return {
            "id": f"resp_{self._id}",
            "object": "response",
            "created_at": self._created if self._created is not None else int(time.time()),
            "completed_at": int(time.time()) if piece is not None and not cut else None,
            "status": "in_progress" if piece is None else ended,
            "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
            "model": self._model,
            "previous_response_id": None,
            **given,
            "output": list(self._items),
            "error": None,
            "tools": body.get("tools") or [],
            "tool_choice": body.get("tool_choice") or "auto",
            "truncation": body.get("truncation") or "disabled",
            "parallel_tool_calls": body.get("parallel_tool_calls") is not False,
            "text": body.get("text") or {"format": {"type": "text"}},
            "top_p": body.get("top_p"),
            "temperature": body.get("temperature"),
            "presence_penalty": 0,
            "frequency_penalty": 0,
            "top_logprobs": 0,
            "reasoning": body.get("reasoning"),
            "usage": None if piece is None else _usage(piece),
            "max_tool_calls": None,
            "store": False,
            "background": False,
            "service_tier": "default",
            "metadata": body.get("metadata") or {},
            "safety_identifier": None,
            "prompt_cache_key": body.get("prompt_cache_key"),
        }

    def _called(self, call: CallPart) -> Iterator[tuple[str, JsonObject]]:
        space, own = self._names.get(call.name, ("", call.name))
        found: JsonObject = {"call_id": call.call_id, "name": own}
        if space:
            found["namespace"] = space
        if call.begins:
            yield from self.close()
            self._text = ""
            begun = self._item("function_call", status="in_progress", arguments="", **found)
            yield "response.output_item.added", {"output_index": self._number, "item": begun}
        if call.text:
            self._text += call.text
            yield self._of_item("function_call_arguments.delta", "function_call", delta=call.text)
        if call.ends:
            text = self._text
            yield self._of_item(
                "function_call_arguments.done", "function_call", arguments=text, name=own
            )
            status = "incomplete" if call.arguments is None else "completed"
            done = self._item("function_call", status=status, arguments=text, **found)
            yield from self._done(done)

    def _begin(self, kind: str) -> Iterator[tuple[str, JsonObject]]:
        if self._open == kind:
            return
        yield from self.close()
        self._open, self._text = kind, ""
        if kind == "message":
            item = self._item("message", status="in_progress", role="assistant", content=[])
        else:
            item = self._item("reasoning", summary=[])
        yield "response.output_item.added", {"output_index": self._number, "item": item}
        if kind == "message":
            yield self._of_item("content_part.added", part=_text_part(""), content_index=0)
        else:
            part = {"type": "summary_text", "text": ""}
            yield self._of_item("reasoning_summary_part.added", part=part, summary_index=0)

    def _done(self, item: JsonObject) -> Iterator[tuple[str, JsonObject]]:
        yield "response.output_item.done", {"output_index": self._number, "item": item}
        self._items.append(item)
        self._number += 1

    def _item(self, kind: str, **content: Any) -> JsonObject:
        return {"id": self._item_id(kind), "type": kind, **content}

    def _item_id(self, kind: str) -> str:
        head = {"message": "msg", "reasoning": "rs", "function_call": "fc"}[kind]
        return f"{head}_{self._id}_{self._number}"

    def _of_item(self, event_name: str, kind: str = "", /, **data: Any) -> tuple[str, JsonObject]:
        # An item that is being ended is not open any more.
        kind = kind or ("reasoning" if event_name.startswith("reasoning") else "message")
        return f"response.{event_name}", {
            "item_id": self._item_id(kind),
            "output_index": self._number,
            **data,
        }


class _Events:
    def __init__(self, asked: Asked) -> None:
        self._items = _Items(asked)
        self._started = False
        self._number = 0

    def feed(self, piece: Piece) -> Iterator[bytes]:
        found = list(self._items.feed(piece))
        if not self._started:
            self._started = True
            begun = {**self._items.response(), "output": []}
            yield self._event("response.created", {"response": begun})
            yield self._event("response.in_progress", {"response": begun})
        for name, data in found:
            yield self._event(name, data)
        if piece.content.get("done"):
            for name, data in self._items.close():
                yield self._event(name, data)
            response = self._items.response(piece.content)
            yield self._event(f"response.{response['status']}", {"response": response})

    def broken(self, problem: Problem) -> bytes:
        error = {"code": problem.code or "server_error", "message": problem.what}
        response = {**self._items.response(), "status": "failed", "error": error}
        return self._event("response.failed", {"response": response})

    def _event(self, name: str, data: JsonObject) -> bytes:
        number, self._number = self._number, self._number + 1
        return event({"type": name, "sequence_number": number, **data}, name)


def _text_part(text: str) -> JsonObject:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _usage(piece: JsonObject) -> JsonObject:
    prompt, written = count(piece, "prompt_eval_count"), count(piece, "eval_count")
    return {
        "input_tokens": prompt,
        # The SDK's type asks for both (openai 3.54); nothing is paid for what a cache keeps.
        "input_tokens_details": {
            "cached_tokens": count(piece, "prompt_eval_cached_count"),
            "cache_write_tokens": 0,
        },
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": prompt + written,
    }
