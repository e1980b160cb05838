"""Made-up sessions through live servers: none may differ but by name."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from ollama_tools.catalog import TokenizerVersion
from ollama_tools.server import Server
from ollama_tools.template import Carrier
from tests.parity.conversation import Conversation
from tests.parity.places import Place, Surface, render_live
from tests.parity.predicates import expected
from tests.parity.reference import tokens
from tests.parity.strategies import sessions
from tests.testbed.build import OLDEST

EXAMPLES = int(os.environ.get("DEVSTRAL_PARITY_EXAMPLES", "150"))

exhaustive = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=EXAMPLES <= 150,
    database=None,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)


def check(server: Server, place: Place, conversation: Conversation) -> None:
    rendered = render_live(server, place, conversation)
    wanted = expected(place, conversation)
    assert rendered == wanted.text
    assert tokens(place.version, rendered) == wanted.tokens


NEWEST_PLACES = [
    Place(carrier, version)
    for carrier in (Carrier.GGUF, Carrier.MODELFILE)
    for version in TokenizerVersion
]


@pytest.mark.xdist_group("parity")
@pytest.mark.parametrize("place", NEWEST_PLACES, ids=str)
def test_no_session_differs_outside_the_predicates(newest: Server, place: Place) -> None:
    @exhaustive
    @given(sessions())
    def holds(conversation: Conversation) -> None:
        check(newest, place, conversation)

    holds()


@pytest.mark.old_server
@pytest.mark.parametrize("version", list(TokenizerVersion))
def test_nor_on_the_older_generation(oldest: Server, version: TokenizerVersion) -> None:
    place = Place(Carrier.MODELFILE, version, Surface.NATIVE, OLDEST)

    @exhaustive
    @given(sessions())
    def holds(conversation: Conversation) -> None:
        check(oldest, place, conversation)

    holds()
