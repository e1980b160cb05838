"""What is published under a source's name, and by whom: the hub, or a mirror of it.

Where a person names a mirror, it alone is asked: a network that has one may not reach the hub, or
not be meant to.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from ollama_tools.devstral.catalog_file import load_catalog
from ollama_tools.devstral.reference import HUB, guess_release
from ollama_tools.errors import HubError, UsageError
from ollama_tools.files import hub, registry
from ollama_tools.files import remembered as state
from ollama_tools.files.digests import short_digest
from ollama_tools.files.projectors import projector_names
from ollama_tools.progress import Progress
from ollama_tools.server.origin import Origin
from ollama_tools.server.shown import Shown
from ollama_tools.wanted.draft import RegistryAddress
from ollama_tools.wanted.source import HubSource
from ollama_tools.wanted.wish import Via

_PART = re.compile(r"-\d{5}-of-(\d{5})(\.gguf)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Publication:
    """A file as it is published now.

    Attributes:
        sha256: Hex digest; None where nobody says it.
        commit: The commit that last changed it; None where nobody says it.
        since: When that was.
    """

    sha256: str | None
    commit: str | None = None
    since: datetime | None = None


class Publisher(ABC):
    """Who says what is published."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    @property
    @abstractmethod
    def label(self) -> str:
        """Who it is, in words."""

    @abstractmethod
    def sha256(self, source: HubSource) -> str | None:
        """Hex digest of the file that has a source's name now, or had on its branch or commit.

        Raises:
            HubError: It does not say it.
        """

    @abstractmethod
    def newest(self, source: HubSource) -> Publication:
        """The file that has a source's name now, and since when.

        Raises:
            HubError: It does not say it.
        """

    @abstractmethod
    def of_commit(self, source: HubSource) -> str | None:
        """Hex digest of a source's file in its commit, asked for once; None where it cannot know.

        Raises:
            HubError: It does not say it.
        """

    def manifest(self, source: HubSource) -> registry.Manifest | None:
        """What a server would have after a pull; None where nobody can say."""
        del source
        return None

    @abstractmethod
    def projectors(self, source: HubSource) -> tuple[str, ...]:
        """``sha256:…`` of the projectors that are published beside a source's file now.

        Raises:
            HubError: It does not say it.
        """

    @abstractmethod
    def size(self, source: HubSource) -> int | None:
        """Bytes of the file that has a source's name; None where it does not say it."""

    def refuse_commit(self, source: HubSource) -> UsageError:
        """Why a commit cannot be held to."""
        return UsageError(
            f"{self.label} cannot say which file {source} was in the commit "
            f"{(source.commit or '')[:12]}",
            f"pin the file by its digest, as {source.tag}@sha256:…, or take it from the hub with "
            "--via upload",
        )


class Hub(Publisher):
    """The Hugging Face hub itself."""

    label = "the hub"

    def sha256(self, source: HubSource) -> str | None:
        """See :class:`Publisher`."""
        return hub_facts(source, self._progress)[1].sha256

    def newest(self, source: HubSource) -> Publication:
        """See :class:`Publisher`."""
        file, facts = hub_facts(source, self._progress)
        commit, since = hub.last_change(file)
        return Publication(facts.sha256, commit, since)

    def of_commit(self, source: HubSource) -> str | None:
        """See :class:`Publisher`."""
        if known := _remembered(source):
            return known
        sha256 = self.sha256(source)
        if sha256:
            state.remember_digest(*_commit_key(source), sha256)
        return sha256

    def projectors(self, source: HubSource) -> tuple[str, ...]:
        """See :class:`Publisher`."""
        names = projector_names(hub.gguf_files(source.repository, source.revision))
        files = (hub.HubFile(source.repository, name, source.revision) for name in names)
        return tuple(f"sha256:{sha256}" for each in files if (sha256 := hub.facts(each).sha256))

    def size(self, source: HubSource) -> int | None:
        """See :class:`Publisher`."""
        with suppress(HubError, UsageError):
            return hub_facts(source, self._progress)[1].bytes
        return None


