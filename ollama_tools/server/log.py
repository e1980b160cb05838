"""A server's log, and what it says of devices and of a model's load.

The lines are those of Ollama 0.34.4 and of the llama-server that it starts. On a machine without a
card llama-server, too, writes `offloaded 41/41 layers to GPU` (seen on 0.34.4): the layers say
where a model is only together with the devices that hold its buffers.
"""

from __future__ import annotations

import itertools
import re
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ollama_tools.server.process import ServerProcess

_MIB = 1 << 20
_TAIL = 8 * _MIB
_JOURNAL_LINES = 20_000
_SECONDS = 10.0
_SERVER_START = 'msg="server config"'
_ENGINE_START = 'msg="starting llama-server"'
_COMPUTE = 'msg="inference compute"'
_FIELD = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|\S*)')
_COMMAND = re.compile(r'msg="starting llama-server" cmd="((?:[^"\\]|\\.)*)"')
_OFFLOADED = re.compile(r"offloaded\s+(\d+)/(\d+)\s+layers to GPU")
_BUFFER = re.compile(
    r"^\w+:\s+(\S+)\s+(model|KV|compute|output)\s+buffer size\s*=\s*([\d.]+) MiB", re.MULTILINE
)
_CACHE = re.compile(
    r"^llama_kv_cache: size =\s*([\d.]+) MiB \(\s*(\d+) cells,\s*(\d+) layers,.*"
    r"K \((\w+)\):.*V \((\w+)\)",
    re.MULTILINE,
)
_FLASH = re.compile(r"^llama_context: flash_attn\s*=\s*(\w+)", re.MULTILINE)
_FLASH_RESOLVED = re.compile(r"[Ff]lash [Aa]ttention.*?(enabled|disabled)")
_FIT = re.compile(r"^common_(?:params_fit_impl|fit_params): (?!getting|fitting)(.+)$", re.MULTILINE)
_STARTED = re.compile(r"llama-server started in ([\d.]+) seconds")
_SPLITS = re.compile(r"^sched_reserve: graph splits = (\d+)", re.MULTILINE)
_COMMAND_FLAGS = {
    "-c": "cells",
    "-np": "slots",
    "-ub": "batch",
    "-ngl": "gpu_layers",
    "--cache-type-k": "kv_type",
    "--flash-attn": "flash_attention",
}
_LINE = 300
"""Characters of a line that are kept."""


@dataclass(frozen=True, slots=True)
class Device:
    """A device of the line ``inference compute``: its fields as the server writes them."""

    library: str
    name: str
    description: str
    kind: str
    total: str
    available: str
    driver: str
    pci_id: str

    @property
    def is_gpu(self) -> bool:
        """Whether it is a graphics card; a server without one lists its CPU."""
        return self.library != "cpu"


@dataclass(frozen=True, slots=True)
class Load:
    """What the log says of the newest load of a model; None and empty where it says nothing.

    Attributes:
        command: What the server asked of the engine, by flag.
        layers_offloaded: Layers that went to the GPU.
        layers: All layers that could.
        buffers: Bytes by device (``Vulkan0``, ``CPU_Mapped``) and kind (``model``, ``KV``,
            ``compute``, ``output``).
        kv_bytes: Bytes of the KV cache.
        kv_cells: Tokens that one slot of it holds.
        kv_types: Types of keys and values.
        flash_attention: What the engine made of the flag: ``enabled``, ``disabled`` or ``auto``.
        graph_splits: Pieces that the graph is cut into; every cut is a crossing between devices.
        fit: What the engine says of fitting the model into the card's memory.
        engine_seconds: How long the engine took to answer.
    """

    command: Mapping[str, str]
    layers_offloaded: int | None
    layers: int | None
    buffers: Mapping[str, Mapping[str, int]]
    kv_bytes: int | None
    kv_cells: int | None
    kv_types: tuple[str, ...]
    flash_attention: str | None
    graph_splits: int | None
    fit: tuple[str, ...]
    engine_seconds: float | None

    @property
    def gpu_bytes(self) -> int:
        """Bytes on graphics cards, all buffers together."""
        return sum(
            sum(kinds.values()) for name, kinds in self.buffers.items() if is_gpu_buffer(name)
        )

    def on_gpu(self, kind: str) -> int:
        """Bytes on graphics cards of one kind of buffer."""
        return sum(
            kinds.get(kind, 0) for name, kinds in self.buffers.items() if is_gpu_buffer(name)
        )

    def as_json(self) -> dict[str, Any]:
        """The facts as the report has them."""
        return {
            "command": dict(self.command),
            "layers_offloaded": self.layers_offloaded,
            "layers": self.layers,
            "buffers": {name: dict(kinds) for name, kinds in self.buffers.items()},
            "gpu_bytes": self.gpu_bytes,
            "kv_bytes": self.kv_bytes,
            "kv_cells": self.kv_cells,
            "kv_types": list(self.kv_types),
            "flash_attention": self.flash_attention,
            "graph_splits": self.graph_splits,
            "fit": list(self.fit),
            "engine_seconds": self.engine_seconds,
        }


