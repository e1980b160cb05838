"""Preflight: a miniature proves on a server what a model will need there, before it is brought.

Two guests do it. One has a Devstral's true KV cache, and shows what loads, where, and what a token
of context takes; the other has next to none, and is asked what an agent asks. A model that serves
is never put out for them: beside one the small guest alone comes, on the processor, and what the
large one would show is reckoned.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ollama_tools.checks.doctor import examine_server
from ollama_tools.checks.result import CheckResult, Report, Status
from ollama_tools.checks.smoke import LOAD, TOOL_CALLS, smoke_server
from ollama_tools.devstral.carriers import AUTO, EXACT, Carrier, prompt_layers
from ollama_tools.devstral.context import AGENT_PROMPT, AGENT_ROOM
from ollama_tools.devstral.memory import KvType, kv_cache_bytes
from ollama_tools.errors import CheckFailed, ServerError
from ollama_tools.hardware.memory import main_memory
from ollama_tools.lint.live import prompt_difference
from ollama_tools.model.builds import loaded_name
from ollama_tools.model.plan import Plan
from ollama_tools.model.pull import Pull
from ollama_tools.model.room import Needs, Room
from ollama_tools.model.steps import Run, Step, StepKind
from ollama_tools.model.upload import Download
from ollama_tools.progress import Progress, size_text
from ollama_tools.server.answers import OF_THE_WAY
from ollama_tools.server.client import Server
from ollama_tools.server.guest import guest
from ollama_tools.server.log import Load, newest_load, read_log
from ollama_tools.server.process import find_server_process
from ollama_tools.server.versions import carriers, require_supported

if TYPE_CHECKING:
    from ollama_tools.devstral.catalog import Release
    from ollama_tools.devstral.fit import Weights

_NAME = "devstral-preflight"
_OF_THE_SERVER = ("server-version", "kv-cache", "default-context", "engine", "disk", "dedicated")
_SETTINGS = ("kv-cache", "default-context")
"""What the server's environment asks for; what is in force has a line of its own."""

_LONG_PROMPT = 6_000
"""Tokens; more than the 4096 to which servers cut a prompt without a word."""
_SMALL_CONTEXT = 4_096
_PROMPT_SLACK = 256
_MUCH = 1_000_000_000
"""Bytes of a download before which a server is tried."""
_LOADED_AT_MOST = 3
"""Models that Ollama keeps loaded for each card, or without one, where nobody says it."""


