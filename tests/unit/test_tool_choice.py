"""What clients say of calls: read from each surface, and kept to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from pytest_httpserver import HTTPServer

from ollama_tools.devstral.contract import PREFIX_ROLE, TOOLS_ROLE, VERBATIM, opened_call
from ollama_tools.gateway.asked import JsonObject, ToolChoice
from ollama_tools.gateway.first_calls import FirstCalls
from ollama_tools.gateway.known import Known
from ollama_tools.gateway.recalled import Recalled
from ollama_tools.gateway.repairs import Repair, Unmet
from ollama_tools.gateway.request import sealed
from ollama_tools.gateway.speech import Speech
from ollama_tools.gateway.surfaces import SURFACES
from ollama_tools.gateway.surfaces.surface import CallPart, Piece
from tests.testbed.gateway import gateway_in_thread

CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"
FORCED = ToolChoice(is_forced=True)
BY_TEXT = Known(
    understands=True, is_jinja=True, context=None, thinks=False, reads_tools_as_text=True
)
BY_GO = Known(understands=True, is_jinja=False, context=None, thinks=False)


def asking(path: str, *names: str, **more: Any) -> JsonObject:
    """A request in the words of a surface that offers tools of these names."""
    said = [{"role": "user", "content": "Hi"}]
    base: JsonObject = {"model": "m", **more}
    if path == MESSAGES:
        tools: list[JsonObject] = [{"name": name, "input_schema": {}} for name in names]
        return {"messages": said, "max_tokens": 9, "tools": tools, **base}
    if path == RESPONSES:
        tools = [{"type": "function", "name": name} for name in names]
        return {"input": said, "tools": tools, **base}
    tools = [{"type": "function", "function": {"name": name}} for name in names]
    return {"messages": said, "tools": tools, **base}


@pytest.mark.parametrize(
    ("path", "said", "meant"),
    [
        (CHAT, {}, ToolChoice()),
        (CHAT, {"tool_choice": None}, ToolChoice()),
        (CHAT, {"tool_choice": "auto"}, ToolChoice()),
        (CHAT, {"tool_choice": "none"}, ToolChoice(most=0)),
        (CHAT, {"tool_choice": "required"}, FORCED),
        # Mistral's own clients say it so.
        (CHAT, {"tool_choice": "any"}, FORCED),
        (CHAT, {"tool_choice": {"type": "function", "function": {"name": "b"}}}, FORCED.of("b")),
        (RESPONSES, {"tool_choice": {"type": "function", "name": "b"}}, FORCED.of("b")),
        (RESPONSES, {"tool_choice": "required"}, FORCED),
        (MESSAGES, {"tool_choice": {"type": "auto"}}, ToolChoice()),
        (MESSAGES, {"tool_choice": {"type": "none"}}, ToolChoice(most=0)),
        (MESSAGES, {"tool_choice": {"type": "any"}}, FORCED),
        (MESSAGES, {"tool_choice": {"type": "tool", "name": "b"}}, FORCED.of("b")),
        (CHAT, {"parallel_tool_calls": False}, ToolChoice(most=1)),
        (CHAT, {"parallel_tool_calls": None}, ToolChoice()),
        (CHAT, {"parallel_tool_calls": False, "tool_choice": "none"}, ToolChoice(most=0)),
        (RESPONSES, {"parallel_tool_calls": False, "tool_choice": "required"}, FORCED.at_most(1)),
        (
            MESSAGES,
            {"tool_choice": {"type": "any", "disable_parallel_tool_use": True}},
            FORCED.at_most(1),
        ),
        # The server's own has no such field.
        ("/api/chat", {"tool_choice": {"no": "form"}, "parallel_tool_calls": 1}, ToolChoice()),
    ],
)
def test_what_is_said_of_calls_is_understood(
    path: str, said: JsonObject, meant: ToolChoice
) -> None:
    asked = SURFACES[path].read(asking(path, "a", "b", **said))
    assert asked.choice == meant
    assert [each.name for each in asked.tools] == ["a", "b"]


def test_where_one_tool_alone_is_offered_it_is_the_one_that_is_called() -> None:
    asked = SURFACES[CHAT].read(asking(CHAT, "a", tool_choice="required"))
    assert asked.choice == FORCED.of("a")


@pytest.mark.parametrize("mode", ["auto", "required"])
def test_tools_that_are_not_allowed_are_not_offered(mode: str) -> None:
    wanted = ToolChoice() if mode == "auto" else FORCED.of("b")
    chat = {"mode": mode, "tools": [{"type": "function", "function": {"name": "b"}}]}
    choice: JsonObject = {"type": "allowed_tools", "allowed_tools": chat}
    asked = SURFACES[CHAT].read(asking(CHAT, "a", "b", tool_choice=choice))
    assert ([each.name for each in asked.tools], asked.choice) == (["b"], wanted)
    choice = {
        "type": "allowed_tools",
        "mode": mode,
        "tools": [{"type": "function", "name": "b"}],
    }
    asked = SURFACES[RESPONSES].read(asking(RESPONSES, "a", "b", tool_choice=choice))
    assert ([each.name for each in asked.tools], asked.choice) == (["b"], wanted)


def test_a_member_of_a_namespace_is_called_by_the_name_that_the_model_knows() -> None:
    member = {"type": "function", "name": "open"}
    space = {"type": "namespace", "name": "files", "tools": [member]}
    body = asking(RESPONSES, "a", tool_choice=member)
    body["tools"].append(space)
    assert SURFACES[RESPONSES].read(body).choice == FORCED.of("files.open")


@pytest.mark.parametrize(
    ("path", "own", "choice"),
    [
        (MESSAGES, {"type": "web_search_20250305", "name": "web_search"}, {"type": "any"}),
        (
            MESSAGES,
            {"type": "web_search_20250305", "name": "web_search"},
            {"type": "tool", "name": "web_search"},
        ),
        (RESPONSES, {"type": "web_search"}, {"type": "web_search"}),
        (RESPONSES, {"type": "web_search"}, "required"),
    ],
)
def test_the_servers_own_search_is_nothing_that_can_be_forced(
    path: str, own: JsonObject, choice: Any
) -> None:
    asked = SURFACES[path].read(asking(path, tool_choice=choice) | {"tools": [own]})
    assert asked.web_search
    assert asked.choice == ToolChoice()


WRONG: list[tuple[str, JsonObject, str]] = [
    (CHAT, {"tool_choice": "always"}, "names no function"),
    (CHAT, {"tool_choice": 1}, "names no function"),
    (CHAT, {"tool_choice": []}, "names no function"),
    (CHAT, {"tool_choice": {}}, "names no function"),
    (CHAT, {"tool_choice": {"type": "function"}}, "tool_choice.name is missing"),
    (CHAT, {"tool_choice": {"type": "function", "function": []}}, "not an object"),
    (CHAT, {"tool_choice": {"type": "function", "function": {"name": "x"}}}, "names x, and no"),
    (CHAT, {"parallel_tool_calls": "no"}, "not true or false"),
    (CHAT, {"tool_choice": "required", "tools": []}, "no tools are offered"),
    (
        CHAT,
        {"tool_choice": "required", "response_format": {"type": "json_object"}},
        "a format leaves no room",
    ),
    (RESPONSES, {"tool_choice": {"type": "file_search"}}, "names no function"),
    (
        RESPONSES,
        {"tool_choice": {"type": "allowed_tools", "tools": [{"type": "function", "name": "x"}]}},
        "names x, and no",
    ),
    (MESSAGES, {"tool_choice": "any"}, "not an object"),
    (MESSAGES, {"tool_choice": {"type": "required"}}, "none of auto, any, tool, none"),
    (MESSAGES, {"tool_choice": {"type": "tool"}}, "tool_choice.name is missing"),
    (MESSAGES, {"tool_choice": {"type": "tool", "name": "x"}}, "names x, and no"),
    (MESSAGES, {"tool_choice": {"type": "any"}, "tools": []}, "no tools are offered"),
]


# --- the request


@pytest.mark.parametrize("recalled", [None, Recalled()])
@pytest.mark.parametrize(
    ("in_list", "opening"),
    [(False, "[TOOL_CALLS]a[ARGS]"), (True, '[TOOL_CALLS][{"name": "a", "arguments":')],
)
def test_a_forced_call_has_begun_in_the_prompt(
    in_list: bool, opening: str, recalled: Recalled | None
) -> None:
    known = Known(**{**vars(BY_TEXT), "lists_calls": in_list})
    body = asking(CHAT, "a", tool_choice="required")
    whole = sealed(SURFACES[CHAT].read(body), known, recalled=recalled)
    assert [each["role"] for each in whole.body["messages"]] == [TOOLS_ROLE, "user", PREFIX_ROLE]
    assert whole.body["messages"][-1]["content"] == opening == "".join(whole.opening)
    assert not whole.unmet
    # What a client has the model say already stands before it.
    body["messages"].append({"role": "assistant", "content": "So: "})
    whole = sealed(SURFACES[CHAT].read(body), known, recalled=recalled)
    assert whole.body["messages"][-1] == {"role": PREFIX_ROLE, "content": f"So:{opening}"}


def test_what_cannot_be_forced_is_named() -> None:
    asked = SURFACES[CHAT].read(asking(CHAT, "a", tool_choice="required"))
    whole = sealed(asked, BY_GO)
    assert whole.unmet == (Unmet.TOOL_CHOICE,)
    assert "tools" in whole.body
    # Nobody has spoken, so that no tools are offered.
    asked.messages[0]["role"] = "system"
    whole = sealed(asked, BY_TEXT)
    assert (whole.unmet, whole.repairs) == (
        (Unmet.TOOL_CHOICE,),
        (Repair.TEMPERATURE, Repair.TOOLS),
    )


def test_where_no_call_is_wanted_a_format_does_not_keep_the_tools_from_the_prompt() -> None:
    form = {"type": "json_object"}
    body = asking(CHAT, "a", tool_choice="none", response_format=form)
    whole = sealed(SURFACES[CHAT].read(body), BY_TEXT)
    assert "tools" not in whole.body
    assert whole.body["messages"][0]["role"] == TOOLS_ROLE
    assert whole.body["format"] == "json"


# --- the answer


def spoken(content: str, *, done: bool = False) -> Piece:
    return Piece({"message": {"role": "assistant", "content": content}, "done": done}, b"line")


@pytest.mark.parametrize(
    ("opening", "said", "arguments"),
    [
        (opened_call("a", in_list=False), ['{"x"', ": 1}"], {"x": 1}),
        (opened_call("", in_list=False), ["a", "[ARGS]", '{"x": 1}'], {"x": 1}),
        (opened_call("a", in_list=True), [' {"x"', ': 1}, "id": "abcdEF123"}]'], {"x": 1}),
        (opened_call("", in_list=True), ['[{"name": "a", "arguments": {"x": 1}}]'], {"x": 1}),
        # It ends at once.
        (opened_call("a", in_list=False), [], {}),
    ],
)
def test_an_answer_goes_on_from_where_the_prompt_has_begun_it(
    opening: tuple[str, ...], said: list[str], arguments: JsonObject
) -> None:
    speech = Speech({"a"}, Recalled(), opening)
    heard = [*speech.heard(map(spoken, said)), *speech.heard([spoken("", done=True)])]
    (call,) = speech.whole(heard).calls
    assert (call.name, call.arguments) == ("a", arguments)
    assert speech.calls == {"read": 1}


@pytest.mark.parametrize(
    ("said", "text", "names"),
    [
        ([], "", []),
        ([" No."], " No.", []),
        (["[TOOL_CALLS]", '[{"name": "a", "arguments": {}}]'], "", ["a"]),
    ],
)
def test_what_the_gateway_has_begun_is_nothing_that_the_model_has_said(
    said: list[str], text: str, names: list[str]
) -> None:
    speech = Speech({"a"}, Recalled(), opened_call("a", in_list=True))
    heard = [*speech.heard(map(spoken, said)), *speech.heard([spoken("", done=True)])]
    whole = speech.whole(heard)
    assert whole.content["message"]["content"] == text
    assert [each.name for each in whole.calls] == names


def called(*numbers: int, done: bool = False, text: str = "") -> Piece:
    calls = [{"function": {"name": f"t{n}", "arguments": {}}} for n in numbers]
    content = {"message": {"role": "assistant", "content": text, "tool_calls": calls}, "done": done}
    parts = [CallPart(f"id{n}", f"t{n}", "{}", arguments={}) for n in numbers]
    return Piece(content, json.dumps(content).encode(), parts)


@pytest.mark.parametrize(
    ("most", "pieces", "kept"),
    [
        (None, [called(1, 2)], [1, 2]),
        (1, [called(1, 2)], [1]),
        (1, [called(1), called(2, 3)], [1]),
        (1, [called(1), spoken("and"), called(2), spoken("unheard")], [1]),
        (0, [spoken("Hm."), called(1)], []),
        (2, [called(1), called(2)], [1, 2]),
    ],
)
def test_the_first_calls_go_through_and_no_others(
    most: int | None, pieces: list[Piece], kept: list[int]
) -> None:
    first = FirstCalls(most)
    found = first.kept([*pieces, called(4, done=True)] if most is not None else pieces)
    names = [f"t{n}" for n in kept]
    told = [each for one in found for each in one.content["message"].get("tool_calls", ())]
    assert [part.name for one in found for part in one.calls] == names
    assert [each["function"]["name"] for each in told] == names
    # What is told on `/api/chat` is the same.
    lines = b"".join(each.line for each in found)
    assert [f"t{n}".encode() in lines for n in range(1, 5)] == [n in kept for n in range(1, 5)]
    assert b"unheard" not in lines
    assert first.is_over == (most is not None)


# --- the gateway


@pytest.fixture
def upstream(httpserver: HTTPServer) -> HTTPServer:
    template = f"{{% if '{VERBATIM}' '{TOOLS_ROLE}' '[ARGS]' %}}"
    shown = {"template": template, "parameters": "num_ctx 4096\n"}
    httpserver.expect_request("/api/show", method="POST").respond_with_json(shown)
    return httpserver


@pytest.fixture
def gateway(upstream: HTTPServer) -> Iterator[httpx.Client]:
    url = upstream.url_for("/").rstrip("/")
    with (
        gateway_in_thread(url, []) as found,
        httpx.Client(base_url=found, trust_env=False, timeout=20) as client,
    ):
        yield client


@pytest.mark.parametrize(("path", "said", "problem"), WRONG)
def test_what_cannot_be_meant_is_answered_400(
    gateway: httpx.Client, path: str, said: JsonObject, problem: str
) -> None:
    found = gateway.post(path, json=asking(path, "a", "b") | said)
    assert found.status_code == 400
    answer = found.json()
    assert answer["error"]["type"] == "invalid_request_error"
    assert problem in answer["error"]["message"]
    assert (answer.get("type") == "error") == (path == MESSAGES)


@pytest.mark.parametrize("stream", [False, True])
def test_what_follows_a_call_too_many_is_heard_to_its_end_and_left_out(
    gateway: httpx.Client, upstream: HTTPServer, stream: bool
) -> None:
    pieces = [
        *("[TOOL_CALLS]", "a", "[ARGS]", "{}"),
        *("[TOOL_CALLS]", "b", "[ARGS]", "{}", "what else"),
    ]
    said = [{"message": {"role": "assistant", "content": piece}, "done": False} for piece in pieces]
    counts = {"prompt_eval_count": 77, "eval_count": 9}
    end = {"message": {"role": "assistant", "content": ""}, "done": True, **counts}
    lines = "".join(f"{json.dumps(each)}\n" for each in [*said, end])
    upstream.expect_request("/api/chat", method="POST").respond_with_data(lines)
    body = asking(CHAT, "a", "b", tool_choice="required", parallel_tool_calls=False)
    body |= {"stream": stream, "stream_options": {"include_usage": True}}
    found = gateway.post(CHAT, json=body)
    assert found.status_code == 200
    assert '"name":"a"' in found.text
    assert '"name":"b"' not in found.text
    assert "what else" not in found.text
    assert '"finish_reason":"tool_calls"' in found.text
    assert '"prompt_tokens":77,"completion_tokens":9' in found.text
    assert len(upstream.log) == len(["/api/show", "/api/chat"])


def test_what_is_echoed_is_what_was_asked(gateway: httpx.Client, upstream: HTTPServer) -> None:
    answer = {"message": {"role": "assistant", "content": "Hi"}, "done": True}
    upstream.expect_request("/api/chat", method="POST").respond_with_json(answer)
    said = {"parallel_tool_calls": False, "tool_choice": "auto"}
    found = gateway.post(RESPONSES, json=asking(RESPONSES, "a") | said).json()
    assert {key: found[key] for key in said} == said
