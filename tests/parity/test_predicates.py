"""That each predicate still says what happens: one that has become needless fails here."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import pytest
from mistral_common.exceptions import MistralCommonException

from ollama_tools.devstral.carriers import Carrier
from ollama_tools.devstral.catalog import TokenizerVersion
from ollama_tools.errors import ServerError
from ollama_tools.server.client import Server
from tests.parity.conversation import Conversation, Message, Tool
from tests.parity.places import OLLAMA_SURFACES, LlamaServers, Place, llama_place, render_live
from tests.parity.predicates import PREDICATES, REFUSALS, Predicate, Refusal, at_work, expected
from tests.parity.reference import reference
from tests.parity.strategies import IMAGE
from tests.testbed.build import OLDEST

_ID, _OTHER = "abcdEF123", "ghijKL456"


def _user(content: object = "Hi") -> Message:
    return {"role": "user", "content": content}


def _said(content: object, **arguments: object) -> Message:
    message: Message = {"role": "assistant", "content": content}
    return {**message, "tool_calls": [_call(arguments)]} if arguments else message


def _call(arguments: object, call_id: str = _ID) -> dict[str, Any]:
    function = {"name": "f", "arguments": arguments}
    return {"id": call_id, "type": "function", "function": function}


def _result(content: object = "ok", call_id: str = _ID) -> Message:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def _called(**arguments: object) -> Conversation:
    return Conversation([_user(), _said("", **arguments), _result()], [])


def _parameters(**more: object) -> Tool:
    parameters = {"type": "object", "properties": {"a": {"type": "string"}}, **more}
    return {"type": "function", "function": {"name": "f", "parameters": parameters}}


def _property(**schema: object) -> Conversation:
    return Conversation([_user()], [_parameters(properties={"a": schema})])


def _parts(*texts: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": each} for each in texts]


# For each predicate, conversations with which it is at work, and no other has to be.
EXAMPLES: dict[str, list[Conversation]] = {
    "images": [
        Conversation([_user([*_parts("A"), IMAGE, IMAGE, *_parts("B")]), _said("C")], []),
        Conversation([_user([IMAGE]), _said("C"), _user([*_parts("D"), IMAGE])], []),
    ],
    "unknown roles": [
        Conversation([_user(), _said("A"), {"role": "function", "content": "x"}], [])
    ],
    "dropped keywords": [
        _property(type="string", default="x"),
        Conversation([_user()], [_parameters(additionalProperties=False)]),
    ],
    "empty keywords": [_property(type="string", description="")],
    "empty required": [Conversation([_user()], [_parameters(required=[])])],
    "keyword order": [_property(description="D", type="string")],
    "sorted raw schemas": [_property(type="array", items={"type": "string", "minLength": 1})],
    "sorted properties": [
        Conversation(
            [_user()], [_parameters(properties={"b": {"type": "string"}, "a": {"type": "string"}})]
        )
    ],
    "sorted nested arguments": [_called(a={"c": 1, "b": 2})],
    "sorted arguments": [_called(b=1, a=2)],
    "whole floats": [_called(a=1.0), _called(a=[1e16, 1e20])],
    "big integers": [_called(a=2**53 + 1), _called(a=-(2**60) - 1)],
    "beyond 64 bits": [_called(a=2**63), _called(a=1.2345678901234567e25)],
    "large fractions": [_called(a=1000000000000000.5)],
    "neighbouring fractions": [_called(a=0.09448909206937901)],
    "long fractions": [_called(a=1.2345678901234567e-30)],
    "line separators": [_called(a="\u2028 \u2029"), _property(type="string", description="\u2028")],
    "split results": [
        Conversation(
            [
                _user(),
                {
                    "role": "assistant",
                    "content": "",
                    "tool_calls": [_call({"a": 1}), _call({"a": 2}, _OTHER)],
                },
                _result(_parts("1", "one")),
                _result(_parts("2", "two"), _OTHER),
            ],
            [],
        )
    ],
    "merged neighbours": [
        Conversation([{"role": "system", "content": each} for each in "AB"] + [_user()], []),
        Conversation([_user(""), _user("U")], []),
        Conversation([_user(), _said("A"), _said("B", a=1), _result()], []),
    ],
    "leading newlines": [Conversation([_user(), _said("\n\nA"), _user()], [])],
    "ids": [
        Conversation(
            [
                _user(),
                {"role": "assistant", "content": "", "tool_calls": [_call({"a": 1}, call_id)]},
                _result("ok", call_id),
            ],
            [],
        )
        for call_id in ("call_12345678", "call_123456789abc", "a", "call_1")
    ],
    "thinking before a prefix": [Conversation([_user(), _said("Sure,")], [])],
    "untrimmed prefix": [Conversation([_user(), _said("Sure, ")], [])],
    "tools without a user": [
        Conversation(
            [{"role": "system", "content": "S"}, _said("", a=1), _result()], [_parameters()]
        ),
    ],
}
REFUSED: dict[str, Conversation] = {
    "arguments that are no object": Conversation(
        [
            _user(),
            {"role": "assistant", "content": "", "tool_calls": [_call("no JSON")]},
            _result(),
        ],
        [],
    ),
    "null content": Conversation([_user(None)], []),
    "tools without parameters": Conversation(
        [_user()], [{"type": "function", "function": {"name": "f"}}]
    ),
    "images without a projector": Conversation([_user([*_parts("A"), IMAGE])], []),
}


def places(ollama: str | None = None) -> list[Place]:
    if ollama == OLDEST:
        return [
            Place(Carrier.MODELFILE, version, surface, OLDEST)
            for version, surface in itertools.product(TokenizerVersion, OLLAMA_SURFACES)
        ]
    return [
        Place(carrier, version, surface)
        for carrier, version, surface in itertools.product(
            (Carrier.GGUF, Carrier.MODELFILE), TokenizerVersion, OLLAMA_SURFACES
        )
    ]


def check(predicate: Predicate, where: Iterable[tuple[Server, Place]]) -> None:
    needed = 0
    for server, place in where:
        for conversation in EXAMPLES[predicate.name]:
            rendered = render_live(server, place, conversation)
            assert rendered == expected(place, conversation).text, place
            if predicate.name in at_work(place, conversation) and differs(
                place, conversation, rendered
            ):
                needed += 1
    assert needed


def differs(place: Place, conversation: Conversation, rendered: str) -> bool:
    """Whether the reference, given the conversation as it is, writes another prompt or none."""
    try:
        exact = reference(place.version, conversation)
    except (MistralCommonException, ValueError, KeyError, AssertionError):
        return True
    return bool(exact.refused) or exact.text != rendered


def test_every_predicate_has_examples() -> None:
    assert set(EXAMPLES) == {each.name for each in PREDICATES}
    assert set(REFUSED) == {each.name for each in REFUSALS}


@pytest.mark.xdist_group("parity")
@pytest.mark.parametrize("predicate", PREDICATES, ids=lambda each: each.name)
def test_a_predicate_still_holds(newest: Server, predicate: Predicate) -> None:
    check(predicate, [(newest, each) for each in places() if predicate.holds(each)])


@pytest.mark.xdist_group("parity")
@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda each: each.name)
def test_what_is_refused_is_still_refused(newest: Server, refusal: Refusal) -> None:
    for place in places():
        if refusal.holds(place):
            with pytest.raises(ServerError, match=r"answers [45]00"):
                render_live(newest, place, REFUSED[refusal.name])


LLAMA_PLACES = [llama_place(version) for version in TokenizerVersion]


@pytest.mark.xdist_group("llama-server")
@pytest.mark.parametrize(
    "predicate",
    [each for each in PREDICATES if any(map(each.holds, LLAMA_PLACES))],
    ids=lambda each: each.name,
)
def test_so_it_does_on_llama_server_by_itself(
    llama_servers: LlamaServers, predicate: Predicate
) -> None:
    here = filter(predicate.holds, LLAMA_PLACES)
    check(predicate, [(llama_servers[each.version], each) for each in here])


@pytest.mark.xdist_group("llama-server")
@pytest.mark.parametrize(
    "refusal",
    [each for each in REFUSALS if any(map(each.holds, LLAMA_PLACES))],
    ids=lambda each: each.name,
)
def test_llama_server_refuses_it_as_well(llama_servers: LlamaServers, refusal: Refusal) -> None:
    for place in filter(refusal.holds, LLAMA_PLACES):
        with pytest.raises(ServerError, match=r"answers [45]00"):
            render_live(llama_servers[place.version], place, REFUSED[refusal.name])


@pytest.mark.old_server
@pytest.mark.parametrize(
    "predicate",
    [each for each in PREDICATES if any(map(each.holds, places(OLDEST)))],
    ids=lambda each: each.name,
)
def test_so_it_does_on_the_older_generation(oldest: Server, predicate: Predicate) -> None:
    check(predicate, [(oldest, each) for each in places(OLDEST) if predicate.holds(each)])
