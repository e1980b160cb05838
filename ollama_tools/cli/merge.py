"""``merge``: a LoRA adapter into its model, since Ollama takes none; no server is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ollama_tools.cli.command import command
from ollama_tools.cli.options import MODELS
from ollama_tools.cli.output import Output

commands = typer.Typer()


@command(commands, "merge", panel=MODELS)
def merge(
    output: Output,
    base: Annotated[
        str,
        typer.Argument(
            metavar="BASE",
            help="The model that the adapter was trained on: ./base.gguf, or a quant, which is "
            "downloaded first.",
        ),
    ],
    adapter: Annotated[
        Path, typer.Option("--adapter", metavar="FILE", help="The LoRA adapter, as GGUF.")
    ],
    file: Annotated[
        Path | None,
        typer.Option(
            "--output",
            metavar="FILE",
            help="The file to write; else one in the working directory, named by both.",
        ),
    ] = None,
    program: Annotated[
        str | None,
        typer.Option(
            "--program", metavar="PATH", help="llama-export-lora, where it is not on PATH."
        ),
    ] = None,
) -> None:
    """Merge a LoRA adapter into the model that it was trained on, by llama.cpp's llama-export-lora.

    Ollama takes no adapter since 0.34.1. The file appears whole or not at all; what changed is F16
    in it, so that it is larger than a quantized base.
    """
    from ollama_tools.devstral.catalog_file import load_catalog
    from ollama_tools.model.merge import merge as merged
    from ollama_tools.progress import size_text

    done = merged(base, adapter, load_catalog(), output, output=file, program=program)
    text = f"{done.path}: {size_text(done.bytes)}, {done.tensors} tensors changed by {done.adapter}"
    output.result(done.as_json(), text, str(done.path))
    output.hint(f"next: devstral-ollama create {done.path}")
