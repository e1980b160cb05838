"""``serve --gateway``: a real server and the gateway before it, as one command."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import httpx
import pytest

from ollama_tools.server.client import Server
from tests.testbed.build import Build
from tests.testbed.gateway import write_endless
from tests.testbed.server import Served, ServerError

MODEL = "endless"
SECONDS = 20


class Both(Served):
    """The command, as a terminal runs it."""

    HEALTH: ClassVar[str] = "/ready"
    TAKEN: ClassVar[str] = "listens at"

    def __init__(self, build: Build, root: Path, *options: str) -> None:
        super().__init__(
            "serve --gateway", log_path=root / "log", env={"OLLAMA_MODELS": str(root / "models")}
        )
        self._program = build.binary
        self._options = options
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.behind = f"127.0.0.1:{probe.getsockname()[1]}"

    def _command(self) -> list[str | Path]:
        line = (sys.executable, "-m", "ollama_tools", "serve", "--gateway")
        where = ("--host", self.host, "--upstream", self.behind)
        return [*line, "--ollama", self._program, *where, *self._options]

    @property
    def ollama(self) -> int:
        """Process id of the server."""
        return next(pid for pid in self.all if _program(pid) == "ollama")

    @property
    def all(self) -> set[int]:
        """Every process that is there because of it."""
        mark = f"OLLAMA_HOST={self.behind}".encode()
        found = set()
        for each in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (each / "environ").read_bytes().split(b"\0"):
                    found.add(int(each.name))
            except OSError:
                continue
        return found

    def ended(self) -> int:
        """Its exit code."""
        assert self._process is not None
        return self._process.wait(SECONDS)


def _program(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def until(met: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def both(newest_build: Build, tmp_path: Path) -> Iterator[Both]:
    with Both(newest_build, tmp_path) as bed:
        yield bed


def make_model(address: str, path: Path) -> None:
    """A model that only ends where it is told to."""
    write_endless(path)
    digest = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    with Server(address) as server:
        server.upload(path, digest, lambda *_: None)
        request = {"model": MODEL, "files": {"model.gguf": digest}}
        server.create({**request, "parameters": {"num_ctx": 2048}}, lambda *_: None)


def test_one_interrupt_ends_both_after_what_is_being_answered(both: Both, tmp_path: Path) -> None:
    make_model(both.behind, tmp_path / "mini.gguf")
    # What changes the server does not come past the gateway.
    refused = httpx.post(f"{both.url}/api/delete", json={"model": MODEL}, trust_env=False)
    assert refused.status_code == 403
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Hi"}],
        "options": {"num_predict": 300},
    }
    client = httpx.Client(base_url=both.url, timeout=SECONDS, trust_env=False)
    with client, client.stream("POST", "/api/chat", json=body) as answer:
        lines = answer.iter_lines()
        next(lines)
        engines = both.all
        assert len(engines) > 1
        # A terminal's Ctrl-C reaches the foreground's group, which is all that it knows of.
        os.killpg(both.pid, signal.SIGINT)
        last = list(lines)[-1]
    assert '"done":true' in last
    assert both.ended() == 130
    assert both.all == set()
    assert "behind it" in both.log


def test_a_server_that_ends_takes_the_gateway_with_it(both: Both) -> None:
    os.kill(both.ollama, signal.SIGKILL)
    assert both.ended() == 1
    assert "Ollama ended by itself (SIGKILL)" in both.log
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{both.url}/ready", trust_env=False)


def test_a_gateway_that_is_killed_takes_the_server_with_it(both: Both) -> None:
    os.kill(both.pid, signal.SIGKILL)
    until(lambda: both.all == set())


def test_keys_are_asked_for_as_the_gateway_alone_asks(newest_build: Build, tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    tool = (sys.executable, "-m", "ollama_tools")
    made = subprocess.run(
        [*tool, "gateway", "key", "add", "alice", "--keys", keys, "--quiet"],
        capture_output=True,
        text=True,
        check=True,
    )
    with Both(newest_build, tmp_path, "--keys", str(keys)) as both:
        asked = f"{both.url}/api/version"
        assert httpx.get(asked, trust_env=False).status_code == 401
        header = {"x-api-key": made.stdout.strip()}
        assert httpx.get(asked, headers=header, trust_env=False).status_code == 200
    unsafe = Both(newest_build, tmp_path / "unsafe", "--host", "0.0.0.0:0")
    with pytest.raises(ServerError, match="nobody is asked for a key"):
        unsafe.start()
    assert unsafe.all == set()
