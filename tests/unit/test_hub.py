"""The hub's client against answers that the hub does not give, or should not."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from ollama_tools.errors import DevstralError, HubAway, HubError
from ollama_tools.files import hub, hub_answers, registry
from ollama_tools.files.hub import HubFile
from tests.testbed.dripping import DRIPS, dripping

CONTENT = b"GGUF and more"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
COMMIT = "a" * 40
FILE = HubFile("me/x-GGUF", "x-Q4_K_M.gguf")
RESOLVE = "/me/x-GGUF/resolve/main/x-Q4_K_M.gguf"
TREE = "/api/models/me/x-GGUF/tree/main"


def point_to(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What HF_ENDPOINT does before huggingface_hub is imported."""
    constants = "huggingface_hub.constants"
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(f"{constants}.ENDPOINT", endpoint)
    monkeypatch.setattr(f"{constants}.HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture(autouse=True)
def mirror(httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> HTTPServer:
    """The server as the hub, and a home for the cache that nothing may leave."""
    point_to(httpserver.url_for("").rstrip("/"), monkeypatch)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.is_offline_mode", lambda: False)
    monkeypatch.setattr(hub_answers, "_WAITS", (0.01, 0.01, 0.01))
    return httpserver


def file_headers(**others: str) -> dict[str, str]:
    headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{SHA256}"', "X-Linked-ETag": f'"{SHA256}"'}
    return headers | {"X-Linked-Size": str(len(CONTENT))} | others


def serve_file(mirror: HTTPServer, headers: dict[str, str], content: bytes = CONTENT) -> None:
    mirror.expect_request(RESOLVE).respond_with_data(content, headers=headers)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "<html>It works!</html>",
        "7",
        '{"path": 7}',
        "[" * 100_000,
        "[" * 300 + "]" * 300,
        '[{"type": "file"}]',
        '[{"type": "file", "path": 7, "oid": "a", "size": 3}]',
        "null",
    ],
)
def test_a_list_of_files_that_is_none_is_one_message(mirror: HTTPServer, body: str) -> None:
    mirror.expect_request(TREE).respond_with_data(body)
    with pytest.raises(HubError) as caught:
        hub.gguf_files("me/x-GGUF", None)
    assert "me/x-GGUF" in caught.value.what
    assert "HF_ENDPOINT" in caught.value.fix


@pytest.mark.parametrize("header", ["X-Linked-ETag", "ETag", "X-Repo-Commit", "X-Xet-Hash"])
@pytest.mark.parametrize(
    "name",
    [
        "../../evil",
        "..",
        ".",
        ".hidden",
        "/etc/passwd",
        "a/b",
        "a\\b",
        "C:evil",
        "a b",
        "W/../../evil",
        "~root",
        "x" * 300,
    ],
)
def test_what_is_no_name_of_a_file_never_becomes_one(
    mirror: HTTPServer, tmp_path: Path, header: str, name: str
) -> None:
    headers = file_headers(**{header: f'"{name}"'})
    if header == "ETag":
        del headers["X-Linked-ETag"]
    serve_file(mirror, headers)
    for question in (lambda: hub.facts(FILE), lambda: hub.download(FILE)):
        with pytest.raises(HubError, match="no name of a file") as caught:
            question()
        assert header in caught.value.what
    assert [each for each in tmp_path.rglob("*") if each.is_file()] == []


@pytest.mark.parametrize(
    "etag", [SHA256, "0x8DC1F", "d41d8cd98f00b204e9800998ecf8427e-17", "abc=="]
)
def test_an_etag_of_another_kind_of_store_is_taken(mirror: HTTPServer, etag: str) -> None:
    serve_file(mirror, file_headers(**{"X-Linked-ETag": f'"{etag}"'}))
    assert hub.facts(FILE).sha256 == (SHA256 if etag == SHA256 else None)
    assert hub.download(FILE).read_bytes() == CONTENT


