"""What the stand-in for the hub has held over time: for each repository a line of commits."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property

from tests.testbed.registry import Image
from tests.testbed.repository import Repository

# What the hub's own client calls an upload that nobody gave a name.
UPLOAD = "Upload folder using huggingface_hub"
FIRST_DATE = datetime(2025, 7, 10, tzinfo=UTC)


@dataclass(frozen=True)
class Commit:
    """A repository as it was published once.

    Attributes:
        repository: All of its files, not only those that changed.
        id: Forty hexadecimal digits.
        message: What was done; the first line is the title.
        date: When, in UTC.
    """

    repository: Repository
    id: str
    message: str
    date: datetime

    @cached_property
    def image(self) -> Image:
        """What the registry makes of it."""
        return Image.of(self.repository)


# A commit and all before it, the newest first.
Line = tuple[Commit, ...]


class History:
    """The commits of all repositories, for many threads.

    A reader gets a line as it is at that moment; writers put another one in its place.

    Args:
        repositories: The first commit of each.
    """

    def __init__(self, repositories: Iterable[Repository]) -> None:
        self._first = {item.name: (_commit(item, (), UPLOAD, None),) for item in repositories}
        self._lines: dict[str, Line] = dict(self._first)
        self._lock = threading.Lock()

    def line(self, name: str) -> Line:
        """All commits of a repository, the newest first; none where it is unknown."""
        with self._lock:
            return self._lines.get(name, ())

    def all_commits(self) -> Iterator[Commit]:
        """The commits of all repositories."""
        with self._lock:
            lines = list(self._lines.values())
        return (commit for line in lines for commit in line)

    def publish(self, repository: Repository, message: str, date: datetime | None) -> Commit:
        """Adds a commit to the line of that name; see :meth:`tests.testbed.hub.Hub.publish`."""
        with self._lock:
            before = self._lines.get(repository.name, ())
            commit = _commit(repository, before, message, date)
            self._lines[repository.name] = (commit, *before)
        return commit

    def withdraw(self, name: str, commit: str) -> None:
        """Takes a commit out of its line; see :meth:`tests.testbed.hub.Hub.withdraw`."""
        with self._lock:
            before = self._lines.get(name, ())
            after = tuple(each for each in before if each.id != commit)
            if after == before or not after:
                raise ValueError(f"{commit} is no commit of {name}, or its only one")
            self._lines[name] = after

    def reset(self) -> None:
        """Forgets all but the first commits."""
        with self._lock:
            self._lines = dict(self._first)


def last_change(line: Line, path: str) -> Commit:
    """The commit that gave a file of the newest commit in ``line`` its present bytes."""
    now = line[0].repository.files[path]
    found = line[0]
    for commit in line[1:]:
        then = commit.repository.files.get(path)
        if then is None or then.sha256 != now.sha256:
            break
        found = commit
    return found


def _commit(repository: Repository, before: Line, message: str, date: datetime | None) -> Commit:
    if not before:
        return Commit(repository, repository.commit, message, _utc(date or FIRST_DATE))
    # A day and not the clock: what a test sees is the same on every run.
    date = _utc(date or before[0].date + timedelta(days=1))
    # As with git, the parent counts: files that come back make another commit.
    state = f"{before[0].id}\n{repository.commit}\n{message}\n{date.isoformat()}"
    return Commit(repository, hashlib.sha1(state.encode()).hexdigest(), message, date)


def _utc(date: datetime) -> datetime:
    if date.tzinfo is None:
        raise ValueError(f"{date} has no time zone")
    return date.astimezone(UTC)
