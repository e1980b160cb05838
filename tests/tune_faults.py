"""What tunes come with, and what becomes of it: the table of docs/how-to/fine-tune.md."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from ollama_tools.devstral.carriers import jinja_template
from ollama_tools.devstral.catalog import TokenizerVersion
from ollama_tools.devstral.catalog_file import load_catalog
from ollama_tools.devstral.header import require_fit, sent_how
from ollama_tools.devstral.vocabulary import base_tokens
from ollama_tools.errors import DevstralError
from ollama_tools.files.gguf import read_header
from ollama_tools.files.gguf_writer import Value
from tests.testbed.tunes import CHATML, SHAPE, write_header

_TEMPLATE: Final = "tokenizer.chat_template"
_DEVSTRAL: Final = "{{ bos_token }}{% for m in messages %}[INST]{{ m.content }}[/INST]{% endfor %}"
_ID = "tokenizer.ggml.{}_token_id"


def _tokens(**others: str) -> list[str]:
    tokens = base_tokens()
    for number, token in others.items():
        tokens[int(number.strip("_"))] = token
    return tokens


@dataclass(frozen=True)
class Tune:
    """A tune, and what is wrong with it.

    Attributes:
        what: What is wrong, in words.
        changes: What its header says otherwise than a sound one.
    """

    what: str
    changes: Mapping[str, Value | None] = field(default_factory=dict)

    def write(self, directory: Path) -> Path:
        """Write its header."""
        template = {_TEMPLATE: _DEVSTRAL}
        return write_header(directory / "tune.gguf", **{**template, **self.changes})

    def outcome(self, directory: Path, *, keep: bool | None) -> str:
        """What ``create`` makes of it; of a refusal, what is refused."""
        header = read_header(self.write(directory))
        jinja = None if keep else jinja_template(TokenizerVersion.V13)
        try:
            release = load_catalog().release("2507")
            faults = require_fit(header, release, keep_template=keep)
        except DevstralError as error:
            words = error.what.replace(f"{header.label}: ", "").replace(header.label, "it")
            return f"**refused**: {words}"
        return sent_how(header, jinja, faults, keeps_template=bool(keep))


TUNES: Final = (
    Tune("nothing"),
    Tune("template absent", {_TEMPLATE: None}),
    Tune("template broken", {_TEMPLATE: "{% if %}"}),
    Tune("template of ChatML", {_TEMPLATE: CHATML}),
    Tune("template with `<s>` in it", {_TEMPLATE: f"<s>{_DEVSTRAL}"}),
    Tune("`add_bos_token` false", {"tokenizer.ggml.add_bos_token": False}),
    Tune("`add_bos_token` absent", {"tokenizer.ggml.add_bos_token": None}),
    Tune("`add_eos_token` true", {"tokenizer.ggml.add_eos_token": True}),
    Tune("`eos_token_id` that of `<pad>`", {_ID.format("eos"): 11}),
    Tune("`eos_token_id` absent", {_ID.format("eos"): None}),
    Tune("`bos_token_id` that of `</s>`", {_ID.format("bos"): 2}),
    Tune("`eot_token_id` that of `[/INST]`", {_ID.format("eot"): 4}),
    Tune("`pre` default", {"tokenizer.ggml.pre": "default"}),
    Tune("`pre` absent", {"tokenizer.ggml.pre": None}),
    Tune(
        "several at once",
        {"tokenizer.ggml.add_eos_token": True, "tokenizer.ggml.pre": "llama-bpe"},
    ),
    Tune("another family's tokenizer", {"tokenizer.ggml.model": "llama"}),
    Tune(
        "another family's vocabulary",
        {"tokenizer.ggml.tokens": _tokens(_3="<|im_start|>", _4="<|im_end|>")},
    ),
    Tune("no vocabulary", {"tokenizer.ggml.tokens": None}),
    Tune("vocabulary too small for its shape", SHAPE),
    Tune("an adapter", {"general.type": "adapter"}),
    Tune("a projector", {"general.type": "mmproj"}),
    Tune("an importance matrix", {"general.type": "imatrix", "general.architecture": None}),
    Tune("another architecture", {"general.architecture": "qwen3"}),
)


def rows(directory: Path) -> Iterator[str]:
    """The rows of the table.

    Args:
        directory: Where headers may be written.
    """
    for tune in TUNES:
        made = [tune.outcome(directory, keep=keep) for keep in (None, True)]
        # Neither a cell's end nor a tag.
        made = [re.sub(r"[|<]", r"\\\g<0>", each) for each in made]
        yield f"| {tune.what} | {' | '.join(made)} |"


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        print("\n".join(rows(Path(folder))))
