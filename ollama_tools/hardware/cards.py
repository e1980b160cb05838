"""The graphics cards of this machine and their memory, as the drivers say it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_MIB = 1 << 20
_SECONDS = 10.0
_PLACES = ("/usr/local/nvidia/bin", "/usr/bin", "/usr/local/bin", "/run/opengl-driver/bin")
_AMD = "0x1002"


@dataclass(frozen=True, slots=True)
class Card:
    """A graphics card.

    Attributes:
        name: What its maker calls it.
        total: Bytes of its memory.
        used: Bytes in use now, by whomever; None where nobody says.
    """

    name: str
    total: int
    used: int | None = None


def cards(system: Path = Path("/sys")) -> list[Card]:
    """The cards of this machine, NVIDIA's and then AMD's; empty where no driver tells of one.

    Args:
        system: Where sysfs is.
    """
    return [*_nvidia(), *_amd(system)]


def nvidia_smi() -> Path | None:
    """The program ``nvidia-smi``, which comes with the driver; None where there is none."""
    found = shutil.which("nvidia-smi")
    candidates = [Path(found)] if found else [Path(place, "nvidia-smi") for place in _PLACES]
    return next((each for each in candidates if each.is_file()), None)


def nvidia_figures(names: Sequence[str]) -> list[list[str]]:
    """Ask ``nvidia-smi`` for figures of every card; empty where it is missing or fails.

    Args:
        names: Fields of ``nvidia-smi --help-query-gpu``.

    Returns:
        The figures of each card as text, in the order of the names; memory is in MiB.
    """
    program = nvidia_smi()
    if program is None:
        return []
    try:
        answer = subprocess.run(
            [program, f"--query-gpu={','.join(names)}", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            # Beside a system, the program does not find the driver's library by itself.
            env=os.environ | {"LD_LIBRARY_PATH": _library_path(program)},
            timeout=_SECONDS,
            check=True,
        ).stdout
    except (OSError, ValueError, subprocess.SubprocessError):
        return []
    return split_figures(answer, len(names))


def split_figures(answer: str, count: int) -> list[list[str]]:
    """The lines of ``nvidia-smi --format=csv`` that have so many figures."""
    lines = ([each.strip() for each in line.split(",")] for line in answer.splitlines())
    return [line for line in lines if len(line) == count]


def _nvidia() -> Iterator[Card]:
    for name, total, used in nvidia_figures(("name", "memory.total", "memory.used")):
        if total.isdigit():
            yield Card(name, int(total) * _MIB, int(used) * _MIB if used.isdigit() else None)


def _amd(system: Path) -> Iterator[Card]:
    """What the driver ``amdgpu`` says (kernel documentation, gpu/amdgpu/driver-misc)."""
    for device in sorted(system.glob("class/drm/card[0-9]*/device")):
        if _text(device / "vendor") != _AMD:
            continue
        total, used = (_text(device / f"mem_info_vram_{each}") for each in ("total", "used"))
        if total.isdigit():
            name = _text(device / "product_name") or "AMD Radeon"
            yield Card(name, int(total), int(used) if used.isdigit() else None)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _library_path(program: Path) -> str:
    folder = program.parent.parent
    found = [str(each) for each in (folder / "lib64", folder / "lib") if each.is_dir()]
    return os.pathsep.join([*filter(None, [os.environ.get("LD_LIBRARY_PATH")]), *found])
