"""The ways in which a spec's weights come to a server, as steps."""

from __future__ import annotations

import io
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

from ollama_tools.devstral.carriers import Carrier
from ollama_tools.devstral.catalog_file import load_catalog
from ollama_tools.devstral.header import (
    HeaderFault,
    header_faults,
    require_answer,
    require_architecture,
    require_fit,
    require_model,
    require_sound,
    sent_how,
)
from ollama_tools.errors import (
    BuildLost,
    FileProblem,
    HubError,
    LayerLost,
    ModelNotFound,
    PullFailed,
    ServerError,
    UsageError,
)
from ollama_tools.files import gguf, gguf_rewrite, hub
from ollama_tools.files import remembered as state
from ollama_tools.files.digests import short_digest
from ollama_tools.files.gguf_rewrite import AS_IT_IS, Rewriting
from ollama_tools.files.projectors import text_width
from ollama_tools.model.published import (
    Publisher,
    hub_facts,
    hub_license,
    is_of_source,
    meets_pin,
    require_pinned,
)
from ollama_tools.model.steps import Policy, Run, Step, StepKind
from ollama_tools.progress import Progress, size_text
from ollama_tools.server.client import InstalledModel, Server, find_model
from ollama_tools.server.names import is_build_of, same_name
from ollama_tools.server.origin import Origin
from ollama_tools.server.process import find_server_process
from ollama_tools.server.shown import Shown
from ollama_tools.server.versions import NATIVE_JINJA, UNQUOTED_FILES, Version, rewrites_files
from ollama_tools.wanted.draft import RegistryAddress
from ollama_tools.wanted.source import FileSource, HubSource, ServerSource, Source
from ollama_tools.wanted.spec import Spec, check_context
from ollama_tools.wanted.wish import Via

_HEADER_BYTES = 16 << 20
"""Of a file's beginning; a Devstral's header has 8 MiB, its chat template at the end."""

SPARE = 512 * 1024**2
"""Bytes that must stay free on a disk beside a model's own."""

Fits: TypeAlias = Callable[[str, int | None], None]
"""Refuses weights, by what they are called and the width of their hidden state (None where nothing
says it), for which the projector that they shall get is none."""


@dataclass(frozen=True)
class Surroundings:
    """What the ways of the bytes depend on.

    Attributes:
        server: The server.
        version: Its version.
        models: Its models.
        known: Those of them that may hold weights of the same public name, as they are shown.
        via: How the bytes shall come.
        registry: Where the server pulls from.
        policy: How the wish is to be met.
        publisher: Who says what is published.
        progress: Hears of warnings.
    """

    server: Server
    version: Version
    models: tuple[InstalledModel, ...]
    known: Mapping[str, Shown]
    via: Via
    registry: RegistryAddress
    policy: Policy
    publisher: Publisher
    progress: Progress
    _asked: dict[HubSource, tuple[hub.HubFile, hub.HubFileFacts]] = field(default_factory=dict)

    def facts(self, source: HubSource) -> tuple[hub.HubFile, hub.HubFileFacts]:
        """A source's file and what the hub says of it, asked for once.

        Raises:
            HubError: The hub does not say it.
            UsageError: The repository has no such file.
        """
        if source not in self._asked:
            self._asked[source] = hub_facts(source, self.progress)
        return self._asked[source]


@dataclass(frozen=True)
class Asked:
    """What decides which weights of a source are wished, beside the source.

    Attributes:
        version: The server's version.
        policy: How the wish is to be met.
        publisher: Who says what is published.
        progress: Hears where a file is hashed.
    """

    version: Version
    policy: Policy
    publisher: Publisher
    progress: Progress


class Way(ABC):
    """How the weights of one kind of source come to a server, and how they are known there."""

    @abstractmethod
    def steps(self, spec: Spec, around: Surroundings, fits: Fits) -> list[Step]:
        """The steps after which a server has the weights of a spec.

        Args:
            spec: The spec.
            around: What the ways depend on.
            fits: Is asked before any weights are sent.

        Raises:
            HubError: The hub does not say which file it has.
            UsageError: There is no such file, or the server cannot take it.
            FileProblem: A file cannot be read.
        """

    def is_right(self, spec: Spec, shown: Shown, asked: Asked) -> bool:
        """Whether weights are those that are wished, as far as the mark of a build does not say it.

        Raises:
            HubError: The publisher has to say which file is meant, and does not.
            UsageError: Nobody can.
            FileProblem: A file cannot be read.
        """
        del spec, shown, asked
        return True

    def as_marked_earlier(self, spec: Spec, shown: Shown, progress: Progress) -> Spec:
        """The spec with all that the mark of an early build of a shown model may say.

        Raises:
            FileProblem: A file cannot be read.
        """
        del shown, progress
        return spec


