"""How large the weights are that a person names, without bringing them."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from ollama_tools.devstral.fit import Weights, weights_of_release
from ollama_tools.devstral.reference import parse_reference
from ollama_tools.errors import UsageError
from ollama_tools.files.gguf import parse_header, read_header
from ollama_tools.files.gguf_rewrite import parts
from ollama_tools.model.published import hub_beginning
from ollama_tools.wanted.source import FileSource, HubSource, named_source
from ollama_tools.wanted.wish import Wish

if TYPE_CHECKING:
    from ollama_tools.devstral.catalog import Catalog
    from ollama_tools.progress import Progress

_BEGINNING = 1 << 16
"""Bytes of a file; the shape stands in its first kilobytes, before the vocabulary."""


def weights_of(said: str | None, catalog: Catalog, progress: Progress) -> list[Weights]:
    """The weights that a person means: those of one file, or of all quants of a release.

    Args:
        said: A release, a quant, a GGUF on this machine or a hub reference; the default release if
            absent. The hub is asked for the first 64 KiB of a file that the catalog does not have.
        catalog: The known releases.
        progress: Hears of it.

    Returns:
        One or more, the smallest first.

    Raises:
        UsageError: It names nothing whose size can be known.
        FileProblem: The file is no GGUF of a language model.
        HubError: The hub refuses or does not answer.
    """
    release = catalog.default if said is None else catalog.find_release(said.strip())
    if release is not None:
        return weights_of_release(release)
    said = said or ""
    reference = parse_reference(said, catalog)
    match named_source(reference, Wish(reference=said)):
        case HubSource(bytes=int(size), tag=quant, estimated=estimated) if reference.release:
            shape = reference.release.architecture
            return [Weights.of(quant, shape, size, estimated=estimated)]
        case HubSource() as source:
            start, size = hub_beginning(source, _BEGINNING, progress)
            header = parse_header(io.BytesIO(start), size, str(source), partial=True)
            return [Weights.of(source.tag, header.shape(), size)]
        case FileSource(path=path):
            shape = read_header(path).shape()
            return [Weights.of(path.stem, shape, sum(each.stat().st_size for each in parts(path)))]
    raise UsageError(
        f"{said!r} is the name of a model on a server, which does not say how large its parts are",
        "name a quant, a release, a GGUF file or a hub reference",
    )
