"""A GGUF with another chat template or other values: a new header, and the tensors as they are.

Only the header is built anew; what follows it is read from the source when it is sent, so that no
second copy of a model ever lies on the disk.

That the tensors are the source's is seen without reading them again: :meth:`Rewritten.sha256`
hashes the new header and then the source's own data, not what :meth:`Rewritten.chunks` gives, and
the server compares that digest with what it received. Both begin and end by looking whether the
source is still the file whose header was read.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ollama_tools.errors import FileProblem, UsageError
from ollama_tools.files import remembered as state
from ollama_tools.files.gguf import GgufLayout, Pair, Value, parse_layout
from ollama_tools.files.pieces import each_piece
from ollama_tools.progress import Progress

_PIECE = 1 << 20
_UINT32, _BOOL, _STRING = 4, 7, 8
REVISION = 1
"""To be raised when this module gives other bytes for the same input: old digests then lapse."""
_PREAMBLE = struct.Struct("<4sIQQ")
_MAX_TEMPLATE_BYTES = 16 << 20
"""Ollama reads no longer text out of a header."""

_TEMPLATE_KEY = "tokenizer.chat_template"
_PART_NAME = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf", re.DOTALL)

_Mark = tuple[int, int, int]


class Setting(NamedTuple):
    """A value that a header shall have.

    Attributes:
        key: Its key.
        value: The value; a whole number is written with 32 bits, without a sign.
        always: Whether it is written where the key is absent as well, since engines then take it
            for another value.
        instead: Whether it is written where the key has another value.
    """

    key: str
    value: int | bool | str
    always: bool = True
    instead: bool = True


@dataclass(frozen=True, slots=True)
class Rewriting:
    """What is put into a file's header on its way.

    Attributes:
        chat_template: Jinja; None leaves the file its own.
        settings: Values that the header shall have.

    Raises:
        UsageError: No header can carry the template.
    """

    chat_template: str | None = None
    settings: tuple[Setting, ...] = ()

    def __post_init__(self) -> None:
        if self.chat_template is not None:
            _encoded(self.chat_template)

    @property
    def key(self) -> str:
        """Hex SHA-256 that tells it from others."""
        found = hashlib.sha256((self.chat_template or "").encode())
        if self.settings:
            found.update(repr([*self.settings]).encode())
        return found.hexdigest()


AS_IT_IS = Rewriting()
"""Nothing is put into it."""


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A GGUF file as it is to be sent: a new header before the source's own tensors.

    Attributes:
        source: The file that the tensors come from.
        header: The new header, with the padding that the tensors' alignment asks for.
        data_start: Where in the source the tensors begin; all behind it is kept.
        alignment: What the tensors' position is a multiple of.
        source_size: Bytes of the source.
        rewriting: What is put into its header.
        mark: Size, time and inode of the source when its header was read.
        removed: Keys of other templates that are left out, since they could win over ours.
        is_unchanged: Whether the result is the source, byte for byte.
    """

    source: Path
    header: bytes = field(repr=False)
    data_start: int
    alignment: int
    source_size: int
    rewriting: Rewriting
    mark: _Mark
    removed: tuple[str, ...]
    is_unchanged: bool

    @property
    def size(self) -> int:
        """Bytes of the whole."""
        return len(self.header) + self.source_size - self.data_start

    def chunks(self) -> Iterator[bytes]:
        """The whole, in pieces of at most 1 MiB.

        Raises:
            FileProblem: The source cannot be read or has changed. The last piece comes only after
                the last look at the source, so that what was sent of a changed one is never whole.
        """
        left = self.source_size - self.data_start
        with self._opened() as file:
            for start in range(0, len(self.header), _PIECE):
                yield self.header[start : start + _PIECE]
            while left:
                piece = file.read(min(left, _PIECE))
                if not piece:
                    raise _changed(self.source)
                left -= len(piece)
                if not left:
                    _check_mark(file, self.mark, self.source)
                yield piece

    def sha256(self, progress: Progress) -> str:
        """Hex SHA-256 of the whole, remembered until the source or the template changes.

        Raises:
            FileProblem: The source cannot be read or has changed.
        """
        with self._opened() as file:
            own, known = self._known
            new = known or (own if self.is_unchanged else None)
            if new is None:
                progress.step(f"hashing {self.source}{self._with}")
                new = self._hashed(file, progress)
                _check_mark(file, self.mark, self.source)
        self._remember(new if self.is_unchanged else None, new)
        return new

    def digests(self, progress: Progress) -> tuple[str, str]:
        """Hex SHA-256 of the source and of the whole, out of one pass over the source.

        Both are remembered until the source or the template changes.

        Raises:
            FileProblem: The source cannot be read or has changed.
        """
        if self.is_unchanged:
            same = self.sha256(progress)
            return same, same
        with self._opened() as file:
            own, new = self._known
            if own is None or new is None:
                progress.step(f"hashing {self.source}, once as it is and once as it is sent")
                own, new = self._hashed_twice(file, progress)
                _check_mark(file, self.mark, self.source)
        self._remember(own, new)
        return own, new

    @property
    def _with(self) -> str:
        if self.is_unchanged:
            return ""
        return ", with our template in it" if self.rewriting.chat_template else ", mended"

    @property
    def _known(self) -> tuple[str | None, str | None]:
        """What is remembered of the source and of the whole."""
        own = state.remembered_digest(str(self.source.resolve()), [*self.mark])
        return own, _remembered(self.source, self.mark, self.rewriting)

    def _remember(self, own: str | None, new: str) -> None:
        known_own, known_new = self._known
        if own is not None and own != known_own:
            state.remember_digest(str(self.source.resolve()), [*self.mark], own)
        if new != known_new:
            state.remember_digest(*_memory(self.source, self.mark, self.rewriting), new)

    def _hashed(self, file: io.FileIO, progress: Progress) -> str:
        found = hashlib.sha256(self.header)
        done = self.data_start

        def update(piece: memoryview) -> None:
            nonlocal done
            found.update(piece)
            done += len(piece)
            progress.transfer("hashing", done, self.source_size)

        self._read(file, self.source_size - self.data_start, update)
        return found.hexdigest()

    def _hashed_twice(self, file: io.FileIO, progress: Progress) -> tuple[str, str]:
        from concurrent.futures import ThreadPoolExecutor

        old, new = hashlib.sha256(), hashlib.sha256(self.header)
        file.seek(0)
        self._read(file, self.data_start, old.update)
        done = self.data_start
        # The two run side by side: hashlib lets go of the interpreter for pieces of this size.
        with ThreadPoolExecutor(1) as beside:

            def update(piece: memoryview) -> None:
                nonlocal done
                other = beside.submit(new.update, piece)
                old.update(piece)
                other.result()
                done += len(piece)
                progress.transfer("hashing", done, self.source_size)

            self._read(file, self.source_size - self.data_start, update)
        return old.hexdigest(), new.hexdigest()

    def _read(self, file: io.FileIO, count: int, take: Callable[[memoryview], None]) -> None:
        """Give the next bytes of a file away, piece by piece."""
        for piece in each_piece(file, count):
            take(piece)
            count -= len(piece)
        if count:
            raise _changed(self.source)

    @contextmanager
    def _opened(self) -> Iterator[io.FileIO]:
        with _opened(self.source) as file:
            _check_mark(file, self.mark, self.source)
            file.seek(self.data_start)
            yield file


