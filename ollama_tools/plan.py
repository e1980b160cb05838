"""From what a server has to what is wanted: the steps, or none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ollama_tools.modelfile import Difference, differences
from ollama_tools.names import is_build_of, same_name
from ollama_tools.server import InstalledModel, Server, find_model
from ollama_tools.spec import FileSource, HubSource, ServerSource, Spec


class Via(StrEnum):
    """How the bytes reach the server."""

    SERVER = "server"
    UPLOAD = "upload"


@dataclass(frozen=True, slots=True)
class Registry:
    """Where a server pulls from.

    Attributes:
        host: ``hf.co``, or ``host:port`` of a mirror.
        insecure: Whether it is reached by plain HTTP.
    """

    host: str = "hf.co"
    insecure: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One change to a server, for people to read before it is made.

    Attributes:
        sign: ``+`` for something new, ``~`` for something switched, ``-`` for something removed,
            ``?`` for a question.
        text: What is done.
    """

    sign: str
    text: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What has to happen so that a server serves what is wanted.

    Attributes:
        name: The public name.
        unchanged: The spec that is served already; None where there is something to do.
        candidates: The specs that would do, the best first; the live check of the template decides.
        current: The model that the public name stands for now.
        via: How the bytes reach the server.
        registry: Where the server pulls from.
        reason: Why something has to be done.
        steps: What is done, in order; empty where nothing is.
        differences: What the model that is there has otherwise than it should.
    """

    name: str
    unchanged: Spec | None
    candidates: tuple[Spec, ...]
    current: InstalledModel | None
    via: Via
    registry: Registry
    reason: str
    steps: tuple[Step, ...]
    differences: tuple[Difference, ...] = ()


def base_name(spec: Spec, registry: Registry) -> str | None:
    """The name that a pull of the spec's source leaves on the server."""
    if isinstance(spec.source, HubSource):
        return spec.source.pull_name(registry.host)
    return None


def make_plan(
    server: Server,
    models: Sequence[InstalledModel],
    candidates: Sequence[Spec],
    *,
    via: Via,
    registry: Registry,
    check: bool,
    force: bool,
) -> Plan:
    """Compare what a server has with what is wanted.

    A build's name carries the fingerprint of its spec, so that a name whose digest is that of such
    a build is known to be right from ``/api/tags`` alone; ``/api/show`` then tells whether somebody
    changed the build itself.

    Args:
        server: The server.
        models: Its models.
        candidates: The specs that would do, the best first.
        via: How the bytes reach the server.
        registry: Where the server pulls from.
        check: Whether the new build is checked before the name is switched to it.
        force: Build again even where nothing differs.
    """
    listed = list(models)
    name = candidates[0].name
    current = find_model(listed, name)
    reason = "it is not on the server"
    different: list[Difference] = []
    if force:
        reason = "--force"
    elif current is not None:
        spec, different = _nearest(server, listed, candidates, current)
        if not different:
            return Plan(name, spec, tuple(candidates), current, via, registry, "", ())
        reason = "; ".join(map(str, different))
    steps = tuple(_steps(listed, candidates, current, via, registry, check=check, force=force))
    return Plan(
        name, None, tuple(candidates), current, via, registry, reason, steps, tuple(different)
    )


def _nearest(
    server: Server,
    listed: list[InstalledModel],
    candidates: Sequence[Spec],
    current: InstalledModel,
) -> tuple[Spec, list[Difference]]:
    """The candidate that a model comes nearest to, and what it has otherwise."""
    shown = server.show(current.name)
    # Several builds may be one model: a spec says more than a manifest.
    served = [
        each.name
        for each in listed
        if each.digest == current.digest and is_build_of(each.name, current.name)
    ]
    compared = []
    for spec in candidates:
        different = differences(spec, shown)
        if not any(same_name(each, spec.build) for each in served):
            different.append(Difference("build", served[0] if served else None, spec.build))
        compared.append((spec, different))
    return min(compared, key=lambda each: len(each[1]))


def _steps(
    models: list[InstalledModel],
    candidates: Sequence[Spec],
    current: InstalledModel | None,
    via: Via,
    registry: Registry,
    *,
    check: bool,
    force: bool,
) -> Iterator[Step]:
    spec = candidates[0]
    base = base_name(spec, registry)
    match spec.source:
        case HubSource(bytes=size):
            weight = f", {size / 1024**3:.1f} GiB" if size else ""
            if via is Via.UPLOAD:
                yield Step("+", f"download {spec.source.pull_name()}{weight}, upload it as a blob")
            elif force or find_model(models, base or "") is None:
                yield Step("+", f"pull {base}{weight}; blobs already there are not fetched again")
        case FileSource(path=path):
            yield Step("+", f"upload {path} unless the server has it")
        case ServerSource():
            pass
    carriers = ", else ".join(dict.fromkeys(each.carrier.value for each in candidates))
    if "," in carriers:
        yield Step("?", f"try the template's carriers on the live server: {carriers}")
    yield Step("+", f"create {spec.build} ({describe(spec)})")
    if check:
        yield Step("?", f"check {spec.build}: prompt, context, KV cache, tool calls")
    sign, verb = ("~", "switch") if current is not None else ("+", "name it")
    yield Step(sign, f"{verb} {spec.name}")
    if base is not None and via is Via.SERVER:
        yield Step("-", f"remove the base name {base} if this command pulled it; its blob stays")


def describe(spec: Spec) -> str:
    """A spec in a few words."""
    return (
        f"carrier {spec.carrier.value}, context {spec.context}, "
        f"system prompt {spec.system.origin.value}"
    )


def as_json(plan: Plan) -> dict[str, Any]:
    """A plan as ``--dry-run --json`` prints it."""
    spec = plan.unchanged or plan.candidates[0]
    return {
        "name": plan.name,
        "changed": plan.unchanged is None,
        "reason": plan.reason,
        "via": plan.via.value,
        "context": spec.context,
        "carriers": [each.carrier.value for each in plan.candidates],
        "differences": [each.as_json() for each in plan.differences],
        "steps": [{"sign": each.sign, "text": each.text} for each in plan.steps],
    }
