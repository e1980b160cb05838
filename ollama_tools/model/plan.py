"""From what a server has to what is wanted: the steps, or none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, TypedDict

from ollama_tools.checks.vouching import vouches
from ollama_tools.devstral import system_prompt as system
from ollama_tools.devstral.carriers import Carrier
from ollama_tools.devstral.system_prompt import SystemOrigin
from ollama_tools.errors import (
    HubError,
    LayerLost,
    ModelNotFound,
    ServerError,
    UsageError,
)
from ollama_tools.files.digests import SHOWN_DIGITS, short_digest
from ollama_tools.model.bring import way_of
from ollama_tools.model.builds import (
    builds_of,
    loaded_name,
    own_models,
    shown_if_there,
    surplus,
    whole,
)
from ollama_tools.model.leftovers import stopped_runs
from ollama_tools.model.modelfile import Difference, DifferenceJson, differences
from ollama_tools.model.projector import AddProjector, PulledProjector, eyes_of
from ollama_tools.model.projector import is_right as is_right_projector
from ollama_tools.model.published import Publisher
from ollama_tools.model.pull import Pull, RemoveBase, base_steps
from ollama_tools.model.room import Needs, NeedsJson
from ollama_tools.model.standing import UseWeights
from ollama_tools.model.steps import (
    Check,
    Compare,
    Create,
    Keep,
    Policy,
    RemoveBuilds,
    RenameBuild,
    Step,
    StepJson,
    Switch,
    UseBuild,
)
from ollama_tools.model.surroundings import Asked, Surroundings
from ollama_tools.model.upload import Upload
from ollama_tools.progress import Progress
from ollama_tools.server.answers import OF_THE_WAY
from ollama_tools.server.client import InstalledModel, Server, find_model
from ollama_tools.server.names import (
    Kind,
    build_name,
    full_name,
    new_served_name,
    same_name,
)
from ollama_tools.server.shown import Shown
from ollama_tools.server.versions import UNQUOTED_FILES, Version, rewrites_files
from ollama_tools.wanted.draft import RegistryAddress
from ollama_tools.wanted.spec import Spec
from ollama_tools.wanted.wish import Via

_LATEST = "9999-01-01T00:00:00+00:00"
_BEFORE_THE_LATEST = "9998-01-01T00:00:00+00:00"


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a server has, beside what is wanted.

    Attributes:
        name: The public name.
        candidates: The specs that would do, the best first; the live check of the template decides.
        models: The models of the server.
        current: The model that the public name stands for now.
        known: Models that were looked at, as the server shows them.
        nearest: The spec that the current model is, or comes nearest to; None without a model.
        differences: What the current model has otherwise; empty where nothing is to do.
        earlier: The name that an earlier version of this package gave to the current build.
        standing: A build that is what is wanted, with its weights.
    """

    name: str
    candidates: tuple[Spec, ...]
    models: tuple[InstalledModel, ...]
    current: InstalledModel | None
    known: Mapping[str, Shown]
    nearest: Spec | None = None
    differences: tuple[Difference, ...] = ()
    earlier: str | None = None
    standing: tuple[Spec, tuple[str, ...]] | None = None

    @property
    def unchanged(self) -> Spec | None:
        """The spec that is served already; None where there is something to do."""
        return None if self.differences or self.earlier else self.nearest

    @property
    def shown(self) -> Shown | None:
        """The current model as the server shows it; None where nobody looked."""
        return self.known.get(self.current.name) if self.current else None

    @property
    def reason(self) -> str:
        """Why something has to be done."""
        if self.current is None:
            return "it is not on the server"
        if self.earlier:
            return f"{self.earlier} has the name that an earlier version gave it"
        return "; ".join(map(str, self.differences))

    @property
    def previous(self) -> str | None:
        """The build that the name stands for now, under the name that it is kept by."""
        if self.current is None:
            return None
        if self.earlier is not None and self.nearest is not None and self.shown is not None:
            return self.nearest.build(self.shown.blobs)
        served = _builds_with(self.models, self.name, self.current.digest)
        if served and not self._is_unsound(served[0]):
            return served[0]
        return build_name(self.name, short_digest(self.current.digest))

    def _is_unsound(self, build: str) -> bool:
        """Whether a build has something else than its name says, so that the name is made anew."""
        if self.nearest is None or self.shown is None or self.standing is not None:
            return False
        fields = {each.field for each in self.differences}
        is_to_come = same_name(build, self.nearest.build(self.shown.blobs))
        # Weights that are only not those of a pin, or not the newest, are vouched for by the name.
        return bool(fields) and is_to_come != ("weights" in fields)


