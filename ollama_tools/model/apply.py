"""Carry out a plan, and say what really happened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, TypedDict

from ollama_tools.checks.result import Report, ReportJson
from ollama_tools.devstral.carriers import Carrier
from ollama_tools.errors import (
    BuildLost,
    CheckFailed,
    DevstralError,
    Overtaken,
    ServerError,
)
from ollama_tools.model.builds import standing
from ollama_tools.model.plan import Plan
from ollama_tools.model.pull import RemoveBase, warn_of_base
from ollama_tools.model.steps import Run
from ollama_tools.progress import Progress
from ollama_tools.server.client import Server
from ollama_tools.server.origin import Origin, OriginJson

_PLANS = 3
"""How often a plan is made, before a run gives up to find what it used still there."""


class OutcomeJson(TypedDict):
    """What a server serves now, and what was done for it."""

    name: str
    digest: str
    weights: str | None
    origin: OriginJson | None
    changed: bool
    carrier: str
    context: int
    vision: Annotated[bool, "Whether it sees images."]
    build: str
    previous: str | None
    removed: list[str]
    steps: list[str]
    server: str
    version: str
    report: ReportJson | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a server serves now, and what was done for it.

    Attributes:
        name: The public name, to be used in requests.
        digest: Hex digest of its manifest, which differs between versions of the server.
        weights: ``sha256:…`` of the blob that holds its weights; with ``build`` it tells models of
            two servers apart.
        origin: Where the weights came from; None where the manifest does not say.
        changed: Whether anything on the server is otherwise than before.
        carrier: Where its chat template lives.
        context: Its context in tokens.
        vision: Whether it sees images.
        build: The name under which this build is kept.
        previous: The build that the name stood for before; None where it is new.
        removed: The builds that were removed.
        steps: What was done.
        server: The server's URL.
        version: The server's version.
        report: The answers of the checks; None where nothing was to do or none were asked for.
    """

    name: str
    digest: str
    weights: str | None
    origin: Origin | None
    changed: bool
    carrier: Carrier
    context: int
    vision: bool
    build: str
    previous: str | None
    removed: tuple[str, ...]
    steps: tuple[str, ...]
    server: str
    version: str
    report: Report | None = None

    def as_json(self) -> OutcomeJson:
        """The result as ``create --json`` prints it."""
        return {
            "name": self.name,
            "digest": self.digest,
            "weights": self.weights,
            "origin": self.origin.as_json() if self.origin else None,
            "changed": self.changed,
            "carrier": self.carrier.value,
            "context": self.context,
            "vision": self.vision,
            "build": self.build,
            "previous": self.previous,
            "removed": list(self.removed),
            "steps": list(self.steps),
            "server": self.server,
            "version": self.version,
            "report": self.report.as_json() if self.report else None,
        }


def apply(plan: Plan, server: Server, progress: Progress) -> Outcome:
    """Carry out a plan; it may have nothing to do.

    Where another run removes what this one is about to use, it is planned and made again.

    Whatever happens, the public name stands for what it stood for until its successor has passed.

    Args:
        plan: The plan; see :func:`ollama_tools.model.plan.make_plan`.
        server: The server it was made for.
        progress: Hears of each step.

    Raises:
        CheckFailed: The build did not pass.
        Overtaken: Another run switched the name in the same moment.
        ServerError: The server did not do its part.
        HubError: The hub did not.
    """
    for _ in range(_PLANS - 1):
        try:
            return _carried_out(plan, server, progress)
        except BuildLost as lost:
            if plan.again is None:
                raise
            progress.warn(f"{lost.what}; it is made again")
            plan = plan.again()
    return _carried_out(plan, server, progress)


def _carried_out(plan: Plan, server: Server, progress: Progress) -> Outcome:
    run = Run(server, plan.version, plan.name, plan.policy, progress)
    if plan.needs is not None:
        progress.step(f"{plan.name} {plan.needs.text}")
    try:
        run.take(plan.steps)
    except KeyboardInterrupt as interrupt:
        interrupt.add_note(_standing(plan, run))
        interrupt.add_note("the same command goes on where this one stopped")
        raise
    except DevstralError as error:
        run.switched = error.switched = run.switched or error.switched
        if isinstance(error, CheckFailed | Overtaken):
            _remove_base(plan, run)
        # Who was overtaken is told already which build the name stands for now.
        if not isinstance(error, Overtaken):
            error.what = f"{error.what}; {_standing(plan, run)}"
        raise
    if run.spec is not None:
        warn_of_base(run.spec, plan.around)
    return _outcome(plan, run)


def _remove_base(plan: Plan, run: Run) -> None:
    """Remove a pulled base though the rest has failed, which counts more than a base that stays."""
    for step in plan.steps:
        if isinstance(step, RemoveBase):
            try:
                step.run(run)
            except ServerError as error:
                # It is noted, so that the next run tries again.
                run.progress.warn(f"{step.base} could not be removed: {error.what}")


def _standing(plan: Plan, run: Run) -> str:
    """What the public name stands for, at the moment in which something went wrong."""
    if run.switched:
        return f"{plan.name} stands for {run.build} already"
    if run.switching:
        return standing(run.server, plan.name, plan.compared.current)
    if plan.compared.current is not None:
        return f"{plan.name} serves as before"
    return f"{plan.name} is not on the server yet"


def _outcome(plan: Plan, run: Run) -> Outcome:
    compared = plan.compared
    spec, blobs = run.spec, run.blobs
    digest, origin, sees = run.digest, run.found_origin, run.sees
    if spec is None:
        # Nothing was built or switched, so what was compared is what serves.
        spec, shown, current = compared.unchanged, compared.shown, compared.current
        assert spec is not None  # noqa: S101 - else there would have been a step that builds it
        assert shown is not None  # noqa: S101 - it was compared
        assert current is not None  # noqa: S101 - likewise
        blobs, origin, digest = shown.blobs, shown.origin, current.digest.removeprefix("sha256:")
        sees = shown.sees_images
    return Outcome(
        name=plan.name,
        digest=digest,
        weights=blobs[0] if blobs else None,
        origin=origin,
        changed=bool(run.done),
        carrier=spec.carrier,
        context=spec.context,
        vision=sees,
        build=spec.build(blobs),
        previous=run.previous if run.switched else compared.previous,
        removed=tuple(each.name for each in run.removed),
        steps=tuple(map(str, run.done)),
        server=run.server.url,
        version=str(plan.version),
        report=run.report,
    )
