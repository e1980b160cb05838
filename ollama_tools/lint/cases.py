"""What the checks ask, in the form of the OpenAI chat API, and the prompt it must become."""

from __future__ import annotations

import json
import re
from importlib import resources
from typing import Any

from ollama_tools.devstral.catalog import TokenizerVersion

Message = dict[str, Any]

TOOL = "get_current_weather"
CITY = "Paris"
RESULT = "20 degrees and sunny"

# Properties in alphabetical order, because the Go path sorts them; and only one is required, so
# that a grammar lets a model write them in either order.
TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": TOOL,
            "description": "Get the current weather in a city.",
            "parameters": {
                "type": "object",
                "properties": {
                    "at": {"type": "string", "description": "Time of day, as noon."},
                    "city": {"type": "string", "description": "Name of the city."},
                },
                "required": ["city"],
            },
        },
    }
]

QUESTION: list[Message] = [
    {"role": "system", "content": "You answer questions about the weather. Use the tool."},
    {"role": "user", "content": f"What is the weather in {CITY} at noon?"},
]

CONVERSATION: list[Message] = [
    *QUESTION,
    {
        "role": "assistant",
        "content": "Let me look.",
        "tool_calls": [
            {
                "id": "abcdEF123",
                "type": "function",
                "function": {
                    "name": TOOL,
                    "arguments": json.dumps({"at": "noon", "city": "São <Paulo> & Paris"}),
                },
            }
        ],
    },
    {"role": "tool", "tool_call_id": "abcdEF123", "name": TOOL, "content": RESULT},
    {"role": "assistant", "content": "It is sunny."},
    {"role": "user", "content": "And tomorrow?"},
]
"""A session as an agent has it: system prompt, tools, text with a call, its result, a second turn.

It stays inside what every carrier can carry, so that a difference is always a fault."""


SUMMARY: list[Message] = [*CONVERSATION[:-1], {"role": "user", "content": "Sum up what was said."}]
"""What an agent asks when it shortens a session or gives it a title: it offers no tools, though
calls stand in it."""

TWO_CITIES: list[Message] = [
    QUESTION[0],
    {
        "role": "user",
        "content": f"What is the weather in {CITY} and in Rome? Ask for both at once.",
    },
]


def native(message: Message) -> Message:
    """A message as ``/api/chat`` takes it: arguments as an object, ids kept."""
    if "tool_calls" not in message:
        return message
    return {
        **message,
        "tool_calls": [
            {
                "id": call["id"],
                "function": {
                    "name": call["function"]["name"],
                    "arguments": json.loads(call["function"]["arguments"]),
                },
            }
            for call in message["tool_calls"]
        ],
    }


def expected_prompt(tokenizer: TokenizerVersion) -> str:
    """The prompt of :data:`CONVERSATION` with :data:`TOOLS`, without its BOS token.

    Made by mistral-common, the model's own tokenizer library; the tests make it again and compare.
    """
    text = resources.files(__package__) / "prompts" / f"{tokenizer.value}.txt"
    return text.read_text(encoding="utf-8")


def compare_prompts(expected: str, found: str) -> str:
    """How two prompts differ: empty where they are the same, else one line.

    A leading ``<s>`` is the tokenizer's business and is left out; how often it really stands in
    the prompt is counted in tokens, by another check.
    """
    found = found.removeprefix("<s>")
    if found == expected:
        return ""
    at = next(
        (i for i, (a, b) in enumerate(zip(expected, found, strict=False)) if a != b),
        min(len(expected), len(found)),
    )
    start = max(0, at - 20)
    return (
        f"at character {at}: expected …{expected[start : at + 40]!r}, "
        f"found …{found[start : at + 40]!r}"
    )


def same_but_for_key_order(expected: str, found: str) -> bool:
    """Whether two prompts differ in nothing but the order of keys inside their JSON."""
    return _sorted_json(expected) == _sorted_json(found.removeprefix("<s>"))


def _sorted_json(prompt: str) -> str:
    decoder = json.JSONDecoder()
    parts: list[str] = []
    at = 0
    for match in re.finditer(r"\[(?:AVAILABLE_TOOLS|ARGS|TOOL_CALLS)\](?=[\[{])", prompt):
        if match.end() < at:
            continue
        try:
            value, end = decoder.raw_decode(prompt, match.end())
        except ValueError:
            continue
        parts += [prompt[at : match.end()], json.dumps(value, sort_keys=True)]
        at = end
    return "".join([*parts, prompt[at:]])