def compare(
    server: Server,
    models: Sequence[InstalledModel],
    candidates: Sequence[Spec],
    policy: Policy,
    publisher: Publisher,
    progress: Progress,
    version: Version,
    *,
    doubtful: bool = False,
) -> Comparison:
    """Look whether a name stands for what is wanted.

    A build's name carries a mark of its spec and of its weights. So a name is known to be right
    from ``/api/tags`` and one ``/api/show``: its weights and what is wanted make a mark, and there
    is a build of that mark with the same manifest.

    Args:
        server: The server.
        models: Its models.
        candidates: The specs that would do, the best first.
        policy: How the wish is to be met.
        publisher: Who says what is published.
        progress: Hears where a file is hashed.
        version: The server's version.
        doubtful: Whether a layer of what serves may be gone, so that the server has to look.

    Raises:
        UsageError: Another model has the name in other letters, or nobody can know a commit.
        HubError: The publisher has to say which file is meant, and does not.
        FileProblem: A file cannot be read.
    """
    name = candidates[0].name
    current = find_model(list(models), name)
    _refuse_other_case(name, current)
    bare = Comparison(name, tuple(candidates), tuple(models), current, {})
    asked = Asked(version, policy, publisher, progress)

    def is_right(spec: Spec, shown: Shown) -> bool:
        return way_of(spec.source).is_right(spec, shown, asked) and is_right_projector(
            spec, shown, asked
        )

    if policy.force:
        return replace(bare, differences=(Difference("build", None, "one made anew (--force)"),))
    if current is None:
        missing = (Difference("model", None, name),)
        return _with_standing(replace(bare, differences=missing), server, is_right)
    shown = _shown(server, current.name)
    if shown is None or (doubtful and not whole(server, current.name)):
        holed = (Difference("model", "one that has lost a layer", "a whole one"),)
        return _with_standing(replace(bare, differences=holed), server, is_right)
    bare = replace(bare, known={current.name: shown})
    served = _builds_with(models, name, current.digest)
    for spec in candidates:
        if not served or differences(spec, shown):
            continue
        if any(same_name(each, spec.build(shown.blobs)) for each in served):
            if is_right(spec, shown):
                return replace(bare, nearest=spec)
            continue
        earlier = _earlier_build(spec, shown, served, progress)
        if earlier and is_right(spec, shown):
            return replace(bare, nearest=spec, earlier=earlier)
    found = _with_standing(bare, server, is_right)
    return _with_differences(found, current, shown)


def _earlier_build(
    spec: Spec, shown: Shown, served: Sequence[str], progress: Progress
) -> str | None:
    """The one of some builds that has the name which an earlier version gave to a spec."""
    spec = way_of(spec.source).as_marked_earlier(spec, shown, progress)
    return next((each for each in spec.earlier_builds(shown.blobs) if each in served), None)


def _shown(server: Server, name: str) -> Shown | None:
    """A model that the server lists; None where it lists it, and a layer of it is gone.

    Raises:
        ModelNotFound: Another run has removed it.
    """
    try:
        return server.show(name)
    except LayerLost:
        return None
    except ModelNotFound:
        # So it answers for a text that is gone, too (0.34.4).
        if server.model(name) is None:
            raise
        return None


def _refuse_other_case(name: str, current: InstalledModel | None) -> None:
    if current is not None and full_name(current.name) != full_name(name):
        raise UsageError(
            f"the server has {current.name}, and takes {name} for the same: it ignores case",
            f"use --name {current.name}, or another name",
        )


