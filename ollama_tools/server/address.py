"""What people write for ``OLLAMA_HOST``, and the address that they mean."""

from __future__ import annotations

import os
import re
from urllib.parse import urlsplit

from ollama_tools.errors import UsageError

DEFAULT_PORT = 11434
_SCHEME_PORTS = {"http": 80, "https": 443}


def resolve_host(text: str | None = None) -> str:
    """The server's base URL, read as the ollama command line reads ``OLLAMA_HOST``.

    ``gpu1``, ``gpu1:8080``, ``:8080``, ``http://gpu1``, ``https://gpu1/ollama`` and ``[::1]`` are
    all understood. The port is 11434 unless a scheme is given without one. An address that means
    "every interface" is where a server listens, so a client asks loopback.

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
    if scheme not in _SCHEME_PORTS:
        raise UsageError(f"{text!r} is not an address of a server", "use http:// or https://")
    if rest.startswith(":"):
        rest = f"127.0.0.1{rest}"
    try:
        parts = urlsplit(f"{scheme}://{rest}")
        port = parts.port
    except ValueError:
        raise UsageError(f"{text!r} is not an address of a server", "as in gpu1:11434") from None
    if parts.username or parts.password:
        raise UsageError(
            "the server's address contains a password", "put the server behind a proxy instead"
        )
    host = parts.hostname or "127.0.0.1"
    if not re.fullmatch(r"[\w.:%-]+", host):
        raise UsageError(f"{text!r} is not an address of a server", "as in gpu1:11434")
    if host in ("0.0.0.0", "::"):  # noqa: S104 - replaced, not bound
        host = "127.0.0.1" if host == "0.0.0.0" else "::1"  # noqa: S104
    if ":" in host:
        host = f"[{host}]"
    if port is None:
        port = _SCHEME_PORTS[scheme] if separator else DEFAULT_PORT
    return f"{scheme}://{host}:{port}{parts.path.rstrip('/')}"


def is_loopback(url: str) -> bool:
    """Whether an address is this machine's own, as far as its text tells."""
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")
