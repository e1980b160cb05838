"""What a Devstral's GGUF has to say of itself, and what becomes of one that says otherwise.

A tune comes with whatever its exporter wrote. The vocabulary decides: where it is Devstral's, there
is one right value for each of the keys beside it, and that can be written on the file's way. Where
it is another, nothing can.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ollama_tools.devstral.carriers import is_earlier_jinja
from ollama_tools.devstral.catalog import Catalog, Release, TokenizerVersion
from ollama_tools.devstral.reference import guess_release
from ollama_tools.devstral.vocabulary import CONTROL, VOCABULARY
from ollama_tools.errors import FileProblem, UsageError
from ollama_tools.files.gguf import GgufHeader, Value
from ollama_tools.files.gguf_rewrite import Rewriting, Setting

BOS_ID, EOS_ID = "tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id"
ADD_BOS, ADD_EOS = "tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_eos_token"
PRE = "tokenizer.ggml.pre"
_MODEL = "tokenizer.ggml.model"
_TOKENS = "tokenizer.ggml.tokens"

_ADD_EOS = Setting(ADD_EOS, value=False, always=False)
_PRE = Setting(PRE, "tekken")
SETTINGS: Final = (
    Setting(BOS_ID, 1),
    Setting(EOS_ID, 2),
    # With tekken, llama.cpp adds BOS and no EOS where nothing is said.
    Setting(ADD_BOS, value=True, always=False),
    _ADD_EOS,
    _PRE,
    Setting("tokenizer.ggml.eot_token_id", 2, always=False),
    Setting("tokenizer.ggml.eom_token_id", 2, always=False),
)
"""What a header says beside Devstral's vocabulary and template."""

KEPT_SETTINGS: Final = (
    Setting(BOS_ID, 1, instead=False),
    Setting(EOS_ID, 2, instead=False),
    _ADD_EOS,
    _PRE,
)
"""The same beside a template of the file's own, which may end its turns by another token."""

_WHY: Final[Mapping[str, str]] = {
    BOS_ID: "a prompt would begin with another token than <s>",
    EOS_ID: "an answer would not end where the model ends it",
    ADD_BOS: "a prompt would begin without <s>",
    ADD_EOS: "each prompt would end with </s>, as if the answer were over",
    PRE: "text would be cut into other tokens than those of the training",
}

# Of the control tokens those that the templates write; tunes rename others.
_WRITTEN: Final[Mapping[TokenizerVersion, tuple[int, ...]]] = {
    TokenizerVersion.V7: (*range(1, 10), 17, 18, 19),
    TokenizerVersion.V13: (*range(1, 10), 17, 18, 32),
}
_ARGS: Final = 32

# What an exporter writes of a model's descent, the nearest first.
_LABELS: Final = (
    "general.name",
    "general.basename",
    "general.base_model.0.name",
    "general.base_model.0.repo_url",
    "general.source.repo_url",
    "general.source.url",
)
BY_NAME: Final = "its name"
_LLAMA_2: Final = "<<SYS>>"
_FAMILIES: Final[Mapping[str, str]] = {
    "<|im_start|>": "ChatML",
    "<|start_header_id|>": "Llama 3",
    "<|header_start|>": "Llama 4",
    _LLAMA_2: "Llama 2",
    "<start_of_turn>": "Gemma",
    "<|start_of_role|>": "Granite",
    "<|START_OF_TURN_TOKEN|>": "Command R",
    "<|channel|>": "gpt-oss",
    "<|user|>": "Zephyr and Phi",
    "<｜User｜>": "DeepSeek",  # noqa: RUF001 - so it is written
    "### Instruction": "Alpaca",
}
"""What tells a family's template, as it stands in its text."""