@dataclass(frozen=True)
class HubWay(Way):
    """From the hub or a mirror, by the server's pull or through this machine."""

    source: HubSource

    def steps(self, spec: Spec, around: Surroundings, fits: Fits) -> list[Step]:
        """See :class:`Way`."""
        if (standing := _standing_weights(spec, self.source, around)) is not None:
            return [standing]
        if around.via is Via.SERVER:
            return _pull_steps(spec, self.source, around, fits)
        return _download_steps(spec, self.source, around, fits)

    def is_right(self, spec: Spec, shown: Shown, asked: Asked) -> bool:
        """See :class:`Way`: what a person pinned, and the newest where that is asked for."""
        del spec
        source = self.source
        if not meets_pin(shown, source, asked.publisher):
            return False
        if not asked.policy.upgrade or source.sha256 or source.commit:
            return True
        published = shown.origin.sha256 if shown.origin else None
        return published == asked.publisher.sha256(source)


@dataclass(frozen=True)
class FileWay(Way):
    """From a file of this machine."""

    source: FileSource

    def steps(self, spec: Spec, around: Surroundings, fits: Fits) -> list[Step]:
        """See :class:`Way`."""
        return [_file_step(spec, self.source, around, fits)]

    def is_right(self, spec: Spec, shown: Shown, asked: Asked) -> bool:
        """See :class:`Way`: what the file is sent as now, with the spec's template in it."""
        if rewrites_files(asked.version):
            own = gguf_rewrite.own_sha256(self.source.path, asked.progress, spec.rewriting)
            return shown.origin is not None and shown.origin.sha256 == own
        sent = gguf_rewrite.sent_sha256s(self.source.path, spec.rewriting, asked.progress)
        return sorted(shown.weight_blobs) == sorted(f"sha256:{each}" for each in sent)

    def as_marked_earlier(self, spec: Spec, shown: Shown, progress: Progress) -> Spec:
        """See :class:`Way`: which file it was, which all but the eldest models say themselves."""
        path = self.source.path
        sha256 = shown.origin.sha256 if shown.origin else gguf_rewrite.own_sha256(path, progress)
        return replace(spec, source=replace(self.source, sha256=sha256))


@dataclass(frozen=True)
class ServerWay(Way):
    """From another model of the server, without a byte moved."""

    source: ServerSource

    def steps(self, spec: Spec, around: Surroundings, fits: Fits) -> list[Step]:
        """See :class:`Way`."""
        name, digests = self.source.name, self.source.digests
        shown = around.server.show(name)
        check_shown(spec, name, shown, "name the file that it was made of, as in ./tune.gguf")
        fits(name, shown.embedding)
        if shown.projectors and not set(shown.projectors) & set(digests):
            around.progress.warn(_left_out(name, spec))
        elif rewrites_files(around.version):
            return [UseWeights(name, shown.origin, f"the weights of {name}")]
        origin = shown.origin or Origin(file=name, sha256=digests[0].removeprefix("sha256:"))
        return [_use(digests, origin, f"the weights of {name}", shown.license)]


def way_of(source: Source) -> Way:
    """How the weights of a source come to a server: the one place that tells sources apart.

    Raises:
        TypeError: There is no way for a source of this kind.
    """
    match source:
        case HubSource():
            return HubWay(source)
        case FileSource():
            return FileWay(source)
        case ServerSource():
            return ServerWay(source)
    raise TypeError(f"no way brings a {type(source).__name__}")


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


def _use(
    digests: tuple[str, ...], origin: Origin, label: str, license_text: str = ""
) -> UseWeights:
    return UseWeights(files_of(digests, origin), origin, label, license_text)


def _left_out(name: str, spec: Spec) -> str:
    """What is said where weights come with a projector that is not wanted."""
    if spec.projector is not None:
        return f"the projector of {name} is left out, as {spec.projector} takes its place"
    return f"{name} has a projector, which is left out: --vision keeps it"


