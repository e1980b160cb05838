"""Models that say the scripted outputs, one for each carrier, and what reaches the caller."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any
from unittest import mock

import httpx

from ollama_tools.checks import surfaces
from ollama_tools.checks.surfaces import SURFACES, Call, Reply, Surface
from ollama_tools.devstral.carriers import complete_jinja, go_template
from ollama_tools.devstral.catalog import TokenizerVersion
from ollama_tools.devstral.miniature import CallForm, Output, write_speaker
from ollama_tools.errors import ServerError, ServerUnreachable
from ollama_tools.files.packaged import data_path
from ollama_tools.gateway.settings import ToolCallParser
from ollama_tools.server.answers import Broken
from ollama_tools.server.client import Server
from tests.conformance.cases import CASES, TOOLS, Case
from tests.testbed.build import NEWEST, ollama_build
from tests.testbed.server import LlamaServer

Cells = dict[str, dict[str, dict[str, str]]]
"""Outcomes by case, carrier and way: ``/api/chat plain`` is a way."""

LLAMA_SERVER = "llama-server"
"""What stands for a version of Ollama where llama-server serves by itself."""

_PATIENCE = {False: 20.0, True: 120.0}
_TRIES = 3
_FORMS: tuple[CallForm, ...] = ("v13", "v7")
_CONTEXT = 8192
_RESPONSE_ENDS = ("response.completed", "response.incomplete", "response.failed")


@dataclass(frozen=True, slots=True)
class Carrier:
    """One way in which a model carries its template.

    Attributes:
        name: Its name in the table.
        form: The form in which the model writes calls.
        jinja: Whether the template is Jinja in the GGUF; else it is a Go TEMPLATE.
        parser: The PARSER of the model.
        by_ollama: Whether Ollama serves it; else llama-server by itself.
        behind: Who reads the calls of a gateway before the server; None where there is no gateway.
    """

    name: str
    form: CallForm
    jinja: bool
    parser: str | None = None
    by_ollama: bool = True
    behind: ToolCallParser | None = None

    @property
    def model(self) -> str:
        """What tells its models from others'; a gateway stands before those of `gguf`."""
        name = self.name if self.behind is None else f"gguf {self.form}"
        return name.removesuffix(" v13").replace(" ", "-")

    def has(self, case: Case) -> bool:
        """Whether it is asked for a case: one in its form, and a long one not twice by grammar."""
        by_grammar_again = case.apart and self.behind is ToolCallParser.SERVER
        return case.output(self.form) is not None and not by_grammar_again

    @property
    def ordered(self) -> bool:
        """Whether arguments come in some order; the generic parser's order changes by chance."""
        return self.jinja or self.parser is not None


CARRIERS: tuple[Carrier, ...] = (
    Carrier("gguf", "v13", jinja=True),
    Carrier("modelfile", "v13", jinja=False, parser="ministral"),
    Carrier("generic", "v13", jinja=False),
    Carrier("gguf v7", "v7", jinja=True),
    Carrier("modelfile v7", "v7", jinja=False),
    Carrier("gateway", "v13", jinja=True, behind=ToolCallParser.SERVER),
    Carrier("gateway reads", "v13", jinja=True, behind=ToolCallParser.GATEWAY),
    Carrier("gateway reads v7", "v7", jinja=True, behind=ToolCallParser.GATEWAY),
    Carrier("llama-server", "v13", jinja=True, by_ollama=False),
    Carrier("llama-server v7", "v7", jinja=True, by_ollama=False),
)


def cue(case: Case, form: CallForm) -> str:
    """The text in a prompt that asks for a case."""
    return f"<say {form} {case.name}>"


def carriers(version: str) -> tuple[Carrier, ...]:
    """The carriers of a server; of Ollama's only those from 0.30 on apply Jinja."""
    if version == LLAMA_SERVER:
        return tuple(each for each in CARRIERS if not each.by_ollama)
    native = version == NEWEST
    return tuple(each for each in CARRIERS if each.by_ollama and (native or not each.jinja))


