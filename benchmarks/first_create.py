"""The first creation from a local file, and the second, against ``ollama create``.

Prints ratios of medians, and of the best of each where the machine is busy, for a miniature of 2
GiB in all, which lies in the page cache; the ways take turns, so that a machine's moods hit all of
them. Each begins on a server without models and with empty directories of its own. Ours puts a
template into the file on its way (carrier ``gguf``), which the other does not; the hub is asked for
nothing. Processor time, of the command and of the server together, is what a busy machine changes
least.

A server compares the template of a new file with those that it knows, in time that grows with its
length; so the file's own has the length of what is published.

That the file is not read again is shown twice: by the bytes that the process reads in all, Python's
own modules among them, and by a file whose bytes are overwritten while its size and time stay,
which nobody may notice.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.processes import compile_package, processor_seconds
from ollama_tools.devstral import miniature
from ollama_tools.server.client import Server
from tests.testbed.build import Build, ollama_build
from tests.testbed.models import TEMPLATES
from tests.testbed.server import OllamaServer

_RUNS = 5
_SIZE = 2_000_000_000
_WIDTH = 56

_DEFAULT_SYSTEM = 5651
"""Bytes of the system prompt that a published template of Devstral falls back on."""


@dataclass(frozen=True)
class _Run:
    """What one process took.

    Attributes:
        seconds: From its start to its end.
        processor: Seconds of a processor, those of the server meanwhile among them.
        read: Bytes that it read in all; None where the system does not count them.
    """

    seconds: float
    processor: float
    read: int | None


def _run(command: list[str], environment: dict[str, str], server: OllamaServer) -> _Run:
    before = processor_seconds(server.pid)
    started = time.perf_counter()
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    # What a process has read is told until somebody has asked how it ended.
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    seconds = time.perf_counter() - started
    read = None
    with contextlib.suppress(OSError):
        counters = Path(f"/proc/{process.pid}/io").read_text(encoding="ascii").split()
        read = int(counters[counters.index("rchar:") + 1])
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    processor = used.ru_utime + used.ru_stime + processor_seconds(server.pid) - before
    return _Run(seconds, processor, read)


@contextlib.contextmanager
def _emptied(server: OllamaServer, root: Path) -> Iterator[dict[str, str]]:
    """An environment with directories of its own, and a server without models or blobs."""
    with Server(server.url) as client:
        for model in client.models():
            client.delete(model.name)
    if left := list((server.models_dir / "blobs").glob("sha256-*")):
        raise AssertionError(f"{len(left)} blobs are left on the server")
    with tempfile.TemporaryDirectory(dir=root) as own:
        yield {
            **os.environ,
            "HOME": own,
            "OLLAMA_HOST": server.url,
            "XDG_CACHE_HOME": f"{own}/cache",
            "XDG_STATE_HOME": f"{own}/state",
        }


def _overwrite(path: Path) -> None:
    """Destroy what a file holds, and leave what its directory says of it."""
    before = path.stat()
    with path.open("r+b") as file:
        file.write(b"\xff" * (1 << 20))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _print(name: str, value: float, unit: str) -> None:
    print(f"{name:{_WIDTH}} {value:8.2f} {unit}")


def _measure(build: Build, root: Path, path: Path) -> None:
    python = sys.executable
    # The installed script, since that is what people start.
    ours = [str(Path(python).with_name("devstral-ollama")), "create", str(path), "--no-check"]
    ours += ["--carrier", "gguf", "--system", "bundled"]
    modelfile = root / "Modelfile"
    modelfile.write_text(f"FROM {path}\n", encoding="utf-8")
    theirs = [str(build.binary), "create", "theirs", "-f", str(modelfile)]
    ways = {"devstral-ollama create": ours, "ollama create": theirs}
    first: dict[str, list[_Run]] = {name: [] for name in ways}
    again: dict[str, list[_Run]] = {name: [] for name in ways}
    with OllamaServer(build, models_dir=root / "models", log_path=root / "ollama.log") as server:
        for _ in range(_RUNS):
            for name, command in ways.items():
                with _emptied(server, root) as environment:
                    first[name].append(_run(command, environment, server))
                    again[name] += [_run(command, environment, server) for _ in range(2)]
        with _emptied(server, root) as environment:
            _run(ours, environment, server)
            _overwrite(path)
            _run(ours, environment, server)
            print(f"{'unchanged, though the bytes of the file are gone':{_WIDTH}}      yes")

    def median(runs: list[_Run]) -> float:
        return statistics.median(each.seconds for each in runs)

    def processor(runs: list[_Run]) -> float:
        return statistics.median(each.processor for each in runs)

    for name in ways:
        _print(f"{name}, the first", median(first[name]), "s")
        _print(f"{name}, the first, of a processor", processor(first[name]), "s")
        _print(f"{name}, again", median(again[name]), "s")
        _print(f"{name}, again, of a processor", processor(again[name]), "s")
    (our_first, their_first), (our_again, their_again) = (
        [median(runs[name]) for name in ways] for runs in (first, again)
    )
    _print("the first: ours / theirs", our_first / their_first, "x")
    best = [min(each.seconds for each in first[name]) for name in ways]
    _print("the first, the best of each: ours / theirs", best[0] / best[1], "x")
    used = [processor(first[name]) for name in ways]
    _print("the first, of a processor: ours / theirs", used[0] / used[1], "x")
    _print("again: ours / theirs", our_again / their_again, "x")
    _print("again, our best", min(each.seconds for each in again["devstral-ollama create"]), "s")
    for name in ways:
        read = [each.read for each in again[name] if each.read is not None]
        if read:
            _print(f"{name}, again: bytes read in all", statistics.median(read) / 2**20, "MiB")


def main() -> None:
    """Measure and print."""
    size = int(sys.argv[1]) if len(sys.argv) > 1 else _SIZE
    compile_package()
    build = ollama_build()
    with tempfile.TemporaryDirectory(prefix="devstral-first-create-") as temporary:
        root = Path(temporary)
        path = root / "Devstral-Small-2507-Q8_0.gguf"
        template = (TEMPLATES / "published.jinja").read_text(encoding="utf-8")
        template = template.replace("assistant.", "assistant.".ljust(_DEFAULT_SYSTEM, "."))
        write = partial(
            miniature.write_miniature, path, chat_template=template, layers=2, heads=1, kv_heads=1
        )
        write()
        write(filler=size - path.stat().st_size)
        # Once through, so that it lies in the page cache.
        with path.open("rb") as file:
            while file.read(1 << 20):
                pass
        _measure(build, root, path)


if __name__ == "__main__":
    main()
