"""The judge of the task: what it says of sound games, faulty ones, and programs that mean harm."""

from __future__ import annotations

import os
import re
import socket
import sys
from pathlib import Path

import pytest

from ollama_tools.checks import sandbox
from ollama_tools.checks.sandbox_worker import NoSandbox
from ollama_tools.checks.tasks import (
    TASKS,
    judge,
    require_player,
    task_prompt,
)
from ollama_tools.errors import FileProblem, UsageError
from ollama_tools.progress import Silence
from tests.games import ANSWERS, HOSTILE, Told, answer, hostile


@pytest.mark.parametrize("told", ANSWERS.values(), ids=ANSWERS)
def test_each_answer_is_judged_rightly(told: Told) -> None:
    verdict = judge(told.text, Silence())
    failed = [each for each in verdict.checks if each.status != "pass"]
    if not told.fails:
        assert failed == []
        assert [each.id for each in verdict.checks] == [
            "one-block",
            "parses",
            "pygame",
            "runs nobody",
            "quits nobody",
            "runs space",
            "quits space",
            "picture",
            "space",
        ]
        assert verdict.picture is not None
        assert verdict.picture.startswith(b"\x89PNG")
    else:
        assert [each.id for each in failed] == [told.fails], failed
        assert told.words in failed[0].saw
        assert failed[0].fix


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    path = tmp_path / "outside.txt"
    path.write_text("theirs")
    path.chmod(0o644)
    return path


@pytest.mark.parametrize(("program", "words"), HOSTILE.values(), ids=HOSTILE)
def test_a_program_that_means_harm_does_none(
    outside: Path, monkeypatch: pytest.MonkeyPatch, program: str, words: str
) -> None:
    monkeypatch.setattr(sandbox, "SECONDS", 4)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.01)
        port = listening.getsockname()[1]
        filled = program.format(port=port, outside=str(outside), parent=os.getpid())
        verdict = judge(hostile(filled), Silence())
        with pytest.raises(TimeoutError):
            listening.accept()
    (failed,) = (each for each in verdict.checks if each.status != "pass")
    assert failed.id == "runs nobody"
    assert re.search(words, failed.saw), failed.saw
    assert outside.read_text() == "theirs"
    assert outside.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("text", "blocks"),
    [
        (answer(word="py"), 1),
        (answer(word=""), 1),
        (answer(word="Python"), 1),
        (answer().replace("```", "~~~~"), 1),
        (answer().replace("\n", "\r\n"), 1),
        ("```bash\npip install pygame\n```\n" + answer(), 1),
        ("```\nsome text\n```\n```\nmore\n```\n", 2),
        ("", 0),
        ("`" * 100_000, 0),
    ],
)
def test_one_block_is_found_however_it_is_fenced(
    monkeypatch: pytest.MonkeyPatch, text: str, blocks: int
) -> None:
    monkeypatch.setattr(
        "ollama_tools.checks.tasks.run", lambda *_: sandbox.Ended(1, "not run", "", ())
    )
    (first, *_) = judge(text, Silence()).checks
    assert (first.id, first.status == "pass") == ("one-block", blocks == 1)


@pytest.mark.parametrize(
    "program",
    [
        "(" * 1_000_000,
        "[" * 90 + "]" * 90 + "\n" + "-" * 500_000 + "1",
        "a" + ".b" * 200_000,
        "x = " + "1 + " * 100_000 + "1",
        "if x:\n" + "".join(f"{' ' * n}if x:\n" for n in range(1, 150)),
        "\0import pygame",
        "'" + "x" * 1_000_000,
        "\ud800 = 1",
    ],
)
def test_a_text_that_no_parser_likes_is_no_program(program: str) -> None:
    (*_, last) = judge(answer(f"{program}\n"), Silence()).checks
    assert (last.id, last.status) in {("parses", "fail"), ("pygame", "fail")}


def test_without_pygame_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pygame", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="pygame is not installed") as caught:
        require_player()
    assert "pip install" in caught.value.fix


def test_without_a_sandbox_nothing_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> int:
        raise NoSandbox("Landlock: Function not implemented")

    monkeypatch.setattr(sandbox, "landlock_version", none)
    with pytest.raises(UsageError, match=r"no sandbox .* Landlock") as caught:
        require_player()
    assert "Linux 5.13" in caught.value.fix


def test_the_prompt_is_our_own_and_says_eight_things() -> None:
    text = task_prompt(*TASKS)
    assert re.findall(r"^(\d)\. ", text, re.MULTILINE) == list("12345678")
    for word in ("pygame", "space bar", "q and the escape key", "one Markdown", "python"):
        assert word.replace("one", "single") in text or word in text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot read"),
        (b"", "is empty"),
        (b"  \n", "is empty"),
        (b"\xff\xfe", "is no text in UTF-8"),
        (b"x" * (1 << 19), "is longer than 256 KiB"),
    ],
)
def test_a_prompt_file_that_cannot_be_is_refused(
    tmp_path: Path, content: bytes | None, words: str
) -> None:
    path = tmp_path / "prompt.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FileProblem, match=words):
        task_prompt("flappy-bird", path)
    with pytest.raises(FileProblem):
        task_prompt("flappy-bird", tmp_path)
    with pytest.raises(UsageError, match="is no task"):
        task_prompt("snake")
