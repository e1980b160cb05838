"""The projector with which a model sees images: which one, whether it fits, how it comes."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from ollama_tools.errors import FileProblem, HubError, UsageError
from ollama_tools.files import gguf, hub, projectors
from ollama_tools.files import remembered as state
from ollama_tools.model.published import Mirror, is_of_source, projector_name
from ollama_tools.model.standing import files_of
from ollama_tools.model.steps import Run, Step, StepKind
from ollama_tools.model.surroundings import Asked, Surroundings
from ollama_tools.model.upload import require_published, send
from ollama_tools.progress import size_text
from ollama_tools.server.origin import Origin
from ollama_tools.server.shown import Shown
from ollama_tools.wanted.source import HubSource
from ollama_tools.wanted.spec import Spec
from ollama_tools.wanted.wish import Via

_BEGINNING = 1 << 16
"""Bytes of a projector's file; all that it says of itself stands in its first kilobytes."""


@dataclass(frozen=True, slots=True)
class Projector:
    """A projector that is known before anything is brought.

    Attributes:
        name: Its file's name.
        label: What it is, in words.
        digest: ``sha256:…``.
        width: Width of the hidden state that it writes; None where nothing says it.
        bytes: Its size; None where nobody needs it.
        path: Where it lies on this machine.
        file: Where it lies on the hub.
    """

    name: str
    label: str
    digest: str
    width: int | None
    bytes: int | None = None
    path: Path | None = None
    file: hub.HubFile | None = None

    def check(self, label: str, width: int | None) -> None:
        """Refuse weights that it is not for.

        Args:
            label: What the weights are called.
            width: Width of their hidden state; None where nothing says it.

        Raises:
            UsageError: It is another.
        """
        check_width(self.label, self.width, label, width)


def check_width(projector: str, writes: int | None, label: str, width: int | None) -> None:
    """Refuse a projector that writes a hidden state of another width than a model has.

    Raises:
        UsageError: It does; an engine would not load the two.
    """
    if writes is not None and width is not None and writes != width:
        raise UsageError(
            f"the projector {projector} is for models of width {writes}, {label} has {width}",
            "take the projector of that model's own repository",
        )


@dataclass(frozen=True, slots=True)
class Eyes:
    """How a model that is to be made comes to see images; with nothing set, it does not.

    Attributes:
        known: The projector that is added.
        pulled: Whether it comes with the server's pull, or has to be looked for after it.
    """

    known: Projector | None = None
    pulled: bool = False

    def fits(self, label: str, width: int | None) -> None:
        """See :data:`ollama_tools.model.surroundings.Fits`.

        Raises:
            UsageError: The projector is for models of another width.
        """
        if self.known is not None:
            self.known.check(label, width)

    def around(self, around: Surroundings) -> Surroundings:
        """What the way of the weights depends on: of a mirror, the projector comes with them."""
        if self.pulled and isinstance(around.publisher, Mirror):
            return replace(around, known={})
        return around

    def steps(self, spec: Spec, around: Surroundings) -> list[Step]:
        """What is done beside bringing the weights."""
        if self.known is not None:
            here = around.server.has_blob(self.known.digest)
            return [AddProjector(self.known, is_there=here)]
        return [PulledProjector(spec, around)] if self.pulled else []


def eyes_of(spec: Spec, around: Surroundings) -> Eyes:
    """How the model of a spec comes to see images.

    Raises:
        UsageError: It cannot, though it shall.
        HubError: The hub has to say what it has, and does not.
        FileProblem: A file is no projector.
    """
    if spec.vision is False:
        return Eyes()
    if spec.projector is not None:
        return Eyes(_of_file(spec.projector, around))
    source = spec.source
    if not isinstance(source, HubSource):
        # Those of a model on the server are among its own weights.
        return Eyes()
    if (standing := _standing(source, around)) is not None:
        return Eyes(standing)
    if around.via is Via.UPLOAD:
        return Eyes(_of_hub(spec, source, around))
    if isinstance(around.publisher, Mirror):
        manifest = around.publisher.manifest(source)
        if manifest is not None and not manifest.projectors:
            _missing(spec, around, around.publisher.label)
        elif manifest is not None:
            _require_same_weights(source, manifest.weights[0], around)
    return Eyes(pulled=True)


