"""What is shown moves no cursor and tells no password."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_tools.errors import DevstralError, UsageError
from ollama_tools.safe_text import printable, printable_json, without_secrets

CONTROLS = [chr(each) for each in (*range(0x20), *range(0x7F, 0xA0))]
TURNING = list("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
BREAKING = ["\u2028", "\u2029", "\ufeff", "\u200b", "\ud800", "\udcff"]


@pytest.mark.parametrize("each", [*CONTROLS, *TURNING, *BREAKING])
def test_no_control_character_is_shown_as_it_is(each: str) -> None:
    assert printable(f"a{each}b").isprintable()
    assert each not in printable(f"a{each}b")
    document = printable_json(json.dumps({"a": f"x{each}y"}, ensure_ascii=False))
    assert document.isprintable()
    assert json.loads(document) == {"a": f"x{each}y"}


@given(st.text())
def test_any_text_becomes_one_that_can_be_shown(text: str) -> None:
    assert printable(text).isprintable()
    kept = printable(text, but="\n\t")
    assert all(each in "\n\t" or unicodedata.category(each)[0] != "C" for each in kept)
    document = printable_json(json.dumps([text], ensure_ascii=False, indent=2))
    assert json.loads(document) == [text]


def test_what_can_be_read_stays() -> None:
    assert printable("Größe 模型 ✓ 'quoted'") == "Größe 模型 ✓ 'quoted'"


SECRET = "s3cr+t"


@pytest.mark.parametrize(
    "text",
    [
        "ftp://user:{}@h",
        "http://user:{}@h:11434/v1",
        "https://user:{}@h",
        "HTTP://user:{}@h",
        "http://:{}@h",
        "http://{}@h",
        "http://user%3A{}@h",
        "http:/user:{}@h",
        "http//user:{}@h",
        "http:user:{}@h",
        "http:///user:{}@h",
        "//user:{}@h",
        "://user:{}@h",
        "user:{}@h",
        "user:{}@h:11434",
        "user%3a{}@h",
        ":{}@h",
        "user:{}@",
        "http://user:{}@",
        "user:{}@[::1]:11434",
        "http://user:{}@[fd00::5",
        "http://user:pass/{}@h",
        "http://user:pass@{}@h",
        "http://user:pass#{}@h",
        "http://user:pass?{}@h",
        "http://user:{}",
        "http://user:{}@hf.co/me/model:Q4_K_M",
        "hf.co/user:{}@h/me/model",
        "user:{}@hf.co/me/model:Q4_K_M@sha256:" + "5f" * 32,
        "--registry=http://user:{}@h",
        "http://http://user:{}@h",
        "socks5://user:{}@h:1080",
        "tcp+tls://user:{}@h",
        "user:{}\\@h",
    ],
)
@pytest.mark.parametrize(
    "words",
    [
        "{!r} is not an address of a server",
        "{} names no model",
        "cannot reach {}: refused",
        "({})",
        "a='{}'",
        'asked "{}"',
        "see <{}>",
        "{} and {}",
    ],
)
def test_a_password_is_never_printed_back(text: str, words: str) -> None:
    typed = text.format(SECRET)
    said = without_secrets(words.format(typed, typed))
    assert SECRET not in said
    assert "***" in said
    for error in (
        UsageError(words.format(typed, typed)),
        DevstralError("x", words.format(typed, typed)),
    ):
        assert SECRET not in str(error)
        assert SECRET not in repr(error)


@pytest.mark.parametrize(
    "typed", ["http://user:two w+rds@h", "user:two w+rds@h", "user:it's w+rds@h", 'u:"w+rds@h']
)
def test_a_quoted_password_may_have_spaces_and_quotes(typed: str) -> None:
    assert "w+rds" not in without_secrets(f"{typed!r} is not an address")


@pytest.mark.parametrize(
    "text",
    [
        "http://gpu1:11434/v1 answers",
        "'http://gpu1' is not Ollama",
        "http://[fd00::5]:11434, then",
        "http://::1",
        "http://fd00::5",
        "hf.co/unsloth/Devstral-Small-2507-GGUF:Q8_0",
        "hf.co/me/tune@0123abc:My-Own-Quant",
        "https://hf.co/me/tune@v1:Q4_0",
        "hf.co/me/tune@0123abc has no GGUF",
        "2505:Q4_K_M@sha256:" + "5f" * 32,
        "127.0.0.1:5000/me/model:tag@sha256:" + "5f" * 32,
        "write to me@example.org, or see: them@example.org",
        "git@github.com",
        "warning: a b@c",
        "the parameter stop: '@' is none",
        "C:\\Users\\me\\x.gguf",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert without_secrets(text) == text


def test_a_token_of_the_hub_is_never_printed_back() -> None:
    assert without_secrets("cannot use hf_abcDEF0123456789 here") == "cannot use hf_*** here"


@given(st.text(alphabet="ab:/@%3A '\"\\.#?[]", max_size=60))
def test_hiding_ends_and_can_be_done_twice(text: str) -> None:
    once = without_secrets(text)
    assert without_secrets(once) == once


def test_a_long_text_takes_no_time() -> None:
    for each in ("a:" * 50_000, "'" + "a:" * 50_000, "//" * 50_000, "@" * 50_000, "a:@'" * 30_000):
        without_secrets(each)
