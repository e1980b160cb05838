"""A miniature Devstral: true KV geometry and control tokens, scripted weights, a few megabytes.

It exists so that template, parser, context and KV cache type of a server can be proven before a
14 GiB download, and so that the tests need no real model. Its weights are written, not trained:

* a table "after this token comes that one" lies across the embedding and the output matrix: each
  rule owns one dimension of the residual stream;
* one attention head of the first layer lets the end of a user turn, ``[/INST]``, look for
  ``[AVAILABLE_TOOLS]`` anywhere before it, and so decides between a call and a plain answer.
  Its key and query stand in the pair of rotary dimensions that turns slowest (1.4e-9 rad a
  token), so that distance does not matter.

What follows a tool result is decided by ``[/TOOL_RESULTS]`` alone: the length and the shape of
the history before it have no say.

A speaker is a miniature that says exactly given texts, control tokens included; see
:func:`write_speaker`.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Final, Literal

from ollama_tools.devstral.vocabulary import CONTROL, SPECIAL_IDS, base_tokens, byte_symbols
from ollama_tools.files.gguf_writer import Kind, Tensor, Value, write_gguf

CallForm = Literal["v13", "v7"]

KV_HEADS: Final = 8
HEAD_DIM: Final = 128
CONTEXT: Final = 131072
ROPE_THETA: Final = 1e9

_HIDDEN: Final = 32
_FEED_FORWARD: Final = 32
_EOS: Final = 2
_INST_END: Final = 4
_AVAILABLE_TOOLS: Final = 5
_RESULTS_END: Final = 8
_TOOL_CALLS: Final = 9

# The last four dimensions of the residual stream; the ones before them belong to the table.
_TOOLS_DIM: Final = _HIDDEN - 4
_INST_DIM: Final = _HIDDEN - 3
_SEEN_DIM: Final = _HIDDEN - 2
_EVERY_DIM: Final = _HIDDEN - 1

# llama.cpp pairs neighbouring dimensions for this architecture: 126 and 127 turn slowest.
_SLOWEST_DIM: Final = HEAD_DIM - 2

_MOSTLY_F16: Final = 1
"""What llama.cpp calls this mixture of types (``llama_ftype``)."""


class _TokenType(IntEnum):
    """What a token is to llama.cpp (``llama_token_type``)."""

    NORMAL = 1
    CONTROL = 3
    USER_DEFINED = 4


@dataclass(frozen=True)
class Script:
    """What a miniature says.

    Attributes:
        tool: Name of the tool it calls when tools are offered.
        arguments: JSON of the call's arguments, written as the model is to write it.
        after_result: Its answer when the prompt ends with a tool result.
        plain: Its answer when no tools are offered.
        form: Layout of a call: ``v13`` writes ``name[ARGS]{...}``, ``v7`` a JSON list with an id.
        call_id: The id in a ``v7`` call; Mistral's tokenizer wants nine letters or digits.
        endless: Whether its plain answer is followed by itself, and never ends.
    """

    tool: str = "get_current_weather"
    arguments: str = '{"city": "Paris", "at": "noon"}'
    after_result: str = "It is sunny in Paris."
    plain: str = "Hello from the miniature."
    form: CallForm = "v13"
    call_id: str = "abcdEF123"
    endless: bool = False

    @property
    def call(self) -> tuple[str, ...]:
        """The tokens that follow ``[TOOL_CALLS]``, the end of the turn left out."""
        if self.form == "v13":
            return (self.tool, "[ARGS]", self.arguments)
        name = f'[{{"name": "{self.tool}", "arguments": {self.arguments}, '
        return (f'{name}"id": "{self.call_id}"}}]',)


@dataclass(frozen=True)
class _Shape:
    layers: int
    heads: int
    kv_heads: int
    hidden: int = _HIDDEN
    feed_forward: int = _FEED_FORWARD


@dataclass
class _Vocabulary:
    """Control tokens, the 256 bytes, then one token for each piece of text in the script."""

    tokens: list[str]
    ids: dict[str, int] = field(default_factory=dict)
    pieces: _TokenType = _TokenType.NORMAL

    @classmethod
    def of(cls, script: Script) -> _Vocabulary:
        symbols = byte_symbols()
        vocabulary = cls(base_tokens(), {name: i for i, name in CONTROL.items()})
        for piece in (*script.call, script.after_result, script.plain):
            if piece not in vocabulary.ids:
                vocabulary.ids[piece] = len(vocabulary.tokens)
                vocabulary.tokens.append("".join(symbols[b] for b in piece.encode()))
        return vocabulary

    @property
    def types(self) -> list[_TokenType]:
        """The type of each token."""
        base = [_TokenType.CONTROL] * SPECIAL_IDS + [_TokenType.NORMAL] * 256
        return base + [self.pieces] * (len(self.tokens) - len(base))


def write_miniature(
    path: Path,
    *,
    layers: int = 40,
    heads: int = 32,
    kv_heads: int = KV_HEADS,
    chat_template: str | None = None,
    architecture: str = "llama",
    name: str = "miniature Devstral",
    filler: int = 0,
    script: Script | None = None,
) -> None:
    """Writes a miniature Devstral as a GGUF file; equal arguments give equal bytes.

    As it stands the KV cache of one token takes ``layers`` x 2 x 8 heads x 128 elements,
    Devstral's own geometry. Attention is nearly all that a long prompt costs, in proportion to
    ``layers`` x ``heads``: where memory is not the question, one layer with one head will do.

    Args:
        path: File to write; one that exists is replaced.
        layers: Transformer blocks; Devstral Small has 40. The first one does all the work.
        heads: Query heads, a multiple of ``kv_heads``; Devstral Small has 32.
        kv_heads: Heads of keys and values; all of Devstral's have 8.
        chat_template: Jinja for ``tokenizer.chat_template``; None leaves the key out.
        architecture: Value of ``general.architecture`` and prefix of its keys.
        name: Value of ``general.name``; it also makes the digests of two miniatures differ.
        filler: Zero bytes to append behind the tensors, as a hole where the file system has them.
        script: What it says; None means the script of the smoke check.

    Raises:
        ValueError: For ``layers`` or ``kv_heads`` below 1, ``heads`` that are no multiple of
            ``kv_heads``, or ``filler`` below 0.
        OSError: When the file cannot be written.
    """
    if layers < 1 or kv_heads < 1 or heads < 1 or heads % kv_heads or filler < 0:
        raise ValueError(f"no such miniature: {layers=}, {heads=}, {kv_heads=}, {filler=}")
    shape = _Shape(layers, heads, kv_heads)
    script = script or Script()
    vocabulary = _Vocabulary.of(script)
    header = _header(architecture, vocabulary, shape, name, chat_template)
    attention = _tool_seeking_attention(shape)
    table = _table(vocabulary, script)
    write_gguf(path, header, _tensors(*table, attention, shape, _idle_units()), filler=filler)


def _header(
    architecture: str,
    vocabulary: _Vocabulary,
    shape: _Shape,
    name: str,
    chat_template: str | None,
) -> dict[str, Value]:
    header: dict[str, Value] = {
        "general.architecture": architecture,
        "general.name": name,
        f"{architecture}.context_length": CONTEXT,
        f"{architecture}.embedding_length": shape.hidden,
        f"{architecture}.block_count": shape.layers,
        f"{architecture}.feed_forward_length": shape.feed_forward,
        f"{architecture}.attention.head_count": shape.heads,
        f"{architecture}.attention.head_count_kv": shape.kv_heads,
        f"{architecture}.attention.key_length": HEAD_DIM,
        f"{architecture}.attention.value_length": HEAD_DIM,
        f"{architecture}.attention.layer_norm_rms_epsilon": 1e-5,
        f"{architecture}.rope.freq_base": ROPE_THETA,
        f"{architecture}.rope.dimension_count": HEAD_DIM,
        f"{architecture}.vocab_size": len(vocabulary.tokens),
        "general.file_type": _MOSTLY_F16,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "tekken",
        "tokenizer.ggml.tokens": vocabulary.tokens,
        "tokenizer.ggml.token_type": vocabulary.types,
        # llama.cpp refuses a vocabulary without merges; this one joins two letters to one token
        # that is not there, so it never applies.
        "tokenizer.ggml.merges": ["i t"],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": _EOS,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_eos_token": False,
    }
    if chat_template is not None:
        header["tokenizer.chat_template"] = chat_template
    return header


def _tensors(
    embedding: Tensor,
    output: Tensor,
    attention: Mapping[str, Tensor],
    shape: _Shape,
    feed_forward: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """All tensors; the parts given are the first block's, the blocks after it do nothing."""
    hidden = shape.hidden
    tensors: dict[str, Tensor] = {
        "token_embd.weight": embedding,
        "output.weight": output,
        "output_norm.weight": _ones(hidden),
    }
    parts = {**attention, **feed_forward}
    silent = {key: data.like() for key, data in parts.items()}
    norms = {"attn_norm": _ones(hidden), "ffn_norm": _ones(hidden)}
    for layer in range(shape.layers):
        block = norms | (parts if layer == 0 else silent)
        tensors |= {f"blk.{layer}.{key}.weight": data for key, data in block.items()}
    return tensors


