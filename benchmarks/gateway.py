"""What the gateway adds to a request: beside the server alone, and nginx as a plain proxy.

Behind all stands a stand-in for a server that answers at once and then streams, so that what is
measured is the way and not an engine. "libraries" is a proxy that does nothing with a request, on
the libraries that carry the gateway's: no gateway on them adds less. Printed are

* the machine's load, beside which the figures have to be read; the ratios are of one run, in turns;
* first byte: seconds until the answer to a request of 100 kB begins, the median and the 99th of
  three hundred; and what each adds to the server alone in the same turn, in brackets by what nginx
  adds;
* streams: 200 at once, of 200 pieces each: how many came whole, seconds for all, and the 99th.

nginx is asked for by its name, and left out where there is none.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import uvicorn
from yarl import URL

from ollama_tools.devstral.contract import VERBATIM
from tests.testbed.gateway import GatewayServer

_PATH = "/api/chat"
_REQUESTS = 300
_STREAMS = 200
_PIECES = 200
_PAUSE = 0.02
_TOOLS = 20


def _body(*, pieces: int) -> bytes:
    """A request like an agent's: tools, and a history of 100 kB."""
    schema = {"type": "object", "properties": {"path": {"type": "string", "minLength": 1}}}
    tools = [
        {
            "type": "function",
            "function": {"name": f"tool_{number}", "description": "x" * 400, "parameters": schema},
        }
        for number in range(_TOOLS)
    ]
    messages: list[dict[str, Any]] = [{"role": "system", "content": "You write code."}]
    while len(json.dumps(messages)) < 90_000:
        messages += [
            {"role": "user", "content": "word " * 400},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [{"function": {"name": "tool_1", "arguments": {"path": "a.py"}}}],
            },
            {"role": "tool", "content": "line\n" * 400},
            {"role": "assistant", "content": "Done."},
        ]
    messages.append({"role": "user", "content": "Go on."})
    options = {"num_predict": pieces}
    return json.dumps(
        {"model": "devstral", "messages": messages, "tools": tools, "options": options}
    ).encode()


async def _server(scope: Any, receive: Any, send: Any) -> None:
    """A stand-in for Ollama: it shows a model of ours, and streams."""
    if scope["type"] != "http":
        return
    content = b""
    while True:
        message = await receive()
        content += message.get("body", b"")
        if not message.get("more_body"):
            break
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if scope["path"] != _PATH:
        # A context in which there is room, so that the gateway has to see that there is.
        shown = {"template": f"{{%- '{VERBATIM}' -%}}", "parameters": "num_ctx 131072"}
        body = json.dumps({**shown, "version": "0.0.0"}).encode()
        await send({"type": "http.response.body", "body": body, "more_body": False})
        return
    pieces = json.loads(content)["options"]["num_predict"]
    for number in range(pieces):
        done = number == pieces - 1
        piece = {"message": {"role": "assistant", "content": "word "}, "done": done}
        line = json.dumps(piece).encode() + b"\n"
        await send({"type": "http.response.body", "body": line, "more_body": not done})
        if number and not done:
            await asyncio.sleep(_PAUSE)


class _Libraries:
    """A proxy that does nothing with a request."""

    def __init__(self, upstream: str) -> None:
        self._url = URL(upstream)
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0)
            self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        pieces = []
        while True:
            message = await receive()
            pieces.append(message.get("body", b""))
            if not message.get("more_body"):
                break
        url = self._url.with_path(scope["path"])
        async with self._session.request(
            scope["method"], url, data=b"".join(pieces) or None
        ) as answer:
            headers = [(b"content-type", b"application/json")]
            start = {"type": "http.response.start", "status": answer.status, "headers": headers}
            await send(start)
            async for piece in answer.content.iter_any():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _serve(listener: socket.socket, app: Any) -> None:
    config = uvicorn.Config(app, log_level="critical", lifespan="off", access_log=False)
    uvicorn.Server(config).run(sockets=[listener])


@contextmanager
def _served(app: Any) -> Iterator[str]:
    # As Go's: by the protocol's number asyncio knows that small pieces are not to be held back.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1024)
        process = multiprocessing.get_context("fork").Process(target=_serve, args=(listener, app))
        process.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            process.terminate()
            process.join()


