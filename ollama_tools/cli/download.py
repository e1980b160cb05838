"""``download``: a quant's files from the hub to this machine; no server is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ollama_tools.cli.command import command, field_option
from ollama_tools.cli.output import Output
from ollama_tools.wanted.wish import Wish

commands = typer.Typer()


@command(commands, "download", panel="Models")
def download(
    output: Output,
    reference: Annotated[
        str,
        typer.Argument(
            metavar="REFERENCE",
            help="UD-Q4_K_XL · 2505:Q4_K_M · hf.co/unsloth/Devstral-Small-2507-GGUF:Q8_0.",
        ),
    ],
    directory: Annotated[
        Path | None,
        typer.Option(
            "--dir",
            metavar="DIR",
            help="Put the files there; else into the Hugging Face cache, where llama.cpp and "
            "create look for them.",
        ),
    ] = None,
    vision: Annotated[
        bool,
        typer.Option("--vision", help="The projector as well, with which a model sees images."),
    ] = False,
    revision: Annotated[str | None, field_option(Wish, "revision")] = None,
) -> None:
    """Bring a quant's file from the hub to this machine, whole, and compare its SHA-256.

    What is here already is not fetched again, and a download that broke off goes on where it was.
    HF_XET_HIGH_PERFORMANCE=1 lets hf-xet take the whole line and all processors.
    """
    from ollama_tools.devstral.catalog_file import load_catalog
    from ollama_tools.files.digests import short_digest
    from ollama_tools.model.download import download as bring
    from ollama_tools.progress import size_text

    wish = Wish(reference=reference, revision=revision)
    found = bring(wish, load_catalog(), output, directory=directory, vision=vision)
    lines = [
        f"{each.path} {'is here' if each.brought else 'was here already'}: "
        f"{size_text(each.bytes)}, sha256 {short_digest(each.sha256)}"
        for each in found.files
    ]
    output.result(found.as_json(), lines, [str(each.path) for each in found.files])
