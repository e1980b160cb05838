"""Carry out a plan: bring the bytes, build, check, and only then switch the public name."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from ollama_tools import gguf, gguf_rewrite, hub, state, system
from ollama_tools.builds import free_engine, switch
from ollama_tools.checks.result import Report
from ollama_tools.checks.smoke import prompt_difference, smoke_server
from ollama_tools.compatibility import NATIVE_JINJA, UNQUOTED_FILES, Version
from ollama_tools.errors import (
    CheckFailed,
    FileProblem,
    HubError,
    ServerError,
    UsageError,
)
from ollama_tools.modelfile import create_request, differences
from ollama_tools.names import failed_name, is_build_of, same_name
from ollama_tools.plan import Plan, Via, base_name, describe
from ollama_tools.process import find_server_process
from ollama_tools.progress import Progress
from ollama_tools.server import Server, find_model
from ollama_tools.spec import (
    AGENT_PROMPT,
    AGENT_ROOM,
    FileSource,
    HubSource,
    ServerSource,
    Spec,
    check_context,
)
from ollama_tools.system import SystemOrigin
from ollama_tools.template import Carrier

_SPARE = 512 * 1024**2
"""Bytes that must stay free on a disk beside a model's own."""

_PROMPT_SLACK = 256
"""Tokens by which a long prompt may come out longer than it was meant."""

Weights = str | dict[str, str]


def apply(
    plan: Plan,
    server: Server,
    version: Version,
    *,
    check: bool,
    force: bool,
    prompt_tokens: int,
    progress: Progress,
) -> tuple[Spec, Report | None]:
    """Carry out a plan that has something to do.

    Whatever happens, the public name stands for what it stood for until its successor has passed.

    Args:
        plan: The plan; see :func:`ollama_tools.plan.make_plan`.
        server: The server it was made for.
        version: The server's version.
        check: Whether the build must pass the smoke checks before the name is switched to it.
        force: Pull again, even where the base is on the server.
        prompt_tokens: Tokens of the long prompt of the checks.
        progress: Hears of each step.

    Returns:
        The spec that is served now, and the report of its checks.

    Raises:
        CheckFailed: The build did not pass; the public name is as it was.
        ServerError: The server did not do its part; the public name is as it was.
        HubError: The hub did not; the public name is as it was.
    """
    bring = _Bytes(plan, server, version, force, progress)
    spec = None if force else _standing_build(server, plan.candidates, progress)
    if spec is None:
        candidates = _with_system_text(plan.candidates, progress)
        spec = _build_first_that_fits(server, candidates, bring, progress)
    report = None
    if check:
        try:
            report = _checked(server, spec, prompt_tokens, progress)
        except CheckFailed:
            _put_aside(server, spec)
            bring.clean_up(spec)
            raise
    switch(server, spec.name, spec.build, progress)
    if server.model(failed_name(spec.build)) is not None:
        server.delete(failed_name(spec.build))
    bring.clean_up(spec)
    return spec, report


def _standing_build(
    server: Server, candidates: tuple[Spec, ...], progress: Progress
) -> Spec | None:
    """The spec of a build that is on the server and as it should be, so that no bytes are needed.

    It is there after an interrupted run, and where somebody changed the public name by hand.
    """
    models = server.models()
    for spec in candidates:
        if find_model(models, spec.build) is None or differences(spec, server.show(spec.build)):
            continue
        free_engine(server, spec.build, progress)
        # The run that made it may have been stopped before it was compared.
        if not _needs_proof(spec, candidates) or not _template_fault(server, spec):
            return spec
    return None


def _with_system_text(candidates: tuple[Spec, ...], progress: Progress) -> tuple[Spec, ...]:
    """The candidates with a system prompt whose text is here.

    Candidates differ in their system prompt only where the default was asked for; the hub's comes
    first then, and the bundled one takes its place where the hub does not give it.
    """
    first = candidates[0].system
    if first.text is not None:
        return candidates
    alternatives = [each for each in candidates if each.system.origin is not SystemOrigin.HUB]
    try:
        text = system.from_hub(candidates[0].release)
    except (HubError, UsageError) as error:
        if not alternatives:
            raise
        progress.warn(f"{error.what}; the bundled system prompt is used")
        return tuple(alternatives)
    return tuple(
        replace(each, system=text) for each in candidates if each.system.origin is SystemOrigin.HUB
    )


