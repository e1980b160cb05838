"""The builds that are kept for a public name: which served when, and how to go back to one.

Nothing is kept beside the server, and nothing ever writes onto a build: the server truncates a
manifest before it writes it, so that two runs at once would destroy it. A build gets its name when
it has passed its checks, so the time that ``/api/tags`` gives for it is when it began to serve.
Where it begins to serve again, a copy of it under a name that is new says since when. A run that is
overtaken or stopped before the switch leaves a build that never served; a copy that goes with the
first switch tells it from the others.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Annotated, TypedDict

from ollama_tools.devstral.carriers import Carrier
from ollama_tools.errors import (
    BuildLost,
    LayerLost,
    ModelNotFound,
    NotOllama,
    Overtaken,
    ServerError,
    UsageError,
)
from ollama_tools.files.digests import short_digest
from ollama_tools.progress import Progress, Silence
from ollama_tools.server.answers import CHECK_ADDRESS, OF_THE_WAY
from ollama_tools.server.client import InstalledModel, RunningModel, Server, find_model, moment
from ollama_tools.server.names import (
    Kind,
    OwnName,
    build_name,
    full_name,
    new_served_name,
    own_name,
    same_name,
)
from ollama_tools.server.origin import Origin, OriginJson, parse_origin
from ollama_tools.server.shown import Shown

_UNLOAD_SECONDS = 10.0
_DOUBTFUL_SECONDS = 0.5
_SHORTEST_MARK = 4

SPARED = timedelta(hours=1)
"""How long a build that never served is left alone: another run may be about to switch to it."""

_SWITCHES = 20
"""How often a name is written before a run gives up to make it stand for a whole build."""
_CHOICES = 3
"""How often a build to go back to is chosen, before a run gives up to find it still there."""
_LOOKS = 3
"""How often in a row an unknown digest must be seen, before it is taken for a person's model."""


class BuildJson(TypedDict):
    """One build of a public name."""

    name: str
    digest: Annotated[str, "Digest of its manifest, shortened as the ollama command line does."]
    serving: bool
    served: bool
    since: str
    weights: str | None
    origin: OriginJson | None


@dataclass(frozen=True, slots=True)
class Build:
    """One build of a public name.

    Attributes:
        name: Its own name.
        digest: Hex digest of its manifest.
        serving: Whether the public name stands for it now.
        since: When it last began to serve, or was made where it never did; ISO 8601, as the server
            says it.
        origin: Where its weights came from; None where its manifest does not say.
        weights: ``sha256:…`` of its weights; None where nobody asked the server for them.
        served: Whether the public name stands for it, or ever did.
    """

    name: str
    digest: str
    serving: bool
    since: str
    origin: Origin | None = None
    weights: str | None = None
    served: bool = True

    @property
    def state(self) -> str:
        """What it is to the public name, in words."""
        if self.serving:
            return "serving"
        return "kept for rollback" if self.served else "never served"

    def as_json(self) -> BuildJson:
        """The build as JSON has it."""
        return {
            "name": self.name,
            "digest": short_digest(self.digest),
            "serving": self.serving,
            "served": self.served,
            "since": self.since,
            "weights": self.weights,
            "origin": self.origin.as_json() if self.origin else None,
        }


@dataclass(frozen=True, slots=True)
class Switched:
    """What a switch did.

    Attributes:
        previous: The build that the name stood for before; None where it is new.
        digest: Hex digest of the manifest that it stands for now.
    """

    previous: str | None
    digest: str


class RollbackJson(TypedDict):
    """What a rollback did."""

    name: str
    build: str
    previous: str | None
    changed: bool


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

    def as_json(self) -> RollbackJson:
        """The result as ``rollback --json`` prints it."""
        return {
            "name": self.name,
            "build": self.build,
            "previous": self.previous,
            "changed": self.changed,
        }


def history(server: Server, name: str) -> list[Build]:
    """The builds of a public name, the one that began to serve last first.

    Those that never served come last.

    Raises:
        ModelNotFound: The server has no build of the name.
    """
    return _builds_in(server.models_with(name), name)


def _builds_in(models: Sequence[InstalledModel], name: str) -> list[Build]:
    found = builds_of(models, name)
    if not found:
        raise _no_builds(name)
    return found


def _no_builds(name: str) -> ModelNotFound:
    return ModelNotFound(
        f"the server keeps no build of {full_name(name)}", "see: devstral-ollama list"
    )


def with_weights(server: Server, builds: Sequence[Build]) -> list[Build]:
    """The builds with their weights and where they came from, which takes one request each.

    One that another run removes meanwhile is left out; one that has lost a layer has none.
    """
    found = []
    for each in builds:
        try:
            shown = server.show(each.name)
        except ModelNotFound:
            continue
        except LayerLost:
            found.append(each)
        else:
            found.append(replace(each, weights=shown.weights, origin=shown.origin))
    return found