def _builds_with(models: Sequence[InstalledModel], name: str, digest: str) -> list[str]:
    return [each.name for each in builds_of(models, name) if each.digest == digest]


def _with_standing(
    found: Comparison, server: Server, is_right: Callable[[Spec, Shown], bool]
) -> Comparison:
    """Look at every build of the name, for one that is what is wanted."""
    known = dict(found.known)
    for each, own in own_models(found.models, found.name):
        if own.kind in (Kind.BUILD, Kind.TRIAL, Kind.FAILED):
            try:
                known[each.name] = server.show(each.name)
            except OF_THE_WAY:
                raise
            except ServerError:
                # One that cannot be shown is none that could be used.
                continue
    found = replace(found, known=known)
    builds = [each.name for each in builds_of(found.models, found.name) if each.name in known]
    for spec in found.candidates:
        for name in builds:
            shown = known[name]
            if (
                same_name(name, spec.build(shown.blobs))
                and not differences(spec, shown)
                and is_right(spec, shown)
                and whole(server, name)
            ):
                return replace(found, standing=(spec, shown.blobs))
    return found


def _with_differences(found: Comparison, current: InstalledModel, shown: Shown) -> Comparison:
    """The candidate that a model comes nearest to, and what it has otherwise."""
    standing = found.standing[0] if found.standing else None
    spec = min(found.candidates, key=lambda each: (each != standing, len(differences(each, shown))))
    different = differences(spec, shown)
    served = _builds_with(found.models, found.name, current.digest)
    wanted = f"a build of {spec.source}"
    if found.standing is not None:
        wanted = spec.build(found.standing[1])
        told = spec.vision is not None and shown.sees_images != spec.vision
        # A projector that is there or not is said already.
        if found.standing[1][:1] != shown.blobs[:1] or not (
            told or found.standing[1] == shown.blobs
        ):
            other = found.known.get(wanted)
            different.append(_weights_difference(shown, other, found.standing[1]))
    elif served and not different:
        # Its build has all that is wanted, and a name that vouches for something else.
        different.append(_weights_difference(shown, None, (str(spec.source),)))
        return replace(found, nearest=spec, differences=tuple(different))
    if not any(same_name(each, wanted) for each in served):
        different.append(Difference("build", served[0] if served else None, wanted))
    return replace(found, nearest=spec, differences=tuple(different))


def _weights_difference(found: Shown, other: Shown | None, wanted: tuple[str, ...]) -> Difference:
    return Difference("weights", _weights_text(found, found.blobs), _weights_text(other, wanted))


def _weights_text(shown: Shown | None, blobs: tuple[str, ...]) -> str:
    """Weights by the digest of their blob and where they came from."""
    digests = [
        f"sha256:{short_digest(each)}" if each.startswith("sha256:") else each for each in blobs
    ]
    origin = f" ({shown.origin})" if shown and shown.origin else ""
    return f"{' '.join(digests)}{origin}"


class PlanJson(TypedDict):
    """What has to happen so that a server serves what is wanted."""

    name: str
    changed: Annotated[bool, "Whether there is anything to do."]
    reason: Annotated[str, "Why; empty where nothing is to do."]
    via: Annotated[str, Via, "How the bytes would come."]
    context: Annotated[int, "The model's context in tokens."]
    vision: Annotated[
        bool | None, "Whether it would see images; null where it would if there is a projector."
    ]
    carriers: Annotated[list[str], Carrier, "Where the template may live, the best first."]
    previous: Annotated[str | None, "The build that the name stands for; null where it is new."]
    differences: Annotated[list[DifferenceJson], "What the model has otherwise than it should."]
    removed: Annotated[list[str], "Builds that would be removed in the end."]
    removed_at_most: Annotated[bool, "Whether fewer may be removed, since that is not known yet."]
    needs: Annotated[NeedsJson | None, "What a new build will take; null where it is not known."]
    steps: list[StepJson]


