"""Names of models: what Ollama accepts, and how two of them compare."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_tools.errors import UsageError
from ollama_tools.server.names import build_name, full_name, is_build_of, public_name, same_name

MARK = "0123456789ab"


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("devstral", "devstral:latest"),
        ("devstral:Q4_K_M", "devstral:Q4_K_M"),
        ("me/devstral", "me/devstral:latest"),
        ("registry.example:5000/me/devstral", "registry.example:5000/me/devstral:latest"),
        ("registry.example:5000/me/devstral:x", "registry.example:5000/me/devstral:x"),
        ("a" * 80 + ":" + "b" * 60, "a" * 80 + ":" + "b" * 60),
    ],
)
def test_a_name_gets_its_tag(text: str, full: str) -> None:
    assert full_name(text) == full
    assert public_name(text) == full
    assert public_name(full) == full


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":x",
        "x:",
        "a b",
        "-x",
        ".x",
        "x:-y",
        "a//b",
        "a/b/c/d",
        "x@sha256",
        "é",
        "a:b:c",
        "x\n",
        "x" * 81,
        "x:" + "t" * 61,
        f"x:tag-{MARK}",
    ],
)
def test_what_ollama_rejects_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        public_name(text)
    assert caught.value.fix


def test_case_and_an_absent_tag_do_not_tell_names_apart() -> None:
    assert same_name("Devstral", "devstral:LATEST")
    assert not same_name("devstral", "devstral:q4")
    assert not same_name("me/devstral", "devstral")


def test_a_build_is_known_by_its_public_name_and_mark() -> None:
    build = build_name("devstral", MARK)
    assert build == f"devstral:latest-{MARK}"
    assert is_build_of(build, "devstral")
    assert is_build_of(build.upper().replace(MARK.upper(), MARK), "Devstral")
    assert not is_build_of(build, "devstral:other")
    assert not is_build_of("devstral:latest", "devstral")
    assert not is_build_of(f"devstral:latest-{MARK}0", "devstral")
    assert not is_build_of("devstral:latest-x123456789ab", "devstral")


@given(
    st.from_regex(
        r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,20})?", fullmatch=True
    )
)
def test_every_accepted_name_has_builds_that_are_its_own(text: str) -> None:
    try:
        name = public_name(text)
    except UsageError:
        # The tag itself ends like the mark of a build.
        return
    build = build_name(name, MARK)
    assert is_build_of(build, name)
    assert not same_name(build, name)
    assert len(build.rsplit(":", 1)[1]) <= 80