def rewrite(path: Path, rewriting: Rewriting) -> Rewritten:
    """Put a chat template and values into a GGUF file's header; equal input gives equal bytes.

    Every other key, and the tensors with their descriptions, stay as they are. Beside a template of
    ours, named ones (``tokenizer.chat_template.tool_use``) are left out: llama.cpp takes that one
    instead of ``tokenizer.chat_template`` for every request with tools. A file that has all of it
    already is the result, byte for byte.

    Args:
        path: The file; of a split model the first part.
        rewriting: What is put into it.

    Raises:
        FileProblem: The file cannot be read, is no whole GGUF file, or changes while it is read.
    """
    with _opened(path) as file:
        mark = _mark(file)
        layout = _layout(file, mark, path)
        _check_first_part(path, layout)
        edits = _edits(layout, rewriting)
        if edits or rewriting.chat_template is not None:
            header = _header(file, layout, edits, path)
            is_unchanged = _begins_with(file, layout, header)
        else:
            header, is_unchanged = _beginning(file, layout, path), True
        _check_mark(file, mark, path)
    return Rewritten(
        source=path,
        header=header,
        data_start=layout.data_start,
        alignment=layout.alignment,
        source_size=layout.size,
        rewriting=rewriting,
        mark=mark,
        removed=tuple(pair.key for pair in layout.pairs if edits.get(pair.key, b"-") == b""),
        is_unchanged=is_unchanged,
    )


def known_sha256(path: Path, rewriting: Rewriting) -> str | None:
    """What ``rewrite(path, rewriting).sha256`` gives, where an earlier run found it out.

    Nothing of the file is read, so a server can be asked for the result before its header is made.

    Raises:
        FileProblem: The file cannot be read.
    """
    with _opened(path) as file:
        return _remembered(path, _mark(file), rewriting)


