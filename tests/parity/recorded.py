"""Requests of real clients: the corpus, and how their prompts fare in each place.

``python -m tests.parity.recorded`` prints the table.
"""

from __future__ import annotations

import difflib
import json
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ollama_tools.catalog import TokenizerVersion
from ollama_tools.server import Server
from ollama_tools.template import Carrier
from tests.parity.conversation import (
    Body,
    Conversation,
    from_anthropic,
    from_openai,
    from_responses,
)
from tests.parity.places import Place, Surface, parity_server, render_body, render_live
from tests.parity.predicates import at_work, expected
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
        """What it says, with ids where the client sends none: the reference asks for them."""
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
            body = {key: self.body[key] for key in ("messages", "tools") if key in self.body}
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
        differing: Characters inserted and deleted.
        characters: Characters of the reference.
        reasons: Names of the predicates at work, with the number of requests.
    """

    requests: int = 0
    identical: int = 0
    decoded: int = 0
    differing: int = 0
    characters: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def share(self) -> float:
        """Differing characters in relation to the reference's."""
        return self.differing / self.characters


def score(server: Server, carrier: Carrier, version: TokenizerVersion, ollama: str) -> Score:
    """Puts the whole corpus to a place."""
    total = Score()
    for request in recorded():
        place = Place(carrier, version, request.surface, ollama)
        exact = reference(version, with_ids(place, request.conversation)).text
        rendered = request.render(server, place)
        total.requests += 1
        total.characters += len(exact)
        total.decoded += rendered == expected(place, request.decoded).text
        if rendered == exact:
            total.identical += 1
        else:
            total.differing += difference(exact, rendered)
            total.reasons.update(at_work(place, request.decoded))
    return total


def with_ids(place: Place, conversation: Conversation) -> Conversation:
    """A conversation with the ids that the templates make up, which is no difference of theirs."""
    from tests.parity.predicates import PREDICATES

    change = next(each.change for each in PREDICATES if each.name == "ids")
    assert change
    return change(place, conversation)


def difference(left: str, right: str) -> int:
    """Characters to delete and to insert between two prompts, by their words."""
    total = 0
    blocks = [re.split(r"(?<=\])(?=\[)|(?=\[/?[A-Z_]+\])", text) for text in (left, right)]
    for tag, start, end, start_right, end_right in difflib.SequenceMatcher(
        None, *blocks, autojunk=False
    ).get_opcodes():
        if tag != "equal":
            words = [
                re.findall(r"\w+|\s+|.", "".join(part))
                for part in (blocks[0][start:end], blocks[1][start_right:end_right])
            ]
            total += _by_word(*words)
    return total


def _by_word(left: list[str], right: list[str]) -> int:
    total = 0
    # Frequent words are left out as anchors (autojunk): else a long prompt takes minutes.
    for tag, *span in difflib.SequenceMatcher(None, left, right).get_opcodes():
        if tag != "equal":
            total += len("".join(left[span[0] : span[1]]))
            total += len("".join(right[span[2] : span[3]]))
    return total


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
