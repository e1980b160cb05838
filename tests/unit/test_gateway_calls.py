"""The calls in what a model writes, as the gateway reads them: forms, cuts, and hostile text."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_tools.devstral.contract import VERBATIM, reads_tools_as_text
from ollama_tools.devstral.miniature import Output
from ollama_tools.gateway.call_text import Begun, CallText, Ended, Escaper, Event, Said, Written
from ollama_tools.gateway.known import Known
from ollama_tools.gateway.recalled import Recalled
from ollama_tools.gateway.request import sealed
from ollama_tools.gateway.speech import NO_JSON, Speech
from ollama_tools.gateway.surfaces import SURFACES
from ollama_tools.gateway.surfaces.surface import CallPart, Piece
from tests.conformance.cases import CASES, Case, canonical

TC, ARGS = "[TOOL_CALLS]", "[ARGS]"
OFFERED = {"bash", "get_weather"}
HOSTILE = [TC, ARGS, "[", "]", "{", "}", '"', "\\", " ", "\n", "bash", '{"cmd": 1}', '[{"name": ']
_NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
_WORDS = st.text(max_size=8) | st.sampled_from([TC, f"{TC}bash{ARGS}{{}}", '"}', "\\"])
JSON = st.recursive(
    st.none() | st.booleans() | _NUMBERS | _WORDS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_WORDS, inner, max_size=2),
    max_leaves=4,
)
CALLS = st.tuples(st.sampled_from(sorted(OFFERED)), st.dictionaries(_WORDS, JSON, max_size=2))
STYLES: list[dict[str, Any]] = [{}, {"separators": (",", ":")}, {"indent": 1}]


def events(pieces: Iterable[str], *, cut: bool = False) -> list[Event]:
    reader = CallText(OFFERED)
    found = [event for piece in pieces for event in reader.feed(piece)]
    return [*found, *reader.end(cut=cut)]


def answer(
    pieces: Sequence[str], *, cut: bool = False, recalled: Recalled | None = None
) -> tuple[Piece, Speech]:
    """What an answer of these pieces becomes as a whole, and who read it."""
    speech = Speech(OFFERED, Recalled() if recalled is None else recalled)
    reason = "length" if cut else "stop"
    said = [{"message": {"role": "assistant", "content": each}, "done": False} for each in pieces]
    last = {"message": {"role": "assistant", "content": ""}, "done": True, "done_reason": reason}
    heard = [each for one in [*said, last] for each in speech.heard([Piece(one, b"line")])]
    return speech.whole(heard), speech


def meant(piece: Piece) -> tuple[str, list[tuple[str, Any]]]:
    return piece.content["message"]["content"], [(e.name, e.arguments) for e in piece.calls]


def cut_up(text: str, where: random.Random) -> list[str]:
    """A text in pieces, as tokens are."""
    pieces = []
    while text:
        length = where.randint(1, 5)
        pieces.append(text[:length])
        text = text[length:]
    return pieces


# --- what is written, and what it means


@pytest.mark.parametrize(
    ("case", "output"),
    [
        pytest.param(case, output, id=f"{case.name}-{form}")
        for case in CASES
        for form in ("v13", "v7")
        if case.calls and case.offered and (output := case.output(form))
    ],
)
def test_what_a_model_means_by_a_call_arrives(case: Case, output: Output) -> None:
    # A control token that llama-server leaves out.
    pieces = [output.replace("[CALL_ID]", "")] if isinstance(output, str) else list(output)
    offered = {name for name, _ in case.calls} | OFFERED
    speech = Speech(offered, Recalled())
    last = {"message": {"content": ""}, "done": True, "done_reason": "stop"}
    said = [{"message": {"content": each}, "done": False} for each in pieces]
    text, calls = meant(speech.whole(speech.heard(Piece(each) for each in [*said, last])))
    assert (text.strip(), calls) == (case.text, [(name, dict(each)) for name, each in case.calls])
    assert set(speech.calls) == {"read"}


@given(
    st.lists(CALLS, max_size=3),
    st.sampled_from(["", "Let me look.", "é 🙂 [] {} "]),
    st.sampled_from(["v13", "v7"]),
    st.sampled_from(STYLES),
    st.integers(0, 99),
)
def test_wherever_it_is_cut(
    calls: list[tuple[str, dict[str, Any]]], text: str, form: Any, style: Any, seed: int
) -> None:
    where, pieces = random.Random(seed), []
    for piece in canonical(text, calls, form, **style):
        pieces += [piece] if piece in (TC, ARGS) else cut_up(piece, where)
    whole, _ = answer(pieces)
    assert meant(whole) == (text, calls)
    assert json.loads(json.dumps(whole.content["message"].get("tool_calls", []))) == [
        {"id": call.call_id, "function": {"index": i, "name": name, "arguments": arguments}}
        for i, (call, (name, arguments)) in enumerate(zip(whole.calls, calls, strict=True))
    ]


@given(st.lists(st.sampled_from(HOSTILE) | st.text(max_size=3), max_size=40), st.booleans())
def test_whatever_is_written_calls_begin_and_end_in_turn(pieces: list[str], cut: bool) -> None:
    is_open = False
    for event in events(pieces, cut=cut):
        match event:
            case Said(text):
                assert text
                assert not is_open
            case Begun():
                assert not is_open
                is_open = True
            case Written():
                assert is_open
            case Ended():
                assert is_open
                is_open = False
    assert not is_open
    whole, _ = answer(pieces, cut=cut)
    assert all(call.begins and call.ends for call in whole.calls)
    for surface in SURFACES.values():
        asked = SURFACES["/api/chat"].read({"model": "m", "messages": [{"role": "user"}]})
        json.dumps(surface.whole(asked, whole))


def test_without_calls_the_servers_own_lines_go_on() -> None:
    speech = Speech(OFFERED, Recalled())
    piece = Piece({"message": {"content": "Hi"}, "done": False}, b"as it came")
    assert speech.heard([piece])[0] is piece


def test_a_control_token_that_is_spelt_out_is_text() -> None:
    pieces = ["Write ", "[", "TOOL", "_CALLS", "]", "bash", "[", "ARGS", "]", "{}"]
    assert meant(answer(pieces)[0]) == ("".join(pieces), [])


def test_within_arguments_it_is_what_they_quote_unless_it_comes_alone() -> None:
    quoting = [TC, "bash", ARGS, f'{{"cmd": "echo {TC}x"}}']
    assert meant(answer(quoting)[0]) == ("", [("bash", {"cmd": f"echo {TC}x"})])
    begun = [TC, "bash", ARGS, '{"cmd": "ls', TC, "bash", ARGS, '{"cmd": "id"}']
    whole, speech = answer(begun)
    assert meant(whole) == ("", [("bash", {NO_JSON: '{"cmd": "ls'}), ("bash", {"cmd": "id"})])
    assert speech.calls == {"no_json": 1, "read": 1}


@pytest.mark.parametrize(
    ("pieces", "text", "calls", "outcome"),
    [
        # What a stop string held back comes together.
        ([f"Look.\n\n{TC}bash{ARGS}{{}}"], "Look.\n\n", [("bash", {})], "read"),
        ([TC, "bash", ARGS, '{"a": 1'], "", [("bash", {NO_JSON: '{"a": 1'})], "no_json"),
        ([TC, "bash", ARGS, '{\n"a": "b\n\tc"}', "Done."], "Done.", None, "mended"),
        ([TC, '[{"name": "bash", "arguments": {"a": "\n"}}]'], "", None, "mended"),
        ([TC, "nobody", ARGS, "{}"], "", [("nobody", {})], "unknown_tool"),
        ([TC, "bash", ARGS, "{'cmd': 1,}"], "", [("bash", {NO_JSON: "{'cmd': 1,}"})], "no_json"),
        ([TC, "bash", ARGS, "[1]"], "", [("bash", {NO_JSON: "[1]"})], "no_json"),
        ([TC, "bash", ARGS, '{"a": 1, "a": 2}'], "", None, "no_json"),
        ([TC, "bash", ARGS, '{"a": NaN}'], "", None, "no_json"),
        ([TC, "bash", ARGS, '{"a": 1e400}'], "", None, "no_json"),
        ([TC, "bash", ARGS, '{"a": "\\ud800"}'], "", None, "no_json"),
        ([TC, "bash", ARGS, "[" * 100_000], "", None, "no_json"),
        ([TC, "bash", ARGS, '{"a": ' * 300 + "1" + "}" * 300], "", None, "no_json"),
        ([TC, "bash", ARGS, '"{\\"cmd\\": 1}"'], "", [("bash", {"cmd": 1})], "read"),
        ([TC, "bash", ARGS, "null"], "", [("bash", {})], "read"),
        ([TC, "bash", ARGS], "", [("bash", {})], "read"),
        ([TC, "bash"], "", [("bash", {})], "read"),
        ([TC, "bash", TC, "bash", ARGS, "{}"], "", [("bash", {}), ("bash", {})], "read"),
        ([TC, "It is ", "sunny."], "It is sunny.", [], None),
        ([TC, "x" * 300, ARGS, "{}"], "x" * 300 + "[ARGS]{}", [], None),
        ([TC, ARGS, "{}"], "[ARGS]{}", [], None),
        ([TC, "[1, 2]"], "[1, 2]", [], None),
        ([TC, "[{'name': 'bash'}]"], "[{'name': 'bash'}]", [], None),
        ([TC, "[", '{"name": "bash"}', "]"], "", [("bash", {})], "read"),
        ([TC, '{"name": "bash", "arguments": {"a": 1}}'], "", [("bash", {"a": 1})], "read"),
        ([TC, "bash", ARGS, "{}", "\n", TC, "bash", ARGS, "{}", "\n"], "", None, "read"),
        ([TC, TC, "bash", ARGS, "{}"], "", [("bash", {})], "read"),
    ],
)
def test_what_a_grammar_would_not_have_let_pass(
    pieces: list[str], text: str, calls: list[tuple[str, Any]] | None, outcome: str | None
) -> None:
    whole, speech = answer(pieces)
    found = meant(whole)
    assert found[0] == text
    if calls is not None:
        assert found[1] == calls
    assert set(speech.calls) == ({outcome} if outcome else set())


@pytest.mark.parametrize(
    ("pieces", "given", "outcome"),
    [
        ([TC, "ba"], [], None),
        ([TC, "bash", ARGS], [], {"cut": 1}),
        ([TC, "bash", ARGS, '{"cmd": "l'], ['{"cmd": "l'], {"cut": 1}),
        ([TC, '[{"name": "bash", "argu'], [], None),
        ([TC, "bash", ARGS, '{"cmd": 1}', TC, "bash"], ['{"cmd": 1}'], {"read": 1}),
    ],
)
def test_a_call_that_is_cut_off_is_none_that_can_be_run(
    pieces: list[str], given: list[str], outcome: dict[str, int] | None
) -> None:
    whole, speech = answer(pieces, cut=True)
    assert [each.text for each in whole.calls] == given
    assert [each.arguments is None for each in whole.calls] == ["}" not in each for each in given]
    assert whole.content["done_reason"] == "length"
    assert speech.calls == (outcome or {})
    asked = SURFACES["/api/chat"].read({"model": "m", "messages": [{"role": "user"}]})
    runnable = [each for each in given if "}" in each]
    assert len(whole.content["message"].get("tool_calls", [])) == len(runnable)
    blocks = SURFACES["/v1/messages"].whole(asked, whole)
    assert len(blocks["content"]) == len(runnable)
    assert blocks["stop_reason"] == "max_tokens"


def test_arguments_go_on_as_they_come_and_those_that_are_no_object_when_they_end() -> None:
    def parts(*pieces: str) -> list[list[CallPart]]:
        speech = Speech(OFFERED, Recalled())
        said = [Piece({"message": {"content": each}, "done": False}) for each in pieces]
        return [[part for one in speech.heard([each]) for part in one.calls] for each in said]

    shown = parts(TC, "bash", ARGS, ' {"cmd"', ': "ls"', "}")
    assert [[part.text for part in each] for each in shown] == [
        *([], [], []),
        *([' {"cmd"'], [': "ls"'], ["}", ""]),
    ]
    assert shown[3][0].begins
    assert shown[-1][-1] == shown[3][0]._replace(
        text="", begins=False, ends=True, arguments={"cmd": "ls"}
    )
    held = parts(TC, "bash", ARGS, '"{', "}", '"')
    assert [[part.text for part in each] for each in held] == [*[[]] * 5, ["{}"]]


_LINES = st.text(st.sampled_from('ab"{\n\t '), max_size=8)


@given(st.dictionaries(_LINES, _LINES), st.integers(0, 99))
def test_newlines_in_strings_are_escaped_wherever_they_are_cut(
    value: dict[str, str], seed: int
) -> None:
    text = json.dumps(value, indent=1).replace("\\n", "\n").replace("\\t", "\t")
    escaper = Escaper()
    found = [escaper.escaped(each) for each in cut_up(text, random.Random(seed))]
    assert json.loads("".join(found)) == value


def test_ids_are_the_models_own_where_it_gave_one_that_is_one() -> None:
    call = '{"name": "bash", "arguments": {}, "id": "%s"}'
    ids = ("abcdEF123", "abcdEF123", "short")
    whole, _ = answer([TC, f"[{', '.join(call % each for each in ids)}]"])
    found = [each.call_id for each in whole.calls]
    assert found[0] == ids[0]
    assert len(set(found)) == 3
    assert all(len(each) == 9 and each.isalnum() for each in found)


# --- what it wrote is given back


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ('{"b": 1, "a": 2}', {"a": 2, "b": 1}),
        ('{"b":1,"a":2}', {"a": 2, "b": 1}),
        ('{"n": 1.0, "e": 1e3, "z": -0.0}', {"n": 1, "e": 1000, "z": 0}),
        ('{"n": 12345678901234567890}', {"n": 12345678901234567890}),
        ('{"é": "\\u00e9"}', {"é": "é"}),
        ('{\n  "a": []\n}', {"a": []}),
        ('"{\\"a\\": 1}"', {"a": 1}),
        ('{"a": "b\nc"}', {"a": "b\nc"}),
        ("{'a': 1,}", {NO_JSON: "{'a': 1,}"}),
        ("{'a': 1,}", "{'a': 1,}"),
        ("null", {}),
    ],
)
def test_what_a_model_wrote_it_sees_again(text: str, sent: object) -> None:
    recalled = Recalled()
    whole, _ = answer([TC, "bash", ARGS, text], recalled=recalled)
    for call_id in (whole.calls[0].call_id, "", "the client's own"):
        assert recalled.text(call_id, "bash", sent) == text


def test_a_rounded_number_is_the_models_where_the_id_says_so() -> None:
    recalled = Recalled()
    text, rounded = '{"n": 12345678901234567890}', {"n": 12345678901234567168}
    whole, _ = answer([TC, "bash", ARGS, text], recalled=recalled)
    assert recalled.text(whole.calls[0].call_id, "bash", rounded) == text
    assert recalled.text("", "bash", rounded) == json.dumps(rounded)


def test_of_two_that_mean_the_same_each_sees_its_own() -> None:
    recalled = Recalled()
    texts = ('{"a":1}', '{"a": 1}', '{"a":  1}')
    calls = [answer([TC, "bash", ARGS, each], recalled=recalled)[0].calls[0] for each in texts]
    assert [recalled.text(each.call_id, "bash", {"a": 1}) for each in calls] == list(texts)
    assert recalled.text("", "bash", {"a": 1}) == texts[-1]


@pytest.mark.parametrize(
    "arguments", [{"a": 2}, {"a": True}, {"a": "1"}, {"a": 1, "b": 1}, {"A": 1}, {"a": 1.5}, "1", 1]
)
def test_what_means_another_thing_is_written_as_it_was_sent(arguments: object) -> None:
    recalled = Recalled()
    recalled.remember("id", "bash", '{"a":1}')
    for call_id, name in (("id", "bash"), ("", "bash")):
        sent = recalled.text(call_id, name, arguments)
        assert sent == json.dumps(arguments, ensure_ascii=False)
    assert recalled.text("id", "other", {"a": 1}) == '{"a": 1}'


def test_what_nobody_asks_for_is_forgotten_first() -> None:
    recalled = Recalled(limit=6000)
    for number in range(100):
        recalled.remember(str(number), "bash", f'{{"a":{number}}}')
        assert recalled.text("0", "bash", {"a": 0}) == '{"a":0}'
    assert recalled.text("1", "bash", {"a": 1}) == '{"a": 1}'
    recalled.remember("large", "bash", '{"a":"%s"}' % ("x" * 10_000))
    assert recalled.text("99", "bash", {"a": 99}) == '{"a": 99}'


# --- the request


BY_TEXT = Known(
    understands=True, is_jinja=True, context=None, thinks=False, reads_tools_as_text=True
)
WEATHER = {"type": "function", "function": {"name": "bash", "parameters": {"x-own": 1.0}}}


def asking(**more: Any) -> dict[str, Any]:
    messages = [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}]
    return {"model": "m", "messages": messages, "tools": [WEATHER], "stream": False, **more}


def test_tools_stand_behind_a_first_system_message() -> None:
    whole = sealed(SURFACES["/api/chat"].read(asking()), BY_TEXT, recalled=Recalled())
    roles = [each["role"] for each in whole.body["messages"]]
    assert roles == ["system", "devstral-ollama/tools/1", "user"]
    assert '"parameters": {"x-own": 1.0}' in whole.body["messages"][1]["content"]
    assert whole.offered == frozenset({"bash"})
    assert whole.body["stream"] is True
    assert not whole.repairs


@pytest.mark.parametrize("more", [{"format": "json"}, {"truncate": True}, {"tools": []}])
def test_what_leaves_no_text_to_read_is_the_servers_to_read(more: dict[str, Any]) -> None:
    whole = sealed(SURFACES["/api/chat"].read(asking(**more)), BY_TEXT, recalled=Recalled())
    assert [each["role"] for each in whole.body["messages"]] == ["system", "user"]
    assert not whole.offered
    assert whole.body["stream"] is False


def test_a_template_that_knows_no_text_of_tools_gets_them_as_ever() -> None:
    assert not reads_tools_as_text(f"{{{{ if {VERBATIM} }}}}")
    known = Known(understands=True, is_jinja=False, context=None, thinks=False)
    whole = sealed(SURFACES["/api/chat"].read(asking()), known, recalled=Recalled())
    assert "tools" in whole.body
    assert not whole.offered
