"""Through the gateway to an engine with the real vocabulary: it counts the reference's tokens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ollama_tools.checks.exact_session import session
from ollama_tools.checks.gateway_smoke import _LIMITS, _counts
from ollama_tools.devstral.catalog import TokenizerVersion
from ollama_tools.files.remembered import file_sha256
from ollama_tools.gateway.surfaces import SURFACES
from ollama_tools.progress import Silence
from ollama_tools.server.client import Server
from tests.parity.canonical import CASES
from tests.parity.conversation import has_images
from tests.parity.gateway import raw_conversation
from tests.parity.reference import reference
from tests.testbed.build import NEWEST, ollama_build
from tests.testbed.gateway import GatewayServer
from tests.testbed.server import OllamaServer
from tests.testbed.vocabulary import true_miniature

pytestmark = pytest.mark.xdist_group("parity")
CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def through(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A gateway before a server that has a model of each format, named as the format."""
    root = tmp_path_factory.mktemp("true-vocabulary")
    with (
        OllamaServer(
            ollama_build(NEWEST), models_dir=root / "models", log_path=root / "ollama.log"
        ) as bed,
        Server(bed.url) as server,
    ):
        for each in TokenizerVersion:
            path = true_miniature(each)
            digest = f"sha256:{file_sha256(path, Silence())}"
            server.upload(path, digest, lambda *_: None)
            request = {"model": each.value, "files": {"model.gguf": digest}}
            server.create({**request, "parameters": {"num_ctx": 65536}}, lambda *_: None)
        with (
            GatewayServer(bed.url, log_path=root / "gateway.log") as gateway,
            Server(gateway.url) as found,
        ):
            yield found


def counted(server: Server, version: TokenizerVersion, path: str, body: dict[str, Any]) -> int:
    answer = server.post(path, {**body, **_LIMITS[path], "model": version.value, "stream": False})
    return _counts(path, answer)[0]


@pytest.mark.parametrize("version", TokenizerVersion)
def test_every_canonical_conversation_has_the_references_tokens(
    through: Server, version: TokenizerVersion
) -> None:
    for name, body in CASES.items():
        conversation = raw_conversation(CHAT, body)
        if has_images(conversation):
            continue
        wanted = len(reference(version, conversation).tokens)
        assert counted(through, version, CHAT, dict(body)) == wanted, name


@pytest.mark.parametrize("version", TokenizerVersion)
@pytest.mark.parametrize("path", SURFACES)
def test_so_has_the_session_on_every_surface(
    through: Server, path: str, version: TokenizerVersion
) -> None:
    body = session(path)
    wanted = len(reference(version, raw_conversation(path, body)).tokens)
    assert counted(through, version, path, body) == wanted
