"""How large everything is: on a card, and on a processor where only the script is proven."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from ollama_tools.devstral.catalog_file import load_catalog
from ollama_tools.devstral.memory import KvType
from ollama_tools.files.architecture import Architecture


@dataclass(frozen=True, slots=True)
class Sizes:
    """The measures of a run.

    Attributes:
        mode: ``full`` or ``small``.
        shape: Shape of the model of zeros.
        miniature: File name of the miniature in the bundle.
        seconds: Time of the whole run.
        contexts: Contexts of the KV cache's table, in tokens.
        slots: Further loads: tokens of context a slot, type of the KV cache, number of slots.
        load_context: Context of the first loads.
        check_context: Context of the checked model.
        check_prompt: Tokens of the long prompt of the checks.
        few_layers: Layers that go to the card where only a few are to.
        depths: Tokens before the generation whose speed is taken.
        runs: How often each prompt's figures are taken.
        predict: Tokens to generate.
        turns: Turns of an agent's session.
        options: Options of every request.
    """

    mode: str
    shape: Architecture
    miniature: str
    seconds: float
    contexts: tuple[int, ...]
    slots: tuple[tuple[int, KvType, int], ...]
    load_context: int
    check_context: int
    check_prompt: int
    few_layers: int
    depths: tuple[int, ...]
    runs: int
    predict: int
    turns: int
    options: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        """The measures as the report has them."""
        return {
            "seconds": self.seconds,
            "layers": self.shape.layers,
            "embedding": self.shape.embedding,
            "contexts": list(self.contexts),
            "depths": list(self.depths),
            "predict": self.predict,
            "few_layers": self.few_layers,
        }


def full() -> Sizes:
    """Devstral Small's own measures, for a card."""
    return Sizes(
        mode="full",
        shape=load_catalog().release("2507").architecture,
        miniature="miniature.gguf",
        # Nine and a half minutes, less what unpacking and stopping may take.
        seconds=540.0,
        # What people should take comes first, for a run that is cut short.
        contexts=(32768, 131072),
        slots=(
            (32768, KvType.Q8_0, 2),
            (32768, KvType.Q8_0, 4),
            (16384, KvType.F16, 4),
        ),
        load_context=32768,
        check_context=32768,
        check_prompt=9000,
        few_layers=10,
        # The last leaves room for the answer in Devstral's whole context.
        depths=(2048, 32768, 129536),
        runs=2,
        predict=64,
        turns=6,
        options={},
    )


def small() -> Sizes:
    """The same run in minutes on two processor cores."""
    whole = load_catalog().release("2507").architecture
    return Sizes(
        mode="small",
        shape=dataclasses.replace(whole, layers=2, heads=8, embedding=256, feed_forward=512),
        miniature="miniature-small.gguf",
        seconds=220.0,
        contexts=(1024, 512, 2048),
        slots=((1024, KvType.Q8_0, 2), (512, KvType.F16, 4)),
        load_context=1024,
        check_context=4096,
        check_prompt=300,
        few_layers=1,
        depths=(128, 512, 1024),
        runs=1,
        predict=16,
        turns=3,
        # Threads that wait for each other are far slower than one where cores are shared.
        options={"num_thread": 1},
    )
