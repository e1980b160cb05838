"""``python -m tests.parity.carriers`` runs every carrier and writes the document about them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import mistral_common
from mistral_common.integrations.chat_templates.chat_templates import generate_chat_template
from mistral_common.tokens.tokenizers.base import TokenizerVersion as ReferenceVersion

from ollama_tools.devstral.carriers import Carrier, jinja_source
from ollama_tools.devstral.catalog import TokenizerVersion
from ollama_tools.errors import ServerError
from ollama_tools.server.client import Server
from tests.parity.canonical import CASES
from tests.parity.conversation import from_openai
from tests.parity.places import (
    Place,
    llama_place,
    parity_llama_servers,
    parity_server,
    render_live,
)
from tests.parity.recorded import Score, score, score_llama_server
from tests.parity.reference import reference
from tests.testbed.build import NEWEST, OLDEST

TARGET = Path(__file__).parents[2] / "docs" / "explanation" / "carriers.md"

_PEER = f"mistral-common {mistral_common.__version__}"
"""The maker's own template, as its generator writes it, on a dedicated server."""

_LLAMA_SERVER = "llama-server"
"""The complete form of our Jinja, on llama.cpp's own server."""

_INTRODUCTION = """\
# What each carrier gives

Written by `python -m tests.parity.carriers` out of a run on live servers, against mistral-common.

- **canonical**: conversations of this package whose prompt is the reference's, character by
  character.
- **recorded**: requests of real clients whose prompt is that of the request *as the client sent
  it*; and the characters inserted and deleted in all of them, in relation to the reference's.
- **as decoded**: recorded requests whose prompt is that of the request *as Ollama decodes it*,
  which is the most that any template can reach. What Ollama drops and re-orders is named in
  `tests/parity/predicates.py`, each thing with a test that it is still so.

| carrier | Ollama | format | canonical | recorded | characters that differ | as decoded |
|---|---|---|---|---|---|---|
"""
_NOTES = """
`hub` is a template like the one that Unsloth publishes, which this package applies only where a
live check passes; `server` is our Jinja in the environment of a dedicated server, and needs
nothing of the model's file. Here the `hub` models have no SYSTEM, so that the template puts its own
default prompt before conversations without one; `create` always sets one. `llama-server` is
llama.cpp's own, with no Ollama before it and the complete form of our Jinja
([how-to](../how-to/llama-cpp.md)): of the recorded requests those that went to
`/v1/chat/completions`, since of the others it does not tell the prompt. The form for Ollama gives
18 of them there. mistral-common's rows are
the Jinja that its own generator writes, on a dedicated server as `server` is: it is made for
requests as its own library has them, and refuses what that refuses, so that the client gets an
error: in v7 every call of which Ollama made the id (13 characters, where the format has 9). v13 is
the format of Devstral-Small-2507 and of the Devstral 2 family, v7 that of Devstral-Small-2505.

| | argument order | calls are read by | a call of a tool that was not offered |
|---|---|---|---|
| `gguf`, `hub`, `server` | kept | llama.cpp, by a grammar | cannot be written |
| `modelfile`, v13 | sorted by the server | `PARSER ministral` | HTTP 500 |
| `modelfile`, v7 | sorted by the server | the server's generic parser | lost |

[What becomes of a tool call](../reference/tool-calls.md) has the second table's proof, case by
case; `python -m benchmarks.prefix_reuse` says how much of a prompt each evaluates again.
"""


@dataclass(frozen=True)
class Row:
    """How a carrier fares with one format on one server."""

    place: Place
    canonical: int
    recorded: Score
    peer: str = ""

    def __str__(self) -> str:
        found = self.recorded
        # What Ollama makes of a request is known for our templates.
        known = not self.peer and self.place.carrier is not Carrier.HUB
        decoded = f"{found.decoded} of {found.requests}" if known else ""
        if found.refused:
            decoded = f"{found.refused} refused"
        label = self.peer or f"`{self.place.carrier}`"
        begin = f"| {label} | {self.place.ollama} | {self.place.version.value} |"
        if not self.place.by_ollama:
            begin, decoded = llama_server_row(self.place.version), ""
        return (
            f"{begin[:-1]}"
            f"| {self.canonical} of {len(CASES)} | {found.identical} of {found.requests} "
            f"| {found.share:.1%} | {decoded} |"
        )


def llama_server_row(version: TokenizerVersion) -> str:
    """How the row of llama-server by itself begins."""
    return f"| {_LLAMA_SERVER} | none | {version.value} |"


def canonical(server: Server, place: Place) -> int:
    """How many canonical conversations have the reference's prompt."""
    exact = 0
    for body in CASES.values():
        conversation = from_openai(body)
        try:
            rendered = render_live(server, place, conversation)
        except ServerError:
            continue
        exact += rendered == reference(place.version, conversation).text
    return exact


def rows() -> Iterator[Row]:
    """Every carrier with every format, on every server that can have it."""
    both = tuple(reversed(TokenizerVersion))
    for carrier in (Carrier.GGUF, Carrier.HUB, Carrier.MODELFILE):
        yield from _on_one_server(NEWEST, carrier, both)
    for version in both:
        ours = jinja_source(version)
        yield from _on_one_server(NEWEST, Carrier.SERVER, (version,), dedicated=ours)
    for version in both:
        peer = generated_template(version)
        rows = _on_one_server(NEWEST, Carrier.SERVER, (version,), dedicated=peer)
        yield from (replace(each, peer=_PEER) for each in rows)
    yield from _on_one_server(OLDEST, Carrier.MODELFILE, both)
    with (
        tempfile.TemporaryDirectory() as directory,
        parity_llama_servers(Path(directory)) as servers,
    ):
        for version in both:
            place, server = llama_place(version), servers[version]
            yield Row(place, canonical(server, place), score_llama_server(server, version))


def generated_template(version: TokenizerVersion) -> str:
    """What mistral-common's own generator makes for a format; with nothing that Devstral lacks."""
    template: str = generate_chat_template(
        spm=False,
        tokenizer_version=ReferenceVersion(version.value),
        image_support=False,
        audio_support=False,
        thinking_support=False,
        default_system_prompt=None,
        plain_thinking_support=False,
        use_special_token_variables=True,
        model_settings_fields=None,
        reasoning_effort_values=None,
        reasoning_effort_default=None,
    )
    return template


def _on_one_server(
    ollama: str,
    carrier: Carrier,
    versions: tuple[TokenizerVersion, ...],
    dedicated: str | None = None,
) -> Iterator[Row]:
    with (
        tempfile.TemporaryDirectory() as directory,
        parity_server(ollama, Path(directory), (carrier,), dedicated) as server,
    ):
        for version in versions:
            place = Place(carrier, version, ollama=ollama)
            yield Row(place, canonical(server, place), score(server, carrier, version, ollama))


def main() -> None:
    """Write the document."""
    lines = []
    for row in rows():
        print(row, flush=True)
        lines.append(str(row))
    TARGET.write_text(_INTRODUCTION + "\n".join(lines) + "\n" + _NOTES, encoding="utf-8")


if __name__ == "__main__":
    main()
