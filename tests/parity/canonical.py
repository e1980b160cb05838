"""The canonical conversations: one for each thing that a template can get wrong.

``python -m tests.parity.canonical`` writes them anew as golden files, with the prompts that
mistral-common makes of them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ollama_tools.devstral.catalog import TokenizerVersion
from tests.parity.conversation import Body, Message, Tool, from_openai
from tests.parity.reference import reference

DIRECTORY = Path(__file__).parent / "canonical"

_ID = "abcdEF123"
_OTHER_ID = "ghijKL456"


def _user(content: object) -> Message:
    return {"role": "user", "content": content}


def _system(content: str) -> Message:
    return {"role": "system", "content": content}


def _assistant(content: object, *calls: dict[str, Any]) -> Message:
    message: Message = {"role": "assistant", "content": content}
    return {**message, "tool_calls": list(calls)} if calls else message


def _call(name: str, arguments: object, call_id: str = _ID) -> dict[str, Any]:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": text}}


def _result(content: object, call_id: str = _ID) -> Message:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def _tool(name: str, description: str, parameters: dict[str, Any]) -> Tool:
    function = {"name": name, "description": description, "parameters": parameters}
    return {"type": "function", "function": function}


_WEATHER = _tool(
    "get_weather",
    "Get the current weather",
    {
        "type": "object",
        "properties": {
            "location": {"type": "string", "description": "City"},
            "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
        },
        "required": ["location"],
    },
)
_WRITE = _tool(
    "write_file",
    "Write a file",
    {
        "type": "object",
        "properties": {"content": {"type": "string"}, "path": {"type": "string"}},
        "required": ["path", "content"],
    },
)
_NESTED = _tool(
    "edit",
    "Change files",
    {
        "type": "object",
        "properties": {
            "path": {"type": "string", "description": "Relative to the root"},
            "changes": {
                "type": "array",
                "items": {"properties": {"line": {"type": "integer"}}, "type": "object"},
                "description": "In order",
            },
            "mode": {"type": "string", "description": "How", "enum": ["patch", "whole"]},
            "owner": {
                "type": "object",
                "properties": {"name": {"type": "string"}, "id": {"type": ["integer", "null"]}},
                "required": ["name"],
            },
            "limit": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None},
        },
        "required": ["path", "changes"],
        "additionalProperties": False,
    },
)
_CHARACTERS = (
    'é 日本\u3000語 👨\u200d👩\u200d👧 "quoted" back\\slash\ttab\nline <b>&amp;</b> {braces}'
    " nbsp:\u00a0 esc:\x1b[0m"
)

_PARALLEL = _assistant(
    "",
    _call("get_weather", {"location": "Paris"}, _ID),
    _call("get_weather", {"unit": "celsius", "location": "Rome"}, _OTHER_ID),
)

CASES: dict[str, Body] = {
    "user": {"messages": [_user("Hi")]},
    "system": {"messages": [_system("Be brief."), _user("Hi")]},
    "multi-turn": {
        "messages": [
            _user("U1"),
            _assistant("A1"),
            _user("U2"),
            _assistant("A2"),
            _user("U3"),
        ]
    },
    "tools": {
        "messages": [_system("S"), _user("U1"), _assistant("A1"), _user("U2")],
        "tools": [_WEATHER, _WRITE],
    },
    "call-and-result": {
        "messages": [
            _user("Weather?"),
            _assistant(
                "", _call("get_weather", {"location": "Paris", "unit": "celsius", "when": [1, 2.5]})
            ),
            _result("20"),
        ],
        "tools": [_WEATHER],
    },
    "compact-arguments": {
        "messages": [
            _user("Weather?"),
            _assistant("", _call("get_weather", '{"unit":"celsius","location":"Paris"}')),
            _result('{"temperature":20}'),
        ],
        "tools": [_WEATHER],
    },
    "text-and-call": {
        "messages": [
            _user("Weather?"),
            _assistant("Let me look.", _call("get_weather", {"location": "Paris"})),
            _result("20"),
        ],
        "tools": [_WEATHER],
    },
    "parallel-results-in-order": {
        "messages": [
            _user("Both?"),
            _assistant(
                "",
                _call("get_weather", {"location": "Paris"}, _ID),
                _call("get_weather", {"location": "Rome"}, _OTHER_ID),
            ),
            _result("20", _ID),
            _result("30", _OTHER_ID),
        ],
        "tools": [_WEATHER],
    },
    "parallel-results-out-of-order": {
        "messages": [
            _user("Both?"),
            _PARALLEL,
            _result("30", _OTHER_ID),
            _result("20", _ID),
            _assistant("Rome."),
            _user("Sure?"),
        ],
        "tools": [_WEATHER],
    },
    "two-systems": {"messages": [_system("S1"), _system("S2"), _user("Hi")]},
    "two-users": {"messages": [_user("U1"), _user("U2"), _assistant("A"), _user("U3")]},
    "prefix": {"messages": [_user("Shall I?"), _assistant("Sure,")]},
    "trailing-spaces": {
        "messages": [_system(" S  "), _user(" U "), _assistant(" A   "), _user("U\n")]
    },
    "characters": {
        "messages": [
            _system(_CHARACTERS),
            _user(_CHARACTERS),
            _assistant(
                _CHARACTERS,
                _call("write_file", {"content": _CHARACTERS, "path": "ü/<a>&b.txt"}),
            ),
            _result(_CHARACTERS),
        ],
        "tools": [_WRITE],
    },
    "nested-schemas": {"messages": [_user("Edit.")], "tools": [_NESTED]},
    "empty-arguments": {
        "messages": [_user("Go."), _assistant("", _call("get_weather", {})), _result("")],
        "tools": [_WEATHER],
    },
    "whole-floats": {
        "messages": [
            _user("Scale."),
            _assistant("", _call("scale", {"by": 1.0, "from": [2.5, 1e16, 1e-07, 48.856613]})),
            _result("ok"),
        ],
    },
    "big-integers": {
        "messages": [
            _user("Count."),
            _assistant("", _call("count", {"id": 9007199254740993, "to": 12345678901234567890})),
            _result("ok"),
        ],
    },
    "null-content": {
        "messages": [
            _user("Weather?"),
            _assistant(None, _call("get_weather", {"location": "Paris"})),
            _result("20"),
        ],
        "tools": [_WEATHER],
    },
    "list-content": {
        "messages": [
            _user([{"type": "text", "text": "One"}, {"type": "text", "text": "Two"}]),
            _assistant("", _call("get_weather", {"location": "Paris"})),
            _result([{"type": "text", "text": "20"}, {"type": "text", "text": "sunny"}]),
        ],
        "tools": [_WEATHER],
    },
    "bare-tools": {
        "messages": [_user("Hi")],
        "tools": [
            {"type": "function", "function": {"name": "stop"}},
            {"type": "function", "function": {"name": "pause", "description": "Wait"}},
            _tool("go", "", {"type": "object", "properties": {}}),
        ],
    },
    "second-turn-after-tools": {
        "messages": [
            _system("S"),
            _user("Weather?"),
            _assistant("", _call("get_weather", {"location": "Paris"})),
            _result("20"),
            _assistant("It is 20."),
            _user("And Rome?"),
            _assistant("", _call("get_weather", {"location": "Rome"}, _OTHER_ID)),
            _result("30", _OTHER_ID),
        ],
        "tools": [_WEATHER],
    },
    "developer": {
        "messages": [{"role": "developer", "content": "Be brief."}, _user("Hi")],
        "tools": [_WEATHER],
    },
    "system-after-tool": {
        "messages": [
            _system("S"),
            _user("Weather?"),
            _assistant("", _call("get_weather", {"location": "Paris"})),
            _result("20"),
            _system("Time is short."),
        ],
        "tools": [_WEATHER],
    },
}


def golden(version: TokenizerVersion, name: str) -> str:
    """What the golden file of a conversation says."""
    request = CASES[name]
    prompt = reference(version, from_openai(request)).text
    return json.dumps({"request": request, "prompt": prompt}, indent=1, ensure_ascii=False) + "\n"


def path(version: TokenizerVersion, name: str) -> Path:
    """Where it lies."""
    return DIRECTORY / version.value / f"{name}.json"


def main() -> None:
    """Writes all golden files."""
    for version in TokenizerVersion:
        for name in CASES:
            file = path(version, name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(golden(version, name), encoding="utf-8")


if __name__ == "__main__":
    main()
