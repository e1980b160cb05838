"""What people write for the address of a llama-server."""

from __future__ import annotations

import pytest

from ollama_tools.errors import UsageError
from ollama_tools.server.llama_server import LlamaServer


@pytest.mark.parametrize(
    ("said", "url"),
    [
        ("gpu1", "http://gpu1:8080"),
        ("gpu1:9000", "http://gpu1:9000"),
        ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
        ("http://127.0.0.1:8080/v1", "http://127.0.0.1:8080"),
        ("http://127.0.0.1:8080/v1/", "http://127.0.0.1:8080"),
        ("https://llama.example", "https://llama.example:443"),
        ("https://gpu1/llama/v1", "https://gpu1:443/llama"),
        ("[::1]", "http://[::1]:8080"),
    ],
)
def test_an_address_as_people_have_it_at_hand(said: str, url: str) -> None:
    with LlamaServer(said) as server:
        assert server.url == url


@pytest.mark.parametrize("said", ["ftp://gpu1", "not an address"])
def test_what_is_no_address_is_refused(said: str) -> None:
    with pytest.raises(UsageError, match="not an address"):
        LlamaServer(said)
