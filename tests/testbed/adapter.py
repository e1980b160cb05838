"""LoRA adapters for miniatures, as llama.cpp's convert_lora_to_gguf.py writes them."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

TENSOR = "output.weight"


def write_adapter(path: Path, base: Path, *, architecture: str = "llama") -> None:
    """Write an adapter by which a miniature swaps its two answers.

    To a plain question it then says what it said to a tool's result, and the other way round. Its
    rank is the width of the model, so that it carries the whole difference.

    Args:
        path: File to write.
        base: The miniature, of the usual script.
        architecture: Which one the adapter says it was trained on.
    """
    (output,) = (each for each in gguf.GGUFReader(base).tensors if each.name == TENSOR)
    before = output.data.astype(np.float32)
    after = before.copy()
    # The last tokens of its vocabulary are the two answers.
    after[[-2, -1]] = before[[-1, -2]]
    width = before.shape[1]
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    # The product is scaled by alpha / rank.
    writer.add_float32("adapter.lora.alpha", float(width))
    writer.add_tensor(f"{TENSOR}.lora_a", np.eye(width, dtype=np.float32))
    writer.add_tensor(f"{TENSOR}.lora_b", after - before)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
