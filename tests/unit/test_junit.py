"""JUnit XML that every CI system can read."""

from __future__ import annotations

import stat
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from ollama_tools.checks import junit as module
from ollama_tools.checks.junit import junit, write_junit
from ollama_tools.checks.result import CheckResult, Report, Status
from ollama_tools.errors import FileProblem

REPORT = Report(
    "devstral:latest",
    "http://127.0.0.1:11434",
    "0.34.4",
    (
        CheckResult("chat", Status.PASS, "answers", seconds=1.25),
        CheckResult(
            "tools", Status.FAIL, 'said "a<b>&\x00\x1b\ud800c"', fix="mend it", seconds=0.5
        ),
        CheckResult("kv", Status.UNKNOWN, "not seen", fix="look there"),
        CheckResult("context", Status.WARN, "small", fix="more"),
    ),
)


def test_the_suite_counts_its_cases() -> None:
    root = ET.fromstring(junit(REPORT))
    suite = root[0]
    assert root.tag == "testsuites"
    assert suite.tag == "testsuite"
    assert suite.attrib == {
        "name": "devstral:latest",
        "tests": "4",
        "failures": "1",
        "errors": "0",
        "skipped": "1",
        "time": "1.750",
    }
    assert len(suite.findall("testcase")) == 4


def test_every_case_has_class_name_and_time() -> None:
    case = ET.fromstring(junit(REPORT)).findall("*/testcase")[0]
    assert case.attrib == {"classname": "devstral:latest", "name": "chat", "time": "1.250"}
    assert case.find("failure") is None


def test_a_failure_has_a_message_and_its_fix_without_illegal_characters() -> None:
    failure = ET.fromstring(junit(REPORT)).find("*/testcase/failure")
    assert failure is not None
    assert failure.attrib["message"] == 'said "a<b>&���c"'
    assert failure.text is not None
    assert failure.text.endswith("fix: mend it")


def test_unknown_is_skipped_and_a_warning_passes_with_its_text() -> None:
    cases = ET.fromstring(junit(REPORT)).findall("*/testcase")
    assert cases[2].find("skipped") is not None
    assert [child.tag for child in cases[3]] == ["system-out"]
    assert cases[3][0].text == "small\nfix: more"


def test_a_file_is_replaced_whole_and_others_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "report.xml"
    path.write_text("old")
    write_junit(REPORT, path)
    assert path.read_bytes() == junit(REPORT)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_while_writing_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Report) -> bytes:
        raise OSError(28, "No space left on device")

    path = tmp_path / "report.xml"
    path.write_text("old")
    monkeypatch.setattr(module, "junit", fail)
    with pytest.raises(FileProblem, match="No space left"):
        write_junit(REPORT, path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_a_problem_with_a_fix(tmp_path: Path) -> None:
    with pytest.raises(FileProblem, match="cannot write"):
        write_junit(REPORT, tmp_path / "none" / "report.xml")


def test_what_xml_allows_and_a_terminal_obeys_is_escaped() -> None:
    hostile = "".join(map(chr, range(0x7F, 0xA0))) + "\u202e\u2066\u2028"
    report = Report(
        hostile, hostile, hostile, (CheckResult("tools", Status.FAIL, hostile, fix=hostile),)
    )
    text = junit(report).decode()
    assert all(each.isprintable() or each == "\n" for each in text)
    ET.fromstring(text)
