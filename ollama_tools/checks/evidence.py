"""Which type a server's KV cache really has. No endpoint says it, so evidence is gathered.

The strongest comes first: what the engine logged when it made the cache, then the command line
with which the server started the engine. Where neither can be seen, because the server is on
another machine, what a token of context costs in memory tells.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from math import log
from pathlib import Path

from ollama_tools.devstral.memory import KvType
from ollama_tools.server.log import read_log
from ollama_tools.server.process import ServerProcess

_SIZED = (KvType.F16, KvType.Q8_0, KvType.Q4_0)
_NEAR = (0.85, 1.3)
_CACHE_LINE = re.compile(r"K \((?P<type>\w+)\):\s*(?P<size>[\d.]+) MiB")


@dataclass(frozen=True, slots=True)
class KvEvidence:
    """What is known of a server's KV cache type.

    Attributes:
        type: The type in force, as ``q8_0``; None where nothing shows it.
        source: What shows it.
        asked: The type that the server's environment asks for; None where that is unknown.
    """

    type: str | None
    source: str
    asked: str | None


def kv_evidence(process: ServerProcess | None, log: Path | None, blob: str | None) -> KvEvidence:
    """Gather evidence of the KV cache type for a loaded model.

    Args:
        process: The server's process, where it can be seen.
        log: The server's log, where a person named it; else the process's own is read.
        blob: ``sha256-…`` of the model's weights, to find its engine among several.
    """
    asked = process.environment.get("OLLAMA_KV_CACHE_TYPE") or "f16" if process else None
    log = log or (process.log if process else None)
    if log is not None and (found := _logged(log, blob)):
        return KvEvidence(found[0], f"log: K ({found[0]}): {found[1]} MiB", asked)
    if process is not None:
        for command in (each.command for each in reversed(process.runners)):
            # Before 0.30 an engine is "ollama runner", which is told the type in another way.
            if Path(command[0]).name != "llama-server" or "--model" not in command:
                continue
            if blob is None or any(blob in each for each in command):
                kind = _argument(command, "--cache-type-k") or "f16"
                return KvEvidence(kind, f"engine's command line: --cache-type-k {kind}", asked)
        if process.environment.get("OLLAMA_KV_CACHE_TYPE"):
            return KvEvidence(None, f"environment asks for {asked}; no engine is seen", asked)
    return KvEvidence(None, "neither log nor process can be seen from here", asked)


def kv_type_of_size(bytes_per_token: float, elements: int) -> KvType | None:
    """The KV cache type that takes so much memory, among those that Ollama names.

    The size that a server reports grows with the context by a little more than the cache (the
    compute buffer grows too) or by a little less (0.24 leaves out a block's scale), so the nearest
    type counts, and none where nothing is near.

    Args:
        bytes_per_token: Growth of a loaded model's size per token of context.
        elements: Numbers that the cache holds per token.
    """
    per_element = bytes_per_token / elements
    kind = min(_SIZED, key=lambda each: abs(log(per_element / each.bytes_per_element)))
    ratio = per_element / kind.bytes_per_element
    return kind if _NEAR[0] <= ratio <= _NEAR[1] else None


def _logged(log: Path, blob: str | None) -> tuple[str, str] | None:
    """Type and size of the newest KV cache in a log, after the newest load of the blob."""
    lines = read_log(None, log).splitlines()
    if blob is not None:
        start = max(
            (i for i, line in enumerate(lines) if blob in line and "start" in line), default=0
        )
        lines = lines[start:]
    found = [match for line in lines if (match := _CACHE_LINE.search(line))]
    return (found[0]["type"], found[0]["size"]) if found else None


def _argument(command: tuple[str, ...], flag: str) -> str | None:
    for word, value in pairwise(command):
        if word == flag:
            return value
    return None
