"""What the gateway knows of the models behind it."""

from __future__ import annotations

from dataclasses import dataclass

from ollama_tools.devstral.contract import lists_calls, reads_tools_as_text, understands
from ollama_tools.server.shown import Shown


@dataclass(frozen=True)
class Known:
    """What decides how a model's requests are treated.

    Attributes:
        understands: Whether its template keeps to the agreement with the gateway.
        is_jinja: Whether llama.cpp renders its prompt, and not a Go template.
        context: Its context in tokens; None where it sets none.
        longest: The longest context that its weights were made for; None where nothing says it.
        longest_answer: The most tokens of an answer, where it sets that itself.
        thinks: Whether it can be asked to think.
        system: Its own system prompt.
        reads_tools_as_text: Whether its template takes tools that the server is not given.
        lists_calls: Whether it writes its calls as one list of JSON.
    """

    understands: bool
    is_jinja: bool
    context: int | None
    thinks: bool
    longest: int | None = None
    longest_answer: int | None = None
    system: str = ""
    reads_tools_as_text: bool = False
    lists_calls: bool = False


def known(shown: Shown, dedicated: str = "") -> Known:
    """What a server's own words say.

    Args:
        shown: Its words.
        dedicated: The template that it has for all models without a TEMPLATE of their own, which
            it does not show; empty where it has none.
    """
    by_server = bool(dedicated) and (shown.is_jinja or not shown.template)
    template = dedicated if by_server else shown.template
    return Known(
        understands=understands(template),
        is_jinja=by_server or shown.is_jinja,
        context=shown.context,
        thinks="thinking" in shown.capabilities,
        longest=shown.longest_context,
        longest_answer=shown.longest_answer,
        system=shown.system,
        reads_tools_as_text=reads_tools_as_text(template),
        lists_calls=lists_calls(template),
    )
