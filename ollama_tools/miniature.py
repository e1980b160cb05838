"""A miniature Devstral: true KV geometry and control tokens, scripted weights, a few megabytes.

It exists so that template, parser, context and KV cache type of a server can be proven before a
14 GB download, and so that the tests need no real model. Its weights are written, not trained:

* a table "after this token comes that one" lies across the embedding and the output matrix: each
  rule owns one dimension of the residual stream;
* one attention head of the first layer lets the end of a user turn, ``[/INST]``, look for
  ``[AVAILABLE_TOOLS]`` anywhere before it, and so decides between a call and a plain answer.
  Its key and query stand in the pair of rotary dimensions that turns slowest (1.4e-9 rad a
  token), so that distance does not matter.

What follows a tool result is decided by ``[/TOOL_RESULTS]`` alone: the length and the shape of
the history before it have no say.

Needs numpy and gguf (``pip install 'devstral-ollama[miniature]'``).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import gguf
import numpy as np
import numpy.typing as npt

CallForm = Literal["v13", "v7"]

KV_HEADS: Final = 8
HEAD_DIM: Final = 128
CONTEXT: Final = 131072
ROPE_THETA: Final = 1e9

_HIDDEN: Final = 32
_FEED_FORWARD: Final = 32
_SPECIAL_IDS: Final = 1000

# Ids of the tekken vocabulary's control tokens, as mistral-common numbers them.
_CONTROL: Final[Mapping[int, str]] = {
    0: "<unk>",
    1: "<s>",
    2: "</s>",
    3: "[INST]",
    4: "[/INST]",
    5: "[AVAILABLE_TOOLS]",
    6: "[/AVAILABLE_TOOLS]",
    7: "[TOOL_RESULTS]",
    8: "[/TOOL_RESULTS]",
    9: "[TOOL_CALLS]",
    10: "[IMG]",
    11: "<pad>",
    12: "[IMG_BREAK]",
    13: "[IMG_END]",
    14: "[PREFIX]",
    15: "[MIDDLE]",
    16: "[SUFFIX]",
    17: "[SYSTEM_PROMPT]",
    18: "[/SYSTEM_PROMPT]",
    19: "[TOOL_CONTENT]",
    32: "[ARGS]",
    33: "[CALL_ID]",
}
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

_Array = npt.NDArray[np.float16] | npt.NDArray[np.float32]


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
    """

    tool: str = "get_current_weather"
    arguments: str = '{"city": "Paris", "at": "noon"}'
    after_result: str = "It is sunny in Paris."
    plain: str = "Hello from the miniature."
    form: CallForm = "v13"
    call_id: str = "abcdEF123"

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


@dataclass
class _Vocabulary:
    """Control tokens, the 256 bytes, then one token for each piece of text in the script."""

    tokens: list[str]
    ids: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, script: Script) -> _Vocabulary:
        symbols = _byte_symbols()
        special = [_CONTROL.get(i, f"<SPECIAL_{i}>") for i in range(_SPECIAL_IDS)]
        vocabulary = cls(special + symbols, {name: i for i, name in _CONTROL.items()})
        for piece in (*script.call, script.after_result, script.plain):
            if piece not in vocabulary.ids:
                vocabulary.ids[piece] = len(vocabulary.tokens)
                vocabulary.tokens.append("".join(symbols[b] for b in piece.encode()))
        return vocabulary


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
    writer = gguf.GGUFWriter(path, architecture)
    _add_header(writer, vocabulary, shape, name)
    if chat_template is not None:
        writer.add_chat_template(chat_template)
    for tensor, data in _tensors(vocabulary, script, shape).items():
        writer.add_tensor(tensor, data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    if filler:
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size + filler)


