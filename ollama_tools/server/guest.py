"""A guest on a server: a miniature model that is gone afterwards, whatever happens meanwhile."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ollama_tools.devstral.miniature import write_miniature
from ollama_tools.errors import ServerError
from ollama_tools.interrupts import one_interrupt_later
from ollama_tools.server.client import Server
from ollama_tools.server.names import new_trial_name

_FILE = "miniature.gguf"


@contextmanager
def guest(
    server: Server,
    label: str,
    layers: Mapping[str, Any],
    *,
    jinja: str | None = None,
    blocks: int = 1,
    kv_heads: int = 1,
) -> Iterator[dict[str, Any]]:
    """Put a miniature on a server; model and weights are gone from it afterwards.

    Args:
        server: The server.
        label: What it is for; its name begins with it.
        layers: What else the request says that creates it: parameters, a template, a parser.
        jinja: The template inside the file; None for none.
        blocks: Transformer blocks; the KV cache of a token grows with them.
        kv_heads: Heads of keys and values; likewise.

    Yields:
        The request that made it, to be sent again with other layers; ``model`` is its name.

    Raises:
        ServerError: The server does not do its part.
    """
    name = new_trial_name(label)
    content = _miniature(label, jinja, blocks, kv_heads)
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    base = {"model": name, "files": {_FILE: digest}}
    try:
        server.upload_stream(lambda: (content,), len(content), digest, _silent, label=_FILE)
        server.create({**base, **layers}, _silent)
        yield {**base, **layers}
    finally:
        with one_interrupt_later():
            _put_away(server, name, digest, base)


def _miniature(label: str, jinja: str | None, blocks: int, kv_heads: int) -> bytes:
    """The file, of which nothing is left on this machine, however the process ends later."""
    with tempfile.TemporaryDirectory(prefix=f"{label}-") as directory:
        path = Path(directory) / _FILE
        write_miniature(
            path,
            layers=blocks,
            heads=kv_heads,
            kv_heads=kv_heads,
            chat_template=jinja,
            # Weights of its own, so that nobody else's go with them.
            name=f"{label} {os.urandom(8).hex()}",
        )
        return path.read_bytes()


def _put_away(server: Server, name: str, digest: str, base: dict[str, Any]) -> None:
    with suppress(ServerError):
        server.unload(name)
    server.delete(name)
    if server.has_blob(digest):
        # An upload that no model came of: weights go with the last model that has them.
        server.create(base, _silent)
        server.delete(name)


def _silent(_status: str, _done: int, _total: int | None) -> None:
    pass
