"""What fits on a graphics card, and what to take: quant, context and type of the KV cache.

The engine decides in the same way: what it projects to need, and a margin, against what is free
(``common_params_fit_impl`` in llama.cpp's common/fit.cpp); what does not fit is computed by the
processor, without a word.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, TypedDict

from ollama_tools.devstral.context import AGENT_CONTEXT
from ollama_tools.devstral.memory import (
    FIT_MARGIN,
    PROJECTOR_EMBEDDING,
    KvType,
    batch_tokens,
    compute_bytes,
    host_compute_bytes,
    kv_cache_bytes,
    round_up_context,
)
from ollama_tools.devstral.quant_sizes import input_bytes, weight_count
from ollama_tools.errors import UsageError
from ollama_tools.progress import size_text

if TYPE_CHECKING:
    from ollama_tools.devstral.catalog import Release
    from ollama_tools.files.architecture import Architecture

DRIVER = 512 << 20
"""Bytes of a card that its driver keeps: 497 MiB of an H100's 79.6 GiB (docs/reference/gpu)."""

CONTEXTS = (8192, 32768, 65536, 131072)
KV_TYPES = (KvType.F16, KvType.Q8_0, KvType.Q4_0)

FEW_BITS = 4
"""Bits of a weight below which answers are visibly worse."""

_GOALS = (
    (FEW_BITS, AGENT_CONTEXT, KvType.Q8_0),
    (FEW_BITS, 32768, KvType.Q8_0),
    (3, AGENT_CONTEXT, KvType.Q8_0),
    (3, 32768, KvType.Q8_0),
    (3, 32768, KvType.Q4_0),
    (0, 32768, KvType.Q4_0),
    (0, 8192, KvType.Q4_0),
)
"""Bits of a weight, tokens, and type of the KV cache, the best first; see :func:`recommend`."""

_MOST_BITS = 10
"""Beyond Q8 a model takes twice the memory and time for answers that nobody can tell apart."""

_STEP = 1024
_LONGEST = 1 << 20
"""Tokens; a header may claim any number."""


class EstimateJson(TypedDict):
    """What one choice takes of the cards' memory."""

    quant: Annotated[str, "The quant, or the file's name."]
    context: Annotated[int, "Tokens of each request's context."]
    kv_cache_type: Annotated[str, "Type of the KV cache."]
    parallel: Annotated[int, "Requests at a time; each has a context of its own."]
    weights_bytes: Annotated[int, "The file without its header and its input matrix."]
    kv_cache_bytes: Annotated[int, "The KV cache of all requests."]
    compute_bytes: Annotated[int, "The buffers for the work on one batch, of all cards."]
    projector_bytes: Annotated[int, "What sees images; 0 without it."]
    total_bytes: Annotated[int, "The four before."]
    fits: Annotated[bool, "Whether all of it fits beside what driver and engine keep free."]


@dataclass(frozen=True, slots=True)
class Weights:
    """A model's weights, as far as memory goes.

    Attributes:
        name: The quant, or the file's name.
        architecture: The model's shape.
        file_bytes: Size of the GGUF, of all parts together.
        input_bytes: How much of it is the input matrix, which stays in main memory.
        estimated: Whether the size is not known to the byte.
    """

    name: str
    architecture: Architecture
    file_bytes: int
    input_bytes: int
    estimated: bool = False

    @property
    def doubt(self) -> int:
        """Bytes that the file may be larger; estimates of the catalog err by up to a twentieth."""
        return self.file_bytes // 20 if self.estimated else 0

    @property
    def bits(self) -> float:
        """Bits of the file for each of the model's weights."""
        return 8 * self.file_bytes / weight_count(self.architecture)

    @classmethod
    def of(
        cls, name: str, architecture: Architecture, file_bytes: int, *, estimated: bool = False
    ) -> Weights:
        """The weights of a quant or of a file, whose input matrix follows from what is known."""
        matrix = input_bytes(architecture, name, file_bytes)
        return cls(name, architecture, file_bytes, matrix, estimated)