@dataclass(frozen=True, slots=True)
class Plan:
    """What has to happen so that a server serves what is wanted.

    Attributes:
        compared: What the server has, beside what is wanted.
        version: The server's version.
        policy: How the wish is to be met.
        around: What the ways of the bytes depend on.
        steps: What is done, in order; empty where nothing is.
        removed: Builds that are removed in the end, as far as they are there or known already.
        at_most: Whether fewer may be removed, since nobody knows yet which build will be made.
        again: Plans anew from what the server has then; None where nobody can.
        needs: What a new build will take; None where none is made, or its size is not known.
    """

    compared: Comparison
    version: Version
    policy: Policy
    around: Surroundings
    steps: tuple[Step, ...]
    removed: tuple[str, ...] = ()
    at_most: bool = False
    again: Callable[[], Plan] | None = None
    needs: Needs | None = None

    @property
    def name(self) -> str:
        """The public name."""
        return self.compared.name

    def as_json(self) -> PlanJson:
        """The plan as ``--dry-run --json`` prints it."""
        compared = self.compared
        spec = compared.unchanged or compared.candidates[0]
        return {
            "name": self.name,
            "changed": bool(self.steps),
            "reason": compared.reason,
            "via": self.around.via.value,
            "context": spec.context,
            "vision": spec.vision,
            "carriers": [each.carrier.value for each in compared.candidates],
            "previous": compared.previous,
            "differences": [each.as_json() for each in compared.differences],
            "removed": list(self.removed),
            "removed_at_most": self.at_most,
            "needs": self.needs.as_json() if self.needs else None,
            "steps": [each.as_json() for each in self.steps],
        }


def make_plan(
    compared: Comparison,
    server: Server,
    version: Version,
    policy: Policy,
    *,
    via: Via,
    registry: RegistryAddress,
    publisher: Publisher,
    progress: Progress,
) -> Plan:
    """Turn what differs into steps.

    Args:
        compared: What the server has, beside what is wanted.
        server: The server.
        version: Its version.
        policy: How the wish is to be met.
        via: How the bytes reach the server.
        registry: Where the server pulls from.
        publisher: Who says what is published.
        progress: Hears of warnings.

    Raises:
        HubError: The publisher has to say which file it has, and does not.
        UsageError: The file cannot be had.
    """
    around = Surroundings(
        server, version, compared.models, compared.known, via, registry, policy, publisher, progress
    )
    steps: list[Step] = []
    if compared.unchanged is None:
        steps += _making_steps(compared, around)
        pulled = any(isinstance(each, Pull) and each.is_ours for each in steps)
        steps += base_steps(compared.candidates[0], around, pulled=pulled)
    bases = [each.base for each in steps if isinstance(each, RemoveBase)]
    steps += stopped_runs(server, compared.models, compared.name, but=bases)
    removed, at_most = _removed(compared, around, steps)
    if removed:
        assert policy.keep is not None  # noqa: S101 - else there would be none
        steps.append(RemoveBuilds(removed, policy.keep, at_most))
    return Plan(compared, version, policy, around, tuple(steps), removed, at_most)


def _making_steps(compared: Comparison, around: Surroundings) -> list[Step]:
    policy = around.policy
    if compared.earlier is not None:
        assert compared.nearest is not None  # noqa: S101 - its builds have that name
        assert compared.shown is not None  # noqa: S101 - it was compared
        return [RenameBuild(compared.nearest, compared.shown.blobs, compared.earlier)]
    steps: list[Step] = []
    if compared.standing is not None:
        spec, weights = compared.standing
        steps.append(UseBuild(spec, weights))
        others = [each for each in compared.candidates if each.carrier is not spec.carrier]
        if _needs_proof(spec, compared.candidates):
            otherwise = partial(_made_anew, others, around)
            steps.append(_compare_step(spec, others, otherwise))
    else:
        steps += _made(_with_system_text(compared.candidates, around), around)
    if policy.check:
        steps.append(Check(compared.name))
    _say_what_is_unloaded(steps, around)
    if compared.standing is None:
        steps.append(Keep(compared.name))
    steps.append(Switch(compared.name, is_new=compared.current is None))
    return steps


