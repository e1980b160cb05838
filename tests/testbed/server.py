"""Servers of our own: isolated, on a free port, and gone when we are."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, ClassVar, Self

from tests.testbed.build import Build

_START_SECONDS = 60.0
_STOP_SECONDS = 10.0
_PORT_ATTEMPTS = 8
THREADS = "LLAMA_ARG_THREADS"
"""How many threads each llama-server computes with; where it is not set, one for each core."""
_INHERITED = ("PATH", "LANG", "LC_ALL", "TMPDIR", "TZ", THREADS)


class ServerError(RuntimeError):
    """The server did not come up or went away; carries the end of its log."""


class Served:
    """A running server; use it as a context manager.

    The server and its children form one process group. A guard process kills that group when the
    process that made this object goes away, however it does.

    Args:
        label: What to call it in an error.
        log_path: File that takes stdout and stderr; appended to over restarts.
        env: Variables on top of the isolated environment; they win over it.
        port: Port on 127.0.0.1; 0 takes a free one.
    """

    HEALTH: ClassVar[str]
    """The path that answers 200 once the server serves."""
    TAKEN: ClassVar[str]
    """What the log says where the port is another's."""

    def __init__(
        self, label: str, *, log_path: Path, env: Mapping[str, str] | None = None, port: int = 0
    ) -> None:
        self.label = label
        self.log_path = log_path
        self.port = port
        self._wanted_port = port
        self._env = dict(env or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    def _command(self) -> list[str | Path]:
        """Program and arguments, for :attr:`port`."""
        raise NotImplementedError

    def _own_environment(self) -> dict[str, str]:
        """What the server needs beside what every process has."""
        return {}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def host(self) -> str:
        """``127.0.0.1:PORT``."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """``http://127.0.0.1:PORT``, without a slash at its end."""
        return f"http://{self.host}"

    @property
    def pid(self) -> int:
        """Process id of the server, also the id of its process group.

        Raises:
            ServerError: When the server is not running.
        """
        if self._process is None:
            raise ServerError("the server is not running")
        return self._process.pid

    @property
    def log(self) -> str:
        """All that the server has written so far, restarts included."""
        return self.log_path.read_text(errors="replace")

    def start(self) -> None:
        """Starts the server and waits until it answers.

        Raises:
            ServerError: When it exits or does not answer within a minute.
        """
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(_PORT_ATTEMPTS):
            self.port = self._wanted_port or _free_port()
            seen = self.log_path.stat().st_size if self.log_path.exists() else 0
            self._launch()
            if self._answers():
                self._wanted_port = self.port
                return
            self.kill()
            tail = self.log_path.read_bytes()[seen:].decode(errors="replace")[-2000:]
            if self._wanted_port or self.TAKEN not in tail:
                raise ServerError(f"{self.label} did not start:\n{tail}")
        raise ServerError(f"no free port in {_PORT_ATTEMPTS} attempts")

    def stop(self) -> None:
        """Asks the server to end, then kills whatever is left of its process group."""
        if self._process is not None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_SECONDS)
            self.kill()

    def kill(self) -> None:
        """Kills the server and its children outright, as a crash or a power cut would."""
        process, self._process = self._process, None
        guard, self._guard = self._guard, None
        if guard is not None:
            guard.kill()
            guard.wait()
            if guard.stdin is not None:
                guard.stdin.close()
        if process is not None:
            _kill_group(process.pid)
            process.wait()

    def restart(self, env: Mapping[str, str] | None = None) -> None:
        """Stops the server and starts it again on the same port.

        Args:
            env: Replaces the variables given before; None keeps them.

        Raises:
            ServerError: When it does not come up again.
        """
        self.stop()
        if env is not None:
            self._env = dict(env)
        self.start()

    def _launch(self) -> None:
        home = self.log_path.parent / "home"
        home.mkdir(exist_ok=True)
        environment = {key: os.environ[key] for key in _INHERITED if key in os.environ}
        environment |= {
            "HOME": str(home),
            **self._own_environment(),
            **self._env,
        }
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self._command(),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
            )
            self._guard = _start_guard(self._process.pid, log)

    def _answers(self) -> bool:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                return False
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            try:
                connection.request("GET", self.HEALTH)
                if connection.getresponse().status == 200:
                    # A stranger on a port that we lost would answer too; we would have exited.
                    return self._process.poll() is None
            except OSError:
                pass
            finally:
                connection.close()
            time.sleep(0.02)
        return False


class OllamaServer(Served):
    """A running ``ollama serve``, with its llama-server children; see :class:`Served`.

    Args:
        build: What to run.
        models_dir: ``OLLAMA_MODELS``; made when it is not there, kept afterwards.
        log_path: See :class:`Served`, as for the rest.
        env: Variables on top of the isolated environment.
        port: Port on 127.0.0.1; 0 takes a free one.
    """

    HEALTH = "/api/version"
    TAKEN = "address already in use"

    def __init__(
        self,
        build: Build,
        *,
        models_dir: Path,
        log_path: Path,
        env: Mapping[str, str] | None = None,
        port: int = 0,
    ) -> None:
        super().__init__(f"Ollama {build.version}", log_path=log_path, env=env, port=port)
        self.build = build
        self.models_dir = models_dir

    def start(self) -> None:
        """See :class:`Served`."""
        self.models_dir.mkdir(parents=True, exist_ok=True)
        super().start()

    def _command(self) -> list[str | Path]:
        return [self.build.binary, "serve"]

    def _own_environment(self) -> dict[str, str]:
        return {
            "OLLAMA_HOST": self.host,
            "OLLAMA_MODELS": str(self.models_dir),
            "OLLAMA_NO_CLOUD": "1",
        }


class LlamaServer(Served):
    """A running ``llama-server``; see :class:`Served`.

    Args:
        program: The program.
        arguments: Its arguments, without address and port.
        log_path: See :class:`Served`, as for the rest.
        env: Variables on top of the isolated environment.
        port: Port on 127.0.0.1; 0 takes a free one.
    """

    HEALTH = "/health"
    TAKEN = "couldn't bind HTTP server socket"

    def __init__(
        self,
        program: Path,
        arguments: Sequence[str | Path],
        *,
        log_path: Path,
        env: Mapping[str, str] | None = None,
        port: int = 0,
    ) -> None:
        super().__init__("llama-server", log_path=log_path, env=env, port=port)
        self.program = program
        self.arguments = arguments

    def _command(self) -> list[str | Path]:
        address = ("--host", "127.0.0.1", "--port", str(self.port))
        return [self.program, *self.arguments, *address]


def _start_guard(group: int, log: IO[bytes]) -> subprocess.Popen[bytes]:
    """Starts a shell that kills ``group`` once the pipe to us closes, which our death does."""
    return subprocess.Popen(
        ["/bin/sh", "-c", f"read _; kill -9 -{group}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=log,
        start_new_session=True,
    )


def _kill_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
