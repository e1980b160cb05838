"""A GGUF of this machine: it is read as rarely as can be, and its weights tell which file it is."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from ollama_tools import Outcome, Status
from ollama_tools.checks.vouching import judge_weights
from ollama_tools.devstral.miniature import write_miniature
from ollama_tools.files import remembered
from ollama_tools.model.apply import apply
from ollama_tools.model.ensure import plan_for
from ollama_tools.model.plan import Plan
from ollama_tools.model.status import model_status
from ollama_tools.model.steps import Policy
from ollama_tools.progress import Silence
from ollama_tools.server.client import Server
from ollama_tools.wanted.source import FileSource
from ollama_tools.wanted.spec import Spec
from ollama_tools.wanted.wish import Wish
from tests.live.test_create import Requests, model_names, unloaded
from tests.testbed.models import TEMPLATES
from tests.testbed.server import OllamaServer

__all__ = ["unloaded"]

NAME = "devstral-2507-tune:latest"
FILLER = 24 << 20
"""Bytes beside which all else that a process reads is little."""

CARRIERS = ("gguf", "hub", "modelfile")
COUNTERS = Path("/proc/self/io")

UNCHECKED = Policy(check=False)

Planner = Callable[..., Plan]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A miniature that a person has."""
    path = tmp_path / "devstral-2507-tune.gguf"
    _write(path, "mine")
    return path


def _write(path: Path, name: str) -> None:
    template = (TEMPLATES / "published.jinja").read_text(encoding="utf-8")
    write_miniature(
        path, chat_template=template, layers=1, heads=1, kv_heads=1, name=name, filler=FILLER
    )


@pytest.fixture
def plan(server: Server, file: Path) -> Planner:
    def planned(path: Path = file, policy: Policy = UNCHECKED, **wish: Any) -> Plan:
        options = {"context": 4096, "system": "bundled", "via": "upload", **wish}
        return plan_for(server, Wish(reference=str(path), **options), policy, Silence())

    return planned


@pytest.fixture
def make(server: Server, plan: Planner) -> Callable[..., Outcome]:
    def made(*arguments: Any, **wish: Any) -> Outcome:
        planned = plan(*arguments, **wish)
        outcome = apply(planned, server, Silence())
        assert list(outcome.steps) == [str(each) for each in planned.steps]
        return outcome

    return made


# What is read


@dataclass
class Work:
    """What was done with bytes of files, in files of the size of ours.

    Attributes:
        hashed: Bytes that went through a digest.
        read: Bytes that were read.
    """

    hashed: float
    read: float


class _Counted:
    """A digest that counts what it is given."""

    def __init__(self, digest: Any, work: Work) -> None:
        self._digest, self._work = digest, work

    def update(self, data: Any) -> None:
        self._work.hashed += len(data)
        self._digest.update(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._digest, name)


@pytest.fixture
def worked(monkeypatch: pytest.MonkeyPatch, file: Path) -> Callable[[Callable[[], Any]], Work]:
    """What something does with the bytes of files while it runs."""
    if not COUNTERS.exists():
        pytest.skip("the system does not count what a process reads")
    sha256 = hashlib.sha256
    size = file.stat().st_size

    def read() -> int:
        counters = COUNTERS.read_text(encoding="ascii").split()
        return int(counters[counters.index("rchar:") + 1])

    def measured(run: Callable[[], Any]) -> Work:
        work = Work(0, 0)

        def counted(data: Any = b"", **options: Any) -> _Counted:
            found = _Counted(sha256(**options), work)
            found.update(data)
            return found

        with monkeypatch.context() as patch:
            patch.setattr(hashlib, "sha256", counted)
            # What hashes a whole file asks for a digest by its name.
            patch.setattr(hashlib, "new", lambda name: {"sha256": counted}[name]())
            before = read()
            run()
            work.read = (read() - before) / size
        work.hashed /= size
        return work

    return measured


