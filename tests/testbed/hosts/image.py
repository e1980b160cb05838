"""The disks that hosts start from: a small Debian 12 or 13 with systemd and sshd."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal, get_args

from tests.testbed import toolchain
from tests.testbed.cache import cached
from tests.testbed.toolchain import BuildError, say

ADMIN = "admin"
"""Who logs in to the hosts; may become root without a password."""

ADMIN_ID = 1000
"""User and group id of :data:`ADMIN`."""

Suite = Literal["bookworm", "trixie"]
"""Debian 12, whose Python is 3.11, or Debian 13 with 3.13."""

_PACKAGES = (
    "ca-certificates",
    "dbus",
    "iproute2",
    "openssh-server",
    "procps",
    "python3",
    "python3-apt",
    "python3-venv",
    "sudo",
    "systemd",
    "systemd-sysv",
    "zstd",
)
_SETUP = f"""
set -eu
useradd --uid {ADMIN_ID} --create-home --shell /bin/bash {ADMIN}
echo '{ADMIN} ALL=(ALL) NOPASSWD:ALL' >/etc/sudoers.d/{ADMIN}
chmod 0440 /etc/sudoers.d/{ADMIN}
echo 'PasswordAuthentication no' >/etc/ssh/sshd_config.d/testbed.conf
# What is a single host's own comes with the host.
rm -f /etc/ssh/ssh_host_* /etc/machine-id /etc/hostname /etc/resolv.conf
# There is no way out, so that these could only fail.
systemctl mask apt-daily.timer apt-daily-upgrade.timer
rm -rf /var/cache/apt/archives/*.deb /var/lib/apt/lists/*
"""
# Program, and the Debian package that has it.
_PROGRAMS = {
    "debootstrap": "debootstrap",
    "systemd-nspawn": "systemd-container",
    "ssh": "openssh-client",
    "zstd": "zstd",
    "ip": "iproute2",
}


def base_image(suite: Suite = "bookworm", more: Sequence[str] = ()) -> Path:
    """Returns the root directory of the image, made when the cache does not have it.

    Nobody may write to it: hosts lay a file system of their own over it.

    Args:
        suite: The release of Debian.
        more: Packages that it has beside those of every host.

    Raises:
        BuildError: When it cannot be made here; never a skipped test.
    """
    _prerequisites()
    packages = (*_PACKAGES, *more)
    recipe = repr((suite, packages, _SETUP))
    digest = hashlib.sha256(recipe.encode()).hexdigest()[:12]
    return cached(f"hosts-{suite}-{digest}", partial(_make, suite, packages)) / "root"


def _prerequisites() -> None:
    if os.geteuid() != 0:
        raise BuildError("the test hosts are systemd-nspawn machines and need root")
    missing = sorted({p for name, p in _PROGRAMS.items() if shutil.which(name) is None})
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise BuildError(f"the test hosts need these, as Debian names them: {', '.join(missing)}")
    say(f"installing {', '.join(missing)}")
    install = ["apt-get", "install", "-y", "--no-install-recommends", *missing]
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        toolchain.run(install, log="hosts-apt", env=quiet)
    except BuildError:
        # Images of containers come without apt's lists.
        toolchain.run(["apt-get", "update"], log="hosts-apt-update")
        toolchain.run(install, log="hosts-apt", env=quiet)


def _make(suite: Suite, packages: Sequence[str], into: Path) -> None:
    say(f"making the hosts' base image, {suite} (one to two minutes)")
    root = into / "root"
    # In a mount namespace of its own: an interrupted debootstrap leaves /proc mounted in there,
    # and what clears up after it would follow.
    alone = ["unshare", "--mount"]
    bootstrap: list[str | Path] = [
        "debootstrap",
        "--variant=minbase",
        f"--include={','.join(packages)}",
        suite,
        root,
        *_mirror(suite),
    ]
    toolchain.run([*alone, *bootstrap], log="hosts-image", env=_proxy())
    setup: list[str | Path] = [*alone, "chroot", root, "/bin/sh", "-c", _SETUP]
    toolchain.run(setup, log="hosts-image-setup", env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})


def _mirror(suite: Suite) -> list[str]:
    """The mirror that this machine's apt has a suite from; none leaves it to debootstrap.

    A mirror of Debian has all suites, so that of another one serves, where apt has not this one.
    """
    found: dict[str, str] = {}
    for line in _ask_apt("apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)"):
        address, _, release = line.partition(" ")
        if address.startswith(("http://", "https://", "file:")):
            found.setdefault(release, address)
    return [found[each] for each in (suite, *get_args(Suite)) if each in found][:1]


def _proxy() -> dict[str, str]:
    """The proxy that apt is configured with, as wget reads it."""
    found: dict[str, str] = {}
    for scheme in ("http", "https"):
        key = f"Acquire::{scheme}::Proxy"
        for line in _ask_apt("apt-config", "dump", "--format", "%v%n", key):
            if line and line != "DIRECT":
                found[f"{scheme}_proxy"] = line
    return found


def _ask_apt(*command: str) -> list[str]:
    if shutil.which(command[0]) is None:
        return []
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return answer.stdout.splitlines()
