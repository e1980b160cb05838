"""Parameters and the fingerprint of a spec."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_tools.devstral.carriers import Carrier
from ollama_tools.devstral.catalog_file import load_catalog
from ollama_tools.devstral.context import check_prompt_tokens
from ollama_tools.devstral.system_prompt import NO_SYSTEM, bundled
from ollama_tools.errors import CatalogError, UsageError
from ollama_tools.files.packaged import data_path
from ollama_tools.wanted.source import FileSource, HubSource, ServerSource
from ollama_tools.wanted.spec import (
    Spec,
    check_context,
    merge_parameters,
    parse_parameters,
)

WEIGHTS = ("sha256:" + "1" * 64,)
CATALOG = load_catalog(data_path("catalog.yaml"))
RELEASE = CATALOG.default


@pytest.fixture
def spec() -> Spec:
    return Spec(
        name="devstral:mine",
        release=RELEASE,
        source=HubSource(RELEASE.repository, "Q4_K_M"),
        carrier=Carrier.MODELFILE,
        system=bundled(),
        parameters=merge_parameters(RELEASE, None, {}),
    )


def test_assignments_become_typed_parameters() -> None:
    assert parse_parameters(["temperature=0.2", "top_k=7", "stop=END", "stop=a=b"]) == {
        "temperature": 0.2,
        "top_k": 7,
        "stop": ("END", "a=b"),
    }
    assert parse_parameters([]) == {}


@pytest.mark.parametrize(
    "assignment",
    [
        "temperature",
        "=1",
        "",
        "temprature=1",
        "top_k=1.5",
        "top_k=",
        "temperature=warm",
        "temperature=nan",
        "use_mmap=yes",
        "use_mmap=2",
        "temperature=inf",
        "temperature=-inf",
        "seed=9223372036854775808",
        "seed=" + "9" * 5_000,
    ],
)
def test_an_assignment_that_the_server_would_choke_on_is_refused(assignment: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_parameters([assignment])
    assert caught.value.fix


@given(st.lists(st.text(max_size=40), max_size=4))
def test_no_text_makes_the_parser_fail_otherwise(assignments: list[str]) -> None:
    try:
        parse_parameters(assignments)
    except UsageError as error:
        assert error.what  # noqa: PT017 - whether it is raised depends on the text


def test_the_recommended_parameters_hold_beneath_a_persons_own() -> None:
    merged = merge_parameters(RELEASE, 65_536, {"temperature": 0.3, "stop": ("END",)})
    assert merged == {
        **RELEASE.parameters,
        "temperature": 0.3,
        "stop": ("END",),
        "num_ctx": 65_536,
    }
    assert merged["repeat_penalty"] == 1.0


@pytest.mark.parametrize(
    ("context", "overrides", "found"),
    [
        (None, {}, RELEASE.default_context),
        (None, {"num_ctx": 8_192}, 8_192),
        (8_192, {"num_ctx": 8_192}, 8_192),
        (RELEASE.architecture.context, {}, RELEASE.architecture.context),
    ],
)
def test_the_context_comes_from_where_it_is_given(
    context: int | None, overrides: dict[str, int], found: int
) -> None:
    assert merge_parameters(RELEASE, context, overrides)["num_ctx"] == found


@pytest.mark.parametrize(
    ("context", "overrides"),
    [
        (8_192, {"num_ctx": 4_096}),
        (RELEASE.architecture.context + 1, {}),
        (1_023, {}),
        (0, {}),
        (-1, {}),
        (None, {"num_ctx": 10**30}),
        (None, {"num_ctx": "many"}),
        (None, {"num_ctx": "8192.0"}),
        (None, {"num_ctx": True}),
        (None, {"temperature": "warm"}),
        (None, {"temperature": True}),
        (None, {"temperature": float("nan")}),
        (None, {"top_k": 1.5}),
        (None, {"nosuch": 1}),
        (None, {"use_mmap": 1}),
        (None, {"use_mmap": "on"}),
        (None, {"stop": None}),
        (None, {"stop": [True]}),
    ],
)
def test_what_cannot_be_is_refused(context: int | None, overrides: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        merge_parameters(RELEASE, context, overrides)


@pytest.mark.parametrize("said", [False, "false", "F", "0"])
def test_a_switch_has_one_form(said: object) -> None:
    assert merge_parameters(RELEASE, None, {"use_mmap": said})["use_mmap"] is False  # type: ignore[dict-item]


def test_a_catalog_cannot_recommend_what_ollama_does_not_know() -> None:
    mistyped = replace(RELEASE, parameters={"temperatur": 0.15})
    with pytest.raises(CatalogError, match=r"Devstral-Small-2507: .*'temperatur'") as caught:
        merge_parameters(mistyped, None, {})
    assert caught.value.fix == "did you mean temperature?"


def test_a_files_own_longest_context_counts() -> None:
    check_context(40_960, 40_960, "mine.gguf")
    with pytest.raises(UsageError, match=r"more than the 40960 of mine\.gguf"):
        check_context(40_961, 40_960, "mine.gguf")


def test_a_long_prompt_must_be_long() -> None:
    check_prompt_tokens(256)
    with pytest.raises(UsageError, match="proves nothing"):
        check_prompt_tokens(255)


@pytest.mark.parametrize(
    "change",
    [
        {"source": HubSource(RELEASE.repository, "Q4_K_S")},
        {"source": HubSource(RELEASE.repository, "Q4_K_M", revision="abc")},
        {"source": HubSource("me/other", "Q4_K_M")},
        {"source": FileSource(Path("x.gguf"), "0" * 64)},
        {"source": ServerSource("x", ("sha256:" + "0" * 64,))},
        {"carrier": Carrier.HUB},
        {"system": NO_SYSTEM},
        {"parameters": merge_parameters(RELEASE, 65_536, {})},
        {"parameters": merge_parameters(RELEASE, None, {"stop": ("END",)})},
        {"native": False},
        {"release": CATALOG.release("2505")},
    ],
)
def test_whatever_changes_a_model_changes_its_build(spec: Spec, change: dict[str, Any]) -> None:
    other = replace(spec, **change)
    assert other.mark(WEIGHTS) != spec.mark(WEIGHTS)
    assert other.build(WEIGHTS) == f"devstral:mine-{other.mark(WEIGHTS)}"


@pytest.mark.parametrize(
    "change",
    [
        {"name": "devstral:yours"},
        {"source": HubSource(RELEASE.repository.upper(), "q4_k_m", filename="x", bytes=7)},
        {"source": HubSource(RELEASE.repository, "Q4_K_M", revision="0a" * 20)},
        {"source": HubSource(RELEASE.repository, "Q4_K_M", sha256="f" * 64)},
        {"parameters": dict(reversed(merge_parameters(RELEASE, None, {}).items()))},
    ],
)
def test_what_changes_no_model_changes_no_mark(spec: Spec, change: dict[str, Any]) -> None:
    assert replace(spec, **change).mark(WEIGHTS) == spec.mark(WEIGHTS)


def test_other_weights_are_another_build(spec: Spec) -> None:
    other = ("sha256:" + "2" * 64,)
    assert len({spec.mark(each) for each in (WEIGHTS, other, WEIGHTS + other, ())}) == 4


def test_the_same_file_elsewhere_is_the_same_model(spec: Spec) -> None:
    here, there = (
        replace(spec, source=FileSource(Path(path), "0" * 64)) for path in ("a.gguf", "/b.gguf")
    )
    assert here.mark(WEIGHTS) == there.mark(WEIGHTS)


def test_a_mirror_pulls_under_its_own_name() -> None:
    source = HubSource("unsloth/Devstral-Small-2507-GGUF", "Q8_0")
    assert source.pulled_from("hf.co") == "hf.co/unsloth/Devstral-Small-2507-GGUF:Q8_0"
    assert source.pulled_from("mirror:5000") == "mirror:5000/unsloth/Devstral-Small-2507-GGUF:Q8_0"
