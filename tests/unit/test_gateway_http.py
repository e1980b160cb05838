"""HTTP as other clients than most speak it."""

from __future__ import annotations

import json
import socket

import httpx
import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Response

from tests.testbed.gateway import gateway_in_thread
from tests.unit.test_gateway_meant import (
    ANSWER,
    ASKED,
    OTHER,
    OURS,
    PATHS,
    chats,
    gateway,
    lines,
    upstream,
)

__all__ = ["gateway", "lines", "upstream"]


def said_to(client: httpx.Client, sent: bytes) -> bytes:
    """What comes of bytes on a connection of their own, until it is closed."""
    with socket.create_connection((client.base_url.host, client.base_url.port or 0), 20) as there:
        there.sendall(sent)
        return there.makefile("rb").read()


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
def test_who_would_rather_have_http2_is_answered_as_others_are(
    gateway: httpx.Client, upstream: HTTPServer, path: str
) -> None:
    """Java's client asks so with its first request."""
    upstream.expect_request(path).respond_with_json(ANSWER)
    body = {"model": OURS, **ASKED["/api/chat"]}
    asking = {
        "connection": "Upgrade, HTTP2-Settings",
        "http2-settings": "AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
        "upgrade": "h2c",
    }
    assert gateway.post(path, json=body, headers=asking).json() == ANSWER
    assert gateway.post(path, json=body).json() == ANSWER
    assert [each.get_json()["model"] for each in chats(upstream)] == [OURS, OURS]
    assert not any(
        name in each.headers for each in chats(upstream) for name in ("Upgrade", "Trailer")
    )


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("model", [OURS, OTHER])
def test_a_client_that_knows_of_no_pieces_gets_the_whole(
    gateway: httpx.Client, upstream: HTTPServer, path: str, model: str
) -> None:
    pieces = f"{json.dumps(ANSWER)}\n".encode()
    for each in {"/api/chat", path}:
        handler = upstream.expect_request(each)
        handler.respond_with_handler(lambda _: Response(iter([pieces[:9], pieces[9:]])))
    body = json.dumps({"model": model, **ASKED[path], "stream": True}).encode()
    head = f"POST {path} HTTP/1.0\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    answer, _, content = said_to(gateway, head + body).partition(b"\r\n\r\n")
    assert b" 200 " in answer
    assert b"chunked" not in answer
    assert f"content-length: {len(content)}".encode() in answer
    assert b'"Hi"' in content or b"Hi" in content


def test_who_never_says_what_is_wanted_is_not_waited_for(
    upstream: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ollama_tools.gateway.heads.HEAD_SECONDS", 0.3)
    upstream.expect_request("/api/version").respond_with_data("slow, and answered")
    url = upstream.url_for("/").rstrip("/")
    with (
        gateway_in_thread(url, []) as found,
        httpx.Client(base_url=found, trust_env=False, timeout=20) as client,
    ):
        assert said_to(client, b"") == b""
        assert said_to(client, b"GET /api/version HTTP/1.1\r\nHost: localhost\r\n") == b""
        whole = b"GET /api/version HTTP/1.1\r\nHost: localhost\r\n\r\n"
        # Between two requests, too.
        assert said_to(client, whole + whole[:9]).endswith(b"slow, and answered")
