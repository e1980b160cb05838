"""What it takes to know a model by its header: from the hub, and from a file of this machine.

The header has the size of a real one, 8 MB of tokens and merges. Printed are requests, bytes from
the hub and seconds: of what ``fit`` asks, and of gguf-parser-go on the same file and hub, where
there is a Go to build it with; then the seconds of the same file read from the disk.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.gguf_rewrite import SHAPE, write_model
from ollama_tools.devstral.catalog_file import load_catalog
from ollama_tools.files.gguf import read_header
from ollama_tools.progress import Silence
from tests.testbed import toolchain
from tests.testbed.cache import cached
from tests.testbed.faults.proxy import FaultProxy
from tests.testbed.hub import Hub
from tests.testbed.repository import Content, Repository

_RUNS = 5
_SIZE = 16 << 20
_REPOSITORY, _FILE = "somebody/Devstral-Small-2507-GGUF", "Devstral-Small-2507-Q4_K_M.gguf"
_PARSER = "github.com/gpustack/gguf-parser-go@v0.28.2"
_PROGRAM = """package main

import (
	"context"
	"fmt"
	"os"

	parser "github.com/gpustack/gguf-parser-go"
)

func main() {
	file, err := parser.ParseGGUFFileRemote(context.Background(), os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(file.Architecture().BlockCount)
}
"""


def gguf_parser() -> Path | None:
    """A program around gguf-parser-go's reader of remote files; None where it cannot be built."""
    if shutil.which("go") is None:
        return None

    def make(into: Path) -> None:
        (into / "main.go").write_text(_PROGRAM)
        for line in ("mod init header", f"get {_PARSER}", "build -o gguf-header ."):
            subprocess.run(["go", *line.split()], cwd=into, check=True, capture_output=True)

    try:
        return cached(f"gguf-header-{_PARSER.rpartition('@')[2]}", make) / "gguf-header"
    except subprocess.CalledProcessError as error:
        toolchain.say(f"gguf-parser-go cannot be built: {error.stderr.decode()[-300:]}")
        return None


def _asked() -> None:
    """As ``fit`` asks for a file that the catalog does not know."""
    # The hub's address is read once, when this is imported.
    from ollama_tools.model.weights import weights_of

    [found] = weights_of(f"hf.co/{_REPOSITORY}:{_FILE}", load_catalog(), Silence())
    if found.architecture.layers != SHAPE.layers:
        raise AssertionError(found)


def _timed(ask: Callable[[], object]) -> float:
    began = time.monotonic()
    ask()
    return time.monotonic() - began


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / _FILE
        write_model(path, _SIZE)
        hub = Hub([Repository(_REPOSITORY, {_FILE: Content.of(path.read_bytes())})])
        with hub, FaultProxy(int(hub.endpoint.rpartition(":")[2])) as proxy:
            endpoint = os.environ["HF_ENDPOINT"] = f"http://127.0.0.1:{proxy.port}"
            ways: dict[str, Callable[[], object]] = {"fit": _asked}
            if (program := gguf_parser()) is not None:
                url = f"{endpoint}/{_REPOSITORY}/resolve/main/{_FILE}"
                ways["gguf-parser-go"] = partial(
                    subprocess.run, [program, url], check=True, capture_output=True
                )
            print(f"{'from the hub':16} {'requests':>8} {'bytes':>11} {'seconds':>8}")
            for name, ask in ways.items():
                sent, before = proxy.sent, len(hub.requests)
                seconds = [_timed(ask) for _ in range(_RUNS)]
                requests = (len(hub.requests) - before) / _RUNS
                count = (proxy.sent - sent) / _RUNS
                print(f"{name:16} {requests:8.0f} {count:11,.0f} {statistics.median(seconds):8.3f}")
        seconds = [_timed(lambda: read_header(path)) for _ in range(_RUNS)]
        print(f"from the disk: {1000 * statistics.median(seconds):.0f} ms")


if __name__ == "__main__":
    main()
