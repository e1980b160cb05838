"""gptme: its command line; the second turn is its own ``--resume``, and it alone is streamed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import garden

# As its log writes a call.
CALL = re.compile(r"^@(\w+)\([^)]*\): (.*)$", re.MULTILINE)
NOTE = "Prune the roses.\n"
USERS = ["What does the note say?", "And now?"]


def converse(session: garden.Session) -> None:
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        workspace = home / "garden"
        workspace.mkdir()
        (workspace / "note.txt").write_text(NOTE, encoding="utf-8")
        environment = {
            **os.environ,
            "HOME": str(home),
            "OPENAI_BASE_URL": f"{session.base}/v1",
            "OPENAI_API_KEY": "none",
        }
        for number, user in enumerate(USERS):
            subprocess.run(
                [
                    *(sys.executable, "-m", "gptme", "--non-interactive"),
                    *("--model", f"local/{session.model}", "--tool-format", "tool"),
                    *("--tools", "shell,read,save,patch,complete", "--name", "session"),
                    *(("--resume", "--stream") if number else ("--no-stream",)),
                    user,
                ],
                env=environment,
                cwd=workspace,
                stdin=subprocess.DEVNULL,
                stdout=sys.stderr,
                check=True,
            )
        (log,) = home.rglob("conversation.jsonl")
        for line in log.read_text(encoding="utf-8").splitlines():
            message = json.loads(line)
            if message["role"] == "assistant":
                for name, arguments in CALL.findall(message["content"]):
                    session.calls.append((name, json.loads(arguments)))
            elif NOTE in message["content"]:
                session.answers.append(NOTE)


if __name__ == "__main__":
    # Starting it takes seconds: both ways are in one session.
    garden.drive(converse, ways=(True,))
