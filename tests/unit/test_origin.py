"""Where weights came from, through the key of a file and back."""

from __future__ import annotations

import pytest

from ollama_tools.server.origin import Origin, parse_origin


@pytest.mark.parametrize(
    "origin",
    [
        Origin("me/x-GGUF", "a/x-Q4_K_M.gguf", None, "0" * 40, "1" * 64),
        Origin("me/x-GGUF", "odd: ~name.gguf", None, None, "1" * 64),
        Origin("me/x-GGUF", None, "UD-Q4_K_XL", None, "1" * 64),
        Origin(file="tune.gguf", sha256="1" * 64),
        Origin(file="tune.gguf"),
    ],
)
def test_a_key_gives_its_origin_back(origin: Origin) -> None:
    assert parse_origin(origin.key()) == origin
    assert parse_origin("/models/blobs/sha256-1", f"MIT\n{origin.license_line}\n") == origin
    assert ":" not in origin.key()


def test_a_pulled_name_is_an_origin_and_a_models_name_is_none() -> None:
    assert parse_origin("hf.co/me/x-GGUF:Q4_0") == Origin("me/x-GGUF", tag="Q4_0")
    assert parse_origin("devstral:latest") is None
