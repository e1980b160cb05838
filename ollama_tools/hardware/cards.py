"""The graphics cards of this machine and their memory, as the drivers say it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_MIB = 1 << 20
_SECONDS = 10.0
_PLACES = ("/usr/local/nvidia/bin", "/usr/bin", "/usr/local/bin", "/run/opengl-driver/bin")
_AMD = "0x1002"
_INTEL = "0x8086"
_VIRTUAL = ("0x1af4", "0x1234", "0x15ad", "0x80ee", "0x1b36")
"""The makers of displays of virtual machines: virtio, QEMU, VMware, VirtualBox, QXL."""
_INTEGRATED = "0000:00:02.0"
"""Where Intel's processors have their own graphics, which Ollama leaves alone."""
_MAKERS = {_AMD: "AMD", "0x10de": "NVIDIA"}


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


def device_files(root: Path = Path("/")) -> list[str]:
    """The device files of graphics cards that can compute; others are of displays alone.

    A processor's own graphics of Intel and a virtual machine's display have a render node as well,
    and no server uses them: where sysfs tells, they are left out.

    Args:
        root: Where dev and sys are.
    """
    found = [
        each
        for pattern in ("nvidia[0-9]*", "kfd", "dxg", "nvhost-gpu")
        for each in (root / "dev").glob(pattern)
    ]
    for each in (root / "dev/dri").glob("renderD*"):
        device = root / "sys/class/drm" / each.name / "device"
        maker = _text(device / "vendor")
        integrated = maker == _INTEL and device.resolve().name == _INTEGRATED
        if maker not in _VIRTUAL and not integrated:
            found.append(each)
    return sorted(f"/{each.relative_to(root)}" for each in found)


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


@dataclass(frozen=True, slots=True)
class Driver:
    """What the drivers of graphics cards say of themselves.

    Attributes:
        nvidia: Main version of NVIDIA's driver; None where it is not loaded.
        capability: The lowest compute capability of its cards, as (6, 1); None where unknown.
        uvm: Whether the device file is there through which CUDA shares memory.
        unbound: The maker of a card for which no driver is loaded; empty without one.
    """

    nvidia: int | None = None
    capability: tuple[int, int] | None = None
    uvm: bool = False
    unbound: str = ""


def driver(root: Path = Path("/")) -> Driver:
    """What the drivers say.

    Args:
        root: Where proc, sys and dev are.
    """
    version = re.search(r"\b(\d{3,})\.\d+", _text(root / "proc/driver/nvidia/version"))
    found = [each[0].split(".") for each in nvidia_figures(("compute_cap",))] if version else []
    return Driver(
        nvidia=int(version[1]) if version else None,
        capability=min(
            ((int(high), int(low)) for high, low in (each for each in found if len(each) == 2)),
            default=None,
        ),
        uvm=(root / "dev/nvidia-uvm").exists(),
        unbound=_unbound(root),
    )


def _unbound(root: Path) -> str:
    """The maker of a card that hangs on the bus and has no driver."""
    for device in sorted(root.glob("sys/bus/pci/devices/*")):
        maker = _MAKERS.get(_text(device / "vendor"))
        is_card = _text(device / "class").startswith(("0x0300", "0x0302", "0x0380"))
        if maker and is_card and not (device / "driver").exists():
            return f"a card of {maker}"
    return ""
