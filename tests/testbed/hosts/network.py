"""A cable from this machine, the controller, to each host."""

from __future__ import annotations

import ipaddress
import json
import random
import subprocess
from collections.abc import Iterator

from tests.testbed.toolchain import BuildError

INTERFACE = "host0"
"""The interface's name on the host."""

_PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
_ATTEMPTS = 500


def free_network() -> ipaddress.IPv4Network:
    """A private /24 that no address and no route of this machine overlaps.

    Raises:
        BuildError: When there is none.
    """
    used = list(_used())
    for _ in range(_ATTEMPTS):
        block = ipaddress.IPv4Network(random.choice(_PRIVATE))
        third = random.randrange(block.num_addresses // 256)
        network = ipaddress.IPv4Network((int(block.network_address) + 256 * third, 24))
        if not any(network.overlaps(other) for other in used):
            return network
    raise BuildError("this machine's routes cover all private networks; no room for test hosts")


def _used() -> Iterator[ipaddress.IPv4Network]:
    for route in json.loads(ip("-json", "-4", "route", "show", "table", "all").stdout):
        if route["dst"] != "default":
            yield ipaddress.IPv4Network(route["dst"], strict=False)


def ip(*arguments: str, inside: int | None = None) -> subprocess.CompletedProcess[str]:
    """Runs ip.

    Args:
        arguments: Its arguments.
        inside: Process whose network namespace it acts on; None for our own.

    Raises:
        BuildError: When it fails.
    """
    enter = [] if inside is None else ["nsenter", f"--net=/proc/{inside}/ns/net"]
    command = [*enter, "ip", *arguments]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise BuildError(f"{' '.join(command)}: {answer.stderr.strip()}")
    return answer


class Link:
    """A network namespace with an interface in it, joined to one of ours.

    A process keeps the namespace; it ends when its standard input closes, which our death does.
    Every link's near end has the controller's
    address, so that hosts see one controller, and neither each other nor anything beyond.

    Args:
        name: The near interface's name, at most 15 characters.
        controller: Address of the near end.
        address: Address of the host.
    """

    def __init__(self, name: str, controller: str, address: str) -> None:
        self.name = name
        self._holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo made; exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            self._join(controller, address)
        except BaseException:
            self.close()
            raise

    @property
    def namespace(self) -> str:
        """Path of the network namespace."""
        return f"/proc/{self._holder.pid}/ns/net"

    def switch(self, on: bool) -> None:
        """Pulls the plug at the host, or puts it in again.

        The near end stays up: without its route, packets for the host would go to our gateway.
        """
        ip("link", "set", INTERFACE, "up" if on else "down", inside=self._holder.pid)

    def _join(self, controller: str, address: str) -> None:
        pid = self._holder.pid
        if self._holder.stdout is None or not self._holder.stdout.readline():
            raise BuildError("cannot make a network namespace")
        ip("link", "add", self.name, "type", "veth", "peer", "name", INTERFACE, "netns", str(pid))
        ip("address", "add", controller, "peer", f"{address}/32", "dev", self.name)
        ip("link", "set", self.name, "up")
        ip("link", "set", "lo", "up", inside=pid)
        ip("address", "add", address, "peer", f"{controller}/32", "dev", INTERFACE, inside=pid)
        ip("link", "set", INTERFACE, "up", inside=pid)

    def close(self) -> None:
        """Removes both interfaces and the namespace."""
        # The namespace's end would take them away too, but only some time later.
        subprocess.run(["ip", "link", "delete", self.name], capture_output=True, check=False)
        for stream in (self._holder.stdin, self._holder.stdout):
            if stream is not None:
                stream.close()
        self._holder.wait()
