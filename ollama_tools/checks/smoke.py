"""Smoke: does a model on a live server do what a coding agent needs of it?"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ollama_tools.checks.evidence import kv_evidence, kv_type_of_size
from ollama_tools.checks.own_template import check_own_prompt, in_another_format, other_format
from ollama_tools.checks.placement import judge_placement, look_at_host, placement
from ollama_tools.checks.result import Report, Status
from ollama_tools.checks.surfaces import SURFACES, SURFACES_OF_IMAGES, ollama_message
from ollama_tools.checks.talk import (
    BOS_MESSAGES,
    Advice,
    Answer,
    asks_on,
    check_bos,
    check_long_prompt,
    check_vision,
    fail,
    model_checks,
    ok,
    picture_checks,
    surface_checks,
)
from ollama_tools.checks.vouching import judge_weights
from ollama_tools.devstral.catalog import TokenizerVersion
from ollama_tools.devstral.context import (
    AGENT_CONTEXT,
    AGENT_PROMPT,
    AGENT_ROOM,
    check_prompt_tokens,
)
from ollama_tools.devstral.header import (
    ADD_BOS,
    ADD_EOS,
    PRE,
    HeaderFault,
    header_faults,
    template_family,
)
from ollama_tools.devstral.memory import KvType
from ollama_tools.errors import ModelNotFound, ServerError, ServerTooOld
from ollama_tools.lint import cases
from ollama_tools.lint.live import prompt_difference
from ollama_tools.progress import Progress, Silence
from ollama_tools.server.answers import OF_THE_WAY
from ollama_tools.server.client import InstalledModel, RunningModel, Server, find_model
from ollama_tools.server.log import read_log
from ollama_tools.server.names import same_name
from ollama_tools.server.process import ServerProcess, find_server_process
from ollama_tools.server.shown import Shown
from ollama_tools.server.versions import (
    NATIVE_JINJA,
    advisories,
    parse_version,
    require_supported,
)


@dataclass
class _Subject:
    """A model on a live server, and what several checks want to know of it."""

    server: Server
    name: str
    tokenizer: TokenizerVersion
    prompt_tokens: int
    log: Path | None
    require_gpu: bool | None = None
    keeps_template: bool = False
    kv_type: KvType | None = None
    version: str = ""
    models: list[InstalledModel] = field(default_factory=list)

    @cached_property
    def shown(self) -> Shown:
        return self.server.show(self.name)

    @cached_property
    def header_faults(self) -> list[HeaderFault]:
        """What the weights' header says otherwise than a Devstral's, as far as it is told."""
        return header_faults(self.shown.header, self.tokenizer, keeps_template=self.keeps_template)

    @cached_property
    def other_format(self) -> str | None:
        """The family in whose format it talks on purpose; None for Devstral's."""
        return other_format(self.shown) if self.keeps_template else None

    @cached_property
    def blob(self) -> str | None:
        """``sha256-…`` of the weights, as a file of the server's store is named."""
        weights = self.shown.weights
        return weights.replace(":", "-") if weights else None

    @cached_property
    def process(self) -> ServerProcess | None:
        return find_server_process(self.server.url)

    def load(self, context: int) -> None:
        """Load the model with a context."""
        options = {"num_ctx": context, "num_predict": 1}
        self.server.chat({"model": self.name, "messages": BOS_MESSAGES, "options": options})

    def running(self) -> RunningModel | None:
        """The model as it is loaded; None where it is not.

        Engines are kept by blob: one that another name on the same weights started serves this
        name too, and is listed under the other.
        """
        running = self.server.running()
        for each in running:
            if same_name(each.name, self.name):
                return each
        unknown = False
        for each in running:
            try:
                if self.server.show(each.name).weights == self.shown.weights:
                    return each
            except OF_THE_WAY:
                raise
            except ServerError:
                unknown = True
        if unknown:
            # The name that started the engine is gone or broken: let this one start it anew.
            self.server.unload(self.name)
            self.prompt_size(BOS_MESSAGES)
            return next(
                (each for each in self.server.running() if same_name(each.name, self.name)), None
            )
        return None

    def context(self) -> int | None:
        """The context in force in tokens; None where the model is not loaded."""
        running = self.running()
        return running.context if running else None

    def prompt_size(self, messages: list[cases.Message]) -> int:
        """Tokens that the server counts for a chat's prompt."""
        answer = self.server.chat(
            {
                "model": self.name,
                "messages": [ollama_message(each) for each in messages],
                "options": {"num_predict": 1, "temperature": 0},
            }
        )
        return int(answer.get("prompt_eval_count") or 0)


_TOO_LITTLE_MEMORY = (
    "there is too little memory: choose a smaller context or quant, or a KV cache of q8_0, see "
    "devstral-ollama fit; or free memory"
)