@dataclass(frozen=True, slots=True)
class Preflight:
    """What is wanted of a server.

    Attributes:
        release: The Devstral whose format and KV cache count.
        context: Tokens of context.
        room: What the server has for the model.
        weights: The model; None where nothing is said of it.
        carrier: Where its template is to live.
        rewritable: Whether its weights will pass through this machine.
        kv_type: The type that the KV cache must have; None for any.
        parallel: How many requests at a time there must be; None for any.
        require_gpu: Whether it must be wholly on graphics cards; None where one is seen.
        force: Whether a model that serves may be put out for it.
        log: The server's log file, where it is at hand.
    """

    release: Release
    context: int
    room: Room
    weights: Weights | None = None
    carrier: str = AUTO
    rewritable: bool = True
    kv_type: KvType | None = None
    parallel: int | None = None
    require_gpu: bool | None = None
    force: bool = False
    log: Path | None = None

    @property
    def subject(self) -> str:
        """What it is asked for, in words."""
        name = self.weights.name if self.weights else self.release.name
        return f"{name} with a context of {self.context}"

    @property
    def prompt_tokens(self) -> int:
        """The longest prompt that the context is to hold, as a check of a build has it."""
        return min(AGENT_PROMPT, max(256, self.context - AGENT_ROOM - _PROMPT_SLACK))

    def run(self, server: Server, progress: Progress) -> Report:
        """Ask a server everything; afterwards it is as it was.

        Raises:
            ServerError: It cannot be reached, or goes away in the middle.
        """
        found = examine_server(server, _OF_THE_SERVER)
        checks = [
            replace(each, id=f"settings {each.id}") if each.id in _SETTINGS else each
            for each in found.checks
        ]
        if not any(each.id == "server-version" and each.status is Status.FAIL for each in checks):
            checks += self._by_guests(server, progress)
        return Report(self.subject, server.url, found.version, tuple(checks))

    def _by_guests(self, server: Server, progress: Progress) -> Iterator[CheckResult]:
        try:
            yield from self._tried(server, progress)
        except OF_THE_WAY:
            raise
        except ServerError as error:
            fix = error.fix or "see the end of the server's log"
            yield CheckResult("miniature", Status.FAIL, error.what, fix)

    def _tried(self, server: Server, progress: Progress) -> Iterator[CheckResult]:
        models = server.models()
        serving = [loaded_name(models, each) or each.name for each in server.running()]
        if not serving or self.force:
            yield from self._in_full(server, progress)
        elif why := _no_place_beside(server, len(serving)):
            yield CheckResult(
                "miniature",
                Status.UNKNOWN,
                f"not loaded, as {', '.join(serving)} would have to go for it: {why}",
                "run it when nothing is loaded, or with --force",
            )
        else:
            yield from self._beside(server, progress, serving)

    def _in_full(self, server: Server, progress: Progress) -> Iterator[CheckResult]:
        """Memory by a guest of a Devstral's own KV cache, then the talk by a small one."""
        shape = self.release.architecture
        carrier = self._carriers(server)[0]
        only = (LOAD, "context", "kv-cache", "gpu")
        progress.step(f"loading a miniature with the KV cache of {self.subject}")
        with self._guest(
            server, carrier, self.context, blocks=shape.layers, kv_heads=shape.kv_heads
        ) as name:
            available = main_memory()
            report = self._smoke(server, name, progress, (LOAD,))
            yield from report
            if any(each.status is Status.FAIL for each in report):
                # Whatever else is asked would say the same.
                return
            yield from self._smoke(server, name, progress, only[1:])
            load = self._load_of(server, name)
            yield from self._of_load(load, available.available if available else 0)
        yield from self._talk(server, self.context, progress, ("prompt", "bos", "long-prompt"))

    def _beside(
        self, server: Server, progress: Progress, serving: list[str]
    ) -> Iterator[CheckResult]:
        """The talk by a small guest on the processor; the rest is reckoned."""
        progress.step(f"loading a small miniature beside {', '.join(serving)}")
        # A context that takes 2 MiB, and no card is asked for them.
        yield from self._talk(
            server,
            min(_SMALL_CONTEXT, self.context),
            progress,
            ("prompt", "bos", "kv-cache"),
            {"num_gpu": 0},
        )
        yield from examine_server(server, ("gpu",)).checks
        yield self._memory(None, 0)
        models = server.models()
        now = {loaded_name(models, each) or each.name for each in server.running()}
        gone = sorted({*serving} - now)
        if gone:
            yield CheckResult(
                "serving",
                Status.WARN,
                f"{', '.join(gone)} is not loaded any more",
                "its next request loads it again",
            )
        else:
            yield CheckResult(
                "serving",
                Status.PASS,
                f"{', '.join(serving)} stays loaded, so that neither context nor place were tried",
            )

    # The guests

    def _carriers(self, server: Server) -> tuple[Carrier, ...]:
        version = require_supported(server.version())
        if self.carrier not in (AUTO, EXACT):
            return (Carrier(self.carrier),)
        # What the hub's own template is worth shows with the file alone.
        possible = carriers(version, rewritable=self.rewritable)
        return tuple(each for each in possible if each is not Carrier.HUB)

    def _guest(
        self,
        server: Server,
        carrier: Carrier,
        context: int,
        *,
        blocks: int = 1,
        kv_heads: int = 1,
        parameters: dict[str, Any] | None = None,
    ) -> AbstractContextManager[str]:
        layers = prompt_layers(carrier, self.release.tokenizer)
        request: dict[str, Any] = {"parameters": {"num_ctx": context, **(parameters or {})}}
        if layers.template is not None:
            request["template"] = layers.template
        if layers.parser is not None:
            request["parser"] = layers.parser

        @contextmanager
        def named() -> Iterator[str]:
            with guest(
                server, _NAME, request, jinja=layers.jinja, blocks=blocks, kv_heads=kv_heads
            ) as base:
                yield str(base["model"])

        return named()

    def _talk(
        self,
        server: Server,
        context: int,
        progress: Progress,
        only: tuple[str, ...],
        parameters: dict[str, Any] | None = None,
    ) -> Iterator[CheckResult]:
        """What an agent asks, by the first carrier whose prompt is Devstral's."""
        *others, last = self._carriers(server)
        for carrier in (*others, last):
            progress.step(f"asking a small miniature, its template by carrier {carrier.value}")
            with self._guest(server, carrier, context, parameters=parameters) as name:
                if carrier is not last and (why := self._fault(server, name)):
                    saw = f"carrier {carrier.value} is not taken: {why}"
                    fix = "create takes the next carrier by itself; see devstral-ollama doctor"
                    yield CheckResult("carrier", Status.WARN, saw, fix)
                    continue
                yield from self._smoke(server, name, progress, (*only, TOOL_CALLS))
                return

    def _fault(self, server: Server, name: str) -> str:
        try:
            difference, key_order_only = prompt_difference(server, name, self.release.tokenizer)
        except OF_THE_WAY:
            raise
        except ServerError as error:
            return error.what
        return "" if key_order_only else difference

    def _smoke(
        self, server: Server, name: str, progress: Progress, only: tuple[str, ...]
    ) -> tuple[CheckResult, ...]:
        tokens = min(_LONG_PROMPT, self.prompt_tokens)
        return smoke_server(
            server,
            name,
            self.release.tokenizer,
            prompt_tokens=tokens if "long-prompt" in only else self.prompt_tokens,
            log=self.log,
            require_gpu=self.require_gpu,
            progress=progress,
            kv_type=self.kv_type,
            only=only,
        ).checks

    # Memory

    def _load_of(self, server: Server, name: str) -> Load:
        weights = server.show(name).weights
        log = read_log(find_server_process(server.url), self.log)
        return newest_load(log, weights.replace(":", "-") if weights else None)

    def _of_load(self, load: Load, available: int) -> Iterator[CheckResult]:
        slots = load.command.get("slots", "")
        yield self._memory(load, available)
        if self.parallel is None:
            return
        if not slots.isdigit():
            yield CheckResult(
                "parallel",
                Status.UNKNOWN,
                "how many requests are answered at a time shows in the server's log",
                "run this on the server's own machine, or give --log FILE",
            )
        elif int(slots) < self.parallel:
            yield CheckResult(
                "parallel",
                Status.FAIL,
                f"{slots} at a time, {self.parallel} wanted",
                f"set OLLAMA_NUM_PARALLEL={self.parallel} for the server, see devstral-ollama env",
            )
        else:
            yield CheckResult("parallel", Status.PASS, f"{slots} requests at a time")

    def _memory(self, load: Load | None, available: int) -> CheckResult:
        """What a token of context takes, and whether the model will have room."""
        room, seen = self.room, []
        if load is not None and load.kv_bytes and load.kv_cells and load.kv_types:
            slots = load.command.get("slots", "")
            kind, parallel = KvType(load.kv_types[0]), int(slots) if slots.isdigit() else 1
            room = replace(room, kv_type=kind, parallel=parallel, is_seen=True)
            tokens = load.kv_cells * parallel
            expected = kv_cache_bytes(self.release.architecture, load.kv_cells, kind, parallel)
            # The log's last digit is a hundredth of a MiB.
            if abs(load.kv_bytes - expected) > 1 << 14:
                return CheckResult(
                    "memory",
                    Status.FAIL,
                    f"{size_text(load.kv_bytes)} of KV cache for {tokens} tokens, and "
                    f"{size_text(expected)} were reckoned",
                    "this server loads otherwise than those that were measured: please report it",
                )
            seen.append(f"{load.kv_bytes / tokens / 1024:.1f} KiB a token in {kind}")
        if self.weights is None:
            saw = "; ".join(seen) or "nothing tells what a token takes"
            status = Status.PASS if seen else Status.UNKNOWN
            fix = "" if seen else "run this on the server's own machine, or give --log FILE"
            return CheckResult("memory", status, saw, fix)
        return self._judge(Needs(room, room.estimate(self.weights, self.context)), seen, available)

    def _judge(self, needs: Needs, seen: list[str], available: int) -> CheckResult:
        found, room = needs.estimate, needs.room
        name = found.weights.name
        takes = f"{name} will take {size_text(found.total)}"
        if not room.is_seen:
            takes += f" with a KV cache of {found.kv_type}, which is not seen"
        have = found.room if room.cards else room.memory
        whose = f"on {room.cards}" if room.cards else "of main memory"
        if not have:
            return CheckResult(
                "memory",
                Status.UNKNOWN,
                "; ".join([*seen, f"{takes}, and nothing tells how much there is"]),
                "say the memory of the server's cards, as --vram 24GiB",
            )
        left = have - found.total
        saw = "; ".join([*seen, f"{takes} of {size_text(have)} {whose}"])
        fix = needs.instead()
        if room.cards is None:
            if left < 0:
                return CheckResult("memory", Status.FAIL, f"{saw}: too little", fix)
            if available and found.total > available:
                saw += f", of which {size_text(available)} are free now"
                return CheckResult("memory", Status.WARN, saw, "free memory, or take less")
        elif left < 0 and self.require_gpu is not False and room.is_seen:
            saw += f": about {found.layers_on_card} of {found.layers} layers on it"
            return CheckResult("memory", Status.FAIL, saw, fix)
        elif not found.fits:
            return CheckResult("memory", Status.WARN, f"{saw}: it may not fit", fix)
        return CheckResult("memory", Status.PASS, f"{saw}; {size_text(left)} left")


