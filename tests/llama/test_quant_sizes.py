"""The rules for a quant's size, against llama.cpp itself quantizing narrow models."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy
import pytest

from ollama_tools.devstral.quant_sizes import tensor_bytes
from ollama_tools.files.architecture import Architecture
from tests.testbed.build import Build

VOCABULARY = 256
# As the 24B: 40 layers, and four heads for each head of keys and values.
SHAPES = {
    "shared keys": Architecture("llama", 40, 8, 2, 32, 256, 512, 1024, "here"),
    "keys of their own": Architecture("llama", 17, 8, 8, 32, 256, 256, 1024, "here"),
}
FILE_TYPES = {
    "Q4_0": 2,
    "Q4_1": 3,
    "Q8_0": 7,
    "Q2_K": 10,
    "Q3_K_S": 11,
    "Q3_K_M": 12,
    "Q4_K_S": 14,
    "Q4_K_M": 15,
    "Q5_K_S": 16,
    "Q5_K_M": 17,
    "Q6_K": 18,
    "IQ4_NL": 25,
    "IQ4_XS": 30,
    "BF16": 32,
}
"""``llama_ftype`` of llama.h."""


class Params(ctypes.Structure):
    """``llama_model_quantize_params``: the fields that are set here, and room for the others."""

    _fields_ = (("threads", ctypes.c_int32), ("ftype", ctypes.c_int), ("rest", ctypes.c_byte * 248))


def write_model(path: Path, shape: Architecture) -> None:
    writer = gguf.GGUFWriter(path, shape.name)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.embedding)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_vocab_size(VOCABULARY)
    width, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim

    def add(name: str, *rows: int) -> None:
        kind = numpy.float16 if len(rows) == 2 else numpy.float32
        writer.add_tensor(f"{name}.weight", numpy.ones(rows, dtype=kind))

    add("token_embd", VOCABULARY, shape.embedding)
    add("output", VOCABULARY, shape.embedding)
    add("output_norm", shape.embedding)
    for layer in range(shape.layers):
        block = f"blk.{layer}"
        add(f"{block}.attn_norm", shape.embedding)
        add(f"{block}.ffn_norm", shape.embedding)
        add(f"{block}.attn_q", width, shape.embedding)
        add(f"{block}.attn_k", keys, shape.embedding)
        add(f"{block}.attn_v", keys, shape.embedding)
        add(f"{block}.attn_output", shape.embedding, width)
        add(f"{block}.ffn_gate", shape.feed_forward, shape.embedding)
        add(f"{block}.ffn_up", shape.feed_forward, shape.embedding)
        add(f"{block}.ffn_down", shape.embedding, shape.feed_forward)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module")
def llama(newest_build: Build) -> Iterator[ctypes.CDLL]:
    assert newest_build.llama_server is not None
    library = ctypes.CDLL(str(newest_build.llama_server.with_name("libllama.so.0")))
    library.llama_model_quantize_default_params.restype = Params
    # Its logger would write pages about every tensor.
    quiet = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)
    library.llama_log_set(quiet, None)
    yield library
    library.llama_log_set(None, None)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_llama_cpp_makes_tensors_of_the_sizes_that_the_rules_say(
    llama: ctypes.CDLL, tmp_path: Path, shape: Architecture
) -> None:
    source, target = tmp_path / "f16.gguf", tmp_path / "quant.gguf"
    write_model(source, shape)
    seen, expected = {}, {}
    for quant, number in FILE_TYPES.items():
        params = llama.llama_model_quantize_default_params()
        params.threads, params.ftype = 2, number
        done = llama.llama_model_quantize(
            str(source).encode(), str(target).encode(), ctypes.byref(params)
        )
        assert done == 0, quant
        seen[quant] = sum(int(each.n_bytes) for each in gguf.GGUFReader(target).tensors)
        expected[quant] = tensor_bytes(shape, quant, vocabulary=VOCABULARY, imatrix=False)
    assert expected == seen
