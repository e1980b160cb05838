"""The table of tool calls: what is expected, what is stored, what a live server does, one thing."""

from __future__ import annotations

from pathlib import Path

import pytest

from ollama_tools.devstral.miniature import write_speaker
from ollama_tools.server.client import Server
from tests.conformance.bed import CARRIERS, LLAMA_SERVER, carriers, create_models, cue, model_name
from tests.conformance.cases import CASES, TOOLS
from tests.conformance.outcomes import RULES, Word, expected, word
from tests.conformance.store import VERSIONS, load
from tests.conformance.table import TARGET, live_results, markdown
from tests.testbed.build import NEWEST, OLDEST

AGAIN = "run: python -m tests.conformance.table"


@pytest.mark.parametrize("version", VERSIONS)
def test_every_stored_outcome_is_the_one_expected(version: str) -> None:
    surprises = {
        f"{case}, {carrier}, {way}": f"{word(outcome, carrier)}, not {wanted}: {outcome}"
        for case, row in load(version).items()
        for carrier, ways in row.items()
        for way, outcome in ways.items()
        if word(outcome, carrier) is not (wanted := expected(case, carrier, way, version))
    }
    assert not surprises


@pytest.mark.parametrize("version", VERSIONS)
def test_every_case_and_carrier_has_results(version: str) -> None:
    wanted = {
        (case.name, carrier.name)
        for case in CASES
        for carrier in CARRIERS
        if carrier.has(case) and carrier in carriers(version)
    }
    assert {(case, each) for case, row in load(version).items() for each in row} == wanted


def test_every_rule_names_cases_and_carriers_that_exist() -> None:
    assert {each for rule in RULES for each in rule.cases} <= {case.name for case in CASES}
    assert {each for rule in RULES for each in rule.carriers} <= {each.name for each in CARRIERS}


def test_no_canonical_call_is_lost_where_the_package_puts_its_template() -> None:
    """What a model is trained to write arrives, in each carrier that the package builds."""
    for version in VERSIONS:
        for case, row in list(load(version).items())[:8]:
            for carrier, ways in row.items():
                found = {word(outcome, carrier) for outcome in ways.values()}
                assert found <= {Word.OK, Word.TEXT_LOST}, (version, case, carrier)


def test_the_document_is_what_the_stored_results_say() -> None:
    assert TARGET.read_text(encoding="utf-8") == markdown(), f"{AGAIN} --stored"


def test_a_speaker_refuses_what_it_could_not_tell_apart(tmp_path: Path) -> None:
    call = ["[TOOL_CALLS]", "bash", "[ARGS]"]
    with pytest.raises(ValueError, match=r"follows '\[ARGS\]'"):
        write_speaker(tmp_path / "speaker.gguf", [*call, "{}", *call, '{"cmd": "ls"}'])


def test_equal_speakers_are_equal_files(tmp_path: Path) -> None:
    outputs = {cue(case, "v13"): case.output("v13") or "" for case in CASES if not case.apart}
    for name in ("a", "b"):
        write_speaker(tmp_path / name, outputs)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("version", [NEWEST, LLAMA_SERVER])
def test_the_newest_server_does_as_stored(tmp_path: Path, version: str) -> None:
    assert live_results(version, tmp_path) == load(version), AGAIN


@pytest.mark.old_server
def test_the_old_server_does_as_stored(tmp_path: Path) -> None:
    assert live_results(OLDEST, tmp_path) == load(OLDEST), AGAIN


def test_the_generic_parser_leaves_the_order_of_arguments_to_chance(
    server: Server, tmp_path: Path
) -> None:
    """The reason why the order does not count in its columns."""
    create_models(server, tmp_path, OLDEST)
    (generic,) = (each for each in CARRIERS if each.name == "generic")
    (case,) = (each for each in CASES if each.name == "keys out of alphabetical order")
    request = {
        "model": model_name(generic, apart=False),
        "messages": [{"role": "user", "content": cue(case, "v13")}],
        "tools": TOOLS,
    }
    orders = set()
    for _ in range(40):
        call = server.chat(request)["message"]["tool_calls"][0]
        orders.add(tuple(call["function"]["arguments"]))
    assert orders == {("path", "content"), ("content", "path")}
