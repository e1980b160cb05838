"""Every wait for a server ends, and says so while it is long."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from ollama_tools.errors import NotOllama, ServerError, ServerUnreachable, UsageError
from ollama_tools.progress import Silence
from ollama_tools.server.client import Server
from ollama_tools.server.waits import VARIABLE, Waits, waits_for
from tests.testbed.dripping import DRIPS, dripping

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


@pytest.mark.parametrize("drip", DRIPS)
@pytest.mark.parametrize(
    "ask",
    [
        Server.models,
        lambda server: server.pull("a", insecure=False, advance=silent),
        lambda server: server.upload_stream(lambda: [b"a"], 1, "sha256:a", silent, label="a"),
        lambda server: list(server.events("/v1/responses", {})),
    ],
)
def test_an_answer_that_drips_for_ever_is_given_up(
    drip: str, ask: Callable[[Server], object]
) -> None:
    with (
        dripping(drip) as url,
        Server(url, timeout=0.1) as server,
        pytest.raises(ServerUnreachable, match="does not answer in time") as caught,
    ):
        ask(server)
    assert caught.value.fix


@pytest.mark.parametrize("drip", sorted(DRIPS.keys() - {"body"}))
def test_one_that_begins_to_drip_on_a_connection_that_was_used_before_is_given_up_as_well(
    drip: str,
) -> None:
    first, then = DRIPS[drip]
    over = threading.Event()

    def serve() -> None:
        client, _ = listening.accept()
        with client, suppress(OSError):
            client.recv(65536)
            body = b'{"version": "1"}'
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            client.recv(65536)
            client.sendall(first)
            while not over.wait(0.05):
                client.sendall(then)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, daemon=True).start()
        with Server(f"127.0.0.1:{listening.getsockname()[1]}", timeout=0.2) as server:
            server.version()
            with pytest.raises(ServerUnreachable, match="does not answer in time"):
                server.models()
        over.set()


def test_an_upload_may_take_longer_than_the_wait_for_its_answer(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/api/blobs/sha256:a").respond_with_data("", status=201)

    def slowly() -> Iterator[bytes]:
        for _ in range(8):
            time.sleep(0.15)
            yield b"a"

    with Server(httpserver.url_for(""), timeout=0.4) as server:
        server.upload_stream(slowly, 8, "sha256:a", silent, label="a")


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
