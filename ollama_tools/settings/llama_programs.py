"""llama.cpp's programs on this machine: where one is, and which options its version knows."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ollama_tools.errors import FileProblem, UsageError

GET_LLAMA_CPP = (
    "brew install llama.cpp, winget install llama.cpp, or "
    "https://github.com/ggml-org/llama.cpp/releases"
)
_SECONDS = 30.0
_LONGEST = 4 << 20
_FLAG = r"--?[A-Za-z][\w-]*"
_LINE = re.compile(rf"({_FLAG}(?:,\s+{_FLAG})*)( \S)?")


class LlamaTarget(StrEnum):
    """What runs the model: a program of llama.cpp, or its server as a router."""

    CLI = "llama-cli"
    COMPLETION = "llama-completion"
    SERVER = "llama-server"
    MTMD = "llama-mtmd-cli"
    PRESET = "llama-server-preset"

    @property
    def program(self) -> str:
        """The program's name."""
        return LlamaTarget.SERVER.value if self is LlamaTarget.PRESET else self.value

    @property
    def serves(self) -> bool:
        """Whether it is a server, and so takes neither a prompt nor a system prompt."""
        return self.program == LlamaTarget.SERVER


@dataclass(frozen=True, slots=True)
class LlamaProgram:
    """A program of llama.cpp that was asked for its options.

    Attributes:
        path: Where it is.
        version: What it says of its version; empty where it says nothing.
        flags: Whether each option that it knows takes a value.
    """

    path: str
    version: str
    flags: dict[str, bool]

    def require(self, flags: Iterable[str]) -> None:
        """Refuse options that this version does not know.

        Raises:
            UsageError: There is one.
        """
        unknown = [each for each in flags if each not in self.flags]
        if unknown:
            raise UsageError(
                f"{self.path} ({self.version or 'of an unknown version'}) has no "
                f"{', '.join(unknown)}: it is too old",
                f"upgrade llama.cpp: {GET_LLAMA_CPP}",
            )


def find_llama_program(name: str, path: str | None = None) -> LlamaProgram:
    """A program of llama.cpp, and what its version knows.

    Args:
        name: Its name, as ``llama-cli``.
        path: Where it is; None for PATH.

    Raises:
        UsageError: There is none, or it tells nothing of its options.
        FileProblem: It cannot be run.
    """
    found = shutil.which(path or name)
    if found is None:
        raise UsageError(f"there is no program {path or name!r}", _how_to_get(name))
    said = _output(found, "--help")
    flags = parse_help(said)
    if "--version" not in flags:
        raise UsageError(
            f"{found} is no program of llama.cpp: it tells nothing of its options",
            f"name {name} by --program PATH, or get it: {GET_LLAMA_CPP}",
        )
    version = re.search(r"version: *(.+)", _output(found, "--version"))
    return LlamaProgram(found, version[1].strip() if version else "", flags)


def _how_to_get(name: str) -> str:
    fix = f"get llama.cpp ({GET_LLAMA_CPP}), or name the program by --program PATH"
    if name != "llama-cli" and (other := shutil.which("llama-cli")):
        # Packages leave some out, and llama-completion came in December 2025 (llama.cpp#17824).
        return f"{Path(other).parent} has llama-cli but no {name}: {fix}"
    return fix


def parse_help(text: str) -> dict[str, bool]:
    """The options of a help text of llama.cpp, each with whether it takes a value."""
    found = {}
    for line in text.splitlines():
        if match := _LINE.match(line):
            for flag in re.findall(_FLAG, match[1]):
                found[flag] = match[2] is not None
    return found


def _output(path: str, argument: str) -> str:
    try:
        done = subprocess.run(
            [path, argument],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
    except OSError as error:
        raise FileProblem(f"cannot run {path}: {error.strerror}", "check --program PATH") from error
    except subprocess.TimeoutExpired:
        raise FileProblem(
            f"{path} {argument} says nothing for {_SECONDS:.0f} s", "check --program PATH"
        ) from None
    return (done.stdout + done.stderr)[:_LONGEST].decode(errors="replace")
