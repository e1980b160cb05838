"""Whether a model shall see images, and by which projector, as far as wish and source tell."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ollama_tools.devstral.catalog import Release
from ollama_tools.errors import FileProblem, UsageError
from ollama_tools.files.projectors import projector_beside
from ollama_tools.wanted.source import FileSource, HubSource, ServerSource, Source
from ollama_tools.wanted.wish import Wish


@dataclass(frozen=True, slots=True)
class Sight:
    """Whether a model sees images, and how.

    Attributes:
        source: The source, with what of it is wanted.
        vision: Whether it shall see images; None where it shall if a projector is published beside
            its weights, which nobody has been asked yet.
        projector: The projector on this machine that it shall have; None for the source's own.
    """

    source: Source
    vision: bool | None
    projector: Path | None = None


def check_vision(wish: Wish) -> None:
    """Refuse what can be refused of a wish for vision before anything is asked.

    Raises:
        UsageError: It contradicts itself.
        FileProblem: There is no such projector.
    """
    if wish.projector is None:
        return
    if wish.vision is False:
        raise UsageError(
            "without vision there is no use for a projector", "leave out --no-vision or --projector"
        )
    if not Path(wish.projector).is_file():
        raise FileProblem(f"there is no file {str(wish.projector)!r}", "check the path")


def is_wanted(wish: Wish, release: Release) -> bool:
    """Whether a model shall see images; where nobody says it, the release decides."""
    if wish.projector is not None:
        return True
    return release.vision if wish.vision is None else wish.vision


def settle(wish: Wish, release: Release, source: Source, *, asks_hub: bool) -> Sight:
    """What a wish means for a source; nobody is asked, and no more than headers are read.

    Where nobody says it, the release decides: those in which vision is built get the projector
    where there is one, the others do not.

    Args:
        wish: The wish.
        release: The Devstral whose format holds.
        source: Where the weights come from, with all that a server tells of it.
        asks_hub: Whether the hub is who says what is published, and no mirror of it.

    Raises:
        UsageError: It cannot see images, or cannot be kept from it.
        FileProblem: A file cannot be read.
    """
    named = Path(wish.projector) if wish.projector is not None else None
    wanted = is_wanted(wish, release)
    match source:
        case ServerSource():
            return _on_server(wish, source, named, wanted=wanted)
        case FileSource(path=path):
            found = (named or projector_beside(path)) if wanted else None
            if wanted and found is None and wish.vision:
                raise UsageError(
                    f"there is no projector beside {path}, with which a model sees images",
                    "put its mmproj file there, name it by --projector FILE, or leave out --vision",
                )
            return Sight(source, found is not None, found)
        case HubSource(repository=repository):
            is_known = repository.casefold() == release.repository.casefold() and asks_hub
            # Elsewhere what is published may have no projector, and then that is no fault.
            unsettled = wanted and named is None and not wish.vision and not is_known
            return Sight(source, None if unsettled else wanted, named)
    raise TypeError(f"nothing tells whether a {type(source).__name__} sees images")


def _on_server(wish: Wish, source: ServerSource, named: Path | None, *, wanted: bool) -> Sight:
    bare = tuple(each for each in source.digests if each not in source.projectors)
    if source.sees and not source.projectors:
        if not wanted and wish.vision is False:
            raise UsageError(
                f"{source.name} sees images by its weights themselves, and by no projector that "
                "could be left out",
                "leave out --no-vision, or name weights that see none",
            )
        if named is None:
            return Sight(source, vision=True)
    if named is not None:
        return Sight(replace(source, digests=bare), vision=True, projector=named)
    if wanted and source.projectors:
        return Sight(source, vision=True)
    if wish.vision:
        raise UsageError(
            f"{source.name} has no projector, with which a model sees images",
            "name one by --projector FILE, or leave out --vision",
        )
    return Sight(replace(source, digests=bare), vision=False)
