"""Controllers with another Ansible than the tests' own, and another Python."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from tests.testbed import toolchain
from tests.testbed.cache import cache_root, cached
from tests.testbed.hosts.image import base_image

ROOT = Path(__file__).parents[2]
LOWEST = "2.14.0"
"""The first ansible-core for a controller with Python 3.11; Debian 12 has a later 2.14."""

NEWEST = "2.21.5"
"""Needs a newer Python than Debian 12 has."""

_LOCK = ROOT / "requirements" / "run.txt"
# A file system of its own, laid over the image, in which the machine's folders have their paths.
_DEBIAN_13 = """\
set -eu
image=$1 here=$2
shift 2
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay -o "lowerdir=$image,upperdir=/mnt/upper,workdir=/mnt/work" overlay /mnt/root
for each in /proc /dev /tmp "$HOME" "$here" "$PWD" {folders}; do
    mkdir -p "/mnt/root$each"
    mount --rbind "$each" "/mnt/root$each"
done
cp /etc/hosts /etc/passwd /mnt/root/etc/
exec chroot /mnt/root sh -c 'cd "$0" && exec "$@"' "$PWD" "$@"
"""


def _packages(version: str, python: str) -> Path:
    """An ansible-core and all that the package needs, in a folder for ``PYTHONPATH``."""
    lock = hashlib.sha256(_LOCK.read_bytes()).hexdigest()[:12]

    def make(into: Path) -> None:
        install: list[str | Path] = [
            *(Path(sys.executable).parent / "uv", "pip", "install", "--quiet"),
            *("--target", into, "--python-version", python, "--only-binary", ":all:"),
        ]
        toolchain.run([*install, f"ansible-core=={version}"], log=f"ansible-{version}")
        # The locked versions are for the package; Ansible has them already where it needs one.
        locked: list[str | Path] = ["--no-deps", "--require-hashes", "--requirement", _LOCK]
        toolchain.run([*install, *locked], log=f"ansible-{version}-package")

    return cached(f"ansible-{version}-{lock}", make)


def _program(folder: Path, packages: Path, *python: str | Path) -> Path:
    """A folder with an ``ansible-playbook`` that runs with these packages and the tree's own."""
    program = folder / "ansible-playbook"
    words = " ".join(f"'{each}'" for each in python)
    program.write_text(
        "#!/bin/sh\n"
        f"export PYTHONPATH='{packages}:{ROOT}'\n"
        f'exec {words} -m ansible playbook "$@"\n'
    )
    program.chmod(0o755)
    return folder


def lowest(folder: Path) -> Path:
    """A folder with the ``ansible-playbook`` of :data:`LOWEST`.

    Args:
        folder: An empty folder.
    """
    return _program(folder, _packages(LOWEST, "3.11"), sys.executable)


def newest(folder: Path) -> Path:
    """A folder with the ``ansible-playbook`` of :data:`NEWEST`, which runs in a Debian 13.

    Args:
        folder: An empty folder.
    """
    packages = _packages(NEWEST, "3.13")
    enter = folder / "debian-13.sh"
    enter.write_text(_DEBIAN_13.format(folders=f"'{cache_root()}'"))
    image = base_image("trixie")
    command = ("unshare", "--mount", "sh", enter, image, ROOT, "/usr/bin/python3")
    return _program(folder, packages, *command)
