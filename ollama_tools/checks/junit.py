"""A report as JUnit XML, which every CI system shows."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from ollama_tools.checks.result import CheckResult, Report, Status
from ollama_tools.errors import FileProblem
from ollama_tools.safe_text import printable

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

# XML 1.0 has no way to write these, not even as references.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(report: Report) -> bytes:
    """The XML document: warnings pass with their text as output, unknown answers are skipped."""
    from xml.etree import ElementTree as ET

    counts = {
        "tests": len(report.checks),
        "failures": len(report.failures),
        "errors": 0,
        "skipped": sum(each.status is Status.UNKNOWN for each in report.checks),
    }
    totals = {
        "name": _legal(report.subject),
        **{key: str(count) for key, count in counts.items()},
        "time": _seconds(sum(each.seconds for each in report.checks)),
    }
    root = ET.Element("testsuites", totals)
    suite = ET.SubElement(root, "testsuite", totals)
    properties = ET.SubElement(suite, "properties")
    for name, value in (("server", report.server), ("ollama", report.version)):
        ET.SubElement(properties, "property", {"name": name, "value": _legal(value)})
    for check in report.checks:
        suite.append(_case(report, check))
    ET.indent(root)
    document: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return document + b"\n"


def _case(report: Report, check: CheckResult) -> Element:
    from xml.etree import ElementTree as ET

    case = ET.Element(
        "testcase",
        {
            "classname": _legal(report.subject),
            "name": _legal(check.id),
            "time": _seconds(check.seconds),
        },
    )
    saw = _legal(check.saw)
    text = "\n".join(filter(None, (saw, check.fix and f"fix: {_legal(check.fix)}")))
    match check.status:
        case Status.FAIL:
            ET.SubElement(case, "failure", {"message": saw}).text = text
        case Status.UNKNOWN:
            ET.SubElement(case, "skipped", {"message": saw}).text = text
        case _:
            ET.SubElement(case, "system-out").text = text
    return case


def write_junit(report: Report, path: Path) -> None:
    """Write a report as JUnit XML; the file is the old one or the new one, never half of it.

    Raises:
        FileProblem: It cannot be written.
    """
    target = path.resolve()
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(junit(report))
            # mkstemp makes a file that only its owner can read; CI collects it as somebody else.
            temporary.chmod(0o644)
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise FileProblem(
            f"cannot write {path}: {error.strerror}", "check the folder of --junit"
        ) from error


def _legal(text: str) -> str:
    return printable(_NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text))


def _seconds(value: float) -> str:
    return f"{value:.3f}"
