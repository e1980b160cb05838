"""Wheels: the package as it is now, and what it is locked to, for machines without an index."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from tests.testbed.cache import cached

_ROOT = Path(__file__).parents[2]
_PIP = (sys.executable, "-m", "pip")
_NEWEST_PIP = "pip==26.3"


@cache
def package_wheel() -> Path:
    """A folder with the package's own wheel alone, as the package is now."""
    place = Path(tempfile.mkdtemp(prefix="devstral-package-"))
    build = ("--no-deps", "--no-build-isolation")
    _run(*_PIP, "wheel", "--quiet", *build, "--wheel-dir", place, _ROOT)
    return place


def locked_wheels(python: str) -> Path:
    """A folder with the wheels that the gateway is locked to, and a pip.

    Args:
        python: The version of Python that they are for, as ``3.13``.
    """
    lock = _ROOT / "requirements" / "gateway.txt"
    mark = hashlib.sha256(lock.read_bytes()).hexdigest()[:12]
    machines = [f"--platform=manylinux_2_{minor}_x86_64" for minor in range(34, 16, -1)]
    target = (f"--python-version={python}", "--implementation=cp", *machines)

    def download(place: Path) -> None:
        pip = (*_PIP, "download", "--quiet", "--no-deps", "--only-binary=:all:")
        _run(*pip, *target, "--require-hashes", "--requirement", lock, "--dest", place)
        _run(*pip, _NEWEST_PIP, "--dest", place)

    return cached(f"wheels/{mark}-{python}", download)


def _run(*command: str | Path) -> None:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