def _standing_weights(spec: Spec, source: HubSource, around: Surroundings) -> UseWeights | None:
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
            return _use(shown.weight_blobs, origin, f"the weights of {origin}", shown.license)
    return None


def _has_form(spec: Spec, shown: Shown, origin: Origin) -> bool:
    """Whether weights carry the template that a spec wants in them, or none of ours."""
    if spec.layers.jinja is not None:
        return shown.is_jinja and shown.template.rstrip("\n") == spec.layers.jinja
    return shown.weights == f"sha256:{origin.sha256}"


# Through this machine


def _download_steps(spec: Spec, source: HubSource, around: Surroundings, fits: Fits) -> list[Step]:
    file, facts = around.facts(source)
    file, facts = _kept_file(source, file, facts, around)
    require_pinned(source, facts.sha256, f"{file}", "the hub")
    origin = Origin(source.repository, file.filename, None, facts.commit, facts.sha256)
    known = _known_digest(spec, facts.sha256)
    if known is not None and around.server.has_blob(f"sha256:{known}"):
        weights = {origin.key(): f"sha256:{known}"}
        return [UseWeights(weights, origin, f"the weights of {origin}", published=source)]
    commit = facts.commit or file.revision
    named = file.revision or "main"
    pinned = replace(file, revision=commit, named=None if named == commit else named)
    cached = hub.cached(pinned)
    _look_at_tune(spec, source, pinned, cached)
    # The hub knows the size; the catalog may only have estimated it.
    estimated = source.estimated and not facts.bytes
    size = facts.bytes or source.bytes
    return [Download(spec, source, pinned, origin, size, estimated, cached, fits)]


def _look_at_tune(spec: Spec, source: HubSource, file: hub.HubFile, cached: Path | None) -> None:
    """Refuse a tune of the hub for what its header says, before all of it is brought.

    Raises:
        UsageError: See :func:`check_header`.
    """
    if load_catalog().find_by_repository(source.repository) is not None:
        # What the catalog has is known.
        return
    if cached is not None:
        check_header(spec, gguf.read_header(cached))
        return
    try:
        start, size = hub.beginning(file, _HEADER_BYTES)
    except HubError:
        # It is looked at again when it is here.
        return
    header = gguf.parse_header(io.BytesIO(start), size, str(file), partial=True)
    if header.complete:
        check_header(spec, header)


def _kept_file(
    source: HubSource, file: hub.HubFile, facts: hub.HubFileFacts, around: Surroundings
) -> tuple[hub.HubFile, hub.HubFileFacts]:
    """The file that serves, where the hub has another one now and nobody asked for that."""
    if around.policy.upgrade or source.sha256 or source.revision:
        return file, facts
    for shown in around.known.values():
        origin = shown.origin
        if origin is None or not is_of_source(origin, source) or not origin.sha256:
            continue
        if origin.sha256 == facts.sha256:
            return file, facts
        around.progress.warn(
            f"the hub has another {source} now; the file that serves is kept, and --upgrade takes "
            "the new one"
        )
        if origin.commit is None:
            raise HubError(
                f"the file that serves {source} cannot be had again: nobody knows its commit",
                "take the new one with --upgrade",
            )
        earlier = replace(file, revision=origin.commit)
        return earlier, hub.facts(earlier)
    return file, facts


@dataclass(frozen=True)
class Download(Step):
    """Bring a file from the hub to this machine, and send it from there."""

    kind = StepKind.BRING
    sign = "+"
    spec: Spec
    source: HubSource
    file: hub.HubFile
    origin: Origin
    bytes: int | None
    estimated: bool
    cached: Path | None
    fits: Fits

    @property
    def text(self) -> str:
        """See :class:`Step`."""
        how = "with our template in its header" if self.spec.layers.jinja else "as it is"
        if self.cached is not None:
            return f"upload {self.file} from the Hugging Face cache, {how}"
        size = f", {size_text(self.bytes, estimated=self.estimated)}" if self.bytes else ""
        return f"download {self.file}{size}, and upload it {how}"

    def run(self, run: Run) -> None:
        """See :class:`Step`."""
        _check_room(run, self.bytes)
        name = Path(self.file.filename).name
        path = hub.download(
            self.file,
            lambda done, total: run.progress.transfer(name, done, total or self.bytes),
        )
        header = gguf.read_header(path)
        check_sight(header, self.fits)
        if faults := check_header(self.spec, header):
            run.progress.warn(f"{self.file} is sent {_how(self.spec, header, faults)}")
        try:
            rewriting = self.spec.rewriting
            digest = sent_sha256(path, rewriting, self.origin.sha256, run.progress)
            send(run, path, f"sha256:{digest}", rewriting)
        except FileProblem as error:
            # huggingface_hub compares sizes only, and would give the same file again.
            path.resolve().unlink(missing_ok=True)
            raise HubError(
                f"what arrived of {self.file} is not what the hub announced",
                "run the command again",
            ) from error
        run.weights, run.origin = {self.origin.key(): f"sha256:{digest}"}, self.origin
        run.license = hub_license(self.source, run.progress)


def sent_sha256(path: Path, rewriting: Rewriting, published: str | None, progress: Progress) -> str:
    """Hex digest of what a server is sent of a file from the hub; remembered.

    Args:
        path: The file.
        rewriting: What is put into its header.
        published: Hex digest that the hub announced; None where it did not.
        progress: Hears of the hashing.

    Raises:
        FileProblem: It is another file than the hub announced.
    """
    rewritten = gguf_rewrite.rewrite(path, rewriting)
    if rewriting.chat_template is None and rewritten.is_unchanged:
        return published or state.file_sha256(path, progress)
    # The server checks what is sent to it, but not what that was made of.
    own, new = rewritten.digests(progress)
    if published is not None:
        require_published(path, own, published)
        state.remember_digest(*_derived(rewriting, published), new)
    return new


def require_published(path: Path, own: str, published: str) -> None:
    """Refuse a file that is not the one that the hub announced.

    Raises:
        FileProblem: It is another.
    """
    if own != published:
        raise FileProblem(
            f"{path} is not the file of sha256 {short_digest(published)}…", "fetch it again"
        )


def _file_step(spec: Spec, source: FileSource, around: Surroundings, fits: Fits) -> Step:
    first, *others = gguf_rewrite.parts(source.path)
    header = gguf.read_header(first)
    check_sight(header, fits)
    faults = check_header(spec, header)
    rewriting = spec.rewriting
    own = source.sha256
    if rewrites_files(around.version):
        # Nothing else will tell which file it was.
        own = gguf_rewrite.own_sha256(source.path, around.progress, rewriting)
    sent = gguf_rewrite.sent_sha256s(source.path, rewriting, around.progress)
    if rewriting.chat_template is None and not faults and not others:
        (own,) = sent
    origin = Origin(file=source.path.name, sha256=own)
    keys = [origin.key(), *(origin.key(part.name) for part in others)]
    weights = {key: f"sha256:{each}" for key, each in zip(keys, sent, strict=True)}
    if all(around.server.has_blob(each) for each in weights.values()):
        return UseWeights(weights, origin, f"the weights of {source.path}")
    return Upload(spec, source, origin, weights, _how(spec, header, faults))


def _how(spec: Spec, header: gguf.GgufHeader, faults: Sequence[HeaderFault]) -> str:
    keeps = bool(spec.keep_template)
    return sent_how(header, spec.layers.jinja, faults, keeps_template=keeps)


@dataclass(frozen=True)
class Upload(Step):
    """Send a file of this machine, with every part of it where it is split.

    Attributes:
        spec: What it is for.
        source: The file.
        origin: Where its weights come from.
        weights: What a create request calls its parts, with their digests as they are sent.
        how: What is put into its header, in words.
    """

    kind = StepKind.BRING
    sign = "+"
    spec: Spec
    source: FileSource
    origin: Origin
    weights: Mapping[str, str]
    how: str

    @property
    def text(self) -> str:
        """See :class:`Step`."""
        return f"upload {self.source.path} {self.how}"

    def run(self, run: Run) -> None:
        """See :class:`Step`."""
        first, *others = gguf_rewrite.parts(self.source.path)
        digest, *digests = self.weights.values()
        send(run, first, digest, self.spec.rewriting)
        for part, digest in zip(others, digests, strict=True):
            send(run, part, digest)
        run.weights, run.origin = self.weights, self.origin


