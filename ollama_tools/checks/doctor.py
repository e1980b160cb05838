"""What is wrong with a server and the Devstral models on it, each finding with its fix.

Of each model the doctor says what the rules of ``lint`` find; what it examines itself is the
server: its version, its environment, and whether names still vouch for what they serve.

Nothing is loaded and nothing is changed: the doctor reads what the server says of itself, and its
process where that runs on this machine.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from ollama_tools.checks.placement import (
    Placement,
    cause,
    judge_placement,
    look_at_host,
    placement,
)
from ollama_tools.checks.result import CheckResult, Report, Status
from ollama_tools.checks.vouching import judge_weights
from ollama_tools.devstral.carriers import earlier_jinja_templates, jinja_template
from ollama_tools.devstral.catalog import TokenizerVersion
from ollama_tools.devstral.catalog_file import load_catalog
from ollama_tools.devstral.memory import KvType
from ollama_tools.devstral.reference import guess_release
from ollama_tools.errors import ServerError, ServerTooOld, UsageError
from ollama_tools.lint.finding import Severity
from ollama_tools.lint.judge import each_model, lint_shown
from ollama_tools.network.hosts import is_loopback, is_loopback_host
from ollama_tools.progress import size_text
from ollama_tools.server.address import parse_address
from ollama_tools.server.client import InstalledModel, RunningModel, Server, running_if_said
from ollama_tools.server.log import devices, read_log
from ollama_tools.server.names import is_build_of
from ollama_tools.server.process import ServerProcess, find_gateways, find_server_process
from ollama_tools.server.shown import Shown
from ollama_tools.server.versions import (
    KV_TYPES_BEFORE_NATIVE,
    NATIVE_JINJA,
    Version,
    advisories,
    parse_version,
    require_supported,
)
from ollama_tools.settings.environment import (
    TEMPLATE_FILE,
    ServerSettings,
    is_quantized,
    parse_kv_type,
)

_ADVISED = ServerSettings()
_GIB = 1024**3
_ROOM_FOR_A_MODEL = 16 * _GIB
_ROOM_FOR_ANYTHING = 1 * _GIB
_SET_ENVIRONMENT = "set the server's environment as devstral-ollama env shows, then restart it"
_LOOK_THERE = "run the doctor on the server's own machine, as its user or as root"
_STATUS = {
    Severity.ERROR: Status.FAIL,
    Severity.WARNING: Status.WARN,
    Severity.INFO: Status.WARN,
}
_OF_THE_SERVER = ("DV210",)
"""What is said once for all models, by a check of the doctor's own."""
_NOT_TRIED = ("DV123",)


@dataclass(frozen=True, slots=True)
class Patient:
    """A server as the doctor sees it.

    Attributes:
        url: Its URL.
        version_text: Its version as it says it.
        version: The same to compare; None where it is none.
        process: Its process; None where it cannot be seen.
        models: All its models, each once.
        installed: All the names that it lists.
        by_digest: What it shows of them, by the digest of their manifests.
        running: Those that are loaded.
        gateway: Where the gateway listens that stands before it on this machine; empty for none.
    """

    url: str
    version_text: str
    version: Version | None
    process: ServerProcess | None
    models: tuple[Shown, ...]
    installed: tuple[InstalledModel, ...]
    by_digest: Mapping[str, Shown]
    running: tuple[RunningModel, ...] = ()
    gateway: str = ""

    @property
    def listens(self) -> str:
        """Where it listens: as its process was told, or else where it was found."""
        if self.process is None:
            return self.url
        return self.process.environment.get("OLLAMA_HOST") or _ADVISED.host

    @property
    def is_native(self) -> bool:
        """Whether it applies a GGUF's own Jinja, by a llama-server of its own."""
        return self.version is not None and self.version >= NATIVE_JINJA


def doctor(server: Server) -> Report:
    """Examine a server.

    Raises:
        ServerError: The server cannot be reached, or goes away in the middle.
    """
    patient, broken = _look_at(server)
    devstrals = [each for each in patient.models if each.is_devstral]
    results = [result for check in _SERVER_CHECKS for result in check(patient)]
    results += [_broken(name, error.what) for name, error in broken.items()]
    if not devstrals:
        fix = "make one with devstral-ollama create"
        results.append(CheckResult("models", Status.WARN, "no Devstral on this server", fix))
    results += [
        result for model in devstrals for result in (*_rules(patient, model), _vision(model))
    ]
    return Report(server.url, server.url, patient.version_text, tuple(results))


def examine_server(server: Server, only: Collection[str]) -> Report:
    """Examine what is no matter of its models.

    Args:
        server: The server.
        only: The checks that are of interest, by the first word of their names.

    Raises:
        ServerError: The server cannot be reached, or goes away in the middle.
    """
    patient, _ = _look_at(server)
    results = [each for check in _SERVER_CHECKS for each in check(patient)]
    results = [each for each in results if each.id.partition(" ")[0] in only]
    return Report(server.url, server.url, patient.version_text, tuple(results))


