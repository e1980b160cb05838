"""What benchmarks that start commands share."""

from __future__ import annotations

import compileall
import os
from pathlib import Path

import ollama_tools


def compile_package() -> None:
    """Give the package the bytecode that an installed one has.

    Without it, where nobody may write any, each command would compile all that it imports.
    """
    compileall.compile_dir(Path(ollama_tools.__file__).parent, quiet=1)


def processor_seconds(pid: int) -> float:
    """What a process that runs has used of a processor so far; 0 where the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
