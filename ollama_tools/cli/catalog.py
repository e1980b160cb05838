"""``quants``: what the catalog knows; no server and no hub is asked."""

from __future__ import annotations

from typing import Annotated

import typer

from ollama_tools.cli.command import command
from ollama_tools.cli.output import Output

commands = typer.Typer()


@command(commands, "quants", panel="Models")
def quants(
    output: Output,
    release: Annotated[
        str | None,
        typer.Argument(metavar="RELEASE", help="2507, 2505, 2512, 123b …; 2507 if absent."),
    ] = None,
) -> None:
    """List the quants of a release, the smallest first, with the sizes of their files."""
    from ollama_tools.cli.documents import QuantsJson
    from ollama_tools.devstral.catalog_file import load_catalog

    catalog = load_catalog()
    found = catalog.default if release is None else catalog.release(release)

    def human() -> None:
        output.write(f"{found.name}, hf.co/{found.repository}")
        rows = [
            (
                each.name,
                each.size_text,
                each.filename,
                "default" if each.name == found.default_quant else "",
            )
            for each in found.quants
        ]
        output.table(("QUANT", "SIZE", "FILE", ""), rows)

    output.result(
        QuantsJson(
            release=found.name,
            repository=found.repository,
            default=found.default_quant,
            quants=[each.as_json() for each in found.quants],
        ),
        human,
        [each.name for each in found.quants],
    )