def _look_at(server: Server) -> tuple[Patient, dict[str, ServerError]]:
    """A server as it is now, and the models that it lists and cannot show."""
    version = server.version()
    installed = server.models()
    by_digest, broken = each_model(server, installed)
    patient = Patient(
        url=server.url,
        version_text=version,
        version=parse_version(version),
        process=find_server_process(server.url),
        models=tuple(by_digest.values()),
        installed=tuple(installed),
        by_digest=by_digest,
        running=tuple(running_if_said(server)),
        gateway=_gateway_before(server.url),
    )
    return patient, broken


def _gateway_before(url: str) -> str:
    """Where the gateway listens that stands before a server; empty where there is none here."""
    return next((each.listen for each in find_gateways() if _leads_to(each.upstream, url)), "")


def _leads_to(text: str, url: str) -> bool:
    """Whether an address that a person wrote is a server's on this machine."""
    try:
        named = parse_address(text).url
    except UsageError:
        return False
    return is_loopback(named) and is_loopback(url) and urlsplit(named).port == urlsplit(url).port


def _broken(name: str, why: str) -> CheckResult:
    """A model that the server lists and cannot show; it must not hide the others."""
    if "cloud" in f"{name} {why}".lower():
        fix = f"remove it: ollama rm {name}; or start the server without OLLAMA_NO_CLOUD"
    else:
        fix = f"its weights are missing or cut: make it again, or remove it: ollama rm {name}"
    ours = "devstral" in name.casefold()
    return CheckResult(
        f"model {name}", Status.FAIL if ours else Status.WARN, f"cannot be shown: {why}", fix
    )


# The server


def _server_version(patient: Patient) -> Iterator[CheckResult]:
    try:
        version = require_supported(patient.version_text)
    except ServerTooOld as error:
        yield CheckResult("server-version", Status.FAIL, error.what, error.fix)
        return
    generation = "applies a GGUF's own Jinja" if patient.is_native else "needs a Go template"
    yield CheckResult("server-version", Status.PASS, f"Ollama {version}, {generation}")


def _security(patient: Patient) -> Iterator[CheckResult]:
    if patient.version is None:
        return
    known = advisories(patient.version)
    if not known:
        yield CheckResult("security", Status.PASS, "no known fault of this version")
        return
    names = ", ".join(
        f"{each.identifier} ({each.summary})" if each.summary else each.identifier for each in known
    )
    fix = f"upgrade to Ollama {max(each.fixed for each in known)} or newer"
    yield CheckResult("security", Status.WARN, f"known faults: {names}", fix)


def _reach(patient: Patient) -> Iterator[CheckResult]:
    listens = patient.listens
    if _is_loopback(listens):
        yield CheckResult("reach", Status.PASS, f"listens at {listens}: this machine only")
    elif patient.url.startswith("https:") and patient.process is None:
        yield CheckResult("reach", Status.PASS, "reached by https, so by way of a proxy")
    else:
        yield CheckResult(
            "reach",
            Status.WARN,
            f"{listens} is open to other machines, and no route asks for a password: whoever "
            "reaches it can delete models",
            "listen on 127.0.0.1 behind a proxy that checks who asks, or close the port to others",
        )


def _gateway(patient: Patient) -> Iterator[CheckResult]:
    """Whether clients can reach a server past the gateway that stands before it."""
    if not patient.gateway:
        return
    there = f"a gateway at {patient.gateway} stands before this server"
    named = os.environ.get("OLLAMA_HOST", "")
    if not _is_loopback(patient.listens):
        yield CheckResult(
            "gateway",
            Status.WARN,
            f"{there}, and other machines reach the server past it, at {patient.listens}: what "
            "they ask there is neither exact nor refused where it does not fit",
            "let the server listen on loopback alone: "
            f"OLLAMA_HOST=127.0.0.1:{urlsplit(patient.url).port}, then restart it",
        )
    elif named and _leads_to(named, patient.url):
        yield CheckResult(
            "gateway",
            Status.WARN,
            f"{there}, and OLLAMA_HOST leads this environment's clients past it",
            f"set OLLAMA_HOST={patient.gateway} for clients; what changes models takes --host",
        )
    else:
        yield CheckResult("gateway", Status.PASS, f"{there}, and no other machine gets past it")


def _is_loopback(listens: str) -> bool:
    """Whether an ``OLLAMA_HOST`` means this machine only; ``:11434`` means every interface."""
    bare = listens.rpartition("://")[2]
    try:
        name = urlsplit(f"//{bare}").hostname or ""
    except ValueError:
        return False
    return is_loopback_host(bare.strip("[]")) or is_loopback_host(name)


