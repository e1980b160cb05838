"""Bench: how fast a model on a live server loads, reads, writes, and goes on in a session.

Nothing of it may be fooled: a prompt that the server knows already is no measure of reading, and an
answer of two tokens none of writing. So no two prompts begin alike, the tokens that came out of the
server's cache are taken off, and every speed says of how many tokens it is.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ollama_tools import __version__
from ollama_tools.checks.bench_figures import (
    Asked,
    BenchJson,
    BenchMemoryJson,
    BenchPromptJson,
    BenchTurnJson,
    cached_tokens,
    no_prompt,
    none_together,
    prompt_figures,
    session_figures,
    together_figures,
    turn_rate,
)
from ollama_tools.checks.bench_prompts import Prompts, Scale, call_and_result, tools
from ollama_tools.checks.evidence import kv_evidence
from ollama_tools.checks.placement import Placement, judge_placement, look_at_host, placement
from ollama_tools.checks.result import Status
from ollama_tools.devstral.memory import KvType
from ollama_tools.errors import CheckFailed, ServerError, UsageError
from ollama_tools.progress import Progress
from ollama_tools.server.answers import OF_THE_WAY, well_formed
from ollama_tools.server.client import RunningModel, Server
from ollama_tools.server.log import Load, devices, newest_load, read_log
from ollama_tools.server.names import same_name
from ollama_tools.server.process import find_server_process
from ollama_tools.server.shown import Shown

DEPTHS = (2048, 32768)
"""Tokens of the prompts that are read where nobody says it, beside the whole context."""
AT_A_TIME = (1, 2, 4)

_NANOSECONDS = 1e9
_SHORTEST = 16
"""Tokens of the shortest prompt that is worth to be read."""
_SLACK = 64
_SCALED = 200
_WARM_UP = 2500
"""Tokens; more than the largest batch, so that all programs of a card are compiled."""
_UNLOADED = 30.0
_SLOWER = 2.0
"""Reading slows down as a prompt grows: what was measured before is too hopeful by this."""
_ANSWER = 64
"""Tokens of an answer in a session; more than a call of its tools has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """How much is measured.

    Attributes:
        depths: Tokens of the prompts that are read; those that the context has no room for are
            left out, and None stands for as many as it has room for.
        at_a_time: How many requests at a time.
        tokens: Tokens of each answer, at most.
        runs: How often each prompt's figures are taken.
        turns: Turns of the session; 0 for none.
        seconds: What would take the run beyond so many is left out.
        log: The server's log file, where it is at hand.
        require_gpu: Whether the model must be wholly on graphics cards; None where one is seen.
    """

    depths: tuple[int | None, ...] = (*DEPTHS, None)
    at_a_time: tuple[int, ...] = AT_A_TIME
    tokens: int = 128
    runs: int = 3
    turns: int = 6
    seconds: float = 900.0
    log: Path | None = None
    require_gpu: bool | None = None


