"""What is asked again, what is not, and how a lost answer is told from a thing not done."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from ollama_tools.errors import PullFailed, ServerError, ServerUnreachable
from ollama_tools.server.client import Server

OK = {"name": "a:latest", "digest": "d"}
TAGS = {"models": [OK]}


def silent(*_: object) -> None:
    """Hears of progress and says nothing."""


@pytest.fixture
def server(httpserver: HTTPServer) -> Iterator[Server]:
    with Server(httpserver.url_for("")) as client:
        yield client


class Flaky:
    """Answers with a status a few times, then as it should; counts what it was asked."""

    def __init__(self, status: int, times: int, body: dict[str, Any], after: str = "") -> None:
        self._status, self._times, self._body, self._after = status, times, body, after
        self.asked = 0

    def __call__(self, _: Request) -> Response:
        self.asked += 1
        if self.asked > self._times:
            return Response(json.dumps(self._body))
        headers = {"Retry-After": self._after} if self._after else {}
        return Response("<title>Busy</title>", self._status, headers, mimetype="text/html")


SAFE: dict[str, tuple[str, Callable[[Server], object], dict[str, Any]]] = {
    "version": ("/api/version", Server.version, {"version": "0.34.4"}),
    "tags": ("/api/tags", Server.models, TAGS),
    "ps": ("/api/ps", Server.running, {"models": []}),
    "show": ("/api/show", lambda server: server.show("a"), {"system": "s"}),
    "blob": ("/api/blobs/sha256:a", lambda server: server.has_blob("sha256:a"), {}),
    "render": (
        "/api/chat",
        lambda server: server.rendered_prompt({"model": "a"}),
        {"_debug_info": {"rendered_template": "x"}},
    ),
}


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
@pytest.mark.parametrize("route", SAFE)
def test_what_changes_nothing_is_asked_again(
    httpserver: HTTPServer, server: Server, route: str, status: int
) -> None:
    path, ask, body = SAFE[route]
    flaky = Flaky(status, 2, body)
    httpserver.expect_request(path).respond_with_handler(flaky)
    ask(server)
    assert flaky.asked == 3


@pytest.mark.parametrize("route", SAFE)
def test_it_is_not_asked_for_ever(httpserver: HTTPServer, server: Server, route: str) -> None:
    path, ask, body = SAFE[route]
    flaky = Flaky(503, 1000, body)
    httpserver.expect_request(path).respond_with_handler(flaky)
    with pytest.raises(ServerError) as caught:
        ask(server)
    assert flaky.asked == 4
    assert "503" in caught.value.what


def test_who_waited_in_vain_does_not_wait_as_long_again(
    httpserver: HTTPServer, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    flaky = Flaky(503, 1000, TAGS)
    httpserver.expect_request("/api/tags").respond_with_handler(flaky)
    with pytest.raises(ServerError, match="503"):
        server.models()
    monkeypatch.setattr("ollama_tools.server.transport._UNHEARD_SECONDS", 0.0)
    with pytest.raises(ServerError, match="503"):
        server.models()
    assert flaky.asked == 5


def test_a_wait_longer_than_ours_is_not_begun(httpserver: HTTPServer, server: Server) -> None:
    flaky = Flaky(429, 1, TAGS, after="3600")
    httpserver.expect_request("/api/tags").respond_with_handler(flaky)
    with pytest.raises(ServerError, match="429"):
        server.models()
    assert flaky.asked == 1


CHANGING: dict[str, Callable[[Server], object]] = {
    "/api/copy": lambda server: server.copy("a", "b"),
    "/api/create": lambda server: server.create({"model": "b"}, silent),
}


@pytest.mark.parametrize("status", [502, 503, 504])
@pytest.mark.parametrize("path", CHANGING)
def test_what_changes_something_is_asked_once_and_looked_for(
    httpserver: HTTPServer, server: Server, path: str, status: int
) -> None:
    flaky = Flaky(status, 1000, {})
    httpserver.expect_request(path).respond_with_handler(flaky)
    httpserver.expect_request("/api/tags").respond_with_json(TAGS)
    with pytest.raises(ServerError, match="b was not written"):
        CHANGING[path](server)
    assert flaky.asked == 1


@pytest.mark.parametrize("path", CHANGING)
def test_a_lost_answer_of_a_thing_done_is_success(
    httpserver: HTTPServer, server: Server, path: str
) -> None:
    flaky = Flaky(502, 1000, {})
    httpserver.expect_request(path).respond_with_handler(flaky)
    httpserver.expect_request("/api/tags").respond_with_json(
        {"models": [OK, {"name": "b:latest", "digest": "d"}]}
    )
    CHANGING[path](server)
    assert flaky.asked == 1


class Resetting:
    """Takes requests and gives, one connection each, so many bytes of an answer, then a reset."""

    def __init__(self, *answers: bytes, port: int = 0, after: float = 0.0) -> None:
        self._answers = answers
        self._port = port
        self._after = after
        self._listener = None if after else self._listen()
        self.asked = 0

    def __enter__(self) -> Resetting:
        threading.Thread(target=self._run, daemon=True).start()
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        if self._listener is not None:
            self._listener.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def _listen(self) -> socket.socket:
        listener = socket.create_server(("127.0.0.1", self._port))
        self._port = listener.getsockname()[1]
        return listener

    def _run(self) -> None:
        # Until it listens, whoever comes is refused.
        time.sleep(self._after)
        self._listener = self._listener or self._listen()
        with self._listener:
            for answer in self._answers:
                try:
                    connection, _ = self._listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    self.asked += 1
                    connection.sendall(answer)


def chunked(*lines: object, whole: bool) -> bytes:
    body = b"".join(
        f"{len(text):x}\r\n{text}\r\n".encode()
        for text in (json.dumps(each) + "\n" for each in lines)
    )
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    return head + body + (b"0\r\n\r\n" if whole else b"")


def test_a_connection_that_broke_is_made_again() -> None:
    body = json.dumps(TAGS).encode()
    good = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    with Resetting(b"", good[:-3], good) as bed, Server(bed.url) as server:
        assert [each.name for each in server.models()] == ["a:latest"]
    assert bed.asked == 3


def test_one_that_has_only_hung_up_so_far_is_soon_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ollama_tools.server.transport._UNHEARD_SECONDS", 0.0)
    with Resetting(*[b""] * 9) as bed, Server(bed.url) as server:
        with pytest.raises(ServerError, match="broke"):
            server.version()
        assert bed.asked == 1


def test_one_that_has_answered_before_is_given_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ollama_tools.server.transport._UNHEARD_SECONDS", 0.0)
    body = json.dumps({"version": "0.34.4"}).encode()
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    with Resetting(head + body, b"", b"", head + body) as bed, Server(bed.url) as server:
        assert server.version() == "0.34.4"
        assert server.version() == "0.34.4"
        assert bed.asked == 4


@pytest.mark.parametrize("times", [2, 1000])
def test_a_pull_that_cannot_begin_yet_is_asked_for_again(
    httpserver: HTTPServer, server: Server, times: int
) -> None:
    flaky = Flaky(503, times, {"status": "success"})
    httpserver.expect_request("/api/pull").respond_with_handler(flaky)
    if times == 2:
        server.pull("a", insecure=False, advance=silent)
        assert flaky.asked == 3
    else:
        with pytest.raises(PullFailed, match="503"):
            server.pull("a", insecure=False, advance=silent)
        assert flaky.asked == 4


def answering(bodies: dict[str, Any]) -> bytes:
    body = json.dumps(bodies).encode()
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    return head + body


@pytest.mark.parametrize("heard", [True, False])
def test_one_that_is_being_started_again_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, heard: bool
) -> None:
    monkeypatch.setattr("ollama_tools.server.transport._PAUSES", (0.05,) * 40)
    good = answering(TAGS)
    answers = [good, b""] if heard else [b""]
    with Resetting(*answers) as bed, Server(bed.url) as server:
        if heard:
            assert server.models()
        port = int(bed.url.rpartition(":")[2])
        with Resetting(good, port=port, after=0.5) as later:
            assert server.models()
        assert (bed.asked, later.asked) == (len(answers), 1)


def test_one_that_was_never_there_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ollama_tools.server.transport._PAUSES", (60.0,))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with Server(f"127.0.0.1:{port}") as server, pytest.raises(ServerUnreachable):
        server.models()


def test_bytes_are_sent_anew_where_they_did_not_arrive(
    httpserver: HTTPServer, server: Server
) -> None:
    flaky = Flaky(503, 2, {})
    path = "/api/blobs/sha256:a"
    httpserver.expect_request(path, method="HEAD").respond_with_handler(
        lambda _: Response(status=200 if flaky.asked > 2 else 404)
    )
    httpserver.expect_request(path, method="POST").respond_with_handler(flaky)
    sent = []

    def pieces() -> Iterator[bytes]:
        sent.append(1)
        yield b"ab"

    server.upload_stream(pieces, 2, "sha256:a", silent, label="x")
    assert len(sent) == flaky.asked == 3


PAGE = "<!DOCTYPE html>\n<html><head><title>503 Sorry</title></head><body>\x1b[31m</body></html>"
HICCUPS = [
    f"pull model manifest: 503: {PAGE}",
    "pull model manifest: 429: <html><title>Too Many Requests</title>",
    "read tcp 127.0.0.1:60234->127.0.0.1:5000: read: connection reset by peer",
    'Get "http://m:1/v2/": EOF',
    "503:",
    "context canceled",
]


@pytest.mark.parametrize("times", [2, 1000])
@pytest.mark.parametrize("message", HICCUPS)
def test_a_pull_is_asked_again_where_the_registry_only_stumbled(
    httpserver: HTTPServer,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    message: str,
    times: int,
) -> None:
    monkeypatch.setattr("ollama_tools.server.client._PULL_PAUSE", 0.01)
    asked = []

    def pull(_: Request) -> Response:
        asked.append(1)
        good = len(asked) > times
        return Response(json.dumps({"status": "success"} if good else {"error": message}))

    httpserver.expect_request("/api/pull").respond_with_handler(pull)
    if times == 2:
        server.pull("a", insecure=False, advance=silent)
        assert len(asked) == 3
        return
    with pytest.raises(PullFailed) as caught:
        server.pull("a", insecure=False, advance=silent)
    assert len(asked) == 3
    assert "<" not in caught.value.what
    assert "again in a few" in caught.value.fix or "wait a few" in caught.value.fix


def layer(done: int) -> dict[str, Any]:
    return {"status": "pulling d", "digest": "d", "total": 100, "completed": done}


def test_a_pull_goes_on_as_long_as_it_brings_bytes() -> None:
    parts = [chunked(layer(done), whole=False) for done in (10, 20, 30)]
    with (
        Resetting(*parts, chunked(layer(100), {"status": "success"}, whole=True)) as bed,
        Server(bed.url) as server,
    ):
        server.pull("a", insecure=False, advance=silent)
    assert bed.asked == 4


def test_a_pull_that_brings_nothing_new_has_failed() -> None:
    parts = [chunked(layer(10), whole=False)] * 5
    with Resetting(*parts) as bed, Server(bed.url) as server:
        with pytest.raises(PullFailed, match="broke off"):
            server.pull("a", insecure=False, advance=silent)
        assert bed.asked == 4
