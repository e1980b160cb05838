"""What all parts stand on: servers one after the other, loads with their figures, commands."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.gpu import card
from benchmarks.gpu.document import Document
from benchmarks.gpu.sizes import Sizes
from ollama_tools.server.client import Server
from ollama_tools.server.log import devices, newest_load
from ollama_tools.settings.environment import ServerSettings, environment
from tests.testbed.build import Build
from tests.testbed.server import OllamaServer

ZEROS = "zeros"
"""The model of zeros on every server."""
MINIATURE = "miniature"
"""The miniature as it is uploaded, without anything of this package around it."""
CHECKED = "devstral-probe"
"""The miniature as ``create`` makes it."""

_LARGEST_LOG = 15 << 20
_SETTLE_SECONDS = 5.0
# The server itself gives up after 30 s; a report of no GPU has to come sooner.
_DISCOVERY_SECONDS = 15.0
_SETTLED = 128 << 20
# The bed chooses these itself.
_CHOSEN = ("OLLAMA_HOST", "OLLAMA_MODELS")


@dataclass(slots=True)
class Bench:
    """Where a run works, and on what.

    Attributes:
        build: The server's programs.
        home: The unpacked bundle.
        work: Folder for models and logs; it goes when the run ends.
        out: Folder of the results.
        sizes: The run's measures.
        document: The report.
        ends: When the present part has to be over, by the monotonic clock.
        driver: Variables that lead to the Vulkan driver.
    """

    build: Build
    home: Path
    work: Path
    out: Path
    sizes: Sizes
    document: Document
    ends: float = 0.0
    driver: dict[str, str] = field(default_factory=dict)

    @property
    def left(self) -> float:
        """Seconds that the present part still has."""
        return self.ends - time.monotonic()

    @property
    def models(self) -> Path:
        """``OLLAMA_MODELS`` of all servers."""
        return self.work / "models"

    @contextmanager
    def server(self, **variables: str | None) -> Iterator[Running]:
        """A server with the recommended settings, and gone afterwards.

        Args:
            **variables: What differs from them; None takes a variable away.
        """
        settings: dict[str, str | None] = {
            **environment(ServerSettings()),
            **self.driver,
            "OLLAMA_VULKAN": "1",
            # The models lie here only; none is to go while it is looked at.
            "OLLAMA_KEEP_ALIVE": "-1",
            "OLLAMA_NOPRUNE": "1",
            **variables,
        }
        chosen = {
            key: value
            for key, value in settings.items()
            if value is not None and key not in _CHOSEN
        }
        log = self.work / "ollama.log"
        start = log.stat().st_size if log.exists() else 0
        bed = OllamaServer(self.build, models_dir=self.models, log_path=log, env=chosen)
        try:
            with bed, Server(bed.url) as client:
                yield Running(self, bed, client, start)
        finally:
            # Whatever interrupted the ordinary end.
            bed.kill()
            self.keep_log(log)

    def keep_log(self, log: Path) -> None:
        """Copy a log into the results, its middle left out where it is too long."""
        if not log.exists():
            return
        if log.stat().st_size <= _LARGEST_LOG:
            shutil.copyfile(log, self.out / log.name)
            return
        data = log.read_bytes()
        half = _LARGEST_LOG // 2
        mark = f"\n... {len(data) - 2 * half} bytes left out ...\n".encode()
        (self.out / log.name).write_bytes(data[:half] + mark + data[-half:])


@dataclass(frozen=True, slots=True)
class Running:
    """A server of the bench while it runs."""

    bench: Bench
    bed: OllamaServer
    client: Server
    log_start: int

    @property
    def log(self) -> str:
        """What it and its engines wrote since it was started."""
        return self.bed.log_path.read_bytes()[self.log_start :].decode(errors="replace")

    def devices(self) -> list[dict[str, Any]]:
        """The devices that the server's log lists, waited for; none where it says nothing."""
        deadline = time.monotonic() + _DISCOVERY_SECONDS
        while not (found := devices(self.log)) and time.monotonic() < deadline:
            time.sleep(0.05)
        return [asdict(each) for each in found]

    def load(self, model: str, context: int, **options: Any) -> dict[str, Any]:
        """Load a model, and say what log, server, card and kernel say of it.

        Args:
            model: Its name.
            context: Tokens of context.
            **options: Further options of the request.

        Raises:
            ServerError: It cannot be loaded.
        """
        before = self.settled()
        begin = time.monotonic()
        request = {"model": model, "options": self.options(num_ctx=context, **options)}
        self.client.post("/api/generate", {**request, "stream": False})
        seconds = time.monotonic() - begin
        after = card.cards()
        used, used_before = card.used_bytes(after), card.used_bytes(before)
        grew = None if used is None or used_before is None else used - used_before
        return {
            "model": model,
            "context": context,
            "seconds": round(seconds, 2),
            "log": newest_load(self.log).as_json(),
            "ps": self.ps(),
            "cards_before": before,
            "cards_after": after,
            "card_grew_bytes": grew,
            "engine_memory": card.engine_memory(self.client.url),
        }

    def ps(self) -> list[dict[str, Any]]:
        """What ``/api/ps`` says."""
        return [
            {
                "name": each.name,
                "size": each.bytes,
                "size_vram": each.vram_bytes,
                "context_length": each.context,
            }
            for each in self.client.running()
        ]

    def settled(self) -> list[dict[str, Any]]:
        """The cards' figures once nothing is loaded and their memory is at rest."""
        for each in self.client.running():
            self.client.unload(each.name)
        deadline = time.monotonic() + _SETTLE_SECONDS
        while self.client.running() and time.monotonic() < deadline:
            time.sleep(0.05)
        found = card.cards()
        while time.monotonic() < deadline:
            last, found = card.used_bytes(found), card.cards()
            used = card.used_bytes(found)
            if last is None or used is None or abs(used - last) < _SETTLED:
                break
            time.sleep(0.2)
        return found

    def options(self, **options: Any) -> dict[str, Any]:
        """Options of a request: greedy, those of the run, and further ones."""
        return {"temperature": 0, **self.bench.sizes.options, **options}

    def command(self, *arguments: str) -> dict[str, Any]:
        """Run a command of this package against the server, with ``--json``.

        Returns:
            ``command``, ``code``, ``seconds``, ``answer`` (its JSON, or None) and, where there
            is none, the end of its ``errors``.
        """
        work = self.bench.work
        mine = {
            "OLLAMA_HOST": self.client.url,
            # Nobody listens there: the hub is away, and that is known at once.
            "HF_ENDPOINT": "http://127.0.0.1:9",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HOME": str(work / "hf"),
            "XDG_CACHE_HOME": str(work / "cache"),
            "XDG_STATE_HOME": str(work / "state"),
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        begin = time.monotonic()
        answer = subprocess.run(
            [sys.executable, "-m", "ollama_tools", *arguments, "--json"],
            env=os.environ | mine,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            # The part's own end comes first; this is for a caller that has none.
            timeout=max(1.0, self.bench.left) + 10,
            check=False,
        )
        with (self.bench.out / "commands.log").open("a", encoding="utf-8") as log:
            log.write(f"$ devstral-ollama {' '.join(arguments)}\n{answer.stdout}{answer.stderr}\n")
        result: dict[str, Any] = {
            "command": " ".join(arguments),
            "code": answer.returncode,
            "seconds": round(time.monotonic() - begin, 2),
            "answer": _json(answer.stdout),
        }
        if result["answer"] is None:
            result["errors"] = answer.stderr[-2000:]
        return result


def _json(text: str) -> Mapping[str, Any] | list[Any] | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict | list) else None
