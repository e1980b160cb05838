"""What a new header costs: rewriting and hashing a file, against hashing it as it is.

Prints ratios of medians for a file of 2 GiB whose header has the size of a real one. The file is a
hole for the most part, so what is measured is the processor's time; the ways take turns, so that a
machine's moods hit all of them.
"""

from __future__ import annotations

import hashlib
import os
import statistics
import struct
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

from ollama_tools.devstral.catalog_file import load_catalog
from ollama_tools.files.gguf_rewrite import Rewriting, known_sha256, rewrite
from ollama_tools.progress import Silence

_RUNS = 7
_SIZE = 2 << 30
_TOKENS = 131_072
_MERGES = 269_443
SHAPE = load_catalog().release("2507").architecture
"""Devstral Small's own."""
_REWRITING = Rewriting("{#- a template of usual length -#}" * 200)


def _text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def _texts(key: str, values: list[str]) -> bytes:
    items = b"".join(map(_text, values))
    return _text(key) + struct.pack("<IIQ", 9, 8, len(values)) + items


def _number(key: str, value: int) -> bytes:
    return _text(f"llama.{key}") + struct.pack("<II", 4, value)


def write_model(path: Path, size: int) -> None:
    """A file with as many tokens and merges as Devstral, and one tensor that fills the rest."""
    pairs = [
        _text("general.architecture") + struct.pack("<I", 8) + _text("llama"),
        _number("block_count", SHAPE.layers),
        _number("context_length", SHAPE.context),
        _number("embedding_length", SHAPE.embedding),
        _number("feed_forward_length", SHAPE.feed_forward),
        _number("attention.head_count", SHAPE.heads),
        _number("attention.head_count_kv", SHAPE.kv_heads),
        _number("attention.key_length", SHAPE.head_dim),
        _number("attention.value_length", SHAPE.head_dim),
        _texts("tokenizer.ggml.tokens", [f"token{n:06}" for n in range(_TOKENS)]),
        _texts("tokenizer.ggml.merges", [f"le{n:06} ri" for n in range(_MERGES)]),
        _text("tokenizer.chat_template") + struct.pack("<I", 8) + _text("theirs" * 1000),
    ]
    header = b"GGUF" + struct.pack("<IQQ", 3, 1, len(pairs)) + b"".join(pairs)
    room = size - len(header) - 1024
    header += _text("t") + struct.pack("<IQIQ", 1, room, 24, 0)
    with path.open("wb") as file:
        file.write(header)
        file.truncate(size)


def _plain(path: Path) -> None:
    with path.open("rb") as file:
        hashlib.file_digest(file, "sha256").hexdigest()


def _header(path: Path) -> None:
    rewrite(path, _REWRITING)


def _rewritten(path: Path) -> None:
    rewrite(path, _REWRITING).sha256(Silence())


def _again(path: Path) -> None:
    """The digest is remembered, as in every run but the first."""
    if known_sha256(path, _REWRITING) is None:
        raise AssertionError("the digest was forgotten")


def _seconds(way: Callable[[Path], None], path: Path) -> float:
    if way is not _again:
        # A digest that is known would not be computed.
        os.utime(path)
    started = time.process_time()
    way(path)
    return time.process_time() - started


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        os.environ["XDG_CACHE_HOME"] = str(root / "cache")
        path = root / "model.gguf"
        write_model(path, _SIZE)
        ways = (_plain, _header, _rewritten, _again)
        _plain(path)
        times: dict[str, list[float]] = {way.__name__: [] for way in ways}
        for _ in range(_RUNS):
            for way in ways:
                times[way.__name__].append(_seconds(way, path))
        plain, header, rewritten, again = (statistics.median(times[w.__name__]) for w in ways)
        tracemalloc.start()
        found = rewrite(path, _REWRITING)
        for _ in found.chunks():
            pass
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        print(f"{_SIZE >> 30} GiB, header of {len(found.header) / 2**20:.1f} MiB")
        print(f"  {'hashlib.file_digest':40} {plain:8.3f} s")
        print(f"  {'new header':40} {header:8.3f} s")
        print(f"  {'new header and digest':40} {rewritten:8.3f} s")
        print(f"  {'the digest when it is known already':40} {again:8.4f} s")
        print(f"  {'new header and digest / file_digest':40} {rewritten / plain:8.2f} x")
        print(f"  {'peak of memory / header':40} {peak / len(found.header):8.2f} x")


if __name__ == "__main__":
    main()
