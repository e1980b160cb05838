"""A model of Devstral's true shape whose weights are all zero: made in a second, anywhere.

Memory, layers and speed depend on the shape of tensors, not on what is in them. The file is a
header and a hole, so it takes next to no disk; its digest is computed without reading it back.
"""

from __future__ import annotations

import hashlib
import itertools
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ollama_tools.devstral.vocabulary import SPECIAL_IDS, base_tokens
from ollama_tools.files.architecture import Architecture

ROPE_THETA: Final = 1e9
"""`rope_theta` of Devstral's params.json."""

VOCABULARY: Final = 131072
"""Tokens that Devstral knows."""

_ALIGNMENT = 32
_PIECE = 16 << 20
_EOS = 2
_NORMAL, _CONTROL_TYPE = 1, 3
_U32, _I32, _F32, _BOOL, _TEXT, _ARRAY = 4, 5, 6, 7, 8, 9
_TYPE_F32, _TYPE_Q4_0 = 0, 2
_FILE_TYPE_Q4_0 = 2
_Q4_0_NUMBERS, _Q4_0_BYTES = 32, 18


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of the file.

    Attributes:
        name: Its name, as llama.cpp knows it.
        dimensions: Its shape, the innermost dimension first, as ggml has it.
    """

    name: str
    dimensions: tuple[int, ...]

    @property
    def is_quantized(self) -> bool:
        """Whether it is a matrix, kept as Q4_0; vectors are F32."""
        return len(self.dimensions) > 1

    @property
    def bytes(self) -> int:
        """Bytes of its data, without padding."""
        numbers = 1
        for each in self.dimensions:
            numbers *= each
        return numbers * _Q4_0_BYTES // _Q4_0_NUMBERS if self.is_quantized else numbers * 4


@dataclass(frozen=True, slots=True)
class ZeroModel:
    """A file that is a header with nothing but zeros behind it.

    Attributes:
        header: Everything before the tensors' data, padded to their alignment.
        zeros: Bytes of data.
        weights: Bytes of the tensors, without padding: what a server says it loads.
    """

    header: bytes
    zeros: int
    weights: int

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return len(self.header) + self.zeros

    def write(self, path: Path) -> None:
        """Write the file, with a hole for the zeros where the file system has holes.

        Raises:
            OSError: It cannot be written.
        """
        with path.open("wb") as file:
            file.write(self.header)
            file.truncate(self.size)

    def sha256(self) -> str:
        """Hex SHA-256 of the file; about 8 seconds for 12 GiB, and other threads run meanwhile."""
        found = hashlib.sha256(self.header)
        piece = bytes(_PIECE)
        whole, rest = divmod(self.zeros, _PIECE)
        for _ in range(whole):
            found.update(piece)
        found.update(piece[:rest])
        return found.hexdigest()


def zero_model(shape: Architecture, *, chat_template: str, name: str) -> ZeroModel:
    """Make the model of a shape.

    Args:
        shape: The shape; every width has to be a multiple of 32, Q4_0's block.
        chat_template: Jinja for ``tokenizer.chat_template``.
        name: Value of ``general.name``.
    """
    described: list[bytes] = []
    offset = weights = 0
    listed = tensors(shape)
    for tensor in listed:
        kind = _TYPE_Q4_0 if tensor.is_quantized else _TYPE_F32
        dimensions = tensor.dimensions
        described.append(
            _text(tensor.name)
            + struct.pack(f"<I{len(dimensions)}QIQ", len(dimensions), *dimensions, kind, offset)
        )
        weights += tensor.bytes
        offset += _padded(tensor.bytes)
    pairs = list(_pairs(shape, chat_template, name))
    header = b"".join(
        [struct.pack("<4sIQQ", b"GGUF", 3, len(listed), len(pairs)), *pairs, *described]
    )
    return ZeroModel(header.ljust(_padded(len(header)), b"\0"), offset, weights)


def tensors(shape: Architecture) -> list[Tensor]:
    """All tensors of a model of that shape, in the order of the file."""
    width, rows = shape.embedding, shape.heads * shape.head_dim
    kv_rows = shape.kv_heads * shape.head_dim
    block = {
        "attn_norm": (width,),
        "attn_q": (width, rows),
        "attn_k": (width, kv_rows),
        "attn_v": (width, kv_rows),
        "attn_output": (rows, width),
        "ffn_norm": (width,),
        "ffn_gate": (width, shape.feed_forward),
        "ffn_up": (width, shape.feed_forward),
        "ffn_down": (shape.feed_forward, width),
    }
    return [
        Tensor("token_embd.weight", (width, VOCABULARY)),
        Tensor("output.weight", (width, VOCABULARY)),
        Tensor("output_norm.weight", (width,)),
        *(
            Tensor(f"blk.{layer}.{part}.weight", dimensions)
            for layer, (part, dimensions) in itertools.product(range(shape.layers), block.items())
        ),
    ]


def _pairs(shape: Architecture, chat_template: str, name: str) -> Iterator[bytes]:
    base = base_tokens()
    # Tokens of a real vocabulary's number; only their number weighs, no text is ever cut into them.
    tokens = base + [f"<filler-{i}>" for i in range(len(base), VOCABULARY)]
    types = [_CONTROL_TYPE] * SPECIAL_IDS + [_NORMAL] * (VOCABULARY - SPECIAL_IDS)
    family = shape.name
    yield _pair("general.architecture", _TEXT, _text(family))
    yield _pair("general.name", _TEXT, _text(name))
    yield _pair("general.file_type", _U32, _u32(_FILE_TYPE_Q4_0))
    figures = {
        "context_length": shape.context,
        "embedding_length": shape.embedding,
        "block_count": shape.layers,
        "feed_forward_length": shape.feed_forward,
        "attention.head_count": shape.heads,
        "attention.head_count_kv": shape.kv_heads,
        "attention.key_length": shape.head_dim,
        "attention.value_length": shape.head_dim,
        "rope.dimension_count": shape.head_dim,
        "vocab_size": VOCABULARY,
    }
    for key, figure in figures.items():
        yield _pair(f"{family}.{key}", _U32, _u32(figure))
    yield _pair(f"{family}.attention.layer_norm_rms_epsilon", _F32, struct.pack("<f", 1e-5))
    yield _pair(f"{family}.rope.freq_base", _F32, struct.pack("<f", ROPE_THETA))
    yield _pair("tokenizer.ggml.model", _TEXT, _text("gpt2"))
    yield _pair("tokenizer.ggml.pre", _TEXT, _text("tekken"))
    yield _pair("tokenizer.ggml.tokens", _ARRAY, _array(_TEXT, map(_text, tokens), len(tokens)))
    types_data = struct.pack(f"<{len(types)}i", *types)
    yield _pair("tokenizer.ggml.token_type", _ARRAY, _array(_I32, [types_data], len(types)))
    # llama.cpp refuses a vocabulary without merges; this one never applies.
    yield _pair("tokenizer.ggml.merges", _ARRAY, _array(_TEXT, [_text("i t")], 1))
    for role, token in {"bos": 1, "eos": _EOS, "unknown": 0}.items():
        yield _pair(f"tokenizer.ggml.{role}_token_id", _U32, _u32(token))
    yield _pair("tokenizer.ggml.add_bos_token", _BOOL, b"\1")
    yield _pair("tokenizer.ggml.add_eos_token", _BOOL, b"\0")
    yield _pair("tokenizer.chat_template", _TEXT, _text(chat_template))


def _pair(key: str, kind: int, value: bytes) -> bytes:
    return _text(key) + _u32(kind) + value


def _array(kind: int, values: Iterable[bytes], count: int) -> bytes:
    return struct.pack("<IQ", kind, count) + b"".join(values)


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _u32(value: int) -> bytes:
    return struct.pack("<I", value)


def _padded(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
