"""Makes Mistral's Devstral work on Ollama, provably, on one server or on a fleet.

The public face of the package; everything else is private to it. Nothing is imported before it is
asked for, so that a program that only wants one function pays for no other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ollama_tools.checks.result import CheckResult, Report, Status
    from ollama_tools.errors import DevstralError
    from ollama_tools.model.apply import Outcome
    from ollama_tools.model.ensure import ensure_model, preflight, smoke
    from ollama_tools.model.render import render

__version__ = "0.1.0"

_HOMES = {
    "CheckResult": "ollama_tools.checks.result",
    "DevstralError": "ollama_tools.errors",
    "Outcome": "ollama_tools.model.apply",
    "Report": "ollama_tools.checks.result",
    "Status": "ollama_tools.checks.result",
    "ensure_model": "ollama_tools.model.ensure",
    "preflight": "ollama_tools.model.ensure",
    "render": "ollama_tools.model.render",
    "smoke": "ollama_tools.model.ensure",
}

__all__ = [
    "CheckResult",
    "DevstralError",
    "Outcome",
    "Report",
    "Status",
    "__version__",
    "ensure_model",
    "preflight",
    "render",
    "smoke",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
