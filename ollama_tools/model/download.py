"""A Devstral's files from the hub to this machine, without any server."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TypedDict

from ollama_tools.devstral.carriers import jinja_template
from ollama_tools.devstral.catalog import Catalog, Release
from ollama_tools.devstral.header import rewriting
from ollama_tools.devstral.reference import (
    FileReference,
    ServerReference,
    explain_library_name,
    parse_reference,
)
from ollama_tools.errors import FileProblem, HubError, UsageError
from ollama_tools.files import hub
from ollama_tools.files import remembered as state
from ollama_tools.files.gguf_rewrite import Rewriting
from ollama_tools.files.pieces import each_piece
from ollama_tools.model.published import filenames, hub_facts, projector_name, require_pinned
from ollama_tools.model.refusals import SPARE
from ollama_tools.model.upload import require_published, sent_sha256
from ollama_tools.progress import Progress, size_text
from ollama_tools.wanted.source import HubSource, named_source
from ollama_tools.wanted.wish import Wish


class Part(StrEnum):
    """What a file is for."""

    WEIGHTS = "weights"
    PROJECTOR = "projector"


class DownloadedFileJson(TypedDict):
    """A file of a repository on this machine."""

    file: str
    kind: str
    path: str
    bytes: int
    sha256: str
    brought: bool


class DownloadJson(TypedDict):
    """The files of a quant on this machine."""

    repository: str
    commit: str | None
    files: list[DownloadedFileJson]


@dataclass(frozen=True, slots=True)
class DownloadedFile:
    """A file of a repository on this machine.

    Attributes:
        file: Its path in the repository.
        kind: What it is for.
        path: Where it lies.
        bytes: Its size.
        sha256: Its digest, compared with the one that the hub announced where it did.
        brought: Whether it was not there before.
    """

    file: str
    kind: Part
    path: Path
    bytes: int
    sha256: str
    brought: bool

    def as_json(self) -> DownloadedFileJson:
        """See the class."""
        return DownloadedFileJson(
            file=self.file,
            kind=self.kind.value,
            path=str(self.path),
            bytes=self.bytes,
            sha256=self.sha256,
            brought=self.brought,
        )


@dataclass(frozen=True, slots=True)
class Downloaded:
    """The files of a quant on this machine.

    Attributes:
        repository: ``owner/name``.
        commit: The commit that they are of; None where the hub does not say it.
        files: The files: the weights, in order where they are split, then the projector.
    """

    repository: str
    commit: str | None
    files: tuple[DownloadedFile, ...]

    def as_json(self) -> DownloadJson:
        """See the class."""
        return DownloadJson(
            repository=self.repository,
            commit=self.commit,
            files=[each.as_json() for each in self.files],
        )


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A file that shall lie here.

    Attributes:
        file: The file, of its commit.
        kind: What it is for.
        facts: What the hub says of it.
        here: Where it lies already, or a copy of it that need not be fetched; None for none.
    """

    file: hub.HubFile
    kind: Part
    facts: hub.HubFileFacts
    here: Path | None


def download(
    wish: Wish,
    catalog: Catalog,
    progress: Progress,
    *,
    directory: Path | None = None,
    vision: bool = False,
) -> Downloaded:
    """Bring a quant's files here, whole and as published; what is here already stays.

    Their digests are remembered, with our template in them as well, so that ``create`` reads none
    of them again.

    Args:
        wish: Says which quant, by its reference and revision.
        catalog: The known releases.
        progress: Hears of steps and bytes.
        directory: Where they shall lie; None for the cache of huggingface_hub, which llama.cpp and
            ``create`` use too.
        vision: Whether the projector comes along.

    Raises:
        UsageError: The reference names nothing on the hub, or the repository has no such file.
        HubError: The hub refuses, does not answer, or sends something else than it announced.
        FileProblem: The directory cannot be used, or has another file of the name, or no room.
    """
    source, release = _source(wish, catalog)
    if directory is not None:
        _require_directory(directory)
    wanted = _wanted(source, directory, progress, vision=vision)
    _require_room(wanted, directory)
    sent = None if release is None else rewriting(jinja_template(release.tokenizer))
    is_whole = sum(each.kind is Part.WEIGHTS for each in wanted) == 1
    files = tuple(
        _bring(each, directory, sent if each.kind is Part.WEIGHTS and is_whole else None, progress)
        for each in wanted
    )
    return Downloaded(source.repository, wanted[0].facts.commit, files)


def _source(wish: Wish, catalog: Catalog) -> tuple[HubSource, Release | None]:
    reference = parse_reference(wish.reference, catalog)
    match reference:
        case FileReference(path=path):
            raise UsageError(
                f"{path} names a file on this machine, and nothing on the hub",
                f"create takes it as it is: devstral-ollama create {path}",
            )
        case ServerReference(name=name):
            what, fix = explain_library_name(name, catalog) or (
                f"{name!r} is no quant, and no repository on the hub",
                "as in UD-Q4_K_XL, 2505:Q4_K_M, hf.co/unsloth/Devstral-Small-2507-GGUF:Q8_0",
            )
            raise UsageError(what, fix)
    source = named_source(reference, wish)
    if not isinstance(source, HubSource):  # pragma: no cover - told apart above
        raise TypeError(source)
    return source, reference.release


