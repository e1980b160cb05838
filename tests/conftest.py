"""A real server and the hub, one of each for a whole run; tests start from an empty server."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from ollama_tools.server.client import Server
from tests.testbed.build import NEWEST, Build, ollama_build
from tests.testbed.cache import CACHE_VARIABLE, cache_root
from tests.testbed.hub import Hub
from tests.testbed.models import devstral_repositories
from tests.testbed.server import THREADS, OllamaServer

# How long an example takes says something of the machine alone.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")


def pytest_configure() -> None:
    """What the tests start hears signals, whoever started the tests, and leaves others a core."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # A miniature's layers are over before a second thread has begun: on a machine whose cores are
    # all busy, threads that spin until the other is there take many times what the work takes.
    os.environ.setdefault(THREADS, "1")


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of the person who runs the tests gets in, and nothing of the tests gets out."""
    mine = ("OLLAMA_HOST", "OLLAMA_API_KEY", "HF_TOKEN", "SSL_CERT_FILE", "SSL_CERT_DIR")
    ours = ("DEVSTRAL_OLLAMA_CATALOG", "DEVSTRAL_OLLAMA_TIMEOUT")
    for variable in (*mine, *ours):
        monkeypatch.delenv(variable, raising=False)
    # What the bed has built is kept beside the caches that are taken away below.
    monkeypatch.setenv(CACHE_VARIABLE, str(cache_root()))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def newest_build() -> Build:
    """The newest supported server, built once and kept in the user's cache."""
    return ollama_build(NEWEST)


@pytest.fixture(scope="session")
def session_hub() -> Iterator[Hub]:
    with Hub(devstral_repositories(heads=1, kv_heads=1)) as hub:
        yield hub


@pytest.fixture(scope="session")
def session_server(
    newest_build: Build, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OllamaServer]:
    root = tmp_path_factory.mktemp("server")
    with OllamaServer(
        newest_build, models_dir=root / "models", log_path=root / "ollama.log"
    ) as server:
        yield server


@pytest.fixture
def hub(session_hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Hub:
    """The hub as it began, with an empty log; huggingface_hub asks it and starts with no cache."""
    session_hub.reset()
    # huggingface_hub reads its environment once, when it is imported.
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", session_hub.endpoint)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return session_hub


@pytest.fixture
def bed(session_server: OllamaServer) -> Iterator[OllamaServer]:
    """The newest server, running and without models."""
    _clear(session_server)
    yield session_server
    _clear(session_server)


def _clear(server: OllamaServer) -> None:
    with Server(server.url) as client:
        for model in client.models():
            client.delete(model.name)


@pytest.fixture
def server(bed: OllamaServer) -> Iterator[Server]:
    """The package's own client of the newest server."""
    with Server(bed.url) as client:
        yield client
