"""What is seen of a gateway at work: metrics, and a line for each request. No contents."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from ollama_tools.gateway.asked import JsonObject
from ollama_tools.gateway.repairs import Repair, Unmet
from ollama_tools.gateway.surfaces.surface import count

METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_CLIENTS = 64
_PRODUCT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")
_NANOSECONDS = 1e9


@dataclass
class Seen:
    """One request, as far as it may be told of.

    Attributes:
        surface: Where it came in; empty for what no chat asks.
        client: The program that asked, as it names itself.
        key: Whose key it has; empty without keys.
        model: The model that it is for.
        status: HTTP status of its answer; 0 while there is none.
        outcome: ``answered``, ``cut``, ``refused``, ``failed`` or ``gone``.
        error: What went wrong, in a word; empty where nothing did.
        untouched: Why it went on as it came; empty where it did not.
        repairs: What was done to it.
        unmet: What it asks for and does not get.
        calls: The calls that the gateway has read in its answer, by what became of them.
        last: The server's last words of it, with its counts.
        first_byte: Seconds until its answer began; None where it never did.
    """

    surface: str
    client: str
    key: str = ""
    model: str = ""
    status: int = 0
    outcome: str = "gone"
    error: str = ""
    untouched: str = ""
    repairs: tuple[Repair, ...] = ()
    unmet: tuple[Unmet, ...] = ()
    calls: Mapping[str, int] = field(default_factory=dict)
    last: JsonObject = field(default_factory=dict)
    first_byte: float | None = None
    started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """How long it has taken."""
        return time.monotonic() - self.started

    def begins(self) -> None:
        """Its answer begins."""
        if self.first_byte is None:
            self.first_byte = self.seconds


def stderr_line(text: str) -> None:
    """Write a line where logs go."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


class Watch:
    """Metrics in Prometheus' form, and a log."""

    def __init__(self, log: Callable[[str], None] = stderr_line) -> None:
        self._log = log
        self._clients: set[str] = set()
        self._registry = CollectorRegistry()
        name = "devstral_gateway"
        labels = ("surface",)

        def counter(suffix: str, text: str, labels: tuple[str, ...] = labels) -> Counter:
            return Counter(f"{name}_{suffix}", text, labels, registry=self._registry)

        def histogram(suffix: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(
                f"{name}_{suffix}", text, labels, registry=self._registry, buckets=buckets
            )

        self._requests = counter(
            "requests", "Requests that have ended.", ("surface", "client", "outcome")
        )
        self._prompt = counter("prompt_tokens", "Tokens of prompts.")
        self._cached = counter("cached_tokens", "Tokens of prompts that were not evaluated again.")
        self._answer = counter("answer_tokens", "Tokens of answers.")
        self._repairs = counter("repairs", "What was done to requests.", ("repair",))
        self._unmet = counter("unmet", "What requests ask for and do not get.", ("wish",))
        self._calls = counter(
            "calls",
            "Calls that the gateway has read: as they should be (read), with control characters "
            "in strings escaped (mended), of a tool that was not offered (unknown_tool), with "
            "arguments that are no JSON (no_json), unfinished (cut).",
            ("outcome",),
        )
        self._untouched = counter(
            "untouched",
            "Chats that went on as they came: other models, and what only the server "
            "knows what to do with.",
            ("reason",),
        )
        self._errors = counter("errors", "Errors of the server, and on the way to it.", ("error",))
        self._first = histogram(
            "first_byte_seconds",
            "Seconds until an answer began.",
            (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300),
        )
        self._speed = histogram(
            "tokens_per_second",
            "Tokens of an answer a second.",
            (1, 2, 5, 10, 20, 30, 40, 60, 80, 120, 200),
        )
        self._at_work = Gauge(
            f"{name}_at_work", "Requests that are being answered.", registry=self._registry
        )
        self._waiting = Gauge(
            f"{name}_waiting",
            "Requests whose answer has not begun: in the server's queue, or being evaluated.",
            registry=self._registry,
        )
        self._seen: dict[int, Seen] = {}

    def metrics(self) -> bytes:
        """All metrics."""
        self._at_work.set(len(self._seen))
        self._waiting.set(sum(each.first_byte is None for each in self._seen.values()))
        return generate_latest(self._registry)

    def begins(self, surface: str, user_agent: str) -> Seen:
        """A request has come."""
        seen = Seen(surface, self._client(user_agent))
        self._seen[id(seen)] = seen
        return seen

    def ends(self, seen: Seen) -> None:
        """It has been answered, or nobody waits for that any more."""
        self._seen.pop(id(seen), None)
        prompt, cached, answer = (
            count(seen.last, each)
            for each in ("prompt_eval_count", "prompt_eval_cached_count", "eval_count")
        )
        self._requests.labels(seen.surface, seen.client, seen.outcome).inc()
        if seen.error:
            self._errors.labels(seen.error).inc()
        if seen.untouched:
            self._untouched.labels(seen.untouched).inc()
        for repair in seen.repairs:
            self._repairs.labels(repair).inc()
        for wish in seen.unmet:
            self._unmet.labels(wish).inc()
        for outcome, number in seen.calls.items():
            self._calls.labels(outcome).inc(number)
        if seen.last:
            self._prompt.labels(seen.surface).inc(prompt)
            self._cached.labels(seen.surface).inc(cached)
            self._answer.labels(seen.surface).inc(answer)
            if duration := count(seen.last, "eval_duration"):
                self._speed.labels(seen.surface).observe(answer * _NANOSECONDS / duration)
        if seen.first_byte is not None:
            self._first.labels(seen.surface).observe(seen.first_byte)
        line: JsonObject = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "surface": seen.surface,
            "client": seen.client,
            "key": seen.key or None,
            "model": seen.model or None,
            "status": seen.status or None,
            "outcome": seen.outcome,
            "error": seen.error or None,
            "untouched": seen.untouched or None,
            "seconds": round(seen.seconds, 3),
            "first_byte_seconds": None if seen.first_byte is None else round(seen.first_byte, 3),
            "prompt_tokens": prompt or None,
            "cached_tokens": cached or None,
            "answer_tokens": answer or None,
            "repairs": list(seen.repairs) or None,
            "unmet": list(seen.unmet) or None,
        }
        self._log(json.dumps({key: value for key, value in line.items() if value is not None}))

    def _client(self, user_agent: str) -> str:
        """The program that asks. Whoever writes the header may write anything: so not too many."""
        found = _PRODUCT.match(user_agent.partition("/")[0].replace(" ", "-"))
        client = found[0] if found else "unknown"
        if client not in self._clients and len(self._clients) >= _CLIENTS:
            return "other"
        self._clients.add(client)
        return client
