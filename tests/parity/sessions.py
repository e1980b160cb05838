"""``python -m tests.parity.sessions`` compares made-up sessions through the gateway, and counts.

Each goes through the gateway to a live server, in both formats and on each road that the carrier
has, and its prompt is held against mistral-common's by characters. What the reference's own
validator takes is counted apart from what it would refuse. Exit code 1 where one differs.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

from ollama_tools.devstral.carriers import CONTROL_TOKENS, Carrier
from ollama_tools.devstral.catalog import TokenizerVersion
from ollama_tools.errors import ServerError
from ollama_tools.gateway.asked import Problem
from ollama_tools.gateway.settings import ToolCallParser
from ollama_tools.server.client import Server
from tests.parity.conversation import Conversation, to_openai
from tests.parity.gateway import exact, render_through
from tests.parity.places import Place, parity_server
from tests.parity.predicates import refusals
from tests.parity.reference import Reference
from tests.parity.strategies import sessions
from tests.testbed.build import NEWEST

CHAT = "/v1/chat/completions"
ROADS = {
    Carrier.GGUF: (ToolCallParser.SERVER, ToolCallParser.GATEWAY),
    Carrier.MODELFILE: (ToolCallParser.SERVER,),
}
"""Who may read a model's calls, by where its template lives."""
_SHOWN = 5
"""Differences of one kind that are printed."""
_AROUND = 60
"""Characters of a difference that are printed."""
_CONTROL = re.compile("|".join(map(re.escape, CONTROL_TOKENS)))


@dataclass
class Tally:
    """What became of the sessions on one road.

    Attributes:
        exact: Sessions whose prompt is the reference's.
        unlike: Those of them that the reference's validator would refuse.
        refused: Sessions that the server refuses by any way, by the name of the refusal.
        differences: The others, by where they differ first, or why there is no prompt.
        examples: Some of those.
    """

    exact: int = 0
    unlike: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    differences: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def compare(
        self,
        server: Server,
        place: Place,
        parser: ToolCallParser,
        conversation: Conversation,
        wanted: Reference,
    ) -> None:
        """Send a session, and count what becomes of it."""
        try:
            prompt = render_through(server, place, CHAT, to_openai(conversation), parser)
        except (ServerError, Problem) as error:
            self._differs(f"no prompt: {type(error).__name__}", str(error))
            return
        if prompt == wanted.text:
            self.exact += 1
            self.unlike += bool(wanted.refused)
            return
        at = next(
            (
                i
                for i, pair in enumerate(zip(wanted.text, prompt, strict=False))
                if len({*pair}) > 1
            ),
            min(len(wanted.text), len(prompt)),
        )
        tokens = _CONTROL.findall(wanted.text[:at])
        shown = f"- {wanted.text[at : at + _AROUND]!r}\n+ {prompt[at : at + _AROUND]!r}"
        self._differs(f"behind {tokens[-1] if tokens else 'the beginning'}", shown)

    def _differs(self, kind: str, example: str) -> None:
        self.differences[kind] += 1
        if self.differences[kind] <= _SHOWN:
            self.examples.append(f"{kind}\n{example}")


Tallies = dict[Place, dict[ToolCallParser, Tally]]


def run(server: Server, carrier: Carrier, count: int, number: int) -> Tallies:
    """Compare sessions.

    Args:
        server: A server with the carrier's models.
        carrier: Where the template lives.
        count: How many sessions.
        number: Which ones: the same number makes the same sessions.
    """
    found = {
        Place(carrier, version): {parser: Tally() for parser in ROADS[carrier]}
        for version in reversed(TokenizerVersion)
    }
    started, done = time.monotonic(), 0

    @seed(number)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(sessions())
    def compare(conversation: Conversation) -> None:
        nonlocal done
        for place, tallies in found.items():
            if names := refusals(place, conversation):
                for each in tallies.values():
                    each.refused[", ".join(names)] += 1
                continue
            wanted = exact(place, conversation)
            for parser, tally in tallies.items():
                tally.compare(server, place, parser, conversation, wanted)
        done += 1
        if done % 250 == 0:
            print(f"{done} in {time.monotonic() - started:.0f} s", file=sys.stderr)
            print(*lines(found), sep="\n", file=sys.stderr, flush=True)

    compare()
    return found


def lines(found: Tallies) -> Iterator[str]:
    """A line for each road, and what differs on it."""
    for place, tallies in found.items():
        for road, tally in tallies.items():
            total = tally.exact + tally.differences.total()
            yield (
                f"{place.version.value}, the {road.value} reads: {tally.exact} of {total} exact "
                f"({tally.unlike} of them the reference's validator would refuse)"
            )
            for kind, times in (*tally.refused.most_common(), *tally.differences.most_common()):
                yield f"  {times} {kind}"
            yield from tally.examples


def main() -> int:
    """Run, and print a line for each road."""
    parser = argparse.ArgumentParser(prog="python -m tests.parity.sessions", description=__doc__)
    parser.add_argument("--count", type=int, default=5000, help="sessions")
    parser.add_argument("--seed", type=int, default=1, help="which ones")
    parser.add_argument(
        "--carrier", type=Carrier, choices=list(ROADS), default=Carrier.GGUF, help="whose template"
    )
    chosen = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as directory,
        parity_server(NEWEST, Path(directory), (chosen.carrier,)) as server,
    ):
        found = run(server, chosen.carrier, chosen.count, chosen.seed)
    print(*lines(found), sep="\n")
    differ = any(each.differences for tallies in found.values() for each in tallies.values())
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
