from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from benchmarks import gpu
from benchmarks.gpu.bundle import LARGEST, make_bundle
from docs.outputs import faults
from ollama_tools.checks.bench_compare import read_bench
from ollama_tools.checks.bench_figures import BenchJson
from ollama_tools.devstral.memory import KvType

# In a network namespace of its own a program finds no route and a loopback that is down.
_ALONE = """
import fcntl, os, socket, struct, sys
with socket.socket() as up:
    fcntl.ioctl(up, 0x8914, struct.pack("16sh", b"lo", 0x1 | 0x40))
assert len(open("/proc/net/route").readlines()) == 1, "there is a route"
os.execv(sys.argv[1], sys.argv[1:])
"""
# As on a machine that has a driver and Python, and nothing of what the tests have.
_BARE = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/nonexistent", "LANG": "C.UTF-8"}

# With far more time than it takes where nothing else runs.
_SMALL = ("--small", "--seconds", "560")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed") / ".gpu"
    make_bundle(folder)
    return folder


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose ``python3`` is the interpreter of the tests, without its packages."""
    folder = tmp_path_factory.mktemp("python")
    (folder / "python3").symlink_to(Path(sys.base_prefix) / "bin" / Path(sys.executable).name)
    return folder


def start(bundle: Path, python: Path, scratch: Path, *arguments: str) -> subprocess.Popen[str]:
    scratch.mkdir(exist_ok=True)
    return subprocess.Popen(
        [
            *("unshare", "--map-root-user", "--net", sys.executable, "-c", _ALONE),
            *(str(bundle / "run"), *arguments),
        ],
        env=_BARE | {"PATH": f"{python}:{_BARE['PATH']}", "TMPDIR": str(scratch)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.fixture(scope="module")
def run(
    bundle: Path, python: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], Path, str]:
    """The report of a small run, its folder, and what it printed."""
    root = tmp_path_factory.mktemp("run")
    process = start(bundle, python, root / "scratch", *_SMALL, str(root / "out"))
    try:
        printed, _ = process.communicate(timeout=650)
    finally:
        process.kill()
    assert process.returncode == 0, printed
    assert list((root / "scratch").iterdir()) == []
    return json.loads((root / "out" / "report.json").read_text()), root / "out", printed


def test_it_is_small_enough_to_be_carried(bundle: Path) -> None:
    assert sum(each.stat().st_size for each in bundle.iterdir()) <= LARGEST == 50_000_000
    assert all(each.is_file() for each in bundle.iterdir())


def test_every_interpreter_gets_the_same_compiled_modules(bundle: Path) -> None:
    modules: dict[str, set[str]] = {}
    with tarfile.open(bundle / "package.tar.xz") as tar:
        names = tar.getnames()
    for name in names:
        if match := re.fullmatch(r"site/3\.(\d+)/(.+)\.cpython-(\d+)-x86_64-linux-gnu\.so", name):
            assert match[3] == f"3{match[1]}"
            modules.setdefault(match[1], set()).add(match[2])
    assert set(modules) == {"11", "12", "13"}
    assert modules["11"] == modules["12"] == modules["13"]
    assert any(name.startswith("yaml/") for name in modules["11"])
    assert not any("hf_xet" in name or "numpy" in name for name in names)


def test_a_run_without_a_network_does_every_part(run: tuple[dict[str, Any], Path, str]) -> None:
    report, _, _ = run
    schema = json.loads((Path(gpu.__path__[0]) / "schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(report)
    assert {name: part["status"] for name, part in report["parts"].items()} == {
        "machine": "done",
        "true_shape": "done",
        "kv_cache": "done",
        "slots": "done",
        "checks": "done",
        "not_on_the_card": "done",
        "bench": "done",
    }
    assert report["ended"] == "done"
    assert report["seconds"] < report["sizes"]["seconds"]


def test_it_says_at_once_that_there_is_no_gpu(run: tuple[dict[str, Any], Path, str]) -> None:
    report, _, printed = run
    match = re.search(r"Ollama lists NO GPU here, after (\d+) s", printed)
    assert match
    assert int(match[1]) < 30
    assert [each["library"] for each in report["parts"]["machine"]["data"]["devices"]] == ["cpu"]


def test_results_can_be_taken_away(run: tuple[dict[str, Any], Path, str]) -> None:
    _, out, _ = run
    files = list(out.iterdir())
    assert {each.name for each in files} == {
        "report.json",
        "bench.json",
        "ollama.log",
        "devices.log",
        "commands.log",
    }
    assert all(each.is_file() and 0 < each.stat().st_size < 16 << 20 for each in files)


def test_the_kv_cache_is_what_the_formula_says(run: tuple[dict[str, Any], Path, str]) -> None:
    cells = run[0]["parts"]["kv_cache"]["data"]["cells"]
    assert {(each["kv_type"], each["context"]) for each in cells} == {
        (kind, context) for kind in ("f16", "q8_0", "q4_0") for context in (512, 1024, 2048)
    }
    for each in cells:
        kind = KvType(each["kv_type"])
        # Two layers of Devstral's geometry: 8 heads of 128, keys and values.
        assert each["formula_bytes"] == 2 * 2 * 1024 * each["context"] * kind.bytes_per_element
        assert each["agrees"]
        assert each["log"]["kv_types"] == [kind.value] * 2


def test_commands_are_those_of_the_package(run: tuple[dict[str, Any], Path, str]) -> None:
    checks = run[0]["parts"]["checks"]["data"]
    assert checks["create"]["answer"]["changed"] is True
    assert checks["create"]["answer"]["carrier"] == "gguf"
    assert checks["smoke"]["answer"]["passed"] is True
    [estimate] = checks["fit"]["answer"]
    zeros = run[0]["parts"]["true_shape"]["data"]["zeros"]["log"]
    assert estimate["kv_cache_bytes"] == zeros["kv_bytes"]
    preflight = checks["preflight"]["answer"]
    assert {each["id"] for each in preflight["checks"]} >= {"load", "gpu", "memory"}
    assert preflight["passed"], preflight
    # Without a card nothing is wrong with a model on the processor.
    assert not any(each["caught"] for each in _off_the_card(run[0]))
    assert {each["id"] for each in checks["doctor"]["answer"]["checks"]} >= {"engine", "kv-cache"}


def _off_the_card(report: dict[str, Any]) -> list[dict[str, Any]]:
    data = report["parts"]["not_on_the_card"]["data"]
    return [data["hidden"], data["few_layers"]]


def test_bench_measures_each_length_and_a_session(run: tuple[dict[str, Any], Path, str]) -> None:
    report, out, _ = run
    command = report["parts"]["bench"]["data"]["bench"]
    assert command["code"] == 0, command
    found = command["answer"]
    assert list(faults(found, BenchJson)) == []
    assert read_bench(out / "bench.json") == found
    assert found["complete"]
    assert [each["depth"] for each in found["prompts"]] == report["sizes"]["depths"]
    for each in found["prompts"]:
        assert _is_whole(each["why"])
        assert each["prompt_tokens"] == pytest.approx(each["depth"], abs=16)
        assert each["cached_tokens"] <= 3
        assert each["tokens_per_second"]
    assert [_is_whole(each["why"]) for each in found["together"]] == [True] * 3
    assert found["session"]["reused"] > 0.5


def _is_whole(why: str | None) -> bool:
    # Zeros write tokens without text, all of which comes at the end.
    return why is None or "after its first token" in why


def test_without_a_card_a_full_run_ends_with_its_own_code(
    bundle: Path, python: Path, tmp_path: Path
) -> None:
    process = start(bundle, python, tmp_path / "scratch", str(tmp_path / "out"))
    printed, _ = process.communicate(timeout=180)
    assert process.returncode == 3, printed
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["ended"] == "no_gpu"
    assert list(report["parts"]) == ["machine"]


def test_a_stopped_run_leaves_its_report_and_no_server(
    bundle: Path, python: Path, tmp_path: Path
) -> None:
    process = start(bundle, python, tmp_path / "scratch", *_SMALL, str(tmp_path / "out"))
    report = tmp_path / "out" / "report.json"
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and not (
        report.exists() and "kv_cache" in json.loads(report.read_text())["parts"]
    ):
        time.sleep(0.2)
    assert str(tmp_path) in commands()
    process.send_signal(signal.SIGTERM)
    printed, _ = process.communicate(timeout=90)
    assert process.returncode == 130, printed
    written = json.loads(report.read_text())
    assert written["ended"] == "interrupted"
    assert written["parts"]["true_shape"]["status"] == "done"
    assert written["parts"]["kv_cache"]["status"] == "unfinished"
    assert str(tmp_path / "scratch") not in commands()
    assert list((tmp_path / "scratch").iterdir()) == []


def commands() -> str:
    """The command lines of all processes."""
    found = []
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(each.read_bytes().decode(errors="replace"))
        except OSError:
            continue
    return "\n".join(found)
