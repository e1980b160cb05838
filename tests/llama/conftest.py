"""Printed command lines, run by a shell as a person would."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.testbed.hub import Hub
from tests.testbed.programs import llama_programs
from tests.testbed.server import THREADS

ROOT = Path(__file__).parents[2]
SECONDS = 120
_PR_CAPBSET_DROP, _CAP_SYS_NICE = 24, 23


@dataclass(frozen=True)
class Shell:
    """A shell that finds the programs, and the hub in the place of huggingface.co.

    Attributes:
        directory: Where it works.
        env: Its environment.
    """

    directory: Path
    env: Mapping[str, str]

    def printed(self, *arguments: str) -> str:
        """What ``devstral-ollama render`` prints."""
        done = subprocess.run(
            [sys.executable, "-m", "ollama_tools", "render", *arguments],
            cwd=self.directory,
            env={**self.env, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def run(self, line: str, said: str = "") -> subprocess.CompletedProcess[str]:
        """Run a line to its end.

        Args:
            line: What a person pastes.
            said: What they type then; an end of the input follows.
        """
        return subprocess.run(
            ["/bin/sh", "-c", line],
            cwd=self.directory,
            env=self.env,
            input=said,
            capture_output=True,
            text=True,
            # Each byte is a token of its own, and printed as one.
            errors="replace",
            timeout=SECONDS,
            check=False,
            preexec_fn=_as_anybody,
        )


def _as_anybody() -> None:
    """May not raise priorities: as root, ``--prio 2`` keeps other threads of one core waiting.

    Among them is the one that writes what the program says, and at the end nobody waits for it
    (ggml-org/llama.cpp#22142).
    """
    ctypes.CDLL(None).prctl(_PR_CAPBSET_DROP, _CAP_SYS_NICE, 0, 0, 0)


@pytest.fixture
def shell(session_hub: Hub, tmp_path: Path) -> Shell:
    session_hub.reset()
    env = {
        "PATH": f"{llama_programs()}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(tmp_path / "home"),
        "HF_HOME": str(tmp_path / "hub"),
        "HF_ENDPOINT": session_hub.endpoint,
        THREADS: os.environ[THREADS],
    }
    return Shell(tmp_path, env)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A picture."""
    from PIL import Image

    path = tmp_path / "a picture.png"
    Image.new("RGB", (112, 84), "red").save(path)
    return path