class Mirror(Publisher):
    """A registry that servers pull from instead."""

    def __init__(self, where: RegistryAddress, progress: Progress) -> None:
        super().__init__(progress)
        self._where = where

    @property
    def label(self) -> str:
        """See :class:`Publisher`."""
        return f"the mirror {self._where.host}"

    def sha256(self, source: HubSource) -> str | None:
        """See :class:`Publisher`."""
        return self.newest(source).sha256

    def newest(self, source: HubSource) -> Publication:
        """See :class:`Publisher`."""
        found = self._manifest(source).weights
        return Publication(found[0].removeprefix("sha256:") if found else None)

    def of_commit(self, source: HubSource) -> str | None:
        """See :class:`Publisher`."""
        return _remembered(source)

    def manifest(self, source: HubSource) -> registry.Manifest | None:
        """See :class:`Publisher`."""
        with suppress(HubError):
            found = self._manifest(source)
            return found if found.weights else None
        return None

    def projectors(self, source: HubSource) -> tuple[str, ...]:
        """See :class:`Publisher`."""
        return self._manifest(source).projectors

    def size(self, source: HubSource) -> int | None:
        """See :class:`Publisher`."""
        with suppress(HubError):
            return self._manifest(source).bytes or None
        return None

    def _manifest(self, source: HubSource) -> registry.Manifest:
        self._progress.step(f"asking {self.label} for {source}")
        return registry.Registry(self._where.url).manifest(source.repository, source.tag)


def publisher(via: Via, where: RegistryAddress, progress: Progress) -> Publisher:
    """Who is asked: whoever the bytes would come from."""
    if via is Via.SERVER and not where.is_hub:
        return Mirror(where, progress)
    return Hub(progress)


def _commit_key(source: HubSource) -> tuple[str, list[str]]:
    return f"{source} at {source.commit}", ["published"]


def _remembered(source: HubSource) -> str | None:
    return state.remembered_digest(*_commit_key(source))


def hub_facts(source: HubSource, progress: Progress) -> tuple[hub.HubFile, hub.HubFileFacts]:
    """A source's file and what the hub says of it; warns where its cache had to say it.

    Raises:
        HubError: The hub does not say it.
        UsageError: The repository has no such file.
    """
    progress.step(f"asking the hub for {source}")
    file = hub.HubFile(source.repository, _filename(source), source.revision)
    facts = hub.facts(file)
    if facts.away:
        progress.warn(f"{facts.away}: {source} is what the cache on this machine has")
    return file, facts


def hub_beginning(source: HubSource, count: int, progress: Progress) -> tuple[bytes, int]:
    """The first bytes of a source's file, and the size of the whole.

    Raises:
        HubError: The hub does not give it.
        UsageError: The repository has no such file.
    """
    progress.step(f"asking the hub for the header of {source}")
    return hub.beginning(hub.HubFile(source.repository, _filename(source), source.revision), count)


def hub_license(source: HubSource, progress: Progress) -> str:
    """The license that the hub's registry puts beside a quant; empty where it has none.

    By upload nothing else would bring it. It is no reason for a model not to be made.
    """
    where = registry.Registry(hub.endpoint(), hub.headers())
    try:
        try:
            licenses = where.manifest(source.repository, source.tag).licenses
        except registry.NotInRegistry:
            return ""
        return "\n".join(where.text(source.repository, each) for each in licenses)
    except HubError as error:
        progress.warn(f"{source} is made without the license of its weights: {error.what}")
        return ""


def _filename(source: HubSource) -> str:
    """The name of the source's GGUF in its repository."""
    first, *others = filenames(source)
    if others:
        raise UsageError(
            f"{source.repository}:{source.tag} is split into several files, which Ollama cannot "
            "take from the hub",
            f"devstral-ollama download {HUB}/{source} --dir DIR, then create from its first file",
        )
    return first