def sent_sha256s(path: Path, rewriting: Rewriting, progress: Progress) -> tuple[str, ...]:
    """Hex SHA-256 of what a server is sent of a model, one for each of its parts.

    Nothing of the file is read where an earlier run found them out.

    Args:
        path: The file; of a split model any part.
        rewriting: What is put into the header.
        progress: Hears of the hashing.

    Raises:
        FileProblem: A file cannot be read, or changes while it is read.
    """
    first, *others = parts(path)
    known = known_sha256(first, rewriting)
    sha256 = known or rewrite(first, rewriting).sha256(progress)
    return sha256, *(state.file_sha256(part, progress) for part in others)


def own_sha256(path: Path, progress: Progress, rewriting: Rewriting = AS_IT_IS) -> str:
    """Hex SHA-256 of a model's file as it lies here, or of the digests of its parts.

    Args:
        path: The file; of a split model any part.
        progress: Hears of the hashing.
        rewriting: What the file will be sent with; both digests are found out at once.

    Raises:
        FileProblem: A file cannot be read, or changes while it is read.
    """
    first, *others = parts(path)
    if others:
        digests = [state.file_sha256(part, progress) for part in (first, *others)]
        return hashlib.sha256(" ".join(digests).encode()).hexdigest()
    if rewriting != AS_IT_IS and state.known_sha256(path) is None:
        return rewrite(path, rewriting).digests(progress)[0]
    return state.file_sha256(path, progress)


def parts(path: Path) -> tuple[Path, ...]:
    """All files of a model, in order, of which any one is named; one file where it is not split.

    Only the first part of a split model has a header to rewrite; the others go as they are.

    Raises:
        FileProblem: A part is missing, cannot be read, or belongs to something else.
    """
    if (match := _PART_NAME.fullmatch(path.name)) is None:
        return (path,)
    stem, own, count = match[1], int(match[2]), int(match[3])
    if _split(_layout_of(path)) == (0, 1):
        # Nothing but its name is that of a part, and engines go by what the header says.
        return (path,)
    if not 1 <= own <= count:
        raise FileProblem(f"{path}: there is no part {own} of {count}", "check the name")
    found = tuple(path.with_name(f"{stem}-{n:05}-of-{count:05}.gguf") for n in range(1, count + 1))
    if missing := [part.name for part in found if not part.exists()]:
        raise FileProblem(
            f"{path}: {len(missing)} of the model's {count} parts are missing, "
            f"the first is {missing[0]}",
            "fetch all parts into one directory",
        )
    layouts = [_layout_of(part) for part in found]
    for number, layout in enumerate(layouts):
        if _split(layout) != (number, count):
            raise FileProblem(
                f"{layout.label}: by its header it is not part {number + 1} of {count}",
                "fetch it again, and leave the names as they are",
            )
    tensors = sum(layout.tensor_count for layout in layouts)
    if (wanted := layouts[0].metadata.get("split.tensors.count", tensors)) != tensors:
        raise FileProblem(
            f"{path}: the model's parts have {tensors} tensors together, not {wanted}",
            "fetch all parts again, from one place",
        )
    return found


def _remembered(path: Path, mark: _Mark, rewriting: Rewriting) -> str | None:
    return state.remembered_digest(*_memory(path, mark, rewriting))


def _memory(path: Path, mark: _Mark, rewriting: Rewriting) -> tuple[str, list[Any]]:
    """Under which words the digest of a file with another header is remembered.

    A file may be sent with several headers, and one must not make forget another.
    """
    return f"{path.resolve()} with header {rewriting.key[:12]}", [*mark, REVISION]


def _encoded(chat_template: str) -> bytes:
    try:
        template = chat_template.encode()
    except UnicodeEncodeError as error:
        raise UsageError("the chat template is no valid Unicode text", "check its file") from error
    # llama.cpp reads the text as far as the first zero byte, and takes one of its own if it is
    # empty.
    if not template or b"\0" in template or len(template) > _MAX_TEMPLATE_BYTES:
        raise UsageError(
            "the chat template is empty, longer than 16 MiB, or has a zero byte", "check its file"
        )
    return template


def _is_other_template(key: str) -> bool:
    return key == "tokenizer.chat_templates" or key.startswith(f"{_TEMPLATE_KEY}.")


def _edits(layout: GgufLayout, rewriting: Rewriting) -> dict[str, bytes]:
    """What stands in the place of keys, and behind the last one; nothing where one is left out."""
    there = {pair.key for pair in layout.pairs}
    edits = {
        setting.key: _pair(setting.key, setting.value)
        for setting in rewriting.settings
        if (setting.instead if setting.key in there else setting.always)
        and not _is_equal(layout.metadata.get(setting.key), setting.value)
    }
    if rewriting.chat_template is not None:
        edits |= {pair.key: b"" for pair in layout.pairs if _is_other_template(pair.key)}
        edits[_TEMPLATE_KEY] = _pair(_TEMPLATE_KEY, rewriting.chat_template)
    return edits


