"""How large a quant is, by the rules with which llama.cpp gives each tensor its type.

``llama-quantize`` chooses by the file's type, by what a tensor is for and by its layer
(``llama_tensor_get_type`` in llama-quant.cpp), so that the shape of a model is enough to say how
many bytes its tensors take. Four published files of Devstral-Small-2507 (Q4_K_S, Q4_K_M, Q5_K_M,
Q8_0) are these sums and a header, to the byte; a live test lets llama.cpp itself quantize.

What follows no such rule is not here: ``UD-…`` are Unsloth's own mixtures, which differ from model
to model, and so is ``Q2_K_L``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from ollama_tools.devstral.vocabulary import VOCABULARY

if TYPE_CHECKING:
    from ollama_tools.files.architecture import Architecture

_BLOCKS: Final[Mapping[str, tuple[int, int]]] = {
    "F32": (4, 1),
    "BF16": (2, 1),
    "Q8_0": (34, 32),
    "Q6_K": (210, 256),
    "Q5_K": (176, 256),
    "Q4_K": (144, 256),
    "Q3_K": (110, 256),
    "Q2_K": (84, 256),
    "Q4_0": (18, 32),
    "Q4_1": (20, 32),
    "IQ4_NL": (18, 32),
    "IQ4_XS": (136, 256),
}
"""Bytes of a block of numbers, and how many numbers that is (ggml-common.h)."""

_ROW: Final = 256
"""A row of no whole number of such blocks gets another type, by rules that are not here."""

_SHARED_KEYS: Final = 4
"""Heads for each head of keys and values from which llama.cpp spends more bits on the values."""

_LAYERS_OF_70B: Final = 80
"""llama.cpp takes a ``llama`` of so many layers for Llama 70B and quantizes it by rules of its
own."""

_Layered: TypeAlias = Callable[[int, int], str]


@dataclass(frozen=True, slots=True)
class _Mixture:
    """The types of the tensors of one kind of file.

    Attributes:
        base: Type of all matrices for which nothing else is said.
        output: Type of the output matrix.
        value: Type of a layer's matrix of values, by its number and how many there are.
        attention: Type of a layer's attention output.
        down: Type of a layer's matrix back from the feed-forward width.
        exact: Whether a file is these tensors and the header that files made with an importance
            matrix have. Not so where the matrix changes a type, and who published the file does
            not say that there was one; and not where there surely was none.
    """

    base: str
    output: str = "Q6_K"
    value: _Layered | None = None
    attention: str | None = None
    down: _Layered | None = None
    exact: bool = True


def _everywhere(kind: str) -> _Layered:
    return lambda _layer, _layers: kind


def _first(count: int, early: str, later: str) -> _Layered:
    return lambda layer, _layers: early if layer < count else later


def _first_part(parts: int, early: str, later: str) -> _Layered:
    return lambda layer, layers: early if layer < layers // parts else later


def _more_bits(more: str, base: str) -> _Layered:
    """The outer eighths, and every third layer between them."""

    def kind(layer: int, layers: int) -> str:
        eighth = layers // 8
        outer = layer < eighth or layer >= 7 * layers // 8
        return more if outer or (layer - eighth) % 3 == 2 else base

    return kind


def _mixture(quant: str, *, shared: bool, imatrix: bool) -> _Mixture | None:
    """The mixture of a quant for a model whose heads share keys and values, or do not."""
    match quant:
        case "BF16" | "Q8_0":
            return _Mixture(quant, output=quant, exact=False)
        case "Q4_1" | "Q6_K":
            return _Mixture(quant)
        case "Q3_K_S" | "Q5_K_S":
            return _Mixture(quant.removesuffix("_S"))
        case "Q2_K":
            value = _everywhere("Q4_K" if shared else "Q3_K")
            return _Mixture(quant, value=value, attention="Q3_K", down=_everywhere("Q3_K"))
        case "Q3_K_M":
            return _Mixture(
                "Q3_K",
                value=_first(2, "Q5_K", "Q4_K"),
                attention="Q4_K",
                down=_first_part(16, "Q5_K", "Q4_K"),
            )
        case "Q4_K_S":
            return _Mixture(
                "Q4_K", value=_first(4, "Q5_K", "Q4_K"), down=_first_part(8, "Q5_K", "Q4_K")
            )
        case "Q4_K_M" | "Q5_K_M":
            base = quant.removesuffix("_M")
            return _Mixture(base, value=_more_bits("Q6_K", base), down=_more_bits("Q6_K", base))
        case "Q4_0":
            down = _first_part(8, "Q4_1" if imatrix else quant, quant)
            return _Mixture(quant, down=down, exact=False)
        case "IQ4_NL" | "IQ4_XS":
            value = _everywhere("Q5_K" if shared else quant)
            down = _first_part(8, quant if imatrix else "Q5_K", quant)
            return _Mixture(quant, value=value, down=down, exact=False)
        case _:
            return None


def weight_count(architecture: Architecture, vocabulary: int = VOCABULARY) -> int:
    """How many weights a dense model of a shape has, its input and output matrices included."""
    block = _matrices(architecture)
    norms = architecture.embedding * (2 * architecture.layers + 1)
    return 2 * vocabulary * architecture.embedding + architecture.layers * sum(block) + norms


def is_exact(quant: str) -> bool:
    """Whether a file's size is :func:`tensor_bytes` and the header of its release, to the byte."""
    mixture = _mixture(quant, shared=True, imatrix=True)
    return mixture is not None and mixture.exact


