"""Where a loaded model is: on graphics cards, on the processor, or partly on each; and why.

The engine moves what does not fit, or cannot reach a card, to the processor without an error. The
strongest evidence comes first: the buffers in the server's log, then what ``/api/ps`` says.

``offloaded 41/41 layers to GPU`` is none: 0.34.4 logs it on a machine without a card as well.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ollama_tools.checks.result import Status
from ollama_tools.errors import UsageError
from ollama_tools.hardware.cards import Card, Driver, cards, device_files, driver
from ollama_tools.progress import parse_size, size_text
from ollama_tools.server.log import Load, devices, newest_load

if TYPE_CHECKING:
    from ollama_tools.server.client import RunningModel
    from ollama_tools.server.process import ServerProcess

_HIDING = (
    "CUDA_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "GGML_VK_VISIBLE_DEVICES",
)
"""Variables of a server that hide every card from it where they are empty or -1."""

_OLDEST_DRIVER = 550
_OLDEST_DRIVER_OF_OLD_CARDS = 570
_FIT = re.compile(r"projected to use (\d+) MiB .*?vs\. (\d+) MiB of free")
_WHOLE = 0.995


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a loaded model is.

    Attributes:
        share: How much of what it takes is on cards, from 0 to 1; None where nothing tells.
        bytes: Bytes of it on cards; None where nothing tells.
        source: What shows it.
        layers: The layers on cards and all layers, where the log tells and cards are used.
        load: What the log says of its load; None without one.
    """

    share: float | None
    bytes: int | None
    source: str
    layers: tuple[int, int] | None = None
    load: Load | None = None

    @property
    def is_whole(self) -> bool:
        """Whether all of it is on cards."""
        return self.share is not None and self.share >= _WHOLE

    def __str__(self) -> str:
        return self.text()

    def text(self, memory: int = 0) -> str:
        """It in words.

        Args:
            memory: Bytes of the cards' memory; 0 where nobody says it.
        """
        if self.share is None:
            return f"unknown: {self.source}"
        if not self.share:
            return f"on the processor ({self.source})"
        layers = f", {self.layers[0]} of {self.layers[1]} layers" if self.layers else ""
        size = size_text(self.bytes or 0)
        size += f" of {size_text(memory)}" if memory else ""
        where = "on the GPU" if self.is_whole else f"{self.share:.0%} on the GPU"
        return f"{where}{layers}, {size} ({self.source})"


@dataclass(frozen=True)
class Host:
    """The server's machine, as far as it can be seen.

    Attributes:
        cards: Its graphics cards.
        driver: What its drivers say.
        nodes: The device files of cards.
        environment: The environment of the server.
        log: The end of the server's log; empty where it cannot be seen.
    """

    cards: list[Card] = field(default_factory=list)
    driver: Driver = field(default_factory=Driver)
    nodes: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    log: str = ""

    @property
    def has_card(self) -> bool:
        """Whether anything here tells of a graphics card for computing."""
        return bool(
            self.cards
            or self.nodes
            or self.driver.unbound
            or any(each.is_gpu for each in devices(self.log))
        )

    @property
    def card_memory(self) -> tuple[tuple[int, ...], str]:
        """Bytes of each card's memory, and who says it; empty where nobody does.

        The server's own list counts most: it leaves out what is hidden from it.
        """
        listed = [each for each in devices(self.log) if each.is_gpu]
        totals = tuple(size for each in listed if (size := _size(each.total)))
        if listed and len(totals) == len(listed):
            return totals, "as the server's log says"
        if self.cards:
            return tuple(each.total for each in self.cards), "as the drivers say"
        return (), "neither its log nor a driver tells of a card"


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except UsageError:
        return 0


def look_at_host(process: ServerProcess | None, log: str) -> Host:
    """What this machine has; nothing of a server that runs elsewhere, but what its log tells."""
    if process is None:
        return Host(log=log)
    return Host(
        cards(),
        driver(),
        device_files(),
        dict(process.environment),
        log,
    )


def placement(log: str, blob: str | None, running: RunningModel | None) -> Placement:
    """Where a loaded model is.

    Args:
        log: The end of the server's log; empty where it cannot be seen.
        blob: ``sha256-…`` of its weights.
        running: The model as ``/api/ps`` lists it; None where it is not loaded.
    """
    load = newest_load(log, blob)
    weighty = {
        name: kinds for name, kinds in load.buffers.items() if "KV" in kinds or "model" in kinds
    }
    if any("KV" in kinds for kinds in weighty.values()):
        # The input matrix stays in main memory of every machine, and only that of all weights.
        on_cards = load.on_gpu("model") + load.on_gpu("KV")
        cache = sum(kinds.get("KV", 0) for kinds in weighty.values())
        is_whole = load.on_gpu("KV") == cache and load.layers_offloaded == load.layers
        whole = sum(
            sum(kinds.get(kind, 0) for kind in ("model", "KV")) for kinds in weighty.values()
        )
        share = 1.0 if on_cards and is_whole else min(on_cards / whole, 0.99)
        layers = None
        if on_cards and load.layers_offloaded is not None and load.layers is not None:
            layers = (load.layers_offloaded, load.layers)
        return Placement(share, load.gpu_bytes, "the server's log", layers, load)
    if running is None:
        return Placement(None, None, "the model is not loaded, and no log can be seen")
    if running.bytes:
        return Placement(
            running.vram_bytes / running.bytes, running.vram_bytes, "/api/ps", load=load
        )
    # From 0.30 on a model that is wholly on the processor has no size at all.
    return Placement(0.0, 0, "/api/ps", load=load)


