"""What can be asked of a tune that keeps the chat template it was trained with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, Final

from ollama_tools.checks.result import CheckResult, Status
from ollama_tools.checks.talk import Answer, fail, ok
from ollama_tools.devstral.header import template_family
from ollama_tools.lint import cases
from ollama_tools.server.client import Server
from ollama_tools.server.shown import Shown

_TALKED: Final = [*cases.QUESTION, *cases.CONVERSATION[-2:]]
_TALK: Final = {
    "the system prompt": str(cases.QUESTION[0]["content"]),
    "the question": str(cases.QUESTION[1]["content"]),
    "the answer": str(cases.CONVERSATION[-2]["content"]),
    "the second question": str(cases.CONVERSATION[-1]["content"]),
}
_CALLS: Final = {
    "the tools": str(cases.TOOLS[0]["function"]["description"]),
    "the text before a call": str(cases.CONVERSATION[2]["content"]),
    "the call": "noon",
    "the tool's result": cases.RESULT,
}
"""What no template may lose of :data:`cases.CONVERSATION`, by a text of each; and beside it what
none may lose that knows tools."""


def check_own_prompt(server: Server, shown: Shown) -> Answer:
    """Whether all of a session reaches the model; in which form is the template's own affair."""
    knows_tools = "tools" in shown.capabilities
    request: dict[str, Any] = {"model": shown.name, "messages": _TALKED}
    if knows_tools:
        messages = [cases.native(each) for each in cases.CONVERSATION]
        request |= {"messages": messages, "tools": cases.TOOLS}
    found = server.rendered_prompt(request)
    parts = _TALK | _CALLS if knows_tools else _TALK
    if lost := [part for part, text in parts.items() if text not in found]:
        return fail(
            f"its own template loses {', '.join(lost)}",
            "put Devstral's in its place: devstral-ollama create --no-keep-template",
        )
    if not shown.is_jinja:
        # Where a template without tools is like one of Ollama's own, that is used (0.34.4).
        saw = "the server uses its own template for what it recognised in the file's"
        return Status.WARN, saw, f"compare: ollama show --template {shown.name}"
    if not knows_tools:
        fix = "it is for talk, and for no coding agent; Devstral's has them: --no-keep-template"
        return Status.WARN, "its own template knows no tools, which the server refuses then", fix
    return ok("its own template: all of a session reaches the model, in a form of its own")


def other_format(shown: Shown) -> str | None:
    """In whose format a model calls tools that keeps its template; None for Devstral's."""
    if "tools" not in shown.capabilities:
        return "a template without tools"
    return template_family(shown.template)


def in_another_format(checks: Iterable[CheckResult], family: str) -> Iterator[CheckResult]:
    """Answers of a model that talks in another family's format: a call that fails is no proof."""
    for each in checks:
        if each.status is Status.FAIL:
            fix = (
                f"whether it learned to call tools in the format of {family}, only its maker knows"
            )
            yield replace(each, status=Status.WARN, fix=fix)
        else:
            yield each
