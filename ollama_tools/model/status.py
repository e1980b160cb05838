"""Whether a server still serves what it should: the model against its spec, and its settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, TypedDict

from ollama_tools.checks.placement import judge_placement, look_at_host, placement
from ollama_tools.checks.result import CheckResult, CheckResultJson, Status
from ollama_tools.checks.vouching import judge_weights
from ollama_tools.errors import ServerError
from ollama_tools.lint.finding import Finding, FindingJson
from ollama_tools.lint.judge import each_model, lint_shown
from ollama_tools.model.builds import builds_of, settled_models
from ollama_tools.model.ensure import Wanted, compare_with
from ollama_tools.model.modelfile import Difference, DifferenceJson
from ollama_tools.model.published import Publisher
from ollama_tools.model.steps import Policy
from ollama_tools.progress import Progress, Silence
from ollama_tools.server.client import (
    InstalledModel,
    Server,
    find_model,
    running_if_said,
    shown_or_broken,
)
from ollama_tools.server.log import read_log
from ollama_tools.server.names import full_name, own_name, same_name
from ollama_tools.server.origin import Origin, OriginJson
from ollama_tools.server.process import find_server_process
from ollama_tools.server.shown import Shown
from ollama_tools.settings.environment import environment_differences
from ollama_tools.wanted.spec import Spec
from ollama_tools.wanted.wish import Wish


class UpstreamJson(TypedDict):
    """What is published now under the name of what serves."""

    publisher: str
    sha256: str | None
    commit: str | None
    since: str | None
    same: bool | None


@dataclass(frozen=True, slots=True)
class Upstream:
    """What is published now under the name of the file that serves.

    Attributes:
        publisher: Who says it: ``the hub``, or ``the mirror HOST``.
        sha256: Hex digest of the file; None where nobody says it.
        commit: The commit that last changed it; None where nobody says it, as no mirror does.
        since: When that was, ISO 8601.
        same: Whether it is the file that serves; None where nothing tells which file that is.
    """

    publisher: str
    sha256: str | None
    commit: str | None
    since: str | None
    same: bool | None

    def as_json(self) -> UpstreamJson:
        """What the hub has, as JSON has it."""
        return {
            "publisher": self.publisher,
            "sha256": self.sha256,
            "commit": self.commit,
            "since": self.since,
            "same": self.same,
        }

    def __str__(self) -> str:
        since = f", since {self.since}" if self.since else ""
        if self.same:
            return f"{self.publisher} has the same file{since}"
        if self.same is None:
            return f"{self.publisher} has a file{since}; nothing tells which one serves"
        return f"{self.publisher} has another file{since}: create --upgrade takes it"


class ModelStatusJson(TypedDict):
    """What a server serves, against what it should."""

    name: str
    server: str
    version: str
    digest: str | None
    weights: str | None
    origin: OriginJson | None
    build: str | None
    vision: Annotated[bool | None, "Whether it sees images; null where there is no such model."]
    context: int
    drifted: bool
    differences: list[DifferenceJson]
    settings: list[DifferenceJson]
    placement: Annotated[CheckResultJson | None, "Where it runs; null where it is not loaded."]
    upstream: UpstreamJson | None
    findings: list[FindingJson]


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """What a server serves, against what it should.

    Attributes:
        name: The public name.
        server: The server's URL.
        version: The server's version.
        digest: Hex digest of the model's manifest; None where there is no such model.
        weights: ``sha256:…`` of the blob that holds its weights.
        origin: Where they came from; None where the manifest does not say.
        build: The build that the name stands for; None where there is no such model.
        vision: Whether it sees images; None where there is no such model.
        context: The context in tokens that it should have.
        differences: What the model has otherwise than it should.
        settings: What the server's process has otherwise than it should.
        placement: Where it runs, as a check; None where it is not loaded.
        upstream: What is published now; None where nobody asked, or the weights are none of the
            hub's.
        findings: What the rules of ``lint`` find about the model that serves; none of it is drift.
    """

    name: str
    server: str
    version: str
    digest: str | None
    weights: str | None
    origin: Origin | None
    build: str | None
    vision: bool | None
    context: int
    differences: tuple[Difference, ...]
    settings: tuple[Difference, ...]
    placement: CheckResult | None = None
    upstream: Upstream | None = None
    findings: tuple[Finding, ...] = ()

    @property
    def drifted(self) -> bool:
        """Whether anything differs, or the model is not on the card that it should be on."""
        misplaced = self.placement is not None and self.placement.status is Status.FAIL
        return bool(self.differences or self.settings or misplaced)

    def as_json(self) -> ModelStatusJson:
        """The status as ``status --json`` prints it."""
        return {
            "name": self.name,
            "server": self.server,
            "version": self.version,
            "digest": self.digest,
            "weights": self.weights,
            "origin": self.origin.as_json() if self.origin else None,
            "build": self.build,
            "vision": self.vision,
            "context": self.context,
            "drifted": self.drifted,
            "differences": [each.as_json() for each in self.differences],
            "settings": [each.as_json() for each in self.settings],
            "placement": self.placement.as_json() if self.placement else None,
            "upstream": self.upstream.as_json() if self.upstream else None,
            "findings": [each.as_json() for each in self.findings],
        }


def model_status(
    server: Server,
    wish: Wish,
    settings: Mapping[str, str] | None = None,
    progress: Progress | None = None,
    *,
    upstream: bool = False,
    require_gpu: bool | None = None,
) -> ModelStatus:
    """Compare a server with what is wished; nothing is changed.

    Args:
        server: The server.
        wish: The model as it should be.
        settings: The environment variables that the server's process should have; None to leave
            them alone.
        progress: Hears of long steps, such as the hashing of a file; None for silence.
        upstream: Whether the hub, or the mirror that is named, is asked what it has now.
        require_gpu: Whether the model must be wholly on graphics cards where it is loaded; None
            where one is seen.

    Raises:
        UsageError: What was asked for cannot be.
        HubError: Hub or mirror was to be asked, and does not answer.
        ServerError: The server does not answer, or its process cannot be seen from here.
    """
    wanted = compare_with(server, wish, Policy(check=False), progress or Silence())
    compared, shown = wanted.compared, wanted.compared.shown
    different = compared.differences
    if compared.earlier is not None:
        different = (Difference("build", compared.earlier, compared.previous),)
    return ModelStatus(
        name=compared.name,
        server=server.url,
        version=str(wanted.version),
        digest=compared.current.digest.removeprefix("sha256:") if compared.current else None,
        weights=shown.weights if shown else None,
        origin=shown.origin if shown else None,
        build=compared.previous,
        vision=shown.sees_images if shown else None,
        context=compared.candidates[0].context,
        differences=different,
        settings=() if settings is None else settings_differences(server, settings),
        placement=_placement(server, compared.current, shown, require_gpu),
        upstream=_upstream(compared.candidates[0], shown, wanted.publisher) if upstream else None,
        findings=_findings(server, wanted),
    )


def _placement(
    server: Server, current: InstalledModel | None, shown: Shown | None, require_gpu: bool | None
) -> CheckResult | None:
    if current is None or shown is None:
        return None
    loaded = next((each for each in running_if_said(server) if each.digest == current.digest), None)
    if loaded is None:
        return None
    process = find_server_process(server.url)
    log = read_log(process)
    blob = shown.weights.replace(":", "-") if shown.weights else None
    found = judge_placement(placement(log, blob, loaded), look_at_host(process, log), require_gpu)
    return CheckResult("gpu", *found)


def _findings(server: Server, wanted: Wanted) -> tuple[Finding, ...]:
    compared, shown = wanted.compared, wanted.compared.shown
    if shown is None:
        return ()
    others = list(each_model(server, compared.models)[0].values())
    release = compared.candidates[0].release.name
    return tuple(lint_shown(shown, wanted.version, others, release=release))


def _upstream(spec: Spec, shown: Shown | None, publisher: Publisher) -> Upstream | None:
    published = spec.source.published
    if published is None:
        return None
    newest = publisher.newest(published)
    serving = shown.origin.sha256 if shown and shown.origin else None
    return Upstream(
        publisher=publisher.label,
        sha256=newest.sha256,
        commit=newest.commit,
        since=newest.since.isoformat() if newest.since else None,
        same=None if serving is None or newest.sha256 is None else serving == newest.sha256,
    )


def names_differences(server: Server, but: str | None = None) -> tuple[Difference, ...]:
    """What the names that this package made have otherwise than their builds vouch for.

    Args:
        server: The server.
        but: A name that is compared with a wish already; None for no such name.

    Returns:
        Names that are gone while their builds are there, that stand for none of them, or for one
        that has other weights or settings than its name vouches for.
    """
    models = settled_models(server)
    found = []
    for name in sorted({own.public for each in models if (own := own_name(each.name))}):
        if but is not None and same_name(name, but):
            continue
        builds = builds_of(models, name)
        if builds and (saw := _unlike_its_build(server, models, name)):
            wanted = next((each.name for each in builds if each.served), builds[0].name)
            found.append(Difference(full_name(name), saw, wanted))
    return tuple(found)


def _unlike_its_build(server: Server, models: Sequence[InstalledModel], name: str) -> str | None:
    if find_model(list(models), name) is None:
        return "gone"
    shown = shown_or_broken(server, name)
    if isinstance(shown, ServerError):
        return shown.what
    if shown is None:
        return "gone"
    status, saw, _ = judge_weights(shown, models, name)
    return saw if status is Status.FAIL else None


def settings_differences(server: Server, wanted: Mapping[str, str]) -> tuple[Difference, ...]:
    """What the environment of a server's process has otherwise than it should.

    Raises:
        ServerError: The process cannot be seen from here.
    """
    process = find_server_process(server.url)
    if process is None:
        raise ServerError(
            f"the settings of {server.url} show in its process only, which cannot be seen from "
            "here",
            "ask on the server's own machine, as its user or as root",
        )
    return tuple(
        Difference(variable, found, value)
        for variable, (found, value) in environment_differences(wanted, process.environment).items()
    )
