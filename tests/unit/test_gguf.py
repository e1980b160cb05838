from __future__ import annotations

import io
import os
import struct
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_tools.devstral.catalog_file import load_catalog
from ollama_tools.errors import FileProblem
from ollama_tools.files.gguf import GgufHeader, parse_header, read_header

if TYPE_CHECKING:
    from pathlib import Path

UINT32, FLOAT32, BOOL, STRING, ARRAY, UINT64 = 4, 6, 7, 8, 9, 10
TEMPLATE = "{%- for message in messages %}…{%- endfor %}"


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def pair(key: str | bytes, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def number(key: str, value: int) -> bytes:
    return pair(key, UINT32, struct.pack("<I", value))


def array(key: str, kind: int, count: int, items: bytes) -> bytes:
    return pair(key, ARRAY, struct.pack("<IQ", kind, count) + items)


def file(*pairs: bytes, version: int = 3, tensors: int = 0, count: int | None = None) -> bytes:
    counts = struct.pack("<IQQ", version, tensors, len(pairs) if count is None else count)
    return b"GGUF" + counts + b"".join(pairs)


ARCHITECTURE = pair("general.architecture", STRING, text("llama"))
SHAPE = (
    number("llama.block_count", 40),
    number("llama.context_length", 131072),
    number("llama.embedding_length", 5120),
    number("llama.feed_forward_length", 32768),
    number("llama.attention.head_count", 32),
    number("llama.attention.head_count_kv", 8),
    number("llama.attention.key_length", 128),
)
VOCABULARY = array("tokenizer.ggml.tokens", STRING, 3, text("<unk>") + text("<s>") + text("</s>"))
WHOLE = file(
    ARCHITECTURE,
    pair("general.name", STRING, text("Devstral Small 2507")),
    number("general.file_type", 15),
    *SHAPE,
    pair("llama.rope.freq_base", FLOAT32, struct.pack("<f", 1e9)),
    VOCABULARY,
    array("tokenizer.ggml.token_type", UINT32, 3, struct.pack("<3I", 2, 3, 3)),
    array("nested", ARRAY, 2, 2 * struct.pack("<IQB", 0, 1, 7)),
    pair("tokenizer.ggml.add_bos_token", BOOL, b"\x01"),
    pair("tokenizer.chat_template", STRING, text(TEMPLATE)),
)


def parse(data: bytes, **options: bool) -> GgufHeader:
    return parse_header(io.BytesIO(data), len(data), "x.gguf", **options)


def refusal(data: bytes) -> str:
    with pytest.raises(FileProblem) as caught:
        parse(data)
    assert caught.value.what.startswith("x.gguf: not a GGUF file")
    assert caught.value.fix
    return caught.value.what


def test_a_header_tells_what_it_is() -> None:
    header = parse(WHOLE)
    assert (header.version, header.tensor_count, header.size) == (3, 0, len(WHOLE))
    assert header.complete
    assert header.architecture == "llama"
    assert header.name == "Devstral Small 2507"
    assert header.chat_template == TEMPLATE
    assert header.value("rope.freq_base") == 1e9
    assert header.value("nothing") is None
    assert header.metadata["tokenizer.ggml.add_bos_token"] is True


def test_arrays_are_counted_not_read() -> None:
    assert dict(parse(WHOLE).arrays) == {
        "tokenizer.ggml.tokens": 3,
        "tokenizer.ggml.token_type": 3,
        "nested": 2,
    }


def test_the_shape_is_that_of_the_catalog() -> None:
    shape = parse(WHOLE).shape()
    known = load_catalog().release("2507").architecture
    assert shape.source == "x.gguf"
    for field in ("name", "layers", "heads", "kv_heads", "head_dim", "embedding", "feed_forward"):
        assert getattr(shape, field) == getattr(known, field)


def test_figures_that_follow_from_others_may_be_left_out() -> None:
    shape = parse(file(ARCHITECTURE, *SHAPE[:5])).shape()
    assert (shape.kv_heads, shape.head_dim) == (32, 160)


@pytest.mark.parametrize("missing", range(5))
def test_a_header_without_a_needed_figure_has_no_shape(missing: int) -> None:
    kept = [one for position, one in enumerate(SHAPE) if position != missing]
    with pytest.raises(FileProblem, match=r"x.gguf: no usable llama\."):
        parse(file(ARCHITECTURE, *kept)).shape()


def test_heads_that_differ_per_layer_are_no_shape() -> None:
    per_layer = array("llama.attention.head_count_kv", UINT32, 2, struct.pack("<2I", 8, 4))
    with pytest.raises(FileProblem, match="head_count_kv"):
        parse(file(ARCHITECTURE, *SHAPE[:5], per_layer)).shape()


@pytest.mark.parametrize("value", [0, None])
def test_impossible_figures_are_no_shape(value: int | None) -> None:
    bad = (
        pair("llama.attention.head_count", STRING, text("32"))
        if value is None
        else number("llama.attention.head_count", value)
    )
    with pytest.raises(FileProblem, match="head_count"):
        parse(file(ARCHITECTURE, *SHAPE[:4], bad)).shape()


def test_version_2_reads_like_version_3() -> None:
    assert parse(file(ARCHITECTURE, version=2)).version == 2


def test_stray_bytes_in_a_text_are_replaced() -> None:
    assert parse(file(ARCHITECTURE, pair("general.name", STRING, text(b"caf\xe9")))).name == "caf�"


# --- Broken files ---


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "ends after 0 bytes"),
        (b"GGU", "ends after 3 bytes"),
        (b"PK\x03\x04" + bytes(100), r"a ZIP archive"),
        (file(version=1), "its version is 1"),
        (file(version=4), "its version is 4"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
        (file(), "names no architecture"),
        (file(number("general.architecture", 1)), "names no architecture"),
        (file(ARCHITECTURE, tensors=1 << 62), "tensors cannot be in a file"),
        (file(ARCHITECTURE, count=1 << 63), "keys cannot be in a file"),
        (file(ARCHITECTURE, count=2), "ends after"),
        (file(ARCHITECTURE, ARCHITECTURE), "stands there twice"),
        (file(ARCHITECTURE, pair("k", 99, b"")), "unknown type 99"),
        (file(ARCHITECTURE, pair(b"\xff", BOOL, b"\x00")), "a key is not UTF-8"),
        (file(ARCHITECTURE, pair("k", STRING, b"\xff" * 8)), "is too long"),
        (file(ARCHITECTURE, pair("k" * 65537, BOOL, b"\x00")), "is too long"),
        (file(ARCHITECTURE, array("k", UINT64, 1 << 63, b"")), "past its end"),
        (file(ARCHITECTURE, array("k", STRING, 1 << 63, b"")), "is too long"),
        (file(ARCHITECTURE, array("k", ARRAY, 1 << 63, b"")), "is too long"),
        (file(ARCHITECTURE, array("k", STRING, 1, b"\xff" * 8)), "past its end"),
        (file(ARCHITECTURE, array("k", STRING, 2, text("a"))), "ends after"),
        (
            file(ARCHITECTURE, array("k", ARRAY, 1, struct.pack("<IQIQ", ARRAY, 1, ARRAY, 1))),
            "nested too deeply",
        ),
    ],
)
def test_a_broken_file_is_refused_with_the_reason(data: bytes, reason: str) -> None:
    assert reason in refusal(data)


