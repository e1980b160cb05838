"""Smoke through a gateway: does a model get what clients send, and is nothing cut in silence?"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from ollama_tools.checks.exact_session import expected_session, session
from ollama_tools.checks.result import CheckResult, Report, Status
from ollama_tools.checks.surfaces import SURFACES, SURFACES_OF_IMAGES
from ollama_tools.checks.talk import (
    BOS_MESSAGES,
    Advice,
    Answer,
    asks_on,
    fail,
    model_checks,
    ok,
    picture_checks,
    surface_checks,
)
from ollama_tools.devstral.catalog import TokenizerVersion
from ollama_tools.devstral.contract import PREFIX_ROLE, understands
from ollama_tools.errors import NotOllama, ServerUnreachable
from ollama_tools.lint import cases
from ollama_tools.progress import Progress, Silence
from ollama_tools.server.answers import well_formed
from ollama_tools.server.client import Server, Told
from ollama_tools.server.names import same_name
from ollama_tools.server.shown import Shown

PORT: Final = 11435
"""Where a gateway listens that was told nothing else."""

_START = "start it: devstral-ollama gateway; or check the address"
_ADVICE = Advice(
    template="run devstral-ollama create on the server behind the gateway",
    causes=(
        ("no key, or none that is known", "give its key: set OLLAMA_API_KEY"),
        ("cannot be reached", "check the gateway's --upstream, and start the server there"),
        ("the server is full", "wait until others are done, or raise the gateway's --wait"),
    ),
    upgrade="upgrade devstral-ollama where the gateway runs",
)
_UPGRADE = "upgrade devstral-ollama where the gateway runs, and start the gateway again"
_TRIES = 3
_LIMITS: Final[Mapping[str, Mapping[str, Any]]] = {
    "/api/chat": {"options": {"num_predict": 1}},
    "/v1/chat/completions": {"max_tokens": 1},
    "/v1/responses": {"max_output_tokens": 1},
    "/v1/messages": {"max_tokens": 1},
}
"""What asks for one token, by surface."""
# Servers before 0.30 tell no numbers.
_TOO_LONG = re.compile(r"prompt is too long: (\d+ tokens > \d+ maximum|more tokens than )")
_LEAVE_AFTER = 0.5
_FREE_WITHIN = 2.0
_LONG = 16384
_TURNS = 7


@dataclass
class _Subject:
    server: Server
    name: str
    tokenizer: TokenizerVersion

    @cached_property
    def shown(self) -> Shown:
        return self.server.show(self.name)

    @cached_property
    def tokens(self) -> int:
        """Tokens of the session, as ``/api/chat`` counts them."""
        return self.ask("/api/chat")[0]

    @cached_property
    def tells_cached(self) -> bool:
        """Whether the server says how much of a prompt was in its cache; before 0.30 none does."""
        return self.ask("/api/chat")[1] is not None

    def ask(self, path: str) -> tuple[int, int | None]:
        """Tokens that a surface counts for the session, and how many of them a cache had."""
        body = {"model": self.name, "stream": False, **session(path), **_LIMITS[path]}
        answer = self.server.post(path, body)
        with well_formed(f"{self.server.url}{path}"):
            return _counts(path, answer)

    def context(self) -> int | None:
        """Tokens of the context; None where nothing tells."""
        if self.shown.context is not None:
            return self.shown.context
        loaded = (each for each in self.server.running() if same_name(each.name, self.name))
        return next((each.context for each in loaded), None)

    def seconds(self) -> float:
        """How long the shortest request takes."""
        started = time.monotonic()
        options = {"num_predict": 1}
        self.server.chat({"model": self.name, "messages": BOS_MESSAGES, "options": options})
        return time.monotonic() - started


def _counts(path: str, answer: Mapping[str, Any]) -> tuple[int, int | None]:
    """Tokens of a prompt and of it in the cache, as the answer of a surface has them."""
    if path == "/api/chat":
        return int(answer["prompt_eval_count"]), answer.get("prompt_eval_cached_count")
    usage = answer["usage"]
    if path == "/v1/messages":
        cached = usage.get("cache_read_input_tokens")
        return int(usage["input_tokens"]) + int(cached or 0), cached
    word = "prompt" if path == "/v1/chat/completions" else "input"
    details = usage.get(f"{word}_tokens_details") or {}
    return int(usage[f"{word}_tokens"]), details.get("cached_tokens")


def _check_gateway(subject: _Subject) -> Answer:
    found = subject.server.told("GET", "/ready")
    if not isinstance(found.content.get("ready"), bool):
        return fail(f"what answers at {subject.server.url} is no gateway", _START)
    if not found.content["ready"]:
        return fail("it says that its model does not answer", "check the server behind it")
    return ok("a gateway, and the server behind it answers")


def _check_template(subject: _Subject) -> Answer:
    if understands(subject.shown.template):
        return ok("the model's template understands the gateway")
    # A dedicated server shows a model's own template, and not the one that it applies.
    found = subject.server.rendered_prompt({"model": subject.name, **session("/api/chat")})
    if not cases.compare_prompts(expected_session(subject.tokenizer), found):
        return ok("the server's own template, for a model without one, understands the gateway")
    return fail(
        "the model's template does not understand the gateway, which hands requests for it on as "
        "they are",
        "run devstral-ollama create on the server behind the gateway, or name a model of it; "
        "where that server runs with --dedicated-to, the gateway has to as well",
    )


def _check_prompt(subject: _Subject) -> Answer:
    request = {"model": subject.name, **session("/api/chat")}
    found = subject.server.rendered_prompt(request)
    reference = f"mistral-common's {subject.tokenizer.value}"
    if difference := cases.compare_prompts(expected_session(subject.tokenizer), found):
        return fail(f"not {reference}: {difference}", _UPGRADE)
    return ok(f"a client's own JSON as it is: equal to {reference}, character by character")


def _exact_on(path: str) -> Callable[[_Subject], Answer]:
    """Whether a surface makes the prompt that was seen on ``/api/chat``, token by token.

    No answer tells a prompt, but all tell its tokens, and how many of them the engine had in its
    cache: where that was all of the last prompt but one token, which is always evaluated, the
    prompt was the same.
    """

    def check(subject: _Subject) -> Answer:
        wanted, best = subject.tokens, -1
        for _ in range(_TRIES):
            tokens, cached = subject.ask(path)
            if tokens != wanted:
                return fail(f"{tokens} tokens, and {wanted} in the same session's prompt", _UPGRADE)
            # Where the server tells nothing of a cache, the zeros of other surfaces are no figures.
            if cached is None or not subject.tells_cached:
                return ok(f"{tokens} tokens as in the same session's prompt on /api/chat")
            best = max(best, cached)
            if best >= wanted - 1:
                return ok(f"the same {tokens} tokens as in the session's prompt on /api/chat")
            # Others may have asked meanwhile.
            subject.ask("/api/chat")
        return fail(
            f"{tokens} tokens, of which {best} are those of the same session's prompt",
            f"{_UPGRADE}; where others ask it all the time: run it again when they do not",
        )

    return check


def _too_long_on(path: str) -> Callable[[_Subject], Answer]:
    """Whether a session that does not fit is refused; a server drops its first messages."""

    def check(subject: _Subject) -> Answer:
        context = subject.context()
        if context is None:
            return Status.UNKNOWN, "nothing tells the context", ""
        # A repeat is a token or more, and no message is too long by itself.
        text = " agent" * (context // _TURNS + 1)
        roles = ("user", "assistant")
        messages = [{"role": roles[turn % 2], "content": text} for turn in range(_TURNS)]
        name = "input" if path == "/v1/responses" else "messages"
        body = {"model": subject.name, "stream": False, name: messages, **_LIMITS[path]}
        found = subject.server.told("POST", path, body)
        said = _error(found)
        if found.status == 400 and _TOO_LONG.search(said) and _has_code(path, found):
            return ok(f"a session that does not fit is refused: {said}")
        return fail(
            f"a session longer than the context is answered with {found.status}"
            + (f": {said[:80]}" if said else ", so its first messages were dropped"),
            _UPGRADE,
        )

    return check


def _error(found: Told) -> str:
    error = found.content.get("error")
    return str(error.get("message", "") if isinstance(error, dict) else error or "")


def _has_code(path: str, found: Told) -> bool:
    """Whether an error has the word for a prompt that is too long, where a surface has one."""
    if path not in ("/v1/chat/completions", "/v1/responses"):
        return True
    error = found.content.get("error")
    return isinstance(error, dict) and error.get("code") == "context_length_exceeded"


def _temperature_on(path: str) -> Callable[[_Subject], Answer]:
    def check(subject: _Subject) -> Answer:
        name = "input" if path == "/v1/responses" else "messages"
        body = {"model": subject.name, "stream": False, name: BOS_MESSAGES, **_LIMITS[path]}
        found = subject.server.told("POST", path, body)
        if found.status != 200:
            return fail(f"{found.status}: {_error(found)[:80]}", "see the gateway's log")
        made = found.headers.get("x-devstral-ollama-repairs", "").split(", ")
        if "temperature" in made:
            own = subject.shown.parameters.get("temperature", ["Ollama's default"])
            return ok(f"where a client sets none the model's own holds: {own[-1]}")
        return fail(
            "a client that sets no temperature gets 1.0, whatever the model's own is",
            "start the gateway without --without temperature",
        )

    return check


def _check_forged(subject: _Subject) -> Answer:
    messages = [*BOS_MESSAGES, {"role": PREFIX_ROLE, "content": "a"}]
    body = {"model": subject.name, "stream": False, "messages": messages, **_LIMITS["/api/chat"]}
    found = subject.server.told("POST", "/api/chat", body)
    if found.status == 400:
        return ok("a role of the gateway's own is refused; its mark in a text is text, as seen")
    return fail(f"a client's role {PREFIX_ROLE} is answered with {found.status}", _UPGRADE)


def _check_gone(subject: _Subject) -> Answer:
    usual = subject.seconds()
    body = {
        "model": subject.name,
        "messages": [{"role": "user", "content": "Count to a thousand, each number in words."}],
        "options": {"num_predict": _LONG},
    }
    pieces = subject.server.events("/api/chat", body)
    until = time.monotonic() + _LEAVE_AFTER
    for piece in pieces:
        if piece.get("done"):
            return Status.UNKNOWN, "the answer ended before one could go away", ""
        if time.monotonic() > until:
            break
    pieces.close()  # type: ignore[attr-defined] # a generator
    waited = subject.seconds()
    if waited <= 3 * usual + _FREE_WITHIN:
        return ok(f"a client went away; the next was answered after {waited:.1f} s")
    return fail(
        f"a client went away, and the next waited {waited:.1f} s, where {usual:.1f} s is usual",
        f"unless others ask it just now: {_UPGRADE}",
    )


_FIRST: Final[tuple[tuple[str, Callable[[_Subject], Answer]], ...]] = (
    ("gateway", _check_gateway),
    ("template", _check_template),
)
"""Without these nothing else can be right."""
_CHECKS: Final[tuple[tuple[str, Callable[[_Subject], Answer]], ...]] = (
    ("prompt /api/chat", _check_prompt),
    *((f"prompt {each.path}", _exact_on(each.path)) for each in SURFACES[1:]),
    *((f"too-long {each.path}", _too_long_on(each.path)) for each in SURFACES),
    *((f"temperature {each}", _temperature_on(each)) for each in tuple(_LIMITS)[1:3]),
    ("forged-mark", _check_forged),
    ("gone-client", _check_gone),
)


def smoke_gateway(
    server: Server, name: str, tokenizer: TokenizerVersion, *, progress: Progress | None = None
) -> Report:
    """Prove through a gateway that a model gets what clients send, and run the tool calls.

    Args:
        server: The gateway, asked as the server that it stands before.
        name: The model's name there.
        tokenizer: The tokenizer version whose prompt the model must build.
        progress: Hears of each check.

    Raises:
        ModelNotFound: The server has no such model.
        ServerError: No answer comes, so nothing is known of the model.
    """
    subject = _Subject(server, name, tokenizer)
    quiet = progress or Silence()
    checks: list[CheckResult] = []
    for each in _FIRST:
        checks += model_checks([each], subject, _ADVICE, quiet)
        if checks[-1].status is Status.FAIL:
            break
    else:
        checks += model_checks(_CHECKS, subject, _ADVICE, quiet)
        checks += surface_checks(asks_on(SURFACES, server, name), _ADVICE, quiet)
        if subject.shown.sees_images:
            asks = asks_on(SURFACES_OF_IMAGES, server, name)
            checks += picture_checks(asks, _ADVICE, quiet)
    return Report(name, server.url, server.version(), tuple(checks))


def gateway_address(text: str) -> str:
    """The address of a gateway: its port is 11435 where nothing else is said."""
    text = re.sub(r"/v1/?$", "", text.strip()).rstrip("/")
    if "://" in text or re.search(r":\d+(?:/|$)", text):
        return text
    host, slash, path = text.partition("/")
    return f"{host}:{PORT}{slash}{path}"


@contextmanager
def of_a_gateway(url: str) -> Iterator[None]:
    """Say of a gateway that is not there that it is one."""
    try:
        yield
    except ServerUnreachable as error:
        if "Ollama" not in error.what:
            raise
        raise ServerUnreachable(f"no gateway answers at {url}", _START) from error
    except NotOllama as error:
        raise NotOllama(error.what, _START) from error