_ADVICE = Advice(
    template="run devstral-ollama create; if it stays, the model is not a Devstral",
    causes=(
        (
            "does not support tools",
            "the template in force has no tools: run devstral-ollama create",
        ),
        (
            "requires --jinja",
            "a model with a TEMPLATE on these weights holds the engine: unload it by ollama stop",
        ),
        (
            "image input is not supported",
            "its engine runs without the projector: run devstral-ollama create with --vision",
        ),
        ("failed to allocate", _TOO_LITTLE_MEMORY),
        ("requires more system memory", _TOO_LITTLE_MEMORY),
        (
            "process has terminated",
            "the engine did not start: devstral-ollama doctor and the end of the server's log say "
            "why",
        ),
    ),
)

_MENDED = (
    "let it be mended on its way: devstral-ollama create ./FILE.gguf, or of a quant with --via "
    "upload"
)

Check = Callable[[_Subject], Answer]


def _check_version(subject: _Subject) -> Answer:
    try:
        version = require_supported(subject.version)
    except ServerTooOld as error:
        return fail(error.what, error.fix)
    if known := advisories(version):
        names = ", ".join(each.identifier for each in known)
        newest = max(each.fixed for each in known)
        return Status.WARN, f"Ollama {version}: {names}", f"upgrade to {newest} or newer"
    return ok(f"Ollama {subject.version}, no known CVE")


def _check_digest(subject: _Subject) -> Answer:
    model = find_model(subject.models, subject.name)
    if model is None:
        raise ModelNotFound(f"the server has no model {subject.name!r}")
    return judge_weights(subject.shown, subject.models, subject.name)


def _check_tokenizer(subject: _Subject) -> Answer:
    if PRE not in subject.shown.header:
        return Status.UNKNOWN, "the server does not tell the header of its weights", ""
    if subject.header_faults:
        return fail("; ".join(each.message for each in subject.header_faults), _MENDED)
    return ok("the weights' header has the tokens of Devstral's tokenizer")


def _check_prompt(subject: _Subject) -> Answer:
    if subject.keeps_template:
        return check_own_prompt(subject.server, subject.shown)
    difference, key_order_only = prompt_difference(subject.server, subject.name, subject.tokenizer)
    reference = f"mistral-common's {subject.tokenizer.value}"
    if not difference:
        return ok(f"equal to {reference}, character by character")
    if key_order_only:
        return ok(f"equal to {reference} but for the order of keys in JSON")
    fix = "the template in force is another: run devstral-ollama create"
    if family := template_family(subject.shown.template):
        fix += f"; where that of {family} is meant: smoke --keep-template"
    return fail(f"not {reference}: {difference}", fix)


def _check_bos(subject: _Subject) -> Answer:
    if subject.keeps_template:
        return Status.UNKNOWN, "how many tokens its own template takes nobody knows", ""
    # What is counted says nothing of the cause; the header does.
    cause = [each for each in subject.header_faults if each.key in (ADD_BOS, ADD_EOS)]
    if cause:
        found = subject.prompt_size(BOS_MESSAGES)
        return fail(f"{found} tokens: {cause[0].message}", _MENDED)
    return check_bos(subject.prompt_size(BOS_MESSAGES), "run devstral-ollama create")


def _check_context(subject: _Subject) -> Answer:
    context = subject.context()
    wanted = subject.shown.context
    if context is None:
        return Status.UNKNOWN, "/api/ps does not say it", ""
    if wanted is not None and context != wanted:
        return fail(
            f"{context} tokens in force, the model asks for {wanted}",
            "the model's own context is smaller, or another client set num_ctx",
        )
    needed = subject.prompt_tokens + AGENT_ROOM
    if context < needed:
        return fail(
            f"{context} tokens; an agent's first prompt and its answer need {needed}",
            "run devstral-ollama create --context 32768",
        )
    return ok(f"{context} tokens in force" + ("" if wanted else ", from the server's default"))


def _check_long_prompt(subject: _Subject) -> Answer:
    return check_long_prompt(
        subject.prompt_size,
        subject.prompt_tokens,
        subject.context,
        "run devstral-ollama create --context 32768",
    )


def _check_kv(subject: _Subject) -> Answer:
    evidence = kv_evidence(subject.process, subject.log, subject.blob)
    if evidence.type is None and (measured := _measured_kv(subject)):
        return ok(measured)
    if evidence.type is None:
        return (
            Status.UNKNOWN,
            evidence.source,
            "run smoke on the server's own machine, or give --log FILE",
        )
    wanted = subject.kv_type
    if wanted is not None and evidence.type != wanted.value:
        return fail(
            f"{evidence.type} in force, {wanted.value} wanted ({evidence.source})",
            f"set OLLAMA_KV_CACHE_TYPE={wanted.value} for the server, see devstral-ollama env",
        )
    if evidence.asked is not None and evidence.asked != evidence.type:
        return fail(
            f"{evidence.type} in force, {evidence.asked} asked for ({evidence.source})",
            "set OLLAMA_FLASH_ATTENTION=1 beside OLLAMA_KV_CACHE_TYPE, see devstral-ollama env",
        )
    return ok(f"{evidence.type} ({evidence.source})")


