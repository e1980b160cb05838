"""Which weights are refused, by their header or by the room that they take."""

from __future__ import annotations

import shutil

from ollama_tools.devstral.header import (
    HeaderFault,
    header_faults,
    require_answer,
    require_architecture,
    require_fit,
    require_model,
    require_sound,
)
from ollama_tools.errors import (
    ServerError,
)
from ollama_tools.files import gguf
from ollama_tools.files.projectors import text_width
from ollama_tools.model.steps import Run
from ollama_tools.model.surroundings import Fits
from ollama_tools.progress import size_text
from ollama_tools.server.names import is_build_of
from ollama_tools.server.process import find_server_process
from ollama_tools.server.shown import Shown
from ollama_tools.wanted.spec import Spec, check_context

SPARE = 512 * 1024**2
"""Bytes that must stay free on a disk beside a model's own."""


def check_room(run: Run, size: int | None) -> None:
    """Refuse bytes that cannot fit, where the server's disk can be seen from here.

    Raises:
        ServerError: They cannot.
    """
    process = find_server_process(run.server.url)
    directory = process.models_directory if process else None
    if size is None or directory is None:
        return
    while not directory.exists():
        directory = directory.parent
    free = shutil.disk_usage(directory).free
    if free >= size + SPARE:
        return
    message = f"{run.name} takes {size_text(size)}, and {size_text(free)} are free at {directory}"
    # The blob may be there already under another name, which only a pull will tell.
    if any(is_build_of(each.name, run.name) for each in run.server.models()):
        run.progress.warn(message)
        return
    raise ServerError(message, "free space, choose a smaller quant, or move OLLAMA_MODELS")


def check_sight(header: gguf.GgufHeader, fits: Fits) -> None:
    """Refuse a model that its projector is not for.

    Raises:
        UsageError: It is not.
    """
    require_model(header)
    fits(header.label, text_width(header))


def check_header(spec: Spec, header: gguf.GgufHeader) -> list[HeaderFault]:
    """Refuse a file that is none of the release's.

    Returns:
        What is mended in its header on its way.

    Raises:
        UsageError: It is another model, its own template is another family's and nobody said what
            becomes of it, or it has not the context.
    """
    faults = require_fit(header, spec.release, keep_template=spec.keep_template)
    longest = header.value("context_length")
    if isinstance(longest, int):
        check_context(spec.context, longest, header.label)
    return faults


def check_shown(spec: Spec, label: str, shown: Shown, fix: str) -> None:
    """Refuse weights on a server that are none of the release's: nothing mends them there.

    Args:
        spec: What they are for.
        label: What to call them.
        shown: How the server shows them.
        fix: How they could be mended.

    Raises:
        UsageError: They are of another architecture, have not the context, or a fault in their
            header.
    """
    require_architecture(label, shown.architecture, spec.release)
    if shown.is_jinja:
        require_answer(label, shown.template, spec.keep_template)
    if shown.longest_context is not None:
        check_context(spec.context, shown.longest_context, label)
    keeps = bool(spec.keep_template)
    faults = header_faults(shown.header, spec.release.tokenizer, keeps_template=keeps)
    require_sound(label, faults, fix)