def _add_header(writer: gguf.GGUFWriter, vocabulary: _Vocabulary, shape: _Shape, name: str) -> None:
    writer.add_name(name)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(_HIDDEN)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(_FEED_FORWARD)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(HEAD_DIM)
    writer.add_value_length(HEAD_DIM)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(ROPE_THETA)
    writer.add_rope_dimension_count(HEAD_DIM)
    writer.add_vocab_size(len(vocabulary.tokens))
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("tekken")
    writer.add_token_list(vocabulary.tokens)
    normal = len(vocabulary.tokens) - _SPECIAL_IDS
    writer.add_token_types(
        [gguf.TokenType.CONTROL] * _SPECIAL_IDS + [gguf.TokenType.NORMAL] * normal
    )
    # llama.cpp refuses a vocabulary without merges; this one joins two letters to one token
    # that is not there, so it never applies.
    writer.add_token_merges(["i t"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(_EOS)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)


def _tensors(vocabulary: _Vocabulary, script: Script, shape: _Shape) -> dict[str, _Array]:
    embedding, output = _table(vocabulary, script)
    tensors: dict[str, _Array] = {
        "token_embd.weight": embedding,
        "output.weight": output,
        "output_norm.weight": np.ones(_HIDDEN, np.float32),
    }
    attention: dict[str, _Array] = _tool_seeking_attention(shape)
    silent: dict[str, _Array] = {key: np.zeros_like(data) for key, data in attention.items()}
    feed_forward: dict[str, _Array] = {
        "ffn_gate": np.zeros((_FEED_FORWARD, _HIDDEN), np.float16),
        "ffn_up": np.zeros((_FEED_FORWARD, _HIDDEN), np.float16),
        "ffn_down": np.zeros((_HIDDEN, _FEED_FORWARD), np.float16),
    }
    norms: dict[str, _Array] = {
        "attn_norm": np.ones(_HIDDEN, np.float32),
        "ffn_norm": np.ones(_HIDDEN, np.float32),
    }
    for layer in range(shape.layers):
        block = norms | (attention if layer == 0 else silent) | feed_forward
        tensors |= {f"blk.{layer}.{key}.weight": data for key, data in block.items()}
    return tensors


def _table(
    vocabulary: _Vocabulary, script: Script
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Embedding and output matrix, each of shape (tokens, hidden)."""
    ids = vocabulary.ids
    call = [_TOOL_CALLS, *(ids[piece] for piece in script.call), _EOS]
    answer = [_RESULTS_END, ids[script.after_result], _EOS]
    plain = [ids[script.plain], _EOS]
    rules = {rule for turn in (call, answer, plain) for rule in itertools.pairwise(turn)}
    embedding = np.zeros((len(vocabulary.tokens), _HIDDEN), np.float32)
    output = np.zeros_like(embedding)
    for dim, (before, after) in enumerate(sorted(rules)):
        embedding[before, dim] = 1
        output[after, dim] = 40
    embedding[_AVAILABLE_TOOLS, _TOOLS_DIM] = 1
    embedding[_INST_END, _INST_DIM] = 1
    # Where tools were seen the head adds 4 x 5.7 to a dimension that outweighs the 1 of [/INST].
    output[ids[script.plain], _INST_DIM] = 10
    output[_TOOL_CALLS, _SEEN_DIM] = 10
    # A token of text has no rule: this share keeps its norm above zero and ends the turn.
    embedding[:, _EVERY_DIM] = 0.05
    output[_EOS, _EVERY_DIM] = 5
    return embedding, output


def _tool_seeking_attention(shape: _Shape) -> dict[str, _Array]:
    query = np.zeros((shape.heads * HEAD_DIM, _HIDDEN), np.float16)
    key = np.zeros((shape.kv_heads * HEAD_DIM, _HIDDEN), np.float16)
    value = np.zeros_like(key)
    out = np.zeros((_HIDDEN, shape.heads * HEAD_DIM), np.float16)
    query[_SLOWEST_DIM, _INST_DIM] = 8
    key[_SLOWEST_DIM, _TOOLS_DIM] = 8
    value[0, _TOOLS_DIM] = 1
    out[_SEEN_DIM, 0] = 4
    return {"attn_q": query, "attn_k": key, "attn_v": value, "attn_output": out}


def _byte_symbols() -> list[str]:
    """GPT-2's printable stand-in for each byte: bytes that do not print move up from U+0100."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    spare = iter(range(0x100, 0x200))
    return [chr(byte) if byte in printable else chr(next(spare)) for byte in range(256)]
