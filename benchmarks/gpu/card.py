"""The card's own figures, and those of the engine's process, as the system has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ollama_tools.hardware.cards import nvidia_figures, split_figures
from ollama_tools.server.process import find_server_process

_PROC = Path("/proc")
_MIB = 1 << 20
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


def cards() -> list[dict[str, Any]]:
    """Every NVIDIA card's figures now; empty where ``nvidia-smi`` is missing or fails."""
    return [_figures(each) for each in nvidia_figures(tuple(_FIGURES))]


def parse_cards(answer: str) -> list[dict[str, Any]]:
    """Read what ``nvidia-smi --query-gpu`` answers; a figure that it does not know is None."""
    return [_figures(each) for each in split_figures(answer, len(_FIGURES))]


def _figures(values: Sequence[str]) -> dict[str, Any]:
    card: dict[str, Any] = {}
    for name, value in zip(_FIGURES.values(), values, strict=True):
        if name in ("name", "driver"):
            card[name] = value
        elif name.endswith("_bytes"):
            figure = _number(value)
            card[name] = None if figure is None else round(figure * _MIB)
        else:
            card[name] = _number(value)
    return card


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


def _number(value: str) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None
