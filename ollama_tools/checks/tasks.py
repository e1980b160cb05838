"""Tasks: a model writes a program, and the program is tried.

The one task is the game of Unsloth's guide to Devstral, asked for in this package's own words. The
program runs in a sandbox without a screen (:mod:`ollama_tools.checks.sandbox`): once with nobody at
the keyboard, once with the space bar pressed, and where the pictures part is where it listens.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import importlib.util
import json
import re
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ollama_tools.checks.result import CheckResult, Report, Status
from ollama_tools.checks.sandbox import Ended, require_sandbox, run
from ollama_tools.errors import FileProblem, ServerError, UsageError
from ollama_tools.json_text import MalformedJson, parse_json
from ollama_tools.progress import Progress
from ollama_tools.server.client import Server

TASKS = ("flappy-bird",)

FRAMES = 300
_PRESSES = 18
"""Frames between two presses of the space bar."""
_FIRST_PRESS = 11
_PICTURES = (10, 60, 120)
"""Frames that are kept, each in the place of the one before."""

_PATIENCE = 120
_MOST_TOKENS = 8192
_MOST_PROMPT = 1 << 18
_MOST_ANSWER = 1 << 20
_SEED = 3407
"""As the guide has it."""

_REPORT = "report.json"
_KEPT = ("prompt.txt", "answer.md", "game.py", "frame.png", _REPORT)

_PLAYER = "ollama_tools.checks.game_player"
_FENCE = re.compile(r"^ {0,3}(?P<marks>`{3,}|~{3,})[ \t]*(?P<word>[^\s`]*)[^\n`]*$", re.MULTILINE)
_PYTHON = ("python", "py", "python3", "pygame")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is said of a program.

    Attributes:
        checks: The answers, in order; after one that fails, none follows that needs it.
        program: The program's text; empty where there is none.
        picture: A frame as PNG; None where there was none.
        seen: What was seen of each run, for a file.
    """

    checks: tuple[CheckResult, ...]
    program: str = ""
    picture: bytes | None = None
    seen: dict[str, Any] = field(default_factory=dict)


class _Failed(Exception):
    """A check failed, on which all later ones rest."""


def task_prompt(task: str, file: Path | None = None) -> str:
    """What the model is asked.

    Args:
        task: One of :data:`TASKS`.
        file: Another text to ask; None for the task's own.

    Raises:
        UsageError: There is no such task.
        FileProblem: The file cannot be read, or is no text that could be asked.
    """
    if task not in TASKS:
        raise UsageError(f"{task!r} is no task", f"use --task {' or '.join(TASKS)}")
    if file is None:
        own = Path(__file__).parent / "prompts" / f"{task}.txt"
        return own.read_text(encoding="utf-8").strip()
    try:
        with file.open("rb") as opened:
            data = opened.read(_MOST_PROMPT + 1)
        text = data.decode().strip()
    except OSError as error:
        raise FileProblem(f"cannot read {file}: {error.strerror}", "check the path") from error
    except UnicodeDecodeError as error:
        raise FileProblem(f"{file} is no text in UTF-8", "save it as UTF-8") from error
    if len(data) > _MOST_PROMPT or not text:
        how = "is empty" if not text else f"is longer than {_MOST_PROMPT >> 10} KiB"
        raise FileProblem(f"{file} {how}", "name a file with a prompt in it")
    return text


def require_player() -> None:
    """See that programs can be tried here, before a model is asked to write one.

    Raises:
        UsageError: They cannot.
    """
    if importlib.util.find_spec("pygame") is None:
        raise UsageError(
            "pygame is not installed, without which no game can be tried",
            "pip install pygame-ce, or this package with its extra: pip install '.[tasks]'",
        )
    require_sandbox()


def run_task(server: Server, name: str, prompt: str, folder: Path, progress: Progress) -> Report:
    """Ask a model for the program, try it, and keep what came of it.

    Args:
        server: The server.
        name: The model.
        prompt: What it is asked.
        folder: Where prompt, answer, program, picture and report are kept; what an earlier run
            kept there is replaced, and nothing else.
        progress: Hears of the steps.

    Raises:
        UsageError: Programs cannot be tried here.
        FileProblem: The folder cannot be used.
        ServerError: The server does not answer.
    """
    require_player()
    _prepare(folder)
    begun = time.monotonic()
    progress.step(f"{name} writes")
    answer, done = _ask(server, name, prompt, progress)
    asked = time.monotonic() - begun
    verdict = judge(answer, progress, is_cut=done == "length")
    said = CheckResult(
        "answer", Status.PASS, f"{len(answer)} characters, {done or 'whole'}", seconds=asked
    )
    report = Report(name, server.url, server.version(), (said, *verdict.checks))
    contents = (
        f"{prompt}\n".encode(),
        answer.encode(errors="replace"),
        verdict.program.encode(errors="replace") or None,
        verdict.picture,
        json.dumps({**report.as_json(), "runs": verdict.seen}, indent=2).encode(),
    )
    try:
        for each, content in zip(_KEPT, contents, strict=True):
            (folder / each).unlink(missing_ok=True)
            if content is not None:
                (folder / each).write_bytes(content)
    except OSError as error:
        raise FileProblem(
            f"cannot write into {folder}: {error.strerror}", "name another folder by --task-dir"
        ) from error
    return report


