"""A gateway beside its server, written for what starts both: systemd, compose."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Final

from ollama_tools import __version__
from ollama_tools.declared import choice
from ollama_tools.errors import UsageError
from ollama_tools.gateway.beside import before, host_of, with_release
from ollama_tools.gateway.settings import GatewaySettings
from ollama_tools.server.address import parse_address
from ollama_tools.server.versions import TESTED_SERVER, Version
from ollama_tools.settings.environment import ServerSettings
from ollama_tools.settings.targets import (
    CONTAINER_PORT,
    DROP_IN,
    UNITS,
    Gpu,
    Target,
    compose_document,
    compose_lines,
    healthcheck,
    mounted,
    published,
    render_settings,
    systemd_value,
)

UNIT: Final = f"{UNITS}/devstral-gateway.service"
"""Where the unit belongs."""

# The files that only root reads, by the names under which the service gets them.
_CREDENTIALS: Final = ("keys", "tls_certificate", "tls_key")
_HANDED: Final = "/run/credentials/devstral-gateway.service"
_FIRST_FREE_PORT: Final = 1024
_PLAIN: Final = re.compile(r"[\w.:/@+,\[\]-]+")
# By ProtectHome= and PrivateTmp=, which DynamicUser= brings.
_HIDDEN: Final = (("home",), ("root",), ("tmp",))
# A directory, since a key that is taken away changes the file that the name stands for.
_CONTAINER_KEYS: Final = Path("/run/keys")
_CONTAINER_TLS: Final = Path("/run/tls")
_DOCKERFILE: Final = """\
FROM python:3.13-slim
# A wheel beside this file comes before an index's: pip wheel --no-deps --wheel-dir . CHECKOUT
COPY *.whl /wheels/
RUN pip install --no-cache-dir --find-links /wheels 'devstral-ollama[gateway]=={version}'
"""
# No proxy of the container's environment may come between, and the certificate is for the name
# that clients use.
_HEALTH: Final = (
    "import http.client, ssl, sys; "
    "asked = http.client.{connection}; "
    "asked.request('GET', '{path}'); "
    "sys.exit(asked.getresponse().status >= 500)"
)
_HEALTH_SECONDS: Final = 10.0


def render_both(
    server: Mapping[str, Any],
    asked: Mapping[str, Any],
    target: Target,
    *,
    version: Version | None = None,
    gpu: Gpu | None = None,
) -> dict[str, str]:
    """A server and the gateway before it, as the files that a starter reads.

    Clients ask where the settings say that the server listens: see
    :func:`ollama_tools.gateway.beside.before`.

    Args:
        server: Fields of :class:`ServerSettings` that a person asked for.
        asked: Fields of :class:`GatewaySettings` that a person asked for.
        target: What starts them.
        version: The server's version; None for the newest that the tests ran on.
        gpu: Whose cards the server's container gets; None for NVIDIA's.

    Returns:
        The text of each file by the path where it belongs.

    Raises:
        UsageError: They cannot be so, or this starter starts no gateway.
    """
    listen = server.get("host") or asked.get("listen") or ServerSettings().host
    settings = before(listen, with_release(server, asked))
    wanted = ServerSettings(**{**server, "host": host_of(settings.upstream)})
    match target:
        case Target.SYSTEMD:
            drop_in = render_settings(wanted, target, version=version, gpu=gpu)
            # Beside the Python that runs: an environment of its own has both.
            program = Path(sys.executable).with_name("devstral-ollama")
            return {DROP_IN: f"{drop_in}\n", UNIT: gateway_unit(settings, program)}
        case Target.COMPOSE:
            # What cannot be is refused there, as without a gateway.
            render_settings(wanted, target, version=version, gpu=gpu)
            document = compose_document(
                wanted, version=version or TESTED_SERVER, gpu=gpu or Gpu.NVIDIA
            )
            # Nobody reaches it past the gateway, unless a person says where.
            if not asked.get("upstream"):
                del document["services"]["ollama"]["ports"]
            document["services"]["gateway"] = _service(settings)
            lines = compose_lines(document, wanted)
            return {"compose.yaml": "\n".join([*lines, ""])}
        case _:
            raise UsageError(
                f"{target.value} says nothing of a gateway", "use --target systemd, or compose"
            )


def gateway_unit(settings: GatewaySettings, program: Path) -> str:
    """The service of a gateway, for systemd.

    Its account lasts as long as it runs and owns nothing; what only root reads is handed to it.

    Args:
        settings: The gateway's settings.
        program: Where ``devstral-ollama`` lies on that machine, with the extra ``gateway``.

    Raises:
        UsageError: A path is not whole, or cannot stand in a unit.
    """
    return "\n".join([*_unit(settings, program), ""])


def gateway_arguments(settings: GatewaySettings) -> list[str]:
    """The arguments with which the process of that service runs."""
    files = _files(settings)
    handed = [word for name in files for word in (_flag(name), f"{_HANDED}/{name}")]
    return ["gateway", *_options(settings, files), *handed]


def _files(settings: GatewaySettings) -> dict[str, Path]:
    given = {name: getattr(settings, name) for name in _CREDENTIALS}
    return {name: path for name, path in given.items() if path is not None}


def _unit(settings: GatewaySettings, program: Path) -> Iterator[str]:
    files = _files(settings)
    for path in (program, *files.values()):
        if not path.is_absolute() or not str(path).isprintable():
            raise UsageError(f"systemd would not find {str(path)!r}", "write it from / on")
    words = [_word(each) for each in _options(settings, files)]
    words += [f'{_flag(name)} "${{CREDENTIALS_DIRECTORY}}/{name}"' for name in files]
    low = parse_address(settings.listen).port < _FIRST_FREE_PORT
    yield f"# Made by devstral-ollama; it belongs to {UNIT},"
    yield "# then: systemctl daemon-reload && systemctl enable --now devstral-gateway"
    yield "[Unit]"
    yield "Description=The gateway before Ollama"
    yield "# Not bound to it: while a server is being started again, its clients wait here."
    yield "Wants=ollama.service network-online.target"
    yield "After=ollama.service network-online.target"
    yield ""
    yield "[Service]"
    yield "Type=exec"
    if program.parts[1:2] in _HIDDEN:
        yield f"# {program} cannot be seen from here: install it below /opt, and name that."
    yield f"ExecStart={_word(str(program))} gateway {' '.join(words)}"
    if files:
        yield "# Root's alone; a change of them is seen after: systemctl restart devstral-gateway"
    for name, path in files.items():
        yield f"LoadCredential={name}:{str(path).replace('%', '%%')}"
    yield from _HARDENED
    yield f"CapabilityBoundingSet={'CAP_NET_BIND_SERVICE' if low else ''}"
    yield f"AmbientCapabilities={'CAP_NET_BIND_SERVICE' if low else ''}"
    yield ""
    yield "[Install]"
    yield "WantedBy=multi-user.target"


def _word(text: str) -> str:
    """A word of a command line, as systemd reads it (systemd.service(5))."""
    return text if _PLAIN.fullmatch(text) else f'"{systemd_value(text).replace("$", "$$")}"'


_HARDENED: Final = """\
Restart=always
RestartSec=3
# Wrong settings do not mend themselves, and a signal ends it as Ctrl-C does.
RestartPreventExitStatus=2
SuccessExitStatus=130
# What is being answered may go on for half a minute.
TimeoutStopSec=45
LimitNOFILE=65536
UMask=0077

