"""LoRA adapters as GGUF files: what one says of itself, and whether it belongs to a model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ollama_tools.errors import FileProblem
from ollama_tools.files.gguf import GgufLayout, TensorForm, read_layout

_A, _B = ".lora_a", ".lora_b"
_F32, _F16, _BF16 = 0, 1, 30
_CONVERT: Final = (
    "write it anew with llama.cpp's convert_lora_to_gguf.py, or by Unsloth's "
    'save_pretrained_gguf with save_method="lora"'
)


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA adapter.

    Attributes:
        path: Where it lies.
        architecture: Architecture of the model that it belongs to.
        rank: Its rank; the largest where tensors differ.
        pairs: What it adds to tensors of the model, by their names, each with its shape.
    """

    path: Path
    architecture: str
    rank: int
    pairs: dict[str, tuple[int, ...]]


def read_adapter(path: Path, architecture: str) -> Adapter:
    """Read a LoRA adapter.

    Args:
        path: The file.
        architecture: Architecture of the model that it is meant for.

    Raises:
        FileProblem: It is none, or none that llama.cpp can use with such a model.
    """
    if path.suffix.lower() == ".safetensors" or path.is_dir():
        raise FileProblem(f"{path} is no GGUF, but an adapter as training leaves it", _CONVERT)
    layout = read_layout(path)
    said = layout.metadata
    if said.get("general.type") != "adapter":
        raise FileProblem(
            f"{path} is no adapter: its general.type is {said.get('general.type', 'model')!r}",
            "name a LoRA adapter as GGUF; a whole model needs no merge",
        )
    if (kind := said.get("adapter.type")) != "lora":
        raise FileProblem(f"{path} is an adapter of the type {kind!r}", "name a LoRA adapter")
    if (own := said.get("general.architecture")) != architecture:
        raise FileProblem(
            f"{path} was trained on the architecture {own!r}, the model has {architecture!r}",
            "name the model that it was trained on",
        )
    pairs, ranks = _pairs(layout)
    return Adapter(path, architecture, max(ranks), pairs)


def _pairs(layout: GgufLayout) -> tuple[dict[str, tuple[int, ...]], list[int]]:
    pairs: dict[str, tuple[int, ...]] = {}
    ranks = []
    for name, first in layout.tensors.items():
        if not name.endswith(_A):
            continue
        base = name.removesuffix(_A)
        second = layout.tensors.get(base + _B)
        if second is None:
            raise FileProblem(f"{layout.label} has no {base + _B}", _CONVERT)
        if {first.kind, second.kind} - {_F32, _F16, _BF16}:
            raise FileProblem(f"{layout.label} is quantized, which llama.cpp cannot use", _CONVERT)
        pairs[base], rank = _shape(layout.label, base, first, second)
        ranks.append(rank)
    if not pairs:
        raise FileProblem(f"{layout.label} changes no tensor", _CONVERT)
    return pairs, ranks


def _shape(
    label: str, base: str, first: TensorForm, second: TensorForm
) -> tuple[tuple[int, int], int]:
    a, b = (*first.shape, 1)[:2], (*second.shape, 1)[:2]
    # llama.cpp keeps the first one of an embedding the other way round.
    (rows, rank), out = (a[::-1], b[1]) if base.startswith("token_embd") else (a, b[1])
    if rank != b[0]:
        raise FileProblem(f"{label}: the two parts of {base} do not fit each other", _CONVERT)
    return (rows, out), rank


def require_belonging(adapter: Adapter, base: GgufLayout) -> None:
    """Refuse an adapter that was trained on another model than this one.

    Raises:
        FileProblem: It changes a tensor that the model has not, or has in another shape.
    """
    for name, shape in adapter.pairs.items():
        found = base.tensors.get(name)
        if found is None or sorted(found.shape) != sorted(shape):
            has = "none" if found is None else "x".join(map(str, found.shape))
            raise FileProblem(
                f"{adapter.path} changes {name} of {'x'.join(map(str, shape))}; {base.label} has "
                f"{has}",
                "name the model that it was trained on",
            )


def merged_bytes(adapter: Adapter, base: GgufLayout) -> int:
    """Bytes that a model has at most with an adapter merged into it: what changes becomes F16."""
    return base.size + sum(2 * math.prod(shape) for shape in adapter.pairs.values())
