"""Real client packages against a live server: their loops, and the prompts of what they send."""

from __future__ import annotations

import http.client
import json
from urllib.parse import urlsplit

import pytest
from pytest_httpserver import HTTPServer

from ollama_tools.devstral.carriers import Carrier
from ollama_tools.devstral.catalog import TokenizerVersion
from ollama_tools.gateway.settings import ToolCallParser
from tests.clients.clients import CLIENTS
from tests.clients.drive import PLACES, ROADS, Found, run, through_gateway, total
from tests.clients.proxy import Recorder
from tests.clients.table import DOCUMENT, markdown

NUMBERS = range(len(CLIENTS))
live = pytest.mark.xdist_group("clients")
each_client = pytest.mark.parametrize(
    "number", NUMBERS, ids=[f"{each.name} {each.surface}" for each in CLIENTS]
)


@pytest.fixture(scope="session")
def found() -> list[Found]:
    return run(CLIENTS)


@live
@each_client
def test_the_loop_works_on_the_callers_side(found: list[Found], number: int) -> None:
    client = found[number]
    assert not client.crashed
    assert {each.model for each in client.sessions} == set(client.client.models)
    assert not client.refused
    # A session that is known to break and does not any more is as much of a surprise.
    surprises = {
        key: client.faults.get(key) for key in client.faults.keys() ^ client.client.broken.keys()
    }
    assert not surprises


@live
@each_client
def test_prompts_are_the_references_as_the_server_decodes_them(
    found: list[Found], number: int
) -> None:
    client = found[number]
    assert client.requests
    assert {each.path for each in client.requests} == {client.client.surface}
    for place, request, wanted, came in client.unexplained:
        assert came == wanted, (place, request.path, request.body)
    assert all(client.scores[place].decoded == len(client.requests) for place in PLACES)


@live
@each_client
def test_prompts_are_exact_where_the_client_is_known_for_it(
    found: list[Found], number: int
) -> None:
    client = found[number]
    for version in TokenizerVersion:
        score = client.scores[Carrier.GGUF, version]
        assert (score.identical == score.requests) == client.client.exact, score.reasons


@live
@each_client
@pytest.mark.parametrize("parser", ToolCallParser)
def test_through_the_gateway_all_are_exact_and_the_loop_works(
    found: list[Found], number: int, parser: ToolCallParser
) -> None:
    client = found[number]
    assert client.through[parser] == dict.fromkeys(ROADS[parser], len(client.requests))
    models = through_gateway(client.client, parser).models
    assert {each.model for each in client.gateway_sessions[parser]} == set(models)
    faults = client.gateway_faults(parser)
    broken = {key for key in client.client.broken if key[0] in models}
    assert faults.keys() == broken, faults


@live
@each_client
def test_it_asks_nothing_of_other_hosts(found: list[Found], number: int) -> None:
    assert found[number].strays <= set(CLIENTS[number].reaches)


@live
@pytest.mark.parametrize(("carrier", "most"), [(Carrier.GGUF, 0.10), (Carrier.MODELFILE, 0.16)])
def test_no_more_is_lost_on_the_way_than_was(
    found: list[Found], carrier: Carrier, most: float
) -> None:
    for version in TokenizerVersion:
        assert total(found, carrier, version).share <= most


@live
def test_the_document_can_be_written_of_it(found: list[Found]) -> None:
    assert markdown(found).count("\n") > len(CLIENTS)


def test_the_document_names_these_clients_and_versions() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for each in CLIENTS:
        assert f"| {each.name} | {each.version} | `{each.surface}` |" in text


# The proxy


def test_the_proxy_writes_down_what_is_asked_and_passes_on_the_answer(
    httpserver: HTTPServer,
) -> None:
    httpserver.expect_request("/api/chat", method="POST").respond_with_data("x" * 100_000)
    httpserver.expect_request("/api/tags").respond_with_json({"models": []})
    with Recorder(httpserver.url_for("")) as recorder:
        connection = http.client.HTTPConnection(urlsplit(recorder.url).netloc, timeout=10)
        connection.request("POST", "/api/chat?x=1", json.dumps({"model": "m"}))
        assert len(connection.getresponse().read()) == 100_000
        connection.request("GET", "/api/tags")
        assert json.loads(connection.getresponse().read()) == {"models": []}
        connection.close()
    (exchange,) = recorder.exchanges
    assert (exchange.path, exchange.body, exchange.status) == ("/api/chat", {"model": "m"}, 200)
    assert not recorder.strays


def test_the_proxy_refuses_the_wide_world_and_tells_of_it(httpserver: HTTPServer) -> None:
    with Recorder(httpserver.url_for("")) as recorder:
        proxy = urlsplit(recorder.url)
        connection = http.client.HTTPConnection(proxy.hostname or "", proxy.port, timeout=10)
        connection.set_tunnel("example.org", 443)
        with pytest.raises(OSError, match="403"):
            connection.connect()
    assert recorder.strays == ["example.org:443"]
