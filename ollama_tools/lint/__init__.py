"""``devstral-ollama lint``: what is wrong with a Modelfile, a template, a GGUF, a model or tools.

A rule is a small function over a neutral :class:`~ollama_tools.lint.subject.Subject`, so that the
same rules serve them all. What a template does is not guessed from its text: it is run on a few
conversations, and the prompts are looked at.

Nothing is imported before it is asked for: the process that a template is tried in comes by here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ollama_tools.lint.judge import (
        RULES,
        Finding,
        Rule,
        Severity,
        lint_file,
        lint_model,
        lint_modelfile,
        lint_models,
        lint_shown,
        lint_subject,
        lint_tools,
    )

__all__ = [
    "RULES",
    "Finding",
    "Rule",
    "Severity",
    "lint_file",
    "lint_model",
    "lint_modelfile",
    "lint_models",
    "lint_shown",
    "lint_subject",
    "lint_tools",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ollama_tools.lint import judge

    return getattr(judge, name)
