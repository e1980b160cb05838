"""Weights that a server brings by itself, and the name that it has them under."""

from __future__ import annotations

from dataclasses import dataclass

from ollama_tools.devstral.carriers import Carrier
from ollama_tools.errors import (
    BuildLost,
    LayerLost,
    ModelNotFound,
    PullFailed,
    UsageError,
)
from ollama_tools.files import remembered as state
from ollama_tools.files.digests import short_digest
from ollama_tools.model.published import (
    require_pinned,
)
from ollama_tools.model.refusals import check_room, check_shown
from ollama_tools.model.standing import files_of, left_out
from ollama_tools.model.steps import Run, Step, StepKind
from ollama_tools.model.surroundings import Fits, Surroundings
from ollama_tools.progress import size_text
from ollama_tools.server.client import find_model
from ollama_tools.server.names import same_name
from ollama_tools.server.origin import Origin
from ollama_tools.server.shown import Shown
from ollama_tools.server.versions import NATIVE_JINJA, UNQUOTED_FILES
from ollama_tools.wanted.source import HubSource
from ollama_tools.wanted.spec import Spec
from ollama_tools.wanted.wish import Via


def pull_steps(spec: Spec, source: HubSource, around: Surroundings, fits: Fits) -> list[Step]:
    """The steps by which a server pulls a quant, which is held to its pin before and afterwards.

    Raises:
        HubError: The publisher does not say which weights the pin means.
        UsageError: The pin means others, or the publisher cannot say it.
    """
    expected, commit = source.sha256, None
    publisher = around.publisher
    base = source.pulled_from(around.registry.host)
    is_there = find_model(list(around.models), base) is not None
    pull = not is_there or around.policy.force or around.policy.upgrade
    if source.commit is not None and (known := publisher.of_commit(source)):
        require_pinned(source, known, str(source), publisher.label)
        expected, commit = known, source.commit
    elif expected is None and source.commit is not None:
        raise publisher.refuse_commit(source)
    elif expected is not None and pull and (manifest := publisher.manifest(source)):
        # Known before gigabytes are brought; what arrives is compared all the same.
        own = manifest.weights[0].removeprefix("sha256:")
        require_pinned(source, own, str(source), publisher.label)
    return [
        Pull(
            spec,
            source,
            base,
            insecure=around.registry.insecure,
            bytes=source.bytes,
            estimated=source.estimated,
            expected=expected,
            commit=commit,
            pull=pull,
            is_ours=not is_there,
            fits=fits,
        )
    ]


