"""Writes GGUF files of our own making: a header of plain values, and matrices of mostly zeros.

See :mod:`ollama_tools.files.gguf` for the layout, and :mod:`ollama_tools.files.gguf_rewrite` for
files that others have made.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import BinaryIO, Final, TypeAlias

_ALIGNMENT: Final = 32
_UINT32, _INT32, _FLOAT32, _BOOL, _STRING, _ARRAY = 4, 5, 6, 7, 8, 9

Value: TypeAlias = int | float | bool | str | Sequence[str] | Sequence[int]
"""A whole number is written with 32 bits, without a sign unless it stands in an array."""


class Kind(IntEnum):
    """Type of a tensor's elements, by GGUF's number for it."""

    F32 = 0
    F16 = 1


class Tensor:
    """A tensor of one or two dimensions, which begins as zeros.

    Attributes:
        rows: Its rows; None for a vector.
        columns: Elements of a row, or of the vector.
        kind: Type of its elements.
        data: Its bytes.
    """

    def __init__(self, rows: int | None, columns: int, kind: Kind) -> None:
        self.rows = rows
        self.columns = columns
        self.kind = kind
        self._element = struct.Struct("<f" if kind is Kind.F32 else "<e")
        self.data = bytearray((rows or 1) * columns * self._element.size)

    def __setitem__(self, place: tuple[int, int], value: float) -> None:
        row, column = place
        if not (0 <= row < (self.rows or 1) and 0 <= column < self.columns):
            raise IndexError(place)
        self._element.pack_into(
            self.data, (row * self.columns + column) * self._element.size, value
        )

    def fill(self, row: int, values: Iterable[float]) -> None:
        """Set the elements of a row from its beginning."""
        for column, value in enumerate(values):
            self[row, column] = value

    def like(self) -> Tensor:
        """Zeros of the same shape."""
        return Tensor(self.rows, self.columns, self.kind)


@dataclass(frozen=True, slots=True)
class _Description:
    name: str
    tensor: Tensor
    offset: int

    @property
    def packed(self) -> bytes:
        shape = [self.tensor.columns, *([] if self.tensor.rows is None else [self.tensor.rows])]
        numbers = struct.pack(
            f"<I{len(shape)}QIQ", len(shape), *shape, self.tensor.kind, self.offset
        )
        return _text(self.name) + numbers


def write_gguf(
    path: Path, metadata: Mapping[str, Value], tensors: Mapping[str, Tensor], *, filler: int = 0
) -> None:
    """Write a GGUF file; equal arguments give equal bytes.

    Args:
        path: The file; one that exists is replaced.
        metadata: Its keys, in their order.
        tensors: Its tensors by name, in their order. One may stand there under many names.
        filler: Zero bytes to append behind the tensors, as a hole where the file system has them.

    Raises:
        OSError: It cannot be written.
    """
    with path.open("wb") as file:
        file.write(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata)))
        for key, value in metadata.items():
            file.write(_text(key) + _typed(value))
        offset = 0
        for name, tensor in tensors.items():
            file.write(_Description(name, tensor, offset).packed)
            offset += len(tensor.data) + -len(tensor.data) % _ALIGNMENT
        _pad(file)
        for tensor in tensors.values():
            file.write(tensor.data)
            _pad(file)
        if filler:
            file.truncate(file.tell() + filler)


def _pad(file: BinaryIO) -> None:
    file.write(bytes(-file.tell() % _ALIGNMENT))


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _typed(value: Value) -> bytes:
    match value:
        case bool():
            return struct.pack("<I?", _BOOL, value)
        case int():
            return struct.pack("<II", _UINT32, value)
        case float():
            return struct.pack("<If", _FLOAT32, value)
        case str():
            return struct.pack("<I", _STRING) + _text(value)
    if all(isinstance(each, str) for each in value):
        kind, data = _STRING, b"".join(_text(str(each)) for each in value)
    else:
        kind, data = _INT32, struct.pack(f"<{len(value)}i", *value)
    return struct.pack("<IIQ", _ARRAY, kind, len(value)) + data
