"""Smoke on llama-server: the same questions as on Ollama, where there is no Ollama."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ollama_tools.checks.evidence import kv_evidence
from ollama_tools.checks.placement import judge_placement, look_at_host, placement
from ollama_tools.checks.result import Report, Status
from ollama_tools.checks.surfaces import SHARED_SURFACES
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
from ollama_tools.devstral.catalog import TokenizerVersion
from ollama_tools.devstral.context import AGENT_PROMPT, AGENT_ROOM, check_prompt_tokens
from ollama_tools.lint import cases
from ollama_tools.progress import Progress, Silence
from ollama_tools.server.llama_server import LlamaServer
from ollama_tools.server.log import read_log

_START = "start it as devstral-ollama render --target llama-server prints"
_ADVICE = Advice(
    template=f"{_START}; if it stays, the model is not a Devstral",
    causes=(
        ("requires --jinja", f"the template is not applied: {_START}"),
        ("Unrecognized schema", f"llama.cpp knows no grammar for the tool: {_START}"),
    ),
    upgrade="upgrade llama.cpp",
)
_PREFIX = re.compile(r"^[\d.]+ [A-Z] (?:srv +)?", re.MULTILINE)
_LOG = "start it with --log-verbosity 4, and give its log: --log FILE"
_SCHEMA = {
    "additionalProperties": False,
    "required": ["path"],
    "properties": {"path": {"type": "string", "minLength": 1}},
    "type": "object",
}
"""Keys that Ollama drops, in an order of their own: here they must all reach the model."""


@dataclass
class _Subject:
    server: LlamaServer
    name: str
    tokenizer: TokenizerVersion
    prompt_tokens: int
    log: Path | None
    require_gpu: bool | None

    @cached_property
    def props(self) -> dict[str, Any]:
        return self.server.props(self.name)

    @property
    def context(self) -> int | None:
        """Tokens of context for one request; None where it does not say."""
        found = (self.props.get("default_generation_settings") or {}).get("n_ctx")
        return found if isinstance(found, int) and found > 0 else None

    @property
    def sees_images(self) -> bool:
        return (self.props.get("modalities") or {}).get("vision") is True

    def size(self, messages: list[cases.Message]) -> int:
        return self.server.prompt_tokens(self.name, messages)


def _check_version(subject: _Subject) -> Answer:
    return ok(f"llama-server {subject.props['build_info']}")


def _check_slots(subject: _Subject) -> Answer:
    slots = subject.props.get("total_slots")
    if slots == 1:
        return ok("one slot: the prompt cache is one session's")
    return (
        Status.WARN,
        f"{slots} slots share the context, and a session may lose its prompt cache to another",
        "start it with --parallel 1",
    )


def _check_prompt(subject: _Subject) -> Answer:
    found = subject.server.prompt(
        subject.name, {"messages": cases.CONVERSATION, "tools": cases.TOOLS}
    )
    reference = f"mistral-common's {subject.tokenizer.value}"
    difference = cases.compare_prompts(cases.expected_prompt(subject.tokenizer), found)
    if difference:
        return fail(f"not {reference}: {difference}", f"the template is another: {_START}")
    return ok(f"equal to {reference}, character by character")


def _check_schema(subject: _Subject) -> Answer:
    function = {"name": "read", "description": "Read a file.", "parameters": _SCHEMA}
    tool = {"type": "function", "function": function}
    asked = [{"role": "user", "content": "a"}]
    found = subject.server.prompt(subject.name, {"messages": asked, "tools": [tool]})
    if json.dumps(tool) in found:
        return ok("a tool's schema reaches the model as the client sent it")
    return fail(
        "a tool's schema loses keys or its order on the way to the model",
        f"the template is not the complete form: {_START}",
    )


def _check_bos(subject: _Subject) -> Answer:
    fix = f"{_START}; if it stays, the file's header may add tokens: devstral-ollama lint FILE"
    return check_bos(subject.size(BOS_MESSAGES), fix)


def _check_context(subject: _Subject) -> Answer:
    needed = subject.prompt_tokens + AGENT_ROOM
    if subject.context is None:
        return Status.UNKNOWN, "/props does not say it", ""
    if subject.context < needed:
        return fail(
            f"{subject.context} tokens; an agent's first prompt and its answer need {needed}",
            "start it with --ctx-size 32768 or more, and --parallel 1",
        )
    return ok(f"{subject.context} tokens in force")


def _check_long_prompt(subject: _Subject) -> Answer:
    fix = "start it with --ctx-size 32768 or more"
    return check_long_prompt(subject.size, subject.prompt_tokens, lambda: subject.context, fix)


def _check_vision(subject: _Subject) -> Answer:
    if not subject.sees_images:
        return ok(f"sees no images: it has no projector; with --vision, {_START}")
    return check_vision(subject.size)


def _check_kv(subject: _Subject) -> Answer:
    evidence = kv_evidence(None, subject.log, None)
    if evidence.type is None:
        return Status.UNKNOWN, "no route says it", _LOG
    return ok(f"{evidence.type} ({evidence.source})")


def _check_gpu(subject: _Subject) -> Answer:
    # Ollama starts it without these.
    log = _PREFIX.sub("", read_log(None, subject.log))
    found = placement(log, None, None)
    if found.share is None and not subject.require_gpu:
        return Status.UNKNOWN, "no route says it", _LOG
    return judge_placement(found, look_at_host(None, log), subject.require_gpu)


_CHECKS: tuple[tuple[str, Callable[[_Subject], Answer]], ...] = (
    ("server-version", _check_version),
    ("slots", _check_slots),
    ("prompt", _check_prompt),
    ("tool-schema", _check_schema),
    ("bos", _check_bos),
    ("context", _check_context),
    ("long-prompt", _check_long_prompt),
    ("vision", _check_vision),
    ("kv-cache", _check_kv),
    ("gpu", _check_gpu),
)


def smoke_llama_server(
    server: LlamaServer,
    name: str,
    tokenizer: TokenizerVersion,
    *,
    prompt_tokens: int = AGENT_PROMPT,
    log: Path | None = None,
    require_gpu: bool | None = None,
    progress: Progress | None = None,
) -> Report:
    """Run every smoke check on a model of a llama-server.

    Args:
        server: The server.
        name: The model's name there.
        tokenizer: The tokenizer version whose prompt the model must build.
        prompt_tokens: Tokens of the long prompt; the default is an agent's first.
        log: The server's log file, where it is at hand.
        require_gpu: Whether the model must be wholly on graphics cards; None where the log has one.
        progress: Hears of each check.

    Raises:
        ModelNotFound: A router has no such model.
        ServerError: No answer comes, so nothing is known of the model.
        UsageError: The long prompt is too short to prove anything.
    """
    check_prompt_tokens(prompt_tokens)
    subject = _Subject(server, name, tokenizer, prompt_tokens, log, require_gpu)
    version = str(subject.props["build_info"])
    quiet = progress or Silence()
    asks = asks_on(SHARED_SURFACES, server, name)
    checks = [
        *model_checks(_CHECKS, subject, _ADVICE, quiet),
        *surface_checks(asks, _ADVICE, quiet),
    ]
    if subject.sees_images:
        checks += picture_checks(asks, _ADVICE, quiet)
    return Report(name, server.url, version, tuple(checks))
