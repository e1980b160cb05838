"""Which proxy stands between us and a server, as Go and curl read the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

from ollama_tools.errors import UsageError
from ollama_tools.network.hosts import is_loopback


@dataclass(frozen=True, slots=True)
class Way:
    """A proxy.

    Attributes:
        url: Its address, which may hold a password and is for the connection alone.
        variable: The variable that names it.
    """

    url: str
    variable: str

    @property
    def name(self) -> str:
        """The proxy for a person: without who asks."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"

    def __repr__(self) -> str:
        return f"Way({self.name}, {self.variable})"


def proxy_for(url: str) -> Way | None:
    """The proxy for a server; None for this machine, and for what ``NO_PROXY`` names.

    Raises:
        UsageError: The environment names one that is no address.
    """
    if is_loopback(url) or _is_excepted(url):
        return None
    scheme = urlsplit(url).scheme
    for variable in (f"{scheme}_proxy", f"{scheme.upper()}_PROXY", "all_proxy", "ALL_PROXY"):
        # A web server gives a program that it starts the visitor's header Proxy by this name.
        if variable == "HTTP_PROXY" and "REQUEST_METHOD" in os.environ:
            continue
        text = os.environ.get(variable, "").strip()
        if not text:
            continue
        proxy = text if "://" in text else f"http://{text}"
        try:
            parts = urlsplit(proxy)
            sound = bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            sound = False
        if not sound or parts.scheme not in ("http", "https", "socks5", "socks5h"):
            raise UsageError(
                "the environment names a proxy that is no address", f"check {variable}"
            )
        return Way(proxy, variable)
    return None


def _is_excepted(url: str) -> bool:
    parts = urlsplit(url)
    host, port = (parts.hostname or "").rstrip("."), parts.port
    listed = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    return any(_names(each.strip().lower(), host, port) for each in listed.split(","))


def _names(entry: str, host: str, port: int | None) -> bool:
    if not entry:
        return False
    if entry == "*":
        return True
    try:
        address = ip_address(host)
    except ValueError:
        address = None
    bare, wanted = _without_port(entry)
    if wanted is not None and wanted != port:
        return False
    if address is not None:
        try:
            return address in ip_network(bare, strict=False)
        except ValueError:
            return False
    # Go means by "x.org" the name and all below it, by ".x.org" those below; curl means both twice.
    bare = bare.removeprefix("*").strip(".")
    return bool(bare) and (host == bare or host.endswith(f".{bare}"))


def _without_port(entry: str) -> tuple[str, int | None]:
    if entry.startswith("["):
        inside, _, rest = entry[1:].partition("]")
        port = rest.removeprefix(":")
    elif entry.count(":") == 1:
        inside, _, port = entry.partition(":")
    else:
        return entry, None
    return inside, int(port) if port.isdecimal() else None
