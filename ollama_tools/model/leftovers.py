"""What runs that were stopped, failed or overtaken have left behind, and how it goes.

A build owns its leftovers: whoever removes the builds of a name finds them by its name. Nothing is
taken for a leftover only because of how it is called; a build whose public name is gone must be one
that this package made.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypedDict

from ollama_tools.devstral.carriers import Carrier
from ollama_tools.errors import ModelNotFound, NotOllama, ServerError, ServerUnreachable
from ollama_tools.files import hub
from ollama_tools.files import remembered as state
from ollama_tools.model.builds import SPARED, builds_of, moment, own_models, settled_models
from ollama_tools.model.steps import Run, Step, StepKind
from ollama_tools.server.client import InstalledModel, Server, find_model
from ollama_tools.server.names import Kind, own_name, public_name, same_name
from ollama_tools.server.origin import parse_origin
from ollama_tools.server.process import find_server_process

_WRITTEN_SECONDS = 60.0
"""Age from which a manifest without content is not one that is just being written."""


class LeftoverKind(StrEnum):
    """What a leftover was."""

    FAILED = "failed"
    TRIAL = "trial"
    ORPHAN = "orphan"
    MARK = "mark"
    BASE = "base"
    BROKEN = "broken"
    DOWNLOAD = "download"
    TEMPORARY = "temporary"


_WHY = {
    LeftoverKind.FAILED: "failed its checks, and is kept to be looked at",
    LeftoverKind.TRIAL: "was being made when a run was stopped",
    LeftoverKind.ORPHAN: "a build whose public name is gone",
    LeftoverKind.MARK: "says whether and when a build served that is gone",
    LeftoverKind.BASE: "was pulled for a build, by a run that was stopped",
    LeftoverKind.BROKEN: "has a manifest without content, from a server that was stopped",
    LeftoverKind.DOWNLOAD: "a download that was broken off",
    LeftoverKind.TEMPORARY: "a file of this package's memory that was never finished",
}


class LeftoverJson(TypedDict):
    """Something that nobody needs any more."""

    kind: str
    name: str
    model: Annotated[str | None, "The public name that it belongs to; null where to none."]
    why: str
    spared: bool


@dataclass(frozen=True, slots=True)
class Leftover:
    """Something that nobody needs any more.

    Attributes:
        kind: What it was.
        name: The model's name, or the path of a file.
        public: The public name that it belongs to; None where it belongs to none.
        bytes: Its size; None where it has none of its own, or the server does not say.
        spared: Whether it is left alone so far, since another run may be at it.
    """

    kind: LeftoverKind
    name: str
    public: str | None = None
    bytes: int | None = None
    spared: bool = False

    @property
    def why(self) -> str:
        """What it is, in words."""
        return "is being made" if self.spared else _WHY[self.kind]

    def as_json(self) -> LeftoverJson:
        """The leftover as JSON has it."""
        return {
            "kind": self.kind.value,
            "name": self.name,
            "model": self.public,
            "why": self.why,
            "spared": self.spared,
        }


@dataclass(frozen=True, slots=True)
class Removal:
    """What was removed of a model.

    Attributes:
        name: The public name.
        previous: The build that it stood for; None where it stood for none.
        names: Every name that is gone: the public one, builds, leftovers.
    """

    name: str
    previous: str | None
    names: tuple[str, ...]


@dataclass(frozen=True)
class RemoveLeftovers(Step):
    """Remove what runs of the same name that were stopped have left on the server."""

    kind = StepKind.REMOVE
    sign = "-"
    leftovers: tuple[Leftover, ...]

    @property
    def text(self) -> str:
        """See :class:`Step`."""
        return f"remove what is left over: {', '.join(each.name for each in self.leftovers)}"

    def run(self, run: Run) -> None:
        """See :class:`Step`."""
        for each in self.leftovers:
            remove_leftover(run.server, each)


def stopped_runs(
    server: Server, models: Sequence[InstalledModel], name: str, *, but: Sequence[str]
) -> list[Step]:
    """The step that removes what stopped runs left of a name; none where they left nothing.

    Args:
        server: The server.
        models: Its models.
        name: The public name.
        but: Names that another step removes.
    """
    kinds = (LeftoverKind.TRIAL, LeftoverKind.BASE, LeftoverKind.MARK)
    found = tuple(
        each
        for each in find_leftovers(server, models, name)
        if each.kind in kinds and not each.spared and each.name not in but
    )
    return [RemoveLeftovers(found)] if found else []


def find_leftovers(
    server: Server, models: Sequence[InstalledModel], name: str | None = None
) -> list[Leftover]:
    """What is left over on a server, and on this machine where it concerns all models.

    Args:
        server: The server.
        models: Its models.
        name: The public name whose leftovers are wanted; None for all there are.
    """
    found = [*_own(server, models), *_bases(server, models)]
    if name is not None:
        return [each for each in found if each.public and same_name(each.public, name)]
    return [*found, *_broken(server), *_downloads(), *_temporary()]


def remove_leftover(server: Server, leftover: Leftover) -> bool:
    """Remove one; it may be gone already.

    Returns:
        Whether it is gone: one that turns out to be needed stays.

    Raises:
        ServerError: It is still there.
    """
    match leftover.kind:
        case LeftoverKind.DOWNLOAD | LeftoverKind.TEMPORARY:
            Path(leftover.name).unlink(missing_ok=True)
        case LeftoverKind.BROKEN:
            _remove_broken(server, leftover.name)
        case LeftoverKind.ORPHAN if leftover.public and _is_there(server, leftover.public):
            # A switch only hid the name for a moment.
            return False
        case LeftoverKind.BASE:
            server.delete(leftover.name)
            state.forget_base(server.url, leftover.name)
        case _:
            server.delete(leftover.name)
    return True


def _is_there(server: Server, name: str) -> bool:
    """Whether a server has a model, though the list may lack it while it is being switched."""
    try:
        server.show(name)
    except ModelNotFound:
        return find_model(server.models_with(name), name) is not None
    except (ServerUnreachable, NotOllama):
        raise
    except ServerError:
        # It is being written, or has a hole: whichever it is, it is no name that is gone.
        return True
    return True


def remove_leftovers(server: Server, name: str | None, *, dry_run: bool = False) -> list[Leftover]:
    """Remove all leftovers but those that another run may be at.

    Args:
        server: The server.
        name: The public name whose leftovers go; None for all there are.
        dry_run: Only say what would be removed.

    Returns:
        What was removed.
    """
    models = settled_models(server)
    found = [each for each in find_leftovers(server, models, name) if not each.spared]
    return [each for each in found if dry_run or remove_leftover(server, each)]


def remove_model(server: Server, name: str, *, dry_run: bool = False) -> Removal:
    """Remove a model with its builds, leftovers and notes.

    Args:
        server: The server.
        name: The public name; that it is gone already is no error.
        dry_run: Only say what would be removed.

    Raises:
        UsageError: The name is none, or that of a build.
        ServerError: The server does not do its part.
    """
    public = public_name(name)
    models = server.models_with(public)
    current = find_model(models, public)
    builds = builds_of(models, public)
    previous = next((each.name for each in builds if each.serving), None)
    left = [
        each
        for each in (*_bases(server, models), *_broken(server))
        if each.public and same_name(each.public, public)
    ]
    beside = sorted(each.name for each, _ in own_models(models, public))
    names = [*([current.name] if current else []), *beside]
    if not dry_run:
        for each in names:
            server.delete(each)
        for leftover in left:
            remove_leftover(server, leftover)
    return Removal(public, previous, (*names, *(each.name for each in left)))


def _own(server: Server, models: Sequence[InstalledModel]) -> Iterator[Leftover]:
    there = list(models)
    for model in models:
        own = own_name(model.name)
        if own is None:
            continue
        match own.kind:
            case Kind.FAILED:
                yield Leftover(LeftoverKind.FAILED, model.name, own.public, model.bytes)
            case Kind.TRIAL:
                young = _is_young(model, server.now)
                yield Leftover(LeftoverKind.TRIAL, model.name, own.public, model.bytes, young)
            case Kind.SERVED | Kind.UNSERVED:
                if find_model(there, own.build) is None:
                    # A build's first mark is there before the build.
                    young = own.kind is Kind.UNSERVED and _is_young(model, server.now)
                    yield Leftover(LeftoverKind.MARK, model.name, own.public, None, young)
            case Kind.BUILD:
                if find_model(there, own.public) is None and _is_ours(model, server):
                    young = _is_young(model, server.now)
                    yield Leftover(LeftoverKind.ORPHAN, model.name, own.public, model.bytes, young)


def _is_young(model: InstalledModel, now: datetime) -> bool:
    """Whether a build may still be in another run's hands."""
    return moment(model.modified) > (now - SPARED).timestamp()


