"""Requests through the gateway: the prompt is the reference's, whatever a server does to them."""

from __future__ import annotations

import pytest
from hypothesis import given

from ollama_tools.devstral.carriers import Carrier
from ollama_tools.devstral.catalog import TokenizerVersion
from ollama_tools.gateway.settings import ToolCallParser
from ollama_tools.server.client import Server
from tests.parity.canonical import CASES
from tests.parity.conversation import Conversation, from_openai, to_openai
from tests.parity.gateway import exact, raw_conversation, render_through
from tests.parity.places import Place
from tests.parity.predicates import refusals
from tests.parity.recorded import recorded
from tests.parity.reference import tokens
from tests.parity.strategies import sessions
from tests.parity.test_generated import generated
from tests.testbed.build import OLDEST

CHAT = "/v1/chat/completions"
PLACES = [
    Place(carrier, version)
    for carrier in (Carrier.GGUF, Carrier.MODELFILE)
    for version in TokenizerVersion
]
# A Go template has one road alone: the server reads its calls.
ROADS = [(place, ToolCallParser.SERVER) for place in PLACES] + [
    (place, ToolCallParser.GATEWAY) for place in PLACES if place.carrier is Carrier.GGUF
]
each_road = pytest.mark.parametrize(("place", "parser"), ROADS, ids=str)


def check_recorded(
    server: Server, place: Place, parser: ToolCallParser = ToolCallParser.SERVER
) -> None:
    for request in recorded():
        wanted = exact(place, raw_conversation(request.path, request.body))
        prompt = render_through(server, place, request.path, request.body, parser)
        assert prompt == wanted.text, f"{request.client} {request.path}"


def check_canonical(
    server: Server, place: Place, parser: ToolCallParser = ToolCallParser.SERVER
) -> None:
    for name, body in CASES.items():
        wanted = exact(place, from_openai(body))
        prompt = render_through(server, place, CHAT, body, parser)
        assert prompt == wanted.text, name
        assert tokens(place.version, prompt) == wanted.tokens, name


@pytest.mark.xdist_group("parity")
@each_road
def test_every_recorded_request_is_exact_as_the_client_sent_it(
    newest: Server, place: Place, parser: ToolCallParser
) -> None:
    check_recorded(newest, place, parser)


@pytest.mark.xdist_group("parity")
@each_road
def test_every_canonical_conversation_is_exact(
    newest: Server, place: Place, parser: ToolCallParser
) -> None:
    check_canonical(newest, place, parser)


@pytest.mark.xdist_group("parity")
def test_every_session_is_exact(newest: Server) -> None:
    @generated
    @given(sessions())
    def holds(conversation: Conversation) -> None:
        for place, parser in ROADS:
            if refusals(place, conversation):
                continue
            wanted = exact(place, conversation)
            prompt = render_through(newest, place, CHAT, to_openai(conversation), parser)
            assert prompt == wanted.text, (place, parser)

    holds()


@pytest.mark.old_server
@pytest.mark.parametrize("version", list(TokenizerVersion))
def test_so_they_are_on_the_older_generation(oldest: Server, version: TokenizerVersion) -> None:
    place = Place(Carrier.MODELFILE, version, ollama=OLDEST)
    check_recorded(oldest, place)
    check_canonical(oldest, place)