def _kv_cache(patient: Patient) -> Iterator[CheckResult]:
    if patient.process is None:
        yield _unseen("kv-cache", "the type of the KV cache is known to the server's process only")
        return
    word = patient.process.environment.get("OLLAMA_KV_CACHE_TYPE", "")
    status, saw, fix = _judge_kv(
        word, patient.process.flag("OLLAMA_FLASH_ATTENTION"), native=patient.is_native
    )
    yield CheckResult("kv-cache", status, saw, fix)


def _gpu(patient: Patient) -> Iterator[CheckResult]:
    """Where the loaded Devstrals are; with none loaded, whether the server has found the cards."""
    log = read_log(patient.process)
    host = look_at_host(patient.process, log)
    seen = False
    for each in patient.running:
        shown = patient.by_digest.get(each.digest)
        if shown is not None and shown.is_devstral:
            seen = True
            blob = shown.weights.replace(":", "-") if shown.weights else None
            where = placement(log, blob, each)
            yield CheckResult(f"gpu {each.name}", *judge_placement(where, host, None))
    listed = devices(log)
    if not seen and host.has_card and listed:
        found = [each for each in listed if each.is_gpu]
        if not found:
            why, fix = cause(Placement(0.0, 0, "the server's log"), host)
            yield CheckResult("gpu", Status.FAIL, why or "the server found no card", fix)
        else:
            names = ", ".join(f"{each.description} by {each.library}" for each in found)
            yield CheckResult("gpu", Status.PASS, f"the server has found {names}")


def _judge_kv(word: str, flash: bool | None, *, native: bool) -> tuple[Status, str, str]:
    """Status, what is seen, and fix for what a server's environment asks of its KV cache."""
    asked = f"OLLAMA_KV_CACHE_TYPE={word}"
    try:
        kind = parse_kv_type(word or KvType.F16)
    except UsageError as error:
        outcome = "every load answers 500" if native else "the server silently uses f16"
        return Status.FAIL, f"{asked} is unknown: {outcome}", error.fix
    if not native and kind not in KV_TYPES_BEFORE_NATIVE:
        known = ", ".join(sorted(KV_TYPES_BEFORE_NATIVE))
        return (
            Status.FAIL,
            f"{asked} is unknown before Ollama 0.30: it silently uses f16",
            f"use one of {known}",
        )
    if is_quantized(kind) and native and flash is False:
        return (
            Status.FAIL,
            f"{asked} with OLLAMA_FLASH_ATTENTION=0: every load answers 500",
            "set OLLAMA_FLASH_ATTENTION=1, then restart the server",
        )
    if is_quantized(kind) and not native and not flash:
        return (
            Status.FAIL,
            f"{asked} without OLLAMA_FLASH_ATTENTION=1: the server silently uses f16",
            "set OLLAMA_FLASH_ATTENTION=1, then restart the server",
        )
    if not is_quantized(kind):
        return Status.WARN, f"{kind}: twice the memory per token of q8_0", _SET_ENVIRONMENT
    return Status.PASS, f"{kind}, as the server's environment asks", ""


def _default_context(patient: Patient) -> Iterator[CheckResult]:
    if patient.process is None:
        yield _unseen("default-context", "the default context is known to the process only")
        return
    text = patient.process.environment.get("OLLAMA_CONTEXT_LENGTH", "")
    context = int(text) if text.isdigit() else 0
    if context >= _ADVISED.context:
        yield CheckResult("default-context", Status.PASS, f"{context} tokens")
        return
    saw = f"{context} tokens" if context else "unset: 4096 tokens below 23 GiB of GPU memory"
    yield CheckResult(
        "default-context",
        Status.WARN,
        f"{saw}; holds for models without num_ctx, and messages that do not fit are dropped",
        _SET_ENVIRONMENT,
    )


def _engine(patient: Patient) -> Iterator[CheckResult]:
    if not patient.is_native:
        return
    process = patient.process
    if process is None:
        yield _unseen("engine", "whether llama-server is installed shows on its machine only")
        return
    folder = process.executable.parent
    for candidate in (folder.parent / "lib/ollama", folder, folder / "build/lib/ollama"):
        binary = candidate / "llama-server"
        if os.access(process.seen(binary), os.X_OK):
            yield CheckResult("engine", Status.PASS, str(binary))
            return
    yield CheckResult(
        "engine",
        Status.FAIL,
        f"no llama-server that can be run in {folder.parent / 'lib/ollama'}: no model can load",
        "install Ollama whole (bin and lib) from https://ollama.com/download",
    )


