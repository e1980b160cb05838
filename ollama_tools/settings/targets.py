"""A server's settings, written for what starts it: systemd, an env file, compose, launchd."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ollama_tools.errors import UsageError
from ollama_tools.server.address import resolve_host
from ollama_tools.server.versions import TESTED_SERVER, Version
from ollama_tools.settings.environment import (
    TEMPLATE_FILE,
    TEMPLATES,
    ServerSettings,
    environment,
    explain,
    require_possible,
    require_whole,
)

UNITS = "/etc/systemd/system"
"""Where systemd looks for units of an administrator's."""

DROP_IN = f"{UNITS}/ollama.service.d/devstral.conf"
"""Where the drop-in belongs; the unit itself is overwritten by Ollama's own installer."""

_AGENT = "~/Library/LaunchAgents/devstral.ollama.plist"
CONTAINER_PORT = 11434
"""Where a server, or a gateway, listens in its container."""

_HEALTH_SECONDS = 10.0
_CONTAINER_MODELS = "/root/.ollama/models"
_CONTAINER_TEMPLATES = Path("/templates")


class Target(StrEnum):
    """What starts a server."""

    SYSTEMD = "systemd"
    ENV = "env"
    COMPOSE = "compose"
    LAUNCHD = "launchd"


class Gpu(StrEnum):
    """Whose cards a container gets."""

    NVIDIA = "nvidia"
    AMD = "amd"
    NONE = "none"


def render_settings(
    settings: ServerSettings,
    target: Target,
    *,
    version: Version | None = None,
    templates: Path = TEMPLATES,
    gpu: Gpu | None = None,
) -> str:
    """Settings as the file that a starter reads.

    Args:
        settings: The settings.
        target: What starts the server.
        version: The server's version; None for the newest that the tests ran on.
        templates: Where the templates of this package lie on the server's machine.
        gpu: Whose cards a container gets; None for NVIDIA's. What is no container sees all.

    Raises:
        UsageError: A server of that version cannot have the settings, or the starter cannot.
    """
    if gpu is not None and target is not Target.COMPOSE:
        raise UsageError(
            f"{target.value} starts no container, and its server sees every card",
            "leave out --gpu, or use --target compose",
        )
    version = version or TESTED_SERVER
    require_possible(settings, version)
    if target is not Target.COMPOSE:
        require_whole(settings, target.value)
    match target:
        case Target.SYSTEMD:
            lines = _systemd(settings, templates)
        case Target.ENV:
            lines = _env(settings, templates)
        case Target.COMPOSE:
            lines = _compose(settings, version, templates, gpu or Gpu.NVIDIA)
        case Target.LAUNCHD:
            lines = _launchd(settings, templates)
    return "\n".join(lines)


def systemd_value(text: str) -> str:
    """A text between double quotes of a unit file."""
    # A percent sign starts a specifier, and a backslash an escape (systemd.exec(5)).
    return re.sub(r'(["\\])', r"\\\1", text).replace("%", "%%")


def _systemd(settings: ServerSettings, templates: Path) -> Iterator[str]:
    yield "# Made by devstral-ollama: a drop-in, since Ollama's installer overwrites the unit."
    yield f"# It belongs to {DROP_IN};"
    yield "# then: systemctl daemon-reload && systemctl restart ollama"
    yield "[Service]"
    for variable, value, why in explain(settings, templates):
        yield f"# {why}"
        yield f'Environment="{variable}={systemd_value(value)}"'


def _env(settings: ServerSettings, templates: Path) -> Iterator[str]:
    yield "# Made by devstral-ollama: for EnvironmentFile= of systemd, or docker run --env-file."
    for variable, value, why in explain(settings, templates):
        yield f"# {why}"
        yield f"{variable}={value}"


def _compose(
    settings: ServerSettings, version: Version, templates: Path, gpu: Gpu
) -> Iterator[str]:
    document = compose_document(settings, version=version, templates=templates, gpu=gpu)
    yield from compose_lines(document, settings, templates)


