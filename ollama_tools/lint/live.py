"""Lets a live server render: a model that it has, or a file by a model that is gone afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ollama_tools.devstral.catalog import TokenizerVersion
from ollama_tools.errors import ServerError, ServerTooOld, UsageError
from ollama_tools.lint import cases
from ollama_tools.lint.engines import Rendered
from ollama_tools.lint.fault import TemplateFault
from ollama_tools.lint.probes import Conversation, Renderer, as_texts
from ollama_tools.lint.subject import Kind, Subject
from ollama_tools.server.answers import OF_THE_WAY
from ollama_tools.server.client import Server
from ollama_tools.server.guest import guest
from ollama_tools.server.versions import NATIVE_JINJA, parse_version

_NAME = "devstral-lint"
_CONTEXT = 8192
"""A miniature reads a byte a token, and no probe has a quarter of that."""


def prompt_difference(server: Server, name: str, tokenizer: TokenizerVersion) -> tuple[str, bool]:
    """How the prompt that a live model builds differs from the reference.

    Returns:
        One line, empty where the prompts are the same; and whether they differ in nothing but the
        order of keys inside JSON, which is the engine's doing and not the template's.
    """
    found = server.rendered_prompt(
        {
            "model": name,
            "messages": [cases.native(each) for each in cases.CONVERSATION],
            "tools": cases.TOOLS,
        }
    )
    expected = cases.expected_prompt(tokenizer)
    difference = cases.compare_prompts(expected, found)
    return difference, bool(difference) and cases.same_but_for_key_order(expected, found)


def render_by(server: Server, name: str, subject: Subject) -> None:
    """Let a model of the server render what is asked of a subject; it is loaded for that."""

    def render(conversations: Sequence[Conversation]) -> list[Rendered]:
        found = []
        for each in conversations:
            try:
                request = {"model": name, **as_texts(each)}
                found.append(Rendered(server.rendered_prompt(request)))
            except OF_THE_WAY:
                raise
            except ServerError as error:
                found.append(Rendered(None, error.what))
        return found

    def differs() -> str:
        difference, key_order_only = prompt_difference(server, name, subject.tokenizer)
        return "" if key_order_only else difference

    subject.render = render
    subject.differs = differs


@contextmanager
def rendered_live(server: Server, subject: Subject) -> Iterator[None]:
    """Let a server render a file's template, by a miniature of a few hundred kilobytes.

    Whatever happens inside, model and weights are gone from the server afterwards.

    Args:
        server: The server.
        subject: What is in the file; only its template, parser and system prompt matter.

    Raises:
        UsageError: There is no template in it.
        ServerTooOld: It is one that this server does not apply.
        ServerError: The server does not do its part.
    """
    template = subject.template
    if template is None:
        raise UsageError(
            f"{subject.label} has no template that a server could render",
            "leave out --live, or create the model and lint it by its name",
        )
    version = server.version()
    known = parse_version(version)
    if template.is_jinja and (known is None or known < NATIVE_JINJA):
        raise ServerTooOld(
            f"Ollama {version} applies no Jinja by itself",
            f"let a server of {NATIVE_JINJA} or newer render it",
        )
    layers = {"parameters": {"num_ctx": _CONTEXT}}
    # What a model holds goes with it, so there is one before a template can be refused.
    with guest(server, _NAME, layers, jinja=template.text if template.is_jinja else None) as base:
        fault = _put_template(server, base, subject)
        if fault is None:
            render_by(server, str(base["model"]), subject)
        else:
            subject.render = _refuse(fault)
        yield


def _put_template(server: Server, base: dict[str, Any], subject: Subject) -> TemplateFault | None:
    """Give the model its template; why the server refuses it, where it does."""
    template = subject.template
    if template is None or template.is_jinja:
        return None
    request = {**base, "template": template.text}
    if subject.parser is not None:
        request["parser"] = subject.parser.text
    elif subject.kind is Kind.TEMPLATE and subject.is_v13:
        # As our models have it; a template alone does not say it.
        request["parser"] = "ministral"
    try:
        server.create(request, _silent)
    except OF_THE_WAY:
        raise
    except ServerError as error:
        return TemplateFault(f"the server refuses it: {error.what}", 1)
    return None


def _refuse(fault: TemplateFault) -> Renderer:
    def render(_: Sequence[Conversation]) -> list[Rendered]:
        raise fault

    return render


def _silent(_status: str, _done: int, _total: int | None) -> None:
    pass
