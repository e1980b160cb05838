"""The cases are as many as they should be; those that run with every change are of each kind."""

from __future__ import annotations

from tests.faults.cases import all_cases, selection
from tests.faults.commands import COMMANDS
from tests.faults.table import DOCUMENT, cases_of

CASES = all_cases()
SELECTED = selection()


def test_there_are_many_and_each_has_a_name_of_its_own() -> None:
    assert len(CASES) >= 250
    assert len({each.id for each in CASES}) == len(CASES)


def test_every_command_goes_wrong_somewhere() -> None:
    commands = {each.command for each in CASES}
    assert commands >= set(COMMANDS)


def test_those_that_run_with_every_change_are_of_every_kind() -> None:
    light = [each for each in CASES if each.kind is None or not each.kind.heavy]
    traits = {trait for each in SELECTED for trait in each.traits}
    assert traits == {trait for each in light for trait in each.traits}
    assert {each.route for each in SELECTED} == {each.route for each in CASES}


def test_the_document_tells_of_each_of_them_and_of_no_other() -> None:
    told = cases_of(DOCUMENT.read_text(encoding="utf-8"))
    assert told == [each.id for each in CASES]


def test_the_same_cases_come_every_time() -> None:
    assert all_cases() == CASES
