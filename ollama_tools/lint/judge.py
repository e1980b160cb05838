"""Holds what is linted to every rule."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ollama_tools.devstral.catalog_file import load_catalog
from ollama_tools.devstral.reference import QuantReference, parse_reference
from ollama_tools.errors import ServerError, UsageError

# Their rules enter the table when they are imported.
from ollama_tools.lint import header_rules, model_rules, template_rules, tools
from ollama_tools.lint.finding import CHECKS, RULES, Finding, Rule, Severity
from ollama_tools.lint.ignores import without_ignored
from ollama_tools.lint.live import render_by, rendered_live
from ollama_tools.lint.subject import (
    Subject,
    from_modelfile,
    from_path,
    from_server,
    from_shown,
)
from ollama_tools.lint.tools import lint_tools
from ollama_tools.server.client import InstalledModel, Server, find_model, shown_or_broken
from ollama_tools.server.shown import Shown
from ollama_tools.server.versions import Version, parse_version

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

_ORDER = list(Severity)
_ = (header_rules, model_rules, template_rules, tools)


def lint_subject(subject: Subject) -> list[Finding]:
    """Every finding about a subject, in the order of its lines, then of the codes."""
    found = [rule.finding(subject.label, hit) for rule, check in CHECKS for hit in check(subject)]
    kept = without_ignored(found, subject.text, subject.modelfile)
    return sorted(kept, key=_position)


def _position(finding: Finding) -> tuple[int, int, str]:
    return (finding.line or 0, _ORDER.index(finding.severity), finding.code)


def lint_file(
    path: str | Path,
    *,
    release: str | None = None,
    live: bool = False,
    host: str | None = None,
    timeout: float | None = None,
    api_key: str | None = None,
) -> list[Finding]:
    """Lint a Modelfile, a template (``.gotmpl``, ``.jinja``) or a GGUF (``.gguf``).

    Args:
        path: The file.
        release: The Devstral it is meant for; None to take it from its name and text.
        live: Whether a server renders, by a small model that is gone again afterwards.
        host: The server, as the ollama command line reads ``OLLAMA_HOST``; None for that variable.
        timeout: See :class:`ollama_tools.server.client.Server`.
        api_key: The same.

    Raises:
        FileProblem: It cannot be read.
        UsageError: The release is unknown, or there is nothing for a server to render.
        ServerError: The server does not do its part.
    """
    subject = from_path(Path(path).expanduser(), release)
    if not live:
        return lint_subject(subject)
    with Server(host, timeout=timeout, api_key=api_key) as server, rendered_live(server, subject):
        return lint_subject(subject)


def lint_modelfile(
    text: str, *, label: str = "Modelfile", release: str | None = None
) -> list[Finding]:
    """Lint the text of a Modelfile.

    Args:
        text: The text.
        label: What to call it in messages.
        release: The Devstral it is meant for; None to take it from the text.
    """
    return lint_subject(from_modelfile(text, label, release))


def lint_model(
    name: str,
    *,
    host: str | None = None,
    timeout: float | None = None,
    api_key: str | None = None,
    release: str | None = None,
    live: bool = False,
) -> list[Finding]:
    """Lint a model on a server.

    Args:
        name: Its name there, or a reference of the catalog (``"UD-Q4_K_XL"``).
        host: The server, as the ollama command line reads ``OLLAMA_HOST``; None for that variable.
        timeout: See :class:`ollama_tools.server.client.Server`.
        api_key: The same.
        release: The Devstral it is; None to take it from its name.
        live: Whether the server itself renders, for which it loads the model.

    Raises:
        ModelNotFound: There is no such model.
        ServerError: The server does not answer.
    """
    with Server(host, timeout=timeout, api_key=api_key) as server:
        found = _name_on_server(server, name)
        subject = from_server(server, found, release)
        if live:
            render_by(server, found, subject)
        return lint_subject(subject)


def lint_shown(
    shown: Shown, version: Version | None, others: Sequence[Shown], *, release: str | None = None
) -> list[Finding]:
    """Lint a model that its server has shown already; nothing is asked of the server.

    Args:
        shown: The model.
        version: The server's version; None where it is none.
        others: All models of the server.
        release: The Devstral it is; None to take it from its name.
    """
    return lint_subject(from_shown(shown, version, others, release))


def lint_models(server: Server) -> list[Finding]:
    """Lint every Devstral on a server, each once, however many names it has.

    Raises:
        ServerError: The server does not answer.
    """
    version = parse_version(server.version())
    by_digest, broken = each_model(server, server.models())
    shown = list(by_digest.values())
    for name, error in broken.items():
        # To say nothing of it would be to call it good; the doctor goes on without it.
        if "devstral" in name.casefold():
            raise error
    return [
        finding
        for each in shown
        if each.is_devstral
        for finding in lint_shown(each, version, shown)
    ]


def each_model(
    server: Server, installed: Sequence[InstalledModel]
) -> tuple[dict[str, Shown], dict[str, ServerError]]:
    """What a server shows of every model, by the digest of its manifest.

    Builds and copies are one model under several names; one that says "devstral", and the shortest
    of these, speaks for all.

    Returns:
        What it shows, and the names that it lists and cannot show, each with what it says instead:
        a cloud model that is switched off, weights that are missing or cut.

    Raises:
        ServerError: The server does not answer.
    """
    found: dict[str, Shown] = {}
    broken: dict[str, ServerError] = {}
    looked_at = set()
    for each in sorted(installed, key=_speaks_for_others):
        if each.digest in looked_at:
            continue
        shown = shown_or_broken(server, each.name)
        if shown is None:
            continue
        if isinstance(shown, Shown):
            found[each.digest] = shown
        else:
            broken[each.name] = shown
        looked_at.add(each.digest)
    return found, broken


def _speaks_for_others(model: InstalledModel) -> tuple[bool, int]:
    return "devstral" not in model.name.casefold(), len(model.name)


def _name_on_server(server: Server, name: str) -> str:
    """A model's name there, from that name or from a reference such as ``UD-Q4_K_XL``."""
    server.version()
    if find_model(server.models(), name) is None:
        with suppress(UsageError):
            reference = parse_reference(name, load_catalog())
            if isinstance(reference, QuantReference):
                return f"{reference.release.slug}:{reference.quant.name}"
    return name
