"""The models of a server, each public name with the builds that are kept for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, TypedDict

from ollama_tools.errors import ServerError
from ollama_tools.files.digests import short_digest
from ollama_tools.model.builds import Build, BuildJson, builds_of, settled_models, with_weights
from ollama_tools.model.leftovers import Leftover, find_leftovers
from ollama_tools.progress import size_text
from ollama_tools.server.client import InstalledModel, Server, shown_or_broken
from ollama_tools.server.names import own_name, same_name
from ollama_tools.server.origin import Origin, OriginJson
from ollama_tools.server.shown import Shown


class EntryJson(TypedDict):
    """One name on a server."""

    name: str
    digest: str
    bytes: int
    context: int | None
    carrier: str
    vision: Annotated[bool | None, "Whether it sees images; null where the server cannot show it."]
    loaded: bool
    weights: str | None
    origin: OriginJson | None
    builds: list[BuildJson]
    broken: Annotated[str | None, "Why the server cannot show it; null where it can."]


@dataclass(frozen=True, slots=True)
class Entry:
    """One name on a server.

    Attributes:
        name: The name.
        digest: The manifest's digest, shortened as the ollama command line does.
        bytes: Size of all layers.
        context: ``num_ctx`` in tokens; None where the server's default holds.
        carrier: Where its chat template lives; ``unreadable`` where the server cannot show it.
        vision: Whether it sees images; None where the server cannot show it.
        loaded: Whether it is in memory now.
        weights: ``sha256:…`` of the blob that holds its weights.
        origin: Where they came from; None where the manifest does not say.
        builds: The builds kept for the name.
        broken: Why the server cannot show it; empty where it can.
    """

    name: str
    digest: str
    bytes: int
    context: int | None
    carrier: str
    vision: bool | None
    loaded: bool
    weights: str | None
    origin: Origin | None
    builds: tuple[Build, ...]
    broken: str = ""

    def as_json(self) -> EntryJson:
        """The entry as JSON has it."""
        return {
            "name": self.name,
            "digest": self.digest,
            "bytes": self.bytes,
            "context": self.context,
            "carrier": self.carrier,
            "vision": self.vision,
            "loaded": self.loaded,
            "weights": self.weights,
            "origin": self.origin.as_json() if self.origin else None,
            "builds": [each.as_json() for each in self.builds],
            "broken": self.broken or None,
        }

    def rows(self) -> Iterator[tuple[str, ...]]:
        """The entry as rows of a table: the name, then its builds."""
        yield (
            self.name,
            self.digest,
            size_text(self.bytes),
            "" if self.broken else str(self.context) if self.context else "server's",
            self.carrier,
            "" if self.vision is None else "yes" if self.vision else "no",
            f"broken: {self.broken}" if self.broken else "loaded" if self.loaded else "",
        )
        for each in self.builds:
            yield f"  {each.name}", short_digest(each.digest), "", "", "", "", each.state


@dataclass(frozen=True, slots=True)
class Listing:
    """What is on a server.

    Attributes:
        entries: The models, each with its builds.
        leftovers: What runs that were stopped or failed have left.
    """

    entries: tuple[Entry, ...]
    leftovers: tuple[Leftover, ...]


def list_models(server: Server, *, everything: bool = False) -> Listing:
    """The Devstral models of a server, and what is left over of others.

    Args:
        server: The server.
        everything: Whether other models are listed as well.
    """
    models = settled_models(server)
    builds = {model.name: builds_of(models, model.name) for model in models}
    public = {model.name for model in models if builds[model.name]}
    left = find_leftovers(server, models)
    hidden = {each.name for each in left}

    def is_grouped(name: str) -> bool:
        own = own_name(name)
        return name in hidden or (
            own is not None and any(same_name(own.public, each) for each in public)
        )

    loaded = [each.name for each in server.running()]
    entries = []
    for model in models:
        if is_grouped(model.name):
            continue
        shown = shown_or_broken(server, model.name)
        if isinstance(shown, ServerError):
            # One that the server cannot show must hide no other.
            if everything or builds[model.name] or "devstral" in model.name.casefold():
                entries.append(_broken(model, builds[model.name], shown.what))
        elif shown is not None and (everything or shown.is_devstral):
            is_loaded = any(same_name(model.name, each) for each in loaded)
            kept = with_weights(server, builds[model.name])
            entries.append(_entry(model, shown, kept, loaded=is_loaded))
    return Listing(tuple(entries), tuple(left))


def _broken(model: InstalledModel, builds: list[Build], why: str) -> Entry:
    return Entry(
        name=model.name,
        digest=short_digest(model.digest),
        bytes=model.bytes,
        context=None,
        carrier="unreadable",
        vision=None,
        loaded=False,
        weights=None,
        origin=None,
        builds=tuple(builds),
        broken=why,
    )


def _entry(model: InstalledModel, shown: Shown, builds: list[Build], *, loaded: bool) -> Entry:
    return Entry(
        name=model.name,
        digest=short_digest(model.digest),
        bytes=model.bytes,
        context=shown.context,
        carrier=shown.carrier,
        vision=shown.sees_images,
        loaded=loaded,
        weights=shown.weights,
        origin=shown.origin,
        builds=tuple(builds),
    )
