"""The server's process, where it runs on this machine: the evidence that its API does not give."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

from ollama_tools.network.hosts import is_loopback

_PROC = Path("/proc")
_LISTEN = "0A"
_FALSE = frozenset({"0", "f", "false"})


@dataclass(frozen=True, slots=True)
class Runner:
    """A child of a server's process: an engine (llama-server), or what else it started.

    Attributes:
        pid: Its number.
        command: Its command line.
    """

    pid: int
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """A server's process that listens where a URL points.

    Attributes:
        pid: Its number.
        root: Its root folder as seen from here; a container has another than this machine.
        executable: Its program, as it names it itself.
        environment: Its environment as it was started, with values as Ollama reads them.
        log: The file that its stderr goes to; None where that is no file.
        runners: Its children (llama-server), oldest first.
        unit: The systemd service that it belongs to; None where it belongs to none.
    """

    pid: int
    root: Path
    executable: Path
    environment: Mapping[str, str]
    log: Path | None
    runners: tuple[Runner, ...]
    unit: str | None = None

    def seen(self, path: Path) -> Path:
        """A path of the process as this process reaches it."""
        return self.root / path.relative_to("/") if path.is_absolute() else path

    def flag(self, variable: str) -> bool | None:
        """A switch as Ollama reads it: what is no boolean counts as true; None where unset."""
        value = self.environment.get(variable, "").lower()
        return None if not value else value not in _FALSE

    @property
    def models_directory(self) -> Path | None:
        """Where the server keeps its blobs, as far as its environment tells."""
        if models := self.environment.get("OLLAMA_MODELS"):
            return Path(models)
        home = self.environment.get("HOME")
        return Path(home) / ".ollama" / "models" if home else None


@dataclass(frozen=True, slots=True)
class GatewayProcess:
    """A gateway of this package that runs on this machine.

    Attributes:
        pid: Its number.
        listen: Where it listens, as it was told.
        upstream: The server behind it, as it was told.
    """

    pid: int
    listen: str
    upstream: str


_GATEWAY = {"listen": "127.0.0.1:11435", "upstream": "127.0.0.1:11434"}


def find_gateways() -> Iterator[GatewayProcess]:
    """The gateways on this machine, whoever's they are: command lines are everybody's to read."""
    for directory in _PROC.glob("[0-9]*"):
        try:
            words = (directory / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        command, said = _said_to_us(words)
        if command == "gateway":
            place = directory / "cwd" / said["config"] if "config" in said else None
            told = {**_GATEWAY, **(_configured(place) if place else {}), **said}
            yield GatewayProcess(int(directory.name), told["listen"], told["upstream"])
        elif command == "serve" and "gateway" in said:
            # It takes the server's address, and gives the server another.
            listen = said.get("host") or _host(directory) or _GATEWAY["upstream"]
            for each in _children(int(directory.name)):
                if upstream := _host(_PROC / str(each.pid)):
                    yield GatewayProcess(int(directory.name), listen, upstream)


def _said_to_us(words: Sequence[str]) -> tuple[str, dict[str, str]]:
    """The command and the options of a command line of ours; no command where it is another's."""
    for place, word in enumerate(words):
        if Path(word).name == "devstral-ollama" or (
            word == "ollama_tools" and words[place - 1] == "-m"
        ):
            command, *rest = [*words[place + 1 :], ""]
            # It has commands of its own, that run no gateway.
            return (command if "key" not in rest[:1] else ""), dict(_options(rest))
    return "", {}


def _options(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    for option, following in pairwise([*words, ""]):
        name, equals, value = option.partition("=")
        if name.startswith("--"):
            yield name.removeprefix("--"), value if equals else following


def _host(directory: Path) -> str:
    """``OLLAMA_HOST`` of a process; empty where it has none, or is another user's."""
    try:
        raw = (directory / "environ").read_bytes()
    except OSError:
        return ""
    pairs = (entry.partition("=") for entry in raw.decode(errors="replace").split("\0"))
    return next((value for key, _, value in pairs if key == "OLLAMA_HOST"), "")


def _configured(path: Path) -> dict[str, str]:
    """What a gateway's file of settings says of its addresses; nothing where it is not ours."""
    import yaml

    try:
        said = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    if not isinstance(said, dict):
        return {}
    return {name: str(said[name]) for name in _GATEWAY if name in said}


def find_server_process(url: str) -> ServerProcess | None:
    """The server's process behind a URL, or None where it is elsewhere or cannot be seen.

    Reads /proc, so it works on Linux, and for other users' processes only as root. A proxy that
    listens for a server elsewhere, such as in a container, is no server: it knows no setting.

    Args:
        url: Base URL of a server.
    """
    if not is_loopback(url):
        return None
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
        executable = (directory / "exe").readlink()
        raw = (directory / "environ").read_bytes()
        log = (directory / "fd" / "2").readlink()
    except OSError:
        return None
    if not executable.name.startswith("ollama"):
        return None
    pairs = (entry.partition("=") for entry in raw.decode(errors="replace").split("\0"))
    return ServerProcess(
        pid=int(directory.name),
        root=directory / "root",
        executable=executable,
        environment={
            # envconfig.Var of Ollama trims the same.
            key: value.strip().strip("\"'").strip()
            for key, equals, value in pairs
            if equals
        },
        log=log if log.is_file() else None,
        runners=tuple(_children(int(directory.name))),
        unit=_unit(directory),
    )


def _unit(directory: Path) -> str | None:
    """The service in whose control group a process is."""
    try:
        groups = (directory / "cgroup").read_text()
    except OSError:
        return None
    match = re.search(r"/system\.slice/([^/\s]+\.service)$", groups, re.MULTILINE)
    return match[1] if match else None


def _children(pid: int) -> Iterator[Runner]:
    for directory in sorted(_PROC.glob("[0-9]*"), key=lambda each: int(each.name)):
        try:
            # The command's name stands in brackets and may itself contain spaces.
            parent = (directory / "stat").read_text().rpartition(")")[2].split()[1]
            if int(parent) == pid:
                command = (directory / "cmdline").read_bytes().decode(errors="replace")
                yield Runner(int(directory.name), tuple(command.rstrip("\0").split("\0")))
        except OSError:
            continue