def tensor_bytes(
    architecture: Architecture, quant: str, *, vocabulary: int = VOCABULARY, imatrix: bool = True
) -> int | None:
    """How many bytes the tensors of a quant take; a file is these and its header.

    Args:
        architecture: The model's shape.
        quant: The quant's name.
        vocabulary: Tokens of its vocabulary.
        imatrix: Whether it is made with an importance matrix, as the published ones are.

    Returns:
        Bytes; None where no rule tells.
    """
    shape = architecture
    mixture = _mixture(quant, shared=shape.heads >= _SHARED_KEYS * shape.kv_heads, imatrix=imatrix)
    rows = (shape.embedding, shape.feed_forward, shape.heads * shape.head_dim)
    if mixture is None or shape.layers == _LAYERS_OF_70B or any(each % _ROW for each in rows):
        return None
    query, key, value, attention, gate, up, down = _matrices(shape)
    total = _bytes(vocabulary * shape.embedding, mixture.base)
    total += _bytes(vocabulary * shape.embedding, mixture.output)
    total += _bytes(shape.embedding * (2 * shape.layers + 1), "F32")
    total += shape.layers * _bytes(query + key + gate + up, mixture.base)
    total += shape.layers * _bytes(attention, mixture.attention or mixture.base)
    for layer in range(shape.layers):
        for numbers, rule in ((value, mixture.value), (down, mixture.down)):
            kind = rule(layer, shape.layers) if rule else mixture.base
            total += _bytes(numbers, kind)
    return total


def input_bytes(
    architecture: Architecture, quant: str, file_bytes: int, vocabulary: int = VOCABULARY
) -> int:
    """How many bytes of a file are the input matrix, which llama.cpp keeps off every card.

    Args:
        architecture: The model's shape.
        quant: The quant's name; of one that follows no rule the matrix gets its even share.
        file_bytes: Size of the file.
        vocabulary: Tokens of its vocabulary.
    """
    numbers = vocabulary * architecture.embedding
    mixture = _mixture(quant, shared=True, imatrix=True)
    if mixture is not None and architecture.embedding % _ROW == 0:
        return _bytes(numbers, mixture.base)
    return file_bytes * numbers // weight_count(architecture, vocabulary)


def _matrices(shape: Architecture) -> tuple[int, ...]:
    """Numbers in a layer's matrices: query, key, value, attention output, gate, up, down."""
    query = shape.embedding * shape.heads * shape.head_dim
    key = shape.embedding * shape.kv_heads * shape.head_dim
    feed_forward = shape.embedding * shape.feed_forward
    return query, key, key, query, feed_forward, feed_forward, feed_forward


def _bytes(numbers: int, kind: str) -> int:
    size, block = _BLOCKS[kind]
    return numbers // block * size
