"""The rooms of the package: who may know of whom."""

from __future__ import annotations

import ast
import graphlib
from collections import defaultdict

from docs.rooms import ORDER, TARGET, imports, markdown, modules


def test_every_module_has_a_room() -> None:
    assert {name.partition(".")[0] for name in modules()} == set(ORDER)


def test_no_room_knows_of_one_above_it() -> None:
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


def test_a_module_is_named_whole_where_it_is_imported() -> None:
    other_ways = [
        f"{name}:{node.lineno}"
        for name, path in modules().items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.ImportFrom) and node.level)
        or (isinstance(node, ast.Import) and any("ollama_tools" in a.name for a in node.names))
    ]
    assert other_ways == []


def test_the_page_about_the_rooms_is_what_the_code_says() -> None:
    assert TARGET.read_text(encoding="utf-8") == markdown(), "run: make docs"
