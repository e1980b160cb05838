"""What a person types to name a model, told apart: quant, hub repository, file, model on a server.

A typing mistake in a quant is never taken for the name of a model on the server, because that
could only fail much later, or pick the wrong model.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from ollama_tools.devstral.catalog import close_matches, suggest
from ollama_tools.errors import UnknownReference

if TYPE_CHECKING:
    from ollama_tools.devstral.catalog import Catalog, Quant, Release

HUB = "hf.co"
"""The hub's name as Ollama spells it in the names of pulled models."""

_MAX_CHARACTERS = 300
_MAIN = "main"
_TYPO_CUTOFF = 0.75
"""Similarity from which a bare word is a mistyped quant rather than a model on the server."""

_WEB_ADDRESS = re.compile(r"https?://", re.IGNORECASE)
_HUB_PREFIX = re.compile(
    r"(?:https?://)?(?:www\.)?(?:hf\.co|huggingface\.co)(?:/|$)", re.IGNORECASE
)
_HUB_ADDRESS = re.compile(
    r"(?P<repository>[\w-][\w.-]*/[\w-][\w.-]*)"
    r"(?:@(?P<revision>[\w.-]+)|/(?:blob|resolve|tree)/(?P<web_revision>[\w.-]+)(?:/(?P<file>[^:]+))?)?"
    r"/?(?::(?P<tag>[\w./-]+))?",
    re.ASCII,
)
_SHOWN_FILE = re.compile(r"[?&]show_file_info=([^&]+)")
_SERVER_NAME = re.compile(
    r"(?:[\w.-]+(?::\d+)?/)?(?:\w[\w.-]*/)*\w[\w.-]*(?::\w[\w.-]*)?", re.ASCII
)
_QUANT_SHAPE = re.compile(r"(?:UD-)?(?:I?Q\d|BF16|F16|F32|TQ\d|MXFP)", re.IGNORECASE)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.IGNORECASE)
_VERSION = re.compile(r"\d+\.\d+")
_RELEASE_SHAPE = re.compile(r"(?:(?:devstral-)?small-)?\d{4}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class QuantReference:
    """A quant of a release in the catalog.

    Attributes:
        release: The release.
        quant: The quant.
        sha256: Hex digest that the file must have as published; None where nobody pinned it.
    """

    release: Release
    quant: Quant
    sha256: str | None = None

    def __str__(self) -> str:
        return f"{self.release.slug}:{self.quant.name}"

    @property
    def pull_name(self) -> str:
        """The name under which an Ollama server pulls it from the hub."""
        return f"{HUB}/{self.release.repository}:{self.quant.name}"


@dataclass(frozen=True, slots=True)
class HubReference:
    """A GGUF in any repository of the hub.

    Attributes:
        repository: `owner/name`.
        tag: Quant or file name; None leaves the choice to the hub.
        revision: Commit, branch or tag of the repository; None for its main branch. An Ollama
            server cannot pull a revision: such a file has to be downloaded and uploaded.
        release: The release that it looks like by its name; None where the name says nothing.
        sha256: Hex digest that the file must have as published; None where nobody pinned it.
    """

    repository: str
    tag: str | None
    revision: str | None
    release: Release | None
    sha256: str | None = None

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        tag = f":{self.tag}" if self.tag else ""
        return f"{HUB}/{self.repository}{revision}{tag}"

    @property
    def pull_name(self) -> str:
        """The name under which an Ollama server pulls it from the hub; leaves out the revision."""
        return f"{HUB}/{self.repository}:{self.tag or 'latest'}"


@dataclass(frozen=True, slots=True)
class FileReference:
    """A GGUF on this machine; whether it exists has not been looked at.

    Attributes:
        path: Where it lies.
        sha256: Hex digest that it must have; None where nobody pinned it.
    """

    path: Path
    sha256: str | None = None

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, slots=True)
class ServerReference:
    """The name of a model on a server; only the server knows whether it exists."""

    name: str

    def __str__(self) -> str:
        return self.name


Reference = QuantReference | HubReference | FileReference | ServerReference


_EXAMPLES = (
    "UD-Q4_K_XL",
    "2507",
    "2505:Q4_K_M",
    "hf.co/unsloth/Devstral-Small-2507-GGUF:Q8_0",
    "./my-tune.gguf",
    "my-devstral:latest",
)


