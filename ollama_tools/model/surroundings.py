"""What decides which weights a spec gets, and how they come to a server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from ollama_tools.files import hub
from ollama_tools.model.published import (
    Publisher,
    hub_facts,
)
from ollama_tools.model.steps import Policy
from ollama_tools.progress import Progress
from ollama_tools.server.client import InstalledModel, Server
from ollama_tools.server.shown import Shown
from ollama_tools.server.versions import Version
from ollama_tools.wanted.draft import RegistryAddress
from ollama_tools.wanted.source import HubSource
from ollama_tools.wanted.wish import Via

Fits: TypeAlias = Callable[[str, int | None], None]
"""Refuses weights, by what they are called and the width of their hidden state (None where nothing
says it), for which the projector that they shall get is none."""


@dataclass(frozen=True)
class Surroundings:
    """What the ways of the bytes depend on.

    Attributes:
        server: The server.
        version: Its version.
        models: Its models.
        known: Those of them that may hold weights of the same public name, as they are shown.
        via: How the bytes shall come.
        registry: Where the server pulls from.
        policy: How the wish is to be met.
        publisher: Who says what is published.
        progress: Hears of warnings.
    """

    server: Server
    version: Version
    models: tuple[InstalledModel, ...]
    known: Mapping[str, Shown]
    via: Via
    registry: RegistryAddress
    policy: Policy
    publisher: Publisher
    progress: Progress
    _asked: dict[HubSource, tuple[hub.HubFile, hub.HubFileFacts]] = field(default_factory=dict)

    def facts(self, source: HubSource) -> tuple[hub.HubFile, hub.HubFileFacts]:
        """A source's file and what the hub says of it, asked for once.

        Raises:
            HubError: The hub does not say it.
            UsageError: The repository has no such file.
        """
        if source not in self._asked:
            self._asked[source] = hub_facts(source, self.progress)
        return self._asked[source]


@dataclass(frozen=True)
class Asked:
    """What decides which weights of a source are wished, beside the source.

    Attributes:
        version: The server's version.
        policy: How the wish is to be met.
        publisher: Who says what is published.
        progress: Hears where a file is hashed.
    """

    version: Version
    policy: Policy
    publisher: Publisher
    progress: Progress