def _require_same_weights(source: HubSource, published: str, around: Surroundings) -> None:
    """Refuse a pull for its projector's sake, where that would change what serves unasked."""
    if around.policy.force or around.policy.upgrade:
        return
    standing = {
        f"sha256:{shown.origin.sha256}"
        for shown in around.known.values()
        if shown.origin is not None and is_of_source(shown.origin, source) and shown.origin.sha256
    }
    if standing and published not in standing:
        raise UsageError(
            f"{around.publisher.label} has a projector beside another {source} than the one that "
            "serves",
            "take both with --upgrade, or name a projector by --projector FILE",
        )


def is_right(spec: Spec, shown: Shown, asked: Asked) -> bool:
    """Whether a model has the projector that is wished, as far as its mark does not say it.

    Raises:
        HubError: The publisher has to say what it has, and does not.
        FileProblem: A file cannot be read.
    """
    if spec.projector is not None:
        return shown.projectors == (f"sha256:{state.file_sha256(spec.projector, asked.progress)}",)
    source = spec.source
    if not (asked.policy.upgrade and shown.projectors and isinstance(source, HubSource)):
        return True
    published = asked.publisher.projectors(source)
    return not published or set(shown.projectors) <= set(published)


def require_projector(header: gguf.GgufHeader) -> None:
    """Refuse a GGUF that is no projector.

    Raises:
        FileProblem: It is something else.
    """
    if not projectors.is_projector(header):
        raise FileProblem(
            f"{header.label} is no projector: its architecture is {header.architecture!r}",
            "name the mmproj file of the model's repository",
        )


def _of_file(path: Path, around: Surroundings) -> Projector:
    header = gguf.read_header(path)
    require_projector(header)
    return Projector(
        name=path.name,
        label=str(path),
        digest=f"sha256:{state.file_sha256(path, around.progress)}",
        width=projectors.projected_width(header),
        bytes=header.size,
        path=path,
    )


def _standing(source: HubSource, around: Surroundings) -> Projector | None:
    """The projector of a build of the same name; what serves stays though the hub has another."""
    if around.policy.force or around.policy.upgrade:
        return None
    for shown in around.known.values():
        origin = shown.origin
        if (
            origin is not None
            and is_of_source(origin, source)
            and len(shown.projectors) == 1
            and around.server.has_blob(shown.projectors[0])
        ):
            label = f"the projector of {origin.repository}"
            return Projector("mmproj.gguf", label, shown.projectors[0], shown.projected_width)
    return None


def _of_hub(spec: Spec, source: HubSource, around: Surroundings) -> Projector | None:
    """The projector beside a quant on the hub; None where there is none and none has to be."""
    around.progress.step(f"asking the hub for the projector of {source.repository}")
    try:
        name = projector_name(source)
    except UsageError as error:
        if spec.vision is None:
            around.progress.warn(f"{error.what}: {spec.name} will see none")
            return None
        raise
    file = hub.HubFile(source.repository, name, source.revision)
    facts = hub.facts(file)
    if facts.sha256 is None or facts.bytes is None:
        raise HubError(f"the hub does not say what {file} is", "try again, or leave out --vision")
    pinned = replace(file, revision=facts.commit or source.revision)
    path = hub.cached(pinned)
    if path is not None:
        header = gguf.read_header(path)
    else:
        start, size = hub.beginning(pinned, _BEGINNING)
        header = gguf.parse_header(io.BytesIO(start), size, str(file), partial=True)
    require_projector(header)
    width = projectors.projected_width(header)
    return Projector(
        PurePosixPath(name).name,
        str(file),
        f"sha256:{facts.sha256}",
        width,
        facts.bytes,
        path,
        pinned,
    )


