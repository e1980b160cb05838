"""What both engines make of conversations: Ollama's of Go templates, llama-server's of Jinja."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ollama_tools.lint.bounded import ask


@dataclass(frozen=True, slots=True)
class Rendered:
    """One conversation, rendered.

    Attributes:
        prompt: The prompt; None where the template failed.
        fault: Why it failed; empty where it did not.
        refused: Whether the template itself refused, by ``raise_exception``.
    """

    prompt: str | None
    fault: str = ""
    refused: bool = False


@dataclass(frozen=True, slots=True)
class GoTried:
    """A Go template, tried.

    Attributes:
        rendered: What it made of conversations.
        knows_messages: Whether it is run once for a conversation, not once for each turn.
        says_something: Whether it is more than definitions for other templates to use.
        tag: The text by which Ollama's generic parser finds tool calls.
    """

    rendered: tuple[Rendered, ...]
    knows_messages: bool
    says_something: bool
    tag: str


def run_jinja(template: str, conversations: Sequence[Mapping[str, Any]]) -> tuple[Rendered, ...]:
    """Render conversations by a Jinja template.

    Args:
        template: The template.
        conversations: Values of each: ``messages``, ``tools`` and the like.

    Raises:
        TemplateFault: It cannot be parsed, or does not come to an end.
        WorkerCrash: Nobody could find out.
    """
    found = ask("ollama_tools.lint.jinja_worker", template, conversations=list(conversations))
    return _rendered(found)


def run_go(template: str, conversations: Sequence[Mapping[str, Any]]) -> GoTried:
    """Render conversations by a Go template.

    Args:
        template: The template.
        conversations: ``messages``, whose contents are texts, and ``tools`` of each.

    Raises:
        TemplateFault: It cannot be parsed, or does not come to an end.
        WorkerCrash: Nobody could find out.
    """
    found = ask("ollama_tools.lint.gotemplate.worker", template, conversations=list(conversations))
    return GoTried(
        _rendered(found), found["knows_messages"], found["says_something"], str(found["tag"])
    )


def _rendered(found: Mapping[str, Any]) -> tuple[Rendered, ...]:
    return tuple(
        Rendered(each.get("prompt"), str(each.get("fault") or ""), bool(each.get("raised")))
        for each in found["answers"]
    )
