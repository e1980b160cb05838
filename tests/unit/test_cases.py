"""How the checks compare two prompts."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_tools.devstral.catalog import TokenizerVersion
from ollama_tools.lint import cases

V13 = cases.expected_prompt(TokenizerVersion.V13)


def test_equal_prompts_have_no_difference_with_or_without_bos() -> None:
    assert cases.compare_prompts(V13, V13) == ""
    assert cases.compare_prompts(V13, f"<s>{V13}") == ""


def test_a_second_bos_is_a_difference() -> None:
    assert cases.compare_prompts(V13, f"<s><s>{V13}").startswith("at character 0: ")


@pytest.mark.parametrize(
    ("expected", "found", "at"),
    [("abc", "abd", 2), ("abc", "ab", 2), ("ab", "abc", 2), ("", "a", 0), ("a", "", 0)],
)
def test_the_difference_names_its_place(expected: str, found: str, at: int) -> None:
    assert cases.compare_prompts(expected, found).startswith(f"at character {at}: ")


@given(st.text(), st.text())
def test_any_two_prompts_differ_in_one_line_or_not_at_all(expected: str, found: str) -> None:
    difference = cases.compare_prompts(expected, found)
    assert (difference == "") == (found.removeprefix("<s>") == expected)
    assert len(difference.splitlines()) <= 1


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)


def reverse(value: object) -> object:
    """The same value with the keys of every object in reverse."""
    if isinstance(value, dict):
        return {key: reverse(value[key]) for key in reversed(value)}
    return [reverse(each) for each in value] if isinstance(value, list) else value


@given(
    st.dictionaries(st.text(max_size=8), VALUES, max_size=4),
    st.sampled_from(["ARGS", "AVAILABLE_TOOLS"]),
)
def test_the_order_of_keys_is_forgiven(value: dict[str, object], token: str) -> None:
    prompts = [f"[INST]x[/INST][{token}]{json.dumps(each)}</s>" for each in (value, reverse(value))]
    assert cases.same_but_for_key_order(*prompts)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('[ARGS]{"a": 1}', '[ARGS]{"a": 2}'),
        ('[ARGS]{"a": 1}', '[ARGS]{"a": 1, "b": 2}'),
        ('[ARGS]{"a": 1}x', '[ARGS]{"a": 1}y'),
        ('[ARGS]{"a": 1', '[ARGS]{"a": 2'),
        ('[INST]{"a": 1, "b": 2}', '[INST]{"b": 2, "a": 1}'),
        ('[AVAILABLE_TOOLS][{"a": 1}]', "[AVAILABLE_TOOLS][]"),
        ("x[ARGS]{}", "y[ARGS]{}"),
    ],
)
def test_nothing_else_is_forgiven(one: str, other: str) -> None:
    assert not cases.same_but_for_key_order(one, other)


def test_a_control_token_inside_a_json_text_does_not_end_it() -> None:
    one = '[ARGS]{"a": "[ARGS]{}", "b": 1}</s>'
    other = '[ARGS]{"b": 1, "a": "[ARGS]{}"}</s>'
    assert cases.same_but_for_key_order(one, other)


def test_the_conversation_stays_inside_what_every_carrier_carries() -> None:
    ids = [call["id"] for message in cases.CONVERSATION for call in message.get("tool_calls", ())]
    assert ids == [each["tool_call_id"] for each in cases.CONVERSATION if each["role"] == "tool"]
    assert all(len(each) == 9 and each.isalnum() for each in ids)
    properties = cases.TOOLS[0]["function"]["parameters"]["properties"]
    assert list(properties) == sorted(properties)
