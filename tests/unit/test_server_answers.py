"""What an answer means when it is not the one that was asked for, each with a fix that is right."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from ollama_tools.checks.doctor import doctor
from ollama_tools.checks.result import Status
from ollama_tools.errors import (
    DevstralError,
    LayerLost,
    NotOllama,
    ServerError,
    ServerUnreachable,
)
from ollama_tools.lint import lint_model, lint_models
from ollama_tools.model.listing import list_models
from ollama_tools.server.answers import Endless
from ollama_tools.server.client import Server

LOST = "/root/.ollama/models/blobs/sha256-ab12"


def silent(*_: object) -> None:
    """Hears of progress and says nothing."""


ROUTES: dict[str, Callable[[Server], object]] = {
    "/api/version": Server.version,
    "/api/tags": Server.models,
    "/api/ps": Server.running,
    "/api/show": lambda server: server.show("a"),
    "/api/copy": lambda server: server.copy("a", "b"),
    "/api/create": lambda server: server.create({"model": "a"}, silent),
    "/api/pull": lambda server: server.pull("a", insecure=False, advance=silent),
    "/api/chat": lambda server: server.chat({"model": "a"}),
    "/api/blobs/a": lambda server: server.upload_stream(lambda: [b"a"], 1, "a", silent, label="a"),
}
PAGE = "<html><head><title>Sign in to ACME</title></head><body>\x1b[31mred" + "x" * 5000

ANSWERS: list[tuple[int, dict[str, str], str, str]] = [
    (301, {"Location": "https://gpu1.example/"}, "https://gpu1.example", "https://gpu1.example"),
    (307, {"Location": "https://sso.example/login?t=1"}, "sso.example", "https://sso.example"),
    (401, {"WWW-Authenticate": 'Basic realm="Lab"'}, "'Lab' asks for", "OLLAMA_API_KEY"),
    (401, {"Server": "nginx/1.2"}, "nginx/1.2 asks for", "OLLAMA_HOST"),
    (403, {"Via": "1.1 squid"}, "1.1 squid asks for", "OLLAMA_API_KEY"),
    (407, {}, "asks for credentials", "password and @"),
    (413, {"Server": "nginx"}, "nginx takes no body", "--via server"),
]


@pytest.fixture
def server(httpserver: HTTPServer) -> Iterator[Server]:
    with Server(httpserver.url_for("")) as client:
        yield client


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize(("status", "headers", "what", "fix"), ANSWERS)
def test_who_answers_instead_is_named_on_every_route(
    httpserver: HTTPServer,
    server: Server,
    path: str,
    status: int,
    headers: dict[str, str],
    what: str,
    fix: str,
) -> None:
    httpserver.expect_request(path).respond_with_data(PAGE, status=status, headers=headers)
    with pytest.raises(ServerError) as caught:
        ROUTES[path](server)
    assert what in caught.value.what
    assert fix in caught.value.fix
    assert len(caught.value.what) < 700
    assert "\x1b" not in str(caught.value)
    assert "<" not in caught.value.what


@pytest.mark.parametrize("status", [400, 404, 500, 502])
@pytest.mark.parametrize("path", ["/api/tags", "/api/show", "/api/copy", "/api/create"])
def test_of_a_page_its_title_is_told(
    httpserver: HTTPServer, server: Server, path: str, status: int
) -> None:
    httpserver.expect_request(path).respond_with_data(PAGE, status=status)
    with pytest.raises(ServerError) as caught:
        ROUTES[path](server)
    assert "Sign in to ACME" in caught.value.what
    assert "xxx" not in caught.value.what


@pytest.mark.parametrize("body", ["", " \n", PAGE])
@pytest.mark.parametrize("path", ["/api/version", "/api/tags", "/api/ps", "/api/show", "/api/chat"])
def test_an_answer_without_content_is_not_nothing(
    httpserver: HTTPServer, server: Server, path: str, body: str
) -> None:
    httpserver.expect_request(path).respond_with_data(body)
    with pytest.raises(NotOllama):
        ROUTES[path](server)


SILENT_SUCCESS: dict[str, Callable[[Server], object]] = {
    "/api/delete": lambda server: server.delete("a"),
    "/api/blobs/a": lambda server: server.upload_stream(lambda: [b"a"], 1, "a", silent, label="a"),
    "/api/create": ROUTES["/api/create"],
    "/api/pull": ROUTES["/api/pull"],
}


@pytest.mark.parametrize("body", ["", PAGE, '{"hello": "world"}'])
@pytest.mark.parametrize("path", SILENT_SUCCESS)
def test_what_changes_something_is_not_done_because_somebody_says_200(
    httpserver: HTTPServer, server: Server, path: str, body: str
) -> None:
    httpserver.expect_request(path, method="HEAD").respond_with_data(status=404)
    httpserver.expect_request(path).respond_with_data(body)
    old = {"name": "a", "digest": "d", "modified_at": "2026-01-01T00:00:00Z"}
    there = [old] if path == "/api/delete" else []
    httpserver.expect_request("/api/tags").respond_with_json({"models": there})
    with pytest.raises(ServerError) as caught:
        SILENT_SUCCESS[path](server)
    assert isinstance(caught.value, NotOllama) or "without a result" in caught.value.what


def test_one_made_since_is_not_one_that_was_not_removed(
    httpserver: HTTPServer, server: Server
) -> None:
    httpserver.expect_request("/api/delete").respond_with_data("")
    made = datetime.now(UTC).isoformat()
    new = {"name": "a", "digest": "d", "modified_at": made}
    httpserver.expect_request("/api/tags").respond_with_json({"models": [new]})
    server.delete("a")


@pytest.mark.parametrize("path", ["/api/tags", "/api/ps", "/api/show"])
def test_another_document_is_not_an_answer_that_there_is_none(
    httpserver: HTTPServer, server: Server, path: str
) -> None:
    httpserver.expect_request(path).respond_with_json({"hello": "world", "error": None})
    with pytest.raises(NotOllama):
        ROUTES[path](server)


def test_a_page_is_no_blob(httpserver: HTTPServer, server: Server) -> None:
    httpserver.expect_request("/api/blobs/a").respond_with_data(PAGE, content_type="text/html")
    with pytest.raises(NotOllama, match="page"):
        server.has_blob("a")


def test_an_answer_that_trickles_on_ends(httpserver: HTTPServer) -> None:
    def lines(_: Request) -> Response:
        def trickle() -> Iterator[bytes]:
            for _ in range(400):
                time.sleep(0.02)
                yield b" "

        return Response(trickle())

    httpserver.expect_request("/api/tags").respond_with_handler(lines)
    with (
        Server(httpserver.url_for(""), timeout=0.5) as server,
        pytest.raises(ServerUnreachable, match="does not answer in time"),
    ):
        server.models()


@pytest.mark.parametrize("path", ["/api/chat", "/v1/messages"])
def test_a_chat_that_goes_on_and_on_ends(
    httpserver: HTTPServer, server: Server, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr("ollama_tools.server.wire._MOST_LINES", 100)
    lines = 'data: {"delta": {}}\n' * 150
    httpserver.expect_request(path).respond_with_data(lines)
    with pytest.raises(Endless):
        list(server.events(path, {}))


def test_one_neighbour_does_not_hide_the_others(httpserver: HTTPServer, server: Server) -> None:
    def show(request: Request) -> Response:
        name = json.loads(request.data)["model"]
        if name == "qwen:480b-cloud":
            return Response(json.dumps({"error": "ollama cloud is disabled"}), 403)
        if name == "devstral:cut":
            return Response(json.dumps({"error": f"open {LOST}: no such file or directory"}), 500)
        body = {"details": {"family": "llama"}, "capabilities": ["tools"], "system": "s"}
        return Response(json.dumps(body))

    names = ("devstral:good", "qwen:480b-cloud", "devstral:cut")
    models = [{"name": each, "digest": each, "size": 1} for each in names]
    httpserver.expect_request("/api/version").respond_with_json({"version": "0.34.4"})
    httpserver.expect_request("/api/tags").respond_with_json({"models": models})
    httpserver.expect_request("/api/ps").respond_with_json({"models": []})
    httpserver.expect_request("/api/show").respond_with_handler(show)

    entries = {each.name: each for each in list_models(server, everything=True).entries}
    assert set(entries) == set(names)
    assert not entries["devstral:good"].broken
    assert "no such file" in entries["devstral:cut"].broken
    found = {each.id: each for each in doctor(server).checks}
    assert found["model devstral:cut"].status is Status.FAIL
    assert "ollama rm devstral:cut" in found["model devstral:cut"].fix
    assert "OLLAMA_NO_CLOUD" in found["model qwen:480b-cloud"].fix
    assert {each.file for each in lint_model("devstral:good", host=server.url)}
    with pytest.raises(LayerLost):
        server.show("devstral:cut")
    with pytest.raises(LayerLost):
        lint_models(server)


@pytest.mark.parametrize("status", [404, 405])
@pytest.mark.parametrize(
    "body",
    [{"error": {"message": "File Not Found"}}, {"error": "not found"}, {"detail": "x"}, None],
)
def test_a_server_of_another_kind_is_not_asked_for_its_models_again(
    httpserver: HTTPServer, server: Server, status: int, body: object
) -> None:
    httpserver.expect_request("/").respond_with_json(body, status=status)
    for path in ("version", "tags", "ps"):
        httpserver.expect_request(f"/api/{path}").respond_with_json(body, status=status)
    for ask in (server.version, server.models, server.running):
        with pytest.raises(NotOllama) as caught:
            ask()
        assert "--host" in caught.value.fix


@pytest.mark.parametrize("path", ["tags", "ps"])
def test_a_model_that_goes_while_all_are_listed_is_a_passing_moment(
    httpserver: HTTPServer, server: Server, path: str
) -> None:
    gone = {"error": "model 'x' not found"}
    httpserver.expect_ordered_request(f"/api/{path}").respond_with_json(gone, status=404)
    httpserver.expect_ordered_request(f"/api/{path}").respond_with_json({"models": []})
    assert (server.models if path == "tags" else server.running)() == []


def test_weights_that_are_lost_are_said_by_a_stream_too(
    httpserver: HTTPServer, server: Server
) -> None:
    line = json.dumps({"error": f"open {LOST}: no such file or directory"})
    httpserver.expect_request("/api/create").respond_with_data(line)
    with pytest.raises(LayerLost):
        server.create({"model": "b"}, lambda *_: None)


def test_a_model_that_goes_while_others_are_looked_at_is_not_called_broken(
    httpserver: HTTPServer, server: Server
) -> None:
    models = [{"name": "devstral:gone", "digest": "d", "size": 1}]
    httpserver.expect_request("/api/version").respond_with_json({"version": "0.34.4"})
    httpserver.expect_oneshot_request("/api/tags").respond_with_json({"models": models})
    httpserver.expect_request("/api/tags").respond_with_json({"models": []})
    httpserver.expect_request("/api/show").respond_with_json(
        {"error": "model 'devstral:gone' not found"}, status=404
    )
    httpserver.expect_request("/api/ps").respond_with_json({"models": []})
    assert "model devstral:gone" not in {each.id for each in doctor(server).checks}


def test_tls_on_a_plain_port_is_said(httpserver: HTTPServer) -> None:
    url = f"https://127.0.0.1:{httpserver.port}"
    with Server(url) as server, pytest.raises(ServerUnreachable) as caught:
        server.version()
    assert "speaks no TLS" in caught.value.what
    assert f"http://127.0.0.1:{httpserver.port}" in caught.value.fix


def test_a_plain_request_on_a_port_of_tls_is_said(httpserver: HTTPServer, server: Server) -> None:
    httpserver.expect_request("/api/version").respond_with_data(
        "Client sent an HTTP request to an HTTPS server.\n", status=400
    )
    with pytest.raises(NotOllama) as caught:
        server.version()
    assert f"https://localhost:{httpserver.port}" in caught.value.fix


def test_every_way_to_get_no_answer_is_a_message_of_its_own(unused_port: int) -> None:
    fixes = {}
    for address in (f"127.0.0.1:{unused_port}", "http://nobody.invalid"):
        with Server(address) as server, pytest.raises(DevstralError) as caught:
            server.version()
        fixes[caught.value.what.replace(address, "")] = caught.value.fix
    assert len(fixes) == 2
    assert ["serve" in each for each in fixes.values()] == [True, False]


@pytest.fixture
def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def test_certificates_of_the_environment_hold_for_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/no/such")
    with Server("https://127.0.0.1:9") as server, pytest.raises(DevstralError) as caught:
        server.version()
    assert "SSL_CERT_FILE" in caught.value.fix