@dataclass(frozen=True, slots=True)
class HeaderFault:
    """Something that a header says otherwise than a Devstral's does.

    Attributes:
        key: The key.
        found: What it says.
        wanted: What it should say.
        why: What goes wrong with it.
        is_mended: Whether the right value can be written in its place.
    """

    key: str
    found: str
    wanted: str
    why: str
    is_mended: bool = True

    @property
    def change(self) -> str:
        """What is made of it, in a few words."""
        return f"{self.key.rpartition('.')[2]} {self.found} → {self.wanted}"

    @property
    def override(self) -> str:
        """What makes llama.cpp read it as it should be: ``KEY=TYPE:VALUE``."""
        kind = "bool" if self.wanted in ("true", "false") else "str"
        return f"{self.key}={'int' if self.wanted.isdigit() else kind}:{self.wanted}"

    @property
    def message(self) -> str:
        """What is wrong, in one line."""
        return f"{self.key} is {self.found}, not {self.wanted}: {self.why}"


def header_faults(
    values: Mapping[str, Value],
    tokenizer: TokenizerVersion,
    *,
    first_tokens: Sequence[str] = (),
    vocabulary: int | None = None,
    least: int = 0,
    keeps_template: bool = False,
) -> list[HeaderFault]:
    """What a header says otherwise than a Devstral's; what cannot be mended comes first.

    Args:
        values: Its scalars and texts by key.
        tokenizer: The tokenizer version that it is held to.
        first_tokens: The beginning of its vocabulary; empty where that is not known.
        vocabulary: How many tokens it has; None where that is not known.
        least: How many it must have.
        keeps_template: Whether its own template is meant, which says what ends a turn.
    """
    found: list[HeaderFault] = []
    if not any(key.startswith("tokenizer.") for key in values):
        # Not every server tells it.
        return found
    if (kind := values.get(_MODEL)) not in (None, "gpt2"):
        why = "it is another tokenizer's vocabulary"
        found.append(HeaderFault(_MODEL, str(kind), "gpt2", why, is_mended=False))
    if vocabulary is not None and vocabulary < least:
        why = "tokens of Devstral's are not there"
        found.append(HeaderFault(_TOKENS, f"{vocabulary}", f"{least}", why, is_mended=False))
    if not keeps_template:
        found += _wrong_tokens(first_tokens, tokenizer)
    else:
        found += _ends_nothing(values, first_tokens, vocabulary)
    for setting in KEPT_SETTINGS if keeps_template else SETTINGS:
        said = values.get(setting.key)
        if not (setting.always if said is None else setting.instead):
            continue
        if said != setting.value or isinstance(said, bool) != isinstance(setting.value, bool):
            why = _WHY.get(setting.key, _WHY[EOS_ID])
            found.append(HeaderFault(setting.key, _said(said), _said(setting.value), why))
    return found


def _said(value: Value | None) -> str:
    match value:
        case None:
            return "absent"
        case bool():
            return str(value).lower()
    return str(value)[:40]


def _wrong_tokens(tokens: Sequence[str], tokenizer: TokenizerVersion) -> list[HeaderFault]:
    """The first control token that is another, since a family's are all others."""
    for number in _WRITTEN[tokenizer] if tokens else ():
        token = tokens[number] if number < len(tokens) else "not there"
        if token != CONTROL[number]:
            why = f"the templates of {tokenizer.value} write it"
            key = f"{_TOKENS}[{number}]"
            return [HeaderFault(key, repr(token[:40]), repr(CONTROL[number]), why, is_mended=False)]
    return []


def _ends_nothing(
    values: Mapping[str, Value], tokens: Sequence[str], vocabulary: int | None
) -> list[HeaderFault]:
    """Ids beside a template of the file's own: which one is right only its maker knows.

    That a token of the vocabulary's end ends a turn is possible, that ``[TOOL_CALLS]`` does is not.
    """
    found = []
    for key, right in ((BOS_ID, 1), (EOS_ID, 2)):
        value = values.get(key)
        if not isinstance(value, int) or value == right:
            continue
        if vocabulary is not None and value >= vocabulary:
            fault = HeaderFault(key, str(value), f"below {vocabulary}", _WHY[key], is_mended=False)
            found.append(fault)
        elif value in CONTROL and tokens[value : value + 1] in ((), (CONTROL[value],)):
            words = f"{value}, the token {CONTROL[value]}"
            found.append(HeaderFault(key, words, str(right), _WHY[key], is_mended=False))
    return found


