"""Pictures: an SVG, or an HTML page that holds one, in colours that everybody can tell apart."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from pathlib import Path

from ollama_tools.errors import FileProblem, UsageError

# Okabe and Ito's colours, which people with any kind of colour vision tell apart; dashes help too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
DASHES = ("", "8 4", "2 3", "12 4 2 4", "6 2", "1 4")


def require_picture(path: Path) -> None:
    """Refuse what will be no picture before the work that it is to show.

    Raises:
        UsageError: The name has another ending than ``.svg`` or ``.html``.
        FileProblem: There is no such folder.
    """
    if path.suffix.lower() not in (".svg", ".html"):
        raise UsageError(f"{path} is no name of a picture", "let it end with .svg or .html")
    if not path.parent.is_dir():
        raise FileProblem(
            f"{path} cannot be written: there is no folder {path.parent}",
            "name a file in a folder that is there",
        )


def start(title: str, width: int, height: int) -> Iterable[str]:
    """The first lines of an SVG: a white ground, and what it is called."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'font-family="sans-serif" font-size="13" fill="#222" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    )


def write_picture(path: Path, title: str, lines: Iterable[str]) -> None:
    """Write a picture.

    Args:
        path: An ``.svg``, or an ``.html`` that holds it.
        title: What the page is called.
        lines: The lines of the SVG, its end left out.

    Raises:
        UsageError: The name has another ending.
        FileProblem: The file cannot be written.
    """
    require_picture(path)
    picture = "\n".join([*lines, "</svg>"]) + "\n"
    if path.suffix.lower() == ".html":
        picture = (
            f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
            f"<title>{escape(title)}</title>\n{picture}</html>\n"
        )
    try:
        path.write_text(picture, encoding="utf-8")
    except OSError as error:
        raise FileProblem(
            f"{path} cannot be written: {error.strerror}", "name a file in a folder that is there"
        ) from error
