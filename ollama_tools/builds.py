"""The builds that are kept for a public name: which served when, and how to go back to one.

Nothing is kept beside the server. A build's manifest is written anew whenever the name is switched
to it, so the time that ``/api/tags`` gives for it is when it began to serve.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ollama_tools.errors import ModelNotFound, UsageError
from ollama_tools.names import build_name, full_name, is_build_of, public_of, same_name
from ollama_tools.progress import Progress, Silence
from ollama_tools.server import InstalledModel, Server, find_model
from ollama_tools.template import Carrier

_UNLOAD_SECONDS = 10.0
_DOUBTFUL_SECONDS = 0.5
_SHORTEST_MARK = 4
SHOWN_DIGITS = 12
"""How many digits of a digest are shown, as the ollama command line does."""


@dataclass(frozen=True, slots=True)
class Build:
    """One build of a public name.

    Attributes:
        name: Its own name.
        digest: Hex digest of its manifest.
        serving: Whether the public name stands for it now.
        since: When it last began to serve, or was made if it never did; ISO 8601, as the server
            says it.
    """

    name: str
    digest: str
    serving: bool
    since: str

    def as_json(self) -> dict[str, Any]:
        """The build as JSON has it."""
        return {
            "name": self.name,
            "digest": self.digest[:SHOWN_DIGITS],
            "serving": self.serving,
            "since": self.since,
        }


@dataclass(frozen=True, slots=True)
class Rollback:
    """What a rollback did.

    Attributes:
        name: The public name.
        build: The build that it stands for now.
        previous: The build that it stood for before.
        changed: Whether the two differ.
    """

    name: str
    build: str
    previous: str | None
    changed: bool

    def as_json(self) -> dict[str, Any]:
        """The result as ``rollback --json`` prints it."""
        return {
            "name": self.name,
            "build": self.build,
            "previous": self.previous,
            "changed": self.changed,
        }


def history(server: Server, name: str) -> list[Build]:
    """The builds of a public name, the one that began to serve last first.

    Raises:
        ModelNotFound: The server has no build of the name.
    """
    found = builds_of(server.models(), name)
    if not found:
        raise ModelNotFound(
            f"the server keeps no build of {full_name(name)}", "see: devstral-ollama list"
        )
    return found


def builds_of(models: Sequence[InstalledModel], name: str) -> list[Build]:
    """The builds of a public name among the models of a server, see :func:`history`."""
    current = find_model(list(models), name)
    serving = current.digest if current else None
    found = [
        Build(each.name, each.digest, each.digest == serving, each.modified)
        for each in models
        if is_build_of(each.name, name)
    ]
    return sorted(found, key=lambda each: (each.serving, _moment(each.since)), reverse=True)


def _moment(text: str) -> float:
    """Seconds since 1970; a server's clock may change its offset between two builds."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0


def rollback(
    server: Server,
    name: str,
    to: str | None = None,
    progress: Progress | None = None,
    *,
    dry_run: bool = False,
) -> Rollback:
    """Let a public name stand for another of its builds.

    Args:
        server: The server.
        name: The public name.
        to: The build, by its name or the digits at its end; None for the one that served before.
        progress: Hears of each step; None for silence.
        dry_run: Only say what would be done.

    Raises:
        ModelNotFound: There is no such build.
        UsageError: The digits fit several.
    """
    progress = progress or Silence()
    kept = history(server, name)
    public = public_of(kept[0].name)
    chosen = _named(kept, public, to) if to is not None else _before(kept, public)
    serving = next((each.name for each in kept if each.serving), None)
    if chosen.serving:
        return Rollback(public, chosen.name, serving, changed=False)
    if dry_run:
        return Rollback(public, chosen.name, serving, changed=True)
    free_engine(server, chosen.name, progress)
    previous = switch(server, public, chosen.name, progress)
    return Rollback(public, chosen.name, previous, changed=True)


def _before(kept: list[Build], public: str) -> Build:
    found = next((each for each in kept if not each.serving), None)
    if found is None:
        raise ModelNotFound(
            f"{public} has no build but the one that serves",
            "there is nothing to go back to: make what you want with devstral-ollama create",
        )
    return found


