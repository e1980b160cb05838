"""What a GGUF file says about itself, read from its header alone.

The layout is that of ggml's `docs/gguf.md`: magic, version, two counts, then pairs of key and
value. The vocabulary makes up nearly all of a header's 8 MiB and is skipped unread, which takes
0.05 s. Every length in a file is taken for a lie until the file's size bears it out.
"""

from __future__ import annotations

import math
import stat
import struct
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, TypeVar

from ollama_tools.errors import FileProblem
from ollama_tools.files.architecture import Architecture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

Value = int | float | bool | str
_Read = TypeVar("_Read")

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_MAX_KEY_BYTES = 64 << 10
_MAX_TEXT_BYTES = 64 << 20
"""Of one text, and of all texts together, so that no file can fill the memory."""
_MAX_STRINGS = 1 << 22
"""Of all arrays together; the largest vocabularies have three quarters of a million."""
_MAX_PAIRS = 1 << 16
_MAX_ARRAY_DEPTH = 2
_MAX_INNER_ARRAYS = 1 << 16
"""Arrays inside arrays, all together; no engine loads a single one."""
_MAX_TENSORS = 1 << 16
_MAX_LAYOUT_BYTES = 256 << 20
"""Of a header that is to be held in memory; those of the largest vocabularies have 20 MiB."""
_MAX_TENSOR_DIMENSIONS = 4
_TELLING_BYTES = 64
_DEFAULT_ALIGNMENT = 32
_MAX_ALIGNMENT = 1 << 20
_CHUNK_BYTES = 256 << 10

_TOKENS_KEY = "tokenizer.ggml.tokens"
_FIRST_TOKENS = 64
"""How many tokens of a vocabulary are read; a family's control tokens stand before all others."""

_LEAST_PAIR_BYTES = 13
_LEAST_TENSOR_BYTES = 24

_STRING, _ARRAY = 8, 9
_SCALARS = {
    number: struct.Struct(f"<{code}")
    for number, code in {
        **dict(enumerate("BbHhIif?")),
        10: "Q",
        11: "q",
        12: "d",
    }.items()
}
_U32_KIND = 4
_U32, _U64 = _SCALARS[_U32_KIND], _SCALARS[10]