def _measured_kv(subject: _Subject) -> str:
    """The KV cache type by what a token of context costs; empty where the server does not tell.

    It takes two loads, so it is asked for last, and only where the server reports sizes at all.
    """
    elements = subject.shown.kv_elements
    full = subject.running()
    if elements is None or full is None or not full.bytes or not full.context:
        return ""
    smaller = full.context // 2
    subject.load(smaller)
    half = subject.running()
    subject.load(full.context)
    if half is None or half.context != smaller or half.bytes >= full.bytes:
        return ""
    per_token = (full.bytes - half.bytes) / (full.context - smaller)
    kind = kv_type_of_size(per_token, elements)
    if kind is None:
        return ""
    return f"{kind.value} (memory: {per_token / 1024:.1f} KiB per token of context)"


def _check_vision(subject: _Subject) -> Answer:
    if not subject.shown.sees_images:
        version = parse_version(subject.version)
        ends = version is None or version >= NATIVE_JINJA
        what = "ends in HTTP 500" if ends else "is answered as if there were none"
        return ok(f"sees no images, for which it needs a projector: a request with one {what}")
    return check_vision(subject.prompt_size)


def _check_gpu(subject: _Subject) -> Answer:
    log = read_log(subject.process, subject.log)
    found = placement(log, subject.blob, subject.running())
    return judge_placement(found, look_at_host(subject.process, log), subject.require_gpu)


def _check_load(subject: _Subject) -> Answer:
    started = time.monotonic()
    subject.load(subject.shown.context or AGENT_CONTEXT)
    return ok(f"loaded in {time.monotonic() - started:.1f} s")


TOOL_CALLS = "tool-calls"
"""What all checks on the four surfaces are, where some are chosen."""

LOAD = "load"
"""The check whether a model loads at all; the others show that too, and say what they ask for."""

_MODEL_CHECKS: tuple[tuple[str, Check], ...] = (
    ("server-version", _check_version),
    ("digest", _check_digest),
    ("tokenizer", _check_tokenizer),
    ("prompt", _check_prompt),
    ("bos", _check_bos),
    ("context", _check_context),
    ("long-prompt", _check_long_prompt),
    ("vision", _check_vision),
    ("kv-cache", _check_kv),
    ("gpu", _check_gpu),
)


def smoke_server(
    server: Server,
    name: str,
    tokenizer: TokenizerVersion,
    *,
    prompt_tokens: int = AGENT_PROMPT,
    log: Path | None = None,
    require_gpu: bool | None = None,
    keeps_template: bool = False,
    progress: Progress | None = None,
    kv_type: KvType | None = None,
    only: Collection[str] | None = None,
) -> Report:
    """Run every smoke check on a model of a live server.

    Args:
        server: The server.
        name: The model's name there.
        tokenizer: The tokenizer version whose prompt the model must build.
        prompt_tokens: Tokens of the long prompt; the default is an agent's first.
        log: The server's log file, where it is at hand.
        require_gpu: Whether the model must be wholly on graphics cards; None where one is seen.
        keeps_template: Whether its own template is meant: then no more than what any must do is
            asked of the prompt, and tool calls in another family's format fail nothing.
        progress: Hears of each check.
        kv_type: The type that the KV cache must have; None for whichever is asked of the server.
        only: The checks that are run; None for all. Tool calls are one of them, :data:`TOOL_CALLS`.

    Raises:
        ModelNotFound: The server has no such model.
        ServerError: No answer comes, so nothing is known of the model.
        UsageError: The long prompt is too short to prove anything.
    """
    check_prompt_tokens(prompt_tokens)
    subject = _Subject(
        server, name, tokenizer, prompt_tokens, log, require_gpu, keeps_template, kv_type
    )
    subject.version = server.version()
    subject.models = server.models()
    quiet = progress or Silence()
    wanted = [each for each in _MODEL_CHECKS if only is None or each[0] in only]
    if only is not None and LOAD in only:
        wanted.insert(0, (LOAD, _check_load))
    checks = [*model_checks(wanted, subject, _ADVICE, quiet)]
    if only is None or TOOL_CALLS in only:
        calls = surface_checks(asks_on(SURFACES, server, name), _ADVICE, quiet)
        family = subject.other_format
        checks += calls if family is None else in_another_format(calls, family)
    vision = next((each for each in checks if each.id == "vision"), None)
    # Where that check fails, every request with a picture would say the same, or nothing is known.
    if vision and vision.status is not Status.FAIL and subject.shown.sees_images:
        asks = asks_on(SURFACES_OF_IMAGES, server, name)
        checks += picture_checks(asks, _ADVICE, quiet)
    return Report(name, server.url, subject.version, tuple(checks))
