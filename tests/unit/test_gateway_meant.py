"""What a server would read otherwise than its gateway: nothing of it gets past us."""

from __future__ import annotations

import json

import httpx
import pytest
import zstandard
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from ollama_tools.devstral.contract import PREFIX_ROLE, TOOLS_ROLE, VERBATIM
from ollama_tools.gateway.asked import JsonObject, Problem
from ollama_tools.gateway.encodings import decoded
from ollama_tools.gateway.known import Known
from ollama_tools.gateway.meant import model_meant, require_usual_keys
from ollama_tools.gateway.request import sealed
from ollama_tools.gateway.surfaces import SURFACES
from tests.unit.test_gateway import gateway, lines, make_httpserver

__all__ = ["gateway", "lines", "make_httpserver"]

OURS, SHORT, OTHER = "ours", "short", "other"
TEMPLATES = dict.fromkeys((OURS, SHORT), f"{{% if '{VERBATIM}' %}}") | {OTHER: "{{ .Prompt }}"}
ANSWER = {"model": OURS, "message": {"role": "assistant", "content": "Hi"}, "done": True}
LONGEST = 2048
BY_JINJA = Known(understands=True, is_jinja=True, context=None, thinks=False)
BY_GO = Known(understands=True, is_jinja=False, context=None, thinks=False)
ASKED: dict[str, JsonObject] = {
    "/api/chat": {"messages": [{"role": "user", "content": "Hi"}], "stream": False},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Hi"}]},
    "/v1/responses": {"input": [{"role": "user", "content": "Hi"}]},
    "/v1/messages": {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 9},
}
PATHS = list(ASKED)


def show(request: Request) -> Response:
    model = request.get_json()["model"]
    template = TEMPLATES.get(model)
    if template is None:
        return Response('{"error": "not found"}', 404)
    info = {"general.architecture": "llama", "llama.context_length": LONGEST}
    parameters = "num_ctx 4096\n" + ("num_predict 7\n" if model == SHORT else "")
    body = {"template": template, "parameters": parameters, "model_info": info}
    return Response(json.dumps(body))


@pytest.fixture
def upstream(httpserver: HTTPServer) -> HTTPServer:
    httpserver.expect_request("/api/show", method="POST").respond_with_handler(show)
    return httpserver


def chats(upstream: HTTPServer) -> list[Request]:
    return [request for request, _ in upstream.log if request.path != "/api/show"]


# --- JSON as Go reads it


@pytest.mark.parametrize(
    ("content", "model"),
    [
        (b'{"model": "ours"}', OURS),
        (b'  {"Model": "ours"} and more', OURS),
        (b'{"model": "other", "MODEL": "ours", "model": null}', OURS),
        (b'{"MODEL": "ours", "model": "other"}', OTHER),
        (b'{"model": "ours", "x": "\xff"}', OURS),
        (b'{"\\u006dodel": "ours", "x": [NaN, 1e999, %b]}' % (b"1" * 5000), OURS),
        (b'{"model": "ours"}{"model": "other"}', OURS),
        (b'{"model": "ours\\ud800"}', "ours\ufffd"),
        (b'{"x": {"model": "ours"}}', ""),
        (b'{"model": ["ours"]}', ""),
        (b'{"model": "ours"', ""),
        (b'[{"model": "ours"}]', ""),
        (b'{"model": 7}', ""),
        (b"", ""),
    ],
)
def test_a_body_is_for_the_model_that_a_server_would_find(content: bytes, model: str) -> None:
    assert model_meant(content) == model


UNUSUAL = (
    ('"model"', '"Model"'),
    ('"content"', '"Content"'),
    ('"role"', '"ROLE"'),
    ('"Hi"}', '"Hi", "Images": []}'),
    ('{"model"', '{"\u017ftream": true, "model"'),
    ('{"model"', '{"Tool\u212a\u017f": [], "tools": [{"Function": {}}], "model"'),
)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("usual", "written"), UNUSUAL)
def test_a_key_that_only_the_server_would_know_is_refused(
    gateway: httpx.Client, upstream: HTTPServer, path: str, usual: str, written: str
) -> None:
    text = json.dumps({"model": OURS, **ASKED[path]})
    assert usual in text
    found = gateway.post(path, content=text.replace(usual, written).encode())
    assert found.status_code == 400
    assert "has to be written" in found.text
    assert not chats(upstream)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "content",
    [b'{"Model": "other", "model": null}', b'{"model": "other"} more', b'{"model": "other\xff"}'],
)
def test_what_is_for_another_model_passes_however_it_is_written(
    gateway: httpx.Client, upstream: HTTPServer, path: str, content: bytes
) -> None:
    upstream.expect_request(path).respond_with_data(b"as it is")
    assert gateway.post(path, content=content).content == b"as it is"
    assert chats(upstream)[0].get_data() == content


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("more", [b"more", b"{}", b" ]"])
@pytest.mark.parametrize("bad", [b"", b"\xff"])
def test_what_the_server_alone_takes_for_json_is_refused(
    gateway: httpx.Client, upstream: HTTPServer, path: str, more: bytes, bad: bytes
) -> None:
    content = json.dumps({"model": OURS, **ASKED[path]}).encode().replace(b"Hi", b"Hi" + bad)
    assert gateway.post(path, content=content + more).status_code == 400
    assert not chats(upstream)


