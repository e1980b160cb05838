"""A session that no server keeps whole by itself, as clients send it on each surface.

The schema's keywords are many and in no order, numbers are whole floats and have more digits than a
double, results come in another order than their calls, a text has parts, system messages stand
apart, and what marks the gateway's own stands in texts. The same words on every surface are one
prompt: mistral-common's.
"""

from __future__ import annotations

import json
from importlib import resources
from typing import Any, Final

from ollama_tools.devstral.catalog import TokenizerVersion
from ollama_tools.devstral.contract import VERBATIM

JsonObject = dict[str, Any]

_MARKED: Final = f'{VERBATIM}:{{"name": "anything"}}'
_SYSTEM: Final = "You read files.\u2028Keep to <&> and \U0001f426."
_DEVELOPER: Final = f"Never change {_MARKED}"
_PARTS: Final = ("Read both.", 'First "a.txt", then b.txt.')
_SAID: Final = "I look."
_CALLS: Final[tuple[tuple[str, JsonObject], ...]] = (
    (
        "abcdEF123",
        {
            "path": "a.txt",
            "lines": {"to": 12345678901234567890123, "from": 1.0, "at": [{"y": -0.0, "x": 1e5}]},
        },
    ),
    ("ghijKL456", {"path": "b.txt", VERBATIM: _MARKED}),
)
_RESULTS: Final = (("ghijKL456", "b\n"), ("abcdEF123", f"{_MARKED}\n\n"))
_ANSWER: Final = "Both are short."
_QUESTION: Final = "And c.txt?"
_NAME: Final = "read_file"
_DESCRIPTION: Final = f"Reads a file. {_MARKED}"
_SCHEMA: Final[JsonObject] = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "required": ["path"],
    "additionalProperties": False,
    "properties": {
        "path": {"minLength": 1, "type": "string", "default": "a.txt"},
        "lines": {
            "type": "object",
            "properties": {
                "to": {"type": "number", "maximum": 12345678901234567890123},
                "from": {"default": 1.0, "type": "number", "minimum": 1e5},
                "at": {"items": {"$ref": "#/$defs/place"}, "type": "array"},
            },
            "required": [],
        },
    },
    "$defs": {
        "place": {
            "type": "object",
            "properties": {"y": {"type": "number"}, "x": {"type": "number"}},
        }
    },
    "type": "object",
}


def session(path: str) -> JsonObject:
    """The session as a client sends it, without a model.

    Args:
        path: The surface.
    """
    match path:
        case "/api/chat":
            return _native()
        case "/v1/chat/completions":
            return _chat()
        case "/v1/responses":
            return _responses()
        case "/v1/messages":
            return _messages()
        case _:
            raise ValueError(path)


def expected_session(tokenizer: TokenizerVersion) -> str:
    """The prompt that the session must become, without its BOS token.

    Made by mistral-common, the model's own tokenizer library; the tests make it again and compare.
    """
    text = resources.files(__package__) / "prompts" / f"session-{tokenizer.value}.txt"
    # What ends a line elsewhere stands in it.
    return text.read_bytes().decode()


def _tool() -> JsonObject:
    function = {"name": _NAME, "description": _DESCRIPTION, "parameters": _SCHEMA}
    return {"type": "function", "function": function}


def _chat() -> JsonObject:
    parts = [{"type": "text", "text": each} for each in _PARTS]
    calls = [
        {"id": id_, "type": "function", "function": {"name": _NAME, "arguments": _text(arguments)}}
        for id_, arguments in _CALLS
    ]
    return _turns(parts, calls)


def _native() -> JsonObject:
    calls = [
        {"id": id_, "function": {"name": _NAME, "arguments": arguments}}
        for id_, arguments in _CALLS
    ]
    # A message has no parts here.
    return _turns("\n\n".join(_PARTS), calls)


def _turns(asked: str | list[JsonObject], calls: list[JsonObject]) -> JsonObject:
    return {
        "messages": [
            {"role": "system", "content": _SYSTEM},
            {"role": "developer", "content": _DEVELOPER},
            {"role": "user", "content": asked},
            {"role": "assistant", "content": _SAID, "tool_calls": calls},
            *({"role": "tool", "tool_call_id": id_, "content": each} for id_, each in _RESULTS),
            {"role": "assistant", "content": _ANSWER},
            {"role": "user", "content": _QUESTION},
        ],
        "tools": [_tool()],
    }


def _responses() -> JsonObject:
    parts = [{"type": "input_text", "text": each} for each in _PARTS]
    tool = {"name": _NAME, "description": _DESCRIPTION, "parameters": _SCHEMA}
    return {
        "instructions": _SYSTEM,
        "input": [
            {"role": "developer", "content": _DEVELOPER},
            {"role": "user", "content": parts},
            {"role": "assistant", "content": [{"type": "output_text", "text": _SAID}]},
            *(
                {
                    "type": "function_call",
                    "call_id": id_,
                    "name": _NAME,
                    "arguments": _text(arguments),
                }
                for id_, arguments in _CALLS
            ),
            *(
                {"type": "function_call_output", "call_id": id_, "output": each}
                for id_, each in _RESULTS
            ),
            {"role": "assistant", "content": _ANSWER},
            {"role": "user", "content": _QUESTION},
        ],
        "tools": [{"type": "function", **tool}],
    }


def _messages() -> JsonObject:
    calls = [
        {"type": "tool_use", "id": id_, "name": _NAME, "input": arguments}
        for id_, arguments in _CALLS
    ]
    results = [
        {"type": "tool_result", "tool_use_id": id_, "content": each} for id_, each in _RESULTS
    ]
    return {
        "system": [{"type": "text", "text": _SYSTEM}],
        "messages": [
            {"role": "system", "content": _DEVELOPER},
            {"role": "user", "content": [{"type": "text", "text": each} for each in _PARTS]},
            {"role": "assistant", "content": [{"type": "text", "text": _SAID}, *calls]},
            {"role": "user", "content": results},
            {"role": "assistant", "content": _ANSWER},
            {"role": "user", "content": _QUESTION},
        ],
        "tools": [{"name": _NAME, "description": _DESCRIPTION, "input_schema": _SCHEMA}],
    }


def _text(arguments: JsonObject) -> str:
    return json.dumps(arguments, ensure_ascii=False)