def _named(kept: list[Build], public: str, to: str) -> Build:
    wanted = to.casefold()
    found = [
        each
        for each in kept
        if same_name(each.name, to)
        or (
            len(wanted) >= _SHORTEST_MARK
            and re.fullmatch("[0-9a-f]+", wanted)
            and each.name.rpartition("-")[2].startswith(wanted)
        )
    ]
    if not found:
        raise ModelNotFound(
            f"{public} has no build {to!r}", "it has " + ", ".join(each.name for each in kept)
        )
    if len(found) > 1:
        raise UsageError(f"{to!r} fits {len(found)} builds of {public}", "give more digits")
    return found[0]


def switch(server: Server, name: str, build: str, progress: Progress) -> str | None:
    """Let a public name stand for a build; what it stood for is kept as a build.

    Returns:
        The build that the name stood for before; None where it is new.
    """
    models = server.models()
    current = find_model(models, name)
    previous = None
    if current is not None:
        kept = [each for each in models if is_build_of(each.name, name)]
        previous = next((each.name for each in kept if each.digest == current.digest), None)
        if previous is None:
            previous = build_name(name, current.digest.removeprefix("sha256:")[:SHOWN_DIGITS])
            server.copy(name, previous)
    progress.step(f"switching {name} to {build}")
    server.copy(build, name)
    # Written anew, so that its time says since when it serves.
    server.copy(name, build)
    return previous


def prune(
    server: Server, name: str | None, keep: int, *, dry_run: bool = False
) -> tuple[list[Build], list[Build]]:
    """Remove old builds; one that any public name stands for always stays.

    Args:
        server: The server.
        name: The public name; None for every one that the server has.
        keep: How many builds of each name stay, the one that serves among them.
        dry_run: Only say what would be removed.

    Returns:
        The builds that were removed, and those that stay.

    Raises:
        UsageError: None would stay.
        ModelNotFound: The server has no build of the name.
    """
    check_keep(keep)
    models = server.models()
    if name is not None:
        names = [public_of(history(server, name)[0].name)]
    else:
        names = [each.name for each in models if builds_of(models, each.name)]
    in_use = {
        each.digest
        for each in models
        if not any(is_build_of(each.name, other.name) for other in models)
        and not any(is_build_of(each.name, public) for public in names)
    }
    removed: list[Build] = []
    kept: list[Build] = []
    for public in names:
        for place, build in enumerate(builds_of(models, public)):
            if place < keep or build.digest in in_use:
                kept.append(build)
                continue
            if not dry_run:
                server.delete(build.name)
            removed.append(build)
    return removed, kept


def check_keep(keep: int) -> None:
    """Refuse to keep no build at all.

    Raises:
        UsageError: Not even the build that serves would be kept.
    """
    if keep < 1:
        raise UsageError(f"cannot keep {keep} builds", "keep 1 or more; the one that serves counts")


def free_engine(server: Server, name: str, progress: Progress) -> None:
    """Let the engine go that another model on the same weights may have started.

    Engines are kept by blob. One that a model with TEMPLATE and PARSER started knows no Jinja, and
    would answer a build without them with an error; any name on the blob can end it.
    """
    shown = server.show(name)
    weights = shown.weights
    if shown.carrier != Carrier.HUB:
        # A Go template asks nothing of the engine, and a file with our Jinja has no other users.
        return

    def blob(other: str) -> str | None:
        try:
            return server.show(other).weights
        except ModelNotFound:
            return None

    def loaded() -> dict[str, str | None]:
        return {each.name: blob(each.name) for each in server.running()}

    before = loaded()
    known = {each for each, blob in before.items() if blob == weights}
    # Removed since they were loaded, so nothing tells their weights any more.
    doubtful = {each for each, blob in before.items() if blob is None}
    if not known and not doubtful:
        return
    progress.step(f"unloading {', '.join(sorted(known or doubtful))}")
    server.unload(name)
    deadline = time.monotonic() + (_UNLOAD_SECONDS if known else _DOUBTFUL_SECONDS)
    # One engine at most is on the weights, so the first that goes is it.
    while (known or doubtful) <= loaded().keys() and time.monotonic() < deadline:
        time.sleep(0.05)
