"""The gateway of a host in a fleet: what an inventory says of it, as what is written there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ollama_tools.errors import UsageError
from ollama_tools.gateway.configuration import parse_settings
from ollama_tools.gateway.keys import keys_text, parse_keys
from ollama_tools.gateway.settings import GatewaySettings
from ollama_tools.gateway.targets import gateway_arguments, gateway_unit
from ollama_tools.network.hosts import is_loopback
from ollama_tools.server.address import parse_address
from ollama_tools.settings.environment import ServerSettings

_SAID_ELSEWHERE = {"upstream": "ollama_server_settings", "keys": "devstral_gateway_keys"}


@dataclass(frozen=True)
class HostGateway:
    """A gateway, as its host has it.

    Attributes:
        unit: The text of its unit.
        arguments: With what its process runs.
        keys: The text of its file of keys; empty where nobody is asked for one.
        files: Files of the host that are read when it starts, beside the keys.
        url: Where the host itself reaches it.
    """

    unit: str
    arguments: list[str]
    keys: str
    files: list[str]
    url: str


def gateway_of_host(
    given: Mapping[str, Any],
    keys: Sequence[Mapping[str, str]],
    server: ServerSettings,
    *,
    program: Path,
    keys_file: Path,
) -> HostGateway:
    """What is written on a host for the gateway that an inventory asks for.

    Args:
        given: Its settings by the names of their options.
        keys: Who may ask it: see :func:`ollama_tools.gateway.keys.parse_keys`.
        server: The settings of the server behind it.
        program: Where ``devstral-ollama`` lies there.
        keys_file: Where the keys lie there.

    Raises:
        UsageError: It cannot be, or others than the host reach the server past it.
    """
    said = parse_settings(given, "devstral_gateway_settings")
    for name, variable in _SAID_ELSEWHERE.items():
        if name in said:
            raise UsageError(f"devstral_gateway_settings has {name}", f"that is {variable}")
    place = parse_address(server.host)
    if place.is_everywhere or not is_loopback(place.url):
        raise UsageError(
            f"ollama_server_settings has the host {server.host}, so that others reach Ollama past "
            "the gateway",
            "leave it out, and give devstral_gateway_settings a listen, as 0.0.0.0:11435",
        )
    known = parse_keys(keys)
    told = {"dedicated_to": server.dedicated_to, **said}
    settings = GatewaySettings(**told, upstream=server.host, keys=keys_file if known else None)
    asked = parse_address(settings.listen).url
    tls = settings.tls_certificate, settings.tls_key
    return HostGateway(
        unit=gateway_unit(settings, program),
        arguments=gateway_arguments(settings),
        keys=keys_text(known) if known else "",
        files=[str(each) for each in tls if each is not None],
        url=asked.replace("http://", "https://", 1) if settings.tls_key else asked,
    )
