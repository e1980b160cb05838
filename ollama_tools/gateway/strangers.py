"""Pages of strangers, which a browser on this machine lets ask whatever it reaches.

A page can ask a server of this machine without ever reading the answer, and read it too where its
own name was made to lead here. Ollama refuses both (``server/routes.go`` of 0.34.4:
``allowedHostsMiddleware``, and ``OLLAMA_ORIGINS``), and whoever stands before it has to.
"""

from __future__ import annotations

import socket
from functools import lru_cache
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

_NEAR: Final = (".localhost", ".local", ".internal")


def is_name_of_this_machine(host: str) -> bool:
    """Whether a ``Host`` header is what a client of this machine sends.

    An address is: what was made to lead here is a name.
    """
    try:
        name = _named(host)
    except ValueError:
        return False
    if name is None:
        return True
    return name in ("", "localhost", socket.gethostname().lower()) or name.endswith(_NEAR)


@lru_cache(maxsize=64)
def _named(host: str) -> str | None:
    """The name in a ``Host`` header; None where that is an address."""
    name = urlsplit(f"//{host}").hostname or ""
    try:
        ip_address(name)
    except ValueError:
        return name
    return None
