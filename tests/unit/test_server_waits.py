"""Every wait for a server ends, and says so while it is long."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from ollama_tools.errors import NotOllama, ServerError, ServerUnreachable, UsageError
from ollama_tools.progress import Silence
from ollama_tools.server.client import Server
from ollama_tools.server.waits import VARIABLE, Waits, waits_for

GENEROUS = 20.0


def silent(*_: object) -> None:
    """Hears of progress and says nothing."""


BY_PATH: dict[str, Callable[[Server], object]] = {
    "/api/tags": Server.models,
    "/api/create": lambda server: server.create({"model": "a"}, silent),
    "/api/pull": lambda server: server.pull("a", insecure=False, advance=silent),
}


@pytest.fixture
def frozen() -> Iterator[str]:
    """A server that takes connections and never answers, as one that was stopped does."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize(
    "ask",
    [
        Server.version,
        Server.models,
        Server.running,
        lambda server: server.show("a"),
        lambda server: server.copy("a", "b"),
        lambda server: server.delete("a"),
        lambda server: server.unload("a"),
        lambda server: server.has_blob("sha256:a"),
        lambda server: server.create({"model": "a"}, silent),
        lambda server: server.pull("a", insecure=False, advance=silent),
        lambda server: server.upload_stream(lambda: [b"a"], 1, "sha256:a", silent, label="a"),
        lambda server: server.chat({"model": "a"}),
        lambda server: list(server.events("/v1/responses", {})),
    ],
)
def test_a_frozen_server_is_given_up_on_every_route(
    frozen: str, ask: Callable[[Server], object]
) -> None:
    started = time.monotonic()
    with Server(frozen, timeout=0.3) as server, pytest.raises(ServerError) as caught:
        ask(server)
    assert time.monotonic() - started < GENEROUS
    assert caught.value.fix


@pytest.mark.parametrize("path", ["/api/create", "/api/pull"])
def test_equal_lines_without_end_are_no_progress(httpserver: HTTPServer, path: str) -> None:
    over = threading.Event()

    def lines() -> Iterator[bytes]:
        while not over.wait(0.02):
            yield b'{"status": "working"}\n'

    httpserver.expect_request(path).respond_with_handler(lambda _: Response(lines()))
    try:
        with (
            Server(httpserver.url_for(""), timeout=0.5) as server,
            pytest.raises(ServerUnreachable, match="no progress"),
        ):
            BY_PATH[path](server)
    finally:
        over.set()


def test_a_slow_transfer_that_grows_is_not_given_up(httpserver: HTTPServer) -> None:
    def lines() -> Iterator[bytes]:
        for done in range(10):
            time.sleep(0.15)
            line = {"status": "pulling", "digest": "d", "total": 10, "completed": done}
            yield json.dumps(line).encode() + b"\n"
        yield b'{"status": "success"}\n'

    httpserver.expect_request("/api/pull").respond_with_handler(lambda _: Response(lines()))
    with Server(httpserver.url_for(""), timeout=1.0) as server:
        server.pull("a", insecure=False, advance=silent)


class Heard(Silence):
    def __init__(self) -> None:
        self.steps: list[str] = []

    def step(self, text: str) -> None:
        self.steps.append(text)


def test_a_silent_chat_is_said_to_be_waited_for(
    httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ollama_tools.server.client.waits_for", lambda _: Waits(notice=0.05))

    def late(_: Request) -> Response:
        time.sleep(0.5)
        return Response('{"message": {}}')

    httpserver.expect_request("/api/chat").respond_with_handler(late)
    heard = Heard()
    with Server(httpserver.url_for(""), progress=heard) as server:
        server.chat({"model": "a"})
    assert heard.steps
    assert all("still waiting for /api/chat" in each for each in heard.steps)


def test_one_number_is_every_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    assert waits_for() == Waits()
    for waits in (waits_for(5), waits_for(0.5)):
        limit = waits.metadata
        for path in ("/api/tags", "/api/pull", "/api/chat", "/v1/responses"):
            assert waits.of("POST", path) == (limit, limit)
    assert waits_for(3600).connect == Waits().connect
    monkeypatch.setenv(VARIABLE, "7")
    assert waits_for().transfer == 7
    assert waits_for(8).transfer == 8


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan", "inf"])
def test_what_is_no_time_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(UsageError, match="no time to wait"):
        Server()


@pytest.mark.parametrize("path", ["/api/tags", "/api/create", "/api/pull"])
def test_an_answer_has_a_largest_size(httpserver: HTTPServer, path: str) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(64):
            yield b"x" * 1024 * 1024

    httpserver.expect_request(path).respond_with_handler(lambda _: Response(endless()))
    with Server(httpserver.url_for("")) as server, pytest.raises(NotOllama, match="without an end"):
        BY_PATH[path](server)


def test_the_official_client_waits_no_longer(frozen: str) -> None:
    with Server(frozen, timeout=0.3) as server, pytest.raises(Exception, match="timed out"):
        server.client.list()


def test_nothing_listens(unused_port: int) -> None:
    with Server(f"127.0.0.1:{unused_port}") as server, pytest.raises(ServerUnreachable) as caught:
        server.version()
    assert "devstral-ollama serve" in caught.value.fix


@pytest.fixture
def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port