def _ones(count: int) -> Tensor:
    found = Tensor(None, count, Kind.F32)
    found.fill(0, [1.0] * count)
    return found


def _table(vocabulary: _Vocabulary, script: Script) -> tuple[Tensor, Tensor]:
    """Embedding and output matrix, each of shape (tokens, hidden)."""
    ids = vocabulary.ids
    call = [_TOOL_CALLS, *(ids[piece] for piece in script.call), _EOS]
    answer = [_RESULTS_END, ids[script.after_result], _EOS]
    plain = [ids[script.plain], ids[script.plain] if script.endless else _EOS]
    rules = {rule for turn in (call, answer, plain) for rule in itertools.pairwise(turn)}
    embedding = Tensor(len(vocabulary.tokens), _HIDDEN, Kind.F32)
    output = embedding.like()
    for dim, (before, after) in enumerate(sorted(rules)):
        embedding[before, dim] = 1
        output[after, dim] = 40
    embedding[_AVAILABLE_TOOLS, _TOOLS_DIM] = 1
    embedding[_INST_END, _INST_DIM] = 1
    # Where tools were seen the head adds 4 x 5.7 to a dimension that outweighs the 1 of [/INST].
    output[ids[script.plain], _INST_DIM] = 10
    output[_TOOL_CALLS, _SEEN_DIM] = 10
    # A token of text has no rule: this share keeps its norm above zero and ends the turn.
    for token in range(len(vocabulary.tokens)):
        embedding[token, _EVERY_DIM] = 0.05
    output[_EOS, _EVERY_DIM] = 5
    return embedding, output