def _is_equal(found: Value | None, wanted: int | bool | str) -> bool:
    # To Python a truth is a number; to engines it is none.
    return isinstance(found, bool) == isinstance(wanted, bool) and found == wanted


def _pair(key: str, value: int | bool | str) -> bytes:
    match value:
        case bool():
            packed = struct.pack("<I?", _BOOL, value)
        case int():
            packed = struct.pack("<II", _UINT32, value)
        case str():
            text = value.encode()
            packed = struct.pack("<IQ", _STRING, len(text)) + text
    return struct.pack("<Q", len(key.encode())) + key.encode() + packed


def _beginning(file: io.FileIO, layout: GgufLayout, path: Path) -> bytes:
    """All that stands before a file's tensors."""
    out = io.BytesIO()
    _copy(file, 0, min(layout.data_start, layout.size), out, path)
    return out.getvalue()


def _header(file: io.FileIO, layout: GgufLayout, edits: Mapping[str, bytes], path: Path) -> bytes:
    kept: list[Pair] = [pair for pair in layout.pairs if edits.get(pair.key, b"-")]
    there = {pair.key for pair in layout.pairs}
    new = [packed for key, packed in edits.items() if key not in there]
    out = io.BytesIO()
    out.write(_PREAMBLE.pack(b"GGUF", layout.version, layout.tensor_count, len(kept) + len(new)))
    for pair in kept:
        if pair.key in edits:
            out.write(edits[pair.key])
        else:
            _copy(file, pair.start, pair.end, out, path)
    for packed in new:
        out.write(packed)
    _copy(file, layout.tensors_start, layout.tensors_end, out, path)
    if layout.tensor_count:
        out.write(bytes(-out.tell() % layout.alignment))
    return out.getvalue()


def _copy(file: io.FileIO, start: int, end: int, out: io.BytesIO, path: Path) -> None:
    file.seek(start)
    while start < end:
        piece = file.read(min(end - start, _PIECE))
        if not piece:
            raise _changed(path)
        out.write(piece)
        start += len(piece)


def _begins_with(file: io.FileIO, layout: GgufLayout, header: bytes) -> bool:
    if len(header) != layout.data_start:
        return False
    file.seek(0)
    return all(
        file.read(len(piece)) == piece
        for piece in (header[at : at + _PIECE] for at in range(0, len(header), _PIECE))
    )


def _check_first_part(path: Path, layout: GgufLayout) -> None:
    number, count = _split(layout)
    if number:
        raise FileProblem(
            f"{path}: part {number + 1} of {count} of a split model", "name the first part"
        )
    if count > 1 and not _PART_NAME.fullmatch(path.name):
        raise FileProblem(
            f"{path}: the first of {count} parts of a split model, by its header",
            f"give it back its name, which ends in -00001-of-{count:05}.gguf",
        )


def _split(layout: GgufLayout) -> tuple[int, int]:
    """The part's number, from 0, and the number of parts."""
    number = layout.metadata.get("split.no", 0)
    count = layout.metadata.get("split.count", 1)
    if not isinstance(number, int) or not isinstance(count, int) or count <= 1:
        return 0, 1
    return number, count


def _layout_of(path: Path) -> GgufLayout:
    with _opened(path) as file:
        return _layout(file, _mark(file), path)


def _layout(file: io.FileIO, mark: _Mark, path: Path) -> GgufLayout:
    return parse_layout(file, mark[0], str(path))


@contextmanager
def _opened(path: Path) -> Iterator[io.FileIO]:
    try:
        # A pipe would block on opening, so the kind is asked for first.
        if not stat.S_ISREG(path.stat().st_mode):
            raise FileProblem(f"{path}: not a file", "name a GGUF file")
        with path.open("rb", buffering=0) as file:
            yield file
    except OSError as error:
        raise FileProblem(f"cannot read {path}: {error.strerror}", "check the path") from error


def _mark(file: io.FileIO) -> _Mark:
    found = os.fstat(file.fileno())
    return found.st_size, found.st_mtime_ns, found.st_ino


def _check_mark(file: io.FileIO, mark: _Mark, path: Path) -> None:
    if _mark(file) != mark:
        raise _changed(path)


def _changed(path: Path) -> FileProblem:
    return FileProblem(
        f"{path} changed while it was read", "wait until it is complete, then run the command again"
    )
