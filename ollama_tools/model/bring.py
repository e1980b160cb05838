"""The ways in which a spec's weights come to a server."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

from ollama_tools.files import gguf_rewrite
from ollama_tools.model.published import (
    meets_pin,
)
from ollama_tools.model.pull import pull_steps
from ollama_tools.model.refusals import check_shown
from ollama_tools.model.standing import UseWeights, left_out, standing_weights, use_blobs
from ollama_tools.model.steps import Step
from ollama_tools.model.surroundings import Asked, Fits, Surroundings
from ollama_tools.model.upload import download_steps, file_step
from ollama_tools.progress import Progress
from ollama_tools.server.origin import Origin
from ollama_tools.server.shown import Shown
from ollama_tools.server.versions import rewrites_files
from ollama_tools.wanted.source import FileSource, HubSource, ServerSource, Source
from ollama_tools.wanted.spec import Spec
from ollama_tools.wanted.wish import Via


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
        if (standing := standing_weights(spec, self.source, around)) is not None:
            return [standing]
        if around.via is Via.SERVER:
            return pull_steps(spec, self.source, around, fits)
        return download_steps(spec, self.source, around, fits)

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
        return [file_step(spec, self.source, around, fits)]

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
            around.progress.warn(left_out(name, spec))
        elif rewrites_files(around.version):
            return [UseWeights(name, shown.origin, f"the weights of {name}")]
        origin = shown.origin or Origin(file=name, sha256=digests[0].removeprefix("sha256:"))
        return [use_blobs(digests, origin, f"the weights of {name}", shown.license)]


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
