"""What is wrong with a server and the Devstral models on it, each finding with its fix.

Nothing is loaded and nothing is changed: the doctor reads what the server says of itself, and its
process where that runs on this machine.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from ollama_tools.checks.result import CheckResult, Report, Status
from ollama_tools.checks.vouching import judge_weights
from ollama_tools.devstral.carriers import jinja_template
from ollama_tools.devstral.catalog import TokenizerVersion
from ollama_tools.devstral.catalog_file import load_catalog
from ollama_tools.devstral.memory import KvType
from ollama_tools.devstral.reference import guess_release
from ollama_tools.errors import ModelNotFound, ServerError, ServerTooOld, UsageError
from ollama_tools.server.answers import OF_THE_WAY
from ollama_tools.server.client import InstalledModel, Server
from ollama_tools.server.names import is_build_of
from ollama_tools.server.process import ServerProcess, find_server_process
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
_CREATE_AGAIN = "make it again with devstral-ollama create"


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
    """

    url: str
    version_text: str
    version: Version | None
    process: ServerProcess | None
    models: tuple[Shown, ...]
    installed: tuple[InstalledModel, ...]
    by_digest: Mapping[str, Shown]

    @property
    def is_native(self) -> bool:
        """Whether it applies a GGUF's own Jinja, by a llama-server of its own."""
        return self.version is not None and self.version >= NATIVE_JINJA


def doctor(server: Server) -> Report:
    """Examine a server.

    Raises:
        ServerError: The server cannot be reached, or goes away in the middle.
    """
    version = server.version()
    installed = server.models()
    broken: list[CheckResult] = []
    by_digest = dict(_models(server, installed, broken))
    patient = Patient(
        url=server.url,
        version_text=version,
        version=parse_version(version),
        process=find_server_process(server.url) if server.is_local else None,
        models=tuple(by_digest.values()),
        installed=tuple(installed),
        by_digest=by_digest,
    )
    devstrals = [each for each in patient.models if each.is_devstral]
    results = [result for check in _SERVER_CHECKS for result in check(patient)]
    results += broken
    if not devstrals:
        fix = "make one with devstral-ollama create"
        results.append(CheckResult("models", Status.WARN, "no Devstral on this server", fix))
    results += [
        result for model in devstrals for check in _MODEL_CHECKS for result in check(patient, model)
    ]
    return Report(server.url, server.url, version, tuple(results))


def _models(
    server: Server, installed: Sequence[InstalledModel], broken: list[CheckResult]
) -> Iterator[tuple[str, Shown]]:
    """Every model once: builds and copies are one model under several names."""
    seen = set()
    for each in sorted(installed, key=_speaks_for_others):
        if each.digest in seen:
            continue
        seen.add(each.digest)
        try:
            yield each.digest, server.show(each.name)
        except ModelNotFound:
            # Somebody may remove a model after it was listed.
            continue
        except OF_THE_WAY:
            raise
        except ServerError as error:
            broken.append(_broken(each.name, error.what))


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


def _speaks_for_others(model: InstalledModel) -> tuple[bool, int]:
    return "devstral" not in model.name.casefold(), len(model.name)


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
    listens = patient.url
    if patient.process:
        listens = patient.process.environment.get("OLLAMA_HOST") or _ADVISED.host
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


def _is_loopback(listens: str) -> bool:
    """Whether an ``OLLAMA_HOST`` means this machine only; ``:11434`` means every interface."""
    bare = listens.rpartition("://")[2]
    try:
        name = urlsplit(f"//{bare}").hostname or ""
    except ValueError:
        return False
    for text in (bare.strip("[]"), name):
        try:
            return ip_address(text).is_loopback
        except ValueError:
            continue
    return name == "localhost"


def _kv_cache(patient: Patient) -> Iterator[CheckResult]:
    if patient.process is None:
        yield _unseen("kv-cache", "the type of the KV cache is known to the server's process only")
        return
    word = patient.process.environment.get("OLLAMA_KV_CACHE_TYPE", "")
    status, saw, fix = _judge_kv(
        word, patient.process.flag("OLLAMA_FLASH_ATTENTION"), native=patient.is_native
    )
    yield CheckResult("kv-cache", status, saw, fix)


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
    saw = f"{free / _GIB:.1f} GiB free at {process.models_directory}"
    if free >= _ROOM_FOR_A_MODEL:
        yield CheckResult("disk", Status.PASS, saw)
    else:
        status = Status.FAIL if free < _ROOM_FOR_ANYTHING else Status.WARN
        fix = "free space, or move models with OLLAMA_MODELS; a Devstral takes 14 GiB and more"
        yield CheckResult("disk", status, saw, fix)