def test_a_header_cut_at_any_byte_is_refused() -> None:
    for end in range(len(WHOLE)):
        refusal(WHOLE[:end])


def test_keys_without_number_are_refused() -> None:
    refusal(file(ARCHITECTURE, count=70_000) + bytes(1_000_000))


@given(st.binary(max_size=200))
def test_random_bytes_give_a_header_or_a_file_problem(data: bytes) -> None:
    for candidate in (data, b"GGUF" + data, file(ARCHITECTURE, data)):
        try:
            parse(candidate, partial=True)
        except FileProblem:
            continue


@given(st.integers(0, len(WHOLE) - 1), st.binary(min_size=1, max_size=12))
def test_damage_anywhere_gives_a_header_or_a_file_problem(at: int, damage: bytes) -> None:
    damaged = WHOLE[:at] + damage + WHOLE[at + len(damage) :]
    try:
        parse(damaged).shape()
    except FileProblem:
        return


# --- Only the first bytes ---


def test_the_first_bytes_give_the_shape() -> None:
    first = WHOLE[: WHOLE.index(b"tokenizer.ggml.tokens")]
    header = parse_header(io.BytesIO(first), len(WHOLE), "x.gguf", partial=True)
    assert header.shape() == parse(WHOLE).shape()
    assert (header.complete, header.size, header.chat_template) == (False, len(WHOLE), None)