def create_models(server: Server, directory: Path, version: str) -> None:
    """Make the model of each carrier, named as the carrier; those with Go TEMPLATEs share a blob.

    A blob with Jinja cannot be shared: the server starts one engine for a blob, with Jinja or not.
    """
    digests: dict[tuple[str | None, bool], str] = {}
    for carrier, apart in models(version):
        jinja = _jinja(carrier.form) if carrier.jinja else None
        if (jinja, apart) not in digests:
            path = directory / f"speaker-{len(digests)}.gguf"
            write_speaker(path, _outputs(apart), chat_template=jinja)
            digest = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
            server.upload(path, digest, lambda *_: None)
            digests[jinja, apart] = digest
        request: dict[str, Any] = {
            "model": model_name(carrier, apart=apart),
            "files": {"speaker.gguf": digests[jinja, apart]},
            # One thread: on a busy machine two wait for each other at each of a token's barriers.
            "parameters": {"num_ctx": _CONTEXT, "temperature": 0, "num_thread": 1},
        }
        if not carrier.jinja:
            request["template"] = go_template(TokenizerVersion(carrier.form))
        if carrier.parser:
            request["parser"] = carrier.parser
        server.create(request, lambda *_: None)


def models(version: str) -> Iterator[tuple[Carrier, bool]]:
    """The models of a server: each carrier's, and that of the cases that have one apart."""
    for carrier, apart in itertools.product(carriers(version), (False, True)):
        has_cases = any(each.apart is apart and carrier.has(each) for each in CASES)
        if has_cases and carrier.behind is None:
            yield carrier, apart


@contextmanager
def llama_servers(directory: Path) -> Iterator[Mapping[str, str]]:
    """A llama-server for each model, with the complete form of our Jinja.

    Yields:
        Their URLs by the models' names.
    """
    program = ollama_build().llama_server
    assert program is not None
    found = {}
    with ExitStack() as stack:
        for carrier, apart in models(LLAMA_SERVER):
            name = model_name(carrier, apart=apart)
            path = directory / f"{name.replace(':', '-')}.gguf"
            write_speaker(path, _outputs(apart))
            template = complete_jinja(TokenizerVersion(carrier.form))
            arguments = (
                *("-m", path, "--alias", name, "-c", str(_CONTEXT), "-np", "1", "-t", "1"),
                *("--temp", "0", "--jinja", "--chat-template-file", template),
            )
            server = LlamaServer(program, arguments, log_path=path.with_suffix(".log"))
            found[name] = stack.enter_context(server).url
        yield found


def _outputs(apart: bool) -> dict[str, Output]:
    return {
        cue(case, form): output
        for form in _FORMS
        for case in CASES
        if case.apart is apart and (output := case.output(form)) is not None
    }


def model_name(carrier: Carrier, *, apart: bool) -> str:
    """The model's name on the server."""
    return f"speaker:{carrier.model}{'-apart' if apart else ''}"


def _jinja(form: CallForm) -> str:
    return data_path("templates", f"{form}.jinja").read_text(encoding="utf-8")


