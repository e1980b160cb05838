"""What the processes do: each does one thing over and over, and counts what came of it.

What an actor calls may end in :class:`Overtaken` where it switches; every other exception, and an
answer that cannot be true, is a fault and is counted with its words.
"""

from __future__ import annotations

import random
import re
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.synchronize import Event
from typing import Any

from ollama_tools import ensure_model
from ollama_tools.errors import Overtaken
from ollama_tools.model.builds import history, prune, rollback, switch
from ollama_tools.model.listing import list_models
from ollama_tools.model.status import model_status
from ollama_tools.server.client import Server
from ollama_tools.wanted.wish import Wish
from tests.stress.witness import Witness

QUANT = "UD-Q4_K_XL"
NAME = f"devstral-small-2507:{QUANT}"
PASSING = (2048, 3072, 5120, 6144)
"""Contexts of the builds that come and go."""

_VARIABLE = re.compile(
    r"/\S*/|(?<=-)[0-9a-f]{12}|(?<=\.s)[0-9a-f]{5}|(?<=\.try-)[0-9a-f]{8}|[0-9a-f]{64}"
)


@dataclass(frozen=True)
class Bed:
    """Where everything happens.

    Attributes:
        url: The server.
        registry: What it pulls from.
        builds: The builds that stay, with their digests.
        stop: Set when those who have no number of their own shall end.
    """

    url: str
    registry: str
    builds: dict[str, str]
    stop: Event

    def wish(self, context: int) -> dict[str, Any]:
        """The arguments of ``ensure_model`` for a build of that context."""
        return {
            "host": self.url,
            "context": context,
            "check": False,
            "via": "server",
            "registry": self.registry,
            # The hub's own prompt is not what is asked about.
            "system": "bundled",
        }


@dataclass
class Counts:
    """What came of one actor's work.

    Attributes:
        done: How often each thing came about.
        faults: What should not have happened, by its words; digits that vary are left out.
        where: The first traceback of each.
    """

    done: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    where: dict[str, str] = field(default_factory=dict)

    def fault(self, text: str, trace: str = "") -> None:
        """Count something that should not have happened."""
        key = _VARIABLE.sub("…", text)
        self.faults[key] += 1
        self.where.setdefault(key, trace)

    def attempt(self, what: str, act: Callable[[], None]) -> None:
        """Do something, and count how it ends."""
        try:
            act()
        except Overtaken:
            self.done[f"{what} overtaken"] += 1
        except Exception as error:
            self.fault(f"{what}: {type(error).__name__}: {error}", traceback.format_exc())
        else:
            self.done[what] += 1

    def add(self, other: Counts) -> None:
        """Count another actor's work as well."""
        self.done += other.done
        self.faults += other.faults
        self.where = other.where | self.where


def switcher(bed: Bed, counts: Counts, choice: random.Random, number: int) -> None:
    """Switch the name to one of the builds that stay, again and again."""
    with Witness(bed.url, NAME) as server:
        for _ in range(number):
            build = choice.choice(list(bed.builds))
            server.begin()
            try:
                switch(server, NAME, build)
            except Overtaken:
                counts.done["switch overtaken"] += 1
                if server.failed:
                    counts.fault("switch: Overtaken, though nothing was written")
                if not set(server.seen) - {None, bed.builds[build]}:
                    counts.fault("switch: Overtaken, though no other digest was seen")
            except Exception as error:
                counts.fault(f"switch: {type(error).__name__}: {error}", traceback.format_exc())
            else:
                counts.done["switch"] += 1
                if bed.builds[build] not in server.seen:
                    counts.fault("switch: success, though the name never stood for the build")
            counts.done["switch rewritten"] += max(0, server.writes - 1)


def reader(bed: Bed, counts: Counts, choice: random.Random) -> None:
    """Ask what a person would ask, and look whether it can be true."""
    wish = Wish(
        reference=QUANT, context=PASSING[0], via="server", registry=bed.registry, system="bundled"
    )
    with Server(bed.url) as server:

        def of_history() -> None:
            found = {each.name: each.digest for each in history(server, NAME)}
            if bed.builds.items() - found.items():
                counts.fault("history: a build that stays is missing")

        def of_list() -> None:
            found = {each.name: each for each in list_models(server).entries}
            if any(each.startswith(f"{NAME}-") for each in found):
                counts.fault("list: a build stands there as a model of its own")
            if NAME not in found:
                counts.fault("list: the name is missing")
            elif bed.builds.keys() - {each.name for each in found[NAME].builds}:
                counts.fault("list: a build that stays is missing")

        def of_show() -> None:
            if not server.show(NAME).blobs:
                counts.fault("show: no weights")

        def of_status() -> None:
            if model_status(server, wish).digest is None:
                counts.fault("status: the name is missing")

        ways = {"history": of_history, "list": of_list, "show": of_show, "status": of_status}
        while not bed.stop.is_set():
            for what, way in ways.items():
                counts.attempt(what, way)
            time.sleep(choice.uniform(0, 0.2))


def creator(bed: Bed, counts: Counts, choice: random.Random) -> None:
    """Make builds, of which those over a number are removed again."""
    while not bed.stop.is_set():
        wish = bed.wish(choice.choice(PASSING))
        # Without a question to the engine there are many more creations in a minute.
        carrier = choice.choices(("modelfile", "auto"), (15, 1))[0]
        keep = choice.choice((None, 3, 5))
        counts.attempt("create", partial(_created, wish, carrier, keep, counts))
        time.sleep(choice.uniform(0, 0.4))


def _created(wish: dict[str, Any], carrier: str, keep: int | None, counts: Counts) -> None:
    found = ensure_model(QUANT, carrier=carrier, keep=keep, **wish)
    if found.context != wish["context"]:
        counts.fault(f"create: context {found.context} instead of {wish['context']}")
    if not found.weights:
        counts.fault("create: no weights")


def returner(bed: Bed, counts: Counts, choice: random.Random) -> None:
    """Go back: to a build that stays, or to the one that served before."""
    with Server(bed.url) as server:
        while not bed.stop.is_set():
            to = choice.choice([*bed.builds, None])
            counts.attempt("rollback", partial(_returned, server, to, counts))
            time.sleep(choice.uniform(0, 0.4))


def _returned(server: Server, to: str | None, counts: Counts) -> None:
    found = rollback(server, NAME, to)
    if to is not None and found.build != to:
        counts.fault("rollback: to another build than was asked for")


def pruner(bed: Bed, counts: Counts, choice: random.Random) -> None:
    """Remove what is over a number; what ``mine:…`` names stand for stays."""
    with Server(bed.url) as server:
        while not bed.stop.is_set():
            name = choice.choice((NAME, None))
            keep = choice.choice((1, 2, 4))
            counts.attempt("prune", partial(_pruned, server, name, keep, bed, counts))
            time.sleep(choice.uniform(0, 0.6))


def _pruned(server: Server, name: str | None, keep: int, bed: Bed, counts: Counts) -> None:
    removed, _ = prune(server, name, keep)
    counts.done["pruned builds"] += len(removed)
    if bed.builds.keys() & {each.name for each in removed}:
        counts.fault("prune: removed a build that another name stands for")
