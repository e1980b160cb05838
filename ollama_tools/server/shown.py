"""What a server says of one model (``POST /api/show``), as plain values."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

from ollama_tools.devstral.contract import understands
from ollama_tools.errors import MALFORMED
from ollama_tools.server.modelfile_text import Modelfile, parse_modelfile
from ollama_tools.server.origin import Origin, bare_license, parse_origin

# A model's own words: the header's names, and the file or model it was made of.
_LABELS = ("general.name", "general.basename", "general.base_model.0.name")
_BLOB = re.compile(r"sha256[-:]([0-9a-f]{64})")


class Shown:
    """One model as its server shows it.

    Attributes:
        name: The model's name.
        template: The template that runs: Go, or the GGUF's Jinja where the server uses that.
        system: The system prompt; empty where the model has none.
    """

    def __init__(self, name: str, answer: Mapping[str, Any]) -> None:
        self.name = name
        self._answer = answer
        self.template = str(answer.get("template") or "")
        self.system = str(answer.get("system") or "")

    def is_same_model(self, other: Shown) -> bool:
        """Whether two names stand for the same, all that a server shows compared."""
        return self._content == other._content

    @property
    def _content(self) -> dict[str, Any]:
        # The Modelfile begins with comments that repeat the name.
        said = [(each.name, each.key, each.value) for each in self.modelfile.instructions]
        return {**self._answer, "modelfile": said, "modified_at": None}

    @property
    def label(self) -> str:
        """What the model calls itself, in one line; empty where it says nothing."""
        info = self._answer.get("model_info") or {}
        details = self._answer.get("details") or {}
        words = [*(info.get(key) for key in _LABELS), details.get("parent_model")]
        return " ".join(str(each) for each in words if each)

    @property
    def is_devstral(self) -> bool:
        """Whether its name, its own words or a template of ours say that it is a Devstral.

        A tune that was given a name of its own says it by its template alone.
        """
        return (
            "devstral" in f"{self.name} {self.label}".casefold()
            or understands(self.template)
            or self.has_earlier_template
        )

    @property
    def architecture(self) -> str:
        """The GGUF's architecture, as ``llama``; empty where the server does not say."""
        return str((self._answer.get("model_info") or {}).get("general.architecture") or "")

    @property
    def header(self) -> dict[str, bool | int | float | str]:
        """Scalars and texts of the GGUF's header, as far as the server tells them."""
        info = self._answer.get("model_info") or {}
        return {
            key: value for key, value in info.items() if isinstance(value, bool | int | float | str)
        }

    @property
    def embedding(self) -> int | None:
        """Width of the hidden state; None where the server does not say."""
        info = self._answer.get("model_info") or {}
        value = info.get(f"{self.architecture}.embedding_length")
        return value if isinstance(value, int) else None

    @property
    def longest_context(self) -> int | None:
        """The longest context in tokens that the weights were made for."""
        info = self._answer.get("model_info") or {}
        value = info.get(f"{self.architecture}.context_length")
        return value if isinstance(value, int) else None

    @property
    def kv_elements(self) -> int | None:
        """Numbers that the KV cache holds per token, keys and values; None where unknown."""
        info = self._answer.get("model_info") or {}
        layers, heads, key, value = (
            info.get(f"{self.architecture}.{each}")
            for each in (
                "block_count",
                "attention.head_count_kv",
                "attention.key_length",
                "attention.value_length",
            )
        )
        if not (isinstance(layers, int) and isinstance(heads, int) and isinstance(key, int)):
            return None
        return layers * heads * (key + (value if isinstance(value, int) else key))

    @property
    def capabilities(self) -> tuple[str, ...]:
        """What the server thinks the model can do: completion, tools, vision."""
        return tuple(self._answer.get("capabilities") or ())

    @property
    def sees_images(self) -> bool:
        """Whether the server takes images for it: by a projector, or by its weights themselves."""
        return "vision" in self.capabilities

    @property
    def projected_width(self) -> int | None:
        """Width of the hidden state that its projector writes; None where nothing says it."""
        value = (self._answer.get("projector_info") or {}).get("clip.vision.projection_dim")
        return value if isinstance(value, int) else None

    @cached_property
    def parameters(self) -> dict[str, list[str]]:
        """Model parameters as text; ``stop`` may have several values."""
        found: dict[str, list[str]] = {}
        for line in str(self._answer.get("parameters") or "").splitlines():
            key, _, value = line.strip().partition(" ")
            found.setdefault(key, []).append(_unquoted(value.strip()))
        return found

    @property
    def context(self) -> int | None:
        """``num_ctx`` in tokens, where the model sets it."""
        return self._number("num_ctx")

    @property
    def longest_answer(self) -> int | None:
        """``num_predict`` in tokens, where the model sets it, and it is a limit."""
        return self._number("num_predict")

    def _number(self, name: str) -> int | None:
        values = self.parameters.get(name, [])
        return int(values[-1]) if values and values[-1].isdigit() else None

    @cached_property
    def modelfile(self) -> Modelfile:
        """The model as a Modelfile, as the server writes it down."""
        return parse_modelfile(str(self._answer.get("modelfile") or ""))

    @property
    def parser(self) -> str:
        """Name of the tool-call parser; empty where the model names none."""
        found = self.modelfile.last("PARSER")
        return found.value if found else ""

    @property
    def blobs(self) -> tuple[str, ...]:
        """``sha256:…`` of its GGUF blobs: weights, then projector or adapters.

        ``/api/show`` has no field for them; the Modelfile in it names the files of the store.
        """
        return tuple(
            f"sha256:{match[1]}"
            for each in self.modelfile.instructions
            if each.name in ("FROM", "ADAPTER") and (match := _BLOB.search(each.value))
        )

    @property
    def projectors(self) -> tuple[str, ...]:
        """``sha256:…`` of what lets it see images beside its weights; empty where nothing does.

        Weights have one FROM, also where they are split, and each projector has one behind it
        (``String`` in ``server/images.go`` of Ollama 0.24 and 0.34).
        """
        others = [each.value for each in self.modelfile.instructions if each.name == "FROM"][1:]
        return tuple(f"sha256:{match[1]}" for each in others if (match := _BLOB.search(each)))

    @property
    def weight_blobs(self) -> tuple[str, ...]:
        """:attr:`blobs` without the projectors."""
        return tuple(each for each in self.blobs if each not in self.projectors)

    @property
    def origin(self) -> Origin | None:
        """Where the weights came from; None where the manifest does not say."""
        parent = str((self._answer.get("details") or {}).get("parent_model") or "")
        found = parse_origin(parent, str(self._answer.get("license") or ""))
        if found is not None and found.tag and self.weights:
            # What a server pulls is the file as published, and its blob is named by its digest.
            return replace(found, sha256=self.weights.removeprefix("sha256:"))
        return found

    @property
    def license(self) -> str:
        """The license that the weights came with; empty where there is none."""
        return bare_license(str(self._answer.get("license") or ""))

    @property
    def weights(self) -> str | None:
        """``sha256:…`` of the blob that holds the weights; engines are kept by it."""
        return self.blobs[0] if self.blobs else None

    @property
    def is_jinja(self) -> bool:
        """Whether the GGUF's own Jinja runs; Go templates have no such brackets."""
        return "{%" in self.template and not self.parser

    @property
    def has_earlier_template(self) -> bool:
        """Whether its Jinja is ours, as an earlier version of this package wrote it."""
        from ollama_tools.devstral.carriers import is_earlier_jinja

        return self.is_jinja and is_earlier_jinja(self.template)

    @property
    def carrier(self) -> str:
        """Where the template that runs lives; see :class:`ollama_tools.devstral.carriers.Carrier`.

        ``hub`` stands for any Jinja in the file that is not ours, ``other`` for a Go template that
        is not ours.
        """
        from ollama_tools.devstral.carriers import go_template, jinja_template
        from ollama_tools.devstral.catalog import TokenizerVersion

        if self.is_jinja:
            text = self.template.rstrip("\n")
            ours = any(text == jinja_template(each) for each in TokenizerVersion)
            return "gguf" if ours or self.has_earlier_template else "hub"
        ours = any(self.template == go_template(each) for each in TokenizerVersion)
        return "modelfile" if ours else "other"


def _unquoted(value: str) -> str:
    if value.startswith('"'):
        try:
            return str(ast.literal_eval(value))
        except (*MALFORMED, SyntaxError, MemoryError):
            return value.strip('"')
    return value
