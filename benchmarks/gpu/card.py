"""The card's own figures, and those of the engine's process, as the system has them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ollama_tools.server.process import find_server_process

_PROC = Path("/proc")
_MIB = 1 << 20
_SECONDS = 10.0
_PLACES = ("/usr/local/nvidia/bin", "/usr/bin", "/usr/local/bin", "/run/opengl-driver/bin")
# What nvidia-smi is asked for, and what the report calls it; memory comes in MiB.
_FIGURES: Mapping[str, str] = {
    "name": "name",
    "driver_version": "driver",
    "memory.total": "total_bytes",
    "memory.used": "used_bytes",
    "memory.free": "free_bytes",
    "utilization.gpu": "busy_percent",
    "power.draw": "watts",
    "clocks.sm": "clock_mhz",
    "temperature.gpu": "celsius",
}
_STATUS = {"VmRSS": "resident_bytes", "RssAnon": "anonymous_bytes", "RssFile": "file_bytes"}


def nvidia_smi() -> Path | None:
    """The program ``nvidia-smi``, or None."""
    found = shutil.which("nvidia-smi")
    candidates = [Path(found)] if found else [Path(place, "nvidia-smi") for place in _PLACES]
    return next((each for each in candidates if each.is_file()), None)


def cards() -> list[dict[str, Any]]:
    """Every NVIDIA card's figures now; empty where ``nvidia-smi`` is missing or fails."""
    program = nvidia_smi()
    if program is None:
        return []
    try:
        answer = subprocess.run(
            [program, f"--query-gpu={','.join(_FIGURES)}", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            # Beside a system, the program does not find the driver's library by itself.
            env=os.environ | {"LD_LIBRARY_PATH": _library_path(program)},
            timeout=_SECONDS,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return parse_cards(answer)


def parse_cards(answer: str) -> list[dict[str, Any]]:
    """Read what ``nvidia-smi --query-gpu`` answers; a figure that it does not know is None."""
    found = []
    for line in answer.splitlines():
        values = [each.strip() for each in line.split(",")]
        if len(values) != len(_FIGURES):
            continue
        card: dict[str, Any] = {}
        for name, value in zip(_FIGURES.values(), values, strict=True):
            if name in ("name", "driver"):
                card[name] = value
            elif name.endswith("_bytes"):
                figure = _number(value)
                card[name] = None if figure is None else round(figure * _MIB)
            else:
                card[name] = _number(value)
        found.append(card)
    return found


def used_bytes(found: list[dict[str, Any]]) -> int | None:
    """Memory in use on all cards; None where it is not known."""
    figures = [each["used_bytes"] for each in found]
    return sum(figures) if figures and None not in figures else None


def driver_in_kernel() -> str | None:
    """The first line of what the NVIDIA kernel module says of itself; None without it."""
    try:
        return (_PROC / "driver/nvidia/version").read_text().splitlines()[0].strip()
    except (OSError, IndexError):
        return None


def engine_memory(url: str) -> dict[str, int]:
    """Main memory of the newest engine of the server at a URL, in bytes; empty without one."""
    server = find_server_process(url)
    engines = [
        each
        for each in (server.runners if server else ())
        if Path(each.command[0]).name == "llama-server"
    ]
    try:
        status = (_PROC / str(engines[-1].pid) / "status").read_text()
    except (OSError, IndexError):
        return {}
    newest = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    return {
        name: int(newest[key].split()[0]) * 1024 for key, name in _STATUS.items() if key in newest
    }


def _library_path(program: Path) -> str:
    folder = program.parent.parent
    found = [str(each) for each in (folder / "lib64", folder / "lib") if each.is_dir()]
    return os.pathsep.join([*filter(None, [os.environ.get("LD_LIBRARY_PATH")]), *found])


def _number(value: str) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None