def builds_of(models: Sequence[InstalledModel], name: str) -> list[Build]:
    """The builds of a public name among the models of a server, see :func:`history`."""
    current = find_model(list(models), name)
    serving = current.digest if current else None
    began: dict[str, str] = {}
    kinds: dict[str, set[Kind]] = {}
    for each, own in own_models(models, name):
        kinds.setdefault(own.mark, set()).add(own.kind)
        if own.kind in (Kind.BUILD, Kind.SERVED):
            began[own.mark] = max(began.get(own.mark, ""), each.modified, key=moment)
    found = [
        Build(
            name=each.name,
            digest=each.digest,
            serving=each.digest == serving,
            since=began[own.mark],
            origin=parse_origin(each.parent),
            # A run that was stopped after its switch has left the mark behind.
            served=each.digest == serving
            or Kind.SERVED in kinds[own.mark]
            or Kind.UNSERVED not in kinds[own.mark],
        )
        for each, own in own_models(models, name)
        if own.kind is Kind.BUILD
    ]
    return sorted(
        found, key=lambda each: (each.serving, each.served, moment(each.since)), reverse=True
    )


def own_models(
    models: Sequence[InstalledModel], name: str
) -> Iterator[tuple[InstalledModel, OwnName]]:
    """The models that this package keeps beside a public name, each with what it is for."""
    for each in models:
        own = own_name(each.name)
        if own is not None and same_name(own.public, name):
            yield each, own


def loaded_name(models: Sequence[InstalledModel], loaded: RunningModel) -> str | None:
    """The name by which people know a loaded model; None where it has none any more.

    An engine has the name that it was loaded under, which may be that of a trial long gone.
    """
    same = [each.name for each in models if each.digest == loaded.digest]
    return next((each for each in same if own_name(each) is None), same[0] if same else None)


def settled_models(server: Server) -> list[InstalledModel]:
    """All models; looks again for a public name whose builds are there, see ``models_with``."""
    models = server.models()
    for public in {own.public for each in models if (own := own_name(each.name))}:
        if find_model(models, public) is None:
            models = server.models_with(public)
    return models


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
    for _ in range(_CHOICES - 1):
        try:
            return _rolled_back(server, name, to, progress, dry_run=dry_run)
        except BuildLost as lost:
            # The history is another one now; where a build was named, that says that it is gone.
            progress.warn(lost.what)
    return _rolled_back(server, name, to, progress, dry_run=dry_run)


def _rolled_back(
    server: Server, name: str, to: str | None, progress: Progress, *, dry_run: bool
) -> Rollback:
    models = server.models_with(name)
    kept = _builds_in(models, name)
    public = _public(kept)
    chosen = _named(kept, public, to) if to is not None else _before(kept, public)
    serving = next((each.name for each in kept if each.serving), None)
    if chosen.serving:
        return Rollback(public, chosen.name, serving, changed=False)
    if dry_run:
        return Rollback(public, chosen.name, serving, changed=True)
    with suppress(ModelNotFound, LayerLost):
        free_engine(server, chosen.name, progress)
    progress.step(f"switch {public} to {chosen.name}")
    try:
        previous = switch(server, public, chosen.name).previous
    except KeyboardInterrupt as interrupt:
        interrupt.add_note(standing(server, public, find_model(models, public)))
        raise
    return Rollback(public, chosen.name, previous, changed=True)


def _public(kept: Sequence[Build]) -> str:
    own = own_name(kept[0].name)
    assert own is not None  # noqa: S101 - it is one of the builds
    return own.public


def _before(kept: list[Build], public: str) -> Build:
    found = next((each for each in kept if each.served and not each.serving), None)
    if found is not None:
        return found
    unserved = [each.name for each in kept if not each.served]
    if unserved:
        raise ModelNotFound(
            f"{public} has no build that served before; never served: {', '.join(unserved)}",
            f"to take one of them: devstral-ollama rollback {public} --to {unserved[0]}",
        )
    raise ModelNotFound(
        f"{public} has no build but the one that serves",
        "there is nothing to go back to: make what you want with devstral-ollama create",
    )


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


