"""Projectors: what lets a text model see images is a GGUF of its own, and this tells which one."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from ollama_tools.errors import FileProblem
from ollama_tools.files.gguf import GgufHeader, read_header

# mmproj-F16.gguf and mmproj-model-f16.gguf, and Unsloth's newer model.F16-mmproj.gguf.
_NAME = re.compile(r"(^|[-._/])mmproj[-._]", re.IGNORECASE)
_KINDS = ("f16", "bf16", "f32")


def projector_names(names: Iterable[str]) -> list[str]:
    """Those of some names of files that are projectors' by custom, the preferred one first.

    F16 is preferred, as Unsloth's guide to running Devstral has it.
    """

    def rank(name: str) -> int:
        stem = PurePosixPath(name).stem.casefold()
        found = (re.search(rf"(^|[-._]){kind}([-._]|$)", stem) for kind in _KINDS)
        return next((place for place, match in enumerate(found) if match), len(_KINDS))

    return sorted((name for name in sorted(names) if _NAME.search(name)), key=rank)


def is_projector(header: GgufHeader) -> bool:
    """Whether a GGUF is a projector, by the keys by which Ollama and llama.cpp tell it."""
    kind = header.metadata.get("general.type")
    return kind in ("mmproj", "projector") or (
        header.architecture == "clip" and header.metadata.get("clip.has_vision_encoder") is True
    )


def projected_width(header: GgufHeader) -> int | None:
    """Width of the hidden state that a projector writes; None where it does not say."""
    width = header.metadata.get("clip.vision.projection_dim")
    return width if isinstance(width, int) else None


def text_width(header: GgufHeader) -> int | None:
    """Width of the hidden state of a language model; None where its header does not say."""
    width = header.value("embedding_length")
    return width if isinstance(width, int) else None


def projector_beside(model: Path) -> Path | None:
    """The projector that lies in the folder of a model's GGUF, one that fits it if there is any.

    Raises:
        FileProblem: The model's file cannot be read.
    """
    try:
        names = projector_names(each.name for each in model.parent.glob("*.[gG][gG][uU][fF]"))
    except OSError:
        return None
    found = [model.parent / name for name in names if name != model.name]
    if not found:
        return None
    width = text_width(read_header(model))
    return next((each for each in found if _fits(each, width)), found[0])


def _fits(path: Path, width: int | None) -> bool:
    try:
        header = read_header(path)
    except FileProblem:
        return False
    return is_projector(header) and projected_width(header) in (width, None)