def read_log(process: ServerProcess | None, named: Path | None = None) -> str:
    """The end of a server's log; empty where it cannot be seen.

    Args:
        process: The server's process, whose stderr is a file or goes to systemd's journal.
        named: The file, where a person named it.
    """
    path = named or (process.log if process else None)
    if path is not None:
        try:
            with path.open("rb") as file:
                file.seek(0, 2)
                file.seek(max(0, file.tell() - _TAIL))
                return file.read(_TAIL).decode(errors="replace")
        except OSError:
            return ""
    if process is None or (unit := process.unit) is None:
        return ""
    lines = f"--lines={_JOURNAL_LINES}"
    try:
        return (
            subprocess.run(
                ["journalctl", f"--unit={unit}", lines, "--output=cat", "--no-pager", "--quiet"],
                capture_output=True,
                timeout=_SECONDS,
                check=True,
            )
            .stdout[-_TAIL:]
            .decode(errors="replace")
        )
    except (OSError, subprocess.SubprocessError):
        return ""


def is_gpu_buffer(name: str) -> bool:
    """Whether a buffer of that name lies on a card; as ``isGPUBuffer`` of Ollama's llm package."""
    return not (name in ("CPU", "BLAS") or name.startswith("CPU_") or name.endswith("_Host"))


def devices(log: str) -> list[Device]:
    """The devices that the newest start of a server lists; none while it still looks."""
    found = []
    for line in _newest(log, _SERVER_START).splitlines():
        if _COMPUTE in line:
            fields = {key: value.strip('"') for key, value in _FIELD.findall(line)}
            found.append(
                Device(
                    library=fields.get("library", ""),
                    name=fields.get("name", ""),
                    description=fields.get("description", ""),
                    kind=fields.get("type", ""),
                    total=fields.get("total", ""),
                    available=fields.get("available", ""),
                    driver=fields.get("driver", ""),
                    pci_id=fields.get("pci_id", ""),
                )
            )
    return found


def newest_load(log: str, blob: str | None = None) -> Load:
    """The newest load of a model.

    Args:
        log: The log.
        blob: ``sha256-…`` of the model's weights; None for whichever model was loaded last.
    """
    # What llama-server writes by itself has no such line, and is of one load.
    text = _newest(log, _ENGINE_START) or ("" if blob else log)
    while blob is not None and text and blob not in text.partition("\n")[0]:
        log = log[: -len(text)]
        text = _newest(log, _ENGINE_START)
    offloaded = _last(_OFFLOADED, text)
    cache = _last(_CACHE, text)
    flash = _last(_FLASH_RESOLVED, text) or _last(_FLASH, text)
    splits, started = _last(_SPLITS, text), _last(_STARTED, text)
    buffers: dict[str, dict[str, int]] = {}
    # A load that is tried again writes its buffers again: the last figure counts.
    for name, kind, mebibytes in _BUFFER.findall(text):
        buffers.setdefault(name, {})[kind] = round(float(mebibytes) * _MIB)
    return Load(
        command=_command(text),
        layers_offloaded=int(offloaded[1]) if offloaded else None,
        layers=int(offloaded[2]) if offloaded else None,
        buffers=buffers,
        kv_bytes=round(float(cache[1]) * _MIB) if cache else None,
        kv_cells=int(cache[2]) if cache else None,
        kv_types=(cache[4], cache[5]) if cache else (),
        flash_attention=flash[1] if flash else None,
        graph_splits=int(splits[1]) if splits else None,
        fit=tuple(line[:_LINE] for line in _FIT.findall(text)),
        engine_seconds=float(started[1]) if started else None,
    )


def _command(text: str) -> dict[str, str]:
    match = _COMMAND.search(text)
    words = shlex.split(match[1]) if match else []
    return {
        _COMMAND_FLAGS[flag]: value
        for flag, value in itertools.pairwise(words)
        if flag in _COMMAND_FLAGS
    }


def _newest(log: str, mark: str) -> str:
    return log[start:] if (start := log.rfind(mark)) >= 0 else ""


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    return found[-1] if (found := list(pattern.finditer(text))) else None
