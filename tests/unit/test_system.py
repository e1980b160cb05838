"""Which texts can be a system prompt, and which one a model gets."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_tools.devstral.carriers import CONTROL_TOKENS
from ollama_tools.devstral.catalog_file import load_catalog
from ollama_tools.devstral.system_prompt import (
    LONGEST,
    SystemOrigin,
    announced_by_hub,
    bundled,
    from_file,
    system_prompt,
)
from ollama_tools.errors import FileProblem, UsageError
from ollama_tools.files.packaged import data_path
from ollama_tools.wanted.draft import system_prompts

CATALOG = load_catalog(data_path("catalog.yaml"))
RELEASE = CATALOG.default


def test_final_newlines_and_carriage_returns_do_not_count() -> None:
    found = system_prompt("one\r\ntwo\n\n", SystemOrigin.FILE, "it")
    assert found.text == "one\ntwo"
    assert found.sha256 == hashlib.sha256(b"one\ntwo").hexdigest()


@pytest.mark.parametrize("token", CONTROL_TOKENS)
def test_every_control_token_is_refused_wherever_it_stands(token: str) -> None:
    with pytest.raises(UsageError, match="turns into a control token"):
        system_prompt(f"before{token}after", SystemOrigin.FILE, "it")


@pytest.mark.parametrize("text", ["", "\n", " \t\n"])
def test_an_empty_prompt_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="it is empty"):
        system_prompt(text, SystemOrigin.FILE, "it")


@pytest.mark.parametrize("character", ["\x00", "\x1b", "\u00a0", "\u200b", "\ufeff", "\u202e"])
def test_a_character_that_ollama_drops_is_refused_with_its_line(character: str) -> None:
    with pytest.raises(UsageError, match=f"line 2: the character U\\+{ord(character):04X}"):
        system_prompt(f"one\ntw{character}o", SystemOrigin.FILE, "it")


def test_what_people_write_is_taken_unchanged(tmp_path: Path) -> None:
    text = 'Say "yes" — or\tnothing. <b> & [x] {{ .System }} # café 你好 🙂\n\nAlways.'
    path = tmp_path / "prompt.txt"
    path.write_text(text + "\n", encoding="utf-8")
    found = from_file(path)
    assert (found.text, found.origin) == (text, SystemOrigin.FILE)
    path.write_text("\ufeff" + text, encoding="utf-8")
    assert from_file(path).sha256 == found.sha256


@given(st.text())
def test_a_text_is_taken_unchanged_or_refused(text: str) -> None:
    try:
        found = system_prompt(text, SystemOrigin.FILE, "it")
    except UsageError:
        return
    assert found.text == text.replace("\r\n", "\n").rstrip("\n")
    assert '"""' not in found.text


@pytest.mark.parametrize("content", [b"caf\xe9", b"\xff\xfe", b"a" * (LONGEST + 1)])
def test_a_file_that_is_no_prompt_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "prompt.txt"
    path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        from_file(path)
    assert str(path) in caught.value.what
    assert caught.value.fix


def test_a_file_of_the_longest_size_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "prompt.txt"
    path.write_bytes(b"a" * LONGEST)
    assert from_file(path).text == "a" * LONGEST


@pytest.mark.parametrize("name", ["nosuch.txt", "."])
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileProblem) as caught:
        from_file(tmp_path / name)
    assert caught.value.fix


def test_the_bundled_prompt_can_be_carried() -> None:
    prompt = bundled()
    assert prompt.text
    assert prompt.origin is SystemOrigin.BUNDLED


def test_the_default_is_the_hubs_and_then_the_bundled_one() -> None:
    assert [each.origin for each in system_prompts(None, RELEASE)] == [
        SystemOrigin.HUB,
        SystemOrigin.BUNDLED,
    ]
    announced = announced_by_hub(RELEASE)
    assert announced is not None
    assert announced.text is None


def test_a_release_without_a_known_prompt_on_the_hub_gets_the_bundled_one() -> None:
    without = next(each for each in CATALOG.releases if each.system_prompt is None)
    assert [each.origin for each in system_prompts(None, without)] == [SystemOrigin.BUNDLED]
    with pytest.raises(UsageError, match="no system prompt on the hub is known"):
        system_prompts("hub", without)


def test_none_is_said_by_an_empty_text() -> None:
    (prompt,) = system_prompts("", RELEASE)
    assert (prompt.origin, prompt.text) == (SystemOrigin.NONE, "")