def switch(server: Server, name: str, build: str) -> Switched:
    """Let a public name stand for a build, and see that it does, with every layer of it.

    The name is the only thing that is ever written over. What it stood for stays: as the build that
    it was, or as a copy where a person had made it.

    Raises:
        BuildLost: There is no such build any more, or a layer of it is gone; where the name stood
            for another, it does so again.
        Overtaken: Another run switched the name to another build in the same moment.
        ServerError: The name stands for nothing whole, however often it is written; where its
            ``switched`` is set, the name stands for the build, and what came after failed.
    """
    models = server.models_with(name)
    target = find_model(models, build)
    if target is None:
        raise _gone(build)
    if not whole(server, build):
        raise _incomplete(build)
    previous = _kept(server, models, name)
    current = find_model(models, name)
    if current is None or current.digest != target.digest:
        try:
            models = _write(server, name, target, current)
        except ModelNotFound as error:
            raise _gone(build) from error
    if not whole(server, name):
        # While the name was being written, nothing named the layers if the build went just then.
        _put_back(server, name, previous, target)
        raise _incomplete(build)
    try:
        _mark_as_served(server, models, name, target, previous)
    except ServerError as error:
        error.switched = True
        raise
    return Switched(previous, target.digest.removeprefix("sha256:"))


def shown_if_there(server: Server, name: str) -> Shown | None:
    """A model as the server shows it; None where it, or a layer of it, is gone."""
    try:
        return server.show(name)
    except (ModelNotFound, LayerLost):
        return None


def whole(server: Server, name: str) -> bool:
    """Whether a model is there with all of its layers, its weights among the server's blobs."""
    try:
        blobs = server.show(name, anew=True).blobs
    except (ModelNotFound, LayerLost):
        return False
    except OF_THE_WAY:
        raise
    except ServerError:
        if server.model(name) is not None:
            return False
        raise
    return all(server.has_blob(each) for each in blobs)


def standing(server: Server, name: str, before: InstalledModel | None) -> str:
    """What a public name stands for after a switch that went wrong, in the words of a message.

    Args:
        server: The server.
        name: The public name.
        before: What it stood for before; None where it was new.
    """
    try:
        models = server.models_with(name)
        current = find_model(models, name)
        if current is None and before is None:
            return f"{name} is not on the server yet"
        if current is not None and whole(server, name):
            if before is not None and before.digest == current.digest:
                return f"{name} serves as before"
            for each in builds_of(models, name):
                if each.serving:
                    return f"{name} stands for {each.name}"
    except ServerError:
        return f"nobody knows what {name} stands for now: the next run looks and mends it"
    return f"{name} stands for nothing whole: the next run looks and mends it"


def _put_back(server: Server, name: str, previous: str | None, target: InstalledModel) -> None:
    """Let a name stand for what it stood for before, where it stands for a build with a hole."""
    if previous is None or same_name(previous, target.name):
        return
    with suppress(ServerError):
        models = server.models_with(name)
        current, before = find_model(models, name), find_model(models, previous)
        others = current is not None and current.digest != target.digest
        if before is not None and not others and whole(server, previous):
            _write(server, name, before, current)


def _incomplete(build: str) -> BuildLost:
    return BuildLost(
        f"the build {build} has lost a layer: another run removed models meanwhile",
        "devstral-ollama create makes it again; rollback --to BUILD takes another",
    )


def _gone(build: str) -> BuildLost:
    return BuildLost(
        f"the build {build} is gone: another run removed it", "see: devstral-ollama list"
    )


def _kept(server: Server, models: list[InstalledModel], name: str) -> str | None:
    """The build that a name stands for; what a person made is kept as one by a copy."""
    current = find_model(models, name)
    for _ in range(_LOOKS):
        if current is None:
            return None
        known = [each.name for each in builds_of(models, name) if each.digest == current.digest]
        if known:
            return known[0]
        # What is just being written has a digest that is nobody's, for a moment.
        time.sleep(0.03)
        models = server.models_with(name)
        seen, current = current, find_model(models, name)
        if current is None or current.digest != seen.digest:
            continue
    if current is None:
        return None
    kept = build_name(name, short_digest(current.digest))
    try:
        # The end of one manifest behind another has a digest of its own, and is read as the other.
        shown = server.show(name)
        for each in builds_of(models, name):
            with suppress(ModelNotFound, LayerLost):
                if server.show(each.name).is_same_model(shown):
                    return each.name
        if not whole(server, name):
            return None
        server.copy(name, kept)
    except (ModelNotFound, LayerLost):
        # Another run writes the name, and that from a build; or there is nothing to be kept.
        return None
    copied = server.model(kept)
    if copied is None or copied.digest != current.digest:
        # Somebody switched the name meanwhile, so that it is no person's model that was copied.
        server.delete(kept)
        return None
    return kept