@dataclass(frozen=True)
class Pull(Step):
    """Let the server bring the weights from its registry, unless they are there.

    Attributes:
        spec: What they are for.
        source: The quant.
        base: The name that the server pulls.
        insecure: Whether the registry is reached by plain HTTP.
        bytes: Size of the weights, where it is known or estimated.
        estimated: Whether it is not known to the byte.
        expected: Hex digest that they must have; None for whatever the registry has.
        commit: The commit that has them; None where nobody knows it.
        pull: Whether the registry is asked.
        is_ours: Whether the base comes to the server by this step.
        fits: Is asked before the weights are taken.
    """

    kind = StepKind.BRING
    spec: Spec
    source: HubSource
    base: str
    insecure: bool
    bytes: int | None
    estimated: bool
    expected: str | None
    commit: str | None
    pull: bool
    is_ours: bool
    fits: Fits

    @property
    def sign(self) -> str:  # type: ignore[override] # told by what there is
        """See :class:`Step`."""
        return "+" if self.pull else "="

    @property
    def text(self) -> str:
        """See :class:`Step`."""
        if not self.pull:
            return f"use {self.base}, which the server has"
        size = f", {size_text(self.bytes, estimated=self.estimated)}" if self.bytes else ""
        return f"pull {self.base}{size}; blobs already there are not fetched again"

    def run(self, run: Run) -> None:
        """See :class:`Step`."""
        if self.is_ours:
            # Noted before the pull, so that a run after an interrupted one still knows it.
            state.note_base(run.server.url, self.base, run.name)
            check_room(run, self.bytes)
        if self.pull:
            self._pull(run)
        try:
            self._take(run, self._shown(run))
        except (UsageError, PullFailed):
            if self.is_ours:
                run.server.delete(self.base)
                state.forget_base(run.server.url, self.base)
            raise

    def _pull(self, run: Run) -> None:
        run.server.pull(self.base, insecure=self.insecure, advance=run.progress.transfer)

    def _shown(self, run: Run) -> Shown:
        """What was pulled; what is on the server by its name alone is pulled anew."""
        try:
            return run.server.show(self.base)
        except (ModelNotFound, LayerLost) as error:
            if run.server.model(self.base) is None:
                raise BuildLost(
                    f"{self.base} is gone: another run that pulled it too has removed it",
                    "wait for the other run, then run the command again",
                ) from error
        if not self.pull:
            self._pull(run)
        try:
            return run.server.show(self.base)
        except (ModelNotFound, LayerLost) as error:
            raise PullFailed(
                f"what the server pulled as {self.base} is no model: its registry answers with "
                "something else",
                "check --registry, and what stands before it",
            ) from error

    def _take(self, run: Run, shown: Shown) -> None:
        source = self.source
        spec = self.spec
        check_shown(spec, self.base, shown, "let it be mended on its way: --via upload")
        self.fits(self.base, shown.embedding)
        own = (shown.weights or "").removeprefix("sha256:")
        if self.expected is not None and own != self.expected:
            raise PullFailed(
                f"the server pulled weights of the sha256 {short_digest(own)}…, not the pinned "
                f"{short_digest(self.expected)}…",
                "a server pulls what its registry has now: use --via upload",
            )
        run.origin = Origin(source.repository, source.filename, None, self.commit, own)
        run.license, run.width = shown.license, shown.embedding
        is_left_out = bool(shown.projectors) and (
            spec.vision is False or spec.projector is not None
        )
        if is_left_out:
            run.progress.warn(left_out(self.base, spec))
        else:
            run.projectors = shown.projectors
        if shown.blobs and (is_left_out or run.version >= UNQUOTED_FILES):
            # A model that is made "from" another has the projector of that one.
            blobs = shown.weight_blobs if is_left_out else shown.blobs
            run.weights = files_of(blobs, run.origin)
        else:
            run.weights = self.base


@dataclass(frozen=True)
class RemoveBase(Step):
    """Leave no base name that could start an engine which breaks the built model.

    Engines are kept by blob: a model with TEMPLATE and PARSER starts one that the base, which has
    neither, cannot use for tools (HTTP 500 on 0.34.4).
    """

    kind = StepKind.REMOVE
    sign = "-"
    base: str

    @property
    def text(self) -> str:
        """See :class:`Step`."""
        return f"remove the base name {self.base}; its blob stays"

    def run(self, run: Run) -> None:
        """See :class:`Step`."""
        run.server.delete(self.base)
        state.forget_base(run.server.url, self.base)


def base_steps(spec: Spec, around: Surroundings, *, pulled: bool) -> list[Step]:
    """What is done about the base name in the end: removed where this package pulled it."""
    base = spec.source.pulled_from(around.registry.host)
    if base is None or around.via is not Via.SERVER or same_name(base, spec.name):
        return []
    is_there = find_model(list(around.models), base) is not None
    noted = base in state.noted_bases(around.server.url)
    if (is_there and noted) or (pulled and not is_there):
        return [RemoveBase(base)]
    if noted:
        state.forget_base(around.server.url, base)
    return []


def warn_of_base(spec: Spec, around: Surroundings) -> None:
    """Say where a person's base name cannot be used beside the built model."""
    base = spec.source.pulled_from(around.registry.host)
    if (
        base is not None
        and around.via is Via.SERVER
        and spec.carrier is Carrier.MODELFILE
        and around.version >= NATIVE_JINJA
        and not same_name(base, spec.name)
        and around.server.model(base) is not None
    ):
        around.progress.warn(
            f"{base} was on the server before; asked with tools while {spec.name} is loaded it "
            f"answers HTTP 500, so remove it if nobody needs it: ollama rm {base}"
        )
