"""Start the processes, wait for them, and look at what they leave behind."""

from __future__ import annotations

import multiprocessing
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.queues import Queue
from typing import Any

from ollama_tools import ensure_model
from ollama_tools.model.builds import history, rollback
from ollama_tools.server.client import Server, find_model
from tests.stress import actors
from tests.stress.actors import NAME, PASSING, QUANT, Bed, Counts
from tests.testbed.until import end_with_parent

STAYING = (4096, 8192, 16384)
"""Contexts of the builds that the name is switched between."""


@dataclass(frozen=True)
class Result:
    """What a run came to.

    Attributes:
        counts: What all actors did and saw.
        seconds: How long they took.
        before: Names on the server when they began.
        after: Names when they had ended.
        limit: How many names there may be in the end.
        broken: What is not as it should be at rest, in words.
    """

    counts: Counts
    seconds: float
    before: int
    after: int
    limit: int
    broken: list[str]

    @property
    def passed(self) -> bool:
        """Whether nothing happened that should not have."""
        return not self.counts.faults and not self.broken

    def as_json(self) -> dict[str, Any]:
        """The figures."""
        return {
            "done": dict(sorted(self.counts.done.items())),
            "faults": dict(self.counts.faults.most_common()),
            "names": {"before": self.before, "after": self.after, "limit": self.limit},
            "broken": self.broken,
            "seconds": round(self.seconds, 1),
        }


Actor = Callable[..., None]


def stress(url: str, registry: str, *, switches: int, processes: int, seed: int = 0) -> Result:
    """Let processes switch one name between three builds, with others at work beside them.

    Args:
        url: A server without models.
        registry: What it pulls from.
        switches: How often each process switches.
        processes: How many processes switch.
        seed: Of what the processes choose; their timing makes no two runs equal.
    """
    context = multiprocessing.get_context("spawn")
    bed = Bed(url, registry, {}, context.Event())
    with Server(url) as server:
        for each in STAYING:
            # Beside the name, a name of a person's stands for each, so that none is pruned.
            build = ensure_model(QUANT, carrier="modelfile", **bed.wish(each)).build
            server.copy(build, f"mine:{each}")
        bed.builds.update({each.name: each.digest for each in history(server, NAME)})
        blobs = {each: _blobs(server, each) for each in bed.builds}
        before = len(server.models())

        queue: Queue[Counts] = context.Queue()
        work: list[tuple[Actor, tuple[int, ...]]] = [
            *[(actors.switcher, (switches,))] * processes,
            *[(each, ()) for each in (actors.creator, actors.returner)],
            *[(each, ()) for each in (actors.pruner, actors.reader)],
        ]
        running = [
            context.Process(
                target=_act, args=(actor, bed, queue, seed * 100 + number, *more), daemon=True
            )
            for number, (actor, more) in enumerate(work)
        ]
        started = time.monotonic()
        counts = Counts()
        try:
            for process in running:
                process.start()
            for done in range(len(running)):
                if done == processes:
                    # Only those who switch come to an end by themselves.
                    bed.stop.set()
                counts.add(_answer(queue, running))
            seconds = time.monotonic() - started
        finally:
            # Whatever ends this ends them too.
            bed.stop.set()
            for process in running:
                if process.pid is not None:
                    process.join(30)
                    process.kill()

        models = server.models()
        # Names beside builds: the public one, three of a person's, and a mark or two for each.
        limit = 1 + len(STAYING) + 3 * len(history(server, NAME))
        broken = [*_broken(server, bed, blobs), *_unusable(server, bed)]
        if len(models) > limit:
            names = "\n".join(sorted(each.name for each in models))
            broken.append(f"{len(models)} names, more than {limit}:\n{names}")
    return Result(counts, seconds, before, len(models), limit, broken)


def _act(actor: Actor, bed: Bed, queue: Queue[Counts], seed: int, *more: int) -> None:
    end_with_parent()
    counts = Counts()
    try:
        actor(bed, counts, random.Random(seed), *more)
    except BaseException as error:
        counts.fault(f"{actor.__name__} died: {error!r}")
        raise
    finally:
        queue.put(counts)


def _answer(queue: Queue[Counts], running: list[Any]) -> Counts:
    """The next actor's counts; one that was killed gives none."""
    from queue import Empty

    while True:
        try:
            return queue.get(timeout=5)
        except Empty:
            if any(each.exitcode not in (None, 0) for each in running):
                raise RuntimeError("an actor was killed") from None


def _blobs(server: Server, name: str) -> tuple[str, ...]:
    return server.show(name).blobs


def _broken(server: Server, bed: Bed, blobs: dict[str, tuple[str, ...]]) -> list[str]:
    """What is not as it was, now that everybody is at rest."""
    models = server.models()
    found = []
    for build, digest in bed.builds.items():
        model = find_model(models, build)
        if model is None or model.digest != digest:
            found.append(f"{build} is {model.digest if model else 'gone'}, was {digest}")
        elif _blobs(server, build) != blobs[build]:
            found.append(f"{build} has other weights")
        elif not all(server.has_blob(each) for each in blobs[build]):
            found.append(f"{build} has lost a blob")
    kept = history(server, NAME)
    if sum(each.serving for each in kept) != 1:
        current = find_model(models, NAME)
        found.append(f"{NAME} stands for no build: {current}")
    # Each wish is one build with each carrier, however often it was made.
    if len(kept) > len(STAYING) + 2 * len(PASSING):
        found.append(f"{len(kept)} builds: {', '.join(each.name for each in kept)}")
    found += [f"{each.name} is left" for each in models if ".try-" in each.name]
    # A build that somebody made meanwhile has to be whole as well.
    for each in kept:
        if not all(server.has_blob(blob) for blob in server.show(each.name).blobs):
            found.append(f"{each.name} has lost a blob")
    return found


def _unusable(server: Server, bed: Bed) -> list[str]:
    """What cannot be done any more that could be done before."""
    first, second = list(bed.builds)[:2]
    rollback(server, NAME, first)
    made = ensure_model(QUANT, carrier="modelfile", **bed.wish(STAYING[0]))
    back = rollback(server, NAME, second)
    found = []
    if made.build not in bed.builds:
        found.append(f"the build of context {STAYING[0]} is {made.build}, none of those before")
    if back.build != second or server.show(NAME).context != server.show(second).context:
        found.append(f"the way back led to {back.build} instead of {second}")
    return found
