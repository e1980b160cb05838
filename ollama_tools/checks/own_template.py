"""What can be asked of a tune that keeps the chat template it was trained with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from ollama_tools.checks.result import CheckResult, Status
from ollama_tools.checks.talk import Answer, fail, ok
from ollama_tools.devstral.header import template_family
from ollama_tools.lint import cases
from ollama_tools.server.client import Server
from ollama_tools.server.shown import Shown

_PARTS = {
    "the system prompt": str(cases.QUESTION[0]["content"]),
    "the tools": str(cases.TOOLS[0]["function"]["description"]),
    "the question": str(cases.QUESTION[1]["content"]),
    "the text before a call": str(cases.CONVERSATION[2]["content"]),
    "the call": "noon",
    "the tool's result": cases.RESULT,
    "the second question": str(cases.CONVERSATION[-1]["content"]),
}
"""What no template may lose of :data:`cases.CONVERSATION`, by a text of each."""


def check_own_prompt(server: Server, name: str) -> Answer:
    """Whether all of a session reaches the model; in which form is the template's own affair."""
    found = server.rendered_prompt(
        {
            "model": name,
            "messages": [cases.native(each) for each in cases.CONVERSATION],
            "tools": cases.TOOLS,
        }
    )
    lost = [part for part, text in _PARTS.items() if text not in found]
    if lost:
        return fail(
            f"its own template loses {', '.join(lost)}",
            "put Devstral's in its place: devstral-ollama create --no-keep-template",
        )
    return ok("its own template: all of a session reaches the model, in a form of its own")


def other_format(shown: Shown) -> str | None:
    """The family whose template a model has; None for Devstral's, or one that nothing tells."""
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