def _say_what_is_unloaded(steps: list[Step], around: Surroundings) -> None:
    """Let the first step that loads the build say what the server lets go for it.

    How much memory a server has it does not tell; that engines are kept by weights is known.
    """
    first = next((i for i, each in enumerate(steps) if isinstance(each, Compare | Check)), None)
    loaded = around.server.running()
    if first is None or not loaded:
        return
    spec = next(each.spec for each in steps if isinstance(each, UseBuild | Create))
    weights = next((each.weights for each in steps if isinstance(each, UseBuild)), None)
    weights = weights or _weights_known(steps, around)
    by_weights, by_memory = [], []
    for each in loaded:
        name = loaded_name(around.models, each)
        if name is None:
            # What nobody can ask any more is missed by nobody.
            continue
        shown = shown_if_there(around.server, name)
        if shown is None or weights is None or shown.weights != weights[0]:
            by_memory.append(name)
        elif each.context != spec.context or shown.blobs != weights or spec.carrier is Carrier.HUB:
            by_weights.append(name)
    words = ""
    if by_weights:
        names = ", ".join(by_weights)
        words += f"; the server unloads {names} for it, since both are on the same weights"
    if by_memory:
        cause = "" if weights is not None else "it is on the same weights, or "
        words += (
            f"; the server unloads {', '.join(by_memory)} for it where {cause}its memory cannot "
            "hold both, which only the server knows"
        )
    step = steps[first]
    assert isinstance(step, Compare | Check)  # noqa: S101 - so it was chosen
    steps[first] = replace(step, unloads=words)


def _made_anew(candidates: Sequence[Spec], around: Surroundings) -> list[Step]:
    return [
        *_made(_with_system_text(tuple(candidates), around), around),
        Keep(candidates[0].name),
    ]


def _made(candidates: Sequence[Spec], around: Surroundings) -> list[Step]:
    """The steps after which there is a build of the first candidate whose prompt is right."""
    spec, *others = candidates
    eyes = eyes_of(spec, around)
    steps = way_of(spec.source).steps(spec, eyes.around(around), eyes.fits)
    steps += [*eyes.steps(spec, around), Create(spec)]
    if _needs_proof(spec, candidates):
        steps.append(_compare_step(spec, others, partial(_made, others, around)))
    return steps


def _compare_step(
    spec: Spec, others: Sequence[Spec], otherwise: Callable[[], Sequence[Step]]
) -> Compare:
    carriers = tuple(dict.fromkeys(each.carrier for each in others))
    return Compare(spec, carriers, otherwise if others else None)


def _needs_proof(spec: Spec, candidates: Sequence[Spec]) -> bool:
    """Whether the prompt decides if a build is taken.

    The last resort is checked by smoke alone; but a template of the server's own is nothing that a
    build could bring.
    """
    return spec is not candidates[-1] or spec.carrier is Carrier.SERVER


def _with_system_text(candidates: tuple[Spec, ...], around: Surroundings) -> tuple[Spec, ...]:
    """The candidates with a system prompt whose text is here.

    Candidates differ in their system prompt only where the default was asked for; the hub's comes
    first then, and the bundled one takes its place where the hub does not give it, or is not asked
    since a mirror is named.
    """
    first = candidates[0].system
    if first.text is not None:
        return candidates
    alternatives = [each for each in candidates if each.system.origin is not SystemOrigin.HUB]
    if alternatives and around.via is Via.SERVER and not around.registry.is_hub:
        around.progress.step("taking the bundled system prompt, as the hub is not asked")
        return tuple(alternatives)
    try:
        text = system.from_hub(candidates[0].release)
    except (HubError, UsageError) as error:
        if not alternatives:
            raise
        around.progress.warn(f"{error.what}; the bundled system prompt is used")
        return tuple(alternatives)
    return tuple(
        replace(each, system=text) for each in candidates if each.system.origin is SystemOrigin.HUB
    )