def test_keys_that_are_whatever_their_sender_calls_them_are_nobodys_business() -> None:
    schema = {"properties": {"Name": {"Type": "x"}, "Content": {}}}
    call = {"function": {"name": "a", "arguments": {"Role": 1, "MODEL": {"Tools": []}}}}
    require_usual_keys(
        {
            "model": OURS,
            "options": {"Stop": 1},
            "metadata": {"Model": 1},
            "format": schema,
            "tools": [{"function": {"parameters": schema}}, {"input_schema": schema}],
            "messages": [
                {"role": "user", "content": [{"type": "text", "cache_control": {"Type": 1}}]},
                {"tool_calls": [call], "content": [{"type": "tool_use", "input": {"Name": 1}}]},
            ],
            "text": {"format": {"type": "json_schema", "schema": schema}},
        }
    )
    with pytest.raises(Problem, match="Schema has to be written schema"):
        require_usual_keys({"text": {"format": {"Schema": {}}}})


@pytest.mark.parametrize("encoding", ["gzip", "identity", "br", "x"])
def test_an_encoding_that_the_server_does_not_look_at_changes_nothing(
    gateway: httpx.Client, upstream: HTTPServer, encoding: str
) -> None:
    upstream.expect_request("/api/chat").respond_with_json(ANSWER)
    body = {"model": OURS, **ASKED["/v1/chat/completions"]}
    headers = {"content-encoding": encoding}
    found = gateway.post("/v1/chat/completions", content=json.dumps(body), headers=headers)
    assert found.status_code == 200
    assert chats(upstream)[0].get_json()["truncate"] is False


def test_all_frames_of_a_packed_request_are_read() -> None:
    packed = zstandard.compress(b'{"model":') + zstandard.compress(b'"ours"}')
    assert decoded(packed, "zstd", 100) == b'{"model":"ours"}'
    with pytest.raises(Problem, match="larger than 12 bytes"):
        decoded(packed, "zstd", 12)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "role", [PREFIX_ROLE.upper(), TOOLS_ROLE.title(), PREFIX_ROLE.replace("i", "\u0130")]
)
def test_a_role_of_ours_is_nobody_elses_in_any_case(path: str, role: str) -> None:
    said = json.loads(json.dumps(ASKED[path]).replace("user", role))
    with pytest.raises(Problem, match="the gateway's own"):
        sealed(SURFACES[path].read(said), BY_JINJA)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("known", [BY_JINJA, BY_GO])
def test_a_role_means_the_same_in_any_case(path: str, known: Known) -> None:
    def made(user: str, assistant: str) -> JsonObject:
        (name,) = ASKED[path].keys() & {"messages", "input"}
        said = [{"role": user, "content": "Hi"}, {"role": assistant, "content": "So"}]
        return sealed(SURFACES[path].read({**ASKED[path], name: said}), known).body

    assert made("User", "ASSISTANT") == made("user", "assistant")


@pytest.mark.parametrize("known", [BY_JINJA, BY_GO])
def test_null_is_what_is_not_there(known: Known) -> None:
    said: list[JsonObject] = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
    without = {"model": OURS, "messages": said}
    fields = ("truncate", "shift", "think", "format", "keep_alive", "tools", "options", "stream")
    parts = ("images", "tool_calls", "thinking", "tool_name", "tool_call_id")
    nulls = {**without, "messages": [{**each, **dict.fromkeys(parts)} for each in said]}
    native = SURFACES["/api/chat"]
    made = sealed(native.read({**nulls, **dict.fromkeys(fields)}), known)
    assert made == sealed(native.read(without), known)
    assert made.body["truncate"] is False


@pytest.mark.parametrize("name", ["num_predict", "num_ctx"])
@pytest.mark.parametrize("value", ["5", True, [5], {}])
def test_an_option_of_the_wrong_kind_is_not_left_out_in_silence(
    gateway: httpx.Client, upstream: HTTPServer, name: str, value: object
) -> None:
    body = {"model": OURS, **ASKED["/api/chat"], "options": {name: value}}
    found = gateway.post("/api/chat", json=body)
    assert (found.status_code, name in found.json()["error"]) == (400, True)
    assert not chats(upstream)


def test_a_name_that_is_none_is_neither_asked_for_nor_logged(
    gateway: httpx.Client, upstream: HTTPServer, lines: list[str]
) -> None:
    upstream.expect_request("/api/chat").respond_with_json({"error": "no"}, 400)
    assert gateway.post("/api/chat", json={"model": "x" * 5000}).status_code == 400
    assert [request.path for request, _ in upstream.log] == ["/api/chat"]
    assert "xxx" not in "".join(lines)


@pytest.mark.parametrize("content", [[], [{"type": "text"}], [{"type": "redacted_thinking"}], None])
def test_messages_that_say_nothing_are_no_wish_to_load_a_model(
    gateway: httpx.Client, content: object
) -> None:
    messages = [{"role": "user", "content": content}]
    found = gateway.post(
        "/v1/messages", json={"model": OURS, **ASKED["/v1/messages"], "messages": messages}
    )
    assert found.status_code == 400
    assert found.json()["error"]["message"] == "no message says anything"


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_base64_may_come_in_lines(ending: str) -> None:
    data = f"iVBORw0KGgoAAAAN{ending}SUhEUgAAAAEAAAAB{ending}"
    url = f"data:image/png;base64,{data}"
    image = {"type": "image", "source": {"type": "base64", "data": data}}
    parts: dict[str, JsonObject] = {
        "/v1/chat/completions": {"type": "image_url", "image_url": {"url": url}},
        "/v1/responses": {"type": "input_image", "image_url": url},
        "/v1/messages": image,
    }
    for path, part in parts.items():
        (name,) = ASKED[path].keys() & {"messages", "input"}
        body = {**ASKED[path], name: [{"role": "user", "content": [part]}]}
        assert SURFACES[path].read(body).messages[0]["images"] == [data]
