"""One case from its beginning to its end, and all that can be seen of it."""

from __future__ import annotations

import math
import os
import re
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.processes import processor_seconds
from tests.faults.bed import SECRETS, TOKEN, Bed, Ended
from tests.faults.cases import Case, Side
from tests.faults.commands import NAME, Command

LIMIT = 60.0
"""Seconds after which a case counts as one that does not end."""

_OWN = re.compile(
    r"(?P<public>.+:.+?)(?:-(?P<mark>[0-9a-f]{12})|\.try-[0-9a-f]{8})(?P<after>\..+)?"
)
_TIMES = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d|\d+(?:\.\d+)? (?:s|seconds)\b")
_STATUS = re.compile(r"^(pass|fail|unknown|skip)\w*\s+(\S.*?)(?:\s{2,}|$)", re.MULTILINE)


@dataclass(frozen=True)
class Reference:
    """A command where nothing goes wrong.

    Attributes:
        code: Its exit code.
        said: What it says to stdout, made comparable.
        before: Digests on the server before it, by name.
        after: Digests on the server after it, by name.
        asked: How many requests it makes.
        seconds: How long it takes.
    """

    code: int
    said: str
    before: Mapping[str, str]
    after: Mapping[str, str]
    asked: int
    seconds: float


@dataclass(frozen=True)
class Result:
    """What was seen of a case.

    Attributes:
        case: The case.
        reference: The same command where nothing goes wrong.
        ended: How it ended.
        hit: How many requests really went wrong, or whether the signal was sent.
        after: Digests on the server after it, by name.
        again: How the next run ended, without a fault; None where there is none to judge.
        healed: Digests on the server after that, by name.
        left: What is left then that a run without a fault would not leave: names and files.
        unknown: What of that no ``prune`` removes when it is old.
        partial: Blobs on the server that never became whole.
        leaks: Secrets in files of this machine, and the token where it was sent to another host.
    """

    case: Case
    reference: Reference
    ended: Ended
    hit: int
    after: Mapping[str, str]
    again: Ended | None
    healed: Mapping[str, str]
    left: tuple[str, ...]
    unknown: tuple[str, ...]
    partial: tuple[str, ...]
    leaks: tuple[str, ...]

    @property
    def served(self) -> str:
        """What the public name stands for after it, in a word."""
        serving = serving_build(self.after)
        if NAME not in self.after:
            return "none"
        if serving is None:
            return "another"
        if serving == serving_build(self.reference.before):
            return "old"
        return "new" if serving == serving_build(self.reference.after) else "another"

    @property
    def is_done(self) -> bool:
        """Whether the server is as the command without a fault leaves it."""
        return _standing(self.after) == _standing(self.reference.after)

    @property
    def is_healed(self) -> bool:
        """Whether the next run has ended well, and the server is as it should be."""
        if self.again is not None and self.again.code != self.reference.code:
            return False
        return self.again is None or _standing(self.healed) == _standing(self.reference.after)

    def as_json(self) -> dict[str, Any]:
        """What the table does not tell of it, for a file."""
        return {
            "group": self.case.group,
            "hit": self.hit,
            "done": self.is_done,
            "again": self.again.code if self.again else None,
            "left": list(self.left),
            "unknown": list(self.unknown),
            "partial": list(self.partial),
            "leaks": list(self.leaks),
            "stdout": self.ended.out[-3000:],
            "stderr": self.ended.err[-3000:],
            "again_stderr": self.again.text[-2000:] if self.again else "",
        }