def _is_ours(model: InstalledModel, server: Server) -> bool:
    """Whether this package made a model, and not a person who likes such names.

    Before 0.2 a build's manifest told the name of a file, and no more.
    """
    if parse_origin(model.parent) is not None:
        return True
    try:
        shown = server.show(model.name)
    except ServerError:
        return False
    ours = shown.carrier in (Carrier.GGUF, Carrier.MODELFILE)
    return ours and model.parent.casefold().endswith(".gguf")


def _bases(server: Server, models: Sequence[InstalledModel]) -> Iterator[Leftover]:
    for base, public in state.noted_bases(server.url).items():
        found = find_model(list(models), base)
        if found is not None:
            yield Leftover(LeftoverKind.BASE, base, public, found.bytes)


def _broken(server: Server) -> Iterator[Leftover]:
    """Manifests that no answer of the server speaks of; they show on its own machine only."""
    for path, name in _manifests(server):
        try:
            age = datetime.now(UTC).timestamp() - path.stat().st_mtime
            if age > _WRITTEN_SECONDS and not _is_manifest(path):
                yield Leftover(LeftoverKind.BROKEN, name, _public(name))
        except OSError:
            continue


def _public(name: str) -> str:
    own = own_name(name)
    return own.public if own else name


def _is_manifest(path: Path) -> bool:
    try:
        return isinstance(json.loads(path.read_bytes()[: 1 << 20]), dict)
    except (ValueError, RecursionError):
        return False


