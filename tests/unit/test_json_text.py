"""JSON that cannot be read ends in one error, whatever Python's own reader makes of it."""

from __future__ import annotations

from typing import Any

import pytest

from ollama_tools.json_text import MalformedJson, parse_json


@pytest.mark.parametrize(("text", "value"), [('{"a": [1, null]}', {"a": [1, None]}), (b"7", 7)])
def test_json_is_read(text: str | bytes, value: Any) -> None:
    assert parse_json(text) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "line 1"),
        ('{\n"a": x}', "line 2"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ("1" * 10_000, "digits"),
        (b"\xff\xfe\xff", "decode"),
    ],
)
def test_what_cannot_be_read_is_malformed(text: str | bytes, reason: str) -> None:
    with pytest.raises(MalformedJson, match=reason) as caught:
        parse_json(text)
    assert "\n" not in str(caught.value)
