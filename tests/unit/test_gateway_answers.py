"""What a server's answers become that are not as they should be, or not whole."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from pytest_httpserver import HTTPServer

from ollama_tools.gateway.asked import JsonObject
from tests.unit.test_gateway_meant import (
    ANSWER,
    ASKED,
    LONGEST,
    OURS,
    PATHS,
    SHORT,
    chats,
    gateway,
    lines,
    upstream,
)

__all__ = ["gateway", "lines", "upstream"]

CUT = 'llama-server returned invalid tool call arguments for "a": '
# As Go says it of `{`, `{"x": nu`, `{"x": tr`, `{"x": -`, `{"x": 1.`, `{"x": 1e`, `{"x": "\`.
ENDS = (
    "unexpected end of JSON input",
    "invalid character ' ' in literal null (expecting 'l')",
    "invalid character ' ' in literal true (expecting 'u')",
    "invalid character ' ' in numeric literal",
    "invalid character ' ' after decimal point in numeric literal",
    "invalid character ' ' in exponent of numeric literal",
    "invalid character ' ' in string escape code",
)
LENGTH = {
    "/api/chat": '"done_reason":"length"',
    "/v1/chat/completions": '"finish_reason":"length"',
    "/v1/responses": '"incomplete_details":{"reason":"max_output_tokens"}',
    "/v1/messages": '"stop_reason":"max_tokens"',
}


def asking(path: str, **more: Any) -> JsonObject:
    return {"model": OURS, **ASKED[path], **more}


def said(**more: Any) -> JsonObject:
    return {"model": OURS, "message": {"role": "assistant", "content": "", **more}}


def call(name: str, arguments: JsonObject) -> JsonObject:
    return {"id": name, "function": {"name": name, "arguments": arguments}}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("stream", [False, True])
def test_a_call_may_be_cut_off_anywhere(
    gateway: httpx.Client, upstream: HTTPServer, end: str, stream: bool
) -> None:
    upstream.expect_request("/api/chat").respond_with_json({"error": CUT + end}, 500)
    for path in PATHS:
        found = gateway.post(path, json=asking(path, stream=stream))
        assert (found.status_code, LENGTH[path] in found.text) == (200, True)


def test_a_call_that_is_none_is_the_servers_fault(
    gateway: httpx.Client, upstream: HTTPServer
) -> None:
    upstream.expect_request("/api/chat").respond_with_json({"error": f"{CUT}cannot unmarshal"}, 500)
    assert gateway.post("/api/chat", json=asking("/api/chat")).status_code == 500


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("reason", "arguments", "comes"),
    [("length", {}, False), ("length", {"x": 1}, True), ("stop", {}, True)],
)
def test_a_call_of_which_only_the_name_has_come_is_none(
    gateway: httpx.Client,
    upstream: HTTPServer,
    path: str,
    stream: bool,
    reason: str,
    arguments: JsonObject,
    comes: bool,
) -> None:
    calls = [call("before", {}), call("behind", arguments)]
    answer = {**said(tool_calls=calls), "done": True, "done_reason": reason}
    written = json.dumps(answer, separators=(",", ":"))
    upstream.expect_request("/api/chat").respond_with_data(f"{written}\n")
    found = gateway.post(path, json=asking(path, stream=stream))
    assert '"before"' in found.text
    assert ('"behind"' in found.text) is comes
    assert (LENGTH[path] in found.text) == (reason == "length")


NONSENSE: tuple[object, ...] = (
    {"message": 5, "done": True},
    {"message": {"content": "x", "tool_calls": 5}, "done": True},
    {"message": {"content": "x", "tool_calls": [{"function": 5}]}, "done": True},
    {"message": {"content": "x", "tool_calls": [{"id": "x"}]}, "done": True},
    [{"message": {}}],
    {"error": {"message": "odd"}},
)


@pytest.mark.parametrize("answer", NONSENSE)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", PATHS)
def test_nonsense_is_said_to_be_some(
    gateway: httpx.Client, upstream: HTTPServer, path: str, stream: bool, answer: object
) -> None:
    upstream.expect_request("/api/chat").respond_with_data(f"{json.dumps(answer)}\n")
    found = gateway.post(path, json=asking(path, stream=stream))
    if found.status_code == 200:
        # What its own surface hands on as it came, or breaks off with an error.
        assert path == "/api/chat" or "error" in found.text
    else:
        assert found.status_code in (500, 502)
        assert found.json()["error"]


@pytest.mark.parametrize(
    ("model", "given", "left"),
    [
        (OURS, {"num_predict": 5.0}, {"num_predict": 5}),
        (OURS, {"num_predict": 5.9, "num_ctx": 1024.0}, {"num_predict": 5, "num_ctx": 1024}),
        (OURS, {"num_predict": None}, {"num_predict": LONGEST - 99}),
        (OURS, {"num_predict": 0}, {"num_predict": 0}),
        (OURS, {"num_predict": -2}, {"num_predict": LONGEST - 99}),
        (OURS, {"num_ctx": 10**6}, {"num_predict": LONGEST - 99, "num_ctx": 10**6}),
        (OURS, {"num_ctx": 1024.5}, {"num_predict": 1024 - 99, "num_ctx": 1024}),
        (SHORT, {"seed": 1}, {"seed": 1}),
        (SHORT, {"num_predict": 9}, {"num_predict": 9}),
        (SHORT, {"num_predict": -1}, {"num_predict": LONGEST - 99}),
    ],
)
def test_an_answer_ends_where_the_client_says_or_the_engine_has_no_more_room(
    gateway: httpx.Client, upstream: HTTPServer, model: str, given: JsonObject, left: JsonObject
) -> None:
    counted = {**ANSWER, "prompt_eval_count": 99}
    upstream.expect_request("/api/chat").respond_with_json(counted)
    messages = [{"role": "user", "content": "x" * 1500}]
    body = {"model": model, "stream": False, "messages": messages, "options": given}
    assert gateway.post("/api/chat", json=body).status_code == 200
    assert chats(upstream)[-1].get_json()["options"] == left


@pytest.mark.parametrize("status", [204, 302, 304, 700, 999])
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("stream", [False, True])
def test_a_status_that_is_no_error_and_no_answer_is_the_servers_fault(
    gateway: httpx.Client, upstream: HTTPServer, status: int, path: str, stream: bool
) -> None:
    upstream.expect_request("/api/chat").respond_with_data("", status)
    found = gateway.post(path, json=asking(path, stream=stream))
    assert (found.status_code, str(status) in found.text) == (502, True)


@pytest.mark.parametrize("status", [700, 999])
def test_what_ends_no_exchange_is_not_handed_on(
    gateway: httpx.Client, upstream: HTTPServer, status: int
) -> None:
    upstream.expect_request("/api/tags").respond_with_data("", status)
    assert gateway.get("/api/tags").status_code == 502


@pytest.mark.parametrize(
    ("answer", "is_ready"),
    [('{"version": "0.34.4"}', True), ("<html>", False), ("{}", False), ("5", False)],
)
def test_a_page_of_something_else_is_no_server_that_is_ready(
    gateway: httpx.Client, upstream: HTTPServer, answer: str, is_ready: bool
) -> None:
    upstream.expect_request("/api/version").respond_with_data(answer)
    assert (gateway.get("/ready").status_code == 200) is is_ready