def _manifests(server: Server) -> Iterator[tuple[Path, str]]:
    process = find_server_process(server.url)
    if process is None or process.models_directory is None:
        return
    root = process.seen(process.models_directory) / "manifests"
    try:
        found = sorted(root.glob("*/*/*/*"))
    except OSError:
        return
    for path in found:
        host, namespace, model, tag = path.parts[-4:]
        prefix = "" if host == "registry.ollama.ai" else f"{host}/"
        owner = "" if not prefix and namespace == "library" else f"{namespace}/"
        if path.is_file():
            yield path, f"{prefix}{owner}{model}:{tag}"


def _remove_broken(server: Server, name: str) -> None:
    """Remove a manifest that the server cannot read, and therefore not delete either (0.34.4).

    It is the one thing beside a public name that is written over: there is nothing in it.
    """
    whole = next((each.name for each in server.models() if not same_name(each.name, name)), None)
    if whole is not None:
        server.copy(whole, name)
        server.delete(name)
        return
    for path, found in _manifests(server):
        if found == name:
            path.unlink(missing_ok=True)


def _downloads() -> Iterator[Leftover]:
    for path in hub.broken_downloads():
        try:
            about = path.stat()
        except OSError:
            continue
        young = datetime.now(UTC).timestamp() - about.st_mtime < SPARED.total_seconds()
        yield Leftover(LeftoverKind.DOWNLOAD, str(path), None, about.st_size, young)


def _temporary() -> Iterator[Leftover]:
    for path in state.unfinished_files(SPARED.total_seconds()):
        yield Leftover(LeftoverKind.TEMPORARY, str(path))