def _tool_seeking_attention(shape: _Shape) -> dict[str, Tensor]:
    query = Tensor(shape.heads * HEAD_DIM, _HIDDEN, Kind.F16)
    key = Tensor(shape.kv_heads * HEAD_DIM, _HIDDEN, Kind.F16)
    value = key.like()
    out = Tensor(_HIDDEN, shape.heads * HEAD_DIM, Kind.F16)
    query[_SLOWEST_DIM, _INST_DIM] = 8
    key[_SLOWEST_DIM, _TOOLS_DIM] = 8
    value[0, _TOOLS_DIM] = 1
    out[_SEEN_DIM, 0] = 4
    return {"attn_q": query, "attn_k": key, "attn_v": value, "attn_output": out}


def _idle_units() -> dict[str, Tensor]:
    return {
        "ffn_gate": Tensor(_FEED_FORWARD, _HIDDEN, Kind.F16),
        "ffn_up": Tensor(_FEED_FORWARD, _HIDDEN, Kind.F16),
        "ffn_down": Tensor(_HIDDEN, _FEED_FORWARD, Kind.F16),
    }


# A miniature that says given texts

Output = str | Sequence[str]
"""What a speaker says: a text that holds control tokens as they are written, or its pieces.

Each piece is one token. A text is cut at its control tokens and nowhere else; a piece that only
contains the name of a control token says it as plain text, as a real tokenizer does inside a file.
"""