@dataclass(frozen=True, slots=True)
class Estimate:
    """What one choice takes of the cards' memory, in bytes.

    Attributes:
        weights: The model.
        context: Tokens of each slot.
        kv_type: Type of the KV cache.
        parallel: Slots.
        room: What the cards have for models, without what driver and engine keep.
        kv_cache: The KV cache.
        compute: The buffers for the work on one batch, of all cards together.
        projector: What sees images.
        host: What stays in main memory.
    """

    weights: Weights
    context: int
    kv_type: KvType
    parallel: int
    room: int
    kv_cache: int
    compute: int
    projector: int
    host: int

    @property
    def weights_bytes(self) -> int:
        """What the weights take of the cards."""
        return self.weights.file_bytes - self.weights.input_bytes

    @property
    def total(self) -> int:
        """All of it together."""
        return self.weights_bytes + self.kv_cache + self.compute + self.projector

    @property
    def fits(self) -> bool:
        """Whether all of it is on the cards, also where an estimated file turns out larger."""
        return self.total + self.weights.doubt <= self.room

    @property
    def layers(self) -> int:
        """The layers that the engine counts, the output as one of them."""
        return self.weights.architecture.layers + 1

    @property
    def layers_on_card(self) -> int:
        """About how many layers the engine puts on the cards; the processor has the others."""
        if self.fits:
            return self.layers
        left = self.room - self.compute - self.projector
        each = (self.weights_bytes + self.kv_cache) / self.layers
        return max(0, min(self.layers - 1, int(left // each)))

    def as_json(self) -> EstimateJson:
        """The estimate as ``fit --json`` prints it."""
        return {
            "quant": self.weights.name,
            "context": self.context,
            "kv_cache_type": self.kv_type.value,
            "parallel": self.parallel,
            "weights_bytes": self.weights_bytes,
            "kv_cache_bytes": self.kv_cache,
            "compute_bytes": self.compute,
            "projector_bytes": self.projector,
            "total_bytes": self.total,
            "fits": self.fits,
        }


@dataclass(frozen=True, slots=True)
class Cards:
    """The memory that a model may take.

    Attributes:
        totals: Bytes of each card's memory.
        projector: Bytes of the vision projector that goes there too; 0 without it.
    """

    totals: tuple[int, ...]
    projector: int = 0

    def __post_init__(self) -> None:
        if not self.totals or min(self.totals) < 1 << 30:
            raise UsageError(
                "a card with less than 1 GiB of memory has no room for a Devstral",
                "name its memory as in --vram 24GiB",
            )

    def __str__(self) -> str:
        sizes = [size_text(each) for each in self.totals]
        return (
            f"{len(sizes)} cards of {' and '.join(dict.fromkeys(sizes))}"
            if sizes[1:]
            else (f"a card of {sizes[0]}")
        )

    @property
    def room(self) -> int:
        """Bytes for models: all, without what drivers and the engine keep free."""
        return sum(max(0, each - DRIVER - FIT_MARGIN) for each in self.totals)

    def estimate(
        self, weights: Weights, context: int, kv_type: KvType, parallel: int = 1
    ) -> Estimate:
        """What a choice takes here.

        Raises:
            UsageError: Context or slots are not positive, or no KV cache has such rows.
        """
        shape = weights.architecture
        cells = round_up_context(context) * parallel
        free = sum(each - DRIVER for each in self.totals)
        batch = batch_tokens(shape, cells, weights.file_bytes, free)
        # Each card works on layers of its own, with buffers of its own.
        compute = len(self.totals) * compute_bytes(shape, context, batch, on_card=True)
        return Estimate(
            weights,
            context,
            kv_type,
            parallel,
            self.room,
            kv_cache_bytes(shape, context, kv_type, parallel),
            compute,
            self.projector,
            weights.input_bytes + host_compute_bytes(shape, context, batch),
        )

    def largest_context(
        self, weights: Weights, kv_type: KvType, parallel: int = 1, most: int | None = None
    ) -> Estimate | None:
        """The largest context that fits, in steps of 1024; None where none does.

        Args:
            weights: The model.
            kv_type: Type of the KV cache.
            parallel: Slots.
            most: Tokens to stop at; those that the model was made for if absent.
        """
        longest = min(weights.architecture.context, _LONGEST)
        for context in range(min(most or longest, longest), _STEP - 1, -_STEP):
            found = self.estimate(weights, context, kv_type, parallel)
            if found.fits:
                return found
        return None


def on_processor(
    weights: Weights, context: int, kv_type: KvType, parallel: int, memory: int
) -> Estimate:
    """What a choice takes of main memory, where there is no card.

    Args:
        weights: The model; all of it lies there.
        context: Tokens of each slot.
        kv_type: Type of the KV cache.
        parallel: Slots.
        memory: Bytes of main memory; 0 where nobody knows.
    """
    shape = weights.architecture
    cells = round_up_context(context) * parallel
    batch = batch_tokens(shape, cells, weights.file_bytes, memory or None)
    return Estimate(
        replace(weights, input_bytes=0),
        context,
        kv_type,
        parallel,
        memory,
        kv_cache_bytes(shape, context, kv_type, parallel),
        compute_bytes(shape, context, batch, on_card=False),
        projector=0,
        host=0,
    )


def weights_of_release(release: Release) -> list[Weights]:
    """The weights of a release's quants, the smallest first."""
    return [
        Weights.of(each.name, release.architecture, each.bytes, estimated=each.estimated)
        for each in release.quants
    ]


def require_projector(models: Iterable[Weights]) -> None:
    """See that there is a vision projector for models of these shapes.

    Raises:
        UsageError: For one of them there is none on record.
    """
    for each in models:
        if each.architecture.embedding != PROJECTOR_EMBEDDING:
            raise UsageError(
                f"there is no vision projector on record for {each.name}", "leave out --vision"
            )


def estimates(
    cards: Cards,
    models: Iterable[Weights],
    contexts: Sequence[int] = CONTEXTS,
    kv_types: Sequence[KvType] = KV_TYPES,
    parallel: int = 1,
) -> Iterator[Estimate]:
    """Every choice of a model, a context and a type, in that order."""
    for weights in models:
        for context in contexts:
            for kv_type in kv_types:
                yield cards.estimate(weights, context, kv_type, parallel)


def recommend(
    cards: Cards,
    models: Sequence[Weights],
    contexts: Sequence[int] = (),
    kv_types: Sequence[KvType] = (),
    parallel: int = 1,
) -> Estimate | None:
    """What to take: enough bits first, then an agent's context, then more bits.

    Below four bits a weight answers become worse, below three much worse; 65536 tokens are what
    coding agents fill, and their first prompts alone take most of 32768. The first goal that any
    quant reaches decides, and the largest quant that reaches it is taken, none larger than Q8. It
    gets the largest context that fits, up to 65536.

    Args:
        cards: Where it is to fit.
        models: Its quants, the smallest first.
        contexts: Those that are asked for; any if empty.
        kv_types: Those that are asked for; any if empty.
        parallel: Slots.

    Returns:
        The choice; None where nothing fits.
    """
    goals = [each for each in _GOALS if not kv_types or each[2] in kv_types] or [
        (bits, context, kv_types[0]) for bits, context, _ in _GOALS
    ]
    if contexts:
        goals = [(bits, max(contexts), kind) for bits, _, kind in goals]
    sensible = [each for each in models if each.bits <= _MOST_BITS] or models
    for bits, context, kind in goals:
        for weights in reversed(sensible):
            wanted = min(context, weights.architecture.context)
            if weights.bits < bits and len(models) > 1:
                continue
            if cards.estimate(weights, wanted, kind, parallel).fits:
                most = wanted if contexts else max(wanted, AGENT_CONTEXT)
                return cards.largest_context(weights, kind, parallel, most)
    return None
