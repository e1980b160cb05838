"""What is asked of a model whatever server it is on, and the tool calls on each chat API."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from ollama_tools.checks.picture import WITH_PICTURE, WITHOUT_PICTURE
from ollama_tools.checks.result import CheckResult, Status
from ollama_tools.checks.surfaces import Reply, SurfaceOf
from ollama_tools.errors import MALFORMED, ModelNotFound, ServerError
from ollama_tools.lint import cases
from ollama_tools.progress import Progress
from ollama_tools.server.answers import NO_ANSWER

BOS_MESSAGES: list[cases.Message] = [
    {"role": "system", "content": "a"},
    {"role": "user", "content": "a"},
]
_BOS_TOKENS = 7
"""``<s>[SYSTEM_PROMPT]a[/SYSTEM_PROMPT][INST]a[/INST]``: each letter and control token is one."""

_CONTROL = re.compile(r"\[/?(?:INST|TOOL_CALLS|ARGS|CALL_ID|TOOL_RESULTS|AVAILABLE_TOOLS)\]|</?s>")

_T = TypeVar("_T")

Answer: TypeAlias = tuple[Status, str, str]
"""A check's status, what was seen, and what to do about it."""

Ask: TypeAlias = Callable[[list[cases.Message], list[dict[str, Any]], bool], Reply]
"""Asks a model for an answer: messages, tools, and whether it is streamed."""


def asks_on(
    surfaces: Iterable[SurfaceOf[_T]], server: _T, model: str
) -> tuple[tuple[str, Ask], ...]:
    """What asks a model on each surface of a server, by the surface's path."""

    def asking(surface: SurfaceOf[_T]) -> Ask:
        return lambda messages, tools, stream: surface.ask(
            server, model, messages, tools, stream=stream
        )

    return tuple((each.path, asking(each)) for each in surfaces)


@dataclass(frozen=True, slots=True)
class Advice:
    """What helps a kind of server.

    Attributes:
        template: What to do where a model does not talk as Devstral does.
        causes: What to do about an error, by words of it.
        upgrade: How the server itself is renewed.
    """

    template: str
    causes: Sequence[tuple[str, str]]
    upgrade: str = "upgrade the server"

    def fix(self, error: ServerError) -> str:
        """What to do about an error of the server, from its own words."""
        for words, fix in self.causes:
            if words in error.what:
                return fix
        return error.fix or "check the server's log"


def model_checks(
    checks: Iterable[tuple[str, Callable[[_T], Answer]]],
    subject: _T,
    advice: Advice,
    progress: Progress,
) -> Iterator[CheckResult]:
    """Put each check to a model; what the server refuses is an answer to it.

    Raises:
        ModelNotFound: The server has no such model.
        ServerError: No answer comes, so nothing is known of the model.
    """
    for identifier, check in checks:
        progress.step(f"checking {identifier}")
        started = time.monotonic()
        try:
            status, saw, fix = check(subject)
        except (ModelNotFound, *NO_ANSWER):
            raise
        except ServerError as error:
            status, saw, fix = Status.FAIL, error.what, advice.fix(error)
        yield CheckResult(identifier, status, saw, fix, time.monotonic() - started)


def ok(saw: str) -> Answer:
    """A check that passes."""
    return Status.PASS, saw, ""


def fail(saw: str, fix: str) -> Answer:
    """A check that fails."""
    return Status.FAIL, saw, fix


def check_bos(tokens: int, fix: str) -> Answer:
    """Whether a prompt begins with one BOS token.

    Args:
        tokens: What the server counts for :data:`BOS_MESSAGES`.
        fix: How the right template gets in force.
    """
    if tokens == _BOS_TOKENS:
        return ok(f"{tokens} tokens for a prompt of {_BOS_TOKENS} with one BOS")
    if tokens == _BOS_TOKENS + 1:
        return fail(
            f"{tokens} tokens, one too many: BOS stands twice",
            f"take <s> out of the template: {fix}",
        )
    return fail(
        f"{tokens} tokens for a prompt of {_BOS_TOKENS}",
        f"template or tokenizer is not Devstral's: {fix}",
    )


