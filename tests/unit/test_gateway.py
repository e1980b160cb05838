"""The gateway before a double, for what a real server cannot be made to do on demand."""

from __future__ import annotations

import json
import os
import socket
import stat
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import filelock
import httpx
import pytest
import zstandard
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from ollama_tools.devstral.contract import TOOLS_ROLE, VERBATIM
from ollama_tools.errors import FileProblem, UsageError
from ollama_tools.gateway.asked import Problem, Tool
from ollama_tools.gateway.configuration import read_configuration
from ollama_tools.gateway.grammar import loosened
from ollama_tools.gateway.keys import add_key, digest, read_keys, revoke_key
from ollama_tools.gateway.offered import Offered
from ollama_tools.gateway.serve import serve
from ollama_tools.gateway.settings import GatewaySettings
from ollama_tools.gateway.surfaces import SURFACES
from tests.testbed.gateway import gateway_in_thread
from tests.testbed.listening import each_client

OURS, OTHER = "ours", "other"
TEMPLATES = {OURS: f"{{% if '{VERBATIM}' '{TOOLS_ROLE}' %}}", OTHER: "{{ .Prompt }}"}
ANSWER = {"model": OURS, "message": {"role": "assistant", "content": "Hi"}, "done": True}
MUTATING = [
    ("POST", "/api/pull"),
    ("POST", "/api/push"),
    ("POST", "/api/create"),
    ("POST", "/api/copy"),
    ("DELETE", "/api/delete"),
    ("POST", "/api/blobs/sha256:1"),
    ("POST", "/api/signout"),
    ("POST", "/api/experimental/web_search"),
    ("POST", "//api/pull"),
    ("POST", "/api/./pull"),
    ("POST", "/api/%70ull"),
    ("POST", "/API/pull"),
    ("POST", "/api/chat/../pull"),
    ("POST", "/api/chat/%2e%2e/pull"),
    ("POST", "/api/pull/"),
    ("POST", "/v1/models/../../api/pull"),
    ("GET", "/v1/models/../../api/pull"),
    ("GET", "/v1/models/%2e%2e/pull"),
    ("GET", "/v1/models/%2e%2e%2f%2e%2e%2fapi%2fpull"),
    ("GET", "/v1/models/.."),
    ("PUT", "/api/chat"),
    ("DELETE", "/v1/models/x"),
]


def show(request: Request) -> Response:
    model = request.get_json()["model"]
    if model not in TEMPLATES:
        return Response(json.dumps({"error": "not found"}), 404)
    parameters = "num_ctx 4096\n" if model == OURS else ""
    return Response(json.dumps({"template": TEMPLATES[model], "parameters": parameters}))


@pytest.fixture(scope="session")
def make_httpserver() -> Iterator[HTTPServer]:
    """A server that answers while it is answering, as Ollama does."""
    with HTTPServer(threaded=True) as server:
        yield server


@pytest.fixture
def upstream(httpserver: HTTPServer) -> HTTPServer:
    httpserver.expect_request("/api/show", method="POST").respond_with_handler(show)
    return httpserver


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def gateway(upstream: HTTPServer, lines: list[str]) -> Iterator[httpx.Client]:
    url = upstream.url_for("/").rstrip("/")
    with gateway_in_thread(url, lines) as found, client_of(found) as client:
        yield client


def client_of(url: str, **headers: str) -> httpx.Client:
    return httpx.Client(base_url=url, trust_env=False, timeout=20, headers=headers)


def ask(model: str = OURS, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "Hi"}], **more}


def last(lines: list[str]) -> dict[str, Any]:
    """The last line of the log, which is written when a request has ended."""
    until = time.monotonic() + 5
    while not lines and time.monotonic() < until:
        time.sleep(0.01)
    found: dict[str, Any] = json.loads(lines[-1])
    return found


# --- what passes as it is


