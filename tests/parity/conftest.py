"""One server of each generation with all models, for the whole parity suite."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ollama_tools.server.client import Server
from tests.parity.places import LlamaServers, parity_llama_servers, parity_server
from tests.testbed.build import NEWEST, OLDEST


@pytest.fixture(scope="session")
def newest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with parity_server(NEWEST, tmp_path_factory.mktemp("newest")) as server:
        yield server


@pytest.fixture(scope="session")
def oldest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with parity_server(OLDEST, tmp_path_factory.mktemp("oldest")) as server:
        yield server


@pytest.fixture(scope="session")
def llama_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaServers]:
    with parity_llama_servers(tmp_path_factory.mktemp("llama-server")) as servers:
        yield servers