def _removed(
    compared: Comparison, around: Surroundings, steps: Sequence[Step]
) -> tuple[tuple[str, ...], bool]:
    """The builds that are over ``keep`` once the plan has been carried out.

    Returns:
        Their names, and whether it may be fewer: where nobody knows the weights to come, the build
        to come may be one that is there.
    """
    keep = around.policy.keep
    if keep is None:
        return (), False

    def over(models: Sequence[InstalledModel]) -> tuple[str, ...]:
        return tuple(each.name for each in surplus(models, compared.name, keep, around.server.now))

    if compared.unchanged is not None or compared.earlier is not None:
        return over(compared.models), False
    found = over(_models_afterwards(compared, None))
    if not found or compared.standing is not None:
        return found, False
    spec = next(each.spec for each in steps if isinstance(each, Create))
    weights = _weights_to_come(steps, around)
    if weights is not None:
        return over(_models_afterwards(compared, spec.build(weights))), False
    names = [each.name for each in builds_of(compared.models, compared.name)]
    possible = [each for each in names if _may_come(each, compared, around)]
    fewer = {over(_models_afterwards(compared, each)) for each in possible}
    return found, bool(fewer - {found})


def _weights_to_come(steps: Sequence[Step], around: Surroundings) -> tuple[str, ...] | None:
    """The blobs that the build to come will have; None where nobody knows them yet."""
    if (known := _weights_known(steps, around)) is not None:
        return known
    for step in steps:
        if isinstance(step, Pull) and around.version >= UNQUOTED_FILES:
            return _pulled_blobs(step, steps, around)
    return None


def _pulled_blobs(
    step: Pull, steps: Sequence[Step], around: Surroundings
) -> tuple[str, ...] | None:
    """The blobs of what is made of a pull; None where nobody knows them yet."""
    if step.pull:
        manifest = around.publisher.manifest(step.source)
        if manifest is None:
            return None
        weights, projectors = manifest.weights, manifest.projectors
    else:
        shown = around.server.show(step.base)
        weights, projectors = shown.weight_blobs, shown.projectors
    if any(isinstance(each, PulledProjector) for each in steps):
        # Where none comes along, the hub's may be brought, or there is none.
        return (*weights, *projectors) if weights and projectors else None
    return (*weights, *_projectors_known(steps)) or None


def _projectors_known(steps: Sequence[Step]) -> tuple[str, ...]:
    return tuple(each.projector.digest for each in steps if isinstance(each, AddProjector))


def _weights_known(steps: Sequence[Step], around: Surroundings) -> tuple[str, ...] | None:
    """The blobs of weights that are there or about to be sent; None where nobody knows them."""
    if rewrites_files(around.version):
        return None
    weights = next((each.weights for each in steps if isinstance(each, UseWeights | Upload)), None)
    if weights is None or isinstance(weights, str):
        return None
    return (*weights.values(), *_projectors_known(steps))


def _may_come(build: str, compared: Comparison, around: Surroundings) -> bool:
    """Whether a build that is there may be the one that is to be made.

    It is where it has what is wanted, or has not what its name says, so that it is made anew.
    """
    shown = compared.known.get(build) or shown_if_there(around.server, build)
    if shown is None:
        return True
    if not all(differences(each, shown) for each in compared.candidates):
        return True
    return not vouches(shown, find_model(list(compared.models), build), compared.name)


def _models_afterwards(compared: Comparison, to_come: str | None) -> list[InstalledModel]:
    """The models that there will be, as far as the history of the name is concerned."""
    name, current, kept = compared.name, compared.current, compared.previous
    models = [each for each in compared.models if not same_name(each.name, name)]
    if current is not None and kept is not None and find_model(models, kept) is None:
        models.append(InstalledModel(kept, current.digest, 0, _BEFORE_THE_LATEST))
    digest = "of a build to come"
    if compared.standing is not None:
        spec, weights = compared.standing
        build = find_model(models, spec.build(weights))
        assert build is not None  # noqa: S101 - it stands
        digest = build.digest
        models.append(InstalledModel(new_served_name(build.name), digest, 0, _LATEST))
    else:
        to_come = to_come or build_name(name, "0" * SHOWN_DIGITS)
        models = [each for each in models if not same_name(each.name, to_come)]
        models.append(InstalledModel(to_come, digest, 0, _LATEST))
    return [*models, InstalledModel(name, digest, 0, _LATEST)]
