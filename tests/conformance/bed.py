"""Models that say the scripted outputs, one for each carrier, and what reaches the caller."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from ollama_tools.catalog import TokenizerVersion
from ollama_tools.checks import surfaces
from ollama_tools.checks.surfaces import SURFACES, Call, Reply, Surface
from ollama_tools.data import data_path
from ollama_tools.errors import ServerError
from ollama_tools.miniature import CallForm, write_speaker
from ollama_tools.server import Server
from ollama_tools.template import go_template
from tests.conformance.cases import CASES, TOOLS, Case

Cells = dict[str, dict[str, dict[str, str]]]
"""Outcomes by case, carrier and way: ``/api/chat plain`` is a way."""

_CONTEXT = 8192


@dataclass(frozen=True, slots=True)
class Carrier:
    """One way in which a model carries its template.

    Attributes:
        name: Its name in the table.
        form: The form in which the model writes calls.
        jinja: Whether the template is Jinja in the GGUF; else it is a Go TEMPLATE.
        parser: The PARSER of the model.
    """

    name: str
    form: CallForm
    jinja: bool
    parser: str | None = None


CARRIERS: tuple[Carrier, ...] = (
    Carrier("gguf", "v13", jinja=True),
    Carrier("modelfile", "v13", jinja=False, parser="ministral"),
    Carrier("generic", "v13", jinja=False),
    Carrier("gguf v7", "v7", jinja=True),
    Carrier("modelfile v7", "v7", jinja=False),
)


def cue(case: Case, form: CallForm) -> str:
    """The text in a prompt that asks for a case."""
    return f"<say {form} {case.name}>"


def carriers(*, native: bool) -> tuple[Carrier, ...]:
    """The carriers of a server; only those from 0.30 on are native, that is, apply Jinja."""
    return tuple(each for each in CARRIERS if native or not each.jinja)


def create_models(server: Server, directory: Path, *, native: bool) -> None:
    """Make the model of each carrier, named as the carrier; those with Go TEMPLATEs share a blob.

    A blob with Jinja cannot be shared: the server starts one engine for a blob, with Jinja or not.
    """
    everything = {
        cue(case, form): output
        for form in ("v13", "v7")
        for case in CASES
        if (output := case.output(form)) is not None  # type: ignore[arg-type]
    }
    digests: dict[str | None, str] = {}
    for carrier in carriers(native=native):
        jinja = _jinja(carrier.form) if carrier.jinja else None
        if jinja not in digests:
            path = directory / f"speaker-{len(digests)}.gguf"
            write_speaker(path, everything, chat_template=jinja)
            digests[jinja] = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
            server.upload(path, digests[jinja], lambda *_: None)
        request: dict[str, Any] = {
            "model": model_name(carrier),
            "files": {"speaker.gguf": digests[jinja]},
            "parameters": {"num_ctx": _CONTEXT, "temperature": 0, "num_thread": 1},
        }
        if not carrier.jinja:
            request["template"] = go_template(TokenizerVersion(carrier.form))
        if carrier.parser:
            request["parser"] = carrier.parser
        server.create(request, lambda *_: None)


def model_name(carrier: Carrier) -> str:
    """The model's name on the server."""
    return f"speaker:{carrier.name.replace(' ', '-')}"


def _jinja(form: CallForm) -> str:
    return data_path("templates", f"{form}.jinja").read_text(encoding="utf-8")


def run(server: Server, *, native: bool) -> Cells:
    """Ask every case of every carrier in every way."""
    cells: Cells = {case.name: {} for case in CASES}
    # Carrier by carrier: where engines do not fit side by side, each is loaded once all the same.
    for carrier in carriers(native=native):
        for case in CASES:
            if case.output(carrier.form) is not None:
                cells[case.name][carrier.name] = dict(_ask(server, carrier, case))
    return cells


def _ask(server: Server, carrier: Carrier, case: Case) -> Iterator[tuple[str, str]]:
    messages = [
        {"role": "system", "content": "You are scripted."},
        {"role": "user", "content": cue(case, carrier.form)},
    ]
    tools = TOOLS if case.offered else []
    for surface in SURFACES:
        for stream in (False, True):
            with mock.patch.object(surfaces, "ANSWER_TOKENS", case.tokens):
                outcome = _outcome(server, surface, model_name(carrier), messages, tools, case, stream)
            yield f"{surface.path} {'streamed' if stream else 'plain'}", outcome


def _outcome(
    server: Server,
    surface: Surface,
    model: str,
    messages: list[dict[str, Any]],
    tools: list[dict[str, Any]],
    case: Case,
    stream: bool,
) -> str:
    try:
        reply = surface.ask(server, model, messages, tools, stream=stream)
    except ServerError as error:
        return f"error: {_plain(surface, error.what)}"
    except (KeyError, IndexError, TypeError, ValueError) as error:
        return f"malformed: {error}"
    return describe(reply, case)


def _plain(surface: Surface, message: str) -> str:
    """An error's words, without what differs from run to run."""
    message = message.removeprefix(surface.path).removeprefix(":").strip()
    return re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1", message)[:160]


def describe(reply: Reply, case: Case) -> str:
    """How a reply differs from what the model means by a case.

    ``ok``; ``ok but …`` where every call arrived with its values; ``empty``; ``text …`` and
    ``calls …`` with what arrived instead.
    """
    meant = [(name, dict(arguments)) for name, arguments in case.calls]
    found = [(call.name, call.arguments) for call in reply.calls]
    if found == meant and (found or case.text):
        but = []
        if any(_text(a) != _text(b) for (_, a), (_, b) in zip(found, meant, strict=True)):
            but.append("reordered")
        if reply.text.strip() != case.text.strip():
            but.append("text lost" if not reply.text.strip() else f"text {_short(reply.text)}")
        return f"ok but {', '.join(but)}" if but else "ok"
    if not found:
        return f"text {_short(reply.text)}" if reply.text else "empty"
    calls = f"calls {' '.join(_short(_shown(each)) for each in reply.calls)}"
    same = reply.text.strip() == case.text.strip()
    return calls if same else f"{calls} and text {_short(reply.text)}"


def _text(arguments: object) -> str:
    return json.dumps(arguments, ensure_ascii=False)


def _shown(call: Call) -> str:
    return f"{call.name}({_text(call.arguments)})"


def _short(text: str) -> str:
    shown = text if len(text) <= 100 else f"{text[:60]}…({len(text)} characters)"
    return json.dumps(shown, ensure_ascii=False)