def _write(
    server: Server, name: str, target: InstalledModel, before: InstalledModel | None
) -> list[InstalledModel]:
    """Copy a build to its public name until the name stands for a whole build.

    A copy truncates, then writes (0.34.4): two at once can leave a name empty, or with the end of
    one manifest behind the other. Whoever writes last sees it and writes again.

    Args:
        server: The server.
        name: The public name.
        target: The build.
        before: What the name stood for; None where it is new.

    Returns:
        The models of the server, when the name stood for the build.
    """
    import random

    for attempt in range(_SWITCHES):
        server.copy(target.name, name)
        models = server.models_with(name)
        current = find_model(models, name)
        if current is not None and current.digest == target.digest:
            return models
        is_as_before = before is not None and current == before
        if current is not None and not is_as_before:
            won = [each.name for each in builds_of(models, name) if each.digest == current.digest]
            if won:
                raise Overtaken(
                    f"another run switched {name} to {won[0]} in the same moment",
                    f"where it should be this one: devstral-ollama rollback {name} --to "
                    f"{target.name}",
                )
        # Runs that fall over each other must not do so again in step.
        time.sleep(random.uniform(0.0, 0.02) * (attempt + 1))  # noqa: S311 - no secret
    if server.model(target.name) is None:
        # A model that has lost its configuration is listed no more (0.34.4).
        raise _incomplete(target.name)
    if is_as_before:
        raise NotOllama(
            f"{server.url}/api/copy answers as if {name} were switched to {target.name}, and it is "
            "not",
            CHECK_ADDRESS,
        )
    raise ServerError(
        f"{name} stands for no whole model after {_SWITCHES} attempts to switch it to "
        f"{target.name}",
        "look who else writes to this server, then run the command again",
    )


def _mark_as_served(
    server: Server,
    models: list[InstalledModel],
    name: str,
    target: InstalledModel,
    previous: str | None,
) -> None:
    """See to it that the build's time is the latest of the name's, and that no mark piles up."""
    for each, found in own_models(models, name):
        # A run that was stopped after its switch has left the mark of the one before.
        if found.kind is Kind.UNSERVED and (
            same_name(found.build, target.name)
            or (previous is not None and same_name(found.build, previous))
        ):
            server.delete(each.name)
    times = {each.name: moment(each.since) for each in builds_of(models, name)}
    own = times.pop(target.name, None)
    if own is None or own >= max(times.values(), default=0.0):
        return
    stale = [
        each.name
        for each, found in own_models(models, name)
        if found.kind is Kind.SERVED and same_name(found.build, target.name)
    ]
    try:
        server.copy(target.name, new_served_name(target.name))
    except ModelNotFound:
        # Who removed the build meanwhile puts it back, with the time of that moment.
        return
    for mark in stale:
        server.delete(mark)


def surplus(models: Sequence[InstalledModel], name: str, keep: int, now: datetime) -> list[Build]:
    """The builds of a name that are over ``keep``, and that no public name stands for.

    A young one that has not served, or is newer than what serves, is spared: the run that made it
    may be about to switch the name to it.

    Args:
        models: The models of a server.
        name: The public name.
        keep: How many builds stay, the one that serves among them.
        now: The server's time.
    """
    in_use = {each.digest for each in models if own_name(each.name) is None}
    builds = builds_of(models, name)
    began = next((moment(each.since) for each in builds if each.serving), 0.0)
    young = (now - SPARED).timestamp()
    return [
        each
        for each in builds[keep:]
        if each.digest not in in_use
        and (moment(each.since) <= young or (each.served and moment(each.since) <= began))
    ]


def prune(
    server: Server, name: str | None, keep: int, *, dry_run: bool = False
) -> tuple[list[Build], list[Build]]:
    """Remove old builds; one that any public name stands for stays, and one that is about to serve.

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
    models = settled_models(server) if name is None else server.models_with(name)
    if name is None:
        names = [each.name for each in models if builds_of(models, each.name)]
    elif any(own_models(models, name)):
        names = [name]
    else:
        raise _no_builds(name)
    removed: list[Build] = []
    kept: list[Build] = []
    for public in names:
        doomed = {each.name for each in surplus(models, public, keep, server.now)}
        for build in builds_of(models, public):
            if build.name in doomed and (dry_run or _remove(server, build)):
                removed.append(build)
            else:
                kept.append(build)
    return removed, kept


def _remove(server: Server, build: Build) -> bool:
    """Remove a build with its marks, unless a name has come to stand for it meanwhile."""
    models = server.models()
    if _names_of(models, build):
        return False
    forget(server, models, build.name)
    for name in _names_of(server.models(), build):
        server.copy(name, build.name)
        copied = server.model(build.name)
        if copied is not None and copied.digest == build.digest:
            return False
        server.delete(build.name)
    return True


def forget(server: Server, models: Sequence[InstalledModel], build: str) -> None:
    """Remove a build's name and its marks, whoever may need them."""
    for each in models:
        own = own_name(each.name)
        if own is not None and own.kind.is_mark and same_name(own.build, build):
            server.delete(each.name)
    server.delete(build)


def _names_of(models: Sequence[InstalledModel], build: Build) -> list[str]:
    """The names of people's models that stand for a build."""
    return [
        each.name for each in models if each.digest == build.digest and own_name(each.name) is None
    ]


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
        shown = shown_if_there(server, other)
        return shown.weights if shown else None

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
