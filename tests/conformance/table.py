"""``python -m tests.conformance.table`` runs every case and writes docs/reference/tool-calls.md.

With ``--stored`` nothing runs: the document is written out of the results of the last run.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

from ollama_tools.gateway.settings import ToolCallParser
from ollama_tools.server.client import Server
from tests.conformance.bed import (
    CARRIERS,
    LLAMA_SERVER,
    WAYS,
    Cells,
    carriers,
    create_models,
    llama_servers,
    run,
)
from tests.conformance.outcomes import MEANING, Word, word
from tests.conformance.store import VERSIONS, load, save
from tests.testbed.build import ollama_build
from tests.testbed.gateway import GatewayServer
from tests.testbed.server import OllamaServer

TARGET = Path(__file__).parents[2] / "docs" / "reference" / "tool-calls.md"

_INTRODUCTION = """\
# What becomes of a tool call

Written by `python -m tests.conformance.table` out of a run; a test holds it to the stored results,
and another holds those to a live server.

A miniature model writes exactly the output of each case on a real server. The same is asked on
`/api/chat` (which llama-server lacks), `/v1/chat/completions`, `/v1/responses` and `/v1/messages`,
each plain and streamed: eight ways. Where they agree a cell holds one word, else each word with the
ways it holds for.

| carrier | what the model is |
|---|---|
| `gguf` | our Jinja in the GGUF, no TEMPLATE, no PARSER; calls are held to a grammar |
| `modelfile` | our Go TEMPLATE with `PARSER ministral` |
| `generic` | our Go TEMPLATE without PARSER: the server's generic parser |
| `gguf v7` | the same as `gguf` for Devstral-Small-2505, whose calls are a JSON list with ids |
| `modelfile v7` | our Go TEMPLATE for Devstral-Small-2505, without PARSER |
| `gateway` | the models of `gguf` through the gateway; the server reads the calls |
| `gateway reads`, `… v7` | the same with `--tool-call-parser gateway`; no grammar holds the model |
| `llama-server`, `… v7` | llama.cpp's server by itself, with the complete form of our Jinja |
"""
_NOTES = """
- A grammar knows the keys of a call in the order of the schema alone. `/v1/responses` sorts the
  properties of a schema, so there a model has to write its arguments in alphabetical order.
- The generic parser gives arguments in an order that changes from answer to answer; it does not
  count in its columns.
- Once a stream has begun, `/v1` surfaces tell nothing of an error; `/api/chat` sends it as a line.
- Before 0.32.15 an error of `PARSER ministral` now and then leaves the request hanging; such a
  request is asked again here.
- Under a grammar every character of the arguments costs time: 1 MiB takes seconds.
  Where the gateway reads the calls there is none.
- Through a gateway an answer that was cut off says so, also where it is empty (`length`).
"""


def live_results(version: str, directory: Path) -> Cells:
    """Run every case on a server of its own."""
    if version == LLAMA_SERVER:
        with llama_servers(directory) as urls:
            return run(version, urls.__getitem__)
    with (
        OllamaServer(
            ollama_build(version),
            models_dir=directory / "models",
            log_path=directory / "ollama.log",
            env={"OLLAMA_MAX_LOADED_MODELS": "8", "OLLAMA_KEEP_ALIVE": "-1"},
        ) as bed,
        Server(bed.url) as server,
    ):
        create_models(server, directory, version)
        with ExitStack() as stack:
            gateways = {
                each.behind: stack.enter_context(_gateway(bed.url, each.behind, directory)).url
                for each in carriers(version)
                if each.behind is not None
            }
            return run(version, lambda _: bed.url, gateways)


def _gateway(upstream: str, parser: ToolCallParser, directory: Path) -> GatewayServer:
    log = directory / f"gateway-{parser}.log"
    return GatewayServer(upstream, "--tool-call-parser", parser, log_path=log)


def markdown() -> str:
    """The document, out of the stored results."""
    parts = [_INTRODUCTION, *_meanings(), _NOTES.rstrip("\n")]
    for version in VERSIONS:
        parts += _section(version, load(version))
    return "\n".join(parts) + "\n"


def _meanings() -> Iterator[str]:
    yield "| word | meaning |"
    yield "|---|---|"
    yield from (f"| {each} | {meaning} |" for each, meaning in MEANING.items())


def _section(version: str, cells: Cells) -> Iterator[str]:
    shown = [each.name for each in CARRIERS if any(each.name in row for row in cells.values())]
    title = "llama-server by itself" if version == LLAMA_SERVER else f"Ollama {version}"
    yield f"\n## {title}\n"
    yield f"| the model writes | {' | '.join(f'`{each}`' for each in shown)} |"
    yield "|---|" + "---|" * len(shown)
    for case, row in cells.items():
        columns = (_cell(row[each], each) if each in row else "" for each in shown)
        yield f"| {_escaped(case)} | {' | '.join(columns)} |"
    yield f"\n### What arrives instead, {title}\n"
    yield "| the model writes | carrier | what arrives |"
    yield "|---|---|---|"
    for case, row in cells.items():
        for carrier, ways in row.items():
            if found := _instead(ways, carrier):
                yield f"| {_escaped(case)} | `{carrier}` | {'; '.join(found)} |"


def _cell(ways: Mapping[str, str], carrier: str) -> str:
    groups: dict[Word, list[str]] = {}
    for way, outcome in ways.items():
        groups.setdefault(word(outcome, carrier), []).append(way)
    if len(groups) == 1:
        return next(iter(groups))
    # The commonest word needs no ways beside it.
    ranked = sorted(groups.items(), key=lambda group: -len(group[1]))
    rest = (f"{each} ({_ways(found)})" for each, found in ranked[1:])
    return ", ".join([ranked[0][0], *rest])


def _ways(found: list[str]) -> str:
    """Ways in short: a path alone stands for plain and streamed."""
    short = []
    for plain, streamed in zip(WAYS[::2], WAYS[1::2], strict=True):
        path = f"`{plain.split()[0]}`"
        if plain in found and streamed in found:
            short.append(path)
        elif plain in found or streamed in found:
            short.append(f"{path} {(plain if plain in found else streamed).split()[1]}")
    if len(short) == len(WAYS) // 2 and len({each.partition(" ")[2] for each in short}) == 1:
        return short[0].partition(" ")[2]
    return ", ".join(short)


_TELLING = (Word.WRONG_NUMBER, Word.OTHER, Word.AS_TEXT, Word.ERROR, Word.MALFORMED)


def _instead(ways: Mapping[str, str], carrier: str) -> list[str]:
    told = dict.fromkeys(
        outcome.removeprefix("error: ").removeprefix("answers ").removeprefix("-1: ")
        for outcome in ways.values()
        if word(outcome, carrier) in _TELLING
    )
    # An error in the middle of a stream says the same as the one of a plain answer.
    return [
        f"`` {_escaped(each)} ``"
        for each in told
        if not any(each != other and other.endswith(each) for other in told)
    ]


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> None:
    """Run, store, write."""
    parser = argparse.ArgumentParser(description="Write docs/reference/tool-calls.md.")
    parser.add_argument("--stored", action="store_true", help="write the document only")
    parser.add_argument("--ollama", action="append", choices=VERSIONS, help="run this one only")
    chosen = parser.parse_args()
    for version in () if chosen.stored else chosen.ollama or VERSIONS:
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="conformance-") as directory:
            save(version, live_results(version, Path(directory)))
        print(f"{version}: {time.monotonic() - started:.0f} s")
    TARGET.write_text(markdown(), encoding="utf-8")


if __name__ == "__main__":
    main()
