"""Where a model's weights come from: one interface, whatever a person named."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from ollama_tools.devstral.catalog_file import load_catalog
from ollama_tools.devstral.reference import (
    FileReference,
    HubReference,
    QuantReference,
    Reference,
    ServerReference,
    explain_library_name,
)
from ollama_tools.errors import FileProblem, ModelNotFound, UsageError
from ollama_tools.files import gguf_rewrite
from ollama_tools.files import remembered as state
from ollama_tools.files.digests import short_digest
from ollama_tools.files.gguf_rewrite import AS_IT_IS, Rewriting
from ollama_tools.progress import Progress
from ollama_tools.server.client import InstalledModel, Server, find_model
from ollama_tools.wanted.wish import Via, Wish

_COMMIT = re.compile(r"[0-9a-f]{40}")


class Source(ABC):
    """Weights that a person named.

    How they are brought to a server is for :class:`ollama_tools.model.bring.Way` to say, which has
    a class for each of these.

    Attributes:
        stood_beside_weights: Whether builds before 0.2 had their weights in their mark beside the
            earlier identity.
    """

    __slots__ = ()
    stood_beside_weights: ClassVar[bool] = False

    @property
    @abstractmethod
    def identity(self) -> str:
        """What tells this source from others, wherever the bytes come from; part of a mark."""

    @property
    def earlier_identity(self) -> str | None:
        """The same before 0.2; None where nobody can know it."""
        return self.identity

    @property
    @abstractmethod
    def label(self) -> str:
        """What tells the weights from others of their release, for people."""

    @abstractmethod
    def origin(self, registry: str) -> str:
        """What ``FROM`` says in a Modelfile.

        Args:
            registry: Host of the registry that a server pulls from.
        """

    def pulled_from(self, registry: str) -> str | None:
        """The name that a pull from a registry leaves on a server; None where none is pulled."""
        del registry
        return None

    @property
    def branch(self) -> str | None:
        """The revision that may mean another file tomorrow; None where there is no such."""
        return None

    @property
    def is_narrowed(self) -> bool:
        """Whether it is said which file of its name it must be, by a revision or a digest."""
        return False

    @property
    def published(self) -> HubSource | None:
        """The quant as its repository has it now, nothing pinned; None where none has it."""
        return None

    @abstractmethod
    def passes_here(self, via: Via) -> bool:
        """Whether the bytes pass through this machine, so that a template can be put into them."""

    def found(
        self,
        server: Server,
        models: Sequence[InstalledModel],
        progress: Progress,
        rewriting: Rewriting = AS_IT_IS,
    ) -> Source:
        """The same, with all that this machine and a server can tell of it.

        Args:
            server: The server.
            models: Its models.
            progress: Hears of the hashing of a file that is pinned.
            rewriting: What such a file may be sent with; the digest of what is sent is then found
                out on the way.

        Raises:
            UsageError: The name says too little.
            ModelNotFound: The server has no such model.
            FileProblem: A file cannot be read, or is not the pinned one.
        """
        del server, models, progress, rewriting
        return self


@dataclass(frozen=True, slots=True)
class HubSource(Source):
    """A quant in a repository on the hub.

    Attributes:
        repository: ``owner/name``.
        tag: The quant's name, as in ``hf.co/owner/name:tag``.
        filename: The GGUF's name in the repository, where it is known.
        revision: Branch, tag or commit; None for the default branch.
        bytes: Size of the file, where it is known or estimated.
        sha256: Hex digest that the file must have as published; None for whatever is there.
        estimated: Whether the size is not known to the byte.
    """

    repository: str
    tag: str
    filename: str | None = None
    revision: str | None = None
    bytes: int | None = None
    sha256: str | None = None
    estimated: bool = False

    @property
    def commit(self) -> str | None:
        """The revision where it is a commit, which can never mean another file."""
        return self.revision if _COMMIT.fullmatch(self.revision or "") else None

    @property
    def branch(self) -> str | None:
        """See :class:`Source`."""
        return None if self.commit else self.revision

    @property
    def identity(self) -> str:
        """See :class:`Source`.

        A commit or a digest only says which weights are right, and those are in the mark of a
        build by themselves.
        """
        return f"hub:{self.repository.casefold()}:{self.tag.casefold()}@{self.branch or ''}"

    @property
    def earlier_identity(self) -> str:
        """See :class:`Source`; a commit made a source of its own."""
        return f"hub:{self.repository.casefold()}:{self.tag.casefold()}@{self.revision or ''}"

    @property
    def label(self) -> str:
        """See :class:`Source`."""
        return self.tag

    def origin(self, registry: str) -> str:
        """See :class:`Source`."""
        return self.pulled_from(registry)

    def pulled_from(self, registry: str) -> str:
        """See :class:`Source`."""
        return f"{registry}/{self.repository}:{self.tag}"

    @property
    def is_narrowed(self) -> bool:
        """See :class:`Source`."""
        return self.revision is not None or self.sha256 is not None

    @property
    def published(self) -> HubSource:
        """See :class:`Source`."""
        return replace(self, revision=None, sha256=None)

    def passes_here(self, via: Via) -> bool:
        """See :class:`Source`."""
        return via is Via.UPLOAD

    def __str__(self) -> str:
        return f"{self.repository}:{self.tag}"


@dataclass(frozen=True, slots=True)
class FileSource(Source):
    """A GGUF on this machine.

    Attributes:
        path: Where it lies.
        sha256: Hex digest of the whole file, where it is known without reading it, or pinned.
    """

    stood_beside_weights = True
    path: Path
    sha256: str | None = None

    @property
    def identity(self) -> str:
        """See :class:`Source`.

        The weights are in the mark of a build by themselves, and a file is nothing else; its own
        digest would be a second one to find out where it is sent with another template.
        """
        return "file"

    @property
    def earlier_identity(self) -> str | None:
        """See :class:`Source`; it was the file's digest."""
        return None if self.sha256 is None else f"sha256:{self.sha256}"

    @property
    def is_narrowed(self) -> bool:
        """See :class:`Source`."""
        return self.sha256 is not None

    @property
    def label(self) -> str:
        """See :class:`Source`."""
        return self.path.name

    def origin(self, registry: str) -> str:
        """See :class:`Source`."""
        del registry
        return str(self.path)

    def passes_here(self, via: Via) -> bool:
        """See :class:`Source`."""
        del via
        return True

    def found(
        self,
        server: Server,
        models: Sequence[InstalledModel],
        progress: Progress,
        rewriting: Rewriting = AS_IT_IS,
    ) -> FileSource:
        """See :class:`Source`; a file is read only where somebody pinned it."""
        del server, models
        if self.sha256 is None:
            known = state.known_sha256(self.path)
            return replace(
                self, sha256=known if gguf_rewrite.parts(self.path) == (self.path,) else None
            )
        sha256 = gguf_rewrite.own_sha256(self.path, progress, rewriting)
        if self.sha256 != sha256:
            raise FileProblem(
                f"{self.path} has the sha256 {short_digest(sha256)}…, not the pinned "
                f"{short_digest(self.sha256)}…",
                "fetch it again",
            )
        return self

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, slots=True)
class ServerSource(Source):
    """The weights of a model that is on the server already.

    Attributes:
        name: The model's name there.
        digests: ``sha256:…`` of its GGUF blobs (weights, then projector or adapters) that are
            wanted; empty where no server was asked.
        projectors: Those of the model that are projectors.
        sees: Whether it sees images.
    """

    name: str
    digests: tuple[str, ...] = ()
    projectors: tuple[str, ...] = ()
    sees: bool = False

    @property
    def identity(self) -> str:
        """See :class:`Source`."""
        return " ".join(self.digests)

    @property
    def label(self) -> str:
        """See :class:`Source`."""
        return self.name

    def origin(self, registry: str) -> str:
        """See :class:`Source`."""
        del registry
        return self.name

    def passes_here(self, via: Via) -> bool:
        """See :class:`Source`."""
        del via
        return False

    def found(
        self,
        server: Server,
        models: Sequence[InstalledModel],
        progress: Progress,
        rewriting: Rewriting = AS_IT_IS,
    ) -> ServerSource:
        """See :class:`Source`."""
        del progress, rewriting
        explained = explain_library_name(self.name, load_catalog())
        if find_model(list(models), self.name) is None:
            if explained:
                raise ModelNotFound(f"{explained[0]}, and not on the server", explained[1])
            raise ModelNotFound(
                f"{self.name!r} is no quant, no file, and no model on the server",
                "see: devstral-ollama create --help, devstral-ollama list",
            )
        shown = server.show(self.name)
        if not shown.blobs and explained:
            raise UsageError(*explained)
        if not shown.blobs:
            raise FileProblem(f"the server does not say which weights {self.name!r} has")
        return replace(
            self, digests=shown.blobs, projectors=shown.projectors, sees=shown.sees_images
        )

    def __str__(self) -> str:
        return self.name