@pytest.mark.parametrize(
    "name",
    ["../x.gguf", "/etc/x.gguf", "a/../../x.gguf", "C:\\x.gguf", "a\\..\\x.gguf", "\x1b[31m.gguf"],
)
def test_a_listed_name_that_leads_out_of_its_folder_is_no_file(
    mirror: HTTPServer, name: str
) -> None:
    entries = [
        {"type": "file", "path": each, "oid": "a", "size": 3} for each in (name, "a/good.gguf")
    ]
    mirror.expect_request(TREE).respond_with_json(entries)
    assert hub.gguf_files("me/x-GGUF", None) == ["a/good.gguf"]


def test_an_endless_list_ends(mirror: HTTPServer) -> None:
    entry = json.dumps({"type": "file", "path": "a" * 1000, "oid": "a", "size": 3}).encode()

    def answer(_: Request) -> Response:
        def forever() -> Iterator[bytes]:
            yield b"["
            while True:
                yield (entry + b",") * 1000

        return Response(forever(), content_type="application/json")

    mirror.expect_request(TREE).respond_with_handler(answer)
    with pytest.raises(HubError, match="longer than 32 MiB"):
        hub.gguf_files("me/x-GGUF", None)


@pytest.mark.parametrize("question", [lambda: hub.facts(FILE), lambda: hub.download(FILE)])
def test_who_sends_us_elsewhere_is_told(mirror: HTTPServer, question: Callable[[], object]) -> None:
    elsewhere = f"http://u:pw@127.0.0.1:9{RESOLVE}"
    serve = mirror.expect_request(RESOLVE)
    serve.respond_with_data("", status=302, headers={"Location": elsewhere})
    with pytest.raises(HubError, match=r"redirects to http://127\.0\.0\.1:9 ") as caught:
        question()
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize("question", [lambda: hub.facts(FILE), lambda: hub.download(FILE)])
def test_what_is_no_hub_is_not_called_away(
    mirror: HTTPServer, question: Callable[[], object]
) -> None:
    mirror.expect_request(RESOLVE).respond_with_json({"hello": "world"})
    with pytest.raises(HubError, match="does not speak as the hub does"):
        question()


def test_a_circle_of_redirects_is_said(mirror: HTTPServer) -> None:
    serve = mirror.expect_request(RESOLVE)
    serve.respond_with_data("", status=302, headers={"Location": RESOLVE})
    with pytest.raises(HubError, match="in a circle"):
        hub.download(FILE)


def test_pages_that_lead_back_to_themselves_end(mirror: HTTPServer) -> None:
    link = f'<{mirror.url_for(TREE)}?cursor=1>; rel="next"'
    mirror.expect_request(TREE).respond_with_data(
        "[]", headers={"Link": link}, content_type="application/json"
    )
    with pytest.raises(HubError, match="from page to page"):
        hub.gguf_files("me/x-GGUF", None)


