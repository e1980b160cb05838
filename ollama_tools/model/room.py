"""What a model takes of its server's memory, reckoned before anything is brought.

A server does not say how much memory its cards have. Where it runs on this machine, its log and the
drivers do; of another one a person can say it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, TypedDict

from ollama_tools.checks.placement import look_at_host
from ollama_tools.devstral.catalog import Release
from ollama_tools.devstral.context import AGENT_CONTEXT, LEAST_CONTEXT
from ollama_tools.devstral.fit import Cards, Estimate, EstimateJson, Weights, on_processor
from ollama_tools.devstral.memory import PROJECTOR_BYTES, KvType
from ollama_tools.errors import HubError, UsageError
from ollama_tools.files import gguf_rewrite
from ollama_tools.hardware.memory import main_memory
from ollama_tools.model.published import hub_facts
from ollama_tools.progress import Progress, parse_size, size_text
from ollama_tools.server.client import InstalledModel, Server, find_model
from ollama_tools.server.log import read_log
from ollama_tools.server.process import ServerProcess, find_server_process
from ollama_tools.server.versions import NATIVE_JINJA, Version
from ollama_tools.settings.environment import is_quantized, parse_kv_type
from ollama_tools.wanted.source import FileSource, HubSource, ServerSource, Source


@dataclass(frozen=True, slots=True)
class Room:
    """What a server has for a model, and how it would load one.

    Attributes:
        cards: The memory of its cards; None where nothing tells of any.
        source: Who says it.
        memory: Bytes of its main memory; 0 where nobody says it.
        kv_type: Type of its KV cache; f16, which takes most, where nothing tells.
        parallel: Requests at a time.
        is_seen: Whether its process is, so that type and requests are known.
    """

    cards: Cards | None
    source: str
    memory: int
    kv_type: KvType
    parallel: int
    is_seen: bool

    def estimate(self, weights: Weights, context: int) -> Estimate:
        """What a model takes of the cards, or of main memory where there is none."""
        if self.cards is None:
            return on_processor(weights, context, self.kv_type, self.parallel, self.memory)
        return self.cards.estimate(weights, context, self.kv_type, self.parallel)

    def context(self, weights: Weights | None, longest: int, now: int | None) -> tuple[int, str]:
        """The context that ``auto`` means, and why.

        Args:
            weights: The model; None where its size is not known.
            longest: Tokens that it was made for.
            now: The context of what serves, which stays as long as it fits; None where nothing
                serves.
        """
        least, most = min(LEAST_CONTEXT, longest), min(AGENT_CONTEXT, longest)
        kept = now is not None and least <= now <= most
        if self.cards is None or weights is None:
            lacking = (
                f"nothing tells how much memory the cards of the server have ({self.source})"
                if self.cards is None
                else "nothing tells how large the model is"
            )
            if kept and now is not None:
                return now, f"as it serves, since {lacking}"
            return least, f"{lacking}; --vram says it"
        if kept and now is not None and self.estimate(weights, now).fits:
            return now, f"as it serves, which fits on {self.cards}"
        found = self.cards.largest_context(weights, self.kv_type, self.parallel, most)
        if found is None or found.context < least:
            return least, f"no longer one fits on {self.cards}"
        limit = "what agents want, and fits" if found.context == most else "the largest that fits"
        seen = "" if self.is_seen else ", its type not being seen from here"
        on = f"on {self.cards} ({self.source})"
        return found.context, f"{limit} {on} with a KV cache of {self.kv_type}{seen}"


def stated_cards(stated: str | None, *, vision: bool = False) -> Cards | None:
    """The memory of a server's cards as a person says it; None where nobody does.

    Raises:
        UsageError: It is no size, or no room for a Devstral.
    """
    if not stated:
        return None
    totals = tuple(map(parse_size, stated.split(",")))
    return Cards(totals, PROJECTOR_BYTES if vision else 0)


def room_of(
    server: Server, version: Version | None, stated: str | None = None, *, vision: bool = False
) -> Room:
    """What a server has for a model.

    Args:
        server: The server.
        version: Its version; None where it is none to compare.
        stated: The memory of its cards as a person says it, as ``24GiB``; None for what is seen.
        vision: Whether a projector goes to the cards too.

    Raises:
        UsageError: What a person says is no size, or no room for a Devstral.
    """
    process = find_server_process(server.url)
    kv_type, parallel = _settings(process, version)
    cards = stated_cards(stated, vision=vision)
    if cards is not None:
        return Room(cards, "as --vram says", 0, kv_type, parallel, process is not None)
    if process is None:
        return Room(None, "it runs elsewhere", 0, kv_type, parallel, is_seen=False)
    totals, source = look_at_host(process, read_log(process)).card_memory
    memory = main_memory()
    return Room(
        Cards(totals, PROJECTOR_BYTES if vision else 0) if totals else None,
        source,
        memory.total if memory else 0,
        kv_type,
        parallel,
        is_seen=True,
    )


def _settings(process: ServerProcess | None, version: Version | None) -> tuple[KvType, int]:
    """Type of the KV cache and requests at a time, as a process has them."""
    if process is None:
        return KvType.F16, 1
    slots = process.environment.get("OLLAMA_NUM_PARALLEL", "")
    parallel = int(slots) if slots.isdigit() and int(slots) else 1
    try:
        kind = parse_kv_type(process.environment.get("OLLAMA_KV_CACHE_TYPE") or KvType.F16)
    except UsageError:
        # No model will load with it; doctor and preflight say so.
        return KvType.F16, parallel
    old = version is None or version < NATIVE_JINJA
    if old and is_quantized(kind) and not process.flag("OLLAMA_FLASH_ATTENTION"):
        return KvType.F16, parallel
    return kind, parallel


def weights_to_come(
    source: Source,
    release: Release,
    models: Sequence[InstalledModel],
    progress: Progress,
    *,
    ask: bool,
) -> Weights | None:
    """The weights of a source, as far as memory goes; None where nothing tells their size.

    Args:
        source: The source.
        release: What it is a quant of.
        models: The models of the server.
        progress: Hears where the hub is asked.
        ask: Whether the hub is asked for the size of a file that the catalog has not.
    """
    match source:
        case HubSource(bytes=int(size)):
            return weights_of_file(release, source.tag, size, estimated=source.estimated)
        case HubSource() if ask:
            try:
                known = hub_facts(source, progress)[1].bytes
            except (HubError, UsageError):
                return None
            return weights_of_file(release, source.tag, known) if known else None
        case FileSource(path=path):
            size = sum(each.stat().st_size for each in gguf_rewrite.parts(path))
            return weights_of_file(release, path.stem, size)
        case ServerSource(name=name):
            found = find_model(list(models), name)
            return weights_of_file(release, name, found.bytes) if found and found.bytes else None
    return None


def weights_of_file(release: Release, label: str, size: int, *, estimated: bool = False) -> Weights:
    """The weights of a file of a release, by its size in bytes."""
    weights = Weights.of(label, release.architecture, size, estimated=estimated)
    # A file may be none of the release's, which is refused elsewhere.
    return weights if weights.input_bytes < size else replace(weights, input_bytes=0)


class NeedsJson(TypedDict):
    """What a build will take of its server, reckoned."""

    file_bytes: Annotated[int, "Its file, on the server's disk."]
    estimated: Annotated[bool, "Whether that is not known to the byte."]
    memory: Annotated[EstimateJson, "What it takes of cards, or of main memory without any."]
    on_cards: Annotated[bool, "Whether the server is known to have cards."]
    room_bytes: Annotated[int, "What there is for it; 0 where nobody knows."]


@dataclass(frozen=True, slots=True)
class Needs:
    """What a build will take of its server.

    Attributes:
        room: What the server has.
        estimate: What it takes of it.
    """

    room: Room
    estimate: Estimate

    @property
    def text(self) -> str:
        """It in one line."""
        found, room = self.estimate, self.room
        file = size_text(found.weights.file_bytes, estimated=found.weights.estimated)
        parts = f"weights {size_text(found.weights_bytes)}, KV cache of {found.kv_type} "
        parts += f"{size_text(found.kv_cache)}, work {size_text(found.compute)}"
        if found.projector:
            parts += f", projector {size_text(found.projector)}"
        if room.cards is not None:
            where = f"of the {size_text(room.cards.room)} that {room.cards} leaves for it"
        elif room.memory:
            where = f"of main memory, which is {size_text(room.memory)}"
        else:
            where = "of memory"
        doubt = "" if room.is_seen else "; type and number of KV caches are not seen from here"
        slots = f", {found.parallel} at a time" if found.parallel > 1 else ""
        return (
            f"takes {file} on the server's disk, and with a context of {found.context}{slots} "
            f"{size_text(found.total)} {where} ({parts}{doubt})"
        )

    def as_json(self) -> NeedsJson:
        """The same for programs."""
        return {
            "file_bytes": self.estimate.weights.file_bytes,
            "estimated": self.estimate.weights.estimated,
            "memory": self.estimate.as_json(),
            "on_cards": self.room.cards is not None,
            "room_bytes": self.estimate.room,
        }

    def require(self, name: str, *, wanted: bool | None, progress: Progress) -> None:
        """Refuse what cannot be wholly on the cards that there are.

        Args:
            name: The model's public name.
            wanted: Whether it must be, see ``--require-gpu``; None where there are cards.
            progress: Hears where it is only doubtful.

        Raises:
            UsageError: It cannot.
        """
        found, cards = self.estimate, self.room.cards
        if cards is None:
            if self.room.memory and found.total > self.room.memory:
                progress.warn(f"{name} {self.text}: it will swap, or not load")
            return
        if wanted is False or found.fits:
            return
        saw = f"{size_text(found.total)} and {size_text(cards.room)} are there for it on {cards}"
        layers = f"about {found.layers_on_card} of {found.layers} layers would be on it"
        least = found
        if not self.room.is_seen:
            least = cards.estimate(found.weights, found.context, KvType.Q4_0)
        if least.total <= found.room:
            progress.warn(f"{name} may not fit: it takes about {saw}")
            return
        raise UsageError(
            f"{name} does not fit: it takes {saw} ({self.room.source}), so that {layers} and the "
            "processor computes the rest, many times slower",
            f"{self.instead()}; --no-require-gpu where that is meant, --force to try",
        )

    def instead(self) -> str:
        """What would fit, as a fix."""
        cards, found = self.room.cards, self.estimate
        if cards is None:
            return "use a smaller --context, or a smaller quant, see devstral-ollama quants"
        kinds = (found.kv_type, *(each for each in (KvType.Q8_0, KvType.Q4_0)))
        for kind in dict.fromkeys(kinds):
            largest = cards.largest_context(found.weights, kind, found.parallel, found.context)
            if largest is not None and largest.context >= min(found.context, LEAST_CONTEXT):
                cache = "" if kind is found.kv_type else f" and OLLAMA_KV_CACHE_TYPE={kind}"
                return f"use --context {largest.context}{cache}"
        sizes = " ".join(f"--vram {size_text(each).replace(' ', '')}" for each in cards.totals)
        return f"choose a smaller quant by devstral-ollama fit {sizes}"
