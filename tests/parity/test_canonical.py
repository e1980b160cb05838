"""The canonical conversations through live servers."""

from __future__ import annotations

import json

import pytest

from ollama_tools.devstral.carriers import Carrier
from ollama_tools.devstral.catalog import TokenizerVersion
from ollama_tools.errors import ServerError
from ollama_tools.server.client import Server
from tests.parity.canonical import CASES, golden, path
from tests.parity.conversation import Body, from_openai
from tests.parity.places import (
    OLLAMA_SURFACES,
    LlamaServers,
    Place,
    Surface,
    llama_place,
    render_body,
    render_live,
)
from tests.parity.predicates import at_work, expected, refusals
from tests.parity.reference import reference, tokens
from tests.testbed.build import OLDEST

NEWEST_PLACES = [
    Place(carrier, version, surface)
    for carrier in (Carrier.GGUF, Carrier.MODELFILE)
    for version in TokenizerVersion
    for surface in OLLAMA_SURFACES
]
OLDEST_PLACES = [
    Place(Carrier.MODELFILE, version, surface, OLDEST)
    for version in TokenizerVersion
    for surface in OLLAMA_SURFACES
]

# What stands between these places and an exact prompt. Everything else is identical.
GO_DIFFERENCES: dict[str, list[str]] = {
    "compact-arguments": ["sorted arguments"],
    "parallel-results-out-of-order": ["sorted arguments"],
    "two-systems": ["merged neighbours"],
    "nested-schemas": ["dropped keywords", "sorted properties"],
    "whole-floats": ["whole floats"],
    "big-integers": ["big integers"],
}
JINJA_DIFFERENCES: dict[str, list[str]] = {
    "nested-schemas": ["dropped keywords"],
    "whole-floats": ["whole floats"],
    "big-integers": ["big integers", "beyond 64 bits"],
    "bare-tools": ["tools without parameters"],
}
PREFIX_DIFFERENCE = {"prefix": ["thinking before a prefix"]}


LLAMA_DIFFERENCES: dict[str, list[str]] = {"big-integers": ["beyond 64 bits"]}

# Identical at the least, by the carrier.
LEAST = {Carrier.MODELFILE: 18, Carrier.GGUF: 19, Carrier.SERVER: 22}


def differences(place: Place) -> dict[str, list[str]]:
    if place.carrier is Carrier.MODELFILE:
        return GO_DIFFERENCES
    of_jinja = JINJA_DIFFERENCES if place.by_ollama else LLAMA_DIFFERENCES
    return of_jinja | PREFIX_DIFFERENCE if place.version is TokenizerVersion.V13 else of_jinja


def render(server: Server, place: Place, body: Body) -> str:
    """The prompt for a request as it stands in the golden file, where the surface takes it."""
    if place.surface is Surface.NATIVE:
        return render_live(server, place, from_openai(body))
    return render_body(server, place, body)


def check(server: Server, place: Place) -> None:
    found: dict[str, list[str]] = {}
    for name, body in CASES.items():
        conversation = from_openai(body)
        if refused := refusals(place, conversation):
            with pytest.raises(ServerError, match="answers 400"):
                render(server, place, body)
            found[name] = refused
            continue
        rendered = render(server, place, body)
        exact = reference(place.version, conversation)
        if rendered == exact.text and tokens(place.version, rendered) == exact.tokens:
            continue
        seen = expected(place, conversation)
        assert rendered == seen.text, name
        assert tokens(place.version, rendered) == seen.tokens, name
        found[name] = at_work(place, conversation)
    assert found == differences(place)
    assert len(CASES) - len(found) >= LEAST[place.carrier]


@pytest.mark.parametrize("version", list(TokenizerVersion))
@pytest.mark.parametrize("name", list(CASES))
def test_the_golden_file_is_what_the_reference_says(version: TokenizerVersion, name: str) -> None:
    assert path(version, name).read_text(encoding="utf-8") == golden(version, name)


def test_there_are_no_other_golden_files() -> None:
    for version in TokenizerVersion:
        files = {file.stem for file in path(version, "user").parent.iterdir()}
        assert files == set(CASES)


@pytest.mark.parametrize("version", list(TokenizerVersion))
def test_the_golden_requests_are_the_same_for_both_versions(version: TokenizerVersion) -> None:
    for name, body in CASES.items():
        assert json.loads(path(version, name).read_text(encoding="utf-8"))["request"] == body


@pytest.mark.xdist_group("parity")
@pytest.mark.parametrize("place", NEWEST_PLACES, ids=str)
def test_every_canonical_conversation_is_identical_or_differs_by_name(
    newest: Server, place: Place
) -> None:
    check(newest, place)


@pytest.mark.xdist_group("llama-server")
@pytest.mark.parametrize("version", list(TokenizerVersion))
def test_the_complete_forms_do_so_on_llama_server(
    llama_servers: LlamaServers, version: TokenizerVersion
) -> None:
    check(llama_servers[version], llama_place(version))


@pytest.mark.old_server
@pytest.mark.parametrize("place", OLDEST_PLACES, ids=str)
def test_the_same_on_the_older_generation(oldest: Server, place: Place) -> None:
    check(oldest, place)
