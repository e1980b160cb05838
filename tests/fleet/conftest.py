"""Three hosts, and what they fetch from, for a whole run."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleet.fleet import Fleet, wheels
from tests.testbed.hosts import BLOBS, CONTROLLER, FileServer, Hosts
from tests.testbed.hub import Hub
from tests.testbed.models import devstral_repositories


@pytest.fixture(scope="session")
def hosts() -> Iterator[Hosts]:
    """Three hosts, one of Debian 13; a test that changes one resets it, before or after."""
    # A real quant takes 14 GiB and is refused where they are not free; none of it is really used.
    with Hosts(3, disk="64g", suites={"gpu3": "trixie"}) as bed:
        yield bed


@pytest.fixture(scope="session")
def session_fleet_hub(hosts: Hosts) -> Iterator[Hub]:
    repositories = devstral_repositories(heads=1, kv_heads=1)
    with Hub(repositories, address=hosts.controller, name=CONTROLLER, bytes_name=BLOBS) as hub:
        yield hub


@pytest.fixture
def fleet_hub(session_fleet_hub: Hub) -> Hub:
    """The hub that the hosts reach, as it began and with an empty log."""
    session_fleet_hub.reset()
    return session_fleet_hub


@pytest.fixture(scope="session")
def session_files(hosts: Hosts) -> Iterator[FileServer]:
    with FileServer(hosts.controller, name=CONTROLLER) as server:
        yield server


@pytest.fixture
def files(session_files: FileServer) -> FileServer:
    """The file server that the hosts reach, with an empty log."""
    session_files.forget()
    return session_files


@pytest.fixture(scope="session")
def session_wheels() -> Path:
    return wheels()


@pytest.fixture
def fleet(hosts: Hosts, fleet_hub: Hub, files: FileServer, session_wheels: Path) -> Fleet:
    """The hosts with what they are to be; what a test changed in that is gone with it."""
    return Fleet(hosts, fleet_hub, files, session_wheels)


@pytest.fixture(scope="session")
def settled() -> list[bool]:
    """Whether the test before has left the hosts as they should be."""
    return [False]


@pytest.fixture(autouse=True)
def _others_settle_nothing(request: pytest.FixtureRequest, settled: list[bool]) -> None:
    if "hosts" in request.fixturenames and not _settles(request.node):
        settled[0] = False


def _settles(item: pytest.Item) -> bool:
    """Whether a test begins with hosts as they should be, or makes them so."""
    if not isinstance(item, pytest.Function):
        return False
    asked = inspect.signature(item.function).parameters
    return "converged" in item.fixturenames or "settled" in asked


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests of converged hosts come after each other, first the one that converges them."""
    here = [at for at, each in enumerate(items) if each.path.parent == Path(__file__).parent]
    ordered = sorted(
        (items[at] for at in here),
        key=lambda each: (not _settles(each), "converged" in getattr(each, "fixturenames", ())),
    )
    for at, item in zip(here, ordered, strict=True):
        items[at] = item


@pytest.fixture
def converged(fleet: Fleet, settled: list[bool]) -> Iterator[Fleet]:
    """A fleet on which everything is as its variables say."""
    if not settled[0]:
        done = fleet.play("site")
        assert done.code == 0, done.output
    settled[0] = False
    yield fleet
    settled[0] = fleet.settled