def _no_place_beside(server: Server, count: int) -> str:
    """Why a further model might put out one of those that are loaded; empty where it would not."""
    process = find_server_process(server.url)
    if process is None:
        return "how many models its server keeps loaded is not seen from here"
    said = process.environment.get("OLLAMA_MAX_LOADED_MODELS", "")
    most = int(said) if said.isdigit() and int(said) else _LOADED_AT_MOST
    return "" if count < most else f"its server keeps {most} loaded"


@dataclass(frozen=True)
class TryServer(Step):
    """Try the server by a miniature, so that a broken one costs seconds and no download.

    Attributes:
        preflight: What is tried.
    """

    kind = StepKind.CHECK
    sign = "?"
    preflight: Preflight

    @property
    def text(self) -> str:
        """See :class:`Step`."""
        return "try the server by a miniature first: template, tool calls, context, memory"

    def run(self, run: Run) -> None:
        """See :class:`Step`."""
        report = self.preflight.run(run.server, run.progress)
        for each in report.checks:
            if each.id == "miniature" and each.status is Status.UNKNOWN:
                run.progress.warn(f"the server was not tried: {each.saw}")
        if report.passed:
            return
        first, *others = report.failures
        more = f" (and {len(others)} more)" if others else ""
        raise CheckFailed(
            f"the server would not serve {run.name} right, so nothing was brought: {first.id}: "
            f"{first.saw}{more}",
            first.fix or "see: devstral-ollama preflight",
        )


def with_trial(plan: Plan, trial: Preflight) -> Plan:
    """A plan that begins with a preflight, where it brings more than 1 GB over a network."""
    for number, each in enumerate(plan.steps):
        if _brings_much(each, plan):
            steps = (*plan.steps[:number], TryServer(trial), *plan.steps[number:])
            return replace(plan, steps=steps)
    return plan


def _brings_much(step: Step, plan: Plan) -> bool:
    match step:
        case Download(bytes=int(size), cached=None):
            return size > _MUCH
        case Pull(bytes=int(size), pull=True, source=source) if size > _MUCH:
            # The catalog may only have estimated it; who has the file knows.
            return (plan.around.publisher.size(source) or size) > _MUCH
    return False
