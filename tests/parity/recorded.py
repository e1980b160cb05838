"""Requests of real clients: the corpus, and how their prompts fare in each place.

``python -m tests.parity.recorded`` prints the table.
"""

from __future__ import annotations

import difflib
import itertools
import json
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ollama_tools.devstral.carriers import Carrier
from ollama_tools.devstral.catalog import TokenizerVersion
from ollama_tools.errors import ServerError
from ollama_tools.server.client import Server
from tests.parity.conversation import (
    Body,
    Conversation,
    from_anthropic,
    from_openai,
    from_responses,
)
from tests.parity.places import (
    Place,
    Surface,
    llama_place,
    parity_server,
    render_body,
    render_live,
)
from tests.parity.predicates import PREDICATES, at_work, expected
from tests.parity.reference import reference
from tests.testbed.build import NEWEST

CORPUS = Path(__file__).parent / "corpus"

_READERS = {
    "/api/chat": from_openai,
    "/v1/chat/completions": from_openai,
    "/v1/messages": from_anthropic,
    "/v1/responses": from_responses,
}


@dataclass(frozen=True)
class Recorded:
    """One request of a client.

    Attributes:
        client: Name of its file.
        path: Where it went.
        body: What was sent.
    """

    client: str
    path: str
    body: Body

    @property
    def conversation(self) -> Conversation:
        """What it says."""
        return _READERS[self.path](self.body)

    @property
    def surface(self) -> Surface:
        """The surface that can be asked for the prompt of this request."""
        return Surface.OPENAI if self.path == Surface.OPENAI.value else Surface.NATIVE

    def render(self, server: Server, place: Place) -> str:
        """The prompt that a live server builds of it.

        Two surfaces do not tell; their requests go to ``/api/chat`` as the server passes them on.
        """
        if self.path in (surface.value for surface in Surface):
            body: Body = {
                key: value for key, value in self.body.items() if key in ("messages", "tools")
            }
            return render_body(server, place, body)
        return render_live(server, place, self.decoded)

    @property
    def decoded(self) -> Conversation:
        """What the surface makes of it before it is decoded like all others."""
        found = self.conversation
        if self.path == "/v1/responses":
            # Its tools pass through a map, which sorts all their keys.
            tools = json.loads(json.dumps(found.tools, sort_keys=True))
            return Conversation(found.messages, tools)
        return found


def recorded() -> Iterator[Recorded]:
    """All requests of the corpus, without those that repeat another."""
    seen = set()
    for file in sorted(CORPUS.glob("*.json")):
        document = json.loads(file.read_text(encoding="utf-8"))
        shared = document["shared"]
        for request in document["requests"]:
            body = {key: _expanded(value, shared) for key, value in request["body"].items()}
            content = json.dumps([request["path"], body])
            if content not in seen:
                seen.add(content)
                yield Recorded(file.stem, request["path"], body)


def _expanded(value: Any, shared: dict[str, Any]) -> Any:
    if isinstance(value, dict) and set(value) == {"$shared"}:
        return _expanded(shared[value["$shared"]], shared)
    if isinstance(value, list):
        return [_expanded(each, shared) for each in value]
    return value


@dataclass
class Score:
    """How a place fares with the corpus.

    Attributes:
        requests: How many there are.
        identical: How many prompts are the reference's, with the request as the client sent it.
        decoded: How many are, with the request as the server decodes it.
        refused: How many end in an error.
        differing: Characters inserted and deleted.
        characters: Characters of the reference.
        reasons: Names of the predicates at work, with the number of requests.
    """

    requests: int = 0
    identical: int = 0
    decoded: int = 0
    refused: int = 0
    differing: int = 0
    characters: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def share(self) -> float:
        """Differing characters in relation to the reference's."""
        return self.differing / self.characters


def score(server: Server, carrier: Carrier, version: TokenizerVersion, ollama: str) -> Score:
    """Puts the whole corpus to a place."""
    return _score(
        server, ((each, Place(carrier, version, each.surface, ollama)) for each in recorded())
    )


def score_llama_server(server: Server, version: TokenizerVersion) -> Score:
    """Puts to a llama-server what of the corpus went to the surface of which it tells the prompt.

    Args:
        server: The server, with the complete form of our Jinja.
        version: The format of its prompts.
    """
    place = llama_place(version)
    asked = [each for each in recorded() if each.path == Surface.OPENAI.value]
    return _score(server, ((each, place) for each in asked))


def _score(server: Server, requests: Iterable[tuple[Recorded, Place]]) -> Score:
    total = Score()
    for request, place in requests:
        version = place.version
        exact = reference(version, with_ids(place, request.conversation)).text
        total.requests += 1
        total.characters += len(exact)
        try:
            rendered = request.render(server, place)
        except ServerError:
            # The template refuses it, so that its client gets no answer at all.
            total.refused += 1
            total.differing += len(exact)
            continue
        total.decoded += rendered == expected(place, request.decoded).text
        if rendered == exact:
            total.identical += 1
        else:
            total.differing += difference(exact, rendered)
            total.reasons.update(at_work(place, with_ids(place, request.decoded)))
    return total


def with_ids(place: Place, conversation: Conversation) -> Conversation:
    """A conversation with the ids that the templates make up, which is no difference of theirs."""
    change = next(each.change for each in PREDICATES if each.name == "ids")
    assert change
    return change(place, conversation)


def difference(left: str, right: str) -> int:
    """Characters to delete and to insert between two prompts, by their words.

    Blocks and tools are matched first: word by word over a whole prompt takes minutes.
    """
    total = 0
    pieces: list[list[str]] = [
        re.split(r'(?=\[/?[A-Z_]+\])|(?=\{"type": "function")', prompt) for prompt in (left, right)
    ]
    matcher = difflib.SequenceMatcher(None, pieces[0], pieces[1], autojunk=False)
    for tag, start, end, other_start, other_end in matcher.get_opcodes():
        if tag == "equal":
            continue
        pairs = itertools.zip_longest(
            pieces[0][start:end], pieces[1][other_start:other_end], fillvalue=""
        )
        total += sum(_by_word(*pair) for pair in pairs)
    return total


def _by_word(left: str, right: str) -> int:
    words: list[list[str]] = [
        re.findall(r"\s*\w+|\s*.", text, flags=re.DOTALL) for text in (left, right)
    ]
    matcher = difflib.SequenceMatcher(None, words[0], words[1], autojunk=False)
    return sum(
        len("".join(words[0][start:end])) + len("".join(words[1][other_start:other_end]))
        for tag, start, end, other_start, other_end in matcher.get_opcodes()
        if tag != "equal"
    )


def main() -> None:
    """Prints how each place fares."""
    version = sys.argv[1] if len(sys.argv) > 1 else NEWEST
    carriers = [Carrier.GGUF, Carrier.MODELFILE] if version == NEWEST else [Carrier.MODELFILE]
    print(f"Ollama {version}\n")
    print("| carrier | format | identical | characters that differ | identical as decoded |")
    print("|---|---|---|---|---|")
    reasons = []
    with (
        tempfile.TemporaryDirectory() as directory,
        parity_server(version, Path(directory)) as server,
    ):
        for carrier in carriers:
            for each in reversed(TokenizerVersion):
                found = score(server, carrier, each, version)
                print(
                    f"| `{carrier.value}` | {each.value} | {found.identical} of {found.requests} "
                    f"| {found.share:.1%} | {found.decoded} of {found.requests} |",
                    flush=True,
                )
                reasons.append(f"{carrier.value} {each.value}: {dict(found.reasons)}")
    print("", *reasons, sep="\n")


if __name__ == "__main__":
    main()
