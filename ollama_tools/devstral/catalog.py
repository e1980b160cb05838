"""The catalog: what is known about each published Devstral, every fact with its source.

The facts live in `modelfiles/catalog.yaml`; :mod:`ollama_tools.devstral.catalog_file` reads it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, TypedDict

from ollama_tools.errors import UnknownReference
from ollama_tools.files.architecture import Architecture
from ollama_tools.progress import size_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


class TokenizerVersion(StrEnum):
    """Mistral's tokenizer version, which decides the prompt format."""

    V7 = "v7"
    V13 = "v13"


class QuantJson(TypedDict):
    """One GGUF of a release."""

    name: str
    bytes: int
    estimated: bool
    file: Annotated[str, "Path inside the repository; a glob pattern where the file is split."]
    split: bool


@dataclass(frozen=True, slots=True)
class Quant:
    """One GGUF of a release.

    Attributes:
        name: Name as published, such as `UD-Q4_K_XL`; also the tag on the hub.
        filename: Path inside the repository; a glob pattern where the file is split.
        bytes: Size of the file, of all parts together where it is split.
        estimated: Whether the size is not known to the byte.
        split: Whether the file comes in parts.
        source: Where the size comes from.
    """

    name: str
    filename: str
    bytes: int
    estimated: bool
    split: bool
    source: str

    @property
    def size_text(self) -> str:
        """The size as a person reads it: ``13.3 GiB``, ``about 12.5 GiB``."""
        return size_text(self.bytes, estimated=self.estimated)

    def as_json(self) -> QuantJson:
        """The quant as ``quants --json`` prints it."""
        return {
            "name": self.name,
            "bytes": self.bytes,
            "estimated": self.estimated,
            "file": self.filename,
            "split": self.split,
        }


@dataclass(frozen=True, slots=True)
class SystemPromptFile:
    """The system prompt that a release was published with.

    Attributes:
        repository: Repository on the hub.
        filename: Path inside the repository.
        sha256: Hash of the text without its final newline.
        bytes: Length of the text without its final newline.
        source: How the figures were obtained.
    """

    repository: str
    filename: str
    sha256: str
    bytes: int
    source: str


@dataclass(frozen=True, slots=True)
class Release:
    """One published Devstral.

    Attributes:
        name: Name as published, such as `Devstral-Small-2507`.
        aliases: Short names for it.
        repository: Hub repository of its GGUFs.
        origin: Hub repository of the publisher.
        tokenizer: Tokenizer version.
        architecture: Shape of the model.
        parameters: Recommended sampling parameters, in the order in which to print them.
        parameters_source: Where the recommendation comes from.
        default_context: Tokens of context where nothing else is asked for.
        minimum_server: Oldest Ollama that serves it properly.
        default_quant: Name of the quant where none is asked for.
        system_prompt: The published system prompt; None where there is none on record.
        quants: Its quants, smallest first.
        source: Where the release is published.
        vision: Whether its models see images where nobody says it: the projector is brought along.
        parameter_places: Where each parameter stands, as ``path:line``, for whoever has to refuse
            one; empty for a release that no file tells of.
    """

    name: str
    aliases: tuple[str, ...]
    repository: str
    origin: str
    tokenizer: TokenizerVersion
    architecture: Architecture
    parameters: Mapping[str, int | float] = field(hash=False)
    parameters_source: str
    default_context: int
    minimum_server: str
    default_quant: str
    system_prompt: SystemPromptFile | None
    quants: tuple[Quant, ...]
    source: str
    vision: bool = False
    parameter_places: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    @property
    def slug(self) -> str:
        """The model's name on an Ollama server, such as `devstral-small-2507`."""
        return self.name.lower()

    @property
    def names(self) -> tuple[str, ...]:
        """Everything that a person may call it, the full name first."""
        return (self.name, *self.aliases)

    def find_quant(self, name: str) -> Quant | None:
        """Look a quant up by name, in any case of letters; None where there is none."""
        wanted = name.lower()
        return next((quant for quant in self.quants if quant.name.lower() == wanted), None)

    def quant(self, name: str | None = None) -> Quant:
        """Look a quant up by name.

        Args:
            name: The quant's name in any case of letters; None for the default.

        Returns:
            The quant.

        Raises:
            UnknownReference: The release has no such quant.
        """
        wanted = self.default_quant if name is None else name
        found = self.find_quant(wanted)
        if found is None:
            names = [quant.name for quant in self.quants]
            raise UnknownReference(f"{self.name} has no quant {wanted!r}", suggest(wanted, names))
        return found


@dataclass(frozen=True, slots=True)
class Catalog:
    """All releases.

    Attributes:
        releases: In the order of the file.
        default: The release that is meant where none is named.
    """

    releases: tuple[Release, ...]
    default: Release

    def find_release(self, name: str) -> Release | None:
        """Look a release up by name or alias, in any case of letters; None where there is none."""
        return self._find(lambda release: release.names, name)

    def find_by_repository(self, repository: str) -> Release | None:
        """Look a release up by its GGUF repository, in any case of letters."""
        return self._find(lambda release: (release.repository,), repository)

    def release(self, name: str) -> Release:
        """Look a release up by name or alias.

        Args:
            name: Name or alias in any case of letters.

        Returns:
            The release.

        Raises:
            UnknownReference: The catalog has no such release.
        """
        found = self.find_release(name)
        if found is None:
            names = [known for release in self.releases for known in release.names]
            raise UnknownReference(f"there is no release {name!r}", suggest(name, names))
        return found

    def _find(self, names: Callable[[Release], Iterable[str]], name: str) -> Release | None:
        wanted = name.lower()
        return next(
            (release for release in self.releases if wanted in map(str.lower, names(release))), None
        )


def close_matches(word: str, names: Iterable[str], cutoff: float = 0.6) -> list[str]:
    """Find the names that a mistyped word may have meant.

    Args:
        word: What was typed.
        names: What could have been typed.
        cutoff: Similarity from 0 to 1 below which a name does not count.

    Returns:
        At most three names, the most similar first; letter case and punctuation do not count.
    """
    # Imported here: most runs meet no typing mistake.
    from difflib import get_close_matches

    by_letters: dict[str, str] = {}
    for name in names:
        by_letters.setdefault(_letters(name), name)
    return [by_letters[hit] for hit in get_close_matches(_letters(word), by_letters, 3, cutoff)]


def suggest(word: str, names: Iterable[str]) -> str:
    """Word the advice for a mistyped name: the closest names, or all of them."""
    known = tuple(names)
    close = close_matches(word, known)
    return f"did you mean {' or '.join(close)}?" if close else f"known are {', '.join(known)}"


def _letters(name: str) -> str:
    return re.sub(r"[^A-Z0-9]", "", name.upper())