def _long_messages(repeats: int) -> list[cases.Message]:
    """A conversation in several messages, so that a server that drops the oldest is found out."""
    text = " agent" * repeats
    return [
        {"role": "system", "content": "a"},
        {"role": "user", "content": text},
        {"role": "assistant", "content": "a"},
        {"role": "user", "content": text},
    ]


def check_long_prompt(
    size: Callable[[list[cases.Message]], int],
    tokens: int,
    context: Callable[[], int | None],
    fix: str,
) -> Answer:
    """Whether a prompt as long as an agent's first is evaluated whole.

    Args:
        size: The tokens that the server counts for a prompt.
        tokens: How long it shall be.
        context: The context in force in tokens; None where nothing tells.
        fix: What to do where it is too small.
    """
    # Nothing is known of the vocabulary, so two short prompts tell what a repeat costs.
    few, more = 8, 40
    base = size(_long_messages(few))
    each = (size(_long_messages(more)) - base) / (more - few)
    if each <= 0:
        return fail("the server counts no tokens for a longer prompt", "check the server's log")
    repeats = few + round((tokens - base) / each)
    expected = round(base + each * (repeats - few))
    in_force = context()
    if in_force is not None and expected >= in_force:
        return fail(f"not sent: {expected} tokens do not fit a context of {in_force}", fix)
    found = size(_long_messages(repeats))
    if found != expected:
        return fail(
            f"{expected} tokens sent, {found} evaluated: the prompt was cut without a word", fix
        )
    return ok(f"{found} tokens sent and evaluated, none cut")


def round_trip(ask: Ask, advice: Advice, *, stream: bool) -> Iterator[Answer]:
    """A tool call, then the answer to its result."""
    reply = ask(cases.QUESTION, cases.TOOLS, stream)
    fix = advice.template
    if not reply.calls:
        yield fail(f"no tool call arrived, but the text {reply.text[:80]!r}", fix)
        return
    call = reply.calls[0]
    if call.name != cases.TOOL or call.arguments is None:
        yield fail(f"the call arrived as {call.name!r} with {call.arguments!r}", fix)
        return
    if cases.CITY not in str(call.arguments.get("city")):
        yield fail(f"the call's arguments are {dict(call.arguments)}", fix)
        return
    yield ok(f"{call.name}({dict(call.arguments)})")

    messages = [
        *cases.QUESTION,
        reply.as_message(),
        *(
            {
                "role": "tool",
                "tool_call_id": each.id,
                "name": each.name,
                "content": cases.RESULT,
            }
            for each in reply.calls
        ),
    ]
    answer = ask(messages, cases.TOOLS, stream)
    if leaked := _CONTROL.search(answer.text):
        yield fail(f"the answer contains {leaked[0]}: {answer.text[:80]!r}", fix)
    elif not answer.text.strip():
        yield fail("the answer to the tool's result is empty", fix)
    else:
        yield ok(repr(answer.text.strip()[:60]))


def without_tools(ask: Ask, advice: Advice) -> Iterator[Answer]:
    """A request without tools in a session with calls: a call in its answer would be an error."""
    reply = ask(cases.SUMMARY, [], False)
    if reply.calls:
        yield fail(f"{reply.calls[0].name!r} was called, which was not offered", advice.template)
    elif leaked := _CONTROL.search(reply.text):
        yield fail(f"the answer contains {leaked[0]}: {reply.text[:80]!r}", advice.template)
    elif not reply.text.strip():
        yield fail("the answer is empty", advice.template)
    else:
        yield ok(repr(reply.text.strip()[:60]))


