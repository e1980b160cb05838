"""A client that keeps what it saw and wrote, so that a claim can be held against it."""

from __future__ import annotations

from ollama_tools.server.client import InstalledModel, Server, find_model
from ollama_tools.server.names import same_name


class Witness(Server):
    """The package's own client; its answers pass through unchanged.

    Attributes:
        seen: Digests that the name stood for, one an answer of the server; None where it had none.
        writes: How often the name was written since :meth:`begin`.
        failed: Whether the last write of the name failed.
    """

    def __init__(self, url: str, name: str) -> None:
        super().__init__(url)
        self._name = name
        self.begin()

    def begin(self) -> None:
        """Forget what was before."""
        self.seen: list[str | None] = []
        self.writes = 0
        self.failed = False

    def models(self) -> list[InstalledModel]:
        found = super().models()
        current = find_model(found, self._name)
        self.seen.append(current.digest if current else None)
        return found

    def copy(self, source: str, destination: str) -> None:
        is_public = same_name(destination, self._name)
        if is_public:
            self.writes += 1
            self.failed = True
        super().copy(source, destination)
        if is_public:
            self.failed = False
