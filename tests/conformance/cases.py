"""Scripted outputs: what a model writes, and what it means by it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ollama_tools.checks.surfaces import ANSWER_TOKENS
from ollama_tools.devstral.miniature import CallForm, Output

Arguments = Mapping[str, Any]


def _tool(name: str, /, **properties: str) -> dict[str, Any]:
    return {
        "type": "function",
        "function": {
            "name": name,
            "description": f"The tool {name}.",
            "parameters": {
                "type": "object",
                "properties": {key: {"type": kind} for key, kind in properties.items()},
            },
        },
    }


TOOLS: list[dict[str, Any]] = [
    _tool("bash", cmd="string"),
    _tool("create_user", name="string", user="object"),
    _tool("get_weather", at="string", city="string"),
    _tool("search", name="string", parameters="object", query="string"),
    _tool("write_file", path="string", content="string", options="object"),
]


@dataclass(frozen=True, slots=True)
class Case:
    """One output.

    Attributes:
        name: Its name in the table.
        calls: The calls that the model means, as name and arguments.
        text: The text that it means to say beside them.
        written: What it writes where that is not the canonical form of its text and calls; by
            the form of the tokenizer's version. A form that is missing has no such case.
        offered: Whether the request offers the tools.
        tokens: How many tokens the request allows for the answer.
        apart: Whether it has a model of its own, since its tokens would slow down the others, and
            is asked streamed only: under a grammar each answer takes seconds.
    """

    name: str
    calls: tuple[tuple[str, Arguments], ...] = ()
    text: str = ""
    written: Mapping[CallForm, Output] | None = None
    offered: bool = True
    tokens: int = ANSWER_TOKENS
    apart: bool = False

    def output(self, form: CallForm) -> Output | None:
        """The pieces that the model writes, or None where a form has no such case."""
        if self.written is not None:
            return self.written.get(form)
        return canonical(self.text, self.calls, form)


def canonical(
    text: str, calls: Sequence[tuple[str, Arguments]], form: CallForm, **style: Any
) -> list[str]:
    """Text and calls as the model was trained to write them, one piece for each value."""
    pieces = [text] if text else []
    if form == "v13":
        for name, arguments in calls:
            pieces += ["[TOOL_CALLS]", name, "[ARGS]", _json(arguments, **style)]
        return pieces
    items = [
        f'{{"name": "{name}", "arguments": {_json(arguments, **style)}, "id": "abcdEF12{i}"}}'
        for i, (name, arguments) in enumerate(calls)
    ]
    return [*pieces, "[TOOL_CALLS]", "[" + ", ".join(items) + "]"] if items else pieces


def _json(value: Arguments, **style: Any) -> str:
    return json.dumps(value, **{"ensure_ascii": False, **style})


def _written(case: Case, **style: Any) -> Mapping[CallForm, Output]:
    return {form: canonical(case.text, case.calls, form, **style) for form in ("v13", "v7")}


def _bash(command: str) -> tuple[str, Arguments]:
    return "bash", {"cmd": command}


def _weather(city: str) -> tuple[str, Arguments]:
    return "get_weather", {"at": "noon", "city": city}


# No two cases write the same arguments: a piece that occurs once tells by itself how to go on.
_COMPACT = Case("", (("get_weather", {"at": "now", "city": "Rome"}),))
_ESCAPED = Case("", (("bash", {"cmd": "echo é 🙂"}),))
# llama.cpp holds a token to its grammar by one call inside the other for each of its characters:
# its stack bears 16,384 of them, and breaks at 32,768.
_BIG = "".join(f"line {number:06} of a file that is long\n" for number in range(27_000))
_BIG_PIECES = [_BIG[i : i + 8_192] for i in range(0, len(_BIG), 8_192)]

CASES: tuple[Case, ...] = (
    # What a model is trained to write
    Case("plain text", text="Hello there."),
    Case("a call", (_weather("Paris"),)),
    Case("text, then a call", (_bash("ls"),), "Let me look."),
    Case("no arguments", (("bash", {}),)),
    Case("two calls", (_bash("pwd"), _weather("Lima"))),
    Case("three calls", (_bash("date"), _weather("Bonn"), ("search", {"query": "x"}))),
    Case(
        "two calls of one tool",
        (_bash("cd a"), _bash("cd b")),
        # The second name in other pieces, or nothing would tell the two [ARGS] apart.
        written={
            "v13": [
                *("[TOOL_CALLS]", "bash", "[ARGS]", '{"cmd": "cd a"}'),
                *("[TOOL_CALLS]", "ba", "sh", "[ARGS]", '{"cmd": "cd b"}'),
            ],
            "v7": canonical("", (_bash("cd a"), _bash("cd b")), "v7"),
        },
    ),
    Case("text, then two calls", (_bash("uptime"), _weather("Kyiv")), "Both."),
    # What arguments may hold
    Case("nested objects", (("write_file", {"options": {"a": {"b": {"c": [{}, {"d": 1}]}}}}),)),
    Case("braces in a string", (("bash", {"cmd": "awk '{print $1}' f | grep '}{'"}),)),
    Case("quotes, backslashes, newlines", (("bash", {"cmd": 'printf "a\\tb\\n"\nls C:\\x'}),)),
    Case("<, > and &", (("bash", {"cmd": "a < b > c && d"}),)),
    Case("compact JSON", _COMPACT.calls, written=_written(_COMPACT, separators=(",", ":"))),
    Case(
        "JSON over several lines",
        (("get_weather", {"at": "dawn", "city": "Oslo"}),),
        written={
            "v13": [
                "[TOOL_CALLS]",
                "get_weather",
                "[ARGS]",
                '{\n  "at": "dawn",\n  "city": "Oslo"\n}',
            ],
            "v7": [
                "[TOOL_CALLS]",
                '[\n  {"name": "get_weather", "arguments": {"at": "dawn", "city": "Oslo"},'
                '\n   "id": "abcdEF123"}\n]',
            ],
        },
    ),
    Case("accents and emoji", (("bash", {"cmd": "echo 'naïve 👩‍👩‍👧 漢字 🇫🇷'"}),)),
    Case("right-to-left text", (("search", {"query": "مرحبا بالعالم שלום \u200fx"}),)),
    Case("unicode as escapes", _ESCAPED.calls, written=_written(_ESCAPED, ensure_ascii=True)),
    Case(
        "numbers, booleans, null",
        (("write_file", {"options": {"a": 1.5, "b": -7, "c": True, "d": None, "e": [1, "x"]}}),),
    ),
    Case("a float without a fraction", (("write_file", {"options": {"f": 1.0}}),)),
    Case("an integer above 2^53", (("write_file", {"options": {"n": 9007199254740993}}),)),
    Case("keys out of alphabetical order", (("write_file", {"path": "a", "content": "b"}),)),
    Case("nested keys out of order", (("write_file", {"options": {"z": 1, "a": 2}}),)),
    Case("control tokens' names in a string", (("bash", {"cmd": "echo [TOOL_CALLS]x[ARGS]{}"}),)),
    Case(
        "0.9 MiB of arguments",
        (("write_file", {"content": _BIG}),),
        written={
            "v13": [
                *("[TOOL_CALLS]", "write_file", "[ARGS]", '{"content": "'),
                *(json.dumps(piece)[1:-1] for piece in _BIG_PIECES),
                '"}',
            ],
        },
        apart=True,
    ),
    # What confuses a parser that looks for names
    Case("an argument called name", (("create_user", {"name": "bob"}),)),
    Case("a nested key called name", (("create_user", {"user": {"name": "eve"}}),)),
    Case("arguments name and parameters", (("search", {"name": "x", "parameters": {"k": 1}}),)),
    # What a model writes that strays
    Case("a tool that was not offered", (("unknown", {"cmd": "ls"}),)),
    Case("a tool whose name ends in an offered one", (("run_bash", {"cmd": "ls -l"}),)),
    Case(
        "a space before the name",
        (("bash", {"cmd": "id"}),),
        written={"v13": ["[TOOL_CALLS]", " bash", "[ARGS]", '{"cmd": "id"}']},
    ),
    Case(
        "the form with [CALL_ID]",
        (("bash", {"cmd": "df"}),),
        written={"v13": '[TOOL_CALLS]bash[CALL_ID]abcdefghi[ARGS]{"cmd": "df"}'},
    ),
    Case(
        "arguments as a string",
        (("bash", {"cmd": "du"}),),
        written={
            "v13": ["[TOOL_CALLS]", "bash", "[ARGS]", '"{\\"cmd\\": \\"du\\"}"'],
            "v7": [
                "[TOOL_CALLS]",
                '[{"name": "bash", "arguments": "{\\"cmd\\": \\"du\\"}", "id": "abcdEF123"}]',
            ],
        },
    ),
    Case(
        "the form of the other version",
        (("bash", {"cmd": "ps"}),),
        written={
            "v13": ["[TOOL_CALLS]", '[{"name": "bash", "arguments": {"cmd": "ps"}}]'],
            "v7": ["[TOOL_CALLS]", "bash", "[ARGS]", '{"cmd": "ps"}'],
        },
    ),
    Case(
        "the list form, arguments first",
        (("bash", {"cmd": "search it"}),),
        written={
            form: [
                "[TOOL_CALLS]",
                '[{"arguments": {"cmd": "search it"}, "name": "bash", "id": "abcdEF123"}]',
            ]
            for form in ("v13", "v7")
        },
    ),
    Case(
        "a call, then text",
        (("bash", {"cmd": "w"}),),
        "Done.",
        written={
            "v13": ["[TOOL_CALLS]", "bash", "[ARGS]", '{"cmd": "w"}', "Done."],
            "v7": [
                "[TOOL_CALLS]",
                '[{"name": "bash", "arguments": {"cmd": "w"}, "id": "abcdEF123"}]',
                "Done.",
            ],
        },
    ),
    Case(
        "arguments that are no JSON",
        written={
            "v13": ["[TOOL_CALLS]", "bash", "[ARGS]", "{'cmd': 'ls',}"],
            "v7": [
                "[TOOL_CALLS]",
                "[{'name': 'bash', 'arguments': {'cmd': 'ls',}, 'id': 'abcdEF123'}]",
            ],
        },
    ),
    Case(
        "cut off inside the arguments",
        written={
            "v13": ["[TOOL_CALLS]", "bash", "[ARGS]", '{"cmd": "', "find / ", "-name ", 'x"}'],
            "v7": [
                "[TOOL_CALLS]",
                '[{"name": "bash", "arguments": {"cmd": "',
                "find / ",
                "-type ",
                "f ",
                'x"}}]',
            ],
        },
        tokens=4,
    ),
    Case("a call, no tools offered", (("bash", {"cmd": "top"}),), offered=False),
    Case("text and a call, no tools offered", (("bash", {"cmd": "nl"}),), "See.", offered=False),
)
