"""Running the gateway until it is told to stop."""

from __future__ import annotations

import gc
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from typing import TypeAlias

from ollama_tools.errors import DevstralError, UsageError
from ollama_tools.gateway.settings import GatewaySettings
from ollama_tools.server.address import parse_address

_BACKLOG = 2048
_GRACE_SECONDS = 30
# Where the server is gone, nothing that is asked will be answered any more.
_LAST_SECONDS = 3

Beside: TypeAlias = Callable[[Callable[[], None]], AbstractContextManager[None]]
"""What runs as long as a gateway does; it is handed what ends the gateway, from any thread."""


def serve(
    settings: GatewaySettings,
    *,
    option: str = "--listen",
    beside: Beside = lambda _: nullcontext(),
) -> None:
    """Serve until a signal comes; what is being answered is answered, for half a minute.

    Args:
        settings: The gateway's settings.
        option: The option that names the address.
        beside: What runs beside it: begun once the address is taken, ended after the gateway.

    Raises:
        UsageError: What it needs is not installed, or its certificate and key are no pair.
        FileProblem: Its keys cannot be read.
        DevstralError: It cannot listen there.
    """
    try:
        import aiohttp  # noqa: F401
        import jiter  # noqa: F401
        import msgspec  # noqa: F401
        import prometheus_client  # noqa: F401
        import uvicorn
        import zstandard  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"the gateway needs {error.name}", "pip install 'devstral-ollama[gateway]'"
        ) from None
    from ollama_tools.gateway.app import Gateway
    from ollama_tools.gateway.heads import BoundedHead
    from ollama_tools.gateway.keys import read_keys
    from ollama_tools.gateway.tls import require_pair

    if settings.tls_certificate is not None and settings.tls_key is not None:
        require_pair(settings.tls_certificate, settings.tls_key)
    if settings.keys is not None:
        read_keys(settings.keys)
    # What is there for good is not looked through again for what is not needed any more.
    gc.collect()
    gc.freeze()
    with closing(_listening(settings.listen, option)) as listener:
        config = uvicorn.Config(
            Gateway(settings),
            http=BoundedHead,
            access_log=False,
            # What happens to requests has a log of its own.
            log_level="critical",
            server_header=False,
            date_header=False,
            proxy_headers=False,
            lifespan="on",
            timeout_graceful_shutdown=_GRACE_SECONDS,
            ssl_certfile=settings.tls_certificate,
            ssl_keyfile=settings.tls_key,
        )
        server = uvicorn.Server(config)

        def end() -> None:
            config.timeout_graceful_shutdown = _LAST_SECONDS
            server.should_exit = True

        with beside(end):
            server.run(sockets=[listener])


def _listening(address: str, option: str) -> socket.socket:
    place = parse_address(address)
    family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
    # By the protocol's number asyncio knows that small pieces are not to be held back.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((place.host, place.port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise DevstralError(
            f"{address} cannot be listened on: {error.strerror}", f"take another by {option}"
        ) from error
    return listener
