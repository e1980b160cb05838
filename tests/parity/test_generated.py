"""Made-up sessions through live servers: none may differ but by name."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, settings

from ollama_tools.devstral.carriers import Carrier
from ollama_tools.devstral.catalog import TokenizerVersion
from ollama_tools.errors import ServerError
from ollama_tools.server.client import Server
from tests.parity.conversation import Conversation
from tests.parity.places import LlamaServers, Place, llama_place, render_live
from tests.parity.predicates import expected, refusals
from tests.parity.reference import tokens
from tests.parity.strategies import sessions
from tests.testbed.build import OLDEST

EXAMPLES = int(os.environ.get("DEVSTRAL_PARITY_EXAMPLES", "50"))

generated = settings(
    max_examples=EXAMPLES,
    deadline=None,
    # A suite that runs with every change is to say the same every time; a long run is to look.
    derandomize="DEVSTRAL_PARITY_EXAMPLES" not in os.environ,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def check(server: Server, places: list[Place], conversation: Conversation) -> None:
    for place in places:
        if refusals(place, conversation):
            with pytest.raises(ServerError):
                render_live(server, place, conversation)
            continue
        rendered = render_live(server, place, conversation)
        wanted = expected(place, conversation)
        assert rendered == wanted.text, place
        assert tokens(place.version, rendered) == wanted.tokens, place


@pytest.mark.xdist_group("parity")
def test_no_session_differs_outside_the_predicates(newest: Server) -> None:
    places = [
        Place(carrier, version)
        for carrier in (Carrier.GGUF, Carrier.MODELFILE)
        for version in TokenizerVersion
    ]

    @generated
    @given(sessions())
    def holds(conversation: Conversation) -> None:
        check(newest, places, conversation)

    holds()


@pytest.mark.xdist_group("llama-server")
@pytest.mark.parametrize("version", list(TokenizerVersion))
def test_nor_on_llama_server_by_itself(
    llama_servers: LlamaServers, version: TokenizerVersion
) -> None:
    @generated
    @given(sessions())
    def holds(conversation: Conversation) -> None:
        check(llama_servers[version], [llama_place(version)], conversation)

    holds()


@pytest.mark.old_server
def test_nor_on_the_older_generation(oldest: Server) -> None:
    places = [Place(Carrier.MODELFILE, version, ollama=OLDEST) for version in TokenizerVersion]

    @generated
    @given(sessions())
    def holds(conversation: Conversation) -> None:
        check(oldest, places, conversation)

    holds()