_CONTROL_NAMES: Final = re.compile(
    "(" + "|".join(re.escape(name) for name in CONTROL.values()) + ")"
)
# Logit of the right token, in units of the residual stream; even at temperature 1 no other is
# ever drawn.
_RIGHT: Final = 60.0
# Where a grammar forbids what a speaker would say, it closes what is open, and ends; of what is
# left it takes the first byte, so that it does the same on every machine.
_OFF_SCRIPT: Final[Mapping[int, float]] = {
    _EOS: 5.0,
    SPECIAL_IDS + ord('"'): 3.0,
    SPECIAL_IDS + ord("}"): 2.0,
    SPECIAL_IDS + ord("]"): 1.5,
    SPECIAL_IDS + ord("0"): 1.0,
}
# Pairs of rotary dimensions by which a head finds the token before the present one. The fastest
# tell neighbours apart, the others keep far tokens away.
_NEAR_PAIRS: Final = 32
_NEAR_SCALE: Final = 16.0
# How steeply a unit of the feed-forward network opens between one sign too few and all of them.
_GATE: Final = 20.0
# The squared length of the stream behind the heads is 4 to 6, by the signs they brought.
_STREAM: Final = 5.0


@dataclass(frozen=True)
class _Step:
    cue: int | None
    before: int | None
    present: int
    after: int