DynamicUser=yes
ProtectHome=yes
PrivateDevices=yes
NoNewPrivileges=yes
ProtectProc=invisible
ProcSubset=pid
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
RestrictNamespaces=yes
RestrictRealtime=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX""".splitlines()


def _flag(name: str) -> str:
    (told,) = (choice(each) for each in fields(GatewaySettings) if each.name == name)
    return (*told.flags, f"--{name.replace('_', '-')}")[0]


def _options(settings: GatewaySettings, without: Mapping[str, object]) -> list[str]:
    """Settings as options of the command: both addresses, and what is no default."""
    words = []
    for each in fields(settings):
        value = getattr(settings, each.name)
        always = each.name in ("listen", "upstream")
        if each.name in without or (value == each.default and not always):
            continue
        flag = _flag(each.name)
        for one in value if isinstance(value, tuple) else (value,):
            words += [flag] if one is True else [flag, str(one)]
    return words


def _service(settings: GatewaySettings) -> dict[str, Any]:
    """The gateway as a service of a compose file, before the service ``ollama``."""
    inside: dict[str, Any] = {
        "listen": f"0.0.0.0:{CONTAINER_PORT}",
        "upstream": f"ollama:{CONTAINER_PORT}",
        # Who is asked for none is said by the port that is published.
        "without_keys": settings.keys is None,
    }
    volumes = []
    if settings.keys is not None:
        volumes.append(f"{mounted(settings.keys.parent)}:{_CONTAINER_KEYS}:ro")
        inside["keys"] = _CONTAINER_KEYS / settings.keys.name
    for name in ("tls_certificate", "tls_key"):
        if (path := getattr(settings, name)) is not None:
            inside[name] = _CONTAINER_TLS / name
            volumes.append(f"{mounted(path)}:{inside[name]}:ro")
    return {
        # By its version, since compose makes no image anew that it finds by its name.
        "image": f"localhost/devstral-gateway:{__version__}",
        "build": {"dockerfile_inline": _DOCKERFILE.format(version=__version__)},
        "restart": "unless-stopped",
        "depends_on": ["ollama"],
        "command": ["devstral-ollama", "gateway", *_options(replace(settings, **inside), {})],
        "ports": [published(settings.listen)],
        "volumes": volumes,
        "healthcheck": _healthcheck(settings),
        # What is being answered may go on for half a minute.
        "stop_grace_period": "45s",
        "read_only": True,
        "cap_drop": ["ALL"],
        # What only its owner reads on this machine.
        "cap_add": ["DAC_READ_SEARCH"] if volumes else [],
        "security_opt": ["no-new-privileges:true"],
    }


def _healthcheck(settings: GatewaySettings) -> dict[str, Any]:
    # Where it is about a model, being ready takes an answer of that, which turns out of its cache
    # what a session has there.
    path = "/ready" if settings.model is None else "/api/version"
    place = f"'127.0.0.1', {CONTAINER_PORT}"
    connection = f"HTTPConnection({place})"
    if settings.tls_certificate is not None:
        connection = f"HTTPSConnection({place}, context=ssl._create_unverified_context())"
    code = _HEALTH.format(connection=connection, path=path)
    # A server that is being started again is waited for.
    return healthcheck(["python", "-c", code], settings.wait + _HEALTH_SECONDS)
