"""What the templates have in common, and what they must not be confused by."""

from __future__ import annotations

import re

import pytest

from ollama_tools.catalog import TokenizerVersion
from tests.parity.places import jinja_template

SHARED = ("text", "role", "number", "json", "available")


def macros(version: TokenizerVersion) -> dict[str, str]:
    found = re.findall(
        r"\{%- macro (\w+)\(.*?\{%- endmacro -%\}", jinja_template(version), flags=re.DOTALL
    )
    bodies = re.findall(
        r"\{%- macro \w+\(.*?\{%- endmacro -%\}", jinja_template(version), flags=re.DOTALL
    )
    return dict(zip(found, bodies, strict=True))


def test_jinja_has_no_includes_so_both_templates_hold_the_same_macros() -> None:
    v7, v13 = (macros(version) for version in TokenizerVersion)
    assert {name: v7[name] for name in SHARED} == {name: v13[name] for name in SHARED}
    assert set(v13) == {*SHARED, "results"}
    assert set(v7) == {*SHARED, "nine", "results"}


@pytest.mark.parametrize("version", list(TokenizerVersion))
def test_a_template_starts_and_ends_without_a_newline_of_its_own(version: TokenizerVersion) -> None:
    template = jinja_template(version)
    assert template.startswith("{#-")
    assert template.rstrip("\n").endswith("-%}")


def test_llama_cpp_must_take_v13_for_what_constrains_calls_by_grammar() -> None:
    template = jinja_template(TokenizerVersion.V13)
    # These words, and the absence of the last, choose its handler of Mistral's v13 calls.
    assert all(word in template for word in ("[SYSTEM_PROMPT]", "[TOOL_CALLS]", "[ARGS]"))
    assert "[CALL_ID]" not in template