def _wanted(
    source: HubSource, directory: Path | None, progress: Progress, *, vision: bool
) -> list[_Wanted]:
    first, *others = filenames(source)
    # All of one commit, also where another one is published meanwhile.
    one = replace(source, filename=first)
    file, facts = hub_facts(one, progress)
    if not others:
        require_pinned(source, facts.sha256, f"{file}", "the hub")
    elif source.sha256 is not None:
        raise UsageError(
            f"{source} is split into {len(others) + 1} files, which one digest cannot pin",
            "pin the commit, by --revision",
        )
    commit = facts.commit or source.revision
    found = [_looked_for(file, Part.WEIGHTS, facts, commit, directory, progress)]
    names = [(name, Part.WEIGHTS) for name in others]
    if vision:
        names.append((projector_name(replace(source, revision=commit)), Part.PROJECTOR))
    for name, kind in names:
        other = replace(file, filename=name, revision=commit)
        found.append(_looked_for(other, kind, hub.facts(other), commit, directory, progress))
    return found


def _looked_for(
    file: hub.HubFile,
    kind: Part,
    facts: hub.HubFileFacts,
    commit: str | None,
    directory: Path | None,
    progress: Progress,
) -> _Wanted:
    named = file.revision or "main"
    pinned = replace(file, revision=commit, named=None if named == commit else named)
    if directory is None:
        return _Wanted(pinned, kind, facts, hub.cached(pinned))
    path = directory / file.filename
    if not path.exists():
        return _Wanted(pinned, kind, facts, hub.cached(pinned))
    if facts.sha256 is None or state.file_sha256(path, progress) != facts.sha256:
        raise FileProblem(
            f"{path} is there, and is not what the hub has as {file}",
            "move it away, or name another directory",
        )
    return _Wanted(pinned, kind, facts, path)


def _require_directory(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileProblem(
            f"cannot make the directory {directory}: {error.strerror}", "name another directory"
        ) from error
    if not os.access(directory, os.W_OK | os.X_OK):
        raise FileProblem(f"cannot write into {directory}", "make it writable, or name another one")


def _require_room(wanted: list[_Wanted], directory: Path | None) -> None:
    """Refuse bytes that cannot fit, before one of them comes."""
    place = directory or hub.cache_directory()
    needed = sum(
        max(0, each.facts.bytes - hub.partial_bytes(each.file, each.facts.sha256, directory))
        for each in wanted
        if each.facts.bytes is not None and not _lies_there(each, directory)
    )
    there = next(each for each in (place.absolute(), *place.absolute().parents) if each.exists())
    try:
        free = shutil.disk_usage(there).free
    except OSError as error:
        raise FileProblem(f"cannot look at {there}: {error.strerror}", "check the path") from error
    if needed and free < needed + SPARE:
        elsewhere = "name another directory" if directory else "let HF_HOME name another disk"
        raise FileProblem(
            f"{size_text(needed)} are to come, and {size_text(free)} are free at {place}",
            f"free space, choose a smaller quant, or {elsewhere}",
        )


def _lies_there(wanted: _Wanted, directory: Path | None) -> bool:
    if wanted.here is None or directory is None:
        return wanted.here is not None
    return wanted.here == directory / wanted.file.filename


def _bring(
    wanted: _Wanted, directory: Path | None, sent: Rewriting | None, progress: Progress
) -> DownloadedFile:
    file, published = wanted.file, wanted.facts.sha256
    brought = not _lies_there(wanted, directory)
    size = f", {size_text(wanted.facts.bytes)}" if wanted.facts.bytes else ""
    if not brought and wanted.here is not None:
        path = wanted.here
    elif directory is not None and wanted.here is not None:
        path = directory / file.filename
        progress.step(f"copying {file} from the Hugging Face cache{size}")
        _copy(wanted.here, path, progress)
    else:
        progress.step(f"downloading {file}{size}")
        path = hub.download(
            file,
            lambda done, total: progress.transfer(Path(file.filename).name, done, total),
            directory=directory,
        )
    try:
        if sent is not None:
            sent_sha256(path, sent, published, progress)
        sha256 = state.file_sha256(path, progress)
        if published is not None:
            require_published(path, sha256, published)
    except FileProblem as error:
        if published is None or not brought:
            # What nobody announced, or a person keeps, is not for us to remove.
            raise
        # huggingface_hub compares sizes only, and would give the same file again.
        path.resolve().unlink(missing_ok=True)
        raise HubError(
            f"what arrived of {file} is not what the hub announced", "run the command again"
        ) from error
    return DownloadedFile(
        file.filename, wanted.kind, path, path.stat().st_size, sha256, brought=brought
    )


def _copy(source: Path, path: Path, progress: Progress) -> None:
    """Copy a file, whole or not at all."""
    partial = path.with_name(f"{path.name}.copy.incomplete")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        size, done = source.stat().st_size, 0
        with source.open("rb", buffering=0) as file, partial.open("wb") as out:
            for piece in each_piece(file, size):
                out.write(piece)
                done += len(piece)
                progress.transfer(path.name, done, size)
        partial.replace(path)
    except OSError as error:
        raise FileProblem(
            f"cannot copy {source} to {path}: {error.strerror}", "check the disk and the directory"
        ) from error
    finally:
        partial.unlink(missing_ok=True)