def _prepare(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        there = {each.name for each in folder.iterdir()} & {*_KEPT}
    except OSError as error:
        raise FileProblem(
            f"cannot write into {folder}: {error.strerror}", "name another folder by --task-dir"
        ) from error
    if there and _REPORT not in there:
        raise FileProblem(
            f"{folder} has a {sorted(there)[0]} that no earlier run has kept there",
            "name an empty folder by --task-dir",
        )


def _ask(server: Server, name: str, prompt: str, progress: Progress) -> tuple[str, str]:
    """The whole answer, and why it ended."""
    request = {
        "model": name,
        "messages": [{"role": "user", "content": prompt}],
        "options": {"num_predict": _MOST_TOKENS, "seed": _SEED},
        "stream": True,
    }
    pieces, length, done = [], 0, ""
    for number, event in enumerate(server.events("/api/chat", request), 1):
        if "error" in event:
            raise ServerError(f"{name} broke off: {event['error']}", "check the server's log")
        message = event.get("message")
        piece = message.get("content") if isinstance(message, dict) else None
        if isinstance(piece, str):
            pieces.append(piece)
            length += len(piece)
        if length > _MOST_ANSWER:
            return "".join(pieces)[:_MOST_ANSWER], "length"
        if number % 50 == 0:
            progress.transfer("written", length, None)
        if event.get("done"):
            done = str(event.get("done_reason") or "")
    return "".join(pieces), done


def judge(answer: str, progress: Progress, *, is_cut: bool = False) -> Verdict:
    """Say whether an answer holds a program that plays.

    Args:
        answer: What the model wrote.
        progress: Hears of the runs.
        is_cut: Whether it was stopped before its end.

    Raises:
        UsageError: Programs cannot be tried here.
    """
    require_player()
    judging = _Judging(progress)
    with contextlib.suppress(_Failed):
        judging.judge(answer, is_cut=is_cut)
    return Verdict(tuple(judging.checks), judging.program, judging.picture, judging.seen)


class _Judging:
    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.checks: list[CheckResult] = []
        self.program = ""
        self.picture: bytes | None = None
        self.seen: dict[str, Any] = {}
        self._begun = time.monotonic()

    def judge(self, answer: str, *, is_cut: bool) -> None:
        self.program = self._block(answer, is_cut=is_cut)
        self._imports(self._parsed())
        alone = self._play("nobody", {})
        presses = {str(frame): "K_SPACE" for frame in range(_FIRST_PRESS, FRAMES - 10, _PRESSES)}
        played = self._play("space", presses)
        self._picture(played)
        self._listens(alone, played)

    def _say(self, check: str, status: Status, saw: str, fix: str = "") -> None:
        now = time.monotonic()
        self.checks.append(CheckResult(check, status, saw, fix, now - self._begun))
        self._begun = now

    def _pass(self, check: str, saw: str) -> None:
        self._say(check, Status.PASS, saw)

    def _fail(self, check: str, saw: str, fix: str) -> _Failed:
        self._say(check, Status.FAIL, saw, fix)
        return _Failed()

    # The text

    def _block(self, answer: str, *, is_cut: bool) -> str:
        whole, is_open = _blocks(answer)
        again = "ask again, or a larger quant; the answer is kept"
        if is_open:
            why = f", and the answer ends at {_MOST_TOKENS} tokens" if is_cut else ""
            raise self._fail("one-block", f"a code block is not closed{why}", again)
        marked = [text for word, text in whole if word.casefold() in _PYTHON]
        blocks = marked or [text for word, text in whole if not word]
        if len(blocks) != 1:
            raise self._fail(
                "one-block", f"{len(blocks) or 'no'} Python block{'s' * (len(blocks) != 1)}", again
            )
        self._pass("one-block", f"{len(blocks[0].splitlines())} lines of Python")
        return blocks[0]

    def _parsed(self) -> ast.Module:
        try:
            tree = ast.parse(self.program, "game.py")
        except SyntaxError as error:
            raise self._fail(
                "parses", f"line {error.lineno}: {error.msg}", "a syntax error of the model's own"
            ) from None
        except (ValueError, RecursionError, MemoryError) as error:
            raise self._fail("parses", f"{type(error).__name__}", "it is no program") from None
        self._pass("parses", "no syntax error")
        return tree

    def _imports(self, tree: ast.Module) -> None:
        names = {
            name.partition(".")[0]
            for node in ast.walk(tree)
            for name in (
                [each.name for each in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        }
        if "pygame" not in names:
            others = ", ".join(sorted(names)) or "nothing"
            raise self._fail("pygame", f"it imports {others}", "the task says pygame")
        self._pass("pygame", "imported")

    # The runs

    def _play(self, run_name: str, keys: dict[str, str]) -> dict[str, Any]:
        self._progress.step(
            "the game plays by itself" if not keys else "the game plays with the space bar"
        )
        asked = {
            "source": self.program,
            "frames": FRAMES,
            "keys": keys,
            "pictures": _PICTURES,
            "quit": "K_q",
            "patience": _PATIENCE,
        }
        with tempfile.TemporaryDirectory(prefix="devstral-game-") as folder:
            ended = run(_PLAYER, asked, Path(folder), _packages())
        seen = _seen(ended)
        self.seen[run_name] = {key: seen[key] for key in seen if key not in ("picture", "pictures")}
        if seen["picture"] is not None:
            self.picture = seen["picture"]
        who = "with the space bar" if keys else "with nobody at the keys"
        if why := _broken(ended, seen):
            raise self._fail(
                f"runs {run_name}",
                f"after {seen['turns']} frames {who}: {why}",
                "the program is kept, to be looked at",
            )
        self._pass(f"runs {run_name}", f"{FRAMES} frames {who}")
        if seen["how"] == "went on":
            raise self._fail(
                f"quits {run_name}",
                f"it goes on {_PATIENCE} frames after q was pressed {who}",
                "the task says that q closes it",
            )
        self._pass(f"quits {run_name}", f"q ended it, {who}")
        return seen

    def _picture(self, played: dict[str, Any]) -> None:
        if self.picture is None or played["colours"] < 3:
            raise self._fail(
                "picture",
                f"frame {played['frame']} has {played['colours'] or 'no'} colours",
                "nothing is drawn, or not shown by pygame.display",
            )
        self._pass("picture", f"frame {played['frame']} has {played['colours']} colours")

    def _listens(self, alone: dict[str, Any], played: dict[str, Any]) -> None:
        pairs = list(zip(alone["pictures"], played["pictures"], strict=False))
        parted = next((i for i, (one, other) in enumerate(pairs) if one != other), None)
        if parted is None:
            raise self._fail(
                "space",
                f"{len(pairs)} frames are the same with the space bar and without",
                "the task says that the space bar lifts the bird",
            )
        if parted < _FIRST_PRESS - 1:
            raise self._fail(
                "space",
                f"two runs differ from frame {parted} on, before any key was pressed",
                "whether it listens cannot be told: it draws by a clock or a chance of its own",
            )
        self._pass("space", f"pressed in frame {_FIRST_PRESS}, seen in frame {parted + 1}")


def _blocks(answer: str) -> tuple[list[tuple[str, str]], bool]:
    """The fenced blocks of a Markdown text, each with its word; and whether the last stays open."""
    found: list[tuple[str, str]] = []
    begun: re.Match[str] | None = None
    for fence in _FENCE.finditer(answer.replace("\r\n", "\n")):
        if begun is None:
            begun = fence
        elif (
            fence["marks"][0] == begun["marks"][0]
            and len(fence["marks"]) >= len(begun["marks"])
            and not fence["word"]
        ):
            text = fence.string[begun.end() + 1 : fence.start()]
            found.append((begun["word"], text))
            begun = None
    return found, begun is not None


def _packages() -> list[Path]:
    """Where pygame lies, with the libraries that it brings along."""
    found = importlib.util.find_spec("pygame")
    own = [Path(each) for each in (found.submodule_search_locations or ())] if found else []
    libraries = [each for one in own for each in one.parent.glob("pygame*.libs")]
    return [*own, *libraries]


def _seen(ended: Ended) -> dict[str, Any]:
    """What the player reported, as far as it has the form that it should have."""
    seen: dict[str, Any] = {
        "how": "",
        "error": "",
        "line": None,
        "turns": 0,
        "shown": 0,
        "pictures": [],
        "picture": None,
        "colours": 0,
        "frame": 0,
        "stopped": ended.stopped,
        "code": ended.code,
        "said": ended.said[-500:],
    }
    for line in ended.reported:
        try:
            told = parse_json(line.encode())
        except MalformedJson:
            continue
        if not isinstance(told, dict):
            continue
        for key in ("how", "error", "line", "turns", "shown", "colours", "frame"):
            if isinstance(told.get(key), str if key in ("how", "error") else int):
                seen[key] = told[key]
        if isinstance(told.get("pictures"), list):
            seen["pictures"] = [each for each in told["pictures"] if isinstance(each, int)]
        if isinstance(told.get("picture"), str):
            try:
                picture = base64.b64decode(told["picture"], validate=True)
            except ValueError:
                continue
            seen["picture"] = picture if picture.startswith(b"\x89PNG") else None
    return seen


def _broken(ended: Ended, seen: dict[str, Any]) -> str:
    """Why a program did not play for all frames; empty where it did."""
    if ended.stopped:
        return ended.stopped
    if seen["how"] == "raised":
        where = f" in line {seen['line']}" if seen["line"] else ""
        return f"{seen['error']}{where}"
    if not seen["how"]:
        last = ended.said.strip().rpartition("\n")[2][:200]
        return f"it was ended by signal {-ended.code}" if ended.code < 0 else f"it broke: {last}"
    if seen["turns"] < FRAMES:
        return "it ended by itself"
    if seen["shown"] < _PICTURES[0]:
        return f"it showed {seen['shown']} frames"
    return ""