@pytest.mark.parametrize("carrier", CARRIERS)
def test_a_file_is_hashed_once_and_sent_once_and_then_never_read_again(
    make: Callable[..., Outcome], worked: Callable[..., Work], file: Path, carrier: str
) -> None:
    first = worked(lambda: make(carrier=carrier))
    assert first.hashed == pytest.approx(1, abs=0.1)
    assert first.read == pytest.approx(2, abs=0.25)

    again = worked(lambda: make(carrier=carrier))
    assert again.hashed == pytest.approx(0, abs=0.01)
    assert again.read == pytest.approx(0, abs=0.02)

    another = worked(lambda: make(carrier=carrier, context=8192))
    assert another.hashed == pytest.approx(0, abs=0.01)
    # Its header is looked at, whether it is of the release.
    assert another.read < 0.3


def test_what_is_planned_is_hashed_once_for_the_plan_and_for_what_runs(
    plan: Planner, worked: Callable[..., Work], server: Server
) -> None:
    assert worked(plan).hashed == pytest.approx(1, abs=0.1)
    assert worked(lambda: apply(plan(), server, Silence())).hashed == pytest.approx(0, abs=0.1)


def test_a_file_whose_digest_is_pinned_is_read_once_for_both(
    make: Callable[..., Outcome], worked: Callable[..., Work], file: Path
) -> None:
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    pinned = Path(f"{file}@sha256:{sha256}")
    first = worked(lambda: make(pinned, carrier="gguf"))
    assert first.hashed == pytest.approx(2, abs=0.1)
    assert first.read == pytest.approx(2, abs=0.25)
    assert worked(lambda: make(pinned, carrier="gguf")).read == pytest.approx(0, abs=0.02)


HEAVY = {"rich", "pygments", "click", "ollama", "huggingface_hub", "jinja2", "asyncio"}

_WHAT_IS_IMPORTED = f"""
import atexit, sys

atexit.register(lambda: print(*{HEAVY} & {{name for name, it in sys.modules.items() if it}}))
from ollama_tools.__main__ import main

main()
"""