# Elements and bytes of one block by type of tensor, after GGML_QUANT_SIZES in llama.cpp's gguf-py.
# A type that is missing here is newer than this table: where its tensors end is then unknown.
_BLOCKS = {
    kind: (elements, size)
    for elements, sizes in {
        1: {0: 4, 1: 2, 24: 1, 25: 2, 26: 4, 27: 8, 28: 8, 30: 2},
        32: {2: 18, 3: 20, 6: 22, 7: 24, 8: 34, 9: 40, 20: 18, 39: 17},
        64: {40: 36},
        128: {41: 18},
        256: {10: 84, 11: 110, 12: 144, 13: 176, 14: 210, 15: 292, 16: 66, 17: 74, 18: 98}
        | {19: 50, 21: 110, 22: 82, 23: 136, 29: 56, 34: 54, 35: 66},
    }.items()
    for kind, size in sizes.items()
}


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """The header of a GGUF file.

    Attributes:
        label: What the file is called in messages: its path or address.
        version: Version of the format, 2 or 3.
        tensor_count: Number of tensors.
        size: Bytes of the whole file.
        metadata: Scalars and texts by key, in the order of the file.
        arrays: Number of elements by key, of arrays, whose contents are skipped.
        complete: False where only the file's first bytes were there to be read.
        first_tokens: The beginning of its vocabulary, where its control tokens stand.
    """

    label: str
    version: int
    tensor_count: int
    size: int
    metadata: Mapping[str, Value] = field(hash=False)
    arrays: Mapping[str, int] = field(hash=False)
    complete: bool
    first_tokens: tuple[str, ...] = ()

    @property
    def architecture(self) -> str:
        """GGUF architecture, such as `llama`; empty for an importance matrix."""
        return str(self.metadata.get("general.architecture", ""))

    @property
    def type(self) -> str:
        """What the file is: `model`, `adapter`, `mmproj` (a vision projector) or `imatrix`."""
        said = self._text("general.type") or "model"
        return "mmproj" if said == "projector" or self.architecture == "clip" else said

    @property
    def vocabulary(self) -> int | None:
        """Tokens of its vocabulary; None where it has none, or none was reached."""
        return self.arrays.get(_TOKENS_KEY)

    @property
    def name(self) -> str | None:
        """The name that the file gives its model."""
        return self._text("general.name")

    @property
    def chat_template(self) -> str | None:
        """The Jinja chat template inside the file; None where there is none or none was reached."""
        return self._text("tokenizer.chat_template")

    def value(self, key: str) -> Value | None:
        """Look up a key of the architecture: `context_length` finds `llama.context_length`."""
        return self.metadata.get(f"{self.architecture}.{key}")

    def shape(self) -> Architecture:
        """Read the model's shape.

        Returns:
            The shape, with the file as its source.

        Raises:
            FileProblem: The header lacks a figure, as that of a vision projector does.
        """
        heads = self._figure("attention.head_count")
        embedding = self._figure("embedding_length")
        # Both fall back as in llama.cpp, for files that leave out what follows from the rest.
        return Architecture(
            name=self.architecture,
            layers=self._figure("block_count"),
            heads=heads,
            kv_heads=self._figure("attention.head_count_kv", heads),
            head_dim=self._figure("attention.key_length", embedding // heads),
            embedding=embedding,
            feed_forward=self._figure("feed_forward_length"),
            context=self._figure("context_length"),
            source=self.label,
        )

    def _text(self, key: str) -> str | None:
        value = self.metadata.get(key)
        return value if isinstance(value, str) else None

    def _figure(self, key: str, default: int | None = None) -> int:
        full_key = f"{self.architecture}.{key}"
        value = self.metadata.get(full_key, None if full_key in self.arrays else default)
        if type(value) is int and value > 0:
            return value
        raise FileProblem(
            f"{self.label}: no usable {full_key} in its header",
            "name a GGUF that holds a whole language model, not a projector, adapter or later part",
        )


@dataclass(frozen=True, slots=True)
class Pair:
    """Where a key with its value stands in a file: from byte `start` up to, not with, `end`."""

    key: str
    start: int
    end: int


class TensorForm(NamedTuple):
    """A tensor's form.

    Attributes:
        shape: Elements of each dimension, those of a row first.
        kind: Type of its elements, by ggml's number for it.
    """

    shape: tuple[int, ...]
    kind: int


@dataclass(frozen=True, slots=True)
class GgufLayout:
    """Where the sections of a GGUF file lie, for whoever wants to copy them.

    Attributes:
        label: What the file is called in messages: its path or address.
        version: Version of the format, 2 or 3.
        tensor_count: Number of tensors.
        size: Bytes of the whole file.
        metadata: Scalars and texts by key, in the order of the file.
        pairs: All keys, in the order of the file.
        tensors_start: Where the descriptions of the tensors begin.
        tensors_end: Where they end.
        data_start: Where the tensors themselves begin, from which their offsets count.
        alignment: What `data_start` is a multiple of, where there are tensors.
        tensors: The tensors by name.
    """

    label: str
    version: int
    tensor_count: int
    size: int
    metadata: Mapping[str, Value] = field(hash=False)
    pairs: tuple[Pair, ...]
    tensors_start: int
    tensors_end: int
    data_start: int
    alignment: int
    tensors: Mapping[str, TensorForm] = field(hash=False)


def read_header(path: Path) -> GgufHeader:
    """Read the header of a local GGUF file.

    Args:
        path: The file.

    Returns:
        The header.

    Raises:
        FileProblem: The file cannot be read or its header is broken. Whether the tensors behind
            the header are all there is not looked at.
    """
    return _read(path, parse_header)


def read_layout(path: Path) -> GgufLayout:
    """Find the sections of a local GGUF file; see :func:`parse_layout`.

    Raises:
        FileProblem: The file cannot be read, or is no whole GGUF.
    """
    return _read(path, parse_layout)


def _read(path: Path, parse: Callable[[BinaryIO, int, str], _Read]) -> _Read:
    try:
        # A pipe would block on opening, so the kind is asked for first.
        if not stat.S_ISREG(path.stat().st_mode):
            raise FileProblem(f"{path}: not a file", "name a GGUF file")
        with path.open("rb") as file:
            return parse(file, path.stat().st_size, str(path))
    except OSError as error:
        raise FileProblem(f"{path}: cannot be read: {error.strerror}", "check the path") from error


def parse_header(stream: BinaryIO, size: int, label: str, *, partial: bool = False) -> GgufHeader:
    """Parse a GGUF header.

    Args:
        stream: The file, or its beginning; seekable, with the file's first byte at position 0.
        size: Bytes of the whole file.
        label: What to call the file in messages.
        partial: Whether the stream may end inside the header, as after a range request for the
            first bytes. The result is then what was there, with `complete` False: the shape stands
            in the first kilobytes, the chat template far behind them.

    Returns:
        The header.

    Raises:
        FileProblem: This is no header of a GGUF file of that size.
    """
    with _explained(label):
        return _parse(_Reader(stream, size), label, partial=partial)


def parse_layout(stream: BinaryIO, size: int, label: str) -> GgufLayout:
    """Find the sections of a GGUF file, and see that all its tensors are inside it.

    This is stricter than :func:`parse_header`, since what is to be copied must be whole: nested
    arrays, which no engine loads, and headers of more than 256 MiB are refused. The later parts of
    a split model, which name no architecture, are taken.

    Args:
        stream: The file; seekable, with its first byte at position 0.
        size: Bytes of the whole file.
        label: What to call the file in messages.

    Returns:
        The layout.

    Raises:
        FileProblem: This is no whole GGUF file of that size.
    """
    with _explained(label):
        return _parse_layout(_Reader(stream, size, min(size, _MAX_LAYOUT_BYTES)), label)


@contextmanager
def _explained(label: str) -> Iterator[None]:
    try:
        yield
    except _HeaderError as error:
        raise FileProblem(
            f"{label}: not a GGUF file that can be used: {error}",
            "check that it is the right file, and fetch it again if it is",
        ) from error


class _HeaderError(Exception):
    """The bytes are no header of a GGUF file; the message is the reason."""


class _StreamEndedError(_HeaderError):
    """The stream ends inside the header."""


def _parse(reader: _Reader, label: str, *, partial: bool) -> GgufHeader:
    version, tensor_count, pair_count = _read_preamble(reader)
    metadata: dict[str, Value] = {}
    arrays: dict[str, int] = {}
    tokens: list[str] = []
    complete = True
    try:
        for _ in range(pair_count):
            _read_pair(reader, metadata, arrays, tokens)
        reader.expect(tensor_count, _LEAST_TENSOR_BYTES, "tensors")
    except _StreamEndedError:
        if not partial:
            raise
        complete = False
    # An importance matrix has none, and is refused for what it is by whoever wants a model.
    if not isinstance(metadata.get("general.architecture"), str) and (
        metadata.get("general.type", "model") == "model"
    ):
        raise _HeaderError("it names no architecture")
    return GgufHeader(
        label, version, tensor_count, reader.size, metadata, arrays, complete, tuple(tokens)
    )


def _parse_layout(reader: _Reader, label: str) -> GgufLayout:
    version, tensor_count, pair_count = _read_preamble(reader)
    if tensor_count > _MAX_TENSORS:
        raise _HeaderError(f"it claims to have {tensor_count} tensors")
    metadata: dict[str, Value] = {}
    pairs = []
    alignment = _DEFAULT_ALIGNMENT
    arrays: dict[str, int] = {}
    for _ in range(pair_count):
        start = reader.position
        key, kind = _read_pair(reader, metadata, arrays, [], nesting=1)
        pairs.append(Pair(key, start, reader.position))
        if key == "general.alignment":
            alignment = _alignment(kind, metadata.get(key))
    tensors_start = reader.position
    reader.expect(tensor_count, _LEAST_TENSOR_BYTES, "tensors")
    tensors: dict[str, TensorForm] = {}
    names: set[bytes] = set()
    ends = [_read_tensor(reader, names, tensors) for _ in range(tensor_count)]
    tensors_end = data_start = reader.position
    if tensor_count:
        # llama.cpp leaves the padding out where nothing follows, as in a split model's first part.
        data_start += -data_start % alignment
        if data_start + max(ends) > reader.size:
            raise _HeaderError(f"it ends after {reader.size} bytes, inside its tensors")
    return GgufLayout(
        label,
        version,
        tensor_count,
        reader.size,
        metadata,
        tuple(pairs),
        tensors_start,
        tensors_end,
        data_start,
        alignment,
        tensors,
    )


def _alignment(kind: int, value: Value | None) -> int:
    # The type and the power of two are llama.cpp's own conditions; the limit is ours, because
    # padding is written out.
    if (
        kind != _U32_KIND
        or not isinstance(value, int)
        or not 0 < value <= _MAX_ALIGNMENT
        or value & (value - 1)
    ):
        raise _HeaderError("its alignment is no usable power of two")
    return value


def _read_tensor(reader: _Reader, names: set[bytes], tensors: dict[str, TensorForm]) -> int:
    """Where the tensor ends, counted from the first one's beginning, as far as can be told."""
    name = reader.text(_MAX_KEY_BYTES)
    label = name[:64].decode("utf-8", errors="replace")
    if name in names:
        raise _HeaderError(f"the tensor {label!r} stands there twice")
    names.add(name)
    dimensions = reader.number(_U32)
    if dimensions > _MAX_TENSOR_DIMENSIONS:
        raise _HeaderError(f"the tensor {label!r} has {dimensions} dimensions")
    shape = [reader.number(_U64) for _ in range(dimensions)]
    kind = reader.number(_U32)
    offset = reader.number(_U64)
    tensors[name.decode("utf-8", errors="replace")] = TensorForm(tuple(shape), kind)
    if kind not in _BLOCKS:
        return offset
    elements, size = _BLOCKS[kind]
    if shape and shape[0] % elements:
        raise _HeaderError(f"the tensor {label!r} has rows of {shape[0]} elements")
    return offset + math.prod(shape) // elements * size


def _other_kind(start: bytes) -> str:
    """What a file is that is no GGUF, by its first bytes."""
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer, which stands for the file: run git lfs pull"
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<script")):
        return "it is a saved web page: download the file itself, from its address with /resolve/"
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < _MAX_LAYOUT_BYTES:
        return "it is a safetensors file, for training: take a GGUF of that model"
    if start.startswith(b"PK\x03\x04"):
        return "it is a ZIP archive or a PyTorch checkpoint"
    if start.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ")):
        return "it is compressed: unpack it first"
    if start.startswith((b"ggml", b"lmgg", b"fmgg", b"tjgg", b"algg", b"ggla")):
        return "it is of a format before GGUF, which nothing reads any more"
    if text.startswith(b"{"):
        return "it is JSON"
    if not start.strip(b"\x00"):
        return "it begins with zeros, as a download that was only set out for"
    return f"it begins with {start[:4]!r}"


def _read_preamble(reader: _Reader) -> tuple[int, int, int]:
    if (magic := reader.take(len(_MAGIC))) != _MAGIC:
        rest = reader.take(min(reader.size, _TELLING_BYTES) - len(magic))
        raise _HeaderError(_other_kind(magic + rest))
    version = reader.number(_U32)
    if version not in _VERSIONS:
        big_endian = int.from_bytes(version.to_bytes(4, "little"), "big") in _VERSIONS
        raise _HeaderError("it is big-endian" if big_endian else f"its version is {version}")
    tensor_count = reader.number(_U64)
    pair_count = reader.number(_U64)
    reader.expect(tensor_count, _LEAST_TENSOR_BYTES, "tensors")
    reader.expect(pair_count, _LEAST_PAIR_BYTES, "keys")
    if pair_count > _MAX_PAIRS:
        raise _HeaderError(f"it claims to have {pair_count} keys")
    return version, tensor_count, pair_count


def _read_pair(
    reader: _Reader,
    metadata: dict[str, Value],
    arrays: dict[str, int],
    tokens: list[str],
    *,
    nesting: int = _MAX_ARRAY_DEPTH,
) -> tuple[str, int]:
    """Read a key and its value; returns the key and the value's type."""
    try:
        key = reader.text(_MAX_KEY_BYTES).decode("utf-8")
    except UnicodeDecodeError:
        raise _HeaderError("a key is not UTF-8") from None
    if key in metadata or key in arrays:
        raise _HeaderError(f"the key {key!r} stands there twice")
    kind = reader.number(_U32)
    if kind == _ARRAY:
        arrays[key] = _skip_array(reader, nesting, tokens if key == _TOKENS_KEY else None)
    elif kind == _STRING:
        # A stray byte in some description is no reason to refuse a model.
        metadata[key] = reader.text(_MAX_TEXT_BYTES).decode("utf-8", errors="replace")
    else:
        scalar = _scalar(kind)
        metadata[key] = scalar.unpack(reader.take(scalar.size))[0]
    return key, kind


def _skip_array(reader: _Reader, nesting: int, first: list[str] | None = None) -> int:
    """Skip an array, and return its length; ``first`` gets the first of its texts."""
    kind = reader.number(_U32)
    count = reader.number(_U64)
    if kind == _STRING:
        read = 0 if first is None else min(count, _FIRST_TOKENS)
        for _ in range(read):
            text = reader.text(_MAX_TEXT_BYTES).decode("utf-8", errors="replace")
            if first is not None:
                first.append(text)
        reader.skip_texts(count - read)
    elif kind == _ARRAY:
        if nesting == 1:
            raise _HeaderError("its arrays are nested too deeply")
        reader.count_inner_arrays(count)
        for _ in range(count):
            _skip_array(reader, nesting - 1)
    else:
        reader.skip(count * _scalar(kind).size)
    return count


def _scalar(kind: int) -> struct.Struct:
    if kind not in _SCALARS:
        raise _HeaderError(f"it has a value of the unknown type {kind}")
    return _SCALARS[kind]


class _Reader:
    """A buffered reader that believes no length without the file's size."""

    def __init__(self, stream: BinaryIO, size: int, limit: int | None = None) -> None:
        self._stream = stream
        self.size = size
        self._limit = size if limit is None else limit
        self._buffer = b""
        self._buffer_start = 0
        self._position = 0
        self._text_bytes_left = _MAX_TEXT_BYTES
        self._strings_left = _MAX_STRINGS
        self._inner_arrays_left = _MAX_INNER_ARRAYS

    @property
    def position(self) -> int:
        """Where the next byte stands in the file."""
        return self._position

    def expect(self, count: int, least_bytes: int, what: str) -> None:
        """Refuse a count of things for which the rest of the file has no room."""
        if count * least_bytes > self.size - self._position:
            raise _HeaderError(f"{count} {what} cannot be in a file of {self.size} bytes")

    def count_inner_arrays(self, count: int) -> None:
        """Refuse more than anybody could want to go through; each takes a step of its own."""
        self._inner_arrays_left -= count
        if self._inner_arrays_left < 0:
            raise _HeaderError(f"an array of {count} arrays is too long")

    def take(self, count: int) -> bytes:
        self._fill(count)
        start = self._position - self._buffer_start
        self._position += count
        return self._buffer[start : start + count]

    def number(self, form: struct.Struct) -> int:
        number: int = form.unpack(self.take(form.size))[0]
        return number

    def text(self, limit: int) -> bytes:
        length = self.number(_U64)
        self._text_bytes_left -= length
        if length > limit or self._text_bytes_left < 0:
            raise _HeaderError(f"a text of {length} bytes is too long")
        return self.take(length)

    def skip(self, count: int) -> None:
        self._position += count
        if self._position > self.size:
            raise _HeaderError("a value reaches past its end")
        self._check_limit(self._position)

    def skip_texts(self, count: int) -> None:
        self._strings_left -= count
        if self._strings_left < 0:
            raise _HeaderError(f"an array of {count} elements is too long")
        length_at = _U64.unpack_from
        # The hot loop of this module, once per token and merge: locals only, no calls to methods.
        while count:
            self._fill(_U64.size)
            buffer = self._buffer
            last = len(buffer) - _U64.size
            at = self._position - self._buffer_start
            for done in range(count):
                if at > last:
                    count -= done
                    break
                at += 8 + length_at(buffer, at)[0]
            else:
                count = 0
            self._position = self._buffer_start
            self.skip(at)

    def _fill(self, count: int) -> None:
        """Bring the next `count` bytes into the buffer."""
        start = self._position - self._buffer_start
        missing = start + count - len(self._buffer)
        if missing <= 0:
            return
        if self._position + count > self.size:
            raise _HeaderError(f"it ends after {self.size} bytes, inside its header")
        self._check_limit(self._position + count)
        if start > len(self._buffer):
            self._stream.seek(self._position)
            missing = count
        parts = [self._buffer[start:]]
        while missing > 0:
            part = self._stream.read(max(missing, _CHUNK_BYTES))
            if not part:
                raise _StreamEndedError("its header goes on behind the bytes that were read")
            parts.append(part)
            missing -= len(part)
        self._buffer = b"".join(parts)
        self._buffer_start = self._position

    def _check_limit(self, end: int) -> None:
        if end > self._limit:
            raise _HeaderError(f"its header has more than {self._limit >> 20} MiB")