class _Witness(Server):
    """A client that does not let pass what the surfaces, as clients do, would make the best of.

    It does not wait for ever either: before 0.32.15 a call of an unknown tool with PARSER
    ministral can leave the request hanging, by a race, after the error was written.
    """

    def __init__(self, url: str, patience: float) -> None:
        super().__init__(url, timeout=patience)

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """See :class:`Server`."""
        answer = super().post(path, body)
        if path == "/v1/messages" and answer["content"] is None:
            raise _Malformed("content is null")
        return answer

    def events(self, path: str, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """See :class:`Server`."""
        ended = False
        for event in super().events(path, body):
            ended = ended or _is_end(event)
            yield event
        if not ended:
            raise _Malformed("the stream breaks off")


class _Malformed(Exception):
    pass


def _is_end(event: Mapping[str, Any]) -> bool:
    kind = event.get("type")
    if kind is None:
        return any(choice.get("finish_reason") for choice in event.get("choices") or ())
    return kind == "message_stop" or kind in _RESPONSE_ENDS


def run(
    version: str,
    url_of: Callable[[str], str],
    gateways: Mapping[ToolCallParser, str] = MappingProxyType({}),
) -> Cells:
    """Ask every case of every carrier in every way.

    Models of different blobs are asked side by side; each engine is loaded once.

    Args:
        version: The server's.
        url_of: Where the model of a name is served.
        gateways: The gateways before it.
    """
    found: dict[tuple[str, str], dict[str, str]] = {}
    lanes: dict[str, list[Carrier]] = {}
    for carrier in carriers(version):
        lanes.setdefault(carrier.model if carrier.jinja else "go", []).append(carrier)

    def ask_lane(lane: Sequence[Carrier], cases: Sequence[Case], apart: bool) -> None:
        for carrier in lane:
            asked = [case for case in cases if carrier.has(case)]
            if not asked:
                continue
            name = model_name(carrier, apart=apart)
            url = url_of(name) if carrier.behind is None else gateways[carrier.behind]
            with _Witness(url, _PATIENCE[apart]) as server:
                for case in asked:
                    found[carrier.name, case.name] = dict(_ask(server, carrier, case))

    # The surfaces take the length of an answer from their module.
    for tokens, apart in sorted({(case.tokens, case.apart) for case in CASES}):
        cases = [case for case in CASES if (case.tokens, case.apart) == (tokens, apart)]
        with (
            mock.patch.object(surfaces, "ANSWER_TOKENS", tokens),
            ThreadPoolExecutor(len(lanes)) as pool,
        ):
            for future in [pool.submit(ask_lane, lane, cases, apart) for lane in lanes.values()]:
                future.result()
    return {
        case.name: {
            carrier.name: found[carrier.name, case.name]
            for carrier in carriers(version)
            if (carrier.name, case.name) in found
        }
        for case in CASES
    }


def _ask(server: Server, carrier: Carrier, case: Case) -> Iterator[tuple[str, str]]:
    messages = [
        {"role": "system", "content": "You are scripted."},
        {"role": "user", "content": cue(case, carrier.form)},
    ]
    tools = TOOLS if case.offered else []
    model = model_name(carrier, apart=case.apart)
    for surface in SURFACES:
        if surface.path == "/api/chat" and not carrier.by_ollama:
            continue
        for stream in (True,) if case.apart else (False, True):
            try:
                reply = _patiently(
                    partial(surface.ask, server, model, messages, tools, stream=stream)
                )
                outcome = describe(reply, case, ordered=carrier.ordered)
            except ServerError as error:
                outcome = f"error: {_plain(surface, error.what)}"
            except _Malformed as error:
                outcome = f"malformed: {error}"
            yield way(surface, stream=stream), outcome


def _patiently(ask: Callable[[], Reply]) -> Reply:
    """Ask again where no answer comes; what hung once is answered the next time.

    llama-server closes a connection behind a stream without a word, and whoever asks on it in
    that moment has to ask again.
    """
    for _ in range(_TRIES - 1):
        try:
            return ask()
        except (ServerUnreachable, Broken, httpx.TimeoutException):
            continue
    return ask()


def way(surface: Surface, *, stream: bool) -> str:
    """The name of a way to ask."""
    return f"{surface.path} {'streamed' if stream else 'plain'}"


WAYS: tuple[str, ...] = tuple(
    way(surface, stream=stream) for surface in SURFACES for stream in (False, True)
)


def _plain(surface: Surface, message: str) -> str:
    """An error's words, without what differs from run to run."""
    message = message.removeprefix(surface.path).removeprefix(":").strip()
    return re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1", message)[:160]


def describe(reply: Reply, case: Case, *, ordered: bool = True) -> str:
    """How a reply differs from what the model means by a case.

    ``ok``; ``ok but …`` where every call arrived with its values; ``empty``; ``text …``,
    ``calls …`` and ``wrong numbers …`` with what arrived instead.

    Args:
        reply: What reached the caller.
        case: What the model means.
        ordered: Whether the server keeps arguments in some order; else theirs is left to chance
            and does not count.
    """
    meant = [(name, dict(arguments)) for name, arguments in case.calls]
    found = [(call.name, call.arguments) for call in reply.calls]
    if found == meant and (found or case.text):
        but = []
        if _text(found, sort=True) != _text(meant, sort=True):
            but.append("numbers rewritten")
        elif ordered and _text(found) != _text(meant):
            but.append("keys in another order")
        if reply.text.strip() != case.text.strip():
            but.append("text lost" if not reply.text.strip() else f"text {_short(reply.text)}")
        return f"ok but {', '.join(but)}" if but else "ok"
    if not found:
        return f"text {_short(reply.text)}" if reply.text else "empty"
    kind = "wrong numbers" if _rounded(found) == _rounded(meant) else "calls"
    calls = f"{kind} {' '.join(_short(_shown(each)) for each in reply.calls)}"
    same = reply.text.strip() == case.text.strip()
    return calls if same else f"{calls} and text {_short(reply.text)}"


def _rounded(calls: object) -> object:
    """Calls with every number as the nearest that a float can hold."""
    return json.loads(_text(calls), parse_int=float)


def _text(value: object, *, sort: bool = False) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=sort)


def _shown(call: Call) -> str:
    return f"{call.name}({_text(call.arguments)})"


def _short(text: str) -> str:
    shown = text if len(text) <= 100 else f"{text[:60]}…({len(text)} characters)"
    return json.dumps(shown, ensure_ascii=False)