@pytest.mark.parametrize("path", list(SURFACES))
def test_bytes_of_other_models_pass_in_both_directions(
    gateway: httpx.Client, upstream: HTTPServer, lines: list[str], path: str
) -> None:
    # Neither one meaning nor the usual form: whatever it is, the server is to see it.
    sent = b'{"model" : "other", "a": 1e400, "a": NaN, "messages":[ ] }\n'
    answered = b'{"odd" :  [1.0, 2]}\r\n\x00\xff'
    got: list[Request] = []

    def answer(request: Request) -> Response:
        request.get_data()
        got.append(request)
        return Response(answered, 418, {"content-type": "text/odd", "x-odd": "yes"})

    upstream.expect_request(path, method="POST").respond_with_handler(answer)
    headers = {"content-type": "application/x-odd", "x-own": "1"}
    found = gateway.post(f"{path}?a=%20b", content=sent, headers=headers)
    assert (found.status_code, found.content) == (418, answered)
    assert (found.headers["content-type"], found.headers["x-odd"]) == ("text/odd", "yes")
    assert (got[0].get_data(), got[0].query_string) == (sent, b"a=%20b")
    assert (got[0].headers["content-type"], got[0].headers["x-own"]) == ("application/x-odd", "1")
    assert last(lines)["untouched"] == "other_model"


@pytest.mark.parametrize("content", [b"", b"[", b"[]", b'{"model": 1}', b'{"model": "nobody"}'])
def test_what_names_no_model_of_ours_is_the_servers_to_answer(
    gateway: httpx.Client, upstream: HTTPServer, content: bytes
) -> None:
    upstream.expect_request("/api/chat", method="POST", data=content).respond_with_data("no", 400)
    found = gateway.post("/api/chat", content=content)
    assert (found.status_code, found.text) == (400, "no")


