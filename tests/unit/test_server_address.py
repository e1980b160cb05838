"""Who may know a password: the server that it is for, on every request, and nobody else."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from ollama_tools.errors import DevstralError, FileProblem, UsageError
from ollama_tools.network.proxies import proxy_for
from ollama_tools.progress import Silence
from ollama_tools.server.address import parse_address
from ollama_tools.server.client import Server
from ollama_tools.server.credentials import HEADERS, HEADERS_FILE, headers_for

SECRET = "pass-9f3c"


def silent(*_: object) -> None:
    """Hears of progress and says nothing."""


@pytest.fixture
def guarded(httpserver: HTTPServer) -> list[Request]:
    """Everything that reaches the server; each route has an answer."""
    seen: list[Request] = []

    def answer(request: Request) -> Response:
        seen.append(request)
        bodies = {
            "/api/version": {"version": "1"},
            "/api/show": {"details": {}},
            "/api/chat": {"message": {"role": "a"}},
        }
        body = bodies.get(request.path, {"status": "success", "models": []})
        return Response(json.dumps(body), content_type="application/json")

    httpserver.expect_request("/").respond_with_handler(answer)
    for path in ("version", "tags", "show", "ps", "copy", "create", "pull", "chat", "blobs/a"):
        httpserver.expect_request(f"/api/{path}").respond_with_handler(answer)
    return seen


def ask_everything(server: Server) -> None:
    server.version()
    server.models()
    server.show("a")
    server.running()
    server.copy("a", "b")
    server.create({"model": "a"}, silent)
    server.pull("a", insecure=False, advance=silent)
    server.chat({"model": "a"})
    server.has_blob("a")
    server.upload_stream(lambda: [b"a"], 1, "a", silent, label="a")
    server.client.chat("a", [])


def test_a_password_goes_with_every_request(httpserver: HTTPServer, guarded: list[Request]) -> None:
    address = f"http://me:{SECRET}@127.0.0.1:{httpserver.port}"
    with Server(address) as server:
        ask_everything(server)
        assert SECRET not in f"{server.url} {server!r} {vars(server)} {parse_address(address)!r}"
    wanted = f"Basic {b64encode(f'me:{SECRET}'.encode()).decode()}"
    # One more: it is looked whether a blob is there that was not said to be made.
    assert len(guarded) == 12
    assert {each.headers["Authorization"] for each in guarded} == {wanted}


def test_a_key_and_headers_go_with_every_request(
    httpserver: HTTPServer,
    guarded: list[Request],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    file = tmp_path / "headers"
    file.write_text("X-Team: one\n\nX-Place: file\n")
    monkeypatch.setenv("OLLAMA_API_KEY", SECRET)
    monkeypatch.setenv(HEADERS_FILE, str(file))
    monkeypatch.setenv(HEADERS, "X-Place: environment")
    with Server(f"127.0.0.1:{httpserver.port}") as server:
        ask_everything(server)
    assert {each.headers["Authorization"] for each in guarded} == {f"Bearer {SECRET}"}
    assert {each.headers["X-Team"] for each in guarded} == {"one"}
    assert {each.headers["X-Place"] for each in guarded} == {"environment"}


def test_a_key_that_is_handed_over_wins_over_the_environments(
    httpserver: HTTPServer, guarded: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_API_KEY", "another")
    with Server(f"127.0.0.1:{httpserver.port}", api_key=SECRET) as server:
        ask_everything(server)
        assert SECRET not in repr(server)
    assert {each.headers["Authorization"] for each in guarded} == {f"Bearer {SECRET}"}


def test_a_password_does_not_follow_a_redirect(httpserver: HTTPServer) -> None:
    with HTTPServer() as other:
        httpserver.expect_request("/api/tags").respond_with_data(
            "", status=302, headers={"Location": other.url_for("/api/tags")}
        )
        with Server(f"http://me:{SECRET}@127.0.0.1:{httpserver.port}") as server:
            for ask in (server.models, server.client.list):
                with pytest.raises(DevstralError) as caught:
                    ask()
                assert f":{other.port}" in caught.value.fix
                assert SECRET not in str(caught.value)
        assert other.log == []


@pytest.mark.parametrize(
    "text",
    [
        f"ftp://me:{SECRET}@h",
        f"http://me:{SECRET}@",
        f"http://me:{SECRET}@h:port",
        f"me:{SECRET}@a b",
        f"http://me:{SECRET}/x@h:port",
        f"http:/me:{SECRET}@h",
        f"https//me:{SECRET}@h:99999",
    ],
)
def test_a_password_is_not_printed_back(text: str) -> None:
    try:
        assert SECRET not in repr(parse_address(text))
    except UsageError as error:
        assert SECRET not in str(error)  # noqa: PT017 - either end is right


@pytest.mark.parametrize("text", ["no header", "a b: c", ": c", f"X: {SECRET}\x01", "X: \u20ac"])
def test_what_is_no_header_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(HEADERS, text)
    with pytest.raises(UsageError) as caught:
        headers_for(parse_address("h"))
    assert SECRET not in str(caught.value)
    assert HEADERS in caught.value.what


def test_a_missing_file_of_headers_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HEADERS_FILE, "/no/such")
    with pytest.raises(FileProblem, match="/no/such"):
        headers_for(parse_address("h"))


class Heard(Silence):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


@pytest.mark.parametrize("end", ["/v1", "/api", "/v1/"])
def test_an_address_for_other_clients_is_taken_without_its_end(
    httpserver: HTTPServer, end: str
) -> None:
    httpserver.expect_request("/api/tags").respond_with_json({"models": []})
    httpserver.expect_request(f"{end.rstrip('/')}/api/tags").respond_with_data(
        "404 page not found", status=404
    )
    heard = Heard()
    with Server(httpserver.url_for(end), progress=heard) as server:
        assert server.models() == []
        assert server.models() == []
        assert not server.url.endswith(end.rstrip("/"))
    assert len(heard.warnings) == 1


@pytest.mark.parametrize(
    ("url", "excepted", "direct"),
    [
        ("http://127.0.0.1:1", "", True),
        ("http://[::1]:1", "", True),
        ("http://localhost:1", "", True),
        ("http://gpu1:1", "", False),
        ("http://gpu1:1", "*", True),
        ("http://gpu1:1", "gpu1", True),
        ("http://gpu1:1", "gpu1:1", True),
        ("http://gpu1:1", "gpu1:2", False),
        ("http://a.lan:1", ".lan", True),
        ("http://a.lan:1", "lan", True),
        ("http://alan:1", "lan", False),
        ("http://10.1.2.3:1", "10.0.0.0/8", True),
        ("http://11.1.2.3:1", "10.0.0.0/8", False),
        ("http://[fd00::5]:1", "fd00::/8", True),
        ("http://[fd00::5]:1", "fd00::5", True),
        ("http://[fd00::5]:1", "[fd00::5]", True),
        ("http://[fd00::5]:1", "[fd00::5]:2", False),
        ("http://gpu1:1", "[::1", False),
        ("http://gpu1:1", "x, ,gpu1", True),
    ],
)
def test_exceptions_are_read_as_go_and_curl_read_them(
    monkeypatch: pytest.MonkeyPatch, url: str, excepted: str, direct: bool
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://me:{SECRET}@proxy:3128")
    monkeypatch.setenv("NO_PROXY", excepted)
    way = proxy_for(url)
    assert (way is None) == direct
    assert SECRET not in repr(way)


def test_a_proxy_that_leads_nowhere_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://me:{SECRET}@127.0.0.1:9")
    with Server("http://gpu1.invalid") as server, pytest.raises(DevstralError) as caught:
        server.version()
    assert "the proxy http://127.0.0.1:9" in caught.value.what
    assert "NO_PROXY" in caught.value.fix
    assert SECRET not in str(caught.value)