def _missing(spec: Spec, around: Surroundings, where: str) -> None:
    """Say that a projector is not to be had; an error only where a person asked for it."""
    what = f"{where} has no projector for {spec.source}, with which a model sees images"
    if spec.vision:
        raise UsageError(
            what, "name one by --projector FILE, use --via upload, or leave out --vision"
        )
    around.progress.warn(f"{what}: {spec.name} will see none")


def add_projector(run: Run, projector: Projector) -> None:
    """Bring a projector to the server, and put it among the weights.

    Raises:
        HubError: The hub does not give what it announced.
        FileProblem: It is another file than it was.
    """
    if not run.server.has_blob(projector.digest):
        path = projector.path
        if path is None and projector.file is not None:
            path = hub.download(
                projector.file,
                lambda done, total: run.progress.transfer(projector.name, done, total),
            )
        if path is None:
            raise HubError(f"{projector.label} is gone from the server", "run the command again")
        own = state.file_sha256(path, run.progress)
        try:
            require_published(path, own, projector.digest.removeprefix("sha256:"))
        except FileProblem as error:
            if projector.file is None:
                raise
            path.resolve().unlink(missing_ok=True)
            raise HubError(
                f"what arrived of {projector.label} is not what the hub announced",
                "run the command again",
            ) from error
        send(run, path, projector.digest)
    if projector.digest in run.projectors:
        return
    origin, weights = run.origin or Origin(), run.weights
    if isinstance(weights, str):
        # Beside "from" a server ignores files without a word (0.34.4).
        weights = files_of(run.server.show(weights).weight_blobs, origin)
    weights = {key: each for key, each in weights.items() if each not in run.projectors}
    # A folder of its own, so that no name of the weights can be the same.
    run.weights = {**weights, origin.key(f"projector/{projector.name}"): projector.digest}


@dataclass(frozen=True)
class AddProjector(Step):
    """Put a projector beside the weights, so that the model sees images."""

    kind = StepKind.BRING
    projector: Projector
    is_there: bool

    @property
    def sign(self) -> str:  # type: ignore[override] # told by what there is
        """See :class:`Step`."""
        return "=" if self.is_there else "+"

    @property
    def text(self) -> str:
        """See :class:`Step`."""
        known = self.projector
        if self.is_there:
            return f"use {known.label}, which the server has, to see images"
        if known.path is not None:
            return f"upload {known.label} to see images"
        size = f", {size_text(known.bytes)}" if known.bytes else ""
        return f"download {known.label}{size}, and upload it to see images"

    def run(self, run: Run) -> None:
        """See :class:`Step`."""
        add_projector(run, self.projector)


@dataclass(frozen=True)
class PulledProjector(Step):
    """Take the projector that a pull has brought, or the hub's where it has brought none."""

    kind = StepKind.BRING
    sign = "="
    spec: Spec
    around: Surroundings

    @property
    def text(self) -> str:
        """See :class:`Step`."""
        if isinstance(self.around.publisher, Mirror):
            return "take the projector that comes with the pull, to see images"
        return "take the projector that comes with the pull, or else the hub's, to see images"

    def run(self, run: Run) -> None:
        """See :class:`Step`."""
        source, around = self.spec.source, self.around
        assert isinstance(source, HubSource)  # noqa: S101 - nothing else is pulled
        if run.projectors:
            return
        if isinstance(around.publisher, Mirror):
            _missing(self.spec, around, around.publisher.label)
            return
        try:
            found = _of_hub(self.spec, source, around)
        except HubError as error:
            what = f"the pull of {source} brought no projector, and {error.what}"
            if self.spec.vision is None:
                run.progress.warn(f"{what}: {self.spec.name} will see no images")
                return
            raise HubError(
                what, "name a projector by --projector FILE, or leave it out by --no-vision"
            ) from error
        if found is not None:
            found.check(str(source), run.width)
            add_projector(run, found)