def _disk(patient: Patient) -> Iterator[CheckResult]:
    process = patient.process
    if process is None or process.models_directory is None:
        yield _unseen("disk", "free space shows on the server's machine only")
        return
    place = process.seen(process.models_directory)
    while not place.exists() and place != process.root:
        place = place.parent
    try:
        free = shutil.disk_usage(place).free
    except OSError as error:
        yield _unseen("disk", f"{process.models_directory} cannot be looked at: {error.strerror}")
        return
    saw = f"{size_text(free)} free at {process.models_directory}"
    if free >= _ROOM_FOR_A_MODEL:
        yield CheckResult("disk", Status.PASS, saw)
    else:
        status = Status.FAIL if free < _ROOM_FOR_ANYTHING else Status.WARN
        fix = "free space, or move models with OLLAMA_MODELS; a Devstral takes 14 GiB and more"
        yield CheckResult("disk", status, saw, fix)


def _dedicated(patient: Patient) -> Iterator[CheckResult]:
    """A template for the whole server suits the models of one family only."""
    process = patient.process
    named = process.environment.get(TEMPLATE_FILE) if process else None
    if process is None or not named or not patient.is_native:
        return
    tokenizer = _tokenizer_of(process.seen(Path(named)))
    if tokenizer is None:
        yield CheckResult(
            "dedicated",
            Status.FAIL,
            f"{TEMPLATE_FILE}={named} is no template of this package, or cannot be read",
            "name the release that the server serves: devstral-ollama serve --dedicated-to 2507",
        )
        return
    catalog = load_catalog()
    strangers = []
    for each in patient.models:
        if not each.is_jinja:
            continue
        release = guess_release(f"{each.name} {each.label}", catalog)
        if not each.is_devstral or (release is not None and release.tokenizer is not tokenizer):
            strangers.append(each.name)
    if strangers:
        yield CheckResult(
            "dedicated",
            Status.FAIL,
            f"this server applies Devstral's template of format {tokenizer.value} to every model "
            f"without a TEMPLATE, also to {', '.join(strangers)}",
            "serve other models by another server, or start this one without --dedicated-to",
        )
    else:
        yield CheckResult(
            "dedicated", Status.PASS, f"to models of format {tokenizer.value}, and has no others"
        )


def _tokenizer_of(path: Path) -> TokenizerVersion | None:
    """The format whose template lies in a file; None where none of ours does."""
    try:
        text = path.read_text(encoding="utf-8").rstrip("\n")
    except (OSError, ValueError):
        return None
    return next(
        (
            each
            for each in TokenizerVersion
            if text in (jinja_template(each), *earlier_jinja_templates(each))
        ),
        None,
    )


def _weights(patient: Patient) -> Iterator[CheckResult]:
    """Every name with builds: copies over one another are one model, and each name is a promise."""
    for model in patient.installed:
        shown = patient.by_digest.get(model.digest)
        builds = [each for each in patient.installed if is_build_of(each.name, model.name)]
        if builds and shown is not None:
            status, saw, fix = judge_weights(shown, patient.installed, model.name)
            yield CheckResult(f"weights {model.name}", status, saw, fix)


def _unseen(check: str, saw: str) -> CheckResult:
    return CheckResult(check, Status.UNKNOWN, saw, _LOOK_THERE)


# Each Devstral on it


def _rules(patient: Patient, model: Shown) -> Iterator[CheckResult]:
    """What the rules of ``lint`` find, in their own words."""
    findings = [
        each
        for each in lint_shown(model, patient.version, patient.models)
        if each.code not in _OF_THE_SERVER
    ]
    for each in findings:
        status = Status.UNKNOWN if each.code in _NOT_TRIED else _STATUS[each.severity]
        yield CheckResult(f"{each.code} {model.name}", status, each.message, each.fix)
    if not findings:
        yield CheckResult(f"rules {model.name}", Status.PASS, "no rule of lint finds anything")


def _vision(model: Shown) -> CheckResult:
    """Whether it sees images, and whether its projector is one for it."""
    check, width = f"vision {model.name}", model.projected_width
    if not model.sees_images:
        return CheckResult(check, Status.PASS, "sees no images")
    if width is not None and model.embedding is not None and width != model.embedding:
        return CheckResult(
            check,
            Status.FAIL,
            f"its projector is for models of width {width}, and it has {model.embedding}: it "
            "cannot be loaded",
            "run devstral-ollama create again, with --vision or --no-vision",
        )
    if len(model.projectors) > 1:
        return CheckResult(
            check,
            Status.WARN,
            f"it has {len(model.projectors)} projectors, of which the server uses the first",
            "run devstral-ollama create again, with --vision or --no-vision",
        )
    by = "a projector" if model.projectors else "its weights themselves"
    return CheckResult(check, Status.PASS, f"sees images, by {by}")


_SERVER_CHECKS: tuple[Callable[[Patient], Iterator[CheckResult]], ...] = (
    _server_version,
    _security,
    _reach,
    _gateway,
    _kv_cache,
    _gpu,
    _default_context,
    _engine,
    _disk,
    _dedicated,
    _weights,
)
