"""How the command line ends: exit codes, errors of two lines, JSON, interrupts."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import ollama_tools
from ollama_tools import __main__ as entry
from ollama_tools.errors import CheckFailed, DevstralError, ServerUnreachable, UsageError

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _calm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEVSTRAL_OLLAMA_DEBUG", raising=False)


def start(*arguments: str, stdout: int = subprocess.PIPE) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "ollama_tools", *arguments],
        cwd=ROOT,
        text=True,
        stdout=stdout,
        stderr=subprocess.PIPE,
    )


def fail_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(_: list[str]) -> int:
        raise error

    monkeypatch.setattr(entry, "_run", fail)


def test_the_version_is_told_without_the_command_line_library() -> None:
    code = (
        "import sys; sys.argv = ['devstral-ollama', '--version']\n"
        "import ollama_tools.__main__ as entry\n"
        "try: entry.main()\n"
        "except SystemExit as end: assert end.code == 0\n"
        "assert not {'typer', 'click', 'rich', 'httpx', 'yaml'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True, check=False
    )
    assert (done.stdout, done.stderr) == (f"devstral-ollama {ollama_tools.__version__}\n", "")


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from ollama_tools.__main__ import run\n"
        "assert run(['--help']) == 0\n"
        "heavy = {'ollama', 'httpx', 'huggingface_hub', 'jinja2', 'yaml', 'platformdirs'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True, check=False
    )
    assert done.stderr == ""


@pytest.mark.parametrize("arguments", [["--version"], ["--quiet", "--version"]])
def test_the_version_is_an_option_like_any_other(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert entry.run(arguments) == 0
    assert capsys.readouterr().out == f"devstral-ollama {ollama_tools.__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_lists_the_commands(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.run(arguments) == 0
    said = capsys.readouterr()
    assert "doctor" in said.out
    assert said.err == ""


@pytest.mark.parametrize("arguments", [["--json", "env"], ["env", "--json"]])
def test_global_options_stand_before_or_after_the_command(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert entry.run(arguments) == 0
    assert json.loads(capsys.readouterr().out)["environment"]["OLLAMA_KV_CACHE_TYPE"] == "q8_0"


def test_every_command_shows_the_global_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.run(["doctor", "--help"]) == 0
    said = capsys.readouterr().out
    assert all(each in said for each in ("--json", "--quiet", "--no-color", "--debug"))


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["nonsense"], "no such command 'nonsense'"),
        (["env", "--xyz"], "no such option: --xyz"),
        (["env", "--context", "many"], "the context 'many' is no number"),
        (["env", "--kv-cache-type", "q9_9"], "'q8_0'"),
        (["env", "--context", "5"], "too small"),
    ],
)
def test_wrong_usage_ends_with_two_lines_and_exit_code_two(
    arguments: list[str], what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert entry.run(arguments) == 2
    said = capsys.readouterr()
    lines = said.err.splitlines()
    assert said.out == ""
    assert len(lines) == 2
    assert lines[0].startswith("error: ")
    assert what in lines[0]
    assert lines[1].startswith("fix: ")


def test_wrong_usage_is_json_where_json_was_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert entry.run(["env", "--xyz", "--json"]) == 2
    said = capsys.readouterr()
    assert json.loads(said.out) == {
        "error": "no such option: --xyz",
        "fix": "see: devstral-ollama env --help",
        "exit_code": 2,
    }
    assert said.err == ""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DevstralError("it broke", "mend it"), 1),
        (ServerUnreachable("it broke", "mend it"), 1),
        (UsageError("it broke", "mend it"), 2),
        (CheckFailed("it broke", "mend it"), 4),
    ],
)
def test_errors_say_what_and_how_to_mend_it(
    error: DevstralError,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fail_with(monkeypatch, error)
    assert entry.run([]) == code
    assert capsys.readouterr().err == "error: it broke\nfix: mend it\n"
    assert entry.run(["--json"]) == code
    said = json.loads(capsys.readouterr().out)
    assert said == {"error": "it broke", "fix": "mend it", "exit_code": code}


def test_what_nobody_foresaw_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail_with(monkeypatch, ZeroDivisionError("division\nby zero"))
    assert entry.run([]) == 1
    said = capsys.readouterr().err
    assert said == "error: unexpected ZeroDivisionError (division by zero): please report\n"


@pytest.mark.parametrize("by_option", [True, False])
def test_a_traceback_is_for_debugging(
    by_option: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail_with(monkeypatch, DevstralError("it broke"))
    if not by_option:
        monkeypatch.setenv("DEVSTRAL_OLLAMA_DEBUG", "1")
    assert entry.run(["--debug"] if by_option else []) == 1
    said = capsys.readouterr().err
    assert said.startswith("Traceback")
    assert said.endswith("error: it broke\n")


def test_an_interrupt_says_what_is_left_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupt = KeyboardInterrupt()
    interrupt.add_note("run it again to go on")
    fail_with(monkeypatch, interrupt)
    assert entry.run([]) == 130
    assert capsys.readouterr().err == "interrupted\nrun it again to go on\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_a_command_that_waits_for_a_server(number: signal.Signals) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(30)
        process = start("list", "--host", f"127.0.0.1:{silent.getsockname()[1]}")
        connection, _ = silent.accept()
        with connection:
            process.send_signal(number)
            out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, "", "interrupted\n")


def test_a_reader_that_goes_away_is_no_error_worth_a_word() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = start("env", stdout=writer)
    os.close(writer)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (1, "")


def test_no_server_is_one_error_of_two_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert entry.run(["list", "--host", f"127.0.0.1:{port}"]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_a_taken_port_is_found_before_the_server_starts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        address = f"127.0.0.1:{port}"
        assert entry.run(["serve", "--ollama", "true", "--host", address, "--quiet"]) == 1
    assert "already" in capsys.readouterr().err


HOSTILE = "\x1b[2J\x9b31m\x7f\u202e\x00\udcff http://user:s3cret@gpu1"


@pytest.mark.parametrize(
    "error",
    [
        UsageError(f"{HOSTILE!s} is none", HOSTILE),
        ValueError(HOSTILE),
        KeyboardInterrupt(),
    ],
)
@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize("debug", [True, False])
def test_no_message_moves_the_cursor_or_tells_a_password(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    as_json: bool,
    debug: bool,
) -> None:
    error.add_note(HOSTILE)
    fail_with(monkeypatch, error)
    entry.run([flag for flag, is_on in (("--json", as_json), ("--debug", debug)) if is_on])
    said = capsys.readouterr()
    for text in (said.out, said.err):
        assert all(each.isprintable() or each == "\n" for each in text)
        assert "s3cret" not in text


@pytest.mark.parametrize(
    "arguments",
    [
        ["list", "--host", "ftp://user:s3cret@h"],
        ["list", "--host", "http://user:s3cret@h:port"],
        ["list", "--host", "http://user:s3cret@[::"],
        ["list", "--host", "user:s3cret@h h"],
        ["create", "http://user:s3cret@h/me/model"],
        ["create", "user:s3cret@h"],
        ["create", "hf.co/user:s3cret@h/x/y"],
        ["create", "user:s3cret@h@sha256:12"],
        ["create", "Q4_K_M", "--registry", "http://user:s3cret@h"],
        ["create", "Q4_K_M", "--registry", "user:s3cret@h"],
        ["create", "Q4_K_M", "--via", "http://user:s3cret@h"],
        ["create", "Q4_K_M", "--name", "http://user:s3cret@h"],
        ["create", "Q4_K_M", "--release", "http://user:s3cret@h"],
        ["create", "Q4_K_M", "--context", "http://user:s3cret@h"],
        ["create", "Q4_K_M", "--http://user:s3cret@h"],
        ["create", "Q4_K_M", "http://user:s3cret@h"],
        ["http://user:s3cret@h"],
        ["create", "Q4_K_M", "-p", "http://user:s3cret@h"],
    ],
)
@pytest.mark.parametrize("flags", [[], ["--json"], ["--debug"]])
def test_what_was_mistyped_is_never_printed_back_with_its_password(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    flags: list[str],
) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    assert entry.run([*arguments, *flags]) != 0
    said = capsys.readouterr()
    assert "s3cret" not in said.out + said.err
