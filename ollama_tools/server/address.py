"""What people write for ``OLLAMA_HOST``, and the address that they mean."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import unquote, urlsplit

from ollama_tools.errors import UsageError

DEFAULT_PORT = 11434
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - replaced, not bound
_SCHEME_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is, and who asks.

    Attributes:
        url: Base URL, without a slash at its end, and without a password.
        user: ``user:password`` as it was written there; empty where it was not.
        host: The host as it was written, which may mean every interface.
        port: The port.
    """

    url: str
    user: str = field(default="", repr=False)
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT

    @property
    def is_everywhere(self) -> bool:
        """Whether who listens there listens on every interface."""
        return self.host in _EVERYWHERE


def parse_address(text: str | None = None) -> Address:
    """The address of a server, read as the ollama command line reads ``OLLAMA_HOST``.

    ``gpu1``, ``gpu1:8080``, ``:8080``, ``http://gpu1``, ``https://gpu1/ollama``, ``::1`` and
    ``[::1]:8080`` are all understood. The port is 11434 unless a scheme is given without one. An
    address that means "every interface" is where a server listens, so a client asks loopback.

    Args:
        text: What a person wrote; None for ``OLLAMA_HOST``, or 127.0.0.1 where that is unset.

    Raises:
        UsageError: The text is no address.
    """
    text = (os.environ.get("OLLAMA_HOST", "") if text is None else text).strip().strip("\"'")
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "http", text
    scheme = scheme.lower()
    # What stands before the last @ of the host is for the server alone, in any mistyped form.
    place, slash, path = rest.partition("/")
    if "@" in path and "@" not in place:
        place, slash, path = rest, "", ""
    user, _, place = place.rpartition("@")
    shown = f"{scheme}{separator}{place}{slash}{path}" if separator else f"{place}{slash}{path}"
    if scheme not in _SCHEME_PORTS:
        raise UsageError(f"{shown!r} is not an address of a server", "use http:// or https://")
    wrong = UsageError(f"{shown!r} is not an address of a server", "as in gpu1:11434")
    if place.startswith(":") and place.count(":") == 1:
        place = f"127.0.0.1{place}"
    if _is_bare_ipv6(place):
        place = f"[{place}]"
    try:
        parts = urlsplit(f"{scheme}://{place}{slash}{path}")
        port = parts.port
    except ValueError:
        raise wrong from None
    host = parts.hostname or "127.0.0.1"
    if not re.fullmatch(r"[\w.:%-]+", host):
        raise wrong
    written, host = host, _EVERYWHERE.get(host, host)
    if ":" in host:
        host = f"[{host}]"
    if port is None:
        port = _SCHEME_PORTS[scheme] if separator else DEFAULT_PORT
    url = f"{scheme}://{host}:{port}{parts.path.rstrip('/')}"
    return Address(url, unquote(user), written, port)


def resolve_host(text: str | None = None) -> str:
    """The base URL of :func:`parse_address`, for who listens there and has no use for a password.

    Raises:
        UsageError: The text is no address, or has a password in it.
    """
    address = parse_address(text)
    if address.user:
        raise UsageError(
            "the server's address contains a password", "put the server behind a proxy instead"
        )
    return address.url


def _is_bare_ipv6(place: str) -> bool:
    try:
        return ip_address(place.partition("%")[0]).version == 6
    except ValueError:
        return False