def cause(found: Placement, host: Host) -> tuple[str, str]:
    """Why a model is not wholly on a card of its machine, and what helps.

    Returns:
        Both as texts; the cause is empty where nothing here tells.
    """
    for variable in _HIDING:
        if host.environment.get(variable) in ("-1", ""):
            return (
                f"{variable} hides every card from the server",
                f"unset {variable} for the server",
            )
    if host.environment.get("OLLAMA_LLM_LIBRARY", "").startswith("cpu"):
        return "OLLAMA_LLM_LIBRARY asks for the processor", "unset OLLAMA_LLM_LIBRARY"
    if (missing := _driver_fault(host)) is not None:
        return missing
    listed = devices(host.log)
    if listed and not any(each.is_gpu for each in listed):
        return (
            "the server found no card when it started, and there is one now",
            "restart the server; if that does not help, its user or unit may not open the devices: "
            "journalctl --unit ollama, and DeviceAllow= of the unit",
        )
    asked = found.load.command.get("gpu_layers", "") if found.load else ""
    if asked.isdigit() and found.load and int(asked) < (found.load.layers or 1):
        return f"num_gpu asks for {asked} layers of it", "leave out num_gpu"
    for line in reversed(found.load.fit if found.load else ()):
        if (match := _FIT.search(line)) and int(match[1]) + 1024 > int(match[2]):
            need, free = (size_text(int(each) << 20) for each in match.groups())
            return (
                f"it needs {need} of a card and {free} were free",
                "see devstral-ollama fit for a quant, context or KV cache that fits, and "
                "nvidia-smi for what else takes memory",
            )
    if found.share:
        return "it does not fit", "see devstral-ollama fit for what does"
    return "", "see the server's log for why, and devstral-ollama doctor"


def judge_placement(
    found: Placement, host: Host, require_gpu: bool | None
) -> tuple[Status, str, str]:
    """Whether a model is where it should be: how the check ends, what it saw, and what to do.

    Args:
        found: Where the model is.
        host: Its machine.
        require_gpu: Whether it must be wholly on graphics cards; None where the machine has one.
    """
    if found.is_whole:
        cards_ = f"; {host.cards[0].name}" if len(host.cards) == 1 else ""
        return Status.PASS, f"{found.text(sum(host.card_memory[0]))}{cards_}", ""
    wanted = host.has_card if require_gpu is None else require_gpu
    if found.share is None and not require_gpu:
        return (
            Status.UNKNOWN,
            str(found),
            "run this on the server's own machine, or give --log FILE",
        )
    if not wanted:
        if host.has_card or host.log or host.environment:
            seen = "" if host.has_card else "; no graphics card is seen there"
            return Status.PASS, f"{found}{seen}", ""
        return (
            Status.UNKNOWN,
            f"{found}; its machine cannot be seen",
            "--require-gpu fails for this",
        )
    why, fix = cause(found, host)
    if not host.has_card:
        why, fix = why or "no graphics card is seen there", "--no-require-gpu where that is meant"
    return Status.FAIL, f"{found}{': ' if why else ''}{why}", fix


def _driver_fault(host: Host) -> tuple[str, str] | None:
    state = host.driver
    if state.unbound and not host.cards:
        return (
            f"{state.unbound} is there and no driver for it is loaded",
            "install its driver, then restart the server",
        )
    if state.nvidia is not None and state.nvidia < _OLDEST_DRIVER:
        return (
            f"NVIDIA's driver {state.nvidia} is older than {_OLDEST_DRIVER}, which Ollama needs",
            f"install driver {_OLDEST_DRIVER} or newer",
        )
    if (
        state.nvidia is not None
        and state.nvidia < _OLDEST_DRIVER_OF_OLD_CARDS
        and state.capability is not None
        and (5, 0) <= state.capability <= (6, 2)
    ):
        capability = ".".join(map(str, state.capability))
        return (
            f"a card of compute capability {capability} needs NVIDIA's driver "
            f"{_OLDEST_DRIVER_OF_OLD_CARDS}, and this is {state.nvidia}",
            f"install driver {_OLDEST_DRIVER_OF_OLD_CARDS} or newer",
        )
    if any(each.startswith("/dev/nvidia") for each in host.nodes) and not state.uvm:
        return (
            "/dev/nvidia-uvm is missing, without which CUDA finds no card",
            "as root: modprobe nvidia-uvm && nvidia-modprobe -u -c0, then restart the server",
        )
    return None
