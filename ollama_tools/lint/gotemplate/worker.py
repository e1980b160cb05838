"""Renders conversations by a Go template, as Ollama does; runs inside a worker."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ollama_tools.lint.fault import TemplateFault, TooCostly
from ollama_tools.lint.gotemplate.data import (
    knows_messages,
    parse_template,
    render,
    says_something,
    tool_call_tag,
)
from ollama_tools.lint.gotemplate.parse import GoTemplate


def answer(asked: Mapping[str, Any]) -> dict[str, Any]:
    """What a template is, and every conversation of ``asked``; or why it cannot be used."""
    try:
        template = parse_template(asked["template"])
    except TemplateFault as fault:
        return {"fault": fault.message, "line": fault.line}
    return {
        "knows_messages": knows_messages(template),
        "tag": tool_call_tag(template),
        "says_something": says_something(template),
        "answers": list(_render_all(template, asked["conversations"])),
    }


def _render_all(
    template: GoTemplate, conversations: Sequence[Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    costly = ""
    for each in conversations:
        if costly:
            # It costs the same once more, and the limits are those of all conversations.
            yield {"fault": costly}
            continue
        try:
            yield {"prompt": render(template, each["messages"], each["tools"])}
        except TooCostly as fault:
            costly = fault.message
            yield {"fault": costly}
        except TemplateFault as fault:
            yield {"fault": fault.message}