def faults_of(
    header: GgufHeader, release: Release, *, keeps_template: bool = False
) -> list[HeaderFault]:
    """What a file's header says otherwise than a Devstral's; see :func:`header_faults`."""
    if header.complete and header.vocabulary is None:
        why = "no text can be cut into tokens"
        return [HeaderFault(_TOKENS, "absent", "Devstral's", why, is_mended=False)]
    # A miniature has fewer tokens, and says so by its width.
    is_true_to_size = header.value("embedding_length") == release.architecture.embedding
    return header_faults(
        header.metadata,
        release.tokenizer,
        first_tokens=header.first_tokens,
        vocabulary=header.vocabulary,
        least=VOCABULARY if is_true_to_size else 0,
        keeps_template=keeps_template,
    )


def require_mendable(label: str, faults: Sequence[HeaderFault]) -> None:
    """Refuse a header with something in it that no other value could put right.

    Raises:
        UsageError: There is such.
    """
    if lost := [each for each in faults if not each.is_mended]:
        fix = (
            "put Devstral's template and tokens in place by --no-keep-template, or export it again"
            if lost[0].key in (BOS_ID, EOS_ID)
            else "its vocabulary is none of Devstral's, and nothing on the way can mend that: "
            "export it again from Devstral's own tokenizer, or use it without this package"
        )
        raise UsageError(f"{label}: {lost[0].message}", fix)


def require_sound(label: str, faults: Sequence[HeaderFault], fix: str) -> None:
    """Refuse a header with any fault, where nothing is written into it on its way.

    Raises:
        UsageError: It has one.
    """
    if faults:
        raise UsageError(f"{label}: {faults[0].message}; nothing mends it on this way", fix)


def require_model(header: GgufHeader) -> None:
    """Refuse a GGUF that is something else than a model, by its own word.

    Raises:
        FileProblem: It is an adapter, a projector or an importance matrix.
    """
    path = header.label
    match header.type:
        case "model":
            return
        case "adapter":
            raise FileProblem(
                f"{path} is a LoRA adapter, and no model; Ollama takes none since 0.34.1",
                f"merge it: devstral-ollama merge BASE --adapter {path}, "
                "then create what comes out",
            )
        case "mmproj":
            raise FileProblem(
                f"{path} is a projector, with which a model sees images, and no model",
                f"name the model's own file; this one goes with it by --projector {path}",
            )
        case "imatrix":
            raise FileProblem(
                f"{path} is an importance matrix for quantizing, and no model",
                "name the model that was quantized with it",
            )
        case other:
            raise FileProblem(f"{path} is of the type {other[:40]!r}, and no model", "name a model")


@dataclass(frozen=True, slots=True)
class Told:
    """Which Devstral a file is, and what tells it.

    Attributes:
        release: The release.
        by: What tells it, in a few words.
    """

    release: Release
    by: str


