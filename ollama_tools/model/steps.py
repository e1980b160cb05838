"""What a plan is made of: steps that can say what they will do, and do it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypedDict

from ollama_tools.devstral.carriers import Carrier
from ollama_tools.devstral.context import AGENT_PROMPT, AGENT_ROOM, check_prompt_tokens
from ollama_tools.errors import BuildLost, CheckFailed, LayerLost, ModelNotFound, ServerError
from ollama_tools.model.builds import (
    Build,
    check_keep,
    forget,
    free_engine,
    prune,
    shown_if_there,
    switch,
    whole,
)
from ollama_tools.model.modelfile import create_request, differences
from ollama_tools.progress import Progress
from ollama_tools.server.answers import CHECK_ADDRESS, OF_THE_WAY
from ollama_tools.server.client import Server, find_model
from ollama_tools.server.names import failed_name, new_trial_name, new_unserved_name
from ollama_tools.server.origin import Origin
from ollama_tools.server.shown import Shown
from ollama_tools.server.versions import UNQUOTED_FILES, Version
from ollama_tools.wanted.spec import Spec

if TYPE_CHECKING:
    from ollama_tools.checks.result import Report

_PROMPT_SLACK = 256
"""Tokens by which a long prompt may come out longer than it was meant."""

_CREATIONS = 3
"""How often a model is created before a run gives up to find it whole."""

Weights = str | Mapping[str, str]
"""What a create request calls the weights: a model's name, or files with their digests."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How a wish is to be met.

    Attributes:
        check: Whether a new build must pass the smoke checks before the name is switched to it.
        prompt_tokens: Tokens of the long prompt of the checks.
        force: Bring and build again even where nothing differs.
        upgrade: Take what is published now, where what serves is an older file.
        keep: How many builds of the name stay, the one that serves among them; None for all.
        require_gpu: Whether a new build must be wholly on graphics cards; None where one is seen.
        preflight: Whether a miniature tries the server before more than 1 GB is brought.

    Raises:
        UsageError: None would stay, or the prompt is too short to prove anything.
    """

    check: bool = True
    prompt_tokens: int = AGENT_PROMPT
    force: bool = False
    upgrade: bool = False
    keep: int | None = None
    require_gpu: bool | None = None
    preflight: bool = True

    def __post_init__(self) -> None:
        if self.keep is not None:
            check_keep(self.keep)
        if self.check:
            check_prompt_tokens(self.prompt_tokens)


@dataclass
class Run:
    """A plan that is being carried out, and what came of it so far.

    Attributes:
        server: The server.
        version: Its version.
        name: The public name.
        policy: How the wish is to be met.
        progress: Hears of each step.
        weights: What a create request calls the weights.
        origin: Where they came from.
        projectors: ``sha256:…`` of the projectors that came with a pull and are among them.
        width: Width of the hidden state of what was pulled; None where nothing says it.
        license: The license that they came with; empty where there is none.
        spec: The spec that is built, or was found built.
        at: The name under which it can be asked now: a trial, or a build.
        blobs: Digests of its weights on the server.
        rejected: Trials whose prompt was not right.
        report: The answers of the checks.
        previous: The build that the name stood for before.
        switching: Whether the name is being written, or was.
        switched: Whether the name stands for the build already.
        digest: Hex digest of the manifest that the name was switched to.
        found_origin: Where its weights came from, as that manifest says it.
        sees: Whether it sees images.
        removed: Builds that are gone.
        done: The steps that were taken, in the words of the plan.
    """

    server: Server
    version: Version
    name: str
    policy: Policy
    progress: Progress
    weights: Weights = ""
    origin: Origin | None = None
    projectors: tuple[str, ...] = ()
    width: int | None = None
    license: str = ""
    spec: Spec | None = None
    at: str = ""
    blobs: tuple[str, ...] = ()
    rejected: list[str] = field(default_factory=list)
    report: Report | None = None
    previous: str | None = None
    switching: bool = False
    switched: bool = False
    digest: str = ""
    found_origin: Origin | None = None
    sees: bool = False
    removed: list[Build] = field(default_factory=list)
    done: list[Step] = field(default_factory=list)

    def take(self, steps: Sequence[Step]) -> None:
        """Take steps, one after the other."""
        for step in steps:
            self.progress.step(step.text)
            self.done.append(step)
            step.run(self)

    @property
    def made(self) -> Spec:
        """The spec that is built; there is one after the first step that builds or finds it."""
        assert self.spec is not None  # noqa: S101 - every plan has such a step before
        return self.spec

    @property
    def build(self) -> str:
        """The name under which the build is kept."""
        return self.made.build(self.blobs)

    @property
    def is_trial(self) -> bool:
        """Whether the build has no name of its own yet."""
        return self.at != self.build

    def drop(self, name: str) -> None:
        """Remove a trial."""
        self.server.delete(name)
        if name in self.rejected:
            self.rejected.remove(name)


class StepKind(StrEnum):
    """What a step does, for programs."""

    BRING = "bring"
    BUILD = "build"
    COMPARE = "compare"
    CHECK = "check"
    KEEP = "keep"
    SWITCH = "switch"
    REMOVE = "remove"


class StepJson(TypedDict):
    """One thing to do."""

    sign: str
    kind: Annotated[str, StepKind, "What it does, for programs."]
    text: str


class Step(ABC):
    """One thing to do.

    Attributes:
        kind: What it does.
        sign: ``+`` for something new, ``~`` for something switched, ``-`` for something removed,
            ``?`` for a question, ``=`` for something used as it is.
    """

    kind: ClassVar[StepKind]
    sign: ClassVar[str]

    @property
    @abstractmethod
    def text(self) -> str:
        """What it will do, in one line; the same before it is done and while it is."""

    @abstractmethod
    def run(self, run: Run) -> None:
        """Do it."""

    def as_json(self) -> StepJson:
        """The step as ``--json`` prints it."""
        return {"sign": self.sign, "kind": self.kind.value, "text": self.text}

    def __str__(self) -> str:
        return f"{self.sign} {self.text}"


def describe(spec: Spec) -> str:
    """A spec in a few words."""
    sees = {True: "vision", False: "no vision", None: "vision where there is a projector"}
    return (
        f"carrier {spec.carrier.value}, context {spec.context}, "
        f"system prompt {spec.system.origin.value}, {sees[spec.vision]}"
    )


def _look_at_build(run: Run) -> None:
    shown = run.server.show(run.build)
    run.found_origin, run.sees = shown.origin, shown.sees_images


@dataclass(frozen=True)
class UseBuild(Step):
    """A build on the server is what is wanted; no bytes are needed."""

    kind = StepKind.BUILD
    sign = "="
    spec: Spec
    weights: tuple[str, ...]

    @property
    def text(self) -> str:
        """See :class:`Step`."""
        return f"use the build {self.spec.build(self.weights)} as it is"

    def run(self, run: Run) -> None:
        """See :class:`Step`."""
        run.spec, run.blobs, run.at = self.spec, self.weights, self.spec.build(self.weights)
        with _still_there(run):
            free_engine(run.server, run.at, run.progress)


@dataclass(frozen=True)
class RenameBuild(Step):
    """A build of an earlier version of this package gets the name that it has now."""

    kind = StepKind.BUILD
    sign = "~"
    spec: Spec
    weights: tuple[str, ...]
    earlier: str

    @property
    def text(self) -> str:
        """See :class:`Step`."""
        return f"rename the build {self.earlier} to {self.spec.build(self.weights)}; no bytes move"

    def run(self, run: Run) -> None:
        """See :class:`Step`."""
        run.spec, run.blobs = self.spec, self.weights
        run.at = run.previous = run.build
        with _still_there(run):
            if not _is_there(run):
                run.server.copy(self.earlier, run.build)
            _look_at_build(run)
        if not whole(run.server, run.build):
            raise _holed(run)
        # Another run may have made it anew, and then its manifest is another than the name's.
        done = switch(run.server, run.name, run.build)
        run.digest, run.switched = done.digest, True
        forget(run.server, run.server.models(), self.earlier)


@dataclass(frozen=True)
class Create(Step):
    """Create the model, under a name that no other run takes."""

    kind = StepKind.BUILD
    sign = "+"
    spec: Spec

    @property
    def text(self) -> str:
        """See :class:`Step`."""
        return f"create {self.spec.name} ({describe(self.spec)})"

    def run(self, run: Run) -> None:
        """See :class:`Step`."""
        run.spec, run.at, run.blobs = self.spec, new_trial_name(run.name), ()
        for _ in range(_CREATIONS):
            with _still_there(run):
                # Weights that nothing names yet may go with a model that had them too.
                run.server.create(self._request(run), run.progress.transfer)
            if whole(run.server, run.at):
                break
            # Who removes a model just now may take a layer that this one has too.
            run.server.delete(run.at)
        else:
            raise ServerError(
                f"{run.at} was created {_CREATIONS} times and never whole: another run removes "
                "models that share its layers",
                "wait for it, then run the command again",
            )
        with _still_there(run):
            shown = run.server.show(run.at)
            run.blobs = shown.blobs
            _require_sight(run, shown)
            free_engine(run.server, run.at, run.progress)

    def _request(self, run: Run) -> dict[str, Any]:
        request = create_request(self.spec, run.at, run.weights)
        if "files" not in request:
            # What is made from a model has that one's license.
            return request
        licenses = [run.license] if run.license else []
        if run.version < UNQUOTED_FILES and run.origin is not None:
            licenses.append(run.origin.license_line)
        return request | ({"license": licenses} if licenses else {})


def _require_sight(run: Run, shown: Shown) -> None:
    """See that the server took the projector, or had none, as was wanted."""
    wanted = run.made.vision
    if wanted is None or shown.sees_images == wanted:
        return
    run.drop(run.at)
    has, lacks = ("no vision", "vision") if wanted else ("vision", "no vision")
    raise ServerError(
        f"the server made a model with {has}, where {lacks} was asked for",
        f"leave out {'--vision' if wanted else '--no-vision'}, or upgrade the server",
    )


def _holed(run: Run) -> BuildLost:
    return BuildLost(
        f"{run.build} is not whole after it was written: another run removed models meanwhile, or "
        "something that is not Ollama answers in its place",
        f"wait for the other run, then run the command again; or {CHECK_ADDRESS}",
    )


@contextmanager
def _still_there(run: Run) -> Iterator[None]:
    """Say of a build that another run has removed that it is lost."""
    try:
        yield
    except (ModelNotFound, LayerLost) as error:
        raise BuildLost(
            f"the build {run.at}, or a layer of it, is gone: another run removed it",
            "wait for the other run, then run the command again",
        ) from error


@dataclass(frozen=True)
class Compare(Step):
    """Compare the prompt that the server builds with the reference; try the next carrier if not.

    Attributes:
        spec: What is compared.
        others: The carriers that are tried where the prompt is not right, the best first.
        otherwise: Gives the steps for the first of them; None where there is none.
        unloads: What the server lets go for it, in words; empty where it is nothing.
    """

    kind = StepKind.COMPARE
    sign = "?"
    spec: Spec
    others: tuple[Carrier, ...] = ()
    otherwise: Callable[[], Sequence[Step]] | None = None
    unloads: str = ""

    @property
    def text(self) -> str:
        """See :class:`Step`."""
        line = f"compare the prompt of carrier {self.spec.carrier.value} with Devstral's"
        if self.others:
            carriers = ", then ".join(each.value for each in self.others)
            line += f"; if it is another, try {carriers}"
        return f"{line}{self.unloads}"

    def run(self, run: Run) -> None:
        """See :class:`Step`."""
        why = _template_fault(run)
        if not why:
            return
        if run.is_trial:
            run.rejected.append(run.at)
        if self.spec.carrier is Carrier.SERVER:
            for name in (*run.rejected,):
                run.drop(name)
            release = self.spec.release
            raise CheckFailed(
                f"the server applies no template of {release.name} to {run.name}: {why}",
                f"start it with devstral-ollama serve --dedicated-to {release.aliases[0]}"
                ", or use --carrier auto",
            )
        run.progress.warn(f"carrier {self.spec.carrier.value} is not taken: {why}")
        assert self.otherwise is not None  # noqa: S101 - the last resort is not compared
        run.take(self.otherwise())


def _template_fault(run: Run) -> str:
    """Why a build's template is not Devstral's; empty where it is."""
    from ollama_tools.lint.live import prompt_difference

    try:
        with _still_there(run):
            difference, key_order_only = prompt_difference(
                run.server, run.at, run.made.release.tokenizer
            )
    except (BuildLost, *OF_THE_WAY):
        # No prompt was rendered, so nothing is known of the template.
        raise
    except ServerError as error:
        return error.what
    return "" if key_order_only else difference


@dataclass(frozen=True)
class Check(Step):
    """Ask the build everything, before anybody uses it.

    Attributes:
        name: The public name.
        unloads: What the server lets go for it, in words; empty where it is nothing.
    """

    kind = StepKind.CHECK
    sign = "?"
    name: str
    unloads: str = ""

    @property
    def text(self) -> str:
        """See :class:`Step`."""
        line = f"check the build of {self.name}: prompt, context, KV cache, tool calls"
        return f"{line}{self.unloads}"

    def run(self, run: Run) -> None:
        """See :class:`Step`."""
        from ollama_tools.checks.smoke import smoke_server

        spec = run.made
        # Who asks for a small context gets it, and is told what it does not hold.
        room = max(256, spec.context - AGENT_ROOM - _PROMPT_SLACK)
        if room < AGENT_PROMPT:
            run.progress.warn(
                f"a context of {spec.context} tokens is too small for a coding agent, whose first "
                f"prompt takes up to {AGENT_PROMPT}"
            )
        run.report = smoke_server(
            run.server,
            run.at,
            spec.release.tokenizer,
            prompt_tokens=min(run.policy.prompt_tokens, room),
            require_gpu=run.policy.require_gpu,
            keeps_template=bool(spec.keep_template),
            progress=run.progress,
        )
        if run.report.passed:
            return
        left = _put_aside(run)
        first = run.report.failures[0]
        raise CheckFailed(
            f"{run.build} fails {len(run.report.failures)} of {len(run.report.checks)} checks, "
            f"first {first.id}: {first.saw}",
            first.fix or f"see: devstral-ollama smoke {left}",
        )


def _put_aside(run: Run) -> str:
    """Keep a trial that failed to be looked at, and its blob; a build that served stays a build."""
    if not run.is_trial:
        return run.build
    left = failed_name(run.build)
    if run.server.model(left) is not None:
        run.server.delete(left)
    run.server.copy(run.at, left)
    run.drop(run.at)
    run.at = run.build
    return left


@dataclass(frozen=True)
class Keep(Step):
    """Give the build its name, which no other run writes over."""

    kind = StepKind.KEEP
    sign = "+"
    name: str

    @property
    def text(self) -> str:
        """See :class:`Step`."""
        return f"keep it as a build of {self.name}"

    def run(self, run: Run) -> None:
        """See :class:`Step`."""
        trial, run.at = run.at, run.build
        unserved = ""
        if not _is_there(run):
            # Before the build, so that none is ever there that looks as if it had served.
            unserved = new_unserved_name(run.build)
            run.server.copy(trial, unserved)
            run.server.copy(trial, run.build)
        if not whole(run.server, run.build):
            run.server.delete(run.build)
            if unserved:
                run.server.delete(unserved)
            run.drop(trial)
            raise _holed(run)
        for name in (*run.rejected, trial, failed_name(run.build)):
            run.drop(name)


def _is_there(run: Run) -> bool:
    """Whether another run kept the same build meanwhile; what only has its name is removed."""
    if find_model(run.server.models(), run.build) is None:
        return False
    shown = shown_if_there(run.server, run.build)
    is_same = shown is not None and shown.blobs == run.blobs and not differences(run.made, shown)
    if is_same and whole(run.server, run.build):
        return True
    run.server.delete(run.build)
    return False


@dataclass(frozen=True)
class Switch(Step):
    """Let the public name stand for the build.

    Attributes:
        name: The public name.
        is_new: Whether there is no such name yet.
    """

    kind = StepKind.SWITCH
    name: str
    is_new: bool

    @property
    def sign(self) -> str:  # type: ignore[override] # told by what there is
        """See :class:`Step`."""
        return "+" if self.is_new else "~"

    @property
    def text(self) -> str:
        """See :class:`Step`."""
        return f"name it {self.name}" if self.is_new else f"switch {self.name} to it"

    def run(self, run: Run) -> None:
        """See :class:`Step`."""
        with _still_there(run):
            _look_at_build(run)
        run.switching = True
        done = switch(run.server, run.name, run.build)
        run.previous, run.digest, run.switched = done.previous, done.digest, True


@dataclass(frozen=True)
class RemoveBuilds(Step):
    """Remove the builds that are over what shall stay.

    Attributes:
        names: The builds, as far as they are there already.
        keep: How many stay.
        at_most: Whether it may be fewer.
    """

    kind = StepKind.REMOVE
    sign = "-"
    names: tuple[str, ...]
    keep: int
    at_most: bool = False

    @property
    def text(self) -> str:
        """See :class:`Step`."""
        names = ", ".join(self.names)
        # The weights to come may be those of a build that is there, and then there is none more.
        limit = f"at most {names}" if self.at_most else names
        return f"remove all builds but {self.keep}: {limit}"

    def run(self, run: Run) -> None:
        """See :class:`Step`."""
        removed, _ = prune(run.server, run.name, self.keep)
        run.removed += removed
