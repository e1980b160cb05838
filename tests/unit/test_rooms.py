"""The rooms of the package: who may know of whom."""

from __future__ import annotations

import ast
import graphlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "ollama_tools"

ORDER = (
    "__main__",
    "cli",
    "__init__",
    "model",
    "checks",
    "wanted",
    "lint",
    "settings",
    "server",
    "devstral",
    "files",
    "progress",
    "json_text",
    "errors",
)
"""From the street to the cellar: a room uses those below it, never one above."""


@dataclass(frozen=True)
class Import:
    """One name that a module takes from another.

    Attributes:
        importer: The module, as ``room.module``.
        imported: The other one.
        name: What is taken; empty for the module as a whole.
    """

    importer: str
    imported: str
    name: str

    @property
    def rooms(self) -> tuple[str, str]:
        """The rooms of both."""
        return self.importer.partition(".")[0], self.imported.partition(".")[0]

    def __str__(self) -> str:
        return f"{self.importer} takes {self.name or 'all'} of {self.imported}"


def modules() -> dict[str, Path]:
    """All modules, the package's own name left out."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts if len(parts) == 1 else [p for p in parts if p != "__init__"])] = path
    return found


def imports() -> Iterator[Import]:
    """Every import of the package from itself, wherever in a module it stands."""
    known = modules()
    for importer, path in known.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                assert not any(each.name.startswith("ollama_tools") for each in node.names), path
            if not isinstance(node, ast.ImportFrom):
                continue
            assert node.level == 0, f"{path}: relative"
            whole, _, module = (node.module or "").partition(".")
            if whole != "ollama_tools":
                continue
            for each in node.names:
                inner = f"{module}.{each.name}".strip(".")
                if inner in known:
                    yield Import(importer, inner, "")
                else:
                    yield Import(importer, module or "__init__", each.name)


def test_every_module_has_a_room() -> None:
    assert {name.partition(".")[0] for name in modules()} == set(ORDER)


def test_no_room_knows_of_one_above_it() -> None:
    # The face names where its things live; whoever asks for one goes there.
    upwards = [
        str(each)
        for each in imports()
        if ORDER.index(each.rooms[0]) > ORDER.index(each.rooms[1]) and each.name != "__version__"
    ]
    assert upwards == []


def test_no_module_needs_itself() -> None:
    graph: dict[str, set[str]] = defaultdict(set)
    for each in imports():
        graph[each.importer].add(each.imported)
    list(graphlib.TopologicalSorter(graph).static_order())


def test_what_is_private_to_a_module_stays_there() -> None:
    private = [each for each in imports() if each.name.startswith("_")]
    assert [str(each) for each in private if each.name != "__version__"] == []