class Runner:
    """Runs cases on one bed.

    Args:
        bed: The bed.
        limit: Seconds after which a case counts as one that does not end.
    """

    def __init__(self, bed: Bed, limit: float = LIMIT) -> None:
        self._bed = bed
        self._limit = limit
        self._references: dict[Command, Reference] = {}

    def reference(self, command: Command) -> Reference:
        """The command where nothing goes wrong, run once."""
        if command not in self._references:
            bed = self._bed
            bed.reset(command.state)
            before = bed.names()
            ended = bed.run(command.arguments)
            if ended.code is None:
                raise RuntimeError(f"{command.name} does not end: {ended.text}")
            said = comparable(command, ended.out)
            self._references[command] = Reference(
                ended.code, said, before, bed.names(), bed.asked(), ended.seconds
            )
        return self._references[command]

    def run(self, case: Case) -> Result:
        """Run a case, then the same command without a fault, and look at what is left."""
        bed, command = self._bed, case.command
        reference = self.reference(command)
        bed.reset(command.state)
        if case.file is not None:
            case.file(bed.here / case.command.arguments[-1])
        sender = _Sender(case, reference, bed) if case.sent else None
        self._arm(case)
        ended = bed.run(
            [*command.arguments, *case.more],
            limit=self._limit,
            environment=case.environment,
            watch=sender,
        )
        proxies = (bed.to_server, bed.to_hub)
        hit = sum(each.failed for proxy in proxies for each in proxy.asked)
        if sender is not None:
            hit = int(sender.sent)
        leaks = [f"{secret} in {path}" for secret in SECRETS for path in bed.files_with(secret)]
        leaks += self._sent_tokens()
        log = bed.logged()
        leaks += [f"{secret} in the server's log" for secret in SECRETS if secret in log]
        bed.heal()
        after, partial = bed.names(), bed.partial_blobs()
        again, healed = None, after
        left: list[str] = []
        unknown: list[str] = []
        if case.group != "secret":
            # A name that was switched back is not to be switched once more.
            is_over = command.word == "rollback" and after.get(NAME) == reference.after[NAME]
            if command.again and not is_over:
                again = bed.run(command.again)
            healed = bed.names()
            left = self._left(reference)
            if left:
                bed.age()
                bed.run(("prune", "--keep", "99"))
                unknown = self._left(reference)
        return Result(
            case,
            reference,
            ended,
            hit,
            after,
            again,
            healed,
            tuple(left),
            tuple(unknown),
            tuple(partial),
            tuple(leaks),
        )

    def _arm(self, case: Case) -> None:
        if case.route is None or case.kind is None:
            return
        proxy = self._bed.to_server if case.route.side is Side.SERVER else self._bed.to_hub
        if case.kind.fault is None:
            proxy.refuse()
        else:
            proxy.fail(
                case.kind.fault,
                method=case.route.method,
                path=case.route.path,
                when=case.kind.when,
            )

    def _sent_tokens(self) -> list[str]:
        """Requests that carried the hub's token to anybody else than the hub."""
        bed = self._bed
        strangers = [
            *bed.to_server.asked,
            *(each for each in bed.to_hub.asked if each.host != bed.to_hub.host),
        ]
        return [
            f"token sent with {each.method} {each.target} to {each.host.partition(':')[0]}"
            for each in strangers
            if TOKEN in (each.authorization or "")
        ]

    def _left(self, reference: Reference) -> list[str]:
        """What lies about that nobody needs: names beside builds, files that are not whole."""
        known = {*reference.before, *reference.after}
        names = [
            each
            for each in self._bed.manifests()
            if each not in known and not _is_build_or_mark(each)
        ]
        return [*names, *(each.name for each in self._bed.unfinished())]


class _Sender:
    """Sends a signal when so many requests were made, or so much was done at all."""

    def __init__(self, case: Case, reference: Reference, bed: Bed) -> None:
        assert case.sent is not None
        self._number = case.sent.number
        self._share = case.sent.share
        self._wanted = max(1, math.ceil(case.sent.share * reference.asked))
        self._bed = bed
        self.sent = False

    def __call__(self, process: subprocess.Popen[bytes]) -> None:
        if self.sent:
            return
        if self._share < 0:
            due = processor_seconds(process.pid) >= -self._share
        else:
            due = self._bed.asked() >= self._wanted
        if due:
            os.kill(process.pid, self._number)
            self.sent = True


def comparable(command: Command, said: str) -> str:
    """What a command says, without what is otherwise in every run."""
    if command.judges and not command.writes:
        return "\n".join(" ".join(each) for each in _STATUS.findall(said))
    return _TIMES.sub("…", said)


def expected_codes(case: Case) -> tuple[int, ...]:
    """The exit codes with which a command may end that a signal has met."""
    assert case.sent is not None
    if case.sent.number in (signal.SIGINT, signal.SIGTERM):
        return (130,)
    if case.sent.number is signal.SIGHUP:
        return (130, 129, -int(signal.SIGHUP))
    return (-int(signal.SIGKILL),)


def _is_build_or_mark(name: str) -> bool:
    match = _OWN.fullmatch(name)
    if match is None or match["mark"] is None:
        return False
    return match["after"] is None or match["after"].startswith(".s")


def serving_build(names: Mapping[str, str]) -> str | None:
    """The build that the public name stands for.

    By name and not by digest: a build's name tells all that it is made of, and the manifests of two
    ways to make it may differ.
    """
    return next(
        (name for name in _builds(names) if name != NAME and names[name] == names.get(NAME)), None
    )


def _standing(names: Mapping[str, str]) -> tuple[set[str], str | None]:
    """What there is, without marks and leftovers, and what serves."""
    return _builds(names), serving_build(names)


def _builds(names: Mapping[str, str]) -> set[str]:
    """The names without marks and leftovers."""
    return {
        name
        for name in names
        if (match := _OWN.fullmatch(name)) is None or (match["mark"] and not match["after"])
    }


def lost_builds(result: Result) -> list[str]:
    """Builds that a command was not to touch, and that are gone or otherwise after it."""
    kept = _builds(result.reference.after)
    before = result.reference.before
    return [
        name
        for name in _builds(before)
        if name != NAME and name in kept and result.after.get(name) != before[name]
    ]
