"""``make gpu-bundle``: everything that a measurement on a graphics card needs, in one folder.

The folder works on a bare x86-64 Linux with a driver and Python 3.11, 3.12 or 3.13, without any
network. It holds the very server that the tests run on.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from zipfile import ZipFile

from ollama_tools.devstral.carriers import jinja_template
from ollama_tools.devstral.catalog import TokenizerVersion
from ollama_tools.devstral.miniature import write_miniature
from tests.testbed import toolchain
from tests.testbed.build import ollama_build
from tests.testbed.cache import cached

ROOT = Path(__file__).resolve().parents[2]
BUNDLE = ROOT / ".gpu"
LARGEST = 50_000_000
"""Bytes that the bundle may take as it lies there."""

_HERE = Path(__file__).parent
_PYTHONS = ("3.11", "3.12", "3.13")
_PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
# Speeds up downloads, of which there are none.
_NOT_NEEDED = ("hf_xet-",)
_SOURCES = (
    "ollama_tools",
    "modelfiles/catalog.yaml",
    "modelfiles/Modelfile.j2",
    "modelfiles/system",
    "modelfiles/templates",
    "benchmarks/__init__.py",
    "benchmarks/gpu",
    "tests/__init__.py",
    "tests/testbed/__init__.py",
    "tests/testbed/build.py",
    "tests/testbed/cache.py",
    "tests/testbed/server.py",
    "tests/testbed/toolchain.py",
)
# What the engine is linked with, and what NVIDIA's driver asks for; a bare system may lack it.
_SPARE = (
    *("libgomp.so.1", "libstdc++.so.6", "libgcc_s.so.1", "libGLdispatch.so.0"),
    *("libX11.so.6", "libXext.so.6", "libxcb.so.1", "libXau.so.6", "libXdmcp.so.6"),
    *("libbsd.so.0", "libmd.so.0"),
)


class BundleError(RuntimeError):
    """The bundle cannot be made, or would be too large."""


def main() -> int:
    """Make the bundle, and say what it holds."""
    size = make_bundle(BUNDLE)
    for each in sorted(BUNDLE.iterdir()):
        print(f"{each.stat().st_size:>12,}  {each.relative_to(ROOT)}")
    print(f"{size:>12,}  of {LARGEST:,} bytes. On the machine with the card: .gpu/run OUT")
    return 0


def make_bundle(into: Path) -> int:
    """Make the bundle in a folder, in place of what is there.

    Args:
        into: The folder; it appears whole.

    Returns:
        Bytes of all its files.

    Raises:
        BundleError: It would be too large.
        toolchain.BuildError: Something that it is made of cannot be had.
    """
    engine = _engine_archive()
    wheels = _wheels()
    with tempfile.TemporaryDirectory(prefix=".gpu-", dir=into.parent) as temporary:
        draft = Path(temporary) / "bundle"
        draft.mkdir()
        shutil.copy(engine, draft / "engine.tar.xz")
        for name in ("run", "start.py"):
            shutil.copy(_HERE / name, draft / name)
        with tempfile.TemporaryDirectory() as scratch:
            content = Path(scratch)
            _add_sources(content)
            _add_wheels(content / "site", wheels)
            _add_models(content / "models")
            _add_spare_libraries(content / "spare")
            _pack(draft / "package.tar.xz", content, sorted(content.iterdir()))
        size = sum(each.stat().st_size for each in draft.iterdir())
        if size > LARGEST:
            raise BundleError(f"the bundle has {size:,} bytes, and {LARGEST:,} are allowed")
        shutil.rmtree(into, ignore_errors=True)
        draft.rename(into)
    return size


def _engine_archive() -> Path:
    """Server and engine in one archive, kept in the cache since packing takes a minute."""
    root = ollama_build().binary.parents[1]
    files = [each for each in sorted(root.rglob("*")) if each.is_file()]
    state = hashlib.sha256()
    for each in files:
        state.update(f"{each.relative_to(root)}\n".encode())
        with each.open("rb") as file:
            state.update(hashlib.file_digest(file, "sha256").digest())

    def make(into: Path) -> None:
        toolchain.say("packing the server for the GPU bundle (a minute or two)")
        _pack(into / "engine.tar.xz", root, files)

    return cached(f"gpu-engine-{state.hexdigest()[:16]}", make) / "engine.tar.xz"


def _wheels() -> list[Path]:
    """The package's dependencies for every interpreter, in the versions that are tested here."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = sorted({f"{each.name}=={each.version}" for each in metadata.distributions()})
    # Only what is needed counts, but which of the pins that is, pip alone knows.
    state = hashlib.sha256("\n".join([*project["dependencies"], *pins, *_PYTHONS]).encode())

    def make(into: Path) -> None:
        constraints = into / "constraints.txt"
        constraints.write_text("\n".join(pins) + "\n")
        for python in _PYTHONS:
            toolchain.say(f"fetching wheels for Python {python}")
            toolchain.run(
                [
                    *(sys.executable, "-m", "pip", "download", "--quiet", "--no-cache-dir"),
                    *("--only-binary", ":all:", "--implementation", "cp"),
                    *("--python-version", python, "--constraint", constraints),
                    *(word for each in _PLATFORMS for word in ("--platform", each)),
                    *("--dest", into / python, *project["dependencies"]),
                ],
                log=f"gpu-wheels-{python}",
            )

    return sorted(cached(f"gpu-wheels-{state.hexdigest()[:16]}", make).rglob("*.whl"))


def _add_sources(into: Path) -> None:
    for source in _SOURCES:
        path = ROOT / source
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and file.suffix != ".pyc" and file != Path(__file__).resolve():
                target = into / file.relative_to(ROOT)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, target)


def _add_wheels(into: Path, wheels: Iterable[Path]) -> None:
    """Unpack wheels: those without compiled code once, the others for each interpreter."""
    for wheel in wheels:
        if wheel.name.startswith(_NOT_NEEDED):
            continue
        python = wheel.parent.name
        target = into / ("any" if wheel.name.endswith("-none-any.whl") else python)
        with ZipFile(wheel) as archive:
            archive.extractall(target)


def _add_models(into: Path) -> None:
    into.mkdir()
    template = jinja_template(TokenizerVersion.V13)
    write_miniature(into / "miniature.gguf", chat_template=template)
    write_miniature(
        into / "miniature-small.gguf",
        layers=2,
        heads=8,
        chat_template=template,
        name="small miniature Devstral",
    )


def _add_spare_libraries(into: Path) -> None:
    into.mkdir()
    # Known to the loader of this machine; one that is missing here is left out, and said.
    listed = subprocess.run(
        ["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=False
    ).stdout
    found = {
        words[0]: Path(words[-1])
        for line in listed.splitlines()
        if (words := line.split()) and "x86-64" in line
    }
    for name in _SPARE:
        if name in found:
            shutil.copy(found[name].resolve(), into / name)
        else:
            toolchain.say(f"{name} is not on this machine: the bundle goes without it")


def _pack(archive: Path, root: Path, paths: Iterable[Path]) -> None:
    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        return member

    with tarfile.open(archive, "w:xz", preset=9) as tar:
        for path in paths:
            tar.add(path, path.relative_to(root), filter=plain)


if __name__ == "__main__":
    sys.exit(main())
