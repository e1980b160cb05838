"""Real hosts for the fleet's tests: systemd, sshd, a disk, and a cable that can be pulled."""

from tests.testbed.hosts.archive import Archive, ollama_archive
from tests.testbed.hosts.bed import BLOBS, CONTROLLER, Hosts
from tests.testbed.hosts.files import FileServer
from tests.testbed.hosts.machine import Host, HostError

__all__ = [
    "BLOBS",
    "CONTROLLER",
    "Archive",
    "FileServer",
    "Host",
    "HostError",
    "Hosts",
    "ollama_archive",
]
