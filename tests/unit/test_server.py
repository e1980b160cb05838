"""The server client against answers that a real server cannot be made to give."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from ollama_tools.checks.result import Status
from ollama_tools.checks.smoke import smoke_server
from ollama_tools.devstral.catalog import TokenizerVersion
from ollama_tools.errors import (
    FileProblem,
    ModelNotFound,
    NotOllama,
    PullFailed,
    ServerError,
    UsageError,
)
from ollama_tools.network.proxies import proxy_for
from ollama_tools.server.address import resolve_host
from ollama_tools.server.client import InstalledModel, Server, find_model
from ollama_tools.wanted.draft import parse_registry

# Beyond what Python's JSON reader takes: each ends in an exception of a kind of its own.
DEEP = '{"status": ' + "[" * 100_000
LONG_NUMBER = '{"status": ' + "1" * 10_000 + "}"


@pytest.fixture
def server(httpserver: HTTPServer) -> Iterator[Server]:
    with Server(httpserver.url_for("")) as client:
        yield client


def silent(*_: object) -> None:
    """Hears of progress and says nothing."""


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("", "http://127.0.0.1:11434"),
        ("gpu1", "http://gpu1:11434"),
        ("gpu1:8080", "http://gpu1:8080"),
        (":8080", "http://127.0.0.1:8080"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:8080", "http://127.0.0.1:8080"),
        ("http://gpu1", "http://gpu1:80"),
        ("https://gpu1/ollama/", "https://gpu1:443/ollama"),
        ("HTTPS://gpu1:8443", "https://gpu1:8443"),
        ("[::1]", "http://[::1]:11434"),
        ("[::]:8080", "http://[::1]:8080"),
        (' "gpu1" ', "http://gpu1:11434"),
        ("::1", "http://[::1]:11434"),
        ("fd00::5", "http://[fd00::5]:11434"),
        ("[::1]:1", "http://[::1]:1"),
        ("::", "http://[::1]:11434"),
        ("http://::1", "http://[::1]:80"),
        ("http://[fd00::5]:8080/", "http://[fd00::5]:8080"),
        ("gpu1/ollama/", "http://gpu1:11434/ollama"),
    ],
)
def test_an_address_is_read_as_ollama_reads_it(
    monkeypatch: pytest.MonkeyPatch, text: str, url: str
) -> None:
    assert resolve_host(text) == url
    monkeypatch.setenv("OLLAMA_HOST", text)
    assert resolve_host() == url


@pytest.mark.parametrize(
    "text", ["ftp://gpu1", "gpu1:port", "gpu1:99999", "a b", "http://me:secret@gpu1", "[::1"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve_host(text)
    assert caught.value.fix
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("text", ["http://a..b", "x" * 300, "http://xn--a.example"])
def test_a_name_that_cannot_be_looked_up_is_refused(text: str) -> None:
    with Server(text) as server, pytest.raises(UsageError, match="not an address"):
        server.models()


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"HTTPS_PROXY": "::bad"}, "HTTPS_PROXY"),
        ({"HTTPS_PROXY": "http://me:se/cret@proxy"}, "HTTPS_PROXY"),
        ({"ALL_PROXY": "foo://me:secret@proxy"}, "ALL_PROXY"),
        ({"ALL_PROXY": "socks5://me:secret@proxy:1080"}, "pip install socksio"),
        ({"SSL_CERT_FILE": "/no/such/file"}, "SSL_CERT_FILE"),
        ({"SSL_CERT_FILE": __file__}, "SSL_CERT_FILE"),
    ],
)
def test_surroundings_that_make_a_client_impossible_are_named(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], words: str
) -> None:
    monkeypatch.setitem(sys.modules, "socksio", None)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with Server("https://gpu1.invalid") as server:
        for build in (server.models, lambda: server.client):
            with pytest.raises(UsageError) as caught:
                build()
            assert words in caught.value.fix
            assert "cret" not in str(caught.value)


OWN = ["localhost", "LOCALHOST.", "127.0.0.1", "127.0.0.2", "[::1]", "[::ffff:127.0.0.1]"]
OTHERS = [
    "gpu1",
    "localhost.evil",
    "evil.localhost",
    "localhost-evil",
    "127.0.0.1.evil",
    "127.evil",
    "127.0.0.1.",
    "128.0.0.1",
    "[::2]",
    "[::ffff:128.0.0.1]",
]


@pytest.mark.parametrize(
    ("host", "local"),
    [("", True), *((each, True) for each in OWN), *((each, False) for each in OTHERS)],
)
def test_loopback_means_this_machine(host: str, local: bool) -> None:
    assert Server(host).is_local is local


@pytest.mark.parametrize(("host", "local"), [(OWN, True), (OTHERS, False)])
def test_plain_http_is_for_registries_of_this_machine_alone(host: list[str], local: bool) -> None:
    for each in host:
        if "[" not in each:
            assert parse_registry(f"{each}:5000").insecure is local


def test_a_proxy_sees_nothing_of_this_machine_and_all_of_what_is_named_like_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://proxy:1")
    assert {proxy_for(f"http://{each}:1") for each in OWN} == {None}
    assert None not in {proxy_for(f"http://{each}:1") for each in OTHERS}


@pytest.mark.parametrize(
    "text", ["http://me:se/cret@mirror", "me:secret@mirror:5000", "https://secret@mirror"]
)
def test_a_registry_with_a_login_is_refused_with_the_reason(text: str) -> None:
    with pytest.raises(UsageError, match="Ollama pulls without a login") as caught:
        parse_registry(text)
    assert "--via upload" in caught.value.fix
    assert "cret" not in str(caught.value)


@pytest.mark.parametrize(
    "body",
    [
        "[]",
        "7",
        "null",
        "<html>",
        "",
        '{"models": 7}',
        '{"models": "ab"}',
        '{"models": {"name": "x"}}',
        '{"models": [{}]}',
        '{"models": [{"name": "x", "digest": "y", "size": "many"}]}',
        DEEP,
        LONG_NUMBER,
        b"\xff\xfe\x00",
    ],
)
def test_a_malformed_list_of_models_is_no_ollamas(
    httpserver: HTTPServer, server: Server, body: str | bytes
) -> None:
    httpserver.expect_request("/api/tags").respond_with_data(body)
    with pytest.raises(NotOllama) as caught:
        server.models()
    assert "/api/tags" in caught.value.what
    assert caught.value.fix


def test_a_list_without_models_is_empty(httpserver: HTTPServer, server: Server) -> None:
    httpserver.expect_request("/api/tags").respond_with_json({"models": None})
    assert server.models() == []


@pytest.mark.parametrize("answer", [{"model_info": [1]}, {"details": "x"}])
def test_a_malformed_description_is_no_ollamas(
    httpserver: HTTPServer, server: Server, answer: dict[str, Any]
) -> None:
    httpserver.expect_request("/api/show").respond_with_json(answer)
    with pytest.raises(NotOllama, match="/api/show answers in an unexpected form"):
        server.show("x")


@pytest.mark.parametrize("answer", [{}, {"_debug_info": None}, {"_debug_info": {}}])
def test_a_server_that_renders_no_prompt_is_no_ollama(
    httpserver: HTTPServer, server: Server, answer: dict[str, Any]
) -> None:
    httpserver.expect_request("/api/chat").respond_with_json(answer)
    with pytest.raises(NotOllama):
        server.rendered_prompt({"model": "x", "messages": []})


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (404, '{"error": "model \'x\' not found"}', ModelNotFound, "model 'x' not found"),
        (404, "404 page not found", ModelNotFound, "not found"),
        (500, '{"error": "boom"}', ServerError, "/api/copy answers 500: boom"),
        (500, '{"error": {"message": "boom"}}', ServerError, "answers 500: boom"),
        (503, "", ServerError, "answers 503: HTTP 503"),
        (500, DEEP, ServerError, "answers 500: {"),
        (502, "<html>Bad Gateway</html>", ServerError, "Bad Gateway"),
        (500, '{"error": "write x: no space left on device"}', ServerError, "disk is full"),
    ],
)
def test_an_error_is_told_in_the_servers_words(
    httpserver: HTTPServer,
    server: Server,
    status: int,
    body: str,
    kind: type[ServerError],
    words: str,
) -> None:
    httpserver.expect_request("/api/copy").respond_with_data(body, status=status)
    with pytest.raises(kind) as caught:
        server.copy("x", "y")
    assert words in caught.value.what
    assert caught.value.fix


def stream(*lines: object) -> str:
    return "".join(f"{json.dumps(each)}\n" for each in lines)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (stream({"status": "parsing GGUF"}, {"error": "boom"}), "/api/create: boom"),
        (stream({"status": "writing manifest"}), "ended without a result"),
        ("<html>It works!</html>", "gives no JSON"),
        ("", "gives no JSON"),
        (stream({"status": ["success"]}), "unexpected form"),
        ('{"status": "succ', "unexpected form"),
        (DEEP, "unexpected form"),
        (LONG_NUMBER, "unexpected form"),
        (stream({"error": 'unsupported tensor "x" offset+size exceeds file size'}), "cut short"),
    ],
)
def test_a_creation_that_does_not_end_in_success_has_failed(
    httpserver: HTTPServer, server: Server, body: str, words: str
) -> None:
    httpserver.expect_request("/api/create").respond_with_data(body)
    httpserver.expect_request("/api/tags").respond_with_json({"models": []})
    with pytest.raises(ServerError) as caught:
        server.create({"model": "x"}, silent)
    assert words in caught.value.what
    assert caught.value.fix


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        (stream({"status": "pulling manifest"}), PullFailed, "ended without a result"),
        ("", NotOllama, "gives no JSON"),
        ("<html>", NotOllama, "unexpected form"),
        (stream({"status": {}}), NotOllama, "unexpected form"),
        (DEEP, NotOllama, "unexpected form"),
        (LONG_NUMBER, NotOllama, "unexpected form"),
        (stream({"error": "boom"}), PullFailed, "the server cannot pull x: boom"),
        (stream({"error": "no space left on device"}), PullFailed, "disk is full"),
    ],
)
def test_a_pull_that_does_not_end_in_success_has_failed(
    httpserver: HTTPServer, server: Server, body: str, kind: type[ServerError], words: str
) -> None:
    httpserver.expect_request("/api/pull").respond_with_data(body)
    with pytest.raises(kind) as caught:
        server.pull("x", insecure=False, advance=silent)
    assert words in caught.value.what
    assert caught.value.fix


@pytest.mark.parametrize(
    ("message", "fix"),
    [
        ("http://[::1]:403/v2/404: reset", "a second run"),
        ("http://mirror:42901/v2: 401: no", "--via upload"),
        ('mirror:401/x: {"code":404}', "check the repository"),
        ("mirror:404/x: status 429", "limits requests"),
        # As 0.34.4 says it.
        ("Get https://m/v2: tls: first record does not look like a TLS handshake", "http://HOST"),
        ("Get https://m/v2: http: server gave HTTP response to HTTPS client", "http://HOST"),
        ("tls: failed to verify certificate: x509: signed by unknown authority", "who signed"),
        ("dial tcp: lookup hf.co on 10.0.0.1:53: no such host", "--via upload"),
        ("dial tcp 127.0.0.1:9: connect: connection refused", "HTTPS_PROXY"),
    ],
)
def test_a_pull_that_failed_has_the_fix_of_its_cause_and_no_port_is_a_status(
    httpserver: HTTPServer, server: Server, message: str, fix: str
) -> None:
    httpserver.expect_request("/api/pull").respond_with_data(stream({"error": message}))
    with pytest.raises(PullFailed) as caught:
        server.pull("x", insecure=False, advance=silent)
    assert fix in caught.value.fix


def test_the_layers_of_a_pull_are_one_figure(httpserver: HTTPServer, server: Server) -> None:
    layers = [
        {"status": "pulling a", "digest": "a", "total": 100, "completed": 40},
        {"status": "pulling b", "digest": "b", "total": 10},
        {"status": "pulling a", "digest": "a", "total": 100, "completed": 100},
        {"status": "pulling b", "digest": "b", "total": 10, "completed": 10},
        {"status": "success"},
    ]
    httpserver.expect_request("/api/pull").respond_with_data(stream(*layers))
    heard: list[tuple[int, int | None]] = []
    server.pull("x", insecure=False, advance=lambda _, done, total: heard.append((done, total)))
    assert heard == [(40, 100), (40, 110), (100, 110), (110, 110), (110, 110)]


def test_a_file_that_changes_while_it_is_sent_is_said(
    httpserver: HTTPServer, server: Server, tmp_path: Path
) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(b"x" * 10)
    refusal = {"error": "digest mismatch, expected sha256:a, got sha256:b"}
    httpserver.expect_request("/api/blobs/sha256:a").respond_with_json(refusal, status=400)
    with pytest.raises(FileProblem, match="changed while it was sent"):
        server.upload(path, "sha256:a", silent)


def test_a_redirect_is_not_followed_to_another_host(httpserver: HTTPServer, server: Server) -> None:
    httpserver.expect_request("/api/version").respond_with_data(
        "", status=307, headers={"Location": httpserver.url_for("/elsewhere")}
    )
    with pytest.raises(NotOllama, match=r"not as an Ollama server \(307\)"):
        server.version()
    assert len(httpserver.log) == 1


def test_names_are_compared_as_the_server_does() -> None:
    models = [InstalledModel("Devstral:latest", "d", 1), InstalledModel("other:x", "e", 1)]
    assert find_model(models, "devstral") == models[0]
    assert find_model(models, "devstral:q4") is None


def test_checks_of_malformed_answers_fail_and_do_not_crash(
    httpserver: HTTPServer, server: Server
) -> None:
    def answer(request: Request) -> Response:
        if request.path == "/api/version":
            return Response('{"version": "0.34.4"}')
        if request.path == "/api/tags":
            return Response('{"models": [{"name": "x:latest", "digest": "d", "size": 1}]}')
        return Response('{"choices": null, "output": [7], "content": [{}], "message": null}')

    for path in (
        "/api/version",
        "/api/tags",
        "/api/show",
        "/api/ps",
        "/api/chat",
        "/api/generate",
        "/v1/chat/completions",
        "/v1/responses",
        "/v1/messages",
    ):
        httpserver.expect_request(path).respond_with_handler(answer)
    report = smoke_server(server, "x", TokenizerVersion.V13, prompt_tokens=256)
    found = {each.id: each for each in report.checks}
    for each in report.checks:
        if each.id.startswith("tool-call"):
            assert each.status is Status.FAIL
            assert each.fix
    assert found["prompt"].status is Status.FAIL
    # That no model is loaded is for the server to say.
    assert found["context"].status is Status.FAIL


@pytest.mark.parametrize("path", ["/api/chat", "/v1/messages"])
@pytest.mark.parametrize("status", [429, 502, 503])
def test_who_gets_no_answer_judges_no_model(
    httpserver: HTTPServer,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    status: int,
) -> None:
    monkeypatch.setattr("ollama_tools.server.transport._PAUSES", ())
    one = {"name": "x:latest", "digest": "d", "size": 1}
    httpserver.expect_request("/api/version").respond_with_json({"version": "0.34.4"})
    httpserver.expect_request("/api/tags").respond_with_json({"models": [one]})
    httpserver.expect_request("/api/ps").respond_with_json({"models": []})
    httpserver.expect_request("/api/show").respond_with_json({"details": {}})
    for each in ("/api/chat", "/v1/chat/completions", "/v1/responses", "/v1/messages"):
        if each == path:
            httpserver.expect_request(each).respond_with_data("<h1>busy</h1>", status=status)
        else:
            httpserver.expect_request(each).respond_with_json({})
    with pytest.raises(ServerError, match=str(status)):
        smoke_server(server, "x", TokenizerVersion.V13, prompt_tokens=256)


def test_a_loaded_neighbour_that_cannot_be_shown_fails_no_check(
    httpserver: HTTPServer, server: Server
) -> None:
    loaded = [
        {"name": "y-cloud:latest", "digest": "e", "context_length": 9},
        {"name": "z:latest", "digest": "f", "context_length": 32768},
    ]
    one = {"name": "x:latest", "digest": "d", "size": 1}

    def show(request: Request) -> Response:
        if json.loads(request.data)["model"] == "y-cloud:latest":
            return Response('{"error": "ollama cloud is disabled"}', 403)
        return Response(json.dumps({"modelfile": f"FROM /m/blobs/sha256-{'a' * 64}"}))

    for path, body in (
        ("/api/version", {"version": "0.34.4"}),
        ("/api/tags", {"models": [one]}),
        ("/api/ps", {"models": loaded}),
        ("/api/chat", {"message": {"content": "a"}}),
    ):
        httpserver.expect_request(path).respond_with_json(body)
    httpserver.expect_request("/api/show").respond_with_handler(show)
    for path in ("/v1/chat/completions", "/v1/responses", "/v1/messages"):
        httpserver.expect_request(path).respond_with_json({})
    report = smoke_server(server, "x", TokenizerVersion.V13, prompt_tokens=256)
    found = {each.id: each for each in report.checks}
    # The engine that another name on the same weights started is found behind it.
    assert found["context"].saw.startswith("32768 tokens")


GONE = "stat /models/manifests/registry.ollama.ai/library/a/b: no such file or directory"
TORN = "unexpected EOF"


class Answers:
    """Gives one answer after the other, and counts."""

    def __init__(self, *answers: tuple[int, dict[str, Any]]) -> None:
        self._answers = list(answers)
        self.given = 0

    def __call__(self, _request: Request) -> Response:
        status, body = self._answers[min(self.given, len(self._answers) - 1)]
        self.given += 1
        return Response(json.dumps(body) + "\n", status)


@pytest.mark.parametrize(
    "passing",
    [
        (400, {"error": GONE}),
        (500, {"error": GONE}),
        (500, {"error": "EOF"}),
        (404, {"error": "model 'a' not found"}),
    ],
)
def test_an_answer_of_a_passing_moment_is_not_the_last_word(
    httpserver: HTTPServer, server: Server, passing: tuple[int, dict[str, Any]]
) -> None:
    show, copy = Answers(passing, (200, {"system": "here"})), Answers(passing, (200, {}))
    httpserver.expect_request("/api/show").respond_with_handler(show)
    httpserver.expect_request("/api/copy").respond_with_handler(copy)
    assert server.show("a").system == "here"
    server.copy("a", "b")
    assert (show.given, copy.given) == (2, 2)


def test_however_busy_others_are_it_says_nothing_of_what_was_asked(
    httpserver: HTTPServer, server: Server
) -> None:
    show = Answers(*[(400, {"error": GONE})] * 20, (200, {"system": "here"}))
    gone = Answers(*[(404, {"error": "model 'a' not found"})] * 20, (200, {}))
    httpserver.expect_request("/api/show").respond_with_handler(show)
    httpserver.expect_request("/api/delete").respond_with_handler(gone)
    there = [{"name": "a:latest", "digest": "d"}]
    httpserver.expect_request("/api/tags").respond_with_handler(
        lambda _: Response(json.dumps({"models": there if gone.given < 21 else []}))
    )
    assert server.show("a").system == "here"
    server.delete("a")
    assert (show.given, gone.given) == (21, 21)


def test_a_model_that_is_not_there_is_so_said_in_the_end(
    httpserver: HTTPServer, server: Server
) -> None:
    httpserver.expect_request("/api/copy").respond_with_json(
        {"error": "model 'a' not found"}, status=404
    )
    with pytest.raises(ModelNotFound, match="model 'a' not found"):
        server.copy("a", "b")


def test_a_creation_that_another_request_disturbed_is_repeated(
    httpserver: HTTPServer, server: Server
) -> None:
    # The status is 200 where the trouble comes after the first line.
    answers = Answers((400, {"error": GONE}), (200, {"error": GONE}), (200, {"status": "success"}))
    httpserver.expect_request("/api/create").respond_with_handler(answers)
    server.create({"model": "a"}, silent)
    assert answers.given == 3


def test_a_creation_from_cut_weights_is_not_repeated(
    httpserver: HTTPServer, server: Server
) -> None:
    answers = Answers((200, {"error": TORN}), (200, {"status": "success"}))
    httpserver.expect_request("/api/create").respond_with_handler(answers)
    with pytest.raises(ServerError, match="cut short"):
        server.create({"model": "a"}, silent)
    assert answers.given == 1


def test_an_engine_that_ended_is_not_started_again(httpserver: HTTPServer, server: Server) -> None:
    answers = Answers((500, {"error": "EOF"}), (200, {"message": {}}))
    httpserver.expect_request("/api/chat").respond_with_handler(answers)
    with pytest.raises(ServerError, match="EOF"):
        server.chat({"model": "a"})
    assert answers.given == 1


def test_a_pull_that_another_request_disturbed_is_repeated(
    httpserver: HTTPServer, server: Server
) -> None:
    answers = Answers((400, {"error": GONE}), (200, {"status": "success"}))
    httpserver.expect_request("/api/pull").respond_with_handler(answers)
    server.pull("a", insecure=False, advance=silent)
    assert answers.given == 2


@pytest.mark.parametrize(
    ("others", "asked"), [(["x:latest"], 1), (["x:latest", f"a:latest-{'0' * 12}"], 2)]
)
def test_only_a_name_that_has_builds_can_be_hidden_for_a_moment(
    httpserver: HTTPServer, server: Server, others: list[str], asked: int
) -> None:
    def listed(*names: str) -> tuple[int, dict[str, Any]]:
        return 200, {"models": [{"name": each, "digest": "d"} for each in names]}

    answers = Answers(listed(*others), listed("a:latest", *others))
    httpserver.expect_request("/api/tags").respond_with_handler(answers)
    assert (find_model(server.models_with("a"), "a") is not None) == (asked == 2)
    assert answers.given == asked