def filenames(source: HubSource) -> tuple[str, ...]:
    """The names of a source's files in its repository: one, or all parts of a split one in order.

    Raises:
        HubError: The hub does not say it.
        UsageError: The repository has no such file, or not all parts of it.
    """
    if source.filename is not None and "*" not in source.filename:
        return (source.filename,)
    names = hub.gguf_files(source.repository, source.revision)
    found = [name for name in names if _is_quant(name, source.tag)]
    if len(found) == 1:
        return tuple(found)
    parts = sorted(name for name in names if _is_quant(_PART.sub(r"\2", name), source.tag))
    if match := _PART.search(parts[0] if parts else ""):
        if len(parts) == int(match[1]):
            return tuple(parts)
        raise UsageError(
            f"{source.repository} has {len(parts)} of the {int(match[1])} parts of {source.tag}",
            "choose another quant, or wait until its owner has uploaded all",
        )
    raise UsageError(
        f"{source.repository} has no GGUF for {source.tag!r}",
        "it has: " + ", ".join(sorted(names)[:30]) if names else _gguf_elsewhere(source.repository),
    )


def projector_name(source: HubSource) -> str:
    """The name of the file with which a source's models see images.

    Raises:
        HubError: The hub does not say it.
        UsageError: The repository has none.
    """
    found = projector_names(hub.gguf_files(source.repository, source.revision))
    if not found:
        raise UsageError(
            f"{source.repository} has no projector, with which a model sees images",
            "leave out --vision, or take a repository that has an mmproj file",
        )
    return found[0]


def _gguf_elsewhere(repository: str) -> str:
    """What to take instead of a repository whose weights are for training or other engines."""
    catalog = load_catalog()
    release = guess_release(repository, catalog) or catalog.default
    return f"it has no GGUF at all: use {release.slug}, from {release.repository}"


def _is_quant(file: str, tag: str) -> bool:
    """Whether a file's name says that it is a quant."""
    stem, wanted = PurePosixPath(file).stem.casefold(), tag.casefold()
    return stem == wanted or stem.endswith(f"-{wanted}")


def is_of_source(origin: Origin, source: HubSource) -> bool:
    """Whether weights came from a quant's file, of whatever commit."""
    if (origin.repository or "").casefold() != source.repository.casefold():
        return False
    if origin.file is None:
        return (origin.tag or "").casefold() == source.tag.casefold()
    if source.filename is not None:
        return fnmatchcase(PurePosixPath(origin.file).name, PurePosixPath(source.filename).name)
    return _is_quant(origin.file, source.tag)


def meets_pin(shown: Shown, source: HubSource, publisher: Publisher) -> bool:
    """Whether weights are those that a person pinned by digest or commit; true where none did.

    Raises:
        HubError: Somebody has to say which file a commit has, and does not.
        UsageError: Nobody can.
    """
    origin = shown.origin
    published = origin.sha256 if origin else None
    if source.sha256 is not None and published != source.sha256:
        return False
    if source.commit is None or (origin is not None and origin.commit == source.commit):
        return True
    known = publisher.of_commit(source)
    if known is None and source.sha256 is None:
        raise publisher.refuse_commit(source)
    # A digest tells more than a commit, so it decides where nobody knows the commit.
    return known is None or published == known


def require_pinned(source: HubSource, sha256: str | None, label: str, where: str) -> None:
    """Refuse a file that is not the pinned one.

    Raises:
        HubError: It is another.
    """
    if source.sha256 is not None and sha256 != source.sha256:
        raise HubError(
            f"{label} has the sha256 {short_digest(sha256 or 'unknown')}… at {where}, not the "
            f"pinned {short_digest(source.sha256)}…",
            "pin a commit that has it with --revision, or pin what is there now",
        )
