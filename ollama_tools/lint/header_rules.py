"""Rules about the header of the weights: of a GGUF, of one in FROM, of a model on a server."""

from __future__ import annotations

from collections.abc import Iterator

from ollama_tools.devstral.header import ADD_BOS, ADD_EOS, BOS_ID, EOS_ID, PRE, template_family
from ollama_tools.lint.finding import Hit, Severity, rule
from ollama_tools.lint.subject import Kind, Subject

_MENDED = "let devstral-ollama create mend it on its way, which takes the file as it lies here"
_LLAMA_CPP = "llama.cpp's src/llama-vocab.cpp"
_TYPES = {
    "adapter": "a LoRA adapter",
    "mmproj": "a vision projector",
    "imatrix": "an importance matrix",
}


def _of(subject: Subject, *keys: str) -> Iterator[Hit]:
    for each in subject.header_faults:
        if each.key in keys:
            yield Hit(each.message, each.key, subject.origin.line if subject.origin else None)


@rule(
    "DV601",
    "no-model",
    Severity.ERROR,
    what="A GGUF that is an adapter, a projector or an importance matrix, where a model should be",
    why="Ollama refuses an adapter, and makes of a projector alone a model that cannot chat.",
    source="measured on Ollama 0.34.4",
    fix="name the model; an adapter is merged into it by devstral-ollama merge",
)
def _no_model(subject: Subject) -> Iterator[Hit]:
    if subject.file_type != "model":
        what = _TYPES.get(subject.file_type, f"of the type {subject.file_type[:40]!r}")
        line = subject.origin.line if subject.origin else None
        yield Hit(f"the file is {what}, and no model", "general.type", line)


@rule(
    "DV602",
    "vocabulary",
    Severity.ERROR,
    what="A vocabulary that is not Devstral's",
    why="The templates write control tokens that it has not, or has as others.",
    source="mistral-common's tekken",
    fix="export the model again from Devstral's own tokenizer",
)
def _vocabulary(subject: Subject) -> Iterator[Hit]:
    for each in subject.header_faults:
        if not each.is_mended and each.key not in (BOS_ID, EOS_ID):
            line = subject.origin.line if subject.origin else None
            yield Hit(each.message, each.key, line)


@rule(
    "DV603",
    "pre-tokenizer",
    Severity.ERROR,
    what="`tokenizer.ggml.pre` other than `tekken`",
    why="Text is cut into other tokens than those of the training: answers get worse, and no "
    "prompt shows it.",
    source=_LLAMA_CPP,
    fix=_MENDED,
)
def _pre(subject: Subject) -> Iterator[Hit]:
    yield from _of(subject, PRE)


@rule(
    "DV604",
    "special-ids",
    Severity.ERROR,
    what="A token for the beginning, the end, or the end of a turn that is not Devstral's",
    why="Answers do not end, or end in the middle; a prompt begins with another token.",
    source=_LLAMA_CPP,
    fix=_MENDED,
)
def _ids(subject: Subject) -> Iterator[Hit]:
    ids = {each.key for each in subject.header_faults if each.key.endswith("_token_id")}
    yield from _of(subject, *ids)


@rule(
    "DV605",
    "add-bos",
    Severity.ERROR,
    what="`add_bos_token` false",
    why="A prompt begins without `<s>` wherever the template writes none, as the Go ones.",
    source="measured by token count on Ollama 0.34.4",
    fix=_MENDED,
)
def _add_bos(subject: Subject) -> Iterator[Hit]:
    yield from _of(subject, ADD_BOS)


@rule(
    "DV606",
    "add-eos",
    Severity.ERROR,
    what="`add_eos_token` true",
    why="Each prompt ends with `</s>`, as if the answer were over.",
    source="measured by token count on Ollama 0.34.4",
    fix=_MENDED,
)
def _add_eos(subject: Subject) -> Iterator[Hit]:
    yield from _of(subject, ADD_EOS)


@rule(
    "DV607",
    "another-format",
    Severity.WARNING,
    what="A GGUF with the chat template of another family, such as ChatML",
    why="Either the tune was trained on it, and Devstral's spoils it; or it was left there by "
    "mistake, and spoils it itself. Only its maker knows.",
    source="the marks of each family's template",
    fix="choose: create --keep-template, or --no-keep-template for Devstral's",
)
def _another_format(subject: Subject) -> Iterator[Hit]:
    template = subject.template
    if subject.kind is not Kind.GGUF or template is None:
        return
    if family := template_family(template.text):
        yield Hit(f"its chat template is that of {family}", "tokenizer.chat_template")
