"""Runs a program of which nothing is known: no network, no other program, its own folder alone.

The kernel ties its hands (:mod:`ollama_tools.checks.sandbox_worker`); what the kernel does not
count is counted here: seconds, what it says, how much lies in its folder. What it does is bounded;
what it says of itself may be a lie.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import sysconfig
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ollama_tools.checks.sandbox_worker import NoSandbox, landlock_version
from ollama_tools.errors import UsageError

MEMORY = 1 << 30
"""Bytes of address space."""

SECONDS = 30
"""Of processor time, and twice as many of any."""

_WORKER = Path(__file__).with_name("sandbox_worker.py")
_NO_SANDBOX = 97
_MOST_SAID = 1 << 20
_MOST_REPORTED = 8 << 20
_TAIL = 2000
_MOST_LYING = 16 << 20
_MOST_FILES = 200
_LOOKS = 0.05
_SYSTEM = (
    "/usr/lib",
    "/usr/lib64",
    "/lib",
    "/lib64",
    "/usr/share/fonts",
    "/usr/share/zoneinfo",
    "/etc/fonts",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/dev/null",
    "/dev/zero",
    "/dev/urandom",
)
_FIX = "run it where there is Linux 5.13 or newer, on x86_64 or aarch64, with Landlock"


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended.

    Attributes:
        code: Its exit code; negative for a signal.
        stopped: Why it was stopped; empty where it ended by itself.
        said: The end of what it wrote to stdout and stderr.
        reported: What the module that ran it reported, line by line.
    """

    code: int
    stopped: str
    said: str
    reported: tuple[str, ...]


def require_sandbox() -> None:
    """See that this machine can tie a program's hands.

    Raises:
        UsageError: It cannot.
    """
    try:
        landlock_version()
    except NoSandbox as error:
        raise _none(str(error)) from error


def run(module: str, asked: dict[str, Any], folder: Path, packages: list[Path]) -> Ended:
    """Let a module do what it is asked, with its hands tied.

    Args:
        module: Full name of a module with ``prepare()``, called while the hands are free, and
            ``run(asked, report)``, where ``report`` is a file descriptor for lines.
        asked: What ``run`` gets, as JSON can have it.
        folder: Its folder, where it is started; all that it may write to.
        packages: Folders beside the standard library that it may read.

    Raises:
        UsageError: This machine cannot.
    """
    path = [each for each in sys.path if each]
    readable = [*_SYSTEM, *map(str, packages)]
    readable += [sysconfig.get_path(each) for each in ("stdlib", "platstdlib")]
    limits = {
        "readable": readable,
        "writable": [str(folder), "/dev/null"],
        "memory": MEMORY,
        "seconds": SECONDS,
    }
    report, end = os.pipe()
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", str(_WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(end,),
            cwd=folder,
            # Nothing of this person's: no token, no address.
            env=_environment(folder),
            start_new_session=True,
        )
    except OSError as error:
        os.close(report)
        raise UsageError(f"{sys.executable} cannot be started: {error.strerror}") from error
    finally:
        os.close(end)
    request = {
        "path": path,
        "module": module,
        "limits": limits,
        "no_sandbox": _NO_SANDBOX,
        "asked": asked,
        "report": end,
    }
    with process, os.fdopen(report, "rb", buffering=0) as reports:
        try:
            ended = _watched(process, reports, json.dumps(request).encode(), folder)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
    if ended.code == _NO_SANDBOX:
        raise _none(ended.said.strip().removeprefix("no sandbox: ")[:200])
    return ended


def _environment(folder: Path) -> dict[str, str]:
    return {
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "LANG": "C.UTF-8",
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "SDL_VIDEODRIVER": "dummy",
        "SDL_AUDIODRIVER": "dummy",
        "PYGAME_HIDE_SUPPORT_PROMPT": "1",
    }


def _watched(process: subprocess.Popen[bytes], reports: Any, request: bytes, folder: Path) -> Ended:
    said, reported = bytearray(), bytearray()
    how_much = 0
    stopped = ""
    deadline = time.monotonic() + 2 * SECONDS
    if process.stdin is None or process.stdout is None:  # pragma: no cover - both are pipes
        raise RuntimeError("the program was started without pipes")
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(request)
        process.stdin.close()
    with selectors.DefaultSelector() as waiting:
        waiting.register(process.stdout, selectors.EVENT_READ)
        waiting.register(reports, selectors.EVENT_READ)
        looked = time.monotonic()
        while waiting.get_map() and not stopped:
            for key, _ in waiting.select(_LOOKS):
                piece = os.read(key.fd, 1 << 16)
                if not piece:
                    waiting.unregister(key.fileobj)
                elif key.fileobj is reports:
                    reported += piece
                    if len(reported) > _MOST_REPORTED:
                        stopped = "it reports without an end"
                else:
                    how_much += len(piece)
                    said += piece
                    del said[:-_TAIL]
                    if how_much > _MOST_SAID:
                        stopped = f"it wrote more than {_MOST_SAID >> 20} MiB of text"
            now = time.monotonic()
            if now > deadline:
                stopped = f"it had not ended after {2 * SECONDS} seconds"
            elif now - looked > _LOOKS:
                looked = now
                stopped = stopped or _too_much(folder)
    if stopped:
        process.kill()
    try:
        code = process.wait(max(1.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        # It has closed all that it could have said anything by.
        process.kill()
        stopped = f"it had not ended after {2 * SECONDS} seconds"
        code = process.wait()
    lines = bytes(reported).decode(errors="replace").splitlines()
    stopped = stopped or _too_much(folder)
    return Ended(code, stopped, bytes(said).decode(errors="replace"), tuple(lines))


def _too_much(folder: Path) -> str:
    """Why what lies in a folder is too much; empty where it is not."""
    files = size = 0
    for root, folders, names in os.walk(folder):
        files += len(names) + len(folders)
        if files > _MOST_FILES:
            return f"it made more than {_MOST_FILES} files"
        for name in names:
            with contextlib.suppress(OSError):
                size += os.lstat(f"{root}/{name}").st_size
    return f"it wrote files of more than {_MOST_LYING >> 20} MiB" if size > _MOST_LYING else ""


def _none(why: str) -> UsageError:
    return UsageError(f"this machine has no sandbox for a program that a model wrote: {why}", _FIX)
