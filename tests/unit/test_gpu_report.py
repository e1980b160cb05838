from __future__ import annotations

import copy
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from benchmarks import gpu
from benchmarks.gpu import probe
from benchmarks.gpu.bench import Bench
from benchmarks.gpu.document import Document, NotPossible
from benchmarks.gpu.probe import Part, arguments_of
from benchmarks.gpu.sizes import full, small
from tests.testbed.build import Build

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = json.loads((Path(gpu.__path__[0]) / "schema.json").read_text())
REPORTS = sorted((ROOT / "docs/reference/gpu").glob("*.json"))


def problems(report: object) -> list[str]:
    validator = jsonschema.Draft202012Validator(SCHEMA)
    return [f"{each.json_path}: {each.message[:200]}" for each in validator.iter_errors(report)]


@pytest.fixture
def document(tmp_path: Path) -> Document:
    head = {
        "mode": "small",
        "started": "2026-11-26T18:31:37+00:00",
        "package": "0.1.0",
        "ollama": "0.34.4",
        "sizes": small().as_json(),
    }
    return Document(tmp_path / "report.json", head, time.monotonic())


@pytest.fixture
def bench(document: Document, tmp_path: Path) -> Iterator[Bench]:
    build = Build("0", tmp_path / "ollama", tmp_path / "llama-server")
    before = signal.signal(signal.SIGALRM, probe._time_is_over)
    yield Bench(build, tmp_path, tmp_path, tmp_path, small(), document)
    signal.signal(signal.SIGALRM, before)


def written(document: Document) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(document.path.read_text())
    return report


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_there_are_reports() -> None:
    assert REPORTS


@pytest.mark.parametrize("path", REPORTS, ids=lambda path: path.name)
def test_kept_reports_are_what_the_schema_says(path: Path) -> None:
    assert problems(json.loads(path.read_text())) == []


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("ended",), "well"),
        (("parts", "machine", "status"), "good"),
        (("parts", "machine", "data", "gpu"), "yes"),
        (("parts", "machine", "data", "devices"), [{"library": "cpu"}]),
        (("parts", "kv_cache", "data", "cells"), []),
        (("parts", "kv_cache", "data", "cells", 0, "formula_bytes"), -1),
        (("parts", "kv_cache", "data", "cells", 0, "invented"), 1),
        (("parts", "speed", "data", "cells", 0), {"depth": 1, "at_a_time": 1}),
        (("parts", "checks", "data", "smoke", "code"), "0"),
    ],
)
def test_the_schema_holds_what_it_should(place: tuple[Any, ...], value: object) -> None:
    path = next(each for each in REPORTS if each.name.startswith("no-card"))
    report = json.loads(path.read_text())
    assert problems(report) == []
    broken = copy.deepcopy(report)
    inner = broken
    for each in place[:-1]:
        inner = inner[each]
    inner[place[-1]] = value
    assert problems(broken)


def test_a_part_is_written_as_it_is_done(document: Document) -> None:
    with document.part("speed") as data:
        data["cells"] = []
        document.save()
        assert written(document)["parts"]["speed"]["data"] == {"cells": []}
    entry = written(document)["parts"]["speed"]
    assert entry["status"] == "done"
    assert "why" not in entry


def test_a_part_that_fails_keeps_what_it_found_and_the_next_goes_on(document: Document) -> None:
    with document.part("speed") as data:
        data["cells"] = []
        raise ValueError("no such thing")
    with document.part("checks"):
        raise NotPossible("nothing to check")
    parts = written(document)["parts"]
    assert parts["speed"]["status"] == "failed"
    assert parts["speed"]["why"] == "ValueError: no such thing"
    assert parts["speed"]["data"] == {"cells": []}
    assert (parts["checks"]["status"], parts["checks"]["why"]) == ("skipped", "nothing to check")
    assert problems(written(document)) == []


def test_an_interruption_is_written_and_passes_on(document: Document) -> None:
    with pytest.raises(KeyboardInterrupt), document.part("speed"):
        raise KeyboardInterrupt
    entry = written(document)["parts"]["speed"]
    assert (entry["status"], entry["why"]) == ("unfinished", "interrupted")


def test_nothing_but_the_report_lies_beside_it(document: Document) -> None:
    document.save()
    document.save()
    assert [each.name for each in document.path.parent.iterdir()] == ["report.json"]


def test_a_part_ends_when_its_time_is_over(bench: Bench) -> None:
    def slow(_: Bench, data: dict[str, Any]) -> None:
        data["turns"] = []
        time.sleep(30)

    begin = time.monotonic()
    probe._timed(bench, Part("prefix_reuse", 0, slow), time.monotonic() + 1.2)
    assert time.monotonic() - begin < 5
    entry = written(bench.document)["parts"]["prefix_reuse"]
    assert (entry["status"], entry["data"]) == ("unfinished", {"turns": []})
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_part_for_which_no_time_is_left_is_not_begun(bench: Bench) -> None:
    def never(*_: object) -> None:
        raise AssertionError

    probe._timed(bench, Part("speed", 0, never), time.monotonic() + 0.5)
    entry = written(bench.document)["parts"]["speed"]
    assert (entry["status"], entry["why"]) == ("skipped", "no time was left")


def test_what_is_kept_for_the_parts_leaves_some_for_the_machine() -> None:
    kept = sum(part.least for part in probe.PARTS)
    assert kept + 30 < full().seconds < 570


@pytest.mark.parametrize("seconds", ["10", "571", "soon"])
def test_a_run_takes_one_to_nine_minutes(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        arguments_of(["out", "--seconds", seconds])
    assert raised.value.code == 2
    assert "--seconds" in capsys.readouterr().err


def test_full_is_devstrals_own_shape_and_small_has_its_kv_geometry() -> None:
    assert (full().shape.layers, full().shape.embedding) == (40, 5120)
    assert full().depths[-1] + full().predict <= full().shape.context
    for each in (full(), small()):
        assert (each.shape.kv_heads, each.shape.head_dim) == (8, 128)
