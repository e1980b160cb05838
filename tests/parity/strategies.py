"""Sessions as agents have them, made up by hypothesis."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from ollama_tools.devstral.carriers import CONTROL_TOKENS
from tests.parity.conversation import Conversation, Message, Tool

_CODE = (
    "def f(x: int) -> dict[str, int]:\n    return {'a': x}\n",
    'if (a < b && c > d) { printf("%s\\n", "<&>"); }',
    '{"name": "x", "arguments": {"a": [1, 2]}}',
    '<div class="a">&nbsp;<!-- é --></div>\r\n',
    "C:\\Users\\ü\\new.txt",
    "SELECT \"a\" FROM t WHERE b = 'c';  ",
    "\x1b[31mred\x1b[0m\a\v\f\b\x7f",
    "日本語\u3000全角 “quoted” \u00a0\u200b\ufeff\u00ad",
    "line\u2028separator\u2029s",
    "👨\u200d👩\u200d👧 🏴\U000e0067\U000e007f",
    "{{ .Content }} {%- raw -%} ${x} $1 %s %d",
)


IMAGE = {
    "type": "image_url",
    # One transparent dot.
    "image_url": {
        "url": "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4"
        "2mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    },
}


def _no_control_token(text: str) -> bool:
    # Text that is a control token becomes one on any server; the reference keeps it as text.
    return not any(token in text for token in CONTROL_TOKENS)


# Surrogates are no text; the other two stand for something else in a predicate.
_letters = st.characters(exclude_categories=["Cs"], exclude_characters="\ue028\ue029")
_words = st.text(_letters, max_size=20)
_texts = st.one_of(
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40),
    _words,
    st.sampled_from(_CODE),
    st.tuples(_words, st.sampled_from(_CODE)).map("".join),
    st.tuples(st.sampled_from(_CODE), st.sampled_from(_CODE), st.integers(1, 30)).map(
        lambda three: (three[0] + three[1]) * three[2]
    ),
).filter(_no_control_token)
_said = _texts.filter(lambda text: text.strip(" \n") != "")
_names = st.text("abcXYZ019_-", min_size=1, max_size=12)
_keys = st.one_of(_names, _words.filter(_no_control_token))

_numbers = st.one_of(
    st.integers(-(2**70), 2**70),
    st.integers(-1000, 1000),
    # Subnormal floats have fewer digits than the six that llama.cpp writes of them.
    st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False),
    st.decimals(-1000, 1000, places=6).map(float),
    # Minus zero is nothing that a model writes, and each engine writes it in its own way.
).map(lambda number: number or 0)
_scalars = st.one_of(st.none(), st.booleans(), _numbers, _texts)


# Made once: hypothesis takes longer to make a strategy than to draw from it.
_values: st.SearchStrategy[Any] = st.recursive(
    _scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_keys, inner, max_size=3)),
    max_leaves=6,
)
_arguments: st.SearchStrategy[dict[str, Any]] = st.dictionaries(_keys, _values, max_size=4)
_kinds = st.sampled_from(["string", "integer", "number", "boolean"])
_enums = st.lists(_texts, max_size=3, unique=True, min_size=1)
_dropped = st.dictionaries(
    st.sampled_from(["default", "title", "x-note"]), st.just("x"), max_size=2
)


@st.composite
def _in_any_order(draw: st.DrawFn, schema: dict[str, Any]) -> dict[str, Any]:
    keys = draw(st.permutations(list(schema)))
    return {key: schema[key] for key in keys}


@st.composite
def _leaves(draw: st.DrawFn) -> dict[str, Any]:
    """A schema without others inside it, with keywords that survive and some that do not."""
    kind = draw(_kinds)
    schema: dict[str, Any] = {"type": kind if draw(st.booleans()) else [kind, "null"]}
    if draw(st.booleans()):
        schema["description"] = draw(_texts)
    if kind == "string" and draw(st.booleans()):
        schema["enum"] = draw(_enums)
    return draw(_in_any_order(schema | draw(_dropped)))


@st.composite
def _objects(draw: st.DrawFn, inner: st.SearchStrategy[dict[str, Any]]) -> dict[str, Any]:
    properties = draw(st.dictionaries(_names, inner, max_size=4))
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    if draw(st.booleans()):
        schema["required"] = draw(st.lists(st.sampled_from([*properties] or ["x"]), unique=True))
    if draw(st.booleans()):
        schema["additionalProperties"] = False
    if draw(st.booleans()):
        schema["description"] = draw(_texts)
    return draw(_in_any_order(schema))


@st.composite
def _arrays(draw: st.DrawFn, inner: st.SearchStrategy[dict[str, Any]]) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "array", "items": draw(inner)}
    if draw(st.booleans()):
        schema["description"] = draw(_texts)
    if draw(st.booleans()):
        schema["minItems"] = 1
    return draw(_in_any_order(schema))


def _choices(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.lists(inner, min_size=1, max_size=3).map(lambda several: {"anyOf": several})


_schemas: st.SearchStrategy[dict[str, Any]] = st.recursive(
    _leaves(),
    lambda inner: st.one_of(_objects(inner), _arrays(inner), _choices(inner)),
    max_leaves=5,
)
_parameters = _objects(_schemas)
_tool_names = st.lists(_names, max_size=4, unique=True)


@st.composite
def _tools(draw: st.DrawFn) -> list[Tool]:
    names = draw(_tool_names)
    tools = []
    for name in names:
        function: dict[str, Any] = {"name": name}
        if draw(st.booleans()):
            function["description"] = draw(_texts)
        function["parameters"] = draw(_parameters)
        tools.append({"type": "function", "function": function})
    return tools


_call_ids = st.lists(
    st.text("abcXYZ019", min_size=9, max_size=9), min_size=1, max_size=4, unique=True
)
_contents = st.one_of(
    _texts,
    st.lists(_said, min_size=1, max_size=3).map(
        lambda several: [{"type": "text", "text": each} for each in several]
    ),
)
_beside_calls = st.one_of(st.just(""), st.none(), _texts)
_shown = st.lists(
    st.one_of(st.just(IMAGE), _said.map(lambda each: {"type": "text", "text": each})),
    min_size=1,
    max_size=3,
)
_one_in_ten = st.integers(0, 9).map(lambda number: number == 0)


@st.composite
def _work(draw: st.DrawFn) -> list[Message]:
    """Calls, and their results in the order in which they came."""
    ids = draw(_call_ids)
    calls = [
        {
            "id": each,
            "type": "function",
            "function": {"name": draw(_names), "arguments": draw(_arguments)},
        }
        for each in ids
    ]
    content = draw(_beside_calls)
    results = [
        {"role": "tool", "tool_call_id": each, "content": draw(_contents)}
        for each in draw(st.permutations(ids))
    ]
    return [{"role": "assistant", "content": content, "tool_calls": calls}, *results]


_turn = _work()
_all_tools = _tools()
_system_roles = st.sampled_from(["system", "developer"])


@st.composite
def sessions(draw: st.DrawFn) -> Conversation:
    """A session: system prompts, turns with calls, and at its end what the model is to answer."""
    messages: list[Message] = [
        {"role": draw(_system_roles), "content": draw(_texts)}
        for _ in range(draw(st.integers(0, 2)))
    ]
    shows = draw(_one_in_ten)
    for turn in range(turns := draw(st.integers(1, 4))):
        asked = _shown if shows and draw(st.booleans()) else _contents
        messages += [
            {"role": "user", "content": draw(asked)} for _ in range(draw(st.integers(1, 2)))
        ]
        for _ in range(draw(st.integers(0, 3))):
            messages += draw(_turn)
            if draw(_one_in_ten):
                messages.append({"role": "system", "content": draw(_texts)})
        if turn < turns - 1:
            messages.append({"role": "assistant", "content": draw(_said)})
    if draw(_one_in_ten) and messages[-1]["role"] in ("user", "tool"):
        messages.append({"role": "assistant", "content": draw(_said)})
    return Conversation(messages, draw(_all_tools))