def named_source(reference: Reference, wish: Wish) -> Source:
    """The source that a person named, with what the name alone says.

    Args:
        reference: What names the weights.
        wish: What else was said.

    Raises:
        UsageError: No quant is named, or a revision where there can be none, or twice.
    """
    match reference:
        case QuantReference(release=release, quant=quant, sha256=pin):
            return HubSource(
                release.repository,
                quant.name,
                quant.filename,
                wish.revision,
                quant.bytes,
                pin,
                quant.estimated,
            )
        case HubReference(
            repository=repository, tag=tag, revision=revision, sha256=pin, filename=filename
        ):
            if tag is None:
                raise UsageError(
                    f"{wish.reference!r} names no quant", f"as in hf.co/{repository}:Q4_K_M"
                )
            if revision and wish.revision and revision != wish.revision:
                raise UsageError(
                    f"the revision is given twice: {revision} and {wish.revision}",
                    "give it once, by --revision",
                )
            name = Path(tag).name
            return HubSource(repository, name, filename, revision or wish.revision, None, pin)
        case FileReference(path=path, sha256=pin):
            _refuse_revision(wish)
            return FileSource(path, pin)
        case ServerReference(name=name):
            _refuse_revision(wish)
            return ServerSource(name)


def _refuse_revision(wish: Wish) -> None:
    if wish.revision is not None:
        raise UsageError(
            f"{wish.reference!r} is no repository that could have a revision",
            "leave out --revision",
        )