def test_a_model_of_ours_is_asked_for_beside_its_chat(
    httpserver: HTTPServer, gateway: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once it is known a chat waits for no other answer; as much as its own beginning does."""
    monkeypatch.setattr("ollama_tools.gateway.upstream._KNOWN_SECONDS", 0.0)
    chatted = threading.Event()

    def shown(request: Request) -> Response:
        assert chatted.wait(10)
        return show(request)

    def chat(_: Request) -> Response:
        chatted.set()
        return Response(json.dumps(ANSWER))

    httpserver.expect_request("/api/chat").respond_with_handler(chat)
    assert gateway.post("/api/chat", json=ask(stream=False)).json() == ANSWER
    chatted.clear()
    httpserver.clear_all_handlers()
    httpserver.expect_request("/api/chat").respond_with_handler(chat)
    httpserver.expect_request("/api/show").respond_with_handler(shown)
    assert gateway.post("/api/chat", json=ask(stream=False)).json() == ANSWER


@pytest.mark.parametrize(
    "body", [ask(stream=False), ask(stream=True), {**ask(), "messages": [{"role": 1}]}]
)
def test_a_model_that_has_become_another_gets_what_was_sent(
    httpserver: HTTPServer,
    gateway: httpx.Client,
    lines: list[str],
    monkeypatch: pytest.MonkeyPatch,
    body: dict[str, Any],
) -> None:
    monkeypatch.setattr("ollama_tools.gateway.upstream._KNOWN_SECONDS", 0.0)
    httpserver.expect_request("/api/chat").respond_with_json(ANSWER)
    assert gateway.post("/api/chat", json=ask(stream=False)).json() == ANSWER
    lines.clear()
    monkeypatch.setitem(TEMPLATES, OURS, "{{ .Prompt }}")
    assert gateway.post("/api/chat", json=body).json() == ANSWER
    assert httpserver.log[-1][0].get_json() == body
    assert last(lines)["untouched"] == "other_model"


@pytest.mark.parametrize("status", [302, 429, 500])
def test_a_model_that_the_server_cannot_show_is_not_taken_for_anothers(
    httpserver: HTTPServer, gateway: httpx.Client, status: int
) -> None:
    httpserver.clear_all_handlers()
    shown = httpserver.expect_request("/api/show")
    shown.respond_with_json({"error": "too many open files"}, status=status)
    httpserver.expect_request("/api/chat").respond_with_json(ANSWER)
    answer = gateway.post("/api/chat", json=ask(stream=False))
    assert (answer.status_code, answer.json()) == (
        502,
        {"error": f"the server cannot show the model: it answers {status}"},
    )
    # It is asked again with the next request.
    httpserver.clear_all_handlers()
    httpserver.expect_request("/api/show").respond_with_handler(show)
    httpserver.expect_request("/api/chat").respond_with_json(ANSWER)
    assert gateway.post("/api/chat", json=ask(stream=False)).json() == ANSWER


@pytest.mark.parametrize(("method", "path"), MUTATING)
def test_what_changes_the_server_is_refused_however_it_is_written(
    gateway: httpx.Client, upstream: HTTPServer, method: str, path: str
) -> None:
    host, _, port = str(gateway.base_url).rstrip("/").removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(
            f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n"
            "Connection: close\r\n\r\n{}".encode()
        )
        answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert not upstream.log


# --- what cannot be meant


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"model": "ours", "messages": [{"role": "user", "content": NaN}]}', "NaN"),
        (b'{"model": "ours", "messages": [], "messages": []}', "twice"),
        (b'{"model": "ours", "messages": [{"role": "user", "content": "\\ud800"}]}', "surrogate"),
        (b'{"model": "ours", "options": {"seed": 1e400}, "messages": [1]}', "too large"),
        (b'{"model": "ours", "messages": ' + b"[" * 300 + b"]" * 300 + b"}", "deeply"),
        (b'{"model": "ours", "messages": {}}', "messages is not a list"),
        (b'{"model": "ours", "messages": [1]}', "messages[0] is no object"),
        (b'{"model": "ours", "messages": [{"content": "x"}]}', "messages[0].role is missing"),
        (b'{"model": "ours", "messages": [{"role": "user", "content": 1}]}', "not a text"),
        (
            b'{"model": "ours", "messages": [{"role": "user", "content": "x"}], '
            b'"tools": [{"type": "function", "function": {}}]}',
            "tools[0].function has no name",
        ),
    ],
)
@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
def test_a_request_without_a_meaning_is_answered_400(
    gateway: httpx.Client, path: str, content: bytes, said: str
) -> None:
    found = gateway.post(path, content=content)
    if path == "/v1/chat/completions" and said == "not a text":
        said = "no text and no list of parts"
    error = found.json()["error"]
    assert found.status_code == 400
    assert said in (error if isinstance(error, str) else error["message"])


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/v1/chat/completions", {"type": "invalid_request_error", "code": None}),
        ("/v1/responses", {"type": "invalid_request_error", "code": None}),
        ("/v1/messages", {"type": "invalid_request_error"}),
    ],
)
def test_each_surface_has_its_own_form_of_an_error(
    gateway: httpx.Client, path: str, error: dict[str, Any]
) -> None:
    found = gateway.post(path, json={"model": OURS, "max_tokens": 1}).json()["error"]
    assert {key: found[key] for key in error} == error
    assert found["message"]


def test_a_request_may_be_packed_and_no_larger_than_the_limit(
    upstream: HTTPServer, lines: list[str]
) -> None:
    upstream.expect_request("/api/chat").respond_with_json(ANSWER)
    url = upstream.url_for("/").rstrip("/")
    packed = {"content-encoding": "zstd"}
    with gateway_in_thread(url, lines, body_limit=2000) as found, client_of(found) as client:

        def post(text: str, headers: dict[str, str]) -> httpx.Response:
            content = json.dumps(ask(messages=[{"role": "user", "content": text}])).encode()
            if headers:
                content = zstandard.compress(content)
            return client.post("/v1/chat/completions", content=content, headers=headers)

        assert post("Hi", packed).json()["choices"][0]["message"]["content"] == "Hi"
        assert post("Hi" * 2000, {}).status_code == 413
        assert post("Hi" * 2000, packed).status_code == 400
        broken = client.post("/v1/chat/completions", content=b"{}", headers=packed)
        assert broken.status_code == 400


@pytest.mark.parametrize("written", ['{"a": "\\ud800"}', "{'a': 1}", '{"a": ' * 300])
def test_arguments_of_a_call_that_are_no_json_are_a_text(
    gateway: httpx.Client, upstream: HTTPServer, written: str
) -> None:
    upstream.expect_request("/api/chat").respond_with_json(ANSWER)
    call = {"id": "1", "type": "function", "function": {"name": "a", "arguments": written}}
    messages = [{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": [call]}]
    found = gateway.post("/v1/chat/completions", json=ask(messages=messages))
    assert found.status_code == 200
    sent = upstream.log[-1][0].get_json()["messages"][1]["tool_calls"][0]["function"]["arguments"]
    assert sent == {VERBATIM: json.dumps(written)}


# --- a server that is busy, gone, or breaks off


def test_a_full_server_is_waited_for_before_the_first_byte(
    gateway: httpx.Client, upstream: HTTPServer
) -> None:
    full = iter([True, True, False])

    def answer(_: Request) -> Response:
        if next(full):
            return Response(json.dumps({"error": "full"}), 503)
        return Response(json.dumps(ANSWER))

    upstream.expect_request("/api/chat").respond_with_handler(answer)
    assert gateway.post("/api/chat", json=ask(stream=False)).json() == ANSWER


@pytest.mark.parametrize("wait", [0.05, 0.15, 0.5])
def test_the_wait_for_it_ends(upstream: HTTPServer, lines: list[str], wait: float) -> None:
    upstream.expect_request("/api/chat").respond_with_json({"error": "full"}, 503)
    url = upstream.url_for("/").rstrip("/")
    with gateway_in_thread(url, lines, wait=wait) as found, client_of(found) as client:
        answer = client.post("/v1/messages", json=ask(max_tokens=5))
    assert answer.status_code == 503
    assert answer.json()["error"] == {"type": "overloaded_error", "message": "full"}


def test_a_server_that_is_away_is_said_to_be(lines: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with gateway_in_thread(url, lines, wait=0.3) as found, client_of(found) as client:
        answer = client.post("/v1/chat/completions", json=ask())
        assert client.get("/ready").status_code == 502
    assert answer.status_code == 502
    assert answer.json()["error"]["message"] == "the server cannot be reached"


STREAMED_ERRORS = {
    "/api/chat": '{"error":"the server hung up"}',
    "/v1/chat/completions": '"message":"the server hung up"',
    "/v1/responses": "event: response.failed",
    "/v1/messages": "event: error",
}


def said(*pieces: str) -> bytes:
    """Pieces of an answer that has no end."""
    said = ({"message": {"role": "assistant", "content": each}, "done": False} for each in pieces)
    return b"".join(json.dumps(each).encode() + b"\n" for each in said)


@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_without_an_end_is_given_up(
    gateway: httpx.Client, upstream: HTTPServer, stream: bool
) -> None:
    given: list[int] = []

    def endless() -> Iterator[bytes]:
        for piece in range(256):
            given.append(piece)
            yield b" " * 2**20

    upstream.expect_request("/api/chat").respond_with_handler(lambda _: Response(endless()))
    answer = gateway.post("/api/chat", json=ask(stream=stream))
    assert (answer.status_code, answer.json()) == (
        502,
        {"error": "the server's answer has no end"},
    )
    assert len(given) < 64


@pytest.mark.parametrize(
    ("parser", "piece"),
    [("server", said("Hi")), ("gateway", said("Hi", "[TOOL_CALLS]", "bash", "[ARGS]", '{"a'))],
)
@pytest.mark.parametrize("path", list(SURFACES))
def test_an_answer_that_breaks_off_ends_with_an_error(
    lines: list[str], path: str, parser: str, piece: bytes
) -> None:
    def serve(client: socket.socket) -> None:
        asked = client.recv(65536)
        body = json.dumps({"template": TEMPLATES[OURS]}).encode()
        head = b"HTTP/1.1 200 OK\r\n"
        if b"/api/show" in asked:
            client.sendall(head + b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        else:
            chunk = b"%x\r\n%s\r\n" % (len(piece), piece)
            client.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk)
        client.close()

    tool: dict[str, Any] = {"name": "bash"}
    if path != "/v1/messages":
        tool |= {"type": "function", "function": {"name": "bash"}}
    body = ask(stream=True, input="Hi", max_tokens=5, tools=[tool])
    with (
        each_client(serve) as port,
        gateway_in_thread(f"http://127.0.0.1:{port}", lines, tool_call_parser=parser) as found,
        client_of(found) as client,
    ):
        answer = client.post(path, json=body)
    assert answer.status_code == 200
    assert STREAMED_ERRORS[path] in answer.text
    assert last(lines)["outcome"] == "cut"


def test_a_plain_client_that_goes_away_closes_the_servers_connection(lines: list[str]) -> None:
    closed = threading.Event()

    def serve(client: socket.socket) -> None:
        asked = client.recv(65536)
        if b"/api/show" in asked:
            body = json.dumps({"template": TEMPLATES[OURS]}).encode()
            head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"
            client.sendall(head + b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        else:
            client.settimeout(10)
            while client.recv(65536):
                pass
            closed.set()
        client.close()

    with (
        each_client(serve) as port,
        gateway_in_thread(f"http://127.0.0.1:{port}", lines) as found,
        client_of(found) as client,
    ):
        with pytest.raises(httpx.ReadTimeout):
            client.post("/api/chat", json=ask(stream=False), timeout=0.5)
        assert closed.wait(2)
        assert last(lines)["outcome"] == "gone"


# --- whoever asks whether it is ready


def test_a_model_is_asked_once_whether_it_is_ready_however_many_want_to_know(
    upstream: HTTPServer,
) -> None:
    go_on = threading.Event()
    asked: list[Request] = []

    def answer(request: Request) -> Response:
        asked.append(request)
        assert go_on.wait(10)
        return Response(json.dumps(ANSWER))

    upstream.expect_request("/api/chat").respond_with_handler(answer)
    url = upstream.url_for("/").rstrip("/")
    with (
        gateway_in_thread(url, [], model=OURS) as found,
        httpx.Client(base_url=found, trust_env=False, timeout=20) as client,
        ThreadPoolExecutor(8) as pool,
    ):
        with pytest.raises(httpx.ReadTimeout):
            client.get("/ready", timeout=0.2)
        waiting = [pool.submit(client.get, "/ready") for _ in range(8)]
        with pytest.raises(httpx.ReadTimeout):
            client.get("/ready", timeout=0.2)
        go_on.set()
        assert {each.result().status_code for each in waiting} == {200}
        assert client.get("/ready").json() == {"ready": True}
    assert len(asked) == 1


# --- keys and limits


def test_keys_are_asked_for_and_taken_away_while_it_runs(
    upstream: HTTPServer, lines: list[str], tmp_path: Path
) -> None:
    keys = tmp_path / "keys.json"
    key = add_key(keys, "alice")
    upstream.expect_request("/api/chat").respond_with_json(ANSWER)
    url = upstream.url_for("/").rstrip("/")
    with gateway_in_thread(url, lines, keys=keys) as found, client_of(found) as client:

        def status(path: str = "/api/chat", **headers: str) -> int:
            asked = ask(stream=False, max_tokens=5)
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            return client.post(path, json=asked, headers=named).status_code

        assert status() == status(authorization=f"Bearer {key}x") == 401
        assert status(authorization=f"Bearer {key}") == 200
        assert status("/v1/messages", x_api_key=key) == 200
        refused = client.post("/v1/messages", json=ask())
        assert refused.json()["error"]["type"] == "authentication_error"
        assert refused.headers["www-authenticate"] == "Bearer"
        assert client.get("/metrics").status_code == 401
        revoke_key(keys, "alice")
        assert status(authorization=f"Bearer {key}") == 401
    assert key not in "".join(lines) + keys.read_text()
    assert '"key": "alice"' in "".join(lines)
    forwarded = [request.headers for request, _ in upstream.log]
    assert not any("authorization" in each or "x-api-key" in each for each in forwarded)


def test_a_file_of_keys_is_nobody_elses(tmp_path: Path) -> None:
    keys = tmp_path / "deep" / "keys.json"
    add_key(keys, "alice")
    assert stat.S_IMODE(keys.stat().st_mode) == 0o600
    with pytest.raises(UsageError, match="there is a key named alice"):
        add_key(keys, "alice")
    with pytest.raises(UsageError, match="no key named bob"):
        revoke_key(keys, "bob")
    with pytest.raises(UsageError, match="no name of a key"):
        add_key(keys, "a b")
    keys.chmod(0o644)
    with pytest.raises(FileProblem, match="others can read"):
        read_keys(keys)
    keys.chmod(0o600)
    keys.write_text("[]")
    with pytest.raises(FileProblem, match="no file of keys"):
        read_keys(keys)
    # What has no end, or is none.
    os.mkfifo(tmp_path / "pipe", 0o600)
    for other in (tmp_path / "pipe", tmp_path):
        with pytest.raises(FileProblem, match="no file of keys"):
            read_keys(other)


def test_keys_that_are_made_at_once_are_all_there(tmp_path: Path) -> None:
    path, names = tmp_path / "keys.json", [f"host-{number}" for number in range(12)]
    with ThreadPoolExecutor(len(names)) as pool:
        made = dict(zip(names, pool.map(partial(add_key, path), names), strict=True))
    assert {each.name: each.sha256 for each in read_keys(path)} == {
        name: digest(key) for name, key in made.items()
    }
    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(partial(revoke_key, path), names[1:]))
    assert [each.name for each in read_keys(path)] == names[:1]


def test_a_command_that_does_not_end_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ollama_tools.gateway.keys._WAIT_SECONDS", 0.1)
    path = tmp_path / "keys.json"
    with (
        filelock.FileLock(tmp_path / ".keys.json.lock"),
        pytest.raises(FileProblem, match="another command has been changing"),
    ):
        add_key(path, "alice")
    assert not path.exists()


def test_a_gateway_does_not_begin_with_keys_that_it_cannot_read(tmp_path: Path) -> None:
    with pytest.raises(FileProblem, match="no file of keys"):
        serve(GatewaySettings(listen="127.0.0.1:1", keys=tmp_path))


def test_a_key_has_its_limits(upstream: HTTPServer, lines: list[str], tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    alice, bob = add_key(keys, "alice"), add_key(keys, "bob")
    begun, ended = threading.Event(), threading.Event()

    def slow(_: Request) -> Response:
        begun.set()
        ended.wait(10)
        return Response(json.dumps(ANSWER))

    upstream.expect_oneshot_request("/api/chat").respond_with_handler(slow)
    upstream.expect_request("/api/chat").respond_with_json(ANSWER)
    url = upstream.url_for("/").rstrip("/")
    with gateway_in_thread(url, lines, keys=keys, at_a_time=1, a_minute=3) as found:

        def post(key: str) -> httpx.Response:
            with client_of(found, authorization=f"Bearer {key}") as client:
                return client.post("/api/chat", json=ask(stream=False))

        first = threading.Thread(target=post, args=(alice,))
        first.start()
        assert begun.wait(10)
        second = post(alice)
        assert (second.status_code, second.headers["retry-after"]) == (429, "1")
        assert post(bob).status_code == 200
        ended.set()
        first.join()
        assert [post(alice).status_code for _ in range(3)] == [200, 200, 429]


# --- settings


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"listen": "0.0.0.0:11435"}, "others than this machine reach"),
        ({"listen": "gpu1:11435"}, "others than this machine reach"),
        ({"listen": "[::]:11435"}, "others than this machine reach"),
        ({"listen": "127.0.0.1:11434"}, "is the server behind the gateway"),
        ({"listen": "localhost:11434"}, "is the server behind the gateway"),
        ({"listen": "[::]:11434", "without_keys": True}, "is the server behind the gateway"),
        ({"listen": "[::1]:1", "upstream": "localhost:1"}, "is the server behind the gateway"),
        ({"listen": "gpu1:1", "upstream": "gpu1:1"}, "is the server behind the gateway"),
        ({"without": ("nothing",)}, "there is no repair 'nothing'"),
        ({"tool_call_parser": "nobody"}, "no such parser of calls: 'nobody'"),
        ({"wait": 0.0}, "it has to be above 0"),
        ({"a_minute": 3}, "limits are for keys"),
        ({"tls_key": Path("k")}, "belong together"),
        ({"upstream": "http://user:pass@gpu1"}, "contains a password"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said) as error:
        GatewaySettings(**settings)
    assert error.value.fix


def test_strangers_are_served_by_keys_or_by_consent() -> None:
    for more in ({"keys": Path("k")}, {"without_keys": True}):
        assert not GatewaySettings(listen="0.0.0.0:1", **more).is_for_this_machine
    assert GatewaySettings(listen="localhost:1").is_for_this_machine
    # Two servers of one machine may have one port.
    assert GatewaySettings(listen="127.0.0.2:1", upstream="127.0.0.1:1").is_for_this_machine


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "no YAML, line"),
        ("- a", "no list of settings"),
        ("colour: blue", "no setting 'colour'"),
        ("wait: soon", "wait cannot be 'soon'"),
        ("body-limit: true", "body-limit cannot be True"),
    ],
)
def test_a_file_of_settings_is_read_with_care(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "gateway.yml"
    path.write_text(text)
    with pytest.raises((UsageError, FileProblem), match=said):
        read_configuration(path)


def test_a_file_without_an_end_holds_no_settings() -> None:
    with pytest.raises(FileProblem, match="too long for settings"):
        read_configuration(Path("/dev/zero"))


def test_a_file_of_settings_has_the_names_of_the_options(tmp_path: Path) -> None:
    path = tmp_path / "gateway.yml"
    path.write_text("body-limit: 5\nwait: 3\nkeys: /k\nwithout: [room]\npin_context: true\n")
    assert read_configuration(path) == {
        "body_limit": 5,
        "wait": 3.0,
        "keys": Path("/k"),
        "without": ("room",),
        "pin_context": True,
    }


# --- schemas


def test_a_schema_keeps_no_order_that_it_does_not_have() -> None:
    item = {"type": "object", "properties": {"b": {}, "a": {}}, "required": ["b", "a"]}
    mixed = {"type": "object", "properties": {"x": {}, "y": {}}, "required": ["y"]}
    plain = {"type": "object", "properties": {"b": {"type": "string"}, "a": {}}, "required": ["b"]}
    schema = {
        "type": "object",
        "properties": {"list": {"type": "array", "items": item}, "mixed": mixed, "plain": plain},
        "required": ["list"],
    }
    assert loosened(schema) == {
        "type": "object",
        "properties": {
            "list": {"type": "array", "items": {"type": "object"}},
            "mixed": {"type": "object"},
            "plain": plain,
        },
        "required": ["list"],
    }
    assert loosened({}) == {"type": "object", "properties": {}}


CALL: dict[str, Any] = {"id": "a", "function": {"index": 0, "arguments": {"b": 1}, "name": "t"}}
READ: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"tool_calls": [CALL, CALL], "thinking": "x"}, {}),
    ({"tool_calls": []}, {}),
    ({"tool_calls": None, "content": None}, {"content": ""}),
    ({"tool_calls": None}, {}),
    ({"role": "Assistant", "tool_calls": [CALL]}, {"role": "assistant"}),
    (
        {"tool_calls": [CALL, {"function": {"name": "t", "arguments": '{"b": 1.0}'}}]},
        {"tool_calls": [CALL, {"function": {"name": "t", "arguments": {"b": 1.0}}}]},
    ),
    (
        {"tool_calls": [{"function": {"name": "t", "arguments": None}}]},
        {"tool_calls": [{"function": {"name": "t", "arguments": {}}}]},
    ),
]


@pytest.mark.parametrize(("given", "changed"), READ)
def test_of_a_message_for_the_server_only_what_has_to_be_is_changed(
    given: dict[str, Any], changed: dict[str, Any]
) -> None:
    message = {"role": "assistant", "content": "Hi", **given}
    (read,) = SURFACES["/api/chat"].read({"model": OURS, "messages": [message]}).messages
    kept = {key: each for key, each in message.items() if each is not None or key in changed}
    assert repr(read) == repr({**kept, **changed})


@pytest.mark.parametrize(
    "wrong", [{"function": {"name": "", "arguments": {}}}, {"function": None}, {}, "x", None]
)
def test_a_call_without_a_name_is_refused_wherever_it_stands(wrong: Any) -> None:
    message = {"role": "assistant", "content": "", "tool_calls": [CALL, wrong]}
    with pytest.raises(Problem, match=r"messages\[0\].tool_calls\[1\]"):
        SURFACES["/api/chat"].read({"model": OURS, "messages": [message]})


def test_tools_of_a_session_are_sealed_once_and_others_are_not_taken_for_them() -> None:
    offered = Offered()

    def tools(**schema: Any) -> list[Tool]:
        return [Tool("bash", "Runs", {"type": "object", "properties": {"a": schema}})]

    def sealed(found: list[Tool], *, is_loosened: bool = True) -> list[dict[str, Any]]:
        return offered.sealed(found, is_loosened=is_loosened)

    first = sealed(tools(default=1))
    assert sealed(tools(default=1)) is first
    others = [
        sealed(tools(default=1.0)),
        sealed(tools(default=True)),
        sealed(tools(default=1, minimum=0)),
        sealed(tools(minimum=0, default=1)),
        sealed(tools(default=1) * 2),
    ]
    texts = [json.dumps(each) for each in (first, *others)]
    assert len(set(texts)) == len(texts)
    ordered = [
        Tool("bash", "", {"properties": {"l": {"items": {"properties": {"b": {}, "a": {}}}}}})
    ]
    assert sealed(ordered) != sealed(ordered, is_loosened=False)
    for number in range(100):
        sealed(tools(default=number + 2))
    assert sealed(tools(default=1)) is not first
    large = tools(default="x" * 2**18)
    assert sealed(large) is not sealed(large)