class _Bytes:
    """Brings a spec's weights to the server, and leaves nothing behind that could do harm."""

    def __init__(
        self, plan: Plan, server: Server, version: Version, force: bool, progress: Progress
    ) -> None:
        self._plan = plan
        self._server = server
        self._version = version
        self._force = force
        self._progress = progress

    def __call__(self, spec: Spec) -> Weights:
        """See to it that the server has the weights; says what a create request calls them."""
        match spec.source:
            case HubSource() as source if self._plan.via is Via.SERVER:
                return self._pulled(spec, source)
            case HubSource() as source:
                return self._uploaded_from_hub(spec, source)
            case FileSource(path=path):
                self._check_header(spec, gguf.read_header(path))
                return self._uploaded(spec, path, path.name)
            case ServerSource(name=name, digests=digests):
                self._check_shown(spec, name)
                if NATIVE_JINJA <= self._version < UNQUOTED_FILES:
                    return name
                return {f"{number}.gguf": each for number, each in enumerate(digests)}

    def _pulled(self, spec: Spec, source: HubSource) -> str:
        base = source.pull_name(self._plan.registry.host)
        found = self._server.model(base)
        if found is None:
            # Noted before the pull, so that a run after an interrupted one still knows it.
            state.note_base(self._server.url, base)
            self._check_room(source.bytes)
        if found is None or self._force:
            self._progress.step(f"pulling {base}")
            self._server.pull(
                base,
                insecure=self._plan.registry.insecure,
                advance=self._progress.transfer,
            )
        try:
            self._check_shown(spec, base)
        except UsageError:
            if found is None:
                self._server.delete(base)
                state.forget_base(self._server.url, base)
            raise
        return base

    def _uploaded_from_hub(self, spec: Spec, source: HubSource) -> dict[str, str]:
        file = hub.HubFile(source.repository, _filename(source), source.revision)
        facts = hub.facts(file)
        name = Path(file.filename).name
        known = _known_digest(spec, facts.sha256)
        if known is not None and self._server.has_blob(f"sha256:{known}"):
            self._progress.step(f"the server has {file} already")
            return {name: f"sha256:{known}"}
        # The hub knows the size; the catalog may only have estimated it.
        self._check_room(facts.bytes or source.bytes)
        self._progress.step(f"downloading {file}")
        path = hub.download(
            replace(file, revision=facts.commit or file.revision),
            lambda done, total: self._progress.transfer(name, done, total or facts.bytes),
        )
        self._check_header(spec, gguf.read_header(path))
        try:
            return self._uploaded(spec, path, name, facts.sha256)
        except FileProblem as error:
            # huggingface_hub compares sizes only, and would give the same file again.
            path.resolve().unlink(missing_ok=True)
            raise HubError(
                f"what arrived of {file} is not what the hub announced", "run the command again"
            ) from error

    def _uploaded(
        self, spec: Spec, path: Path, name: str, sha256: str | None = None
    ) -> dict[str, str]:
        """Send a file, with every part of it where it is split.

        Args:
            spec: What the file is for; it may want another template in the file.
            path: The file.
            name: What to call it in a create request.
            sha256: Hex digest of the file as it lies here, where somebody has said it.
        """
        first, *others = gguf_rewrite.parts(path)
        sent = {name: self._sent(spec, first, sha256)}
        for part in others:
            sent[part.name] = self._sent_as_it_is(part, None)
        return sent

    def _sent(self, spec: Spec, path: Path, sha256: str | None) -> str:
        jinja = spec.layers.jinja
        if jinja is None:
            return self._sent_as_it_is(path, sha256)
        known = gguf_rewrite.known_sha256(path, jinja)
        if known is not None and self._server.has_blob(f"sha256:{known}"):
            return f"sha256:{known}"
        # The server checks what is sent to it, but not what that was made of.
        if sha256 is not None and state.file_sha256(path, self._progress) != sha256:
            raise FileProblem(f"{path} is not the file of sha256 {sha256[:12]}…", "fetch it again")
        self._progress.step(f"putting the template into {path.name}, and hashing it")
        rewritten = gguf_rewrite.rewrite(path, jinja)
        new = rewritten.sha256(self._progress)
        if sha256 is not None:
            state.remember_digest(*_derived(spec, sha256), new)
        if not self._server.has_blob(f"sha256:{new}"):
            self._check_room(rewritten.size)
            self._progress.step(f"uploading {path.name}")
            self._server.upload_stream(
                rewritten.chunks(),
                rewritten.size,
                f"sha256:{new}",
                self._progress.transfer,
                label=str(path),
            )
        return f"sha256:{new}"

    def _sent_as_it_is(self, path: Path, sha256: str | None) -> str:
        digest = f"sha256:{sha256 or state.file_sha256(path, self._progress)}"
        if not self._server.has_blob(digest):
            self._check_room(path.stat().st_size)
            self._progress.step(f"uploading {path.name}")
            self._server.upload(path, digest, self._progress.transfer)
        return digest

    def _check_room(self, size: int | None) -> None:
        """Refuse bytes that cannot fit, where the server's disk can be seen from here."""
        process = find_server_process(self._server.url) if self._server.is_local else None
        directory = process.models_directory if process else None
        if size is None or directory is None:
            return
        while not directory.exists():
            directory = directory.parent
        free = shutil.disk_usage(directory).free
        if free >= size + _SPARE:
            return
        name = self._plan.name
        message = (
            f"{name} takes {size / 1024**3:.1f} GiB, "
            f"and {free / 1024**3:.1f} GiB are free at {directory}"
        )
        # The blob may be there already under another name, which only a pull will tell.
        if any(is_build_of(each.name, name) for each in self._server.models()):
            self._progress.warn(message)
            return
        raise ServerError(message, "free space, choose a smaller quant, or move OLLAMA_MODELS")

    def _check_header(self, spec: Spec, header: gguf.GgufHeader) -> None:
        longest = header.value("context_length")
        _check_architecture(
            spec, header.label, header.architecture, longest if isinstance(longest, int) else None
        )

    def _check_shown(self, spec: Spec, name: str) -> None:
        shown = self._server.show(name)
        _check_architecture(spec, name, shown.architecture, shown.longest_context)

    def clean_up(self, spec: Spec) -> None:
        """Leave no base name that could start an engine which breaks the built model.

        Engines are kept by blob: a model with TEMPLATE and PARSER starts one that the base, which
        has neither, cannot use for tools (HTTP 500 on 0.34.4).
        """
        base = base_name(spec, self._plan.registry)
        if base is None or self._plan.via is not Via.SERVER or same_name(base, spec.name):
            return
        if state.is_noted_base(self._server.url, base):
            if self._server.model(base) is not None:
                self._server.delete(base)
            state.forget_base(self._server.url, base)
        elif spec.carrier is Carrier.MODELFILE and self._version >= NATIVE_JINJA:
            self._progress.warn(
                f"{base} was on the server before; asked with tools while {spec.name} is loaded it "
                f"answers HTTP 500, so remove it if nobody needs it: ollama rm {base}"
            )


