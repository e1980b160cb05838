"""The probe: what Ollama and this package do on this machine's card, written as it is found out."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import os
import platform
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

from benchmarks.gpu import card, driver, memory_parts, speed_parts
from benchmarks.gpu.bench import Bench
from benchmarks.gpu.document import Document, OutOfTime
from benchmarks.gpu.sizes import full, small
from ollama_tools import __version__
from ollama_tools.hardware.cards import nvidia_smi
from tests.testbed.build import NEWEST, Build

_GIB = 1 << 30
_SHORTEST, _LONGEST = 60, 570
_MACHINE_SECONDS = 20.0


class ExitCode(IntEnum):
    """How a run ended."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NO_GPU = 3
    UNFIT = 4
    INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the run.

    Attributes:
        name: Its name in the report.
        least: Seconds kept for it by the parts before it; of a small run the same share.
        run: Does it, and fills the data that it is given.
    """

    name: str
    least: float
    run: Callable[[Bench, dict[str, Any]], None]


PARTS = (
    Part("true_shape", 40, memory_parts.true_shape),
    Part("kv_cache", 80, memory_parts.kv_cache),
    Part("slots", 30, memory_parts.slots),
    Part("checks", 95, memory_parts.checks),
    Part("not_on_the_card", 75, memory_parts.not_on_the_card),
    Part("bench", 180, speed_parts.measured),
)
"""After the machine itself, what matters most first."""


def main(arguments: Sequence[str], *, home: Path, began: float) -> int:
    """Run it.

    Args:
        arguments: The command line behind the program's name.
        home: The unpacked bundle; models and logs are put there as well.
        began: When the run began, by the monotonic clock.

    Returns:
        An :class:`ExitCode`.
    """
    options = arguments_of(arguments)
    out: Path = options.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    signal.signal(signal.SIGALRM, _time_is_over)
    names = [each.name for each in PARTS]
    sizes = small() if options.small else full()
    if options.seconds:
        sizes = dataclasses.replace(sizes, seconds=options.seconds)
    head = {
        "mode": sizes.mode,
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "package": __version__,
        "ollama": NEWEST,
        "sizes": sizes.as_json(),
    }
    document = Document(out / "report.json", head, began)
    build = Build(NEWEST, home / "bin" / "ollama", home / "lib" / "ollama" / "llama-server")
    work = home / "work"
    work.mkdir()
    bench = Bench(build, home, work, out, sizes, document)
    try:
        code = _run(bench, options.only or names, anyway=options.anyway or options.small)
        document.ended = code.name.lower()
    except KeyboardInterrupt:
        code, document.ended = ExitCode.INTERRUPTED, "interrupted"
        say("interrupted: what was done so far is written")
    except BaseException:
        document.ended = "failed"
        (out / "traceback.log").write_text(traceback.format_exc(), encoding="utf-8")
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        document.save()
    say(f"{document.path}: {document.ended}, {time.monotonic() - began:.0f} s")
    return code


def arguments_of(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="run", description=__doc__)
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for the report and the logs")
    parser.add_argument(
        "--small", action="store_true", help="small sizes, for a machine without a card"
    )
    parser.add_argument(
        "--anyway", action="store_true", help="go on where Ollama lists no card (takes long)"
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=[each.name for each in PARTS[1:]],
        metavar="PART",
        help="do this part, and what it needs; may be said several times",
    )
    parser.add_argument(
        "--seconds",
        type=_seconds,
        metavar="N",
        help=f"time for the whole run, 60 to {_LONGEST}; 540, or 220 with --small, if absent",
    )
    return parser.parse_args(arguments)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not _SHORTEST <= seconds <= _LONGEST:
        raise ValueError
    return seconds


def say(line: str) -> None:
    """Print a line of progress."""
    print(f"gpu probe: {line}", flush=True)


def _run(bench: Bench, only: Sequence[str], *, anyway: bool) -> ExitCode:
    document = bench.document
    if problem := _unfit(bench):
        say(problem)
        document.skip("machine", problem)
        return ExitCode.UNFIT
    ends = document.began + bench.sizes.seconds
    # The first brings the models to the server.
    parts = [part for part in PARTS if part is PARTS[0] or part.name in only]
    least = {part.name: part.least * bench.sizes.seconds / full().seconds for part in parts}
    # Without it nothing else says anything, however long the unpacking took.
    enough = max(ends - sum(least.values()), time.monotonic() + _MACHINE_SECONDS)
    _timed(bench, Part("machine", 0, _machine), enough)
    if not document.parts["machine"]["data"].get("gpu"):
        say(f"Ollama lists NO GPU here, after {time.monotonic() - document.began:.0f} s:")
        for each in document.parts["machine"]["data"].get("tried", ()):
            say(f"  tried {each['found']}: {each['devices'] or 'no device'}")
        say("  what loader and server say: devices.log and ollama.log")
        if not anyway:
            return ExitCode.NO_GPU
    for part in PARTS:
        if part not in parts:
            document.skip(part.name, "not asked for")
            continue
        del least[part.name]
        _timed(bench, part, ends - sum(least.values()))
    states = {part["status"] for part in document.parts.values()}
    return ExitCode.FAILED if "failed" in states else ExitCode.DONE


def _timed(bench: Bench, part: Part, ends: float) -> None:
    """Do a part within its time, and go on whatever becomes of it."""
    bench.ends = ends
    left = ends - time.monotonic()
    if left < 1:
        bench.document.skip(part.name, "no time was left")
        return
    with bench.document.part(part.name) as data:
        signal.setitimer(signal.ITIMER_REAL, left)
        try:
            part.run(bench, data)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    entry = bench.document.parts[part.name]
    say(f"{part.name}: {entry['status']}, {entry['seconds']} s {entry.get('why', '')}".rstrip())


def _time_is_over(*_: object) -> None:
    raise OutOfTime


def _unfit(bench: Bench) -> str | None:
    """Why this machine will not do, or None."""
    free = shutil.disk_usage(bench.work).free
    hole = bench.work / "hole"
    with hole.open("wb") as file:
        file.truncate(64 << 20)
    has_holes = hole.stat().st_blocks * 512 < hole.stat().st_size
    hole.unlink()
    need = _GIB if has_holes else 16 * _GIB
    if free >= need:
        return None
    return (
        f"{bench.work} has {free / _GIB:.1f} GiB free and {need // _GIB} are needed: "
        "name another folder with TMPDIR"
    )


def _machine(bench: Bench, data: dict[str, Any]) -> None:
    """The machine, the driver, and the devices that the server lists."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    data |= {
        "kernel": platform.release().partition("-")[0],
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", "")
        if Path("/etc/os-release").exists()
        else "",
        "libc": " ".join(platform.libc_ver()),
        "python": platform.python_version(),
        "processors": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "memory_bytes": memory,
        "disk_free_bytes": shutil.disk_usage(bench.work).free,
        "kernel_driver": card.driver_in_kernel(),
        "nvidia_smi": str(nvidia_smi()) if nvidia_smi() else None,
        "cards": card.cards(),
    }
    spare = _spare_libraries(bench)
    data["libraries_brought"] = sorted(each.name for each in spare.iterdir())
    options = driver.candidates(scratch=bench.work)
    engine = bench.build.llama_server
    assert engine is not None
    brought = [spare] if data["libraries_brought"] else []
    chosen, attempts = driver.choose(options, engine, brought)
    data["tried"] = [
        {"found": each.candidate.found, "devices": list(each.devices)} for each in attempts
    ]
    (bench.out / "devices.log").write_text(
        "\n".join(f"== {each.candidate.found}\n{each.output}" for each in attempts),
        encoding="utf-8",
    )
    if chosen is not None:
        bench.driver = chosen.environment(brought)
    elif brought:
        bench.driver = {"LD_LIBRARY_PATH": str(spare)}
    bench.driver |= {key: os.environ[key] for key in driver.PASSED_ON if key in os.environ}
    data["environment"] = dict(bench.driver)
    bench.document.save()
    with bench.server() as running:
        begin = time.monotonic()
        data["devices"] = running.devices()
        data["discovery_seconds"] = round(time.monotonic() - begin, 2)
        data["gpu"] = any(each["library"] != "cpu" for each in data["devices"])


def _spare_libraries(bench: Bench) -> Path:
    """A folder with those of the bundle's system libraries that this machine lacks."""
    folder = bench.work / "libraries"
    folder.mkdir()
    for each in driver.missing(sorted((bench.home / "spare").glob("*.so*"))):
        shutil.copyfile(each, folder / each.name)
    return folder


if __name__ == "__main__":
    # Only the bundle's own start has a home for it.
    sys.exit("start it by .gpu/run, which make gpu-bundle makes")
