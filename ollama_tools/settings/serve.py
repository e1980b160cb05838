"""Becoming ``ollama serve`` with the right environment."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import urlsplit

from ollama_tools.devstral.context import parse_context
from ollama_tools.errors import DevstralError, UsageError
from ollama_tools.server.address import resolve_host
from ollama_tools.server.versions import Version, parse_version
from ollama_tools.settings.environment import (
    ServerSettings,
    asked_environment,
    explain,
    on_this_machine,
    require_possible,
    whole_path,
)

FROM_ENVIRONMENT = "as your environment says"


@dataclass(frozen=True, slots=True)
class ServePlan:
    """What will run.

    Attributes:
        arguments: Program and arguments.
        variables: Each variable with its value, and the reason for it.
    """

    arguments: tuple[str, ...]
    variables: tuple[tuple[str, str, str], ...]

    @property
    def changes(self) -> dict[str, str]:
        """The variables and their values."""
        return {variable: value for variable, value, _ in self.variables}


def plan_server(
    given: Mapping[str, Any], program: str, surroundings: Mapping[str, str] = os.environ
) -> ServePlan:
    """Work out what to run; nothing is started.

    What a person asks for wins over the environment, and that over the defaults.

    Args:
        given: Fields of :class:`ServerSettings` that a person asked for.
        program: Name or path of the ollama program.
        surroundings: The environment that is already there.

    Raises:
        UsageError: A setting is impossible, also for the program's version, or there is no such
            program.
    """
    given = on_this_machine(given)
    settings = ServerSettings(**given)
    asked = asked_environment(given)
    variables = [
        (variable, _inherited(variable, inherited), FROM_ENVIRONMENT)
        if variable not in asked and (inherited := surroundings.get(variable))
        else (variable, value, why)
        for variable, value, why in explain(settings)
    ]
    if "models" not in given and (inherited := surroundings.get("OLLAMA_MODELS")):
        # An environment that no shell has read may hold "~" as it is; Ollama takes quotes off.
        folder = str(whole_path(inherited.strip(" \"'")))
        variables.append(("OLLAMA_MODELS", folder, FROM_ENVIRONMENT))
    path = shutil.which(program)
    if path is None:
        raise UsageError(
            f"there is no program {program!r}",
            "install Ollama (https://ollama.com/download), or name it with --ollama PATH",
        )
    if (version := program_version(path)) is not None:
        require_possible(settings, version)
    return ServePlan((path, "serve"), tuple(variables))


def _inherited(variable: str, value: str) -> str:
    """A variable as the server reads it, where a person may write more than that.

    Raises:
        UsageError: It says nothing; the server would take its own default with a line in its log.
    """
    if variable != "OLLAMA_CONTEXT_LENGTH":
        return value
    # Ollama takes quotes off as well (envconfig of its source).
    return str(parse_context(value.strip(" \"'")))


def program_version(path: str) -> Version | None:
    """The version of an ollama program; None where it does not say."""
    # A running server would be asked as well, and its version is another matter.
    nowhere = {**os.environ, "OLLAMA_HOST": "127.0.0.1:9"}
    try:
        said = subprocess.run(
            [path, "--version"],
            env=nowhere,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"version is (\S+)", said.stdout + said.stderr)
    return parse_version(match[1]) if match else None


def exec_server(plan: ServePlan) -> NoReturn:
    """Replace this process by the server.

    Raises:
        DevstralError: Its address is taken, or the program cannot run.
    """
    require_free(plan.changes["OLLAMA_HOST"], "--host")
    become(plan.arguments, plan.changes, option="--ollama")


def become(arguments: Sequence[str], changes: Mapping[str, str], *, option: str) -> NoReturn:
    """Replace this process by a program.

    Args:
        arguments: The program's path, and its arguments.
        changes: Variables on top of our own.
        option: The option that names the program.

    Raises:
        DevstralError: It cannot run.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    # Python ignores this signal, and what is ignored stays so in the program that follows.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        os.execve(arguments[0], list(arguments), {**os.environ, **changes})  # noqa: S606
    except OSError as error:
        raise DevstralError(
            f"cannot run {arguments[0]}: {error.strerror}", f"check {option} PATH"
        ) from error


def require_free(host: str, option: str) -> None:
    """Refuse an address that is another's, before anything is started.

    Args:
        host: The address.
        option: The option that names it.

    Raises:
        DevstralError: Something listens there, or it is none of this machine's.
    """
    url = resolve_host(host)
    parts = urlsplit(url)
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            parts.hostname, parts.port, type=socket.SOCK_STREAM
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise DevstralError(
                f"something listens at {url} already, perhaps another Ollama",
                f"stop it (systemctl stop ollama), or choose another port with {option}",
            ) from error
        raise DevstralError(
            f"this machine cannot listen at {url}: {error.strerror}",
            f"give an address of this machine with {option}; OLLAMA_HOST may name a remote one",
        ) from error