def _derived(spec: Spec, sha256: str) -> tuple[str, list[Any]]:
    """Under which words the digest of a file with another template is remembered."""
    template = hashlib.sha256((spec.layers.jinja or "").encode()).hexdigest()
    return f"sha256:{sha256} with template", [template, gguf_rewrite.REVISION]


def _known_digest(spec: Spec, sha256: str | None) -> str | None:
    """The hex digest that a file will have on the server; None where it is not known yet."""
    if sha256 is None or spec.layers.jinja is None:
        return sha256
    return state.remembered_digest(*_derived(spec, sha256))


def _filename(source: HubSource) -> str:
    """The name of the source's GGUF in its repository."""
    if source.filename is not None and "*" not in source.filename:
        return source.filename
    names = hub.gguf_files(source.repository, source.revision)
    wanted = source.tag.casefold()
    found = [
        name
        for name in names
        if Path(name).stem.casefold().endswith(f"-{wanted}") or Path(name).stem.casefold() == wanted
    ]
    if len(found) == 1:
        return found[0]
    if any(f"-{wanted}-0000" in name.casefold() for name in names):
        raise UsageError(
            f"{source.repository}:{source.tag} is split into several files, which Ollama cannot "
            "take from the hub",
            "merge it with llama-gguf-split --merge, then create from the file",
        )
    raise UsageError(
        f"{source.repository} has no GGUF for {source.tag!r}",
        "it has: " + ", ".join(sorted(names)[:30]) if names else "it has no GGUF at all",
    )


