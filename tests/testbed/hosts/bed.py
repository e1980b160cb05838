"""Several hosts, started together and gone with us."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from ipaddress import IPv4Network
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

import filelock

from tests.testbed.cache import cache_root
from tests.testbed.hosts.image import ADMIN, ADMIN_ID, Suite, base_image
from tests.testbed.hosts.inventory import write_inventory, write_ssh_config
from tests.testbed.hosts.machine import Host, Setup
from tests.testbed.hosts.network import Link, free_network

CONTROLLER = "controller"
"""What the hosts call the machine that the tests run on."""

BLOBS = "blobs.controller"
"""A second name for it: Ollama wants a registry's redirects to name another host."""

_FIRST = 11
_HERE = Path(__file__).parent


class Hosts:
    """Machines with systemd and sshd of their own; use it as a context manager.

    The kernel removes processes and mounts of the hosts when the process that made this object
    goes away, however it does; a guard process removes interfaces and the few files.

    Args:
        number: How many; they are called ``gpu1``, ``gpu2`` and so on.
        group: The group that the inventory puts them in.
        disk: Size of each host's disk, as mount takes it. It is memory, used as it fills.
        suites: The release of Debian of single hosts, by name, that are not of the usual one.
        packages: What of Debian they have beside what every host has.

    Attributes:
        hosts: The hosts.
        controller: Our address, as seen from the hosts.
        inventory: Path of an Ansible inventory in YAML.
        ssh_config: Path of a configuration for ``ssh -F`` that knows the hosts by name.
        place: Directory of all these files; removed with the hosts.
    """

    hosts: tuple[Host, ...]
    controller: str
    inventory: Path
    ssh_config: Path
    place: Path

    def __init__(
        self,
        number: int = 3,
        *,
        group: str = "ollama",
        disk: str = "4g",
        suites: Mapping[str, Suite] | None = None,
        packages: Sequence[str] = (),
    ) -> None:
        self._number = number
        self._suites = dict(suites or {})
        self._packages = tuple(packages)
        self._group = group
        self._disk = disk
        self._token = secrets.token_hex(3)
        self._prefix = f"tb{self._token}-"
        self._links = count(1)
        self._guard: subprocess.Popen[bytes] | None = None
        self._key = Path()
        self.hosts = ()

    def __enter__(self) -> Self:
        names = [f"gpu{i + 1}" for i in range(self._number)]
        images = {
            name: base_image(self._suites.get(name, "bookworm"), self._packages) for name in names
        }
        self.place = Path(tempfile.mkdtemp(prefix="devstral-hosts-"))
        self._guard = self._start_guard()
        try:
            # Others that start now would find the same network free; it is not for long.
            with filelock.FileLock(cache_root() / "hosts-network.lock"):
                self._set_up(images, free_network())
            self._all(Host.start)
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._close()

    def __getitem__(self, name: str) -> Host:
        """The host of that name."""
        return next(host for host in self.hosts if host.name == name)

    def reset(self, hosts: Iterable[Host] | None = None) -> None:
        """Resets these hosts, or all, at the same time.

        Raises:
            HostError: When one does not come up.
        """
        self._all(Host.reset, hosts)

    def _set_up(self, images: Mapping[str, Path], network: IPv4Network) -> None:
        self.controller = str(network[1])
        self.inventory = self.place / "inventory.yml"
        self.ssh_config = self.place / "ssh_config"
        self._key = self.place / "key"
        known = self.place / "known_hosts"
        _make_key(self._key)
        addresses = {name: str(network[_FIRST + i]) for i, name in enumerate(images)}
        self.hosts = tuple(
            self._host(images[name], name, address) for name, address in addresses.items()
        )
        known.write_text(
            "".join(
                f"{host.name},{host.address} {self._host_key(host.name).read_text()}"
                for host in self.hosts
            )
        )
        write_ssh_config(self.ssh_config, addresses, key=self._key, known=known)
        write_inventory(self.inventory, self._group, addresses, key=self._key, known=known)
        for host in self.hosts:
            host.connect()

    def _host(self, image: Path, name: str, address: str) -> Host:
        machine_id = hashlib.md5(f"{self._token}{name}".encode()).hexdigest()
        setup = Setup(
            image=image,
            seed=self._seed(name, machine_id),
            place=self.place / f"{name}.mounts",
            log=self.place / f"{name}.log",
            disk=self._disk,
            group=self.place.name,
            machine_id=machine_id,
            ssh_config=self.ssh_config,
            link=partial(self._link, address),
        )
        return Host(name, address, setup)

    def _link(self, address: str) -> Link:
        # Numbered on, because the kernel may take a while to forget an interface.
        return Link(f"{self._prefix}{next(self._links)}", self.controller, address)

    def _host_key(self, name: str) -> Path:
        return self.place / f"{name}.seed" / "etc" / "ssh" / "ssh_host_ed25519_key.pub"

    def _seed(self, name: str, machine_id: str) -> Path:
        """The files that make one host out of the image."""
        seed = self.place / f"{name}.seed"
        # Directories get the modes that they have in the image, for they are copied over it.
        for directory in ("", "etc", "etc/ssh", "home", f"home/{ADMIN}", f"home/{ADMIN}/.ssh"):
            (seed / directory).mkdir()
            (seed / directory).chmod(0o755)
        _write(seed / "etc" / "hostname", f"{name}\n")
        _write(seed / "etc" / "machine-id", f"{machine_id}\n")
        _write(
            seed / "etc" / "hosts",
            f"127.0.0.1 localhost\n127.0.1.1 {name}\n{self.controller} {CONTROLLER} {BLOBS}\n"
            "::1 localhost ip6-localhost ip6-loopback\n",
        )
        _make_key(seed / "etc" / "ssh" / "ssh_host_ed25519_key")
        home = seed / "home" / ADMIN
        _write(home / ".ssh" / "authorized_keys", self._key.with_suffix(".pub").read_text())
        for path, mode in (
            (home, 0o700),
            (home / ".ssh", 0o700),
            (home / ".ssh" / "authorized_keys", 0o600),
        ):
            path.chmod(mode)
            os.chown(path, ADMIN_ID, ADMIN_ID)
        return seed

    def _start_guard(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [
                "unshare",
                "--mount",
                "/bin/sh",
                _HERE / "guard.sh",
                self.place,
                self.place.name,
                self._prefix,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _all(self, act: Callable[[Host], object], hosts: Iterable[Host] | None = None) -> None:
        with ThreadPoolExecutor(max_workers=max(1, len(self.hosts))) as pool:
            for future in [pool.submit(act, host) for host in (hosts or self.hosts)]:
                future.result()

    def _close(self) -> None:
        try:
            self._all(Host.remove)
        finally:
            guard, self._guard = self._guard, None
            if guard is not None:
                if guard.stdin is not None:
                    guard.stdin.close()
                guard.wait()
            # The guard has done it, unless somebody killed it.
            shutil.rmtree(self.place, ignore_errors=True)


def _make_key(path: Path) -> None:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "testbed", "-f", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def _write(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o644)