@contextmanager
def _nginx(program: str, upstream: str, root: Path) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    configuration = root / "nginx.conf"
    configuration.write_text(
        f"""
        daemon off; pid {root}/pid; error_log {root}/error.log; worker_processes 1;
        events {{ worker_connections 2048; }}
        http {{
          access_log off; client_max_body_size 64m; client_body_temp_path {root}/body;
          proxy_temp_path {root}/proxy; fastcgi_temp_path {root}/f; uwsgi_temp_path {root}/u;
          scgi_temp_path {root}/s;
          server {{ listen 127.0.0.1:{port}; location / {{
            proxy_pass {upstream}; proxy_http_version 1.1; proxy_buffering off;
            client_body_buffer_size 1m; }} }}
        }}
        """,
        encoding="utf-8",
    )
    process = subprocess.Popen([program, "-c", configuration, "-e", root / "error.log"])
    url = f"http://127.0.0.1:{port}"
    for _ in range(100):
        try:
            httpx.get(url, trust_env=False)
            break
        except httpx.HTTPError:
            time.sleep(0.05)
    try:
        yield url
    finally:
        os.kill(process.pid, signal.SIGTERM)
        process.wait()


def _first_bytes(urls: list[str]) -> dict[str, list[float]]:
    """Seconds to the first byte, in turns, so that what disturbs one disturbs all.

    Who comes behind another finds its caches as that one left them, so each is the first in turn.
    """
    content = _body(pieces=2)
    found: dict[str, list[float]] = {url: [] for url in urls}
    with httpx.Client(trust_env=False, timeout=60) as client:
        for number in range(_REQUESTS + 5):
            first = number % len(urls)
            for url in (*urls[first:], *urls[:first]):
                started = time.perf_counter()
                with client.stream("POST", f"{url}{_PATH}", content=content) as answer:
                    pieces = answer.iter_raw()
                    next(pieces)
                    seconds = time.perf_counter() - started
                    for _ in pieces:
                        pass
                if number >= 5:
                    found[url].append(seconds)
    return found


def _quantile(found: list[float], hundredth: int) -> float:
    return statistics.quantiles(found, n=100)[hundredth - 1]


async def _streams(url: str) -> tuple[int, float, float]:
    """How many of all streams came whole, seconds for all, and the 99th's."""
    content = _body(pieces=_PIECES)
    limits = httpx.Limits(max_connections=None)

    async def one(client: httpx.AsyncClient) -> float:
        started = time.perf_counter()
        lines = 0
        async with client.stream("POST", f"{url}{_PATH}", content=content) as answer:
            async for line in answer.aiter_lines():
                lines += bool(line)
        return time.perf_counter() - started if lines == _PIECES else 0.0

    async with httpx.AsyncClient(trust_env=False, timeout=300, limits=limits) as client:
        started = time.perf_counter()
        found = await asyncio.gather(*(one(client) for _ in range(_STREAMS)))
        total = time.perf_counter() - started
    whole = sorted(each for each in found if each)
    return len(whole), total, whole[-max(1, len(whole) // 100)]


def main() -> None:
    """Print the figures."""
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        root = Path(directory)
        server = stack.enter_context(_served(_server))
        ours = stack.enter_context(GatewayServer(server, log_path=root / "gateway.log"))
        carried = stack.enter_context(_served(_Libraries(server)))
        ways = {"server alone": server, "gateway": ours.url, "libraries": carried}
        if program:
            ways["nginx"] = stack.enter_context(_nginx(program, server, root))
        else:
            print("there is no nginx: apt-get install nginx-light", file=sys.stderr)
        print("load:", *(f"{load:.1f}" for load in os.getloadavg()))
        seconds = _first_bytes(list(ways.values()))
        for quantile, name in ((50, "median"), (99, "99th")):
            value, added = {}, {}
            for way, url in ways.items():
                more = [
                    found - alone
                    for found, alone in zip(seconds[url], seconds[server], strict=True)
                ]
                value[way] = _quantile(seconds[url], quantile)
                added[way] = _quantile(more, quantile)
            for way in ways:
                beside = ""
                if program and way in ("gateway", "libraries"):
                    beside = f" ({added[way] / added['nginx']:.1f} x nginx)"
                print(
                    f"first byte, {name}: {way} {value[way] * 1000:.2f} ms, "
                    f"adds {added[way] * 1000:.2f} ms{beside}"
                )
        alone = 0.0, 0.0
        for way, url in ways.items():
            whole, total, last = asyncio.run(_streams(url))
            alone = (total, last) if way == "server alone" else alone
            print(
                f"streams: {way} {whole} of {_STREAMS} whole, all in {total:.2f} s "
                f"({total / alone[0]:.2f} x alone), 99th {last:.2f} s ({last / alone[1]:.2f} x)"
            )


if __name__ == "__main__":
    main()
