"""Silence is no answer: whoever reads an error as one lets those through that say nothing."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from docs.rooms import modules

_WIDE = {"ServerError", "DevstralError"}
_PASSED_ON = {"OF_THE_WAY", "NO_ANSWER"}

MAY = {
    # What is put away, or told, after something else has failed already.
    "model.apply._remove_base",
    "model.builds._put_back",
    "model.builds.standing",
    "server.client.Server._comes_back",
    "server.guest._put_away",
}


def _names(node: ast.expr | None) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)} if node else set()


def _ends_in_raise(handler: ast.ExceptHandler) -> bool:
    return isinstance(handler.body[-1], ast.Raise)


def _readers(tree: ast.AST, place: str) -> Iterator[str]:
    """Where an error of a server may be taken for an answer."""
    for node in ast.iter_child_nodes(tree):
        inside = (
            f"{place}.{node.name}" if isinstance(node, ast.FunctionDef | ast.ClassDef) else place
        )
        if isinstance(node, ast.Try):
            passed = False
            for handler in node.handlers:
                caught = _names(handler.type)
                passed |= bool(caught & _PASSED_ON) and _ends_in_raise(handler)
                if caught & _WIDE and not passed and not _ends_in_raise(handler):
                    yield place
        if isinstance(node, ast.With):
            for item in node.items:
                call = item.context_expr
                if isinstance(call, ast.Call) and "suppress" in _names(call.func):
                    caught = {name for each in call.args for name in _names(each)}
                    if caught & _WIDE:
                        yield place
        yield from _readers(node, inside)


def test_no_error_without_an_answer_is_read_as_one() -> None:
    found = {
        each
        for name, path in modules().items()
        for each in _readers(ast.parse(path.read_text(encoding="utf-8")), name)
    }
    assert found == MAY