def several_calls(ask: Ask, advice: Advice) -> Iterator[Answer]:
    """A question for two calls; a model may make them one by one, but none may get lost."""
    reply = ask(cases.TWO_CITIES, cases.TOOLS, False)
    if not reply.calls:
        yield fail(f"no tool call arrived, but the text {reply.text[:80]!r}", advice.template)
        return
    for call in reply.calls:
        if call.name != cases.TOOL or call.arguments is None:
            saw = f"a call arrived as {call.name!r} with {call.arguments!r}"
            yield fail(saw, advice.template)
            return
    identifiers = [each.id for each in reply.calls if each.id]
    if len(set(identifiers)) != len(identifiers):
        yield fail(f"two calls have one id: {', '.join(identifiers)}", advice.upgrade)
    elif len(reply.calls) == 1:
        yield ok("one call: the model asks for one city at a time")
    else:
        yield ok(f"{len(reply.calls)} calls, told apart")


def seen_picture(ask: Ask, advice: Advice) -> Iterator[Answer]:
    """A request with a picture and tools is answered; what it says is the model's own affair."""
    reply = ask(WITH_PICTURE, cases.TOOLS, False)
    if leaked := _CONTROL.search(reply.text):
        yield fail(f"the answer contains {leaked[0]}: {reply.text[:80]!r}", advice.template)
    elif reply.calls:
        yield ok(f"a call of {reply.calls[0].name}")
    elif not reply.text.strip():
        yield fail("the answer is empty", advice.template)
    else:
        yield ok(repr(reply.text.strip()[:60]))


def check_vision(size: Callable[[list[cases.Message]], int]) -> Answer:
    """Whether a picture reaches the model: whether it counts as tokens.

    Args:
        size: The tokens that the server counts for a prompt.
    """
    tokens = size(WITH_PICTURE) - size(WITHOUT_PICTURE)
    if tokens <= 0:
        return fail(
            "a picture counts no tokens: it is dropped without a word", "check the server's log"
        )
    return ok(f"sees images: a small one counts {tokens} tokens")


def picture_checks(
    asks: Sequence[tuple[str, Ask]], advice: Advice, progress: Progress
) -> Iterator[CheckResult]:
    """A request with a picture on every surface; the arguments are :func:`surface_checks`'s."""
    for path, ask in asks:
        progress.step(f"checking a request with a picture on {path}")
        yield from timed((f"image {path}",), seen_picture(ask, advice), advice)


def surface_checks(
    asks: Sequence[tuple[str, Ask]], advice: Advice, progress: Progress
) -> Iterator[CheckResult]:
    """Every check of tool calls on every surface.

    Args:
        asks: What asks on each surface, by its path.
        advice: What helps such a server.
        progress: Hears of each check.
    """
    for path, ask in asks:
        for mode in ("plain", "streamed"):
            where = f"{path} {mode}"
            progress.step(f"checking tool calls on {where}")
            answers = round_trip(ask, advice, stream=mode == "streamed")
            yield from timed((f"tool-call {where}", f"tool-result {where}"), answers, advice)
    for path, ask in asks:
        progress.step(f"checking requests without tools and for several calls on {path}")
        yield from timed((f"no-tools {path}",), without_tools(ask, advice), advice)
        yield from timed((f"several-calls {path}",), several_calls(ask, advice), advice)


def timed(
    identifiers: tuple[str, ...], answers: Iterator[Answer], advice: Advice
) -> Iterator[CheckResult]:
    """Answers as results; an error is the answer of the check that it broke."""
    names = iter(identifiers)
    started = time.monotonic()
    try:
        for status, saw, fix in answers:
            yield CheckResult(next(names), status, saw, fix, time.monotonic() - started)
            started = time.monotonic()
    except NO_ANSWER:
        # A page in the place of an answer is what clients get as well; silence is nobody's answer.
        raise
    except ServerError as error:
        elapsed = time.monotonic() - started
        yield CheckResult(next(names), Status.FAIL, error.what, advice.fix(error), elapsed)
    except MALFORMED as error:
        yield CheckResult(
            next(names),
            Status.FAIL,
            f"the answer has an unexpected form ({type(error).__name__}: {error})",
            "check the server's version",
            time.monotonic() - started,
        )
