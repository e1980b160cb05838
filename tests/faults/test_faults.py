"""A choice of the faults, judged as all of them are by ``python -m tests.faults``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.bed import fault_bed
from tests.faults.cases import Case, selection
from tests.faults.judge import findings
from tests.faults.run import Runner

# Less than all cases are given: what waits longer here than the product is told to never ends.
_LIMIT = 45.0
# What a command does without a fault is found out once, where all of its cases run.
SELECTED = [
    pytest.param(each, marks=pytest.mark.xdist_group(each.command.name), id=each.id)
    for each in selection()
]


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    with fault_bed() as bed:
        yield Runner(bed, _LIMIT)


@pytest.mark.parametrize("case", SELECTED)
def test_it_ends_tells_the_truth_and_heals(runner: Runner, case: Case) -> None:
    result = runner.run(case)
    found = [str(each) for each in findings(result)]
    assert not found, f"{found}\n{result.ended.text}\nagain: {result.again}"
