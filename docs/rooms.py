"""``python -m docs.rooms`` writes docs/explanation/rooms.md out of the package itself."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "ollama_tools"
TARGET = Path(__file__).parent / "explanation" / "rooms.md"

ORDER = (
    "__main__",
    "cli",
    "collection",
    "__init__",
    "gateway",
    "model",
    "checks",
    "wanted",
    "lint",
    "settings",
    "server",
    "devstral",
    "files",
    "network",
    "hardware",
    "progress",
    "interrupts",
    "json_text",
    "declared",
    "errors",
    "safe_text",
)
"""From the street to the cellar: a room uses those below it, never one above."""


@dataclass(frozen=True)
class Import:
    """What one module takes from another.

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
    """Every module of the package by its name, ``room.module``; a room's own is the room's name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        *rooms, module = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(rooms) if rooms and module == "__init__" else ".".join([*rooms, module])
        found[name] = path
    return found


@cache
def imports() -> tuple[Import, ...]:
    """Every import of the package from itself, wherever in a module it stands."""
    return tuple(_imports())


def _imports() -> Iterator[Import]:
    known = modules()
    for importer, path in known.items():
        for node in ast.walk(_tree(path)):
            if not isinstance(node, ast.ImportFrom):
                continue
            whole, _, module = (node.module or "").partition(".")
            if whole != PACKAGE.name:
                continue
            for each in node.names:
                inner = f"{module}.{each.name}".strip(".")
                if inner in known:
                    yield Import(importer, inner, "")
                else:
                    yield Import(importer, module or "__init__", each.name)


def markdown() -> str:
    """The page."""
    return "\n".join([_HEAD, *_picture(), _BELOW, *_contents(), ""])


_HEAD = """# Where a thing lives

Written by `make docs` out of the package itself; a test holds it to the code.

The rooms of `ollama_tools/` are cut by what they know. A room uses those below it in this list,
never one above; nothing whose name begins with an underscore leaves its module.
"""

_BELOW = """
`progress`, `interrupts`, `json_text`, `declared`, `errors` and `safe_text` are used by all of them.
"""


def _picture() -> Iterator[str]:
    """Who takes things from whom, without what another way says already."""
    uses: dict[str, set[str]] = defaultdict(set)
    for each in imports():
        importer, imported = each.rooms
        if importer != imported and _is_room(importer) and _is_room(imported):
            uses[importer].add(imported)
    yield "```mermaid"
    yield "flowchart TD"
    for room in filter(_is_room, ORDER):
        for other in filter(uses[room].__contains__, ORDER):
            if not any(other in _below(uses, third) for third in uses[room] - {other}):
                yield f"    {room} --> {other}"
    yield "```"


def _below(uses: dict[str, set[str]], room: str) -> set[str]:
    found: set[str] = set()
    waiting = [room]
    while waiting:
        new = uses[waiting.pop()] - found
        found |= new
        waiting += new
    return found


def _contents() -> Iterator[str]:
    known = modules()
    for room in filter(_is_room, ORDER):
        yield f"\n## {room}/\n\n{_first_line(known[room])}\n"
        yield "| module | |"
        yield "|---|---|"
        for name, path in known.items():
            if name.startswith(f"{room}."):
                module = name.partition(".")[2]
                yield f"| `{module}` | {_first_line(path)} |".replace("``", "`")


def _is_room(name: str) -> bool:
    return (PACKAGE / name).is_dir()


def _first_line(path: Path) -> str:
    return (ast.get_docstring(_tree(path)) or "").partition("\n")[0]


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    TARGET.write_text(markdown(), encoding="utf-8")
