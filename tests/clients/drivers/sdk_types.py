"""openai and anthropic: each answer of a server held to the SDK's own types, and read by the SDK.

Prints what is wrong with each, and its form: the keys that it has, and the kinds of its events.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from typing import Any, get_args

import anthropic
import httpx
import openai
from anthropic.types import ErrorResponse, Message, RawMessageStreamEvent
from openai.types import ErrorObject
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel, ValidationError

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "at": {"type": "string"}},
    "required": ["city"],
}
NAME, DESCRIPTION = "get_current_weather", "The weather."
ASKED = [{"role": "user", "content": "What is the weather in Paris at noon?"}]
LONG = [{"role": "user", "content": "word " * 2000}]
FUNCTION = {"name": NAME, "description": DESCRIPTION, "parameters": SCHEMA}


class Surface:
    """How a surface is asked, raw and by its SDK."""

    def __init__(
        self,
        path: str,
        body: dict[str, Any],
        tools: list[dict[str, Any]],
        asked: str,
        limit: str,
        whole: type[BaseModel],
        event: Any,
        read: Callable[[dict[str, Any]], str],
    ) -> None:
        self.path, self.body, self.tools, self.asked = path, body, tools, asked
        self.limit, self.whole, self.read = limit, whole, read
        self.events = by_type(event)

    def validate_event(self, content: dict[str, Any]) -> BaseModel:
        return self.events[content.get("type", "")].model_validate(content)


def main() -> None:
    base, model = sys.argv[1:]
    one = openai.OpenAI(base_url=f"{base}/v1", api_key="none", max_retries=0)
    other = anthropic.Anthropic(base_url=base, api_key="none", max_retries=0)

    def chat(body: dict[str, Any]) -> str:
        with one.chat.completions.stream(**body) as events:
            message = [*events] and events.get_final_completion().choices[0].message
        calls = [(each.function.name, each.function.arguments) for each in message.tool_calls or ()]
        return said(message.content or "", calls)

    def responses(body: dict[str, Any]) -> str:
        with one.responses.stream(**body) as events:
            found = [*events] and events.get_final_response()
        calls = [(o.name, o.arguments) for o in found.output if o.type == "function_call"]
        return said(found.output_text, calls)

    def messages(body: dict[str, Any]) -> str:
        with other.messages.stream(**body) as events:
            found = [*events] and events.get_final_message()
        calls = [(b.name, json.dumps(b.input)) for b in found.content if b.type == "tool_use"]
        return said("".join(b.text for b in found.content if b.type == "text"), calls)

    surfaces = (
        Surface(
            "/v1/chat/completions",
            {"stream_options": {"include_usage": True}},
            [{"type": "function", "function": FUNCTION}],
            "messages",
            "max_tokens",
            ChatCompletion,
            ChatCompletionChunk,
            chat,
        ),
        Surface(
            "/v1/responses",
            {"instructions": "Be short."},
            [{"type": "function", **FUNCTION, "strict": False}],
            "input",
            "max_output_tokens",
            Response,
            ResponseStreamEvent,
            responses,
        ),
        Surface(
            "/v1/messages",
            {"max_tokens": 200},
            [{"name": NAME, "description": DESCRIPTION, "input_schema": SCHEMA}],
            "messages",
            "max_tokens",
            Message,
            RawMessageStreamEvent,
            messages,
        ),
    )
    found = []
    with httpx.Client(base_url=base, timeout=120, trust_env=False) as raw:
        for surface in surfaces:
            for case, more in (
                ("text", {}),
                ("call", {"tools": surface.tools}),
                ("cut", {surface.limit: 1}),
            ):
                body = {**surface.body, "model": model, surface.asked: ASKED, **more}
                found += list(answers(raw, surface, f"{surface.path} {case}", body))
            found.append(refused(raw, surface, model, one, other))
    print(json.dumps(found))


def said(text: str, calls: list[tuple[str, str]]) -> str:
    return json.dumps([text, [[name, json.loads(arguments)] for name, arguments in calls]])


def by_type(event: Any) -> dict[str, type[BaseModel]]:
    """The types of a union by the word that tells them apart; a single type is that of all."""
    if isinstance(event, type):
        return {"": event}
    members = get_args(get_args(event)[0])
    return {get_args(each.model_fields["type"].annotation)[0]: each for each in members}


def answers(
    raw: httpx.Client, surface: Surface, name: str, body: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    plain = {key: value for key, value in body.items() if key != "stream_options"}
    content = raw.post(surface.path, json=plain).json()
    yield {
        "case": f"{name} plain",
        "faults": faults(surface.whole.model_validate, content),
        "keys": sorted(keys(content)),
        "kinds": [],
    }
    events, kinds, wrong = [], [], []
    with raw.stream("POST", surface.path, json={**body, "stream": True}) as response:
        for line in response.iter_lines():
            if line.startswith("event: "):
                kinds.append(line.removeprefix("event: "))
            elif line.startswith("data: {"):
                events.append(json.loads(line.removeprefix("data: ")))
                wrong += faults(surface.validate_event, events[-1])
                for choice in events[-1].get("choices", ()):
                    kinds.append(" ".join(sorted(choice["delta"])) or choice["finish_reason"])
    yield {
        "case": f"{name} streamed",
        "faults": wrong,
        "keys": sorted({key for each in events for key in keys(each, each.get("type", ""))}),
        "kinds": [kind for i, kind in enumerate(kinds) if kind != [*kinds, ""][i - 1] or not i],
    }
    try:
        read = surface.read(body)
    except (openai.LengthFinishReasonError, RuntimeError) as error:
        # So it says that an answer was cut.
        read = repr(error)
    yield {"case": f"{name} read", "faults": [], "keys": [], "kinds": [read]}


def refused(
    raw: httpx.Client, surface: Surface, model: str, one: openai.OpenAI, other: anthropic.Anthropic
) -> Any:
    """What becomes of a prompt that does not fit."""
    body = {**surface.body, "model": model, surface.asked: LONG}
    body.pop("stream_options", None)
    response = raw.post(surface.path, json=body)
    content = response.json()
    kinds: list[Any] = [response.status_code]
    if surface.path == "/v1/messages":
        wrong = faults(ErrorResponse.model_validate, content)
        try:
            other.messages.create(**body)
        except anthropic.BadRequestError as error:
            kinds += [type(error).__name__, error.body["error"]["type"]]
    else:
        wrong = faults(ErrorObject.model_validate, content["error"])
        ask = one.responses.create if "input" in body else one.chat.completions.create
        try:
            ask(**body)
        except openai.BadRequestError as error:
            kinds += [type(error).__name__, error.code]
    return {
        "case": f"{surface.path} too long",
        "faults": wrong,
        "keys": sorted(keys(content)),
        "kinds": kinds,
    }


def faults(validate: Callable[[Any], BaseModel], content: Any) -> list[str]:
    """What the SDK's own types have against an answer."""
    try:
        validate(content)
    except ValidationError as error:
        return [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
    return []


def keys(value: Any, where: str = "") -> Iterator[str]:
    """Every key of an answer, by its path; what the client itself sent is no part of its form."""
    if isinstance(value, list):
        for each in value:
            kind = each.get("type", "") if isinstance(each, dict) else ""
            yield from keys(each, f"{where}[{kind}]")
    elif isinstance(value, dict):
        for key, each in value.items():
            yield f"{where}.{key}"
            if key not in ("tools", "input", "metadata"):
                yield from keys(each, f"{where}.{key}")


if __name__ == "__main__":
    main()