def compose_document(
    settings: ServerSettings,
    *,
    version: Version = TESTED_SERVER,
    templates: Path = TEMPLATES,
    gpu: Gpu = Gpu.NVIDIA,
) -> dict[str, Any]:
    """A compose file with the service ``ollama``.

    Args:
        settings: The settings; who may reach the server is said by the port that is published.
        version: The server's version.
        templates: Where the templates of this package lie on the server's machine.
        gpu: Whose cards the container gets.
    """
    # Only this machine's side of the port says who may reach the container.
    inside = replace(settings, host=f"0.0.0.0:{CONTAINER_PORT}", models=None)
    if gpu is Gpu.NVIDIA:
        # The container has those cards alone, and counts them anew.
        inside = replace(inside, cuda_devices=())
    models = "models" if settings.models is None else mounted(settings.models)
    volumes = [f"{models}:{_CONTAINER_MODELS}"]
    variables = environment(inside, _CONTAINER_TEMPLATES)
    if TEMPLATE_FILE in variables:
        volumes.append(f"{templates}:{_CONTAINER_TEMPLATES}:ro")
    service = {
        # AMD's libraries are in an image of their own (Ollama's documentation, docs/docker).
        "image": f"ollama/ollama:{version}{'-rocm' if gpu is Gpu.AMD else ''}",
        "restart": "unless-stopped",
        "ports": [published(settings.host)],
        "environment": variables,
        "volumes": volumes,
        "healthcheck": healthcheck(["ollama", "ls"], _HEALTH_SECONDS),
        **_reserved(gpu, settings.cuda_devices),
    }
    document: dict[str, Any] = {"services": {"ollama": service}}
    if settings.models is None:
        document["volumes"] = {"models": {}}
    return document


def healthcheck(command: list[str], timeout: float) -> dict[str, Any]:
    """How a container is asked whether it serves, so that ``up --wait`` waits for that.

    Args:
        command: What is run in it.
        timeout: Seconds after which that is given up.
    """
    return {
        "test": ["CMD", *command],
        "interval": "10s",
        "timeout": f"{timeout:.0f}s",
    }


def compose_lines(
    document: Mapping[str, Any], settings: ServerSettings, templates: Path = TEMPLATES
) -> Iterator[str]:
    """A compose file's lines, with the reasons for the server's settings."""
    import yaml

    class Dumper(yaml.SafeDumper):
        """Writes a text of lines as lines, which people read."""

    def text_of(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
        style = "|" if "\n" in text else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)

    Dumper.add_representer(str, text_of)
    yield "# Made by devstral-ollama; then: docker compose up --detach --wait"
    for variable, _, why in explain(settings, templates):
        yield f"#   {variable}: {why}"
    # A dollar sign stands before a variable.
    text = yaml.dump(document, Dumper=Dumper, sort_keys=False, width=100).replace("$", "$$")
    yield from text.rstrip("\n").split("\n")


def _reserved(gpu: Gpu, named: tuple[str, ...]) -> dict[str, object]:
    """What gives a container its cards: a reservation, or for AMD the driver's own devices."""
    match gpu:
        case Gpu.NVIDIA:
            if named == ("-1",):
                return {}
            which: dict[str, object] = {"device_ids": list(named)} if named else {"count": "all"}
            cards = {"driver": "nvidia", **which, "capabilities": ["gpu"]}
            return {"deploy": {"resources": {"reservations": {"devices": [cards]}}}}
        case Gpu.AMD:
            return {"devices": ["/dev/kfd", "/dev/dri"]}
        case Gpu.NONE:
            return {}


def mounted(folder: Path) -> str:
    """What stands for a folder in a short mount, so that compose takes it for no volume's name.

    Raises:
        UsageError: Compose would split it.
    """
    text = str(folder)
    if ":" in text:
        raise UsageError(
            f"compose takes what follows a colon for another folder: {text!r}",
            "choose a folder without a colon in its name",
        )
    # Compose knows "~" and relative paths itself, but only these by their beginning.
    return text if text.startswith(("/", "~")) else f"./{text}"


def published(listens: str) -> str:
    """The port of a container that is reached where a server would listen."""
    url = urlsplit(resolve_host(listens))
    return f"{_published(listens, url.hostname)}{url.port}:{CONTAINER_PORT}"


def _published(listens: str, resolved: str | None) -> str:
    """The address in front of a published port; none for a server that every machine may reach."""
    everyone = ("0.0.0.0", "[::]", "://:", "*")  # noqa: S104 - compared, not bound
    if listens.startswith(":") or any(each in listens for each in everyone):
        return ""
    return f"[{resolved}]:" if resolved and ":" in resolved else f"{resolved}:"


def _launchd(settings: ServerSettings, templates: Path) -> Iterator[str]:
    import plistlib

    agent = {
        "Label": "devstral.ollama",
        "ProgramArguments": ["/usr/local/bin/ollama", "serve"],
        "EnvironmentVariables": environment(settings, templates),
        "RunAtLoad": True,
        "KeepAlive": True,
    }
    text = plistlib.dumps(agent, sort_keys=False).decode().rstrip("\n")
    declaration, doctype, rest = text.split("\n", 2)
    # Two hyphens would end the comment.
    reasons = [f"{each[0]}: {each[2]}".replace("--", "- -") for each in explain(settings)]
    yield from (declaration, doctype)
    yield f"<!-- Made by devstral-ollama; belongs to {_AGENT}, then: launchctl load {_AGENT}"
    yield from (f"     {each}" for each in reasons)
    yield "-->"
    yield rest
