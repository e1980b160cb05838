"""Requests of real clients through live servers."""

from __future__ import annotations

import pytest

from ollama_tools.devstral.carriers import Carrier
from ollama_tools.devstral.catalog import TokenizerVersion
from ollama_tools.server.client import Server
from tests.parity.carriers import TARGET, llama_server_row
from tests.parity.places import LlamaServers
from tests.parity.recorded import recorded, score, score_llama_server
from tests.testbed.build import NEWEST, OLDEST

# Prompts that are the reference's with the request as the client sent it, and the share of
# characters that differ. What a change loses of this, it has to answer for.
LEAST = {Carrier.GGUF: 41, Carrier.MODELFILE: 11}
MOST = {Carrier.GGUF: 0.068, Carrier.MODELFILE: 0.155}


def check(server: Server, carrier: Carrier, version: TokenizerVersion, ollama: str) -> None:
    found = score(server, carrier, version, ollama)
    assert found.decoded == found.requests
    assert found.identical >= LEAST[carrier]
    assert found.share <= MOST[carrier]
    row = f"| `{carrier}` | {ollama} | {version.value} |"
    [line] = [each for each in TARGET.read_text().splitlines() if each.startswith(row)]
    figures = f"{found.identical} of {found.requests} | {found.share:.1%} | {found.decoded} of"
    assert figures in line, "run: python -m tests.parity.carriers"


def test_the_corpus_has_every_surface_and_no_request_twice() -> None:
    requests = list(recorded())
    assert len(requests) == 109
    assert {each.path for each in requests} == {
        "/api/chat",
        "/v1/chat/completions",
        "/v1/messages",
        "/v1/responses",
    }
    assert all(each.conversation.messages for each in requests)


@pytest.mark.xdist_group("parity")
@pytest.mark.parametrize("carrier", [Carrier.GGUF, Carrier.MODELFILE])
@pytest.mark.parametrize("version", list(TokenizerVersion))
def test_recorded_requests_are_identical_as_the_server_decodes_them(
    newest: Server, carrier: Carrier, version: TokenizerVersion
) -> None:
    check(newest, carrier, version, NEWEST)


@pytest.mark.xdist_group("llama-server")
@pytest.mark.parametrize("version", list(TokenizerVersion))
def test_on_llama_server_they_are_all_identical_as_the_client_sent_them(
    llama_servers: LlamaServers, version: TokenizerVersion
) -> None:
    found = score_llama_server(llama_servers[version], version)
    assert (found.identical, found.decoded, found.requests) == (53, 53, 53)
    [line] = [
        each
        for each in TARGET.read_text().splitlines()
        if each.startswith(llama_server_row(version))
    ]
    assert f"{found.identical} of {found.requests} | {found.share:.1%}" in line


@pytest.mark.old_server
@pytest.mark.parametrize("version", list(TokenizerVersion))
def test_so_they_are_on_the_older_generation(oldest: Server, version: TokenizerVersion) -> None:
    check(oldest, Carrier.MODELFILE, version, OLDEST)
