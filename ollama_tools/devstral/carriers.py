"""Where the chat template lives, and which one a release needs.

The server builds a prompt in one of several places, and each place carries a template with other
gains and losses. A place has a name here: the carrier.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path

from ollama_tools.devstral.catalog import TokenizerVersion
from ollama_tools.files.packaged import data_path

BOS = "<s>"
"""The token that begins a prompt; every engine writes it by itself."""

CONTROL_TOKENS = (
    BOS,
    "</s>",
    "[INST]",
    "[/INST]",
    "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]",
    "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]",
    "[TOOL_CALLS]",
    "[IMG]",
    "[IMG_BREAK]",
    "[IMG_END]",
    "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]",
    "[TOOL_CONTENT]",
    "[ARGS]",
    "[CALL_ID]",
)
"""Texts that the tokenizer turns into control tokens wherever they stand (mistral-common)."""

_COMMENT = re.compile(r"\{#-.*?-#\}", re.DOTALL)
_TRIMMED = re.compile(r"(?<=-[%}]\})\s+|\s+(?=\{[%{]-)")
"""What Jinja leaves out of the text itself, since a tag beside it says so."""


class Carrier(StrEnum):
    """The place where a model's chat template lives.

    With ``SERVER`` it is the server's own environment, which has to be set beforehand: see
    :class:`ollama_tools.settings.environment.ServerSettings`.
    """

    GGUF = "gguf"
    HUB = "hub"
    MODELFILE = "modelfile"
    SERVER = "server"


AUTO = "auto"
"""The choice of a carrier that is left to the server's version and to a live check."""

EXACT = "exact"
"""The same choice among those with a template of this package's, which the gateway understands."""


@dataclass(frozen=True, slots=True)
class PromptLayers:
    """What a model's manifest says about its prompt.

    Attributes:
        template: Go template, or None where the server uses the file's own Jinja.
        parser: Name of the server's tool-call parser, or None for the server's own choice.
        jinja: The Jinja that is put into the file itself, or None where the file stays as it is.
    """

    template: str | None
    parser: str | None
    jinja: str | None = None


@cache
def go_template(tokenizer: TokenizerVersion) -> str:
    """The whole Go template for a tokenizer version, as it goes into a model."""
    return "".join(
        data_path("templates", name).read_text(encoding="utf-8")
        for name in ("shared.gotmpl", f"{tokenizer.value}.gotmpl")
    ).rstrip("\n")


def jinja_source(tokenizer: TokenizerVersion) -> str:
    """The Jinja for a tokenizer version, as people read it and as a dedicated server gets it."""
    return data_path("templates", f"{tokenizer.value}.jinja").read_text("utf-8").rstrip("\n")


@cache
def jinja_template(tokenizer: TokenizerVersion) -> str:
    """The Jinja for a tokenizer version, as it goes into a GGUF: without what only people read.

    For each new file a server takes the edit distance of its template to all that it knows, in
    time that grows with the length (``template/template.go`` of Ollama).
    """
    text = _COMMENT.sub("", jinja_source(tokenizer))
    return _TRIMMED.sub("", text).strip()


def complete_jinja(tokenizer: TokenizerVersion) -> Path:
    """The file with the complete form of the Jinja, for llama.cpp's own programs.

    Those hand a tool's schema to the template as the client sent it; the form for Ollama writes
    only what Ollama lets through.
    """
    return data_path("templates", "complete", f"{tokenizer.value}.jinja")


@cache
def earlier_jinja_templates(tokenizer: TokenizerVersion) -> tuple[str, ...]:
    """The texts that :func:`jinja_template` had in earlier versions of this package.

    Files with them lie on servers, and are still ours.
    """
    earlier = sorted(data_path("templates", "earlier").glob(f"{tokenizer.value}.*.jinja"))
    texts = [each.read_text("utf-8").rstrip("\n") for each in earlier]
    return (*texts, jinja_source(tokenizer))


def is_earlier_jinja(text: str) -> bool:
    """Whether a template is ours, as an earlier version of this package wrote it."""
    text = text.rstrip("\n")
    return any(text in earlier_jinja_templates(each) for each in TokenizerVersion)


def prompt_layers(carrier: Carrier, tokenizer: TokenizerVersion) -> PromptLayers:
    """The template and parser that a carrier puts into a model's manifest.

    v7 calls are ``[{"name": …}]``, which the parser ``ministral`` swallows; the server's generic
    parser reads them (measured on 0.34.4), so v7 has a template and no parser.
    """
    match carrier:
        case Carrier.GGUF:
            return PromptLayers(template=None, parser=None, jinja=jinja_template(tokenizer))
        case Carrier.HUB | Carrier.SERVER:
            return PromptLayers(template=None, parser=None)
        case Carrier.MODELFILE:
            parser = "ministral" if tokenizer is TokenizerVersion.V13 else None
            return PromptLayers(template=go_template(tokenizer), parser=parser)