def parse_reference(text: str, catalog: Catalog) -> Reference:
    """Find out what a person means.

    Args:
        text: What was typed; white space around it does not count.
        catalog: The known releases.

    Returns:
        What it names. Only a `QuantReference` is sure to exist; the others are well-formed.

    Raises:
        UnknownReference: It can name nothing: malformed, or a quant that does not exist.
    """
    text = text.strip()
    if not text:
        _refuse("an empty reference names no model")
    if len(text) > _MAX_CHARACTERS:
        _refuse(f"a reference of {len(text)} characters names no model")
    if not text.isprintable():
        _refuse(f"{text!r} contains control characters")

    text, pinned, digest = text.partition("@sha256:")
    if not pinned:
        return _parse(text, catalog)
    if not _SHA256.fullmatch(digest):
        raise UnknownReference(
            f"{digest[:80]!r} is no SHA-256", "write all of its 64 digits from 0 to f"
        )
    reference = _parse(text, catalog)
    if isinstance(reference, ServerReference):
        raise UnknownReference(
            f"{text!r} names no file that could be pinned", "pin a quant, a hub reference or a file"
        )
    return replace(reference, sha256=digest.lower())


def _parse(text: str, catalog: Catalog) -> Reference:
    if prefix := _HUB_PREFIX.match(text):
        return _parse_hub(text, text[prefix.end() :], catalog)
    if _WEB_ADDRESS.match(text):
        _refuse(f"{text!r} is not an address on {HUB}")
    if catalog.find_by_repository(re.split("[@:]", text, maxsplit=1)[0]):
        return _parse_hub(text, text, catalog)
    if text.startswith(("/", "./", "../", "~")) or text.lower().endswith(".gguf"):
        return _parse_file(text)
    return _parse_name(text, catalog)


def guess_release(text: str, catalog: Catalog) -> Release | None:
    """Guess the release from the name of a repository or file.

    Args:
        text: The name, such as `me/my-devstral-2505-GGUF`.
        catalog: The known releases.

    Returns:
        The release whose longest name or alias stands in the text as a whole word; None where none
        does, or where the text does not speak of Devstral: other families count months too.
    """
    if "devstral" not in text.lower():
        return None
    found = [
        # Between aliases of one length, "123b" says more than a month that two releases share.
        ((len(name), not name.isdigit()), release)
        for release in catalog.releases
        for name in release.names
        # A version alone, such as 1.1, may well be that of somebody's fine-tune.
        if not _VERSION.fullmatch(name)
        and re.search(rf"(?<![a-z0-9]){re.escape(name)}(?![a-z0-9])", text, re.IGNORECASE)
    ]
    return max(found, key=lambda candidate: candidate[0])[1] if found else None


def _parse_hub(text: str, address: str, catalog: Catalog) -> QuantReference | HubReference:
    shown = _SHOWN_FILE.search(address)
    match = _HUB_ADDRESS.fullmatch(re.split("[?#]", address, maxsplit=1)[0])
    if not match or ".." in address:
        _refuse(f"{text!r} names no repository on the hub")
    repository = match["repository"]
    revision = match["revision"] or match["web_revision"]
    revision = None if revision == _MAIN else revision
    tag = match["tag"] or match["file"] or (shown[1] if shown else None)

    release = catalog.find_by_repository(repository)
    if release is None:
        for known in catalog.releases:
            if known.origin.lower() == repository.lower():
                raise UnknownReference(f"{repository} holds no GGUF", f"use {known.slug}")
        guess = guess_release(f"{repository} {tag or ''}", catalog)
        return HubReference(repository, tag, revision, guess)
    quant = _quant_of_file(release, tag) or release.quant(tag)
    if revision is None:
        return QuantReference(release, quant)
    return HubReference(release.repository, quant.name, revision, release)


def _quant_of_file(release: Release, filename: str | None) -> Quant | None:
    if filename is None:
        return None
    return next((quant for quant in release.quants if fnmatchcase(filename, quant.filename)), None)


def _parse_file(text: str) -> FileReference:
    if not text.lower().endswith(".gguf"):
        _refuse(f"{text!r} looks like a path, but not like one of a GGUF file")
    try:
        return FileReference(Path(text).expanduser())
    except RuntimeError:
        _refuse(f"{text!r} begins with a user who is not known here")


def _parse_name(text: str, catalog: Catalog) -> QuantReference | ServerReference:
    head, colon, tag = text.partition(":")
    if release := catalog.find_release(head):
        if colon and not tag:
            _refuse(f"{text!r} ends where the quant should follow")
        return QuantReference(release, release.quant(tag or None))
    if quant := catalog.default.find_quant(text):
        return QuantReference(catalog.default, quant)

    quants = [quant.name for quant in catalog.default.quants]
    is_bare = not colon and "/" not in text
    if is_bare and (_QUANT_SHAPE.match(text) or close_matches(text, quants, _TYPO_CUTOFF)):
        raise UnknownReference(
            f"{text!r} is no quant of {catalog.default.name}", suggest(text, quants)
        )
    if _RELEASE_SHAPE.fullmatch(head):
        # Nothing is found here any more; this words the refusal.
        catalog.release(head)
    if not _SERVER_NAME.fullmatch(text) or ".." in text:
        _refuse(f"{text!r} names no model")
    return ServerReference(text)


def _refuse(what: str) -> NoReturn:
    forms = ", ".join(_EXAMPLES)
    raise UnknownReference(what, f"write it like one of: {forms}")
