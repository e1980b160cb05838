"""The gateway's quick reader and writer of JSON, beside Python's own."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ollama_tools.gateway import exact
from ollama_tools.gateway.exact import compact, read_json
from ollama_tools.json_text import DEEPEST, MalformedJson, parse_json

NUMBERS = st.one_of(
    st.integers().map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.from_regex(r"-?(0|[1-9][0-9]{0,40})(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?", fullmatch=True),
    st.sampled_from(
        [
            *("1.0", "1e3", "-0", "-0.0", "1E+2", "0e0", "5e-324", "2.4703282292062327e-324"),
            *("9007199254740993.0", "1.7976931348623157e308", "18446744073709551616"),
            *("-9223372036854775809", "1" * 300, "1" * 4300),
            # What no reader should take, or not all of them take alike.
            *("1e400", "-1e400", "1.7976931348623159e308", "1" * 309 + ".0", "1" * 4301),
            *("NaN", "Infinity", "-Infinity", "01", "1.", ".5", "+1", "1e", "0x1", "1_0"),
        ]
    ),
)
CHARACTERS = st.text(st.characters(codec=None), max_size=8)
TEXTS = st.one_of(
    CHARACTERS.map(json.dumps),
    CHARACTERS.map(lambda text: json.dumps(text, ensure_ascii=False)),
    st.sampled_from(
        [
            *('"\\ud800"', '"\\ude00\\ud83d"', '"\\ud83d\\ude00"', '"\\u0000"', '"\\/"', '"\\x"'),
            *('"\x00"', '"\x1f"', '"\x7f"', '"\\u00e9\\b"', '"\u2028\\t"', "'a'", '"'),
            *('"\u00cb\x7f"', '"\U0001f600\x00"'),
        ]
    ),
)
SPACE = st.sampled_from(["", " ", "\n\t", "\r\n", "\x0b", "\ufeff"])


def _list(parts: list[str], space: str) -> str:
    return f"[{f'{space},'.join(parts)}{space}]"


def _object(parts: list[tuple[str, str]], space: str) -> str:
    return f"{{{','.join(f'{space}{key}{space}:{value}' for key, value in parts)}}}"


DOCUMENTS = st.recursive(
    st.one_of(NUMBERS, TEXTS, st.sampled_from(["true", "false", "null", "True", ""])),
    lambda inner: st.one_of(
        st.builds(_list, st.lists(inner, max_size=4), SPACE),
        # Two of three keys are often the same, as they stand or once their escapes are read.
        st.builds(
            _object,
            st.lists(
                st.tuples(st.one_of(st.sampled_from(['"a"', '"\\u0061"', '"b"']), TEXTS), inner),
                max_size=3,
            ),
            SPACE,
        ),
    ),
    max_leaves=12,
)


def outcome(read: Any, content: str | bytes, *, strict: bool) -> tuple[str, str]:
    """What a reader says, with types, order of keys and signs of zeros."""
    try:
        return "read", repr(read(content, strict=strict))
    except MalformedJson as error:
        return "refused", str(error)


@given(DOCUMENTS, SPACE, st.booleans())
@example("1,2", "", True)
@example("1],[2", "", True)
@example("", "", True)
def test_a_text_is_read_as_python_reads_it(text: str, space: str, strict: bool) -> None:
    text = f"{space}{text}{space}"
    assert outcome(read_json, text, strict=strict) == outcome(parse_json, text, strict=strict)
    content = text.encode("utf-8", "surrogatepass")
    assert outcome(read_json, content, strict=strict) == outcome(parse_json, content, strict=strict)


@given(DOCUMENTS, st.data(), st.booleans())
def test_bytes_that_went_wrong_are_read_as_python_reads_them(
    text: str, data: st.DataObject, strict: bool
) -> None:
    content = bytearray(text.encode("utf-8", "surrogatepass"))
    at = data.draw(st.integers(0, len(content)))
    end = data.draw(st.integers(at, min(at + 2, len(content))))
    content[at:end] = data.draw(
        st.one_of(st.binary(max_size=2), st.sampled_from([b"[", b"]", b"}", b",", b"e999"]))
    )
    whole = bytes(content)
    assert outcome(read_json, whole, strict=strict) == outcome(parse_json, whole, strict=strict)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32-le"])
def test_bytes_in_another_encoding_are_read_as_python_reads_them(encoding: str) -> None:
    assert read_json('{"é": 1}'.encode(encoding), strict=True) == {"é": 1}


@pytest.mark.parametrize("depth", range(DEEPEST - 2, DEEPEST + 3))
@pytest.mark.parametrize(
    ("opened", "inside", "closed"),
    [("[", "", "]"), ("[", "1", "]"), ('{"a":', "{}", "}"), ('[{"a":', "1", "}]")],
)
def test_the_depth_has_the_same_end(depth: int, opened: str, inside: str, closed: str) -> None:
    text = opened * depth + inside + closed * depth
    assert outcome(read_json, text, strict=True) == outcome(parse_json, text, strict=True)


def test_what_clients_send_takes_the_quick_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "parse_json", lambda *_, **__: pytest.fail("the slow way"))
    content = {"a": [1.0, -7, 1e-7, True, None], "é": "\U0001f600 \\ \n", "b": {"c": [], "d": {}}}
    for text in (json.dumps(content), json.dumps(content, ensure_ascii=False, indent=1)):
        assert repr(read_json(text.encode(), strict=True)) == repr(content)


VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(st.characters(codec="utf-8")),
        st.sampled_from([1.0, -0.0, 1e16, 1e22, 2**64, -(2**63) - 1, 10**40, "\x7f\x1f\u2028"]),
    ),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(max_size=5), inner)),
    max_leaves=12,
)


@given(VALUES)
def test_what_is_written_says_the_same(value: Any) -> None:
    assert repr(json.loads(compact(value))) == repr(value)


@given(st.text(st.characters(codec="utf-8")))
def test_a_text_is_written_as_python_writes_it(text: str) -> None:
    assert compact(text) == json.dumps(text, ensure_ascii=False).encode()