def test_first_bytes_cut_anywhere_give_a_header_or_a_file_problem() -> None:
    named = WHOLE.index(b"llama") + len(b"llama")
    for end in range(len(WHOLE)):
        stream = io.BytesIO(WHOLE[:end])
        if end < named:
            with pytest.raises(FileProblem):
                parse_header(stream, len(WHOLE), "x.gguf", partial=True)
        else:
            assert not parse_header(stream, len(WHOLE), "x.gguf", partial=True).complete


def test_a_file_that_ends_inside_its_header_is_broken_even_when_read_in_part() -> None:
    cut = WHOLE[:-1]
    with pytest.raises(FileProblem, match="ends after"):
        parse(cut, partial=True)


class Trickle(io.BytesIO):
    """A stream that gives one byte at a time, as a raw one may."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(1, size or 0))


def test_short_reads_make_no_difference() -> None:
    assert parse_header(Trickle(WHOLE), len(WHOLE), "x.gguf") == parse(WHOLE)


# --- Local files ---


def test_a_local_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(WHOLE + bytes(1000))
    header = read_header(path)
    assert (header.label, header.size) == (str(path), len(WHOLE) + 1000)


def test_what_is_no_readable_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, reason in (
        (tmp_path / "absent.gguf", "cannot be read: No such file"),
        (tmp_path, "not a file"),
        (tmp_path / "pipe", "not a file"),
    ):
        with pytest.raises(FileProblem) as caught:
            read_header(path)
        assert f"{path}: {reason}" in caught.value.what


def test_a_real_vocabulary_is_skipped_fast(tmp_path: Path) -> None:
    tokens = b"".join(text(f"token-{index}") for index in range(131_072))
    merges = b"".join(text(f"left{index} right") for index in range(269_443))
    path = tmp_path / "x.gguf"
    path.write_bytes(
        file(
            ARCHITECTURE,
            array("tokenizer.ggml.tokens", STRING, 131_072, tokens),
            array("tokenizer.ggml.merges", STRING, 269_443, merges),
            pair("tokenizer.chat_template", STRING, text(TEMPLATE)),
        )
    )
    started = time.process_time()
    header = read_header(path)
    # Takes 0.05 s of processor time on a common machine; decoding the texts would take 0.5 s.
    assert time.process_time() - started < 0.3
    assert header.chat_template == TEMPLATE
    assert header.arrays["tokenizer.ggml.merges"] == 269_443


@pytest.mark.parametrize("count", [1 << 16, (1 << 24) - 1, 1 << 24])
@pytest.mark.parametrize("kind", [ARRAY, STRING])
def test_millions_of_elements_in_a_hole_of_a_file_end_soon(
    kind: int, count: int, tmp_path: Path
) -> None:
    path = tmp_path / "x.gguf"
    # Nothing but zeros: arrays without elements, or texts without letters.
    path.write_bytes(file(ARCHITECTURE, array("k", kind, count, b"")))
    with path.open("r+b") as opened:
        opened.truncate(path.stat().st_size + 12 * count)
    started = time.process_time()
    if count == 1 << 16:
        assert read_header(path).arrays["k"] == count
    else:
        with pytest.raises(FileProblem, match="is too long"):
            read_header(path)
    assert time.process_time() - started < 1.5


def test_many_keys_with_arrays_of_arrays_end_soon() -> None:
    inner = bytes(12 * 255)
    data = file(ARCHITECTURE, *(array(f"k{i}", ARRAY, 255, inner) for i in range(10_000)))
    started = time.process_time()
    assert "is too long" in refusal(data)
    assert time.process_time() - started < 1.5


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:5f\nsize 9\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html>", "saved web page"),
        (b"\n  <html lang=en>", "saved web page"),
        (b"\x40\x00\x00\x00\x00\x00\x00\x00" + b'{"__metadata__":{}}', "safetensors"),
        (b"PK\x03\x04rest", "ZIP archive"),
        (b"\x1f\x8b\x08rest", "compressed"),
        (b"ggml" + bytes(20), "before GGUF"),
        (b'{"error": "no"}', "JSON"),
        (bytes(64), "zeros"),
        (b"What is this?", "begins with b'What'"),
    ],
)
def test_a_file_that_is_none_is_said_to_be_what_it_is(
    tmp_path: Path, content: bytes, said: str
) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(content)
    with pytest.raises(FileProblem, match=said):
        read_header(path)
