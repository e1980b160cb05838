"""Tables for people: fitted to a terminal, or aligned text that loses nothing in a pipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ollama_tools.safe_text import printable

if TYPE_CHECKING:
    from rich.table import Table


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines, each column as wide as it needs to be; the last one is not padded."""
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]


def rich_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """The same as a table that wraps its cells to the terminal's width."""
    from rich.text import Text

    table = borderless(header)
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table


def borderless(header: Sequence[str]) -> Table:
    """An empty table without lines, which folds what is too wide."""
    from rich.table import Table

    table = Table(*header, box=None, show_header=bool(header), pad_edge=False, header_style="bold")
    for column in table.columns:
        column.overflow = "fold"
    return table