def test_a_command_that_has_nothing_to_do_imports_nothing_heavy(
    make: Callable[..., Outcome], bed: OllamaServer, file: Path
) -> None:
    make(carrier="gguf")
    options = ["--context", "4096", "--system", "bundled", "--carrier", "gguf", "--quiet"]
    done = subprocess.run(
        [sys.executable, "-c", _WHAT_IS_IMPORTED, "create", str(file), *options],
        env={**os.environ, "OLLAMA_HOST": bed.url},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [NAME]


# Which file it is


@pytest.mark.parametrize("carrier", CARRIERS)
def test_another_file_of_the_same_name_is_a_change_and_the_first_one_is_known_again(
    make: Callable[..., Outcome], server: Server, file: Path, carrier: str
) -> None:
    first = make(carrier=carrier)
    kept = file.with_name("kept.gguf")
    file.rename(kept)
    _write(file, "another")
    found = model_status(
        server,
        Wish(reference=str(file), context=4096, system="bundled", via="upload", carrier=carrier),
    )
    assert [each.field for each in found.differences] == ["weights"]
    second = make(carrier=carrier)
    assert (second.changed, second.previous) == (True, first.build)
    assert second.weights != first.weights
    assert second.build != first.build
    assert not make(carrier=carrier).changed

    kept.replace(file)
    back = make(carrier=carrier)
    assert (back.changed, back.build, back.weights) == (True, first.build, first.weights)
    assert not [each for each in back.steps if each.startswith("+")]


@pytest.mark.parametrize("carrier", CARRIERS)
def test_a_copy_is_the_same_model(
    make: Callable[..., Outcome], bed: OllamaServer, file: Path, tmp_path: Path, carrier: str
) -> None:
    first = make(carrier=carrier)
    (tmp_path / "elsewhere").mkdir()
    copy = tmp_path / "elsewhere" / file.name
    shutil.copyfile(file, copy)
    seen = Requests(bed)
    again = make(copy, carrier=carrier)
    assert (again.changed, again.build, again.digest) == (False, first.build, first.digest)
    assert seen.so_far() == ["GET /api/version", "GET /api/tags", "POST /api/show"]


@pytest.mark.parametrize("carrier", CARRIERS)
def test_a_file_that_this_machine_has_forgotten_is_hashed_and_known_again(
    make: Callable[..., Outcome], worked: Callable[..., Work], file: Path, carrier: str
) -> None:
    make(carrier=carrier)
    remembered._digests().unlink()
    assert worked(lambda: make(carrier=carrier)).hashed == pytest.approx(1, abs=0.1)
    os.utime(file, ns=(1, 1))
    assert not make(carrier=carrier).changed


@pytest.mark.parametrize("carrier", CARRIERS)
def test_its_build_is_vouched_for_and_the_name_of_the_file_is_told(
    make: Callable[..., Outcome], server: Server, file: Path, carrier: str
) -> None:
    made = make(carrier=carrier)
    status, _, _ = judge_weights(server.show(NAME), server.models(), NAME)
    assert status is Status.PASS
    assert made.origin is not None
    own = None if carrier == "gguf" else hashlib.sha256(file.read_bytes()).hexdigest()
    assert made.origin.as_json() == {
        "repository": None,
        "file": file.name,
        "commit": None,
        "sha256": own,
    }


# Builds of earlier versions


def _named_as_before(server: Server, made: Outcome, spec: Spec, own: str) -> list[str]:
    """The names that earlier versions gave to a build, in one of which it is given."""
    file = spec.source
    assert isinstance(file, FileSource)
    named = replace(spec, source=replace(file, sha256=own))
    return list(named.earlier_builds((made.weights or "",)))


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("forgotten", [False, True])
@pytest.mark.parametrize("form", [0, -1])
def test_a_build_of_an_earlier_version_is_renamed_and_no_bytes_move(
    make: Callable[..., Outcome],
    plan: Planner,
    bed: OllamaServer,
    server: Server,
    file: Path,
    *,
    carrier: str,
    forgotten: bool,
    form: int,
) -> None:
    # The manifests of earlier versions have the digest of the file, and so have those of pins.
    own = hashlib.sha256(file.read_bytes()).hexdigest()
    made = make(Path(f"{file}@sha256:{own}"), carrier=carrier)
    spec = plan(carrier=carrier).compared.unchanged
    assert spec is not None
    earlier = _named_as_before(server, made, spec, own)[form]
    server.copy(made.build, earlier)
    server.delete(made.build)
    if forgotten:
        remembered._digests().unlink()
    assert judge_weights(server.show(NAME), server.models(), NAME)[0] in (Status.PASS, Status.WARN)

    seen = Requests(bed)
    planned = plan(carrier=carrier)
    assert [each.kind for each in planned.steps] == ["build"]
    renamed = make(carrier=carrier)
    assert (renamed.changed, renamed.build, renamed.digest) == (True, made.build, made.digest)
    assert model_names(server) == sorted([NAME, made.build])
    assert not {"POST /api/create", "POST /api/blobs"} & {
        each.partition("/sha256:")[0] for each in seen.so_far()
    }
    assert not make(carrier=carrier).changed


def test_a_build_of_an_earlier_version_is_not_renamed_where_the_file_is_another_now(
    make: Callable[..., Outcome], plan: Planner, server: Server, file: Path
) -> None:
    own = hashlib.sha256(file.read_bytes()).hexdigest()
    made = make(Path(f"{file}@sha256:{own}"), carrier="gguf")
    spec = plan(carrier="gguf").compared.unchanged
    assert spec is not None
    earlier = _named_as_before(server, made, spec, own)[-1]
    server.copy(made.build, earlier)
    server.delete(made.build)
    _write(file, "another")
    second = make(carrier="gguf")
    assert second.weights != made.weights
    assert second.previous == earlier


# What a dry run says is what happens


def test_the_plan_of_a_file_is_what_runs(
    make: Callable[..., Outcome], plan: Planner, server: Server, file: Path
) -> None:
    kinds = [f"{each.sign} {each.kind.value}" for each in plan().steps]
    assert kinds == ["+ bring", "+ build", "? compare", "+ keep", "+ switch"]
    assert make().changed
    assert plan().steps == ()
    # Another name has the bytes at hand.
    other = plan(name="other")
    assert other.steps[0].text == f"use the weights of {file}, which the server has"
    _write(file, "another")
    changed = plan(policy=Policy(check=False, keep=1))
    assert changed.steps[0].text.startswith(f"upload {file}")
    outcome = apply(changed, server, Silence())
    assert outcome.removed == changed.removed
    assert outcome.previous == changed.compared.previous
    assert plan(policy=Policy(check=False, keep=1)).steps == ()
