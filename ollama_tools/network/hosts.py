"""Which addresses are this machine's own: the one judge of that."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address
from urllib.parse import urlsplit


def is_loopback(url: str) -> bool:
    """Whether a URL leads to this machine, as far as its text tells."""
    try:
        return is_loopback_host(urlsplit(url).hostname or "")
    except ValueError:
        return False


def is_loopback_host(host: str) -> bool:
    """Whether a name or address, without port and brackets, is this machine's.

    A name that only begins or ends like one may lead anywhere: ``127.0.0.1.example``,
    ``localhost.example``, and what stands below ``localhost`` where a resolver knows no better.
    """
    try:
        address = ip_address(host)
    except ValueError:
        return host.casefold().removesuffix(".") == "localhost"
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback
