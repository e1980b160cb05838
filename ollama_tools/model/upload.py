"""Weights that come through this machine: from the hub, or a file of it."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ollama_tools.devstral.catalog_file import load_catalog
from ollama_tools.devstral.header import (
    HeaderFault,
    sent_how,
)
from ollama_tools.errors import (
    FileProblem,
    HubError,
)
from ollama_tools.files import gguf, gguf_rewrite, hub
from ollama_tools.files import remembered as state
from ollama_tools.files.digests import short_digest
from ollama_tools.files.gguf_rewrite import AS_IT_IS, Rewriting
from ollama_tools.model.published import (
    hub_license,
    is_of_source,
    require_pinned,
)
from ollama_tools.model.refusals import check_header, check_room, check_sight
from ollama_tools.model.standing import UseWeights
from ollama_tools.model.steps import Run, Step, StepKind
from ollama_tools.model.surroundings import Fits, Surroundings
from ollama_tools.progress import Progress, size_text
from ollama_tools.server.origin import Origin
from ollama_tools.server.versions import rewrites_files
from ollama_tools.wanted.source import FileSource, HubSource
from ollama_tools.wanted.spec import Spec

_HEADER_BYTES = 16 << 20
"""Of a file's beginning; a Devstral's header has 8 MiB, its chat template at the end."""


def download_steps(spec: Spec, source: HubSource, around: Surroundings, fits: Fits) -> list[Step]:
    """The steps by which a quant comes from the hub through this machine, as far as it has to.

    Raises:
        HubError: The hub does not say which file it has.
        UsageError: There is no such file, or it is none of the release's.
    """
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
        check_room(run, self.bytes)
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


def file_step(spec: Spec, source: FileSource, around: Surroundings, fits: Fits) -> Step:
    """The step by which a file of this machine comes to a server.

    Raises:
        FileProblem: It cannot be read.
        UsageError: It is none of the release's.
    """
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
        check_room(run, path.stat().st_size)
        run.server.upload(path, digest, advance)
        return
    check_room(run, rewritten.size)
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
