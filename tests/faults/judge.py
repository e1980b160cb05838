"""What a case has to be like, and what is wrong with one that is not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from tests.faults.bed import SECRETS
from tests.faults.run import Result, comparable, expected_codes, lost_builds, serving_build

MOST_MEMORY = 1_000_000_000
"""Bytes of memory that no answer may make a command take."""

_DRIFT = 3
_CHECK_FAILED = 4
_INTERRUPTED = 130
_RAW = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\x80-\x9f]")
_TOLD = re.compile(r"stands for|serves|is ready|nobody knows what")
_MARKUP = re.compile(r"<(!DOCTYPE|html|head|body|h1)\b", re.IGNORECASE)
_START = re.compile(r"devstral-ollama serve\b")


class Wrong(StrEnum):
    """Kinds of what is wrong."""

    NO_END = "did not end"
    LOST = "lost"
    FALSE_SUCCESS = "false success"
    FALSE_FAILURE = "false failure"
    FALSE_VERDICT = "false verdict"
    NOT_TOLD = "new model serves, not said"
    NOT_HEALED = "not healed"
    LEFT = "left over"
    CRASH = "traceback or please report"
    CONTROL = "control character"
    MARKUP = "a page printed"
    SECRET = "secret"
    CIRCULAR = "circular fix"
    WRONG_FIX = "fix of another fault"
    NO_CAUSE = "cause not named"
    EXIT_CODE = "exit code"
    MEMORY = "memory"
    VOID = "the fault was never met"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a case."""

    wrong: Wrong
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.wrong.value}: {self.detail}" if self.detail else self.wrong.value


def findings(result: Result) -> list[Finding]:
    """All that is wrong with a case; nothing where it is as it should be."""
    found = [*_always(result)]
    if result.ended.code is None:
        # What was killed in the end said nothing that could be judged.
        return [Finding(Wrong.NO_END, f"{result.ended.seconds:.0f} s"), *found]
    return [*found, *_ending(result), *_message(result)]


def _always(result: Result) -> Iterator[Finding]:
    case, reference = result.case, result.reference
    needed = case.kind is not None and case.kind.fault is not None
    if (needed or case.sent is not None) and not result.hit:
        yield Finding(Wrong.VOID)
    if result.served in ("none", "another") and reference.before and not _may_be_other(result):
        yield Finding(Wrong.LOST, f"the public name stands for {result.served}")
    if gone := lost_builds(result):
        yield Finding(Wrong.LOST, f"builds {', '.join(gone)}")
    if not result.is_healed:
        code = result.again.code if result.again else None
        state = (
            ""
            if serving_build(result.healed) == serving_build(reference.after)
            else (f", {serving_build(result.healed)} serves")
        )
        yield Finding(Wrong.NOT_HEALED, f"exit code {code}{state}")
    if result.unknown:
        yield Finding(Wrong.LEFT, ", ".join(result.unknown))
    if result.ended.peak > MOST_MEMORY:
        yield Finding(Wrong.MEMORY, f"{result.ended.peak / 1e9:.1f} GB")
    texts = [each.text for each in (result.ended, result.again) if each is not None]
    for secret in SECRETS:
        if any(secret in each for each in texts):
            yield Finding(Wrong.SECRET, "printed")
    for leak in result.leaks:
        yield Finding(Wrong.SECRET, leak)
    if "Traceback (most recent" in result.ended.text or "please report" in result.ended.text:
        yield Finding(Wrong.CRASH, _last_line(result.ended.err))
    if raw := _RAW.search(result.ended.text):
        yield Finding(Wrong.CONTROL, repr(raw.group()))
    if _MARKUP.search(result.ended.text):
        yield Finding(Wrong.MARKUP)


def _may_be_other(result: Result) -> bool:
    """Whether a name of another build is told as something else already."""
    return result.ended.code == result.reference.code and result.served == "another"


def _ending(result: Result) -> Iterator[Finding]:
    case, reference, code = result.case, result.reference, result.ended.code
    as_without_fault = code == reference.code
    if case.sent is not None and not as_without_fault:
        if code not in expected_codes(case):
            yield Finding(Wrong.EXIT_CODE, f"{code}")
        if code == _INTERRUPTED and result.served == "new" and not _TOLD.search(result.ended.text):
            yield Finding(Wrong.NOT_TOLD)
        return
    if case.group == "secret":
        return
    if as_without_fault:
        said = comparable(case.command, result.ended.out)
        if not result.is_done:
            yield Finding(Wrong.FALSE_SUCCESS, f"exit code {code}, but {result.served} serves")
        elif said != reference.said and not case.command.writes:
            yield Finding(Wrong.FALSE_SUCCESS, f"says otherwise: {said.strip()[:200]!r}")
        return
    # A model is not wrong because an answer was lost, and nothing is otherwise for that.
    passing = case.kind is not None and case.kind.passes
    may_judge = case.command.judges and not passing
    if code == _DRIFT or (code == _CHECK_FAILED and not may_judge):
        yield Finding(Wrong.FALSE_VERDICT, f"exit code {code}")
    kind, route = case.kind, case.route
    if kind is None or route is None:
        return
    if kind.harmless or (kind.passes and route.safe):
        what = "slow is not broken" if kind.harmless else "not asked again"
        yield Finding(Wrong.FALSE_FAILURE, f"{what}, exit code {code}")
    elif result.served == "new" and not _TOLD.search(result.ended.text):
        yield Finding(Wrong.NOT_TOLD)


def _message(result: Result) -> Iterator[Finding]:
    case, code = result.case, result.ended.code
    if code == result.reference.code or case.sent is not None:
        return
    lines = result.ended.err.splitlines()
    errors = [each for each in lines if each.startswith("error: ")]
    fixes = [each.removeprefix("fix: ") for each in lines if each.startswith("fix: ")]
    if code != _CHECK_FAILED and len(errors) != 1:
        yield Finding(Wrong.NO_CAUSE, f"{len(errors)} lines of an error")
    kind = case.kind
    told = result.ended.text if code == _CHECK_FAILED else " ".join(errors + fixes)
    # What a server goes through with its registry it tells nobody before it has given up.
    is_hidden = case.route is not None and case.route.by_server and "no progress" in told
    if kind is not None and not is_hidden and not re.search(kind.says, told):
        yield Finding(Wrong.NO_CAUSE, " ".join(errors)[:300])
    for fix in fixes:
        # With another option it is another command.
        if re.search(rf"devstral-ollama {case.command.word}\b(?![^;,]* --)", fix):
            yield Finding(Wrong.CIRCULAR, fix[:200])
        if _START.search(fix) and kind is not None and not kind.is_gone:
            yield Finding(Wrong.WRONG_FIX, fix[:200])


def _last_line(text: str) -> str:
    lines = [each for each in text.splitlines() if each.strip()]
    return lines[-1][:300] if lines else ""
