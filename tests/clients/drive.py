"""Drives the clients, and holds what they sent against the reference."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ollama_tools.devstral.carriers import Carrier
from ollama_tools.devstral.catalog import TokenizerVersion
from ollama_tools.errors import ServerError
from ollama_tools.gateway.settings import ToolCallParser
from ollama_tools.server.client import Server
from tests.clients.clients import Client
from tests.clients.install import install_all, interpreter, variables
from tests.clients.proxy import Recorder
from tests.clients.scripts import CARRIERS, Part, create_models
from tests.parity.gateway import exact as exact_through
from tests.parity.gateway import raw_conversation, render_through
from tests.parity.places import Place, parity_server
from tests.parity.predicates import at_work, expected
from tests.parity.recorded import Recorded, Score, difference, with_ids
from tests.parity.reference import reference
from tests.testbed.build import NEWEST, ollama_build
from tests.testbed.gateway import GatewayServer
from tests.testbed.server import OllamaServer

PLACES = tuple((carrier, version) for carrier in CARRIERS for version in TokenizerVersion)
_Where = tuple[Carrier, TokenizerVersion]
ROADS = {
    ToolCallParser.SERVER: PLACES,
    ToolCallParser.GATEWAY: tuple(each for each in PLACES if each[0] is Carrier.GGUF),
}
"""The places of requests through the gateway, by who reads the calls."""

CHATS = frozenset({"/api/chat", "/v1/chat/completions", "/v1/messages", "/v1/responses"})
# What a prompt is made of, and what names calls and items in it.
_SAID = ("messages", "tools", "system", "instructions", "input")
_IDS = ("id", "call_id", "tool_call_id", "tool_use_id")

_DRIVERS = Path(__file__).parent / "drivers"
_PATIENCE = 240.0
_WORKERS = max(2, os.cpu_count() or 1)
_INHERITED = ("PATH", "LANG", "LC_ALL", "TMPDIR", "TZ")
# Nobody is told that we were here, and nothing is fetched.
_QUIET = {
    "DO_NOT_TRACK": "1",
    "ANONYMIZED_TELEMETRY": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "LANGCHAIN_TRACING_V2": "false",
    "LANGSMITH_TRACING": "false",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_TELEMETRY": "False",
    "MSWEA_CONFIGURED": "true",
    "MSWEA_MODEL_RETRY_STOP_AFTER_ATTEMPT": "1",
    "MSWEA_SILENT_STARTUP": "1",
    "OTEL_SDK_DISABLED": "true",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUNBUFFERED": "1",
}


@dataclass(frozen=True)
class Session:
    """What came of one session, on the caller's side.

    Attributes:
        part: What the model said.
        model: Its name.
        stream: Whether the client asked for streams.
        calls: Name and arguments of the calls that reached the tools.
        answers: The answers.
        error: What the client raised.
    """

    part: Part
    model: str
    stream: bool
    calls: list[tuple[str, Any]]
    answers: list[str]
    error: str

    def faults(self, client: Client) -> list[str]:
        """What is wrong with it; empty where the loop worked."""
        faults = [self.error] if self.error else []
        meant = client.calls(self.part)
        # Some clients run parallel calls in threads; the order of arguments is no matter here.
        if sorted(map(_sorted, self.calls)) != sorted(map(_sorted, meant)):
            faults.append(f"calls {self.calls}, not {meant}")
        if self.answers != list(client.answers):
            faults.append(f"answers {self.answers}, not {list(client.answers)}")
        return faults


def _sorted(value: object) -> str:
    return json.dumps(value, sort_keys=True)


@dataclass
class Found:
    """What a client did.

    Attributes:
        client: The client.
        sessions: Its sessions.
        requests: Its chat requests, without those that repeat another.
        refused: Statuses of requests with tools that the server did not answer; clients try such
            ones again without a word.
        strays: Hosts beside the server that it tried to reach.
        scores: How its requests fare in each place.
        through: How many of its requests are exact through the gateway, in each place and by who
            reads the calls.
        gateway_sessions: Its sessions through the gateway, by who reads the calls.
        unexplained: Where a prompt is not the reference's as decoded: the place, the request, the
            prompt that was expected and the one that came.
        crashed: How its driver ended, where it did not end well.
    """

    client: Client
    sessions: list[Session]
    requests: list[Recorded]
    refused: list[int]
    strays: set[str]
    crashed: str
    scores: dict[tuple[Carrier, TokenizerVersion], Score] = field(default_factory=dict)
    through: dict[ToolCallParser, dict[_Where, int]] = field(default_factory=dict)
    gateway_sessions: dict[ToolCallParser, list[Session]] = field(default_factory=dict)
    unexplained: list[tuple[Place, Recorded, str, str]] = field(default_factory=list)

    @property
    def faults(self) -> dict[tuple[str, bool], list[str]]:
        """What is wrong with its sessions, by model and whether streamed."""
        return self._faults(self.sessions)

    def gateway_faults(self, parser: ToolCallParser) -> dict[tuple[str, bool], list[str]]:
        """What is wrong with its sessions through the gateway."""
        return self._faults(self.gateway_sessions[parser])

    def _faults(self, sessions: Sequence[Session]) -> dict[tuple[str, bool], list[str]]:
        return {
            (each.model, each.stream): faults
            for each in sessions
            if (faults := each.faults(self.client))
        }


def run(clients: Sequence[Client]) -> list[Found]:
    """Drives clients and compares their requests, on servers of its own.

    Raises:
        BuildError: A client cannot be installed.
    """
    install_all()
    with tempfile.TemporaryDirectory(prefix="clients-") as directory:
        root = Path(directory)
        found = _drive_all(clients, root / "talking")
        with (
            parity_server(NEWEST, root / "rendering") as server,
            ThreadPoolExecutor(max_workers=_WORKERS) as pool,
        ):
            list(pool.map(partial(_compare, server), found))
    return found


def _drive_all(clients: Sequence[Client], root: Path) -> list[Found]:
    with (
        OllamaServer(
            ollama_build(NEWEST),
            models_dir=root / "models",
            log_path=root / "ollama.log",
            env={"OLLAMA_MAX_LOADED_MODELS": "32", "OLLAMA_KEEP_ALIVE": "-1"},
        ) as bed,
        Server(bed.url) as server,
    ):
        parts = {
            part.name: part
            for client in clients
            for part in (*client.parts, *client.behind_gateway.parts)
        }
        create_models(server, root, parts.values())
        with ExitStack() as stack:
            pool = stack.enter_context(ThreadPoolExecutor(max_workers=_WORKERS))
            # Agents stand at the end of the list and take longest: they start first.
            done = list(pool.map(partial(_drive, bed.url, root), reversed(clients)))
            for parser in ToolCallParser:
                options = "--tool-call-parser", parser
                log = root / f"gateway-{parser}.log"
                gateway = stack.enter_context(GatewayServer(bed.url, *options, log_path=log))
                behind = [through_gateway(each, parser) for each in reversed(clients)]
                again = pool.map(partial(_drive, gateway.url, root), behind)
                for found, through in zip(done, again, strict=True):
                    found.gateway_sessions[parser] = through.sessions
                    found.crashed = found.crashed or through.crashed
                    found.refused += through.refused
    return done[::-1]


def through_gateway(client: Client, parser: ToolCallParser) -> Client:
    """A client as it is driven through a gateway."""
    reads = parser is ToolCallParser.GATEWAY
    return client.read_by_gateway if reads else client.behind_gateway


def _drive(url: str, root: Path, client: Client) -> Found:
    with ExitStack() as stack:
        recorder = stack.enter_context(Recorder(url))
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=root)))
        reports, crashed = _output(client, recorder.url, home)
    requests = [
        Recorded(client.name, each.path, each.body)
        for each in recorder.exchanges
        # The generic parser gives arguments in an order that changes by chance; with its requests
        # no two runs would be the same.
        if each.path in CHATS and not each.body["model"].endswith("-modelfile-v7")
    ]
    return Found(
        client,
        [Session(part=client.models[report["model"]], **report) for report in reports],
        _distinct(requests),
        [
            each.status
            for each in recorder.exchanges
            # Where no tools are offered a scripted model may call one all the same.
            if each.path in CHATS and each.body.get("tools") and each.status != 200
        ],
        set(recorder.strays),
        crashed,
    )


def _output(client: Client, url: str, home: Path) -> tuple[list[Any], str]:
    """What a driver reports, and how it crashed."""
    environment = {key: os.environ[key] for key in _INHERITED if key in os.environ}
    environment |= _QUIET | variables(client.environment)
    environment |= {
        "HOME": str(home),
        "NO_PROXY": "127.0.0.1,localhost",
        "HTTP_PROXY": url,
        "HTTPS_PROXY": url,
    }
    command = [
        interpreter(client.environment),
        _DRIVERS / client.driver,
        url,
        ",".join(client.models),
    ]
    process = subprocess.Popen(
        [str(word) for word in command] + ([client.option] if client.option else []),
        env=environment,
        cwd=home,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        # Its agents too, which hold the ends of its pipes.
        os.killpg(process.pid, signal.SIGKILL)
        output, errors = process.communicate()
    if process.returncode:
        return [], f"exit code {process.returncode}: {output[-2000:]}\n{errors[-2000:]}"
    return json.loads(output.splitlines()[-1]), ""


def _distinct(requests: Sequence[Recorded]) -> list[Recorded]:
    """Requests without those that ask the same as an earlier one, ids by their place."""
    seen: dict[str, Recorded] = {}
    for request in requests:
        said = {key: value for key, value in request.body.items() if key in _SAID}
        seen.setdefault(json.dumps([request.path, _anonymous(said, {})]), request)
    return list(seen.values())


def _anonymous(value: Any, known: dict[str, str]) -> Any:
    if isinstance(value, list):
        return [_anonymous(each, known) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        # The length of an id decides on how it is cut; its letters do not.
        key: known.setdefault(each, f"{len(known)}:{len(each)}")
        if key in _IDS and isinstance(each, str)
        else _anonymous(each, known)
        for key, each in value.items()
    }


def _compare(server: Server, found: Found) -> None:
    for carrier, version in PLACES:
        total = found.scores[carrier, version] = Score()
        straight = Place(carrier, version)
        said = [raw_conversation(each.path, each.body) for each in found.requests]
        texts = [exact_through(straight, each).text for each in said]
        for parser in ToolCallParser:
            if (carrier, version) in ROADS[parser]:
                found.through.setdefault(parser, {})[carrier, version] = sum(
                    render_through(server, straight, each.path, each.body, parser) == text
                    for each, text in zip(found.requests, texts, strict=True)
                )
        for request in found.requests:
            place = Place(carrier, version, request.surface)
            exact = reference(version, with_ids(place, request.conversation)).text
            wanted = expected(place, request.decoded).text
            try:
                rendered = request.render(server, place)
            except ServerError as error:
                rendered = f"refused: {error.what}"
            total.requests += 1
            total.characters += len(exact)
            total.decoded += rendered == wanted
            if rendered == exact:
                total.identical += 1
            else:
                total.differing += difference(exact, rendered)
                total.reasons.update(at_work(place, with_ids(place, request.decoded)))
            if rendered != wanted:
                found.unexplained.append((place, request, wanted, rendered))


def total(found: Sequence[Found], carrier: Carrier, version: TokenizerVersion) -> Score:
    """The sum of all clients' scores in a place."""
    result = Score()
    for each in found:
        score = each.scores[carrier, version]
        result.requests += score.requests
        result.identical += score.identical
        result.decoded += score.decoded
        result.differing += score.differing
        result.characters += score.characters
        result.reasons.update(score.reasons)
    return result
