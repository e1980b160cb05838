"""Which findings a person does not want to see: by option, or by a comment in the file.

Ollama knows no comment behind a value, so in a Modelfile the comment stands on a line of its own
and holds for the whole instruction under it. In a template it stands in a comment of the template's
language and holds for its own line, or for the next one where nothing else is on its line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ollama_tools.errors import UsageError
from ollama_tools.lint.finding import RULES, Finding
from ollama_tools.server.modelfile_text import Modelfile

_CODES = r"[A-Za-z]{2}\d{1,3}(?:\s*,\s*[A-Za-z]{2}\d{1,3})*"
_FILE = re.compile(rf"lint:\s*ignore\s*=\s*({_CODES})")
_LINE = re.compile(rf"\bnoqa\b(?::\s*({_CODES}))?")
_BARE_COMMENT = re.compile(r"\s*(#.*|\{\{-?\s*/\*.*\*/\s*-?\}\}|\{#.*#\})\s*")


def parse_codes(texts: Iterable[str]) -> tuple[str, ...]:
    """Codes, or beginnings of codes, out of ``DV101,DV2``.

    Raises:
        UsageError: No rule has such a code.
    """
    codes = tuple(
        code.strip().upper() for text in texts for code in text.split(",") if code.strip()
    )
    for code in codes:
        if not any(each.startswith(code) for each in RULES):
            raise UsageError(
                f"no rule begins with {code!r}", "docs/reference/lint.md lists the rules"
            )
    return codes


def chosen(
    findings: Iterable[Finding], select: Sequence[str], ignore: Sequence[str]
) -> list[Finding]:
    """The findings whose codes begin as selected and not as ignored."""
    return [
        each
        for each in findings
        if (not select or each.code.startswith(tuple(select)))
        and not each.code.startswith(tuple(ignore) or ("\0",))
    ]


def without_ignored(
    findings: Iterable[Finding], text: str, modelfile: Modelfile | None
) -> list[Finding]:
    """The findings that no comment of the file ignores."""
    everywhere: set[str] = set()
    by_line: dict[int, set[str]] = {}
    for number, line in enumerate(re.split("\r\n|\r|\n", text), 1):
        if match := _FILE.search(line):
            everywhere |= _split(match[1])
        if "noqa" in line and (match := _LINE.search(line)):
            codes = _split(match[1]) if match[1] else {""}
            for each in _covered(number, line, modelfile):
                by_line.setdefault(each, set()).update(codes)
    return [
        each
        for each in findings
        if not _matches(each.code, everywhere)
        and not (each.line is not None and _matches(each.code, by_line.get(each.line, set())))
    ]


def _covered(number: int, line: str, modelfile: Modelfile | None) -> Iterable[int]:
    if modelfile is not None and number in modelfile.comments:
        # Several comments may stand on top of each other.
        below = next((each for each in modelfile.instructions if each.line > number), None)
        return range(below.line, below.last_line + 1) if below else (number + 1,)
    return (number, number + 1) if _BARE_COMMENT.fullmatch(line) else (number,)


def _split(text: str) -> set[str]:
    return {code.strip().upper() for code in text.split(",")}


def _matches(code: str, codes: set[str]) -> bool:
    return any(code.startswith(each) for each in codes)
