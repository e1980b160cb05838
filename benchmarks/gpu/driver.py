"""Where the Vulkan driver lies, and which way of naming it makes the engine see a card."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_SECONDS = 8.0
_NAMING = ("VK_DRIVER_FILES", "VK_ICD_FILENAMES")
_MANIFESTS = (
    "etc/vulkan/icd.d",
    "usr/share/vulkan/icd.d",
    "usr/local/share/vulkan/icd.d",
    "usr/local/nvidia/share/vulkan/icd.d",
    "run/opengl-driver/share/vulkan/icd.d",
)
_LIBRARIES = (
    "usr/local/nvidia/lib64",
    "usr/local/nvidia/lib",
    "usr/lib/x86_64-linux-gnu",
    "usr/lib64",
    "run/opengl-driver/lib",
)
OWN_SEARCH = "the loader's own search"
# Where no manifest names the driver. The second needs no X11 on the machine.
_NVIDIA = ("libGLX_nvidia.so.0", "libEGL_nvidia.so.0")
# Variables that choose devices: they reach the server where they are set.
PASSED_ON = ("GGML_VK_VISIBLE_DEVICES", "OLLAMA_IGPU_ENABLE", "CUDA_VISIBLE_DEVICES")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A way of naming the driver.

    Attributes:
        manifests: Files for ``VK_DRIVER_FILES``; none leaves the search to the loader.
        libraries: Folders for ``LD_LIBRARY_PATH``, in which the driver's libraries lie.
        found: Where it comes from, in words.
    """

    manifests: tuple[Path, ...]
    libraries: tuple[Path, ...]
    found: str

    def environment(self, more_libraries: Sequence[Path] = ()) -> dict[str, str]:
        """Variables that make a Vulkan loader use it."""
        environment = {}
        if self.manifests:
            environment["VK_DRIVER_FILES"] = ":".join(map(str, self.manifests))
        inherited = os.environ.get("LD_LIBRARY_PATH", "")
        folders = [*map(str, (*self.libraries, *more_libraries)), *filter(None, [inherited])]
        if folders:
            environment["LD_LIBRARY_PATH"] = ":".join(folders)
        return environment


@dataclass(frozen=True, slots=True)
class Attempt:
    """What the engine saw by a candidate.

    Attributes:
        candidate: The way of naming the driver.
        devices: The lines of ``llama-server --list-devices``.
        output: All that loader and engine said.
    """

    candidate: Candidate
    devices: tuple[str, ...]
    output: str


def candidates(
    root: Path = Path("/"), environment: Mapping[str, str] = os.environ, *, scratch: Path
) -> list[Candidate]:
    """The ways of naming a Vulkan driver, the likeliest first.

    Args:
        root: The root folder.
        environment: Variables; one that names the driver wins over everything.
        scratch: Folder for manifests of our own, for a driver that no manifest names.
    """
    for variable in _NAMING:
        if named := environment.get(variable):
            files = tuple(Path(each) for each in named.split(":") if each)
            return [Candidate(files, (), variable)]
    folders = tuple(root / each for each in _LIBRARIES if (root / each).is_dir())
    outside = tuple(each for each in folders if "nvidia" in each.parts or "run" in each.parts)
    found = [Candidate((manifest,), outside, str(manifest)) for manifest in _nvidia_manifests(root)]
    for library in _NVIDIA:
        for folder in folders:
            if (folder / library).exists():
                manifest = scratch / f"{library}.json"
                manifest.write_text(_manifest(folder / library), encoding="utf-8")
                found.append(Candidate((manifest,), outside, str(folder / library)))
                break
    # Cards of other makers, whose drivers lie where the loader itself looks.
    return [*found, Candidate((), (), OWN_SEARCH)]


def choose(
    options: Sequence[Candidate], engine: Path, more_libraries: Sequence[Path]
) -> tuple[Candidate | None, list[Attempt]]:
    """Try one after the other, until the engine lists a device.

    Args:
        options: What to try.
        engine: The program ``llama-server``.
        more_libraries: Folders with libraries that the machine lacks.

    Returns:
        The first candidate by which it lists one, and what was tried.
    """
    attempts = []
    for option in options:
        attempt = _attempt(option, engine, more_libraries)
        attempts.append(attempt)
        if attempt.devices:
            return option, attempts
    return None, attempts


def missing(libraries: Sequence[Path]) -> list[Path]:
    """Those of some shared libraries that this machine does not have itself."""
    return [each for each in libraries if not _has(each.name)]


def _has(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _attempt(option: Candidate, engine: Path, more_libraries: Sequence[Path]) -> Attempt:
    environment = {
        **os.environ,
        **option.environment(more_libraries),
        # The loader's own words: which file it read, and why it took no driver from it.
        "VK_LOADER_DEBUG": "error,warn,driver",
    }
    try:
        answer = subprocess.run(
            [engine, "--list-devices", "--offline"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_SECONDS,
            check=False,
        ).stdout
    except subprocess.TimeoutExpired as error:
        answer = (error.stdout or b"") + f"\nno answer within {_SECONDS:.0f} s".encode()
    except OSError as error:
        answer = f"{engine} cannot be run: {error.strerror}".encode()
    output = answer.decode(errors="replace")
    return Attempt(option, tuple(_listed(output)), output)


def _listed(output: str) -> Iterator[str]:
    _, _, listed = output.partition("Available devices:")
    for line in listed.splitlines():
        if line.startswith("  ") and "MiB" in line:
            yield line.strip()


def _nvidia_manifests(root: Path) -> Iterator[Path]:
    for folder in _MANIFESTS:
        for manifest in sorted((root / folder).glob("*nvidia*.json")):
            if "layers" not in manifest.name:
                yield manifest


def _manifest(library: Path) -> str:
    driver = {"library_path": str(library), "api_version": "1.3.0"}
    return json.dumps({"file_format_version": "1.0.0", "ICD": driver})
