"""A server and the gateway before it as one: they begin together, and end together."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

from ollama_tools.errors import DevstralError, UsageError
from ollama_tools.gateway.serve import serve
from ollama_tools.gateway.settings import GatewaySettings
from ollama_tools.interrupts import one_interrupt_later
from ollama_tools.network.hosts import is_loopback
from ollama_tools.server.address import DEFAULT_PORT, parse_address
from ollama_tools.settings.environment import ServerSettings
from ollama_tools.settings.serve import ServePlan, plan_server, require_free

_STOP_SECONDS: Final = 10.0
# Lower ones are root's, and behind the last there is none.
_NEXT_PORTS: Final = range(1024, 65535)
# Whatever becomes of us, no server stays that nobody knows of: the pipe closes when we are gone.
_GUARD: Final = 'read -r _; kill -TERM "-$1"; sleep 5; kill -KILL "-$1"'


def plan_behind(
    given: Mapping[str, Any],
    program: str,
    asked: Mapping[str, Any],
    surroundings: Mapping[str, str] = os.environ,
) -> tuple[ServePlan, GatewaySettings]:
    """Work out a server and the gateway before it; nothing is started.

    Clients go on asking where they would have asked the server, so the gateway takes that address,
    and the server one behind it that nobody else reaches.

    Args:
        given: Fields of :class:`ServerSettings` that a person asked for.
        program: Name or path of the ollama program.
        asked: Fields of :class:`GatewaySettings` that a person asked for.
        surroundings: The environment that is already there.

    Raises:
        UsageError: One of both cannot be so.
    """
    listen = given.get("host") or asked.get("listen") or surroundings.get("OLLAMA_HOST")
    settings = before(listen or ServerSettings().host, with_release(given, asked))
    behind = {**given, "host": host_of(settings.upstream)}
    return plan_server(behind, program, surroundings), settings


def before(listen: str, asked: Mapping[str, Any]) -> GatewaySettings:
    """A gateway that listens where a server would, before one that nobody else reaches.

    Args:
        listen: Where clients ask.
        asked: Fields of :class:`GatewaySettings` that a person asked for; without ``upstream``
            the server is at the next port of loopback.

    Raises:
        UsageError: It cannot be, or others than this machine would reach the server.
    """
    port = parse_address(listen).port
    next_port = port + 1 if port in _NEXT_PORTS else DEFAULT_PORT
    behind = asked.get("upstream") or f"127.0.0.1:{next_port}"
    place = parse_address(behind)
    if place.is_everywhere or not is_loopback(place.url):
        raise UsageError(
            f"others than this machine would reach the server at {behind}, past the gateway",
            "give an address of loopback by --upstream, as in 127.0.0.1:11435",
        )
    return GatewaySettings(**{**asked, "listen": listen, "upstream": behind})


def with_release(given: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """What is asked of a gateway, with the release that its server is dedicated to.

    Args:
        given: Fields of :class:`ServerSettings` that a person asked for.
        asked: Fields of :class:`GatewaySettings` that a person asked for.
    """
    return {"dedicated_to": given.get("dedicated_to"), **asked}


def host_of(url: str) -> str:
    """What ``OLLAMA_HOST`` is for a server of a URL."""
    return urlsplit(url).netloc


def serve_both(plan: ServePlan, settings: GatewaySettings) -> None:
    """Run a server and the gateway before it until a signal comes, or one of them ends.

    The gateway ends first, so that what is being answered is answered.

    Raises:
        DevstralError: One of them cannot start, or the server ended by itself.
    """
    require_free(settings.listen, "--host")
    require_free(settings.upstream, "--upstream")
    serve(settings, option="--host", beside=lambda end: _running(plan, end))


@contextmanager
def _running(plan: ServePlan, end: Callable[[], None]) -> Iterator[None]:
    """A server that runs, in a process group of its own: Ctrl-C is for us, who end it in order.

    Args:
        plan: The server.
        end: What is called when it ends by itself.
    """
    # With its guard it ends with us, whatever comes then.
    with one_interrupt_later():
        try:
            server = subprocess.Popen(
                plan.arguments,
                env={**os.environ, **plan.changes},
                stdin=subprocess.DEVNULL,
                process_group=0,
            )
        except OSError as error:
            raise DevstralError(
                f"cannot run {plan.arguments[0]}: {error.strerror}", "check --ollama PATH"
            ) from error
        guard = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD, "guard", str(server.pid)],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def watch() -> None:
        server.wait()
        end()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
        if (code := server.poll()) is not None:
            raise DevstralError(
                f"Ollama ended by itself ({_how(code)}), and the gateway before it too",
                "its last words stand above",
            )
    finally:
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.terminate()
                server.wait(_STOP_SECONDS)
        finally:
            # Engines that it has left behind are of its group.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)
            server.wait()
            guard.kill()
            guard.communicate()


def _how(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name
