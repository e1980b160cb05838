from __future__ import annotations

import dataclasses
import hashlib
import struct
from pathlib import Path

import pytest

from benchmarks.gpu.true_shape import VOCABULARY, ZeroModel, tensors, zero_model
from ollama_tools.devstral.catalog_file import load_catalog
from ollama_tools.devstral.vocabulary import CONTROL
from ollama_tools.files.architecture import Architecture
from ollama_tools.files.gguf import parse_layout, read_header

TEMPLATE = "{{ messages }}"


@pytest.fixture(scope="module")
def devstral() -> Architecture:
    return load_catalog().release("2507").architecture


@pytest.fixture(scope="module")
def small(devstral: Architecture) -> Architecture:
    return dataclasses.replace(devstral, layers=2, heads=8, embedding=64, feed_forward=96)


@pytest.fixture(scope="module")
def model(small: Architecture) -> ZeroModel:
    return zero_model(small, chat_template=TEMPLATE, name="zeros")


@pytest.fixture
def file(model: ZeroModel, tmp_path: Path) -> Path:
    path = tmp_path / "zeros.gguf"
    model.write(path)
    return path


def test_its_header_says_the_shape(file: Path, small: Architecture) -> None:
    header = read_header(file)
    assert dataclasses.replace(header.shape(), source="") == dataclasses.replace(small, source="")
    assert header.chat_template == TEMPLATE
    assert header.tensor_count == 3 + 9 * 2
    assert header.arrays["tokenizer.ggml.tokens"] == VOCABULARY
    assert header.value("rope.freq_base") == 1e9


def test_its_digest_is_the_files_without_reading_it(file: Path, model: ZeroModel) -> None:
    assert model.sha256() == hashlib.sha256(file.read_bytes()).hexdigest()
    assert file.stat().st_size == model.size


def test_the_zeros_take_no_disk(file: Path, model: ZeroModel) -> None:
    assert file.stat().st_blocks * 512 < len(model.header) + (64 << 10) < model.size


def test_tensors_lie_one_behind_the_other_and_end_with_the_file(
    file: Path, model: ZeroModel, small: Architecture
) -> None:
    with file.open("rb") as stream:
        layout = parse_layout(stream, model.size, "zeros")
    described = model.header[layout.tensors_start : layout.tensors_end]
    assert layout.data_start == len(model.header)
    end = 0
    for tensor in tensors(small):
        name = tensor.name.encode()
        start = described.index(struct.pack("<Q", len(name)) + name) + 8 + len(name)
        count = struct.unpack_from("<I", described, start)[0]
        *dimensions, kind, offset = struct.unpack_from(f"<{count}QIQ", described, start + 4)
        assert tuple(dimensions) == tensor.dimensions
        assert kind == (2 if count == 2 else 0)
        assert offset == end
        end += -(-tensor.bytes // 32) * 32
    assert end == model.zeros


def test_markers_have_the_ids_of_the_real_vocabulary(model: ZeroModel) -> None:
    start = model.header.index(b"tokenizer.ggml.tokens") + len("tokenizer.ggml.tokens") + 4 + 12
    for identity in range(34):
        (length,) = struct.unpack_from("<Q", model.header, start)
        token = model.header[start + 8 : start + 8 + length].decode()
        assert token == CONTROL.get(identity, f"<SPECIAL_{identity}>")
        start += 8 + length


def test_devstrals_own_shape_weighs_what_its_q4_0_does(devstral: Architecture) -> None:
    numbers = 2 * VOCABULARY * 5120 + 40 * 5120 * (2 * 4096 + 2 * 1024 + 3 * 32768)
    vectors = (1 + 2 * 40) * 5120
    assert sum(each.bytes for each in tensors(devstral)) == numbers * 18 // 32 + vectors * 4
    assert numbers + vectors == pytest.approx(23.57e9, rel=1e-3)
