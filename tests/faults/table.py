"""The table of what was seen, and the document around it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.faults.judge import Finding, Wrong
from tests.faults.run import LIMIT, Result
from tests.testbed.build import NEWEST

DOCUMENT = Path(__file__).parents[2] / "docs" / "reference" / "faults.md"

_HEAD = "| command | fault | exit | seconds | served | left | healed | wrong |"
_INTRODUCTION = f"""\
<!-- Written by `python -m tests.faults --write`, which puts every fault to the command line. -->
# When things go wrong

Each line is a fault that was put between the command line and a live Ollama {NEWEST}, or the hub:
what it did to which request of which command, and what came of it. The command line was given
8 seconds of patience (`DEVSTRAL_OLLAMA_TIMEOUT=8`); as it comes, it waits longer.

- **exit:** the exit code; a signal's number below zero; *none* where it had not ended after
  {LIMIT:.0f} seconds.
- **served:** what the public name stood for afterwards: the *old* build, the *new* one, *none*
  where there was none before.
- **left:** what a stopped run left that a whole one would not; `prune` finds it.
- **healed:** whether the same command ended well when it was run again without the fault, with the
  server as it should be.
- **wrong:** what is not as it should be.
"""


@dataclass(frozen=True)
class Row:
    """What was seen of a case, as far as it is told.

    Attributes:
        case: The case's name.
        code: The exit code; None where it did not end.
        seconds: How long it took.
        peak: The most memory it took, in MB.
        served: What the public name stood for afterwards, in a word.
        is_served: Whether something served that may, or nothing did before.
        left: How many things were left.
        is_found: Whether ``prune`` finds them.
        healed: Whether the next run has ended well; None where there was none.
        wrong: What is wrong, each with its details.
    """

    case: str
    code: int | None
    seconds: float
    peak: int
    served: str
    is_served: bool
    left: int
    is_found: bool
    healed: bool | None
    wrong: tuple[str, ...]

    @classmethod
    def of(cls, result: Result, found: Sequence[Finding]) -> Self:
        """The row of a case that was just run."""
        return cls(
            case=result.case.id,
            code=result.ended.code,
            seconds=round(result.ended.seconds, 1),
            peak=round(result.ended.peak / 1e6),
            served=result.served,
            is_served=result.served in ("old", "new") or not result.reference.before,
            left=len(result.left),
            is_found=not result.unknown,
            healed=None if result.again is None else result.is_healed,
            wrong=tuple(map(str, found)),
        )

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Self:
        """The row as :meth:`as_json` has it."""
        return cls(**{**document, "wrong": tuple(document["wrong"])})

    @property
    def kinds(self) -> set[str]:
        """What is wrong, without details."""
        return {each.partition(":")[0] for each in self.wrong}


def markdown(rows: Sequence[Row]) -> str:
    """The whole document."""
    return "\n".join([_INTRODUCTION, *summary(rows), "", *table(rows)]) + "\n"


def summary(rows: Sequence[Row]) -> Iterator[str]:
    """The counts."""
    ended = [each for each in rows if each.code is not None]
    asked_again = [each.healed for each in rows if each.healed is not None]
    yield "| of the cases | |"
    yield "|---|---|"
    yield f"| all | {len(rows)} |"
    yield f"| ended by themselves | {len(ended)} |"
    yield f"| served the old or the new build | {sum(each.is_served for each in rows)} |"
    yield f"| healed by the next run, of {len(asked_again)} that had one | {sum(asked_again)} |"
    yield f"| left nothing that `prune` does not find | {sum(each.is_found for each in rows)} |"
    yield f"| with nothing wrong | {sum(not each.wrong for each in rows)} |"
    slowest = max(ended, key=lambda each: each.seconds, default=None)
    if slowest is not None:
        yield f"| slowest that ended | {slowest.seconds:.1f} s: {_cell(slowest.case)} |"
        largest = max(rows, key=lambda each: each.peak)
        yield f"| most memory | {largest.peak} MB: {_cell(largest.case)} |"
    counts = Counter(kind for each in rows for kind in each.kinds)
    for wrong in Wrong:
        if wrong is Wrong.SECRET or counts[wrong.value]:
            yield f"| {wrong.value} | {counts[wrong.value]} |"


def table(rows: Sequence[Row]) -> Iterator[str]:
    """A line for each case."""
    yield _HEAD
    yield "|---|---|---|---|---|---|---|---|"
    for each in rows:
        code = "none" if each.code is None else str(each.code)
        healed = "" if each.healed is None else "yes" if each.healed else "**no**"
        yield (
            f"| {_cells(each.case)} | {code} | {each.seconds:.1f} | {each.served} "
            f"| {each.left or ''} | {healed} | {', '.join(sorted(each.kinds))} |"
        )


def cases_of(document: str) -> list[str]:
    """The cases that a document tells of, as its first two columns have them."""
    lines = document.partition(_HEAD)[2].splitlines()[2:]
    return [line.removeprefix("| ").rpartition(" |")[0].rsplit(" | ", 6)[0] for line in lines]


def _cells(case: str) -> str:
    command, _, fault = case.partition(" | ")
    return f"{_cell(command)} | {_cell(fault)}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
