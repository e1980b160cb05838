"""A miniature with the vocabulary that Devstral really has, so that a server counts its tokens."""

from __future__ import annotations

import base64
import inspect
import json
from collections.abc import Iterator, Mapping
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest import mock

import mistral_common

from ollama_tools.devstral import miniature
from ollama_tools.devstral.carriers import jinja_template
from ollama_tools.devstral.catalog import TokenizerVersion
from ollama_tools.devstral.vocabulary import SPECIAL_IDS, VOCABULARY, base_tokens, byte_symbols
from tests.testbed.cache import cached

_SYMBOLS = byte_symbols()
_TEKKEN = Path(mistral_common.__file__).parent / "data" / "tekken_240911.json"


def true_miniature(version: TokenizerVersion) -> Path:
    """The file, out of the cache where it has it: 39 MB, made in ten seconds.

    Args:
        version: The format of its prompts and calls.
    """
    made_of = (jinja_template(version), inspect.getsource(miniature), Path(__file__).read_text())
    digest = sha256("".join(made_of).encode()).hexdigest()[:12]
    make = partial(_make, version)
    return cached(f"true-vocabulary-{version.value}-{digest}", make) / "model.gguf"


def _make(version: TokenizerVersion, into: Path) -> None:
    entries = json.loads(_TEKKEN.read_text(encoding="utf-8"))["vocab"][: VOCABULARY - SPECIAL_IDS]
    pieces = [base64.b64decode(each["token_bytes"]) for each in entries]
    tokens = [*base_tokens()[:SPECIAL_IDS], *map(_symbols, pieces)]
    merges = list(_merges(pieces))
    header = miniature._header

    def with_merges(*arguments: Any) -> dict[str, Any]:
        return {**header(*arguments), "tokenizer.ggml.merges": merges}

    with (
        mock.patch.object(miniature, "base_tokens", return_value=tokens),
        mock.patch.object(miniature, "_header", with_merges),
    ):
        miniature.write_miniature(
            into / "model.gguf",
            layers=1,
            heads=1,
            kv_heads=1,
            chat_template=jinja_template(version),
            script=miniature.Script(form=version.value),
        )


def _merges(pieces: list[bytes]) -> Iterator[str]:
    """The pair that each token is made of last, as GGUF files have it; the tokens by rank."""
    ranks = {piece: rank for rank, piece in enumerate(pieces)}
    for rank, piece in enumerate(pieces):
        if len(piece) > 1 and (pair := _pair(piece, rank, ranks)):
            yield " ".join(map(_symbols, pair))


def _pair(piece: bytes, rank: int, ranks: Mapping[bytes, int]) -> list[bytes] | None:
    parts = [piece[at : at + 1] for at in range(len(piece))]
    while len(parts) > 2:
        joins = [
            (found, at)
            for at in range(len(parts) - 1)
            if (found := ranks.get(parts[at] + parts[at + 1], rank)) < rank
        ]
        if not joins:
            return None
        _, at = min(joins)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts


def _symbols(piece: bytes) -> str:
    return "".join(_SYMBOLS[byte] for byte in piece)
