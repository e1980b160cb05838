"""``python -m benchmarks.fleet.converge``: what a converge costs, in one run on three hosts.

Printed are where the seconds of a first converge go, a converge with nothing to do against a run of
drift, and a rollout one host at a time against batches; each the median of rounds in turns.
"""

from __future__ import annotations

import itertools
import statistics

from tests.fleet.fleet import Fleet, Run, wheels
from tests.testbed.hosts import BLOBS, CONTROLLER, FileServer, Hosts
from tests.testbed.hub import Hub
from tests.testbed.models import devstral_repositories

_HOSTS = 3
_ROUNDS = 3
_SERIAL = {"1": 1, "1, then 30 %": [1, "30%"], "3": 3}


def _played(fleet: Fleet, playbook: str, **variables: object) -> Run:
    done = fleet.play(playbook, **variables)
    if done.code:
        raise SystemExit(done.output)
    return done


def _parts(run: Run, host: str) -> list[tuple[str, float]]:
    """Seconds of a host's tasks, each from the end of the one before it; the longest first."""
    tasks = [each for each in run.tasks if each.host == host]
    found: dict[str, float] = {}
    for before, task in itertools.pairwise(tasks):
        role, _, name = task.task.rpartition(" : ")
        part = f"{role.rpartition('.')[2] or 'playbook'}: {name}"
        found[part] = found.get(part, 0.0) + task.at - before.at
    return sorted(found.items(), key=lambda each: -each[1])


def _first(fleet: Fleet) -> None:
    first = _played(fleet, "site", devstral_serial=_HOSTS)
    parts = _parts(first, fleet.names[0])
    print(f"first converge, {_HOSTS} hosts at once: {first.seconds:.1f} s, most of them in")
    for name, seconds in parts[:8]:
        print(f"  {seconds / first.seconds:4.0%}  {name}")


def _nothing_to_do(fleet: Fleet) -> None:
    runs: dict[str, list[Run]] = {"site": [], "drift": []}
    for _ in range(_ROUNDS):
        for playbook, done in runs.items():
            done.append(_played(fleet, playbook, devstral_serial=_HOSTS))
    medians = {
        name: statistics.median(each.seconds for each in done) for name, done in runs.items()
    }
    tasks = {name: len(done[0].tasks) / _HOSTS for name, done in runs.items()}
    changed = max(len(each.changed()) for each in runs["site"])
    print(f"{'nothing to do':28} {'s per host':>10} {'tasks':>6}")
    for name, seconds in medians.items():
        print(f"{name:28} {seconds / _HOSTS:10.2f} {tasks[name]:6.0f}")
    print(f"site / drift: {medians['site'] / medians['drift']:.2f}, changed tasks: {changed}")


def _batches(fleet: Fleet) -> None:
    seconds: dict[str, list[float]] = {name: [] for name in _SERIAL}
    contexts = iter(range(8192, 8192 + 1024 * _ROUNDS * len(_SERIAL), 1024))
    for _ in range(_ROUNDS):
        for name, serial in _SERIAL.items():
            fleet.want(context=next(contexts))
            seconds[name].append(_played(fleet, "site", devstral_serial=serial).seconds)
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    print(f"{f'a new context on {_HOSTS} hosts':28} {'s':>10}")
    for name, median in medians.items():
        print(f"serial {name:21} {median:10.1f}  {median / medians['1']:.2f} x")


def main() -> None:
    """Measure and print."""
    repositories = devstral_repositories(heads=1, kv_heads=1)
    with (
        Hosts(_HOSTS, disk="64g", suites={"gpu3": "trixie"}) as hosts,
        Hub(repositories, address=hosts.controller, name=CONTROLLER, bytes_name=BLOBS) as hub,
        FileServer(hosts.controller, name=CONTROLLER) as files,
    ):
        fleet = Fleet(hosts, hub, files, wheels())
        _first(fleet)
        _nothing_to_do(fleet)
        _batches(fleet)


if __name__ == "__main__":
    main()
