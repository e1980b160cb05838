"""The locked environments are those of pyproject.toml, whole, and bound to no index."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
RUN = PROJECT["project"]["dependencies"]
DEV = [*RUN, *PROJECT["dependency-groups"]["dev"]]
GATEWAY = [*RUN, *PROJECT["project"]["optional-dependencies"]["gateway"]]
FLEET = [*DEV, *PROJECT["dependency-groups"]["fleet"]]
LOCKS = {"run": RUN, "gateway": GATEWAY, "dev": DEV, "fleet": FLEET}


def entries(name: str) -> Iterator[tuple[Requirement, list[str]]]:
    """Requirements of a lock, each with the hashes of its files."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text().replace("\\\n", " ")
    for line in text.splitlines():
        if line and not line.lstrip().startswith("#"):
            requirement, *hashes = re.split(r"\s--hash=", line)
            yield Requirement(requirement.strip()), [each.strip() for each in hashes]


def pinned(requirements: Iterable[Requirement]) -> dict[str, set[str]]:
    versions: dict[str, set[str]] = {}
    for each in requirements:
        (specifier,) = each.specifier
        assert specifier.operator == "=="
        versions.setdefault(canonicalize_name(each.name), set()).add(specifier.version)
    return versions


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_has_what_pyproject_asks_for(name: str) -> None:
    found = pinned(requirement for requirement, _ in entries(name))
    for text in LOCKS[name]:
        wanted = Requirement(text)
        versions = found.get(canonicalize_name(wanted.name), set())
        assert versions, f"{wanted.name} is not in the lock: make lock UPGRADE="
        assert all(wanted.specifier.contains(each) for each in versions), text


@pytest.mark.parametrize("name", LOCKS)
def test_every_entry_has_hashes_and_nothing_names_an_index(name: str) -> None:
    for requirement, hashes in entries(name):
        assert requirement.url is None
        assert hashes, requirement.name
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", each) for each in hashes)
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    assert "://" not in text
    assert "--index" not in text
    assert "--find-links" not in text


@pytest.mark.parametrize(
    ("smaller", "larger"), [("run", "gateway"), ("gateway", "dev"), ("dev", "fleet")]
)
def test_what_stands_in_two_locks_has_one_version(smaller: str, larger: str) -> None:
    one = pinned(requirement for requirement, _ in entries(smaller))
    other = pinned(requirement for requirement, _ in entries(larger))
    assert {name: other.get(name) for name in one} == one
