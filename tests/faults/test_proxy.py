"""The proxy does what it is told, and nothing else; what it lets through is as it was."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from tests.testbed.faults import bodies
from tests.testbed.faults.kinds import (
    Cut,
    Elsewhere,
    Endless,
    Fault,
    Huge,
    Length,
    Lost,
    Refuse,
    ResetAnswer,
    ResetRequest,
    Say,
    Slow,
    Stall,
    html_answer,
    json_answer,
)
from tests.testbed.faults.proxy import ALWAYS, ONCE, FaultProxy, When

ANSWER = b'{"models": [1, 2, 3]}' * 20


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    bodies: list[bytes]

    def do_GET(self) -> None:
        self._answer(chunked=self.path == "/chunked")

    def do_HEAD(self) -> None:
        self._answer(chunked=False)

    def do_POST(self) -> None:
        if self.headers.get("Transfer-Encoding") == "chunked":
            got = b""
            while size := int(self.rfile.readline(), 16):
                got += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            got = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.bodies.append(got)
        self._answer(chunked=False)

    def _answer(self, *, chunked: bool) -> None:
        self.send_response(200)
        if self.path == "/away":
            port = self.connection.getsockname()[1]
            self.send_header("Location", f"http://localhost:{port}/x")
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for start in range(0, len(ANSWER), 100):
                piece = ANSWER[start : start + 100]
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")
            return
        self.send_header("Content-Length", str(len(ANSWER)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(ANSWER)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        """Says nothing."""


@pytest.fixture
def got() -> list[bytes]:
    """Bodies that the server behind has got."""
    return []


@pytest.fixture
def proxy(got: list[bytes]) -> Iterator[FaultProxy]:
    class Handler(_Handler):
        bodies = got

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    with FaultProxy(server.server_address[1]) as made:
        yield made
    server.shutdown()
    server.server_close()


@pytest.fixture
def client(proxy: FaultProxy) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=proxy.url, timeout=10.0, trust_env=False) as made:
        yield made


@pytest.mark.parametrize("path", ["/plain", "/chunked"])
def test_what_is_not_told_otherwise_passes(
    client: httpx.Client, got: list[bytes], path: str
) -> None:
    assert client.get(path).content == ANSWER
    assert client.head(path).headers["Content-Length"] == str(len(ANSWER))
    body = b"x" * 300_000
    assert client.post(path, content=body).content == ANSWER
    assert client.post(path, content=iter([body, body])).content == ANSWER
    assert got == [body, body * 2]


def test_connections_are_kept_alive(client: httpx.Client, proxy: FaultProxy) -> None:
    for _ in range(3):
        client.get("/plain")
    assert [each.target for each in proxy.asked] == ["/plain"] * 3
    assert proxy.connections == 1


def test_no_redirect_leads_past_it(client: httpx.Client, proxy: FaultProxy) -> None:
    assert client.get("/away").headers["Location"] == f"http://localhost:{proxy.port}/x"


@pytest.mark.parametrize(
    "fault",
    [ResetRequest(), ResetRequest(10), ResetAnswer(), ResetAnswer(30), Lost(), Cut(), Length(50)],
)
def test_a_broken_exchange_is_an_error_and_the_next_one_is_not(
    client: httpx.Client, proxy: FaultProxy, fault: Fault
) -> None:
    proxy.fail(fault, when=ONCE)
    with pytest.raises(httpx.TransportError):
        client.post("/plain", content=b"x" * 1000)
    assert client.get("/plain").content == ANSWER
    assert [each.failed for each in proxy.asked] == [True, False]


@pytest.mark.parametrize(("fault", "done"), [(ResetRequest(), 0), (ResetAnswer(), 1), (Lost(), 1)])
def test_whether_the_server_behind_did_it_is_a_matter_of_the_fault(
    client: httpx.Client, proxy: FaultProxy, got: list[bytes], fault: Fault, done: int
) -> None:
    proxy.fail(fault)
    with pytest.raises(httpx.TransportError):
        client.post("/plain", content=b"x")
    assert len(got) == done


@pytest.mark.parametrize("path", ["/plain", "/chunked"])
def test_a_length_that_is_too_short_leaves_bytes_for_the_next_answer(
    client: httpx.Client, proxy: FaultProxy, path: str
) -> None:
    proxy.fail(Length(-10), when=ONCE)
    assert client.get(path).content == ANSWER[:-10]
    with pytest.raises(httpx.RemoteProtocolError):
        client.get(path)


@pytest.mark.parametrize("fault", [Stall(), Stall(30), Stall(200)])
def test_a_stall_lasts_until_the_client_leaves_or_it_is_healed(
    client: httpx.Client, proxy: FaultProxy, fault: Fault
) -> None:
    proxy.fail(fault)
    with pytest.raises(httpx.ReadTimeout):
        client.get("/plain", timeout=0.3)
    timer = threading.Timer(0.3, proxy.heal)
    timer.start()
    with pytest.raises(httpx.TransportError):
        client.get("/plain", timeout=10.0)
    timer.join()
    assert client.get("/plain").content == ANSWER


@pytest.mark.parametrize("fault", [Slow(head=0.5), Slow(body=0.5)])
def test_what_is_slow_is_right(client: httpx.Client, proxy: FaultProxy, fault: Fault) -> None:
    proxy.fail(fault)
    started = time.monotonic()
    assert client.get("/plain", timeout=0.3).content == ANSWER
    assert time.monotonic() - started > 0.4


def test_nobody_listens(client: httpx.Client, proxy: FaultProxy) -> None:
    proxy.refuse()
    with pytest.raises(httpx.ConnectError):
        client.get("/plain")
    proxy.heal()
    assert client.get("/plain").content == ANSWER


def test_it_goes_away_and_comes_back(client: httpx.Client, proxy: FaultProxy) -> None:
    proxy.fail(Refuse(0.5), path="^/second", when=ONCE)
    assert client.get("/first").content == ANSWER
    with pytest.raises(httpx.TransportError):
        client.get("/second")
    with pytest.raises(httpx.ConnectError):
        client.get("/second")
    time.sleep(0.7)
    assert client.get("/second").content == ANSWER


@pytest.mark.parametrize(
    ("when", "failed"),
    [
        (ALWAYS, [True] * 4),
        (ONCE, [True, False, False, False]),
        (When(2, 1), [False, True, False, False]),
        (When(2), [False, True, True, True]),
        (When(count=2), [True, True, False, False]),
    ],
)
def test_which_requests_go_wrong(
    client: httpx.Client, proxy: FaultProxy, when: When, failed: list[bool]
) -> None:
    proxy.fail(html_answer(503), method="GET", path="^/a", when=when)
    client.get("/b")
    client.head("/a")
    assert [client.get("/a").status_code == 503 for _ in range(4)] == failed


def test_a_page_is_no_json_and_names_its_status(client: httpx.Client, proxy: FaultProxy) -> None:
    proxy.fail(html_answer(429, Retry_After="7"))
    answer = client.get("/a")
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "7")
    assert "<title>429 Too Many Requests</title>" in answer.text
    assert bodies.CONTROL in answer.text


@pytest.mark.parametrize("document", [bodies.WRONG_TYPES, bodies.WRONG_SHAPE, [1], {"error": "x"}])
def test_json_of_any_shape(client: httpx.Client, proxy: FaultProxy, document: object) -> None:
    proxy.fail(json_answer(200, document))
    assert client.get("/a").json() == document


def test_a_limit_is_said_before_the_body_is_there(proxy: FaultProxy) -> None:
    proxy.fail(Say(413, bodies.page("413"), early=True))
    with socket.create_connection(("127.0.0.1", proxy.port), 10) as client:
        client.sendall(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_a_redirect_to_itself_never_ends(client: httpx.Client, proxy: FaultProxy) -> None:
    proxy.fail(Elsewhere())
    with pytest.raises(httpx.TooManyRedirects):
        client.get("/a?b=c", follow_redirects=True)
    proxy.fail(Elsewhere(301, "https://elsewhere{path}"))
    assert client.get("/a").headers["Location"] == "https://elsewhere/a"


def test_what_is_deep_is_still_json_and_what_is_huge_has_its_size(
    client: httpx.Client, proxy: FaultProxy
) -> None:
    assert bodies.deep().count(b"[") == bodies.deep().count(b"]") == bodies.DEPTH
    proxy.fail(Huge(5_000_000))
    answer = client.get("/a")
    assert len(answer.content) == 5_000_000
    assert len(json.loads(answer.content)["padding"]) == 5_000_000 - len('{"padding": ""}')
    assert client.head("/a").headers["Content-Length"] == "5000000"


@pytest.mark.parametrize(("path", "start"), [("/api/pull", "{"), ("/v1/x", "data: {")])
def test_a_stream_without_end(
    client: httpx.Client, proxy: FaultProxy, path: str, start: str
) -> None:
    proxy.fail(Endless())
    with client.stream("POST", path, content=b"{}") as answer:
        lines = [line for line, _ in zip(answer.iter_lines(), range(200), strict=False) if line]
    assert len(lines) >= 100
    assert all(each.startswith(start) for each in lines)


def test_it_writes_down_who_was_asked_with_what(client: httpx.Client, proxy: FaultProxy) -> None:
    client.get("/a?b", headers={"Authorization": "Bearer x", "Host": "other:1"})
    (asked,) = proxy.asked
    assert (asked.method, asked.target, asked.host) == ("GET", "/a?b", "other:1")
    assert asked.authorization == "Bearer x"


def test_an_answer_that_comes_before_the_request_is_over_is_passed_on(
    client: httpx.Client, proxy: FaultProxy, got: list[bytes]
) -> None:
    # The server behind is a proxy itself, which refuses what is too large.
    proxy.fail(Say(413, bodies.page("413"), early=True))
    with (
        FaultProxy(proxy.port) as front,
        socket.create_connection(("127.0.0.1", front.port), 10) as plain,
    ):
        plain.sendall(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 90000000\r\n\r\n")
        for _ in range(20):
            plain.sendall(b"x" * 1_000_000)
            time.sleep(0.01)
        assert plain.recv(12) == b"HTTP/1.1 413"