@dataclass
class Bench:
    """One run; what it has measured so far stands in its document at every moment.

    Attributes:
        server: The server.
        name: The model's name there.
        choices: How much is measured.
        progress: Hears of each step.
        another: Makes a client of the server for a request beside others.
    """

    server: Server
    name: str
    choices: Choices
    progress: Progress
    another: Callable[[], Server]
    document: BenchJson = field(init=False)

    def __post_init__(self) -> None:
        self._began = time.monotonic()
        self._prompts = Prompts()
        self._rate = 0.0
        self.document = {
            "complete": False,
            "measured": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": 0.0,
            "server": self.server.url,
            "version": self.server.version(),
            "package": __version__,
            "counts": False,
            "model": {
                "name": self.name,
                "weights": None,
                "context": None,
                "kv_cache_type": None,
                "slots": None,
                "beside": [],
            },
            "machine": {"cards": [], "processor": None},
            "placement": None,
            "load": None,
            "prompts": [],
            "together": [],
            "session": None,
            "memory": None,
            "compared": None,
        }

    def run(self) -> None:
        """Measure everything.

        Raises:
            ModelNotFound: The server has no such model.
            CheckFailed: It is not on the graphics cards where it has to be.
            ServerError: The server does not do its part.
            UsageError: Its context has no room for any prompt.
        """
        try:
            self._measure()
            self.document["complete"] = True
        finally:
            self.document["seconds"] = round(time.monotonic() - self._began, 1)

    @property
    def _left(self) -> float:
        return self._began + self.choices.seconds - time.monotonic()

    def _measure(self) -> None:
        shown = self.server.show(self.name)
        seconds = self._load(shown)
        running = _as_loaded(self.server, shown)
        context = running.context if running and running.context else shown.context
        if context is None:
            raise UsageError(
                f"{self.server.url} does not say with which context it has loaded {self.name}",
                "see its log for why it is not loaded, and devstral-ollama smoke",
            )
        self.document["model"]["context"] = context
        self._look(shown, running)
        scale = self._scale()
        warm_up = self._warm_up(scale, context)
        self.document["load"] = {
            "seconds": round(seconds, 3),
            "warm_up_seconds": round(warm_up, 3),
        }
        depths = self._depths(context)
        # The dearest last: it is what there may be no time for.
        for count in sorted(set(self.choices.at_a_time)):
            self._together(count)
        if self.choices.turns:
            self._session(scale, context)
        for depth in depths:
            self._prompt(depth, scale)

    # Loading, and what is loaded

    def _load(self, shown: Shown) -> float:
        """Load it anew; how long that took."""
        self.progress.step(f"loading {self.name} anew")
        if _as_loaded(self.server, shown) is not None:
            self.server.unload(self.name)
            deadline = time.monotonic() + _UNLOADED
            while _as_loaded(self.server, shown) is not None:
                if time.monotonic() > deadline:
                    raise ServerError(
                        f"{self.name} is still loaded {_UNLOADED:.0f} s after it was told to go",
                        "wait until nobody asks it, or restart the server",
                    )
                time.sleep(0.05)
        began = time.monotonic()
        self.server.post("/api/generate", {"model": self.name, "stream": False})
        return time.monotonic() - began

    def _look(self, shown: Shown, running: RunningModel | None) -> None:
        """What is loaded and where, before minutes are spent on it."""
        process = find_server_process(self.server.url)
        log = read_log(process, self.choices.log)
        blob = shown.weights.replace(":", "-") if shown.weights else None
        found, host = placement(log, blob, running), look_at_host(process, log)
        load = newest_load(log, blob)
        kind = kv_evidence(process, self.choices.log, blob).type
        slots = load.command.get("slots", "")
        others = [each for each in self.server.running() if not _is_of(each, shown, running)]
        model = self.document["model"]
        model["weights"], model["kv_cache_type"] = shown.weights, kind
        model["slots"] = int(slots) if slots.isdigit() else None
        model["beside"] = sorted(each.name for each in others)
        listed = [each.description or each.name for each in devices(log) if each.is_gpu]
        self.document["machine"] = {
            "cards": listed or [each.name for each in host.cards],
            "processor": _processor() if process is not None else None,
        }
        self.document["memory"] = _memory(load, shown, kind)
        self._judge(found, *judge_placement(found, host, self.choices.require_gpu))
        if others:
            names = ", ".join(model["beside"])
            self.progress.warn(f"{names} stays loaded beside it, and may slow it down")

    def _judge(self, found: Placement, status: Status, saw: str, fix: str) -> None:
        self.document["placement"] = {"text": saw, "on_gpu": found.share, "bytes": found.bytes}
        self.document["counts"] = found.is_whole
        if status is Status.FAIL:
            raise CheckFailed(
                f"{self.name} is not where it should be, so it was not measured: {saw}",
                f"{fix}; or --no-require-gpu to measure it all the same",
            )
        if not found.is_whole:
            where = "where it runs is not known" if found.share is None else f"it is {saw}"
            self.progress.warn(f"these figures say nothing of a graphics card: {where}")

    # Asking

    def _scale(self) -> Scale:
        """How many tokens words become here."""
        self.progress.step("counting tokens")
        asked = [
            self._ask(self.server, self._prompts.unknown(words), tokens=1) for words in (0, _SCALED)
        ]
        self._rate = asked[-1].prompt_rate or 0.0
        none, some = (each.prompt_tokens for each in asked)
        if some <= none:
            raise ServerError(
                f"{_SCALED} words more make a prompt of {some} tokens out of one of {none}",
                "its template drops messages: run devstral-ollama smoke",
            )
        return Scale(none, (some - none) / _SCALED)

    def _warm_up(self, scale: Scale, context: int) -> float:
        """Seconds of a first long prompt, in which a card's programs are compiled."""
        self.progress.step("warming up")
        # Where all is slow it is no more than a part of the time.
        affordable = round(self._rate * self._left / 4) if self._rate else _WARM_UP
        tokens = min(_WARM_UP, self._longest(context), affordable)
        asked = self._ask(self.server, self._prompts.unknown(scale.words(tokens)), tokens=8)
        self._rate = asked.prompt_rate or self._rate
        return asked.last - asked.began

    def _longest(self, context: int) -> int:
        return context - self.choices.tokens - _SLACK - context // 128

    def _depths(self, context: int) -> list[int]:
        longest = self._longest(context)
        if longest < _SHORTEST:
            raise UsageError(
                f"a context of {context} tokens has no room for a prompt and an answer of "
                f"{self.choices.tokens}",
                "ask for fewer --tokens, or create the model with a larger --context",
            )
        wanted = {longest if each is None else each for each in self.choices.depths}
        for each in sorted(wanted):
            if each > longest:
                self.document["prompts"].append(
                    no_prompt(each, f"the context of {context} has no room for it")
                )
        return sorted(each for each in wanted if each <= longest)

    def _prompt(self, depth: int, scale: Scale) -> None:
        """Read prompts of a length and write after them."""
        found: list[Asked] = []
        if why := self._too_long(depth):
            self._put_prompt(no_prompt(depth, why))
            return
        for number in range(self.choices.runs):
            if found and max(each.last - each.began for each in found) > self._left:
                break
            self.progress.step(f"a prompt of {depth} tokens, {number + 1} of {self.choices.runs}")
            messages = self._prompts.unknown(scale.words(depth))
            found.append(self._ask(self.server, messages, self.choices.tokens))
            self._put_prompt(prompt_figures(depth, found))
        self._rate = found[-1].prompt_rate or self._rate

    def _too_long(self, tokens: int) -> str:
        """Why there is no time for a prompt of so many tokens; empty where there is."""
        expected = _SLOWER * tokens / self._rate if self._rate else 0.0
        if expected <= self._left:
            return ""
        return f"would take about {expected:.0f} s, and {max(0, self._left):.0f} are left"

    def _put_prompt(self, figures: BenchPromptJson) -> None:
        others = [each for each in self.document["prompts"] if each["depth"] != figures["depth"]]
        self.document["prompts"] = sorted([*others, figures], key=lambda each: each["depth"])

    def _together(self, count: int) -> None:
        if self._left <= 0:
            self.document["together"].append(none_together(count, "no time was left"))
            return
        self.progress.step(f"{count} at a time")
        found: list[Asked] = []
        failures: list[Exception] = []

        def ask(messages: list[dict[str, Any]]) -> None:
            try:
                with self.another() as server:
                    found.append(self._ask(server, messages, self.choices.tokens))
            except Exception as error:
                failures.append(error)

        # Daemons: nobody waits for them after Ctrl-C.
        threads = [
            threading.Thread(target=ask, args=(self._prompts.unknown(),), daemon=True)
            for _ in range(count)
        ]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        if failures:
            raise failures[0]
        self.document["together"].append(together_figures(found, self.document["model"]["slots"]))

    def _session(self, scale: Scale, context: int) -> None:
        """An agent's session: what is known of a prompt need not be read again."""
        turns = self.choices.turns
        # Less than half of the context, whatever it is, and no more than a session has.
        room = (context - self.choices.tokens) // 2
        first = min(4096, room // 2)
        begin = max(1, round(first / scale.per_word))
        result = max(1, round(min(1024, room // (2 * turns)) / scale.per_word))
        offered = tools(begin // 2)
        messages = self._prompts.session(begin // 2)
        found: list[BenchTurnJson] = []
        unknown, last = None, messages
        self.document["session"] = session_figures(found, unknown)
        if why := self._too_long(first):
            self.document["session"] = {**session_figures(found, unknown), "why": why}
            return
        try:
            for number in range(turns):
                if self._left <= 0:
                    return
                self.progress.step(f"turn {number + 1} of {turns} of a session")
                found.append(self._turn(messages, offered))
                self.document["session"] = session_figures(found, unknown)
                if not number:
                    # A card's programs are compiled by now, which the warm-up waited for.
                    self._rate = turn_rate(found[0]) or self._rate
                last = list(messages)
                messages += call_and_result(number, result)
            if self._left <= 0:
                return
            self.progress.step("the last prompt of the session, unknown to the server")
            last[0] = self._prompts.session(begin // 2)[0]
            unknown = self._turn(last, offered)
            self.document["session"] = session_figures(found, unknown)
        except OF_THE_WAY:
            raise
        except ServerError as error:
            # A model that calls a tool otherwise than it should ends in HTTP 500.
            self.document["session"] = {**session_figures(found, unknown), "why": error.what}

    def _turn(self, messages: list[dict[str, Any]], offered: list[dict[str, Any]]) -> BenchTurnJson:
        began = time.monotonic()
        request = self._request(messages, _ANSWER)
        answer = self.server.chat({**request, "tools": offered})
        seconds = time.monotonic() - began
        with well_formed(f"{self.server.url}/api/chat"):
            return {
                "prompt_tokens": int(answer["prompt_eval_count"]),
                "cached_tokens": cached_tokens(answer),
                "prompt_seconds": round(answer.get("prompt_eval_duration", 0) / _NANOSECONDS, 4),
                "seconds": round(seconds, 4),
            }

    def _request(self, messages: list[dict[str, Any]], tokens: int) -> dict[str, Any]:
        return {
            "model": self.name,
            "messages": messages,
            # What does not fit is to be seen, not cut.
            "truncate": False,
            "options": {"num_predict": tokens, "temperature": 0},
        }

    def _ask(self, server: Server, messages: list[dict[str, Any]], tokens: int) -> Asked:
        """Send a prompt, and time its answer."""
        began = time.monotonic()
        first = 0.0
        answer: dict[str, Any] = {}
        for event in server.events("/api/chat", self._request(messages, tokens)):
            first, answer = first or time.monotonic(), event
        last = time.monotonic()
        with well_formed(f"{server.url}/api/chat"):
            return Asked(
                began,
                first,
                last,
                int(answer["prompt_eval_count"]),
                cached_tokens(answer),
                answer.get("prompt_eval_duration", 0) / _NANOSECONDS,
                int(answer.get("eval_count", 0)),
                answer.get("eval_duration", 0) / _NANOSECONDS,
            )


# What is loaded


def _as_loaded(server: Server, shown: Shown) -> RunningModel | None:
    """A model as it is loaded, under its own name or another of the same weights."""
    running = server.running()
    same = [each for each in running if same_name(each.name, shown.name)]
    return next(iter(same), None) or next(
        (each for each in running if _has_weights(server, each.name, shown)), None
    )


def _has_weights(server: Server, name: str, shown: Shown) -> bool:
    try:
        return shown.weights is not None and server.show(name).weights == shown.weights
    except OF_THE_WAY:
        raise
    except ServerError:
        # The name that an engine was loaded under may be gone.
        return False


def _is_of(each: RunningModel, shown: Shown, running: RunningModel | None) -> bool:
    return same_name(each.name, shown.name) or (running is not None and each.name == running.name)


def _memory(load: Load, shown: Shown, kind: str | None) -> BenchMemoryJson:
    slots = load.command.get("slots", "")
    if load.kv_bytes and load.kv_cells:
        tokens = load.kv_cells * (int(slots) if slots.isdigit() else 1)
        return {
            "bytes_per_token": round(load.kv_bytes / tokens, 1),
            "kv_cache_bytes": load.kv_bytes,
            "source": "the server's log",
        }
    if kind in set(KvType) and shown.kv_elements:
        each = KvType(kind).bytes_per_element * shown.kv_elements
        return {
            "bytes_per_token": each,
            "kv_cache_bytes": None,
            "source": f"reckoned for {kind}",
        }
    return {
        "bytes_per_token": None,
        "kv_cache_bytes": None,
        "source": "neither log nor process can be seen from here",
    }


def _processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str | None:
    """The processor of this machine, and how many of it there are."""
    try:
        match = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE)
    except OSError:
        match = None
    return f"{match[1] if match else 'processor'}, {os.cpu_count() or 1} cores"