@dataclass
class _Speech:
    """The steps of all that a speaker says.

    Where a token is always followed by the same one, it decides alone. Where it is not, the step
    is open: a unit of the feed-forward network waits for all of its signs, which are the present
    token, the one before it and the cue.
    """

    vocabulary: _Vocabulary
    cues: list[int]
    steps: list[_Step]

    def __post_init__(self) -> None:
        following: dict[int, set[int]] = {}
        for step in self.steps:
            following.setdefault(step.present, set()).add(step.after)
        self.alone = sorted({e for e in self.steps if len(following[e.present]) == 1}, key=_order)
        self.open = sorted({e for e in self.steps if len(following[e.present]) > 1}, key=_order)
        self.befores = sorted({each.before for each in self.open if each.before is not None})
        self.presents = sorted({*following, *self.cues})
        decided: dict[tuple[int | None, int | None, int], int] = {}
        for step in self.open:
            signs = (step.cue, step.before, step.present)
            if decided.setdefault(signs, step.after) != step.after:
                piece = self.vocabulary.tokens[step.present][:40]
                raise ValueError(f"nothing tells which piece follows {piece!r}")

    @classmethod
    def of(cls, outputs: Mapping[str | None, Output], after_result: str) -> _Speech:
        vocabulary = _Vocabulary(
            base_tokens(),
            {name: i for i, name in CONTROL.items()},
            # So that the same text in a later prompt is the same token, as with a real tokenizer.
            pieces=_TokenType.USER_DEFINED,
        )
        known = set(vocabulary.tokens)

        def identify(piece: str) -> int:
            if piece not in vocabulary.ids:
                if len(piece) == 1 and piece in known and piece.isascii():
                    return SPECIAL_IDS + ord(piece)
                if not piece or piece in known:
                    raise ValueError(f"a speaker has no token for the piece {piece!r}")
                vocabulary.ids[piece] = len(vocabulary.tokens)
                vocabulary.tokens.append(piece)
            return vocabulary.ids[piece]

        cues = [identify(cue) for cue in outputs if cue is not None]
        steps: list[_Step] = []
        for number, output in enumerate(outputs.values()):
            said = [identify(piece) for piece in _pieces(output)]
            steps += _steps(number if cues else None, [_INST_END, *said, _EOS])
        answer = [identify(piece) for piece in _pieces(after_result)]
        steps += _steps(None, [_RESULTS_END, *answer, _EOS])
        return cls(vocabulary, cues, steps)

    @property
    def hidden(self) -> int:
        """Width of the residual stream, a multiple of 32."""
        used = len(self.presents) + len(self.befores) + len(self.cues) + len(self.open) + 3
        return -(-used // 32) * 32

    @property
    def units(self) -> int:
        """Width of the feed-forward network, a multiple of 32."""
        return max(32, -(-len(self.open) // 32) * 32)

    @property
    def every_dim(self) -> int:
        return self.hidden - 3

    @property
    def cue_dim(self) -> int:
        return self.hidden - 2

    @property
    def norm_dim(self) -> int:
        return self.hidden - 1

    def present_dims(self) -> dict[int, int]:
        return {token: dim for dim, token in enumerate(self.presents)}

    def before_dims(self) -> dict[int, int]:
        start = len(self.presents)
        return {token: start + i for i, token in enumerate(self.befores)}

    def seen_dim(self, cue: int) -> int:
        return len(self.presents) + len(self.befores) + cue

    def open_dim(self, number: int) -> int:
        return len(self.presents) + len(self.befores) + len(self.cues) + number


def _order(step: _Step) -> tuple[int, int, int, int]:
    nothing = -1
    return (
        step.present,
        nothing if step.before is None else step.before,
        nothing if step.cue is None else step.cue,
        step.after,
    )


def _pieces(output: Output) -> list[str]:
    if isinstance(output, str):
        return [piece for piece in _CONTROL_NAMES.split(output) if piece]
    return list(output)


def _steps(cue: int | None, tokens: Sequence[int]) -> Iterator[_Step]:
    for i, (present, after) in enumerate(itertools.pairwise(tokens)):
        yield _Step(cue, tokens[i - 1] if i else None, present, after)


def write_speaker(
    path: Path,
    output: Output | Mapping[str, Output],
    *,
    after_result: str = "It is done.",
    chat_template: str | None = None,
    architecture: str = "llama",
    name: str = "miniature speaker",
) -> None:
    """Writes a miniature that answers a user with exactly the given pieces, and ends.

    Control tokens of the output are the real ones, however often they occur. What follows the
    second ``[TOOL_CALLS]`` of an answer is told by the token before it, which a head of its own
    brings: its keys are all alike, and the rotary embedding alone makes the nearest stand out.
    With several outputs, another head brings the cue that stands in the prompt.

    Equal arguments give equal bytes. There is one block, with as many heads as the output needs:
    one, two where a control token occurs twice or there are cues.

    Args:
        path: File to write; one that exists is replaced.
        output: What it says, or by cue: a text of which one has to stand in the prompt, once.
            A cue is a token of its own wherever its text occurs.
        after_result: Its answer when the prompt ends with a tool result.
        chat_template: Jinja for ``tokenizer.chat_template``; None leaves the key out.
        architecture: Value of ``general.architecture`` and prefix of its keys.
        name: Value of ``general.name``.

    Raises:
        ValueError: For an output that neither present token, nor the one before it, nor the cue
            tells how to go on with; cut it into other pieces.
        OSError: When the file cannot be written.
    """
    outputs: dict[str | None, Output] = {}
    if isinstance(output, Mapping):
        outputs.update(output)
    else:
        outputs[None] = output
    speech = _Speech.of(outputs, after_result)
    attention, heads = _speech_attention(speech)
    shape = _Shape(1, heads, heads, speech.hidden, speech.units)
    header = _header(architecture, speech.vocabulary, shape, name, chat_template)
    tensors = _tensors(*_speech_table(speech), attention, shape, _speech_units(speech))
    write_gguf(path, header, tensors)


def _speech_table(
    speech: _Speech,
) -> tuple[Tensor, Tensor]:
    """Embedding and output matrix, each of shape (tokens, hidden)."""
    present = speech.present_dims()
    tokens = len(speech.vocabulary.tokens)
    embedding = Tensor(tokens, speech.hidden, Kind.F32)
    output = embedding.like()
    for token in range(tokens):
        signs = [speech.every_dim]
        if token in speech.cues:
            signs.append(speech.cue_dim)
        if token in present:
            signs.append(present[token])
        for dim in signs:
            embedding[token, dim] = 1
        # All of one length, so that the normalisation scales all of them alike.
        embedding[token, speech.norm_dim] = math.sqrt(4 - len(signs))
    step = -0.5 / (tokens - SPECIAL_IDS - 1)
    for number in range(tokens - SPECIAL_IDS - 1):
        output[SPECIAL_IDS + number, speech.every_dim] = number * step + 0.5
    for token, weight in _OFF_SCRIPT.items():
        output[token, speech.every_dim] = weight
    for each in speech.alone:
        output[each.after, present[each.present]] = _RIGHT
    for number, each in enumerate(speech.open):
        output[each.after, speech.open_dim(number)] = _RIGHT
    return embedding, output


def _speech_units(speech: _Speech) -> dict[str, Tensor]:
    """The feed-forward network: a unit for each open step."""
    present, before = speech.present_dims(), speech.before_dims()
    gate = Tensor(speech.units, speech.hidden, Kind.F16)
    up = gate.like()
    down = Tensor(speech.hidden, speech.units, Kind.F16)
    for number, step in enumerate(speech.open):
        signs = [present[step.present]]
        if step.before is not None:
            signs.append(before[step.before])
        if step.cue is not None:
            signs.append(speech.seen_dim(step.cue))
        for dim in signs:
            gate[number, dim] = _GATE
        gate[number, speech.every_dim] = -_GATE * (len(signs) - 0.5)
        # An open unit adds about 1 to the stream: half a gate, times this, scaled twice.
        up[number, speech.every_dim] = 2 / _GATE * _STREAM / speech.hidden
        down[speech.open_dim(number), number] = 1
    return {"ffn_gate": gate, "ffn_up": up, "ffn_down": down}


def _speech_attention(speech: _Speech) -> tuple[dict[str, Tensor], int]:
    """The tensors of the block's attention, and how many heads it has."""
    width = HEAD_DIM
    groups = [speech.befores[i : i + width] for i in range(0, len(speech.befores), width)]
    cues = [range(i, min(i + width, len(speech.cues))) for i in range(0, len(speech.cues), width)]
    heads = max(1, len(groups) + len(cues))
    query = Tensor(heads * width, speech.hidden, Kind.F16)
    key = query.like()
    value = query.like()
    out = Tensor(speech.hidden, heads * width, Kind.F16)
    # Every token's embedding has the length 2, so this is what the normalisation makes of a 1.
    one = math.sqrt(speech.hidden) / 2
    present, before = speech.present_dims(), speech.before_dims()
    for head, group in enumerate(groups):
        for pair in range(_NEAR_PAIRS):
            turn = ROPE_THETA ** (-2 * pair / width)
            row = head * width + 2 * pair
            key[row, speech.every_dim] = _NEAR_SCALE / one
            # The query is turned back by one position: it meets the token before it head-on.
            query[row, speech.every_dim] = _NEAR_SCALE / one * math.cos(turn)
            query[row + 1, speech.every_dim] = -_NEAR_SCALE / one * math.sin(turn)
        for i, token in enumerate(group):
            value[head * width + i, present[token]] = 1 / one
            out[before[token], head * width + i] = 1
    for head, numbers in enumerate(cues, start=len(groups)):
        query[head * width + _SLOWEST_DIM, speech.every_dim] = _NEAR_SCALE / one
        key[head * width + _SLOWEST_DIM, speech.cue_dim] = _NEAR_SCALE / one
        for i, number in enumerate(numbers):
            value[head * width + i, present[speech.cues[number]]] = 1 / one
            out[speech.seen_dim(number), head * width + i] = 1
    return {"attn_q": query, "attn_k": key, "attn_v": value, "attn_output": out}, heads
