"""The table of what was seen, and the document around it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.faults.judge import Finding, Wrong
from tests.faults.run import LIMIT, Result
from tests.testbed.build import NEWEST

DOCUMENT = Path(__file__).parents[2] / "docs" / "reference" / "faults.md"

Judged = tuple[Result, list[Finding]]

_INTRODUCTION = f"""\
<!-- Written by `python -m tests.faults --write`, which puts every fault to the command line. -->
# When things go wrong

Each line is a fault that was put between the command line and a live Ollama {NEWEST}, or the hub:
what it did to which request of which command, and what came of it.

- **exit:** the exit code; a signal's number below zero; *none* where it had not ended after
  {LIMIT:.0f} seconds.
- **served:** what the public name stood for afterwards: the *old* build, the *new* one, *none*
  where there was none before.
- **left:** what a stopped run left that a whole one would not; `prune` finds it.
- **healed:** whether the same command ended well when it was run again without the fault, with the
  server as it should be.
- **wrong:** what is not as it should be.
"""


def markdown(judged: Sequence[Judged]) -> str:
    """The whole document."""
    return "\n".join([_INTRODUCTION, *summary(judged), "", *table(judged)]) + "\n"


def summary(judged: Sequence[Judged]) -> Iterator[str]:
    """The counts."""
    results = [result for result, _ in judged]
    ended = [each for each in results if each.ended.code is not None]
    serving = sum(each.served in ("old", "new") or not each.reference.before for each in results)
    yield "| of the cases | |"
    yield "|---|---|"
    yield f"| all | {len(results)} |"
    yield f"| ended by themselves | {len(ended)} |"
    yield f"| served the old or the new build | {serving} |"
    yield f"| healed by the next run | {sum(each.is_healed for each in results)} |"
    yield f"| left nothing that `prune` does not find | {sum(not r.unknown for r in results)} |"
    yield f"| with nothing wrong | {sum(not found for _, found in judged)} |"
    slowest = max(ended, key=lambda each: each.ended.seconds, default=None)
    if slowest is not None:
        yield f"| slowest that ended | {slowest.ended.seconds:.1f} s: {_cell(slowest.case.id)} |"
    counts = Counter(wrong for _, found in judged for wrong in {each.wrong for each in found})
    for wrong in Wrong:
        if counts[wrong]:
            yield f"| {wrong.value} | {counts[wrong]} |"


def table(judged: Sequence[Judged]) -> Iterator[str]:
    """A line for each case."""
    yield "| command | fault | exit | seconds | served | left | healed | wrong |"
    yield "|---|---|---|---|---|---|---|---|"
    for result, found in judged:
        command, _, fault = result.case.id.partition(" | ")
        code = "none" if result.ended.code is None else str(result.ended.code)
        left = len(result.left)
        healed = "" if result.again is None else "yes" if result.is_healed else "**no**"
        wrong = ", ".join(sorted({each.wrong.value for each in found}))
        yield (
            f"| {_cell(command)} | {_cell(fault)} | {code} | {result.ended.seconds:.1f} "
            f"| {result.served} | {left or ''} | {healed} | {wrong} |"
        )


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