def send(run: Run, path: Path, digest: str, rewriting: Rewriting = AS_IT_IS) -> None:
    """Send a file, unless the server has it.

    Args:
        run: What is being done.
        path: The file.
        digest: ``sha256:…`` of what is sent.
        rewriting: What is put into its header.

    Raises:
        FileProblem: It is no file of that digest (any more).
    """
    if run.server.has_blob(digest):
        return
    advance = run.progress.transfer
    rewritten = None if rewriting == AS_IT_IS else gguf_rewrite.rewrite(path, rewriting)
    if rewritten is None or rewritten.is_unchanged:
        _check_room(run, path.stat().st_size)
        run.server.upload(path, digest, advance)
        return
    _check_room(run, rewritten.size)
    run.server.upload_stream(rewritten.chunks, rewritten.size, digest, advance, label=str(path))


def _derived(rewriting: Rewriting, sha256: str) -> tuple[str, list[Any]]:
    """Under which words the digest of a file with another header is remembered."""
    return f"sha256:{sha256} with header", [rewriting.key, gguf_rewrite.REVISION]


def _known_digest(spec: Spec, sha256: str | None) -> str | None:
    """The hex digest that a file will have on the server; None where it is not known yet."""
    if sha256 is None:
        return None
    derived = state.remembered_digest(*_derived(spec.rewriting, sha256))
    return derived or (sha256 if spec.layers.jinja is None else None)


# By the server itself


def _pull_steps(spec: Spec, source: HubSource, around: Surroundings, fits: Fits) -> list[Step]:
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
            _check_room(run, self.bytes)
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
        left_out = bool(shown.projectors) and (spec.vision is False or spec.projector is not None)
        if left_out:
            run.progress.warn(_left_out(self.base, spec))
        else:
            run.projectors = shown.projectors
        if shown.blobs and (left_out or run.version >= UNQUOTED_FILES):
            # A model that is made "from" another has the projector of that one.
            blobs = shown.weight_blobs if left_out else shown.blobs
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


# What is refused


def _check_room(run: Run, size: int | None) -> None:
    """Refuse bytes that cannot fit, where the server's disk can be seen from here."""
    process = find_server_process(run.server.url)
    directory = process.models_directory if process else None
    if size is None or directory is None:
        return
    while not directory.exists():
        directory = directory.parent
    free = shutil.disk_usage(directory).free
    if free >= size + SPARE:
        return
    message = f"{run.name} takes {size_text(size)}, and {size_text(free)} are free at {directory}"
    # The blob may be there already under another name, which only a pull will tell.
    if any(is_build_of(each.name, run.name) for each in run.server.models()):
        run.progress.warn(message)
        return
    raise ServerError(message, "free space, choose a smaller quant, or move OLLAMA_MODELS")


def check_sight(header: gguf.GgufHeader, fits: Fits) -> None:
    """Refuse a model that its projector is not for.

    Raises:
        UsageError: It is not.
    """
    require_model(header)
    fits(header.label, text_width(header))


def check_header(spec: Spec, header: gguf.GgufHeader) -> list[HeaderFault]:
    """Refuse a file that is none of the release's.

    Returns:
        What is mended in its header on its way.

    Raises:
        UsageError: It is another model, its own template is another family's and nobody said what
            becomes of it, or it has not the context.
    """
    faults = require_fit(header, spec.release, keep_template=spec.keep_template)
    longest = header.value("context_length")
    if isinstance(longest, int):
        check_context(spec.context, longest, header.label)
    return faults


def check_shown(spec: Spec, label: str, shown: Shown, fix: str) -> None:
    """Refuse weights on a server that are none of the release's: nothing mends them there.

    Args:
        spec: What they are for.
        label: What to call them.
        shown: How the server shows them.
        fix: How they could be mended.

    Raises:
        UsageError: They are of another architecture, have not the context, or a fault in their
            header.
    """
    require_architecture(label, shown.architecture, spec.release)
    if shown.is_jinja:
        require_answer(label, shown.template, spec.keep_template)
    if shown.longest_context is not None:
        check_context(spec.context, shown.longest_context, label)
    keeps = bool(spec.keep_template)
    faults = header_faults(shown.header, spec.release.tokenizer, keeps_template=keeps)
    require_sound(label, faults, fix)
