"""The main memory of this machine, as the kernel says it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class MainMemory:
    """Main memory in bytes: all of it, and what could be had now without swapping."""

    total: int
    available: int


def main_memory(meminfo: Path = Path("/proc/meminfo")) -> MainMemory | None:
    """The main memory; None where nobody says it, as on systems without ``/proc``.

    Args:
        meminfo: The kernel's file.
    """
    try:
        text = meminfo.read_text()
    except OSError:
        return None
    found = dict(re.findall(r"^(MemTotal|MemAvailable):\s+(\d+) kB$", text, re.MULTILINE))
    if len(found) < 2:
        return None
    return MainMemory(int(found["MemTotal"]) << 10, int(found["MemAvailable"]) << 10)
