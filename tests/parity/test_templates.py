"""What the templates have in common, and what they must not be confused by."""

from __future__ import annotations

import json
import re

import pytest
from jinja2 import Environment

from ollama_tools.devstral.carriers import Carrier, jinja_source, jinja_template
from ollama_tools.devstral.catalog import TokenizerVersion
from ollama_tools.lint import cases
from ollama_tools.server.client import Server
from tests.parity.conversation import Conversation, from_openai
from tests.parity.places import Place, render_live

SHARED = ("text", "number", "json", "available", "given")


def macros(version: TokenizerVersion) -> dict[str, str]:
    found = re.findall(
        r"\{%- macro (\w+)\(.*?\{%- endmacro -%\}", jinja_source(version), flags=re.DOTALL
    )
    bodies = re.findall(
        r"\{%- macro \w+\(.*?\{%- endmacro -%\}", jinja_source(version), flags=re.DOTALL
    )
    return dict(zip(found, bodies, strict=True))


def test_jinja_has_no_includes_so_both_templates_hold_the_same_macros() -> None:
    v7, v13 = (macros(version) for version in TokenizerVersion)
    assert {name: v7[name] for name in SHARED} == {name: v13[name] for name in SHARED}
    assert set(v13) == {*SHARED, "results", "said"}
    assert set(v7) == {*SHARED, "nine", "results", "said"}


@pytest.mark.parametrize("version", list(TokenizerVersion))
def test_a_template_starts_and_ends_without_a_newline_of_its_own(version: TokenizerVersion) -> None:
    template = jinja_source(version)
    assert template.startswith("{#-")
    assert template.endswith("-%}")


@pytest.mark.parametrize("version", list(TokenizerVersion))
def test_what_goes_into_a_file_is_what_people_read_without_what_only_they_read(
    version: TokenizerVersion,
) -> None:
    def instructions(text: str) -> list[tuple[str, str]]:
        return [
            (kind, value.strip())
            for _, kind, value in Environment(autoescape=True).lex(text)
            if kind not in ("whitespace", "comment", "comment_begin", "comment_end")
            and not (kind == "data" and not value.strip())
        ]

    inside = jinja_template(version)
    assert instructions(inside) == instructions(jinja_source(version))
    # A tag that leaves the blanks beside it leaves their line ends as well.
    assert "{#" not in inside
    assert "\n" not in inside


def test_llama_cpp_must_take_v13_for_what_constrains_calls_by_grammar() -> None:
    template = jinja_template(TokenizerVersion.V13)
    # These words, and the absence of the last, choose its handler of Mistral's v13 calls.
    assert all(word in template for word in ("[SYSTEM_PROMPT]", "[TOOL_CALLS]", "[ARGS]"))
    assert "[CALL_ID]" not in template


@pytest.mark.xdist_group("parity")
@pytest.mark.parametrize("carrier", [Carrier.GGUF, Carrier.MODELFILE])
@pytest.mark.parametrize("version", list(TokenizerVersion))
def test_the_conversation_of_the_checks_is_right_in_every_place(
    newest: Server, carrier: Carrier, version: TokenizerVersion
) -> None:
    asked = from_openai({"messages": cases.CONVERSATION, "tools": cases.TOOLS})
    rendered = render_live(newest, Place(carrier, version), asked)
    assert rendered == cases.expected_prompt(version)


@pytest.mark.xdist_group("parity")
@pytest.mark.parametrize("version", list(TokenizerVersion))
def test_a_megabyte_of_arguments_is_written_as_it_is(
    newest: Server, version: TokenizerVersion
) -> None:
    for text in ("plain text\n", '<a href="b">&c</a>\n', "全角\u3000と\u00a0\n", "\x1b[31m<b>\n"):
        content = text * (1_000_000 // len(text) // (50 if "\x1b" in text else 1))
        function = {"name": "write", "arguments": {"content": content}}
        call = {"id": "abcdEF123", "type": "function", "function": function}
        asked = Conversation(
            [
                {"role": "user", "content": "Go."},
                {"role": "assistant", "content": "", "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "abcdEF123", "content": "ok"},
            ],
            [],
        )
        written = json.dumps({"content": content}, ensure_ascii=False)
        for carrier in (Carrier.GGUF, Carrier.MODELFILE):
            assert written in render_live(newest, Place(carrier, version), asked)
