"""JSON that cannot be read ends in one error, whatever Python's own reader makes of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ollama_tools.json_text import DEEPEST, MalformedJson, Nesting, parse_json


@pytest.mark.parametrize(("text", "value"), [('{"a": [1, null]}', {"a": [1, None]}), (b"7", 7)])
def test_json_is_read(text: str | bytes, value: Any) -> None:
    assert parse_json(text) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "line 1"),
        ('{\n"a": x}', "line 2"),
        ("[" * 100_000, "nested too deeply"),
        (b"[" * 100_000, "nested too deeply"),
        (("[" * 100_000).encode("utf-16"), "nested too deeply"),
        ("[" * (DEEPEST + 1) + "]" * (DEEPEST + 1), "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ("1" * 10_000, "digits"),
        (b"\xff\xfe\xff", "decode"),
    ],
)
def test_what_cannot_be_read_is_malformed(text: str | bytes, reason: str) -> None:
    with pytest.raises(MalformedJson, match=reason) as caught:
        parse_json(text)
    assert "\n" not in str(caught.value)


class PurePython(json.JSONDecoder):
    """Python's other reader, which stands in where the one in C is missing."""

    def __init__(self) -> None:
        super().__init__()
        self.parse_object = json.decoder.JSONObject  # type: ignore[attr-defined] # not in its stubs
        self.scan_once = json.scanner.py_make_scanner(self)  # type: ignore[attr-defined] # nor this


@pytest.mark.parametrize("reader", [json.JSONDecoder, PurePython])
def test_what_is_as_deep_as_may_be_is_read_by_both_readers_of_python(
    reader: type[json.JSONDecoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("json._default_decoder", reader())
    for opened, inside, closed in (("[", "", "]"), ('{"a":', "1", "}")):
        depth = 0
        value = parse_json(opened * DEEPEST + inside + closed * DEEPEST)
        while isinstance(value, list | dict):
            value = next(iter(value.values() if isinstance(value, dict) else value), None)
            depth += 1
        assert depth == DEEPEST


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_what_stands_in_a_text_opens_nothing_however_it_is_cut(size: int) -> None:
    inside = json.dumps(["[{" * DEEPEST, '\\"[' * DEEPEST, "\\", {"{": "}"}]).encode()
    whole = b",".join([inside] * 3)
    nesting = Nesting()
    for at in range(0, len(whole), size):
        nesting.feed(whole[at : at + size])
    with pytest.raises(MalformedJson, match="nested too deeply"):
        nesting.feed(b"[" * (DEEPEST + 1))