def _shared_weights(patient: Patient) -> Iterator[CheckResult]:
    """Runners are keyed by blob: one started for a PARSER refuses tools to its neighbours."""
    if not patient.is_native:
        return
    # Devstrals come first among the models, and the first is to be named.
    with_parser = {
        each.weights: each for each in reversed(patient.models) if each.parser and each.weights
    }
    clashes = [
        (each, other)
        for each in patient.models
        if each.is_jinja and each.weights and (other := with_parser.get(each.weights))
        if each.is_devstral or other.is_devstral
    ]
    for each, other in clashes:
        yield CheckResult(
            f"shared-weights {each.name}",
            Status.FAIL,
            f"{each.name} uses the weights of {other.name}, which has a PARSER: while that is "
            "loaded, it answers tools with HTTP 500 (tools param requires --jinja flag)",
            f"remove the one that is not needed: ollama rm {each.name}; the weights stay",
        )
    if not clashes:
        saw = "no two models use the same weights in ways that exclude each other"
        yield CheckResult("shared-weights", Status.PASS, saw)


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
    return next((each for each in TokenizerVersion if jinja_template(each) == text), None)


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


def _tools(_: Patient, model: Shown) -> Iterator[CheckResult]:
    if "tools" in model.capabilities:
        yield CheckResult(f"tools {model.name}", Status.PASS, "the server offers tools to it")
    else:
        yield CheckResult(
            f"tools {model.name}",
            Status.FAIL,
            "the server refuses tools: the template, as the hub's generic one, has none",
            _CREATE_AGAIN,
        )


def _template(_: Patient, model: Shown) -> Iterator[CheckResult]:
    if not model.is_jinja and model.template.lstrip().startswith("<s>"):
        yield CheckResult(
            f"template {model.name}",
            Status.FAIL,
            "begins with <s>, which the tokenizer adds as well: every prompt begins twice",
            _CREATE_AGAIN,
        )


def _parser(_: Patient, model: Shown) -> Iterator[CheckResult]:
    if model.parser not in ("", "ministral"):
        saw = f"PARSER {model.parser} does not read Devstral's tool calls; the server took it "
        yield CheckResult(
            f"parser {model.name}", Status.FAIL, f"{saw}without a word", _CREATE_AGAIN
        )
    elif model.parser and "2505" in f"{model.name} {model.label}":
        yield CheckResult(
            f"parser {model.name}",
            Status.FAIL,
            "PARSER ministral swallows the tool calls of Devstral 2505: replies come empty",
            _CREATE_AGAIN,
        )


def _context(_: Patient, model: Shown) -> Iterator[CheckResult]:
    context = model.context
    if context is not None and context >= _ADVISED.context:
        yield CheckResult(f"context {model.name}", Status.PASS, f"num_ctx {context}")
        return
    saw = "num_ctx is not set" if context is None else f"num_ctx {context}"
    yield CheckResult(
        f"context {model.name}",
        Status.WARN,
        f"{saw}; agents start with 18,000 tokens, and messages that do not fit are dropped",
        f"{_CREATE_AGAIN} --context {_ADVISED.context}",
    )


def _repeat_penalty(_: Patient, model: Shown) -> Iterator[CheckResult]:
    if "repeat_penalty" not in model.parameters:
        yield CheckResult(
            f"repeat-penalty {model.name}",
            Status.WARN,
            "not set; Ollama's default was 1.1 up to 0.32.10, which spoils code that repeats",
            _CREATE_AGAIN,
        )


_SERVER_CHECKS: tuple[Callable[[Patient], Iterator[CheckResult]], ...] = (
    _server_version,
    _security,
    _reach,
    _kv_cache,
    _default_context,
    _engine,
    _disk,
    _shared_weights,
    _dedicated,
    _weights,
)
_MODEL_CHECKS: tuple[Callable[[Patient, Shown], Iterator[CheckResult]], ...] = (
    _tools,
    _template,
    _parser,
    _context,
    _repeat_penalty,
)