def _check_architecture(spec: Spec, label: str, architecture: str, longest: int | None) -> None:
    """Refuse weights that are none of the release's.

    Raises:
        UsageError: Another architecture, or a context that the file does not have.
    """
    wanted = spec.release.architecture.name
    if architecture != wanted:
        raise UsageError(
            f"{label} has the architecture {architecture!r}; {spec.release.name} has {wanted!r}",
            "it is no Devstral of that release: choose another file, or name its --release",
        )
    if longest is not None:
        check_context(spec.context, longest, label)


def _build_first_that_fits(
    server: Server, candidates: tuple[Spec, ...], bring: _Bytes, progress: Progress
) -> Spec:
    """Build candidates until one's prompt is right on the live server."""
    rejected: list[str] = []
    for spec in candidates:
        _build(server, spec, bring(spec), progress)
        free_engine(server, spec.build, progress)
        if _needs_proof(spec, candidates):
            progress.step(f"comparing the prompt of carrier {spec.carrier.value}")
            why = _template_fault(server, spec)
            if why and spec.carrier is Carrier.SERVER:
                raise CheckFailed(
                    f"the server applies no template of {spec.release.name} to {spec.build}: {why}",
                    f"start it with devstral-ollama serve --dedicated-to {spec.release.aliases[0]}"
                    ", or use --template-in auto",
                )
            if why:
                progress.warn(f"carrier {spec.carrier.value} is not taken: {why}")
                rejected.append(spec.build)
                continue
        # Only now, since a rejected build may have been the only one to hold the weights.
        for name in rejected:
            server.delete(name)
        return spec
    raise AssertionError("a plan has candidates")


def _needs_proof(spec: Spec, candidates: tuple[Spec, ...]) -> bool:
    """Whether the prompt decides if a build is taken.

    The last resort is checked by smoke alone; but a template of the server's own is nothing that a
    build could bring.
    """
    return spec is not candidates[-1] or spec.carrier is Carrier.SERVER


def _template_fault(server: Server, spec: Spec) -> str:
    """Why a build's template is not Devstral's; empty where it is."""
    try:
        difference, key_order_only = prompt_difference(server, spec.build, spec.release.tokenizer)
    except ServerError as error:
        return error.what
    return "" if key_order_only else difference


def _build(server: Server, spec: Spec, weights: Weights, progress: Progress) -> None:
    existing = find_model(server.models(), spec.build)
    if existing is not None and not differences(spec, server.show(spec.build)):
        return
    progress.step(f"creating {spec.build} ({describe(spec)})")
    server.create(
        create_request(spec, spec.build, weights),
        progress.transfer,
    )


def _put_aside(server: Server, spec: Spec) -> None:
    """Keep a build that failed to be looked at, and its blob, but not as one to go back to."""
    models = server.models()
    build, current = find_model(models, spec.build), find_model(models, spec.name)
    if build is None or (current is not None and current.digest == build.digest):
        return
    server.copy(spec.build, failed_name(spec.build))
    server.delete(spec.build)


def _checked(server: Server, spec: Spec, prompt_tokens: int, progress: Progress) -> Report:
    # Who asks for a small context gets it, and is told what it does not hold.
    room = max(256, spec.context - AGENT_ROOM - _PROMPT_SLACK)
    if room < AGENT_PROMPT:
        progress.warn(
            f"a context of {spec.context} tokens is too small for a coding agent, whose first "
            f"prompt takes up to {AGENT_PROMPT}"
        )
    report = smoke_server(
        server,
        spec.build,
        spec.release.tokenizer,
        prompt_tokens=min(prompt_tokens, room),
        progress=progress,
    )
    if not report.passed:
        first = report.failures[0]
        left = failed_name(spec.build)
        raise CheckFailed(
            f"{spec.build} fails {len(report.failures)} of {len(report.checks)} checks, first "
            f"{first.id}: {first.saw}; {spec.name} is as it was",
            first.fix or f"see: devstral-ollama smoke {left}",
        )
    return report
