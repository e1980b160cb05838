"""``smoke --task`` on a real server, with miniatures that write the game."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ollama_tools import Outcome
from ollama_tools import __main__ as entry
from ollama_tools.devstral.miniature import Script, write_miniature
from tests.games import GAME, answer
from tests.live.test_create import create, hub, run_cli, run_here, unloaded
from tests.testbed.server import OllamaServer

__all__ = ["create", "hub", "unloaded"]

Create = Callable[..., Outcome]


@pytest.fixture
def author(create: Create, tmp_path: Path) -> Callable[[str], str]:
    """Makes a model that answers with a text, and gives its name."""

    def make(text: str) -> str:
        path = tmp_path / "author.gguf"
        write_miniature(path, layers=1, heads=1, kv_heads=1, script=Script(plain=text))
        return create(str(path), release="2507", name="author", check=False, system="").name

    return make


def test_a_model_writes_the_game_and_what_it_did_is_kept(
    author: Callable[[str], str], bed: OllamaServer, tmp_path: Path
) -> None:
    place = tmp_path / "kept"
    done = run_cli(
        "smoke",
        author(answer()),
        "--task",
        "flappy-bird",
        "--task-dir",
        str(place),
        "--junit",
        str(tmp_path / "task.xml"),
        "--json",
        server=bed.url,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["passed"]
    assert [each["id"] for each in report["checks"]][:2] == ["answer", "one-block"]
    assert sorted(each.name for each in place.iterdir()) == [
        "answer.md",
        "frame.png",
        "game.py",
        "prompt.txt",
        "report.json",
    ]
    assert (place / "game.py").read_text() == GAME
    assert (place / "frame.png").read_bytes().startswith(b"\x89PNG")
    assert "Flappy Bird" in (place / "prompt.txt").read_text()
    assert "testcase" in (tmp_path / "task.xml").read_text()


def test_a_model_that_writes_no_game_fails_and_the_other_prompt_is_asked(
    author: Callable[[str], str], bed: OllamaServer, tmp_path: Path
) -> None:
    prompt = tmp_path / "mine.txt"
    prompt.write_text("Write Pong.\n")
    name = author("I would rather not.")
    done = run_cli(
        "smoke", name, "--task", "flappy-bird", "--prompt-file", str(prompt), server=bed.url
    )
    assert done.returncode == 4
    assert "no Python blocks" in done.stdout
    kept = Path(done.stderr.strip().rpartition("kept in ")[2])
    assert (kept / "prompt.txt").read_text() == "Write Pong.\n"
    assert (kept / "answer.md").read_text() == "I would rather not."
    assert not (kept / "game.py").exists()
    task = ("smoke", name, "--task", "flappy-bird", "--task-dir")
    done = run_here(*task, "/proc/x", "-q", server=bed.url)
    assert done.returncode == 2
    assert "cannot write into /proc/x" in done.stderr
    assert "another folder by --task-dir" in done.stderr
    (tmp_path / "game.py").write_text("mine")
    done = run_here(*task, str(tmp_path), "-q", server=bed.url)
    assert done.returncode == 2
    assert "a game.py that no earlier run has kept" in done.stderr
    assert (tmp_path / "game.py").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "error", "fix"),
    [
        (["--task", "snake"], "'snake' is no task", "flappy-bird"),
        (["--prompt-file", "x"], "without a --task there is no prompt", "--task flappy-bird"),
        (["--task", "flappy-bird", "--prompt-file", "nosuch"], "cannot read nosuch", "check"),
        (["--task", "flappy-bird", "--release", "2507"], "asks none of the other checks", "leave"),
    ],
)
def test_what_cannot_be_is_refused_before_any_server_is_asked(
    capsys: pytest.CaptureFixture[str], arguments: list[str], error: str, fix: str
) -> None:
    assert entry.run(["smoke", "author", *arguments, "-q", "--host", "127.0.0.1:9"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert error in lines[0]
    assert fix in lines[1]
    assert len(lines) == 2