def test_the_token_goes_to_the_hub_and_to_no_other_host(
    mirror: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_planted")
    seen: list[tuple[str, str | None]] = []

    def answer(request: Request) -> Response:
        seen.append((request.host, request.headers.get("Authorization")))
        link = f"<http://localhost:{mirror.port}{TREE}?cursor=1>; rel=next"
        headers = {} if request.args.get("cursor") else {"Link": link}
        return Response("[]", headers=headers, content_type="application/json")

    mirror.expect_request(TREE).respond_with_handler(answer)
    point_to(f"http://127.0.0.1:{mirror.port}", monkeypatch)
    assert hub.gguf_files("me/x-GGUF", None) == []
    assert seen == [
        (f"127.0.0.1:{mirror.port}", "Bearer hf_planted"),
        (f"localhost:{mirror.port}", None),
    ]


def test_more_bytes_than_were_announced_are_not_written_on_and_on(
    mirror: HTTPServer, tmp_path: Path
) -> None:
    def answer(request: Request) -> Response:
        if request.method == "HEAD":
            return Response(headers=file_headers())
        return Response((CONTENT * 1000 for _ in range(100_000)), headers=file_headers())

    mirror.expect_request(RESOLVE).respond_with_handler(answer)
    with pytest.raises(HubError, match=f"more of .* than the {len(CONTENT)} bytes"):
        hub.download(FILE)
    assert list(tmp_path.rglob("*.incomplete")) == []


@pytest.mark.parametrize("path", [RESOLVE, TREE])
def test_an_answer_that_is_packed_unasked_is_refused(mirror: HTTPServer, path: str) -> None:
    def answer(request: Request) -> Response:
        assert request.headers["Accept-Encoding"] == "identity"
        packed = {"Content-Encoding": "gzip"} if request.method == "GET" else {}
        return Response(b"", headers=file_headers(**packed))

    mirror.expect_request(path).respond_with_handler(answer)
    with pytest.raises(HubError, match="packs its answer"):
        hub.download(FILE) if path == RESOLVE else hub.gguf_files("me/x-GGUF", None)


QUESTIONS: list[Callable[[], object]] = [
    lambda: hub.facts(FILE),
    lambda: hub.gguf_files("me/x-GGUF", None),
    lambda: hub.download(FILE),
]


def answer_after(mirror: HTTPServer, failures: int, status: int, headers: dict[str, str]) -> None:
    """Fail so often, then answer all that is asked."""
    left = [failures]

    def answer(request: Request) -> Response:
        if left[0]:
            left[0] -= 1
            return Response("<h1>no</h1>", status=status, headers=headers)
        if request.path == TREE:
            return Response("[]", content_type="application/json")
        return Response(CONTENT, headers=file_headers())

    mirror.expect_request(RESOLVE).respond_with_handler(answer)
    mirror.expect_request(TREE).respond_with_handler(answer)


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_hub_that_cannot_answer_now_is_asked_again(
    mirror: HTTPServer, question: Callable[[], object], status: int
) -> None:
    answer_after(mirror, 2, status, {"Retry-After": "0"})
    question()


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Retry-After": "soon"},
        {"Retry-After": "-1"},
        {"Retry-After": "86400"},
        {"Retry-After": "9" * 400},
        {"Retry-After": "Wed, 21 Oct 2099 07:28:00 GMT"},
        {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"},
        {"RateLimit": '"api";r=0;t=3000'},
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_asking_again_has_an_end(
    mirror: HTTPServer, question: Callable[[], object], status: int, headers: dict[str, str]
) -> None:
    answer_after(mirror, 10**6, status, headers)
    begun = time.monotonic()
    with pytest.raises(HubError, match=f"the hub answers {status}") as caught:
        question()
    assert time.monotonic() - begun < 10
    assert caught.value.fix


def test_what_the_hub_refuses_for_good_is_asked_once(mirror: HTTPServer) -> None:
    serve = mirror.expect_request(RESOLVE)
    serve.respond_with_data("", status=403)
    with pytest.raises(HubError, match="refuses"):
        hub.facts(FILE)
    assert len(mirror.log) == 1


@pytest.mark.parametrize("drip", DRIPS)
def test_time_that_was_over_before_there_was_a_connection_ends_it_all_the_same(
    monkeypatch: pytest.MonkeyPatch, drip: str
) -> None:
    monkeypatch.setattr(registry, "_WHOLE_SECONDS", 0.0)
    with dripping(drip) as url, pytest.raises(HubError, match="its answer does not end"):
        registry.Registry(url).manifest("me/x", "q")


@pytest.mark.parametrize("drip", DRIPS)
def test_an_answer_that_drips_for_ever_ends(monkeypatch: pytest.MonkeyPatch, drip: str) -> None:
    monkeypatch.setattr(hub_answers, "METADATA_SECONDS", 0.5)
    with dripping(drip) as url:
        point_to(url, monkeypatch)
        monkeypatch.setattr(registry, "_WHOLE_SECONDS", 0.5)
        if drip != "body":
            # A HEAD has no body, and a listing is taken up to its last byte.
            for question in (lambda: hub.facts(FILE), lambda: hub.download(FILE)):
                with pytest.raises(HubError, match="was not whole after"):
                    question()
        with pytest.raises(HubError, match="was not whole after"):
            hub.gguf_files(FILE.repository, None)
        with pytest.raises(HubError, match="its answer does not end"):
            registry.Registry(url).manifest("me/x", "q")


# The way to it


@pytest.fixture
def new_client() -> Iterator[None]:
    """huggingface_hub keeps the client that it has once made; nothing of ours stays with it."""
    from huggingface_hub import close_session

    close_session()
    yield
    close_session()


@pytest.mark.usefixtures("new_client")
@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"HTTPS_PROXY": "::bad"}, "HTTPS_PROXY"),
        ({"HTTPS_PROXY": "http://me:se/cret@proxy"}, "HTTPS_PROXY"),
        ({"ALL_PROXY": "foo://me:secret@proxy"}, "ALL_PROXY"),
        ({"ALL_PROXY": "socks5://me:secret@proxy:1080"}, "pip install socksio"),
        ({"SSL_CERT_FILE": "/no/such/file"}, "SSL_CERT_FILE"),
        ({"HTTPS_PROXY": "http://me:secret@127.0.0.1:9"}, "HTTPS_PROXY"),
    ],
)
def test_surroundings_that_make_the_hub_unreachable_are_named(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], words: str
) -> None:
    point_to("https://hub.invalid", monkeypatch)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
    monkeypatch.setitem(sys.modules, "socksio", None)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    for question in (lambda: hub.facts(FILE), lambda: hub.download(FILE)):
        with pytest.raises(DevstralError) as caught:
            question()
        assert words in caught.value.fix
        assert "cret" not in str(caught.value)


