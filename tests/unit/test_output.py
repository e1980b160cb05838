"""What goes to stdout, what to stderr, and what a bar leaves behind."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable

import pytest

from ollama_tools.checks.fleet import fleet_text
from ollama_tools.checks.junit import junit
from ollama_tools.checks.result import CheckResult, Report, Status
from ollama_tools.cli.output import Output
from ollama_tools.cli.report import print_report, report_lines
from ollama_tools.progress import size_text


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def to_terminal(monkeypatch: pytest.MonkeyPatch, name: str = "stderr") -> Terminal:
    """Make a stream a terminal; pytest sets its own before every test, so a fixture cannot."""
    stream = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys, name, stream)
    return stream


def speak(output: Output) -> None:
    output.step("reading")
    output.transfer("sending", 50, 100)
    output.warn("careful")
    output.hint("go on")
    output.result({"a": "ü"}, "human", ["one", "two"])


def test_people_get_the_text_on_stdout_and_everything_else_on_stderr(
    capsys: pytest.CaptureFixture[str],
) -> None:
    speak(Output())
    said = capsys.readouterr()
    assert said.out == "human\n"
    assert said.err.splitlines() == [
        "reading",
        "  sending: 50 B of 100 B, 50%",
        "warning: careful",
        "hint: go on",
    ]


def test_json_is_one_document_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    speak(Output(json=True))
    assert json.loads(capsys.readouterr().out) == {"a": "ü"}


def test_quiet_prints_names_and_no_progress_but_warnings(
    capsys: pytest.CaptureFixture[str],
) -> None:
    speak(Output(quiet=True))
    said = capsys.readouterr()
    assert said.out == "one\ntwo\n"
    assert said.err == "warning: careful\n"


def test_json_wins_over_quiet_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    speak(Output(json=True, quiet=True))
    said = capsys.readouterr()
    assert json.loads(said.out) == {"a": "ü"}
    assert "reading" not in said.err


def test_a_long_transfer_is_a_line_per_ten_percent(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output()
    for done in range(0, 1001):
        output.transfer("sending", done, 1000)
    assert len(capsys.readouterr().err.splitlines()) == 10


def test_a_slow_transfer_is_a_line_per_ten_seconds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    output = Output()
    for done in range(1, 61):
        now = float(done)
        output.transfer("pulling", done, None)
    assert len(capsys.readouterr().err.splitlines()) == 6


def test_a_status_without_bytes_is_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    Output().transfer("writing manifest", 0, None)
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar_that_is_gone_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = to_terminal(monkeypatch)
    with Output() as output:
        output.step("bringing [weights]")
        output.transfer("sending", 5, 100)
        output.warn("careful")
        output.transfer("sending", 100, 100)
    text = terminal.getvalue()
    assert "━" in text
    assert "100 B of 100 B" in text
    assert "careful" in text
    assert text.endswith("bringing [weights]\x1b[0m\n")
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l"), "the cursor is shown again"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("broken")])
def test_an_exception_takes_the_bar_off_the_terminal(
    monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    terminal = to_terminal(monkeypatch)

    def work() -> None:
        with Output() as output:
            output.step("working")
            output.transfer("sending", 5, 100)
            raise error

    with pytest.raises(type(error)):
        work()
    text = terminal.getvalue()
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")
    assert text.endswith("\x1b[2K"), "the bar's line is wiped, and nothing says that it finished"


def test_a_dumb_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = to_terminal(monkeypatch)
    monkeypatch.setenv("TERM", "dumb")
    speak(Output())
    assert "\x1b" not in terminal.getvalue()
    assert "reading\n" in terminal.getvalue()


@pytest.mark.parametrize("by_option", [True, False])
def test_no_color_leaves_no_colours(monkeypatch: pytest.MonkeyPatch, by_option: bool) -> None:
    terminal = to_terminal(monkeypatch)
    if not by_option:
        monkeypatch.setenv("NO_COLOR", "1")
    with Output(color=not by_option) as output:
        output.step("working")
        output.warn("careful")
    assert "\x1b[3" not in terminal.getvalue()


def test_a_piped_table_is_whole(capsys: pytest.CaptureFixture[str]) -> None:
    Output().table(["NAME", "NOTE"], [["a", "x" * 300], ["long-name", "b\x1b[31m"]])
    assert capsys.readouterr().out == (
        f"NAME       NOTE\na          {'x' * 300}\nlong-name  b\\x1b[31m\n"
    )


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (14_333_918_432, "13.3 GiB"),
        (10**15, "909 TiB"),
    ],
)
def test_sizes(count: int, text: str) -> None:
    assert size_text(count) == text


REPORT = Report(
    "devstral:latest",
    "http://127.0.0.1:11434",
    "0.34.4",
    (
        CheckResult("chat", Status.PASS, "answers", fix="nothing"),
        CheckResult("tools", Status.FAIL, "none\x1b[2J" + "x" * 200, fix="make it again"),
        CheckResult("kv", Status.UNKNOWN, "not seen", fix="look there"),
    ),
)


def test_a_piped_report_names_model_server_and_version_and_loses_nothing() -> None:
    lines = report_lines(REPORT)
    assert lines[0] == "devstral:latest on http://127.0.0.1:11434, Ollama 0.34.4"
    assert lines[1] == "pass     chat   answers"
    assert lines[2] == "fail     tools  none\\x1b[2J" + "x" * 200
    assert lines[3] == "                fix: make it again"
    assert lines[-1] == "1 passed, 1 failed, 1 unknown"


def test_a_report_on_a_terminal_is_wrapped_and_escapes_nothing_to_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = to_terminal(monkeypatch, "stdout")
    monkeypatch.setenv("COLUMNS", "60")
    print_report(REPORT, Output(color=False))
    text = stream.getvalue()
    assert "✗" in text
    assert "\x1b[2J" not in text
    assert text.count("x") >= 200
    assert all(len(line) <= 60 for line in text.splitlines() if "\x1b" not in line)


HOSTILE = "".join(map(chr, (*range(0x20), *range(0x7F, 0xA0)))) + "\u202e\u2066\u200f\u2028\udcff"


def is_harmless(text: str, but: str = "\n") -> bool:
    return all(each.isprintable() or each in but for each in text)


@pytest.mark.parametrize("mode", ["human", "quiet", "json"])
@pytest.mark.parametrize("terminal", [True, False])
def test_no_control_character_gets_to_stdout(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, mode: str, terminal: bool
) -> None:
    stream = to_terminal(monkeypatch, "stdout") if terminal else None
    with Output(json=mode == "json", quiet=mode == "quiet", color=False) as output:
        document = {"name": HOSTILE, HOSTILE: 1}
        output.result(document, ["first", f"- {HOSTILE}"], [HOSTILE, HOSTILE])
    said = stream.getvalue() if stream else capsys.readouterr().out
    assert is_harmless(said, "\n\t" if mode == "human" else "\n")
    if mode != "json":
        assert len(said.splitlines()) == 2, "a name cannot pretend to be two"
    if mode == "json":
        assert json.loads(said) == {"name": HOSTILE, HOSTILE: 1}


def test_no_control_character_gets_into_a_table(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Output().table(["name"], [[HOSTILE]])
    assert is_harmless(capsys.readouterr().out)
    terminal = to_terminal(monkeypatch, "stdout")
    Output(color=False).table(["name"], [[HOSTILE]])
    assert is_harmless(terminal.getvalue().replace("\x1b[1m", "").replace("\x1b[0m", ""))


def test_no_control_character_and_no_password_gets_to_stderr(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = f"{HOSTILE} http://user:s3cret@gpu1"
    output = Output()
    output.step(text)
    output.transfer(text, 50, 100)
    output.warn(text)
    output.note(text)
    output.hint(text)
    said = capsys.readouterr().err
    assert is_harmless(said)
    assert len(said.splitlines()) == 5
    assert "s3cret" not in said


def test_a_moving_bar_shows_no_control_character_either(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = to_terminal(monkeypatch)
    hostile = "\x1b]0;title\x07\x9b31m\u202e http://user:s3cret@gpu1"
    with Output() as output:
        output.step(hostile)
        output.transfer(hostile, 50, 100)
        output.warn(hostile)
    said = terminal.getvalue()
    assert not {"\x1b]", "\x07", "\x9b", "\u202e", "s3cret"} & {
        each for each in ("\x1b]", "\x07", "\x9b", "\u202e", "s3cret") if each in said
    }


FAKE = "gone\n- devstral-small-2507:Q8_0 removed\r\n\x0bfix: run this"


@pytest.mark.parametrize("terminal", [True, False])
def test_a_name_with_line_ends_in_it_fakes_no_line_anywhere(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    def lines(say: Callable[[Output], None], *, quiet: bool = False) -> int:
        stream = to_terminal(monkeypatch, "stdout") if terminal else None
        say(Output(quiet=quiet, color=False))
        said = stream.getvalue() if stream else capsys.readouterr().out
        return len(said.splitlines())

    monkeypatch.setenv("COLUMNS", "200")
    report = Report(FAKE, FAKE, FAKE, (CheckResult(FAKE, Status.FAIL, FAKE, FAKE),))
    assert lines(lambda output: output.result({}, FAKE, FAKE)) == 1
    assert lines(lambda output: output.result({}, FAKE, FAKE), quiet=True) == 1
    assert lines(lambda output: output.write(FAKE, FAKE)) == 2
    assert lines(lambda output: output.table(["NAME"], [[FAKE]])) == 2
    assert lines(lambda output: print_report(report, output)) == 4
    document = junit(report).decode()
    assert [each for each in document.splitlines() if each.strip().startswith("- devstral")] == []
    assert "&#10;" not in document
    shown = {"subject": FAKE, "version": FAKE, "checks": [report.checks[0].as_json()]}
    assert len(fleet_text({FAKE: shown}).splitlines()) == 2
