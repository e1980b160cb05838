"""Who asks: what a server's keeper wants to see with every request."""

from __future__ import annotations

import os
import re
from base64 import b64encode
from pathlib import Path

from ollama_tools.errors import FileProblem, UsageError
from ollama_tools.server.address import Address

HEADERS = "DEVSTRAL_OLLAMA_HEADERS"
HEADERS_FILE = "DEVSTRAL_OLLAMA_HEADERS_FILE"


def headers_for(address: Address, api_key: str | None = None) -> dict[str, str]:
    """The headers for a server, the most particular last: key, address, the person's own.

    They never come from a command line, which every process of the machine can read.

    Args:
        address: The server's address, with who asks where that was written there.
        api_key: The key; None for ``OLLAMA_API_KEY``.

    Raises:
        UsageError: What the environment names is no header.
        FileProblem: The file that it names cannot be read.
    """
    found: dict[str, str] = {}
    said = os.environ.get("OLLAMA_API_KEY", "") if api_key is None else api_key
    if key := said.strip():
        found["authorization"] = f"Bearer {_sound(key, 'OLLAMA_API_KEY')}"
    if address.user:
        found["authorization"] = f"Basic {b64encode(address.user.encode()).decode()}"
    if file := os.environ.get(HEADERS_FILE):
        try:
            text = Path(file).expanduser().read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it is no text"
            raise FileProblem(f"cannot read {file}: {reason}", f"check {HEADERS_FILE}") from error
        found |= _lines(text, HEADERS_FILE)
    return found | _lines(os.environ.get(HEADERS, ""), HEADERS)


def _lines(text: str, variable: str) -> dict[str, str]:
    found = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if not line.strip():
            continue
        if not colon or not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name.strip()):
            raise UsageError(
                f"{variable} holds a line that is no header", "write one a line, as in Name: value"
            )
        found[name.strip().lower()] = _sound(value.strip(), variable)
    return found


def _sound(value: str, variable: str) -> str:
    if not value.isascii() or not value.isprintable():
        raise UsageError(
            f"{variable} holds characters that no header may have", "check how it was copied"
        )
    return value