@pytest.mark.usefixtures("new_client")
def test_a_hub_on_this_machine_is_asked_without_any_proxy(
    mirror: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_file(mirror, file_headers())
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    # Of which httpx makes an address that cannot be.
    monkeypatch.setenv("NO_PROXY", "fd00::/8,[::1")
    assert hub.facts(FILE).sha256 == SHA256


@pytest.mark.usefixtures("new_client")
def test_a_program_with_a_client_of_its_own_is_left_alone(
    mirror: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub.utils import _http

    serve_file(mirror, file_headers())
    made = []

    def factory() -> Any:
        made.append(_http.default_client_factory())
        return made[-1]

    monkeypatch.setattr(_http, "_GLOBAL_CLIENT_FACTORY", factory)
    assert hub.facts(FILE).sha256 == SHA256
    assert _http.get_session() is made[-1]


# What is here already


def fill_cache(root: Path, *, named: str | None = "main", filename: str = FILE.filename) -> Path:
    """A file as ``hf download`` leaves it."""
    folder = root / "home" / "hub" / "models--me--x-GGUF"
    blob = folder / "blobs" / SHA256
    pointer = folder / "snapshots" / COMMIT / filename
    for each in (blob, pointer, folder / "refs" / "main"):
        each.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(CONTENT)
    pointer.symlink_to(blob)
    if named is not None:
        (folder / "refs" / named).write_text(COMMIT)
    return pointer


def go_away(way: str, mirror: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
    match way:
        case "offline":
            monkeypatch.setattr("huggingface_hub.constants.is_offline_mode", lambda: True)
        case "refused":
            with socket.socket() as taken:
                taken.bind(("127.0.0.1", 0))
                port = taken.getsockname()[1]
            point_to(f"http://127.0.0.1:{port}", monkeypatch)
        case "overloaded":
            answer_after(mirror, 10**6, 503, {})


AWAY = ["offline", "refused", "overloaded"]


@pytest.mark.parametrize("filename", ["x-Q4_K_M.gguf", "deep/down/x-Q4_K_M.gguf"])
@pytest.mark.parametrize("revision", [None, "main", COMMIT])
@pytest.mark.parametrize("way", AWAY)
def test_the_cache_answers_where_the_hub_is_away(
    mirror: HTTPServer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    way: str,
    revision: str | None,
    filename: str,
) -> None:
    pointer = fill_cache(tmp_path, filename=filename)
    go_away(way, mirror, monkeypatch)
    file = HubFile(FILE.repository, filename, revision)
    found = hub.facts(file)
    assert (found.commit, found.sha256, found.bytes) == (COMMIT, SHA256, len(CONTENT))
    assert ("HF_HUB_OFFLINE is set" in found.away) == (way == "offline")
    with pytest.raises(HubAway, match="no cache knows what has changed"):
        hub.last_change(file)
    assert hub.gguf_files(FILE.repository, revision) == [filename]
    assert hub.download(HubFile(FILE.repository, filename, found.commit)) == pointer


@pytest.mark.parametrize("way", AWAY)
def test_what_the_cache_lacks_is_one_message(
    mirror: HTTPServer, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    go_away(way, mirror, monkeypatch)
    for question in QUESTIONS:
        with pytest.raises(HubAway) as caught:
            question()
        assert caught.value.fix
        assert ("HF_HUB_OFFLINE is set" in caught.value.what) == (way == "offline")


def test_a_download_lies_in_the_cache_as_others_look_for_it(
    mirror: HTTPServer, tmp_path: Path
) -> None:
    import huggingface_hub

    mirror.expect_request(f"/me/x-GGUF/resolve/{COMMIT}/{FILE.filename}").respond_with_data(
        CONTENT, headers=file_headers()
    )
    path = hub.download(HubFile(FILE.repository, FILE.filename, COMMIT, named="main"))
    folder = tmp_path / "home" / "hub" / "models--me--x-GGUF"
    assert (folder / "refs" / "main").read_text() == COMMIT
    assert list((folder / "refs").iterdir()) == [folder / "refs" / "main"]
    assert path.resolve() == folder / "blobs" / SHA256
    assert hub.cached(FILE) == path
    found = huggingface_hub.try_to_load_from_cache(
        FILE.repository, FILE.filename, cache_dir=tmp_path / "home" / "hub"
    )
    assert found == str(path)


def test_what_a_killed_download_left_is_removed_but_not_what_is_under_way(
    mirror: HTTPServer, tmp_path: Path
) -> None:
    import filelock

    serve_file(mirror, file_headers())
    folder = tmp_path / "home" / "hub" / "models--me--x-GGUF"
    locks = tmp_path / "home" / "hub" / ".locks" / folder.name
    rests = [folder / "blobs" / f"{digit * 64}.0a1b2c3d.incomplete" for digit in "12"]
    for each in (*rests, *(locks / f"{digit * 64}.lock" for digit in "12")):
        each.parent.mkdir(parents=True, exist_ok=True)
        each.write_bytes(b"")
    with filelock.FileLock(locks / f"{'2' * 64}.lock"):
        hub.download(FILE)
    assert [each.exists() for each in rests] == [False, True]


def test_what_a_download_that_was_killed_leaves_is_found_and_the_next_one_ends_without_it(
    mirror: HTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, killed = threading.Event(), threading.Event()
    file = HubFile("me/devstral-GGUF", FILE.filename)

    def answer(request: Request) -> Response:
        headers = file_headers(**{"Content-Length": str(len(CONTENT))})
        if request.method == "HEAD" or killed.is_set():
            return Response(CONTENT, headers=headers)

        def pieces() -> Iterator[bytes]:
            yield CONTENT[:4]
            begun.set()
            killed.wait(60.0)

        return Response(pieces(), headers=headers)

    path = f"/{file.repository}/resolve/main/{file.filename}"
    mirror.expect_request(path).respond_with_handler(answer)
    script = (
        "import sys; from ollama_tools.files import hub; hub.download(hub.HubFile(*sys.argv[1:]))"
    )
    environment = {**os.environ, "HF_ENDPOINT": mirror.url_for("").rstrip("/")}
    with subprocess.Popen(
        [sys.executable, "-c", script, file.repository, file.filename],
        env=environment | {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"},
    ) as process:
        assert begun.wait(60.0)
        process.kill()
    killed.set()
    (rest,) = hub.broken_downloads()
    assert hub.download(file).read_bytes() == CONTENT
    assert not rest.exists()
    assert hub.broken_downloads() == []
