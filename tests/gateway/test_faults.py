"""What goes wrong before and behind the gateway: each request ends whole, or with a clear error."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from ollama_tools.devstral.contract import PREFIX_ROLE
from ollama_tools.files.remembered import file_sha256
from ollama_tools.gateway.surfaces import SURFACES
from ollama_tools.server.client import Server
from tests.live.test_create import Heard
from tests.testbed.build import NEWEST, ollama_build
from tests.testbed.faults.bodies import page
from tests.testbed.faults.kinds import (
    Cut,
    Fault,
    Length,
    Lost,
    Refuse,
    ResetAnswer,
    Say,
    Stall,
    json_answer,
)
from tests.testbed.faults.proxy import ONCE, FaultProxy, When
from tests.testbed.gateway import GatewayServer, write_endless
from tests.testbed.server import OllamaServer

MODEL = "endless"
TOKENS = 24
AT_ONCE = 200
PATHS = list(SURFACES)
ENDS = {
    "/api/chat": '"done":true',
    "/v1/chat/completions": "data: [DONE]",
    "/v1/responses": "event: response.incomplete",
    "/v1/messages": "event: message_stop",
}
ERRORS = {
    "/api/chat": '{"error":',
    "/v1/chat/completions": 'data: {"error":',
    "/v1/responses": "event: response.failed",
    "/v1/messages": "event: error",
}


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OllamaServer]:
    """A server with a model that goes on and on."""
    root = tmp_path_factory.mktemp("gateway-faults")
    path = root / "endless.gguf"
    write_endless(path)
    with OllamaServer(
        ollama_build(NEWEST), models_dir=root / "models", log_path=root / "ollama.log"
    ) as found:
        with Server(found.url) as server:
            digest = f"sha256:{file_sha256(path, Heard())}"
            server.upload(path, digest, lambda *_: None)
            request = {"model": MODEL, "files": {"model.gguf": digest}}
            parameters = {"num_ctx": 2048, "num_thread": 1}
            server.create({**request, "parameters": parameters}, lambda *_: None)
        yield found


def asking(path: str, *, stream: bool, tokens: int = TOKENS) -> dict[str, Any]:
    body: dict[str, Any] = {"model": MODEL, "stream": stream}
    said = [{"role": "user", "content": "Go on."}]
    match path:
        case "/api/chat":
            return {**body, "messages": said, "options": {"num_predict": tokens}}
        case "/v1/responses":
            return {**body, "input": said, "max_output_tokens": tokens}
        case _:
            return {**body, "messages": said, "max_tokens": tokens}


@dataclass(frozen=True)
class Ended:
    """How a request ended for its client."""

    path: str
    status: int
    text: str

    @property
    def is_whole(self) -> bool:
        return self.status == 200 and ENDS[self.path] in self.text

    @property
    def has_error(self) -> bool:
        """Whether the end of a stream that had begun says that it is none."""
        return self.status == 200 and ERRORS[self.path] in self.text


async def _ask(client: httpx.AsyncClient, path: str, begun: list[str]) -> Ended:
    text = ""
    async with client.stream("POST", path, json=asking(path, stream=True, tokens=8)) as answer:
        begun.append(path)
        async for piece in answer.aiter_text():
            text += piece
    return Ended(path, answer.status_code, text)


async def _all_through_a_restart(url: str, bed: OllamaServer) -> list[Ended]:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(
        base_url=url, timeout=60, limits=limits, trust_env=False
    ) as client:
        begun: list[str] = []
        asked = [
            asyncio.ensure_future(_ask(client, PATHS[number % len(PATHS)], begun))
            for number in range(AT_ONCE)
        ]
        while len(begun) < AT_ONCE // 8:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(bed.restart)
        return await asyncio.gather(*asked)


def test_a_restart_under_200_streams_ends_none_of_them_without_a_word(
    bed: OllamaServer, tmp_path: Path
) -> None:
    with GatewayServer(bed.url, log_path=tmp_path / "gateway.log") as gateway:
        ended = asyncio.run(_all_through_a_restart(gateway.url, bed))
    unclear = [each for each in ended if each.is_whole is each.has_error]
    assert not unclear, (unclear[0].path, unclear[0].text[-600:])
    # One is answered at a time: those that had not begun are, by the server's next start.
    broken = [each for each in ended if each.has_error]
    assert len(broken) <= 2
    assert {each.path for each in ended if each.is_whole} == set(PATHS)


@pytest.fixture(scope="module")
def behind(bed: OllamaServer) -> Iterator[FaultProxy]:
    with FaultProxy(bed.port) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def gateway(
    behind: FaultProxy, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayServer]:
    log = tmp_path_factory.mktemp("gateway") / "gateway.log"
    options = ("--wait", "2", "--silence", "1")
    with GatewayServer(behind.url, *options, log_path=log) as found:
        yield found


@pytest.fixture
def client(gateway: GatewayServer, behind: FaultProxy) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=gateway.url, timeout=30, trust_env=False) as found:
        # The model is known, and loaded.
        assert found.post("/api/chat", json=asking("/api/chat", stream=False)).status_code == 200
        yield found
        behind.heal()


FULL = Say(503, b'{"error":"server busy"}', "application/json")
UNTIL_IT_ANSWERS: Mapping[str, tuple[Fault, When]] = {
    "full twice": (FULL, When(count=2)),
    "away for a moment": (Refuse(0.5), ONCE),
    "lost without a byte": (Lost(), ONCE),
    "reset without a byte": (ResetAnswer(0), ONCE),
}
REFUSED: Mapping[str, tuple[Fault, int]] = {
    "full for ever": (FULL, 503),
    "away for ever": (Refuse(), 502),
    "says nothing": (Stall(), 504),
    "a page": (Say(200, page("Welcome")), 502),
    "a page of a proxy": (Say(502, page("Bad Gateway")), 502),
    "half of an answer": (Cut(0.5), 502),
    "a length that is too long": (Length(50), 502),
    "an answer of something else": (json_answer(200, {"ok": True}), 502),
}


@pytest.mark.parametrize("name", UNTIL_IT_ANSWERS)
@pytest.mark.parametrize("stream", [False, True])
def test_a_server_that_fails_before_the_first_byte_is_asked_again(
    client: httpx.Client, behind: FaultProxy, name: str, stream: bool
) -> None:
    fault, when = UNTIL_IT_ANSWERS[name]
    behind.fail(fault, path="/api/chat", when=when)
    path = "/v1/chat/completions"
    answer = client.post(path, json=asking(path, stream=stream))
    assert answer.status_code == 200, answer.text
    assert '"finish_reason":"length"' in answer.text


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("path", PATHS)
def test_what_cannot_be_answered_is_said_in_the_surfaces_own_words(
    client: httpx.Client, behind: FaultProxy, name: str, path: str
) -> None:
    fault, status = REFUSED[name]
    behind.fail(fault, path="/api/chat")
    started = time.monotonic()
    answer = client.post(path, json=asking(path, stream=False))
    assert answer.status_code == status, answer.text[:200]
    error = answer.json()["error"]
    assert error if path == "/api/chat" else error["message"]
    assert time.monotonic() - started < 15


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("fault", [ResetAnswer(1500), Stall(1500)], ids=["reset", "stall"])
def test_a_stream_that_breaks_off_behind_it_ends_with_an_error(
    client: httpx.Client, behind: FaultProxy, path: str, fault: Fault
) -> None:
    behind.fail(fault, path="/api/chat")
    answer = client.post(path, json=asking(path, stream=True))
    ended = Ended(path, answer.status_code, answer.text)
    assert ended.has_error
    assert not ended.is_whole


def test_a_request_that_never_ends_holds_nobody_up(
    client: httpx.Client, gateway: GatewayServer
) -> None:
    head = b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{"
    with socket.create_connection(("127.0.0.1", gateway.port)) as stalled:
        stalled.sendall(head)
        answer = client.post("/api/chat", json=asking("/api/chat", stream=False))
        assert answer.status_code == 200
    until = time.monotonic() + 5
    while '"outcome": "gone"' not in gateway.log:
        assert time.monotonic() < until, "who has hung up is still waited for"
        time.sleep(0.05)


def test_a_head_that_never_ends_is_not_taken_for_ever(gateway: GatewayServer) -> None:
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ")
        with pytest.raises(OSError, match=r"reset|[Bb]roken pipe"):
            connection.sendall(b"a" * 32 * 2**20)


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /api/chat HTTP/1.1\r\nHost: ::1\r\nContent-Length: 2\r\nContent-Length: 9\r\n\r\n{}",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: " + b"a" * 200_000 + b"\r\n\r\n",
    ],
    ids=["version", "tls", "chunks", "negative", "two lengths", "long path", "long header"],
)
def test_what_is_no_http_is_refused(
    client: httpx.Client, gateway: GatewayServer, behind: FaultProxy, sent: bytes
) -> None:
    seen = len(behind.asked)
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as connection:
        answer = b""
        # Who is answered early may be hung up on.
        with contextlib.suppress(OSError):
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(100)
    assert not answer or answer.split()[1].startswith(b"4")
    assert len(behind.asked) == seen
    found = client.post("/api/chat", json=asking("/api/chat", stream=False))
    assert json.loads(found.content)["done"] is True


TEXT = "What is asked."
DEEP = 3000
MANGLED: Mapping[str, tuple[str, str]] = {
    "no JSON": ('"model"', "model"),
    "cut off": (f'"{TEXT}"', f'"{TEXT}'),
    "a key that is there twice": ('"stream"', f'"model": "{MODEL}", "stream"'),
    "NaN": (f'"{TEXT}"', "NaN"),
    "Infinity": ('"maximum": 1', '"maximum": Infinity'),
    "a number for a text": (f'"{TEXT}"', "7"),
    "half of a character": (f'"{TEXT}"', r'"\ud800"'),
    "a number that is none": ('"maximum": 1', '"maximum": 1e400'),
    "a number of 5000 digits": ('"maximum": 1', f'"maximum": {"1" * 5000}'),
    "depth": (f'"{TEXT}"', "[" * DEEP + "]" * DEEP),
    "no role": ('"role": "user"', '"rule": "user"'),
    "a number for a role": ('"role": "user"', '"role": 7'),
    "a role of the gateway's own": ('"role": "user"', f'"role": "{PREFIX_ROLE}"'),
    "a role of the gateway's own in capitals": ('"user"', f'"{PREFIX_ROLE.upper()}"'),
    "a key in another case": ('"content"', '"Content"'),
    "the model under a key in another case": ('"model"', '"Model"'),
    "bytes that are no text": (TEXT, "\udcff"),
    "a tool without a name": ('"name": "read"', '"name": ""'),
    "a tool that is a text": ('"tools": [', '"tools": ["read", '),
    "tools that are an object": ('"tools": [', '"tools": {}, "rest": ['),
}


def body_of(path: str) -> str:
    """A request with a tool."""
    schema = {"type": "object", "properties": {"n": {"type": "number", "maximum": 1}}}
    tool = {"name": "read", "description": "Reads."}
    body = asking(path, stream=False)
    (message,) = body["input" if path == "/v1/responses" else "messages"]
    message["content"] = TEXT
    match path:
        case "/v1/responses":
            body["tools"] = [{"type": "function", **tool, "parameters": schema}]
        case "/v1/messages":
            body["tools"] = [{**tool, "input_schema": schema}]
        case _:
            body["tools"] = [{"type": "function", "function": {**tool, "parameters": schema}}]
    return json.dumps(body)


@pytest.mark.parametrize("name", MANGLED)
@pytest.mark.parametrize("path", PATHS)
def test_a_request_that_cannot_be_meant_is_refused(
    client: httpx.Client, behind: FaultProxy, path: str, name: str
) -> None:
    good, bad = MANGLED[name]
    body = body_of(path)
    assert good in body
    seen = len(behind.asked)
    content = body.replace(good, bad).encode(errors="surrogateescape")
    answer = client.post(path, content=content)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error if path == "/api/chat" else error["message"]
    # Of what cannot even name a model the server judges itself.
    asked = [each.target for each in behind.asked[seen:]]
    assert asked in ([], ["/api/show"], [path])


_NO_FLAG: Sequence[object] = ("yes", 1, [], {"a": 1})
_NO_NUMBER: Sequence[object] = ("x", True, [], {"a": 1})
_NO_WHOLE_NUMBER: Sequence[object] = (*_NO_NUMBER, 1.5, 1e300)
_NO_TEXTS: Sequence[object] = (1, True, {"a": 1}, [1])
_NO_OBJECT: Sequence[object] = ("x", 1, True, [1])
WRONG_KIND: Mapping[str, Mapping[str, Sequence[object]]] = {
    "/api/chat": {"stream": _NO_FLAG, "shift": _NO_FLAG, "think": (1, [1], {"a": 1})},
    "/v1/chat/completions": {
        "stream": _NO_FLAG,
        "temperature": _NO_NUMBER,
        "top_p": _NO_NUMBER,
        "frequency_penalty": _NO_NUMBER,
        "presence_penalty": _NO_NUMBER,
        "seed": _NO_WHOLE_NUMBER,
        "max_tokens": _NO_WHOLE_NUMBER,
        "logprobs": _NO_FLAG,
        "stream_options": _NO_OBJECT,
    },
    "/v1/responses": {
        "stream": _NO_FLAG,
        "temperature": _NO_NUMBER,
        "top_p": _NO_NUMBER,
        "max_output_tokens": _NO_WHOLE_NUMBER,
        "truncation": (1, True, [], {"a": 1}),
        "include": _NO_TEXTS,
    },
    "/v1/messages": {
        "stream": _NO_FLAG,
        "temperature": _NO_NUMBER,
        "top_p": _NO_NUMBER,
        "top_k": _NO_WHOLE_NUMBER,
        "max_tokens": _NO_WHOLE_NUMBER,
        "stop_sequences": _NO_TEXTS,
        "metadata": _NO_OBJECT,
    },
}


@pytest.mark.parametrize(
    ("path", "name"), [(path, name) for path, names in WRONG_KIND.items() for name in names]
)
def test_a_setting_of_the_wrong_kind_is_refused_as_the_server_refuses_it(
    client: httpx.Client, behind: FaultProxy, bed: OllamaServer, path: str, name: str
) -> None:
    for value in WRONG_KIND[path][name]:
        body = {**asking(path, stream=False), name: value}
        seen = len(behind.asked)
        answer = client.post(path, json=body)
        straight = httpx.post(f"{bed.url}{path}", json=body, timeout=30, trust_env=False)
        assert (answer.status_code, straight.status_code) == (400, 400), f"{value}: {answer.text}"
        error = answer.json()["error"]
        assert name in (error if path == "/api/chat" else error["message"])
        assert all(each.target == "/api/show" for each in behind.asked[seen:])


@pytest.mark.parametrize("path", PATHS)
def test_an_unknown_role_is_the_servers_to_judge(
    client: httpx.Client, bed: OllamaServer, path: str
) -> None:
    said = json.dumps(asking(path, stream=False))
    body = said.replace('"role": "user"', '"role": "wizard"')
    straight = httpx.post(f"{bed.url}{path}", content=body, timeout=30, trust_env=False)
    assert client.post(path, content=body).status_code == straight.status_code
