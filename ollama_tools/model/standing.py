"""Weights that a server has already, as a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ollama_tools.model.published import (
    hub_license,
    is_of_source,
    meets_pin,
)
from ollama_tools.model.steps import Run, Step, StepKind
from ollama_tools.model.surroundings import Surroundings
from ollama_tools.server.origin import Origin
from ollama_tools.server.shown import Shown
from ollama_tools.server.versions import rewrites_files
from ollama_tools.wanted.source import HubSource
from ollama_tools.wanted.spec import Spec


@dataclass(frozen=True)
class UseWeights(Step):
    """Weights that the server has already.

    Attributes:
        weights: What a create request calls them.
        origin: Where they came from.
        label: What they are, in words.
        license: The license that they came with.
        published: Where they were published, if the license has yet to be asked for.
    """

    kind = StepKind.BRING
    sign = "="
    weights: str | Mapping[str, str]
    origin: Origin | None
    label: str
    license: str = ""
    published: HubSource | None = None

    @property
    def text(self) -> str:
        """See :class:`Step`."""
        return f"use {self.label}, which the server has"

    def run(self, run: Run) -> None:
        """See :class:`Step`."""
        run.weights, run.origin, run.license = self.weights, self.origin, self.license
        run.projectors = ()
        if self.published is not None:
            run.license = hub_license(self.published, run.progress)


def files_of(digests: Sequence[str], origin: Origin) -> dict[str, str]:
    """The blobs of a model as files: the first has the name of where it came from."""
    first, *others = digests
    files = {origin.key(): first}
    return files | {origin.key(f"{number}.gguf"): each for number, each in enumerate(others, 1)}


def use_blobs(
    digests: tuple[str, ...], origin: Origin, label: str, license_text: str = ""
) -> UseWeights:
    """Use the blobs of a model by their digests."""
    return UseWeights(files_of(digests, origin), origin, label, license_text)


def left_out(name: str, spec: Spec) -> str:
    """What is said where weights come with a projector that is not wanted."""
    if spec.projector is not None:
        return f"the projector of {name} is left out, as {spec.projector} takes its place"
    return f"{name} has a projector, which is left out: --vision keeps it"


def standing_weights(spec: Spec, source: HubSource, around: Surroundings) -> UseWeights | None:
    """The weights of a build of the same name, where they are the wished file in the wished form.

    What serves stays even where the hub has another file now; a new file is asked for.
    """
    if around.policy.force or around.policy.upgrade or rewrites_files(around.version):
        return None
    for shown in around.known.values():
        origin = shown.origin
        if (
            origin is not None
            and is_of_source(origin, source)
            and meets_pin(shown, source, around.publisher)
            and _has_form(spec, shown, origin)
            and all(around.server.has_blob(each) for each in shown.weight_blobs)
        ):
            return use_blobs(shown.weight_blobs, origin, f"the weights of {origin}", shown.license)
    return None


def _has_form(spec: Spec, shown: Shown, origin: Origin) -> bool:
    """Whether weights carry the template that a spec wants in them, or none of ours."""
    if spec.layers.jinja is not None:
        return shown.is_jinja and shown.template.rstrip("\n") == spec.layers.jinja
    return shown.weights == f"sha256:{origin.sha256}"
