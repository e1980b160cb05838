"""Headers of tunes: a sound one, and the same with anything in it another."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ollama_tools.devstral.vocabulary import base_tokens
from ollama_tools.files import gguf_writer
from ollama_tools.files.gguf_rewrite import Rewriting, Setting, rewrite
from ollama_tools.files.gguf_writer import write_gguf

CHATML: Final = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

SOUND: Final[Mapping[str, gguf_writer.Value]] = {
    "general.architecture": "llama",
    "general.name": "mine",
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "tekken",
    "tokenizer.ggml.tokens": base_tokens(),
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.eos_token_id": 2,
    "tokenizer.ggml.add_bos_token": True,
    "tokenizer.ggml.add_eos_token": False,
}
"""What says of a file that it has Devstral's tokenizer; in the width of none of its releases."""

SHAPE: Final[Mapping[str, gguf_writer.Value]] = {
    "llama.block_count": 40,
    "llama.embedding_length": 5120,
    "llama.feed_forward_length": 32768,
    "llama.context_length": 131072,
}
"""The shape of the Small of 2505 and 2507."""


def write_header(path: Path, **changes: gguf_writer.Value | None) -> Path:
    """Write a GGUF that has a header and no tensors.

    Args:
        path: File to write.
        **changes: Keys with another value than in :data:`SOUND`; None leaves one out.

    Returns:
        The file.
    """
    said = {**SOUND, **changes}
    write_gguf(path, {key: value for key, value in said.items() if value is not None}, {})
    return path


def spoil(path: Path, target: Path, *settings: Setting) -> Path:
    """Copy a GGUF with other values in its header.

    Returns:
        The copy.
    """
    target.write_bytes(b"".join(rewrite(path, Rewriting(None, settings)).chunks()))
    return target
