"""The server's process, where it runs on this machine: the evidence that its API does not give."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

_PROC = Path("/proc")
_LISTEN = "0A"


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """A process that listens where a server's URL points.

    Attributes:
        pid: Its number.
        environment: Its environment as it was started.
        log: The file that its stderr goes to; None where that is no file.
        runners: Command lines of its children (llama-server), oldest first.
    """

    pid: int
    environment: Mapping[str, str]
    log: Path | None
    runners: tuple[tuple[str, ...], ...]

    @property
    def models_directory(self) -> Path | None:
        """Where the server keeps its blobs, as far as its environment tells."""
        if models := self.environment.get("OLLAMA_MODELS"):
            return Path(models)
        home = self.environment.get("HOME")
        return Path(home) / ".ollama" / "models" if home else None


def find_server_process(url: str) -> ServerProcess | None:
    """The process behind a URL on this machine, or None where it cannot be seen.

    Reads /proc, so it works on Linux, and for other users' processes only as root.

    Args:
        url: Base URL of a server whose host is a loopback address.
    """
    parts = urlsplit(url)
    inodes = set(_listening_inodes(parts.port or 80))
    if not inodes:
        return None
    for directory in _PROC.iterdir():
        if directory.name.isdigit() and any(
            target in inodes for target in _socket_inodes(directory / "fd")
        ):
            return _describe(directory)
    return None


def _listening_inodes(port: int) -> Iterator[str]:
    for table in ("tcp", "tcp6"):
        try:
            lines = (_PROC / "net" / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == _LISTEN and int(fields[1].rsplit(":", 1)[1], 16) == port:
                yield fields[9]


def _socket_inodes(directory: Path) -> Iterator[str]:
    try:
        for entry in directory.iterdir():
            if match := re.fullmatch(r"socket:\[(\d+)\]", str(entry.readlink())):
                yield match[1]
    except OSError:
        return


def _describe(directory: Path) -> ServerProcess | None:
    try:
        raw = (directory / "environ").read_bytes()
        log = (directory / "fd" / "2").readlink()
    except OSError:
        return None
    pairs = (entry.partition("=") for entry in raw.decode(errors="replace").split("\0"))
    return ServerProcess(
        pid=int(directory.name),
        environment={key: value for key, equals, value in pairs if equals},
        log=log if log.is_file() else None,
        runners=tuple(_children(int(directory.name))),
    )


def _children(pid: int) -> Iterator[tuple[str, ...]]:
    for directory in sorted(_PROC.glob("[0-9]*"), key=lambda each: int(each.name)):
        try:
            # The command's name stands in brackets and may itself contain spaces.
            parent = (directory / "stat").read_text().rpartition(")")[2].split()[1]
            if int(parent) == pid:
                command = (directory / "cmdline").read_bytes().decode(errors="replace")
                yield tuple(command.rstrip("\0").split("\0"))
        except OSError:
            continue