def told_release(header: GgufHeader, path: Path, catalog: Catalog) -> Told | None:
    """Which Devstral a file is: by its own words, else its name, else its shape and vocabulary.

    Args:
        header: Its header.
        path: Where it lies.
        catalog: The known releases.

    Returns:
        None where nothing tells.
    """
    by_name = guess_release(str(path), catalog)
    for key in _LABELS:
        text = header.metadata.get(key)
        if isinstance(text, str) and (release := guess_release(text, catalog)):
            # What the name says as well is no news to who has written it.
            by = BY_NAME if release is by_name else f"{key} {text[:80]!r}"
            return Told(release, by)
    if by_name:
        return Told(by_name, BY_NAME)
    alike = [each for each in catalog.releases if _has_shape(header, each)]
    # 2505 and 2507 have one shape; only the later one has a token before a call's arguments.
    is_later = header.first_tokens[_ARGS : _ARGS + 1] == (CONTROL[_ARGS],)
    wanted = TokenizerVersion.V13 if is_later else TokenizerVersion.V7
    alike = [each for each in alike if each.tokenizer is wanted] if len(alike) > 1 else alike
    if len(alike) != 1 or header.first_tokens[: _ARGS // 8] != tuple(
        CONTROL[each] for each in range(_ARGS // 8)
    ):
        return None
    return Told(alike[0], "its shape and vocabulary")


def _has_shape(header: GgufHeader, release: Release) -> bool:
    shape = release.architecture
    return header.architecture == shape.name and [
        header.value("block_count"),
        header.value("embedding_length"),
        header.value("feed_forward_length"),
    ] == [shape.layers, shape.embedding, shape.feed_forward]


def template_family(template: str) -> str | None:
    """The other family whose chat template a text is; None where nothing says so."""
    marks = [mark for mark in _FAMILIES if mark in template]
    if "[INST]" in template and _LLAMA_2 not in marks:
        # What else stands there is somebody's default prompt.
        return None
    return _FAMILIES[marks[0]] if marks else None


def require_answer(label: str, template: str | None, keep: bool | None) -> None:
    """Ask a person what becomes of another family's template, which the tune may have learned.

    Args:
        label: What the file or model is called.
        template: Its own template; None where it has none.
        keep: What the person said.

    Raises:
        UsageError: They said nothing, and it is another family's.
    """
    if keep and not template:
        raise UsageError(
            f"{label} has no chat template that could be kept",
            "leave out --keep-template: Devstral's is put into it",
        )
    family = template_family(template or "")
    if keep is None and family is not None:
        raise UsageError(
            f"{label} has the chat template of {family} in it, and may have been trained on that",
            "keep it by --keep-template, or put Devstral's in its place by --no-keep-template",
        )


def require_architecture(label: str, architecture: str, release: Release) -> None:
    """Refuse weights of another architecture than a release's.

    Raises:
        UsageError: They are of another.
    """
    wanted = release.architecture.name
    if architecture != wanted:
        raise UsageError(
            f"{label} has the architecture {architecture!r}; {release.name} has {wanted!r}",
            "it is no Devstral of that release: choose another file, or name its --release",
        )


def require_fit(
    header: GgufHeader, release: Release, *, keep_template: bool | None
) -> list[HeaderFault]:
    """Refuse a file that no rewriting of its header makes a release's.

    Args:
        header: Its header.
        release: The release.
        keep_template: What a person said of its own template.

    Returns:
        What is mended in it on its way.

    Raises:
        UsageError: It is no model, of another architecture or vocabulary, or has a template about
            which the person has to say something.
    """
    require_model(header)
    require_architecture(header.label, header.architecture, release)
    require_answer(header.label, header.chat_template, keep_template)
    faults = faults_of(header, release, keeps_template=bool(keep_template))
    require_mendable(header.label, faults)
    return faults


def sent_how(
    header: GgufHeader,
    jinja: str | None,
    faults: Sequence[HeaderFault],
    *,
    keeps_template: bool = False,
) -> str:
    """What is put into a file's header on its way, in words.

    Args:
        header: Its header.
        jinja: The chat template that is put into it; None where it stays as it is.
        faults: What is mended in it.
        keeps_template: Whether its own template is meant.
    """
    own = header.chat_template
    words = "with its own template" if keeps_template else ""
    if jinja is not None:
        words = "with our template in its header"
        if own is not None and own.rstrip("\n") != jinja and not is_earlier_jinja(own):
            family = template_family(own)
            words += f", in place of that of {family}" if family else ", in place of its own"
    if faults:
        changes = ", ".join(each.change for each in faults)
        return f"{words}, mended: {changes}" if words else f"as it is, but mended: {changes}"
    return words or "as it is"


def rewriting(jinja: str | None, *, keeps_template: bool = False) -> Rewriting:
    """What is put into a Devstral's file on its way.

    Args:
        jinja: The chat template; None for the file's own.
        keeps_template: Whether that own one is meant, and not another carrier's.
    """
    return Rewriting(jinja, KEPT_SETTINGS if keeps_template else SETTINGS)
