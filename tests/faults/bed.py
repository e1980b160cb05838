"""The server, the hub, a proxy in front of each, and the command line between them.

One server serves all cases. What is on it is put back between them as files: Ollama looks at its
manifests anew with every request, and making the models again would take a hundred times as long.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import httpx

from tests.faults.commands import NAME, OTHERS, State, made
from tests.testbed.build import ollama_build
from tests.testbed.cache import CACHE_VARIABLE, cache_root
from tests.testbed.faults.proxy import FaultProxy
from tests.testbed.hub import Hub
from tests.testbed.models import devstral_repositories
from tests.testbed.server import OllamaServer

ROOT = Path(__file__).parents[2]
QUANTS = ("UD-Q4_K_XL", "Q4_K_M")

TOKEN = "hf_PlantedPlantedPlantedPlanted"
PASSWORD = "planted-pass-word"
SECRETS = (TOKEN, PASSWORD)

# How long the product may wait for a byte here; whoever cannot be told waits as long as it likes.
PATIENCE = {"DEVSTRAL_OLLAMA_TIMEOUT": "8"}

_MEMORY_KIB = 6 * 1024 * 1024
_INHERITED = ("PATH", "LANG", "LC_ALL", "TZ")
_TWO_HOURS = 7200.0
# Each with the lock beside it, which stays: two runs would hold two locks if one removed it.
_REMEMBERED = ("digests.json", "digests.json.lock", "bases.json", "bases.json.lock")


@dataclass(frozen=True)
class Ended:
    """How a run of the command line ended.

    Attributes:
        code: Its exit code, negative for a signal; None where it had to be killed in the end.
        seconds: How long it took.
        out: What it wrote to stdout.
        err: What it wrote to stderr.
        peak: The most memory it took, in bytes.
    """

    code: int | None
    seconds: float
    out: str
    err: str
    peak: int

    @property
    def text(self) -> str:
        """All that it said."""
        return f"{self.out}\n{self.err}"


class Bed:
    """All of it; use :func:`fault_bed`.

    Attributes:
        server: The server behind its proxy.
        hub: The hub behind its proxy.
        to_server: The proxy that the product takes for the server.
        to_hub: The proxy that the product, and the server, take for the hub.
    """

    def __init__(
        self,
        root: Path,
        server: OllamaServer,
        hub: Hub,
        to_server: FaultProxy,
        to_hub: FaultProxy,
        direct: httpx.Client,
    ) -> None:
        self.server = server
        self.hub = hub
        self.to_server = to_server
        self.to_hub = to_hub
        self._root = root
        self._home = root / "home"
        self._states = root / "states"
        self._seen = 0
        self._direct = direct

    @property
    def here(self) -> Path:
        """The folder in which the command line is run."""
        return self._home / "cwd"

    # The state of things

    def prepare(self) -> None:
        """Make what the cases start from.

        Raises:
            RuntimeError: The product cannot make it.
        """
        self._keep(State.EMPTY)
        for context in (4096, 8192):
            self.forget()
            ended = self.run(made(context))
            if ended.code != 0:
                raise RuntimeError(f"the bed cannot be made:\n{ended.text}")
        self._keep(State.SERVED)

    def reset(self, state: State) -> None:
        """Put server and machine back to a state; no fault is left."""
        self.heal()
        self.unload()
        models, kept = self.server.models_dir, self._states / state
        shutil.rmtree(models / "manifests", ignore_errors=True)
        (models / "blobs").mkdir(exist_ok=True)
        wanted = {each.name for each in (kept / "blobs").iterdir()}
        for each in (models / "blobs").iterdir():
            if each.name not in wanted:
                each.unlink()
        for name in wanted:
            if not (models / "blobs" / name).exists():
                os.link(kept / "blobs" / name, models / "blobs" / name)
        # With their times: they say which build served when.
        shutil.copytree(kept / "manifests", models / "manifests")
        self.forget()

    def heal(self) -> None:
        """End all faults, and wait until nobody is at anything any more."""
        for proxy in (self.to_server, self.to_hub):
            proxy.heal()
        for proxy in (self.to_server, self.to_hub):
            proxy.wait_until_idle()

    def forget(self) -> None:
        """Let this machine forget all that earlier runs have brought and noted."""
        shutil.rmtree(self._home, ignore_errors=True)
        for name in ("tmp", "cwd"):
            (self._home / name).mkdir(parents=True)

    def unload(self) -> None:
        """Let the engines go, so that no run finds one that another has started."""

        def loaded() -> list[str]:
            return [each["name"] for each in self._direct.get("/api/ps").json().get("models") or []]

        # One whose name is gone since cannot be asked to go, so that nobody need wait for it.
        going = {
            each
            for each in loaded()
            if self._direct.post("/api/generate", json={"model": each, "keep_alive": 0}).is_success
        }
        deadline = time.monotonic() + 20
        while going & set(loaded()) and time.monotonic() < deadline:
            time.sleep(0.02)

    def names(self) -> dict[str, str]:
        """The digests of all models on the server by name, as it tells them."""
        found = self._direct.get("/api/tags").json().get("models") or []
        return {each["name"]: each["digest"] for each in found}

    def manifests(self) -> list[str]:
        """The names of all manifests on the disk, also of those that the server cannot read."""
        root = self.server.models_dir / "manifests"
        found = (each.relative_to(root).parts for each in root.glob("*/*/*/*"))
        return sorted(_model_name(each) for each in found)

    def unfinished(self) -> list[Path]:
        """Files of this machine that are not whole, or that nobody will look for again."""
        downloads = self._home.glob("**/*.incomplete")
        temporary = (self._home / "tmp").rglob("*")
        noted = [
            each
            for each in self._home.glob("*/devstral-ollama/*")
            if each.is_file() and each.name not in _REMEMBERED
        ]
        return sorted({*downloads, *(each for each in temporary if each.is_file()), *noted})

    def partial_blobs(self) -> list[str]:
        """Blobs on the server that never became whole; it removes them itself when it starts."""
        return sorted(each.name for each in (self.server.models_dir / "blobs").glob("*-partial*"))

    def age(self) -> None:
        """Make all that lies about two hours older, so that no run can be at it any more."""
        root = self.server.models_dir / "manifests"
        for path in (*root.glob("*/*/*/*"), *self.unfinished()):
            when = path.stat().st_mtime - _TWO_HOURS
            os.utime(path, (when, when))

    def files_with(self, secret: str) -> list[str]:
        """Files of this machine that have a text in them; weights are left out."""
        small = [
            each
            for each in self._home.rglob("*")
            if each.is_file() and each.suffix != ".gguf" and each.stat().st_size < 1 << 20
        ]
        return [
            str(each.relative_to(self._home))
            for each in small
            if secret.encode() in each.read_bytes() or secret in str(each)
        ]

    def logged(self) -> str:
        """What the server has written to its log since this was called last."""
        with self.server.log_path.open("rb") as log:
            log.seek(self._seen)
            text = log.read()
        self._seen += len(text)
        return text.decode(errors="backslashreplace")

    def asked(self) -> int:
        """How many requests there were since the last reset."""
        return len(self.to_server.asked) + len(self.to_hub.asked)

    # The command line

    def run(
        self,
        arguments: Sequence[str],
        *,
        limit: float = 120.0,
        environment: Mapping[str, str] | None = None,
        watch: Callable[[subprocess.Popen[bytes]], None] | None = None,
    ) -> Ended:
        """Run the command line as a person would.

        Args:
            arguments: What stands behind its name; see :meth:`filled`.
            limit: Seconds after which it is killed.
            environment: Variables over those of the bed; see :meth:`filled`.
            watch: Called again and again with the process while it runs.
        """
        variables = {key: os.environ[key] for key in _INHERITED if key in os.environ}
        for key, value in {**self._environment(), **(environment or {})}.items():
            variables[key] = self.filled(value)
        filled = [self.filled(each) for each in arguments]
        line = [sys.executable, "-m", "ollama_tools", *filled]
        out, err = self._root / "stdout", self._root / "stderr"
        with out.open("wb") as stdout, err.open("wb") as stderr:
            started = time.monotonic()
            process = subprocess.Popen(
                # An answer without end must not take the machine with it.
                ["/bin/sh", "-c", f'ulimit -v {_MEMORY_KIB}; exec "$@"', "sh", *line],
                cwd=self.here,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
            code, peak = _wait(process, started + limit, watch)
            seconds = time.monotonic() - started
        return Ended(code, seconds, _text(out), _text(err), peak)

    def filled(self, text: str) -> str:
        """A text with the addresses of the bed in the place of their names."""
        return text.replace("{registry}", self.to_hub.host).replace("{server}", self.to_server.host)

    def _environment(self) -> dict[str, str]:
        home = str(self._home)
        proxy = f"http://planted:{PASSWORD}@127.0.0.1:9"
        return {
            "HOME": home,
            "TMPDIR": f"{home}/tmp",
            "XDG_CACHE_HOME": f"{home}/cache",
            "XDG_STATE_HOME": f"{home}/state",
            "HF_HOME": f"{home}/hf",
            "HF_ENDPOINT": "http://{registry}",
            "HF_TOKEN": TOKEN,
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "OLLAMA_HOST": "{server}",
            "PYTHONPATH": str(ROOT),
            "HTTP_PROXY": proxy,
            "HTTPS_PROXY": proxy,
            "NO_PROXY": "127.0.0.1,localhost",
            **PATIENCE,
        }

    def _keep(self, state: State) -> None:
        kept = self._states / state
        models = self.server.models_dir
        for name in ("manifests", "blobs"):
            (models / name).mkdir(exist_ok=True)
            shutil.copytree(models / name, kept / name)


@contextlib.contextmanager
def fault_bed() -> Iterator[Bed]:
    """A bed with all that the cases start from."""
    # What this process ignores, as a background job or under nohup, all that it starts would.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: None)
    os.environ[CACHE_VARIABLE] = str(cache_root())
    repositories = devstral_repositories(layers=1, heads=1, kv_heads=1, quants=QUANTS)
    repositories.append(replace(repositories[0], name=OTHERS))
    with tempfile.TemporaryDirectory(prefix="devstral-faults-") as temporary:
        root = Path(temporary)
        with (
            Hub(repositories) as hub,
            OllamaServer(
                ollama_build(), models_dir=root / "models", log_path=root / "ollama.log"
            ) as server,
            FaultProxy(server.port) as to_server,
            FaultProxy(int(hub.registry.rpartition(":")[2])) as to_hub,
            httpx.Client(base_url=server.url, timeout=60.0, trust_env=False) as direct,
        ):
            bed = Bed(root, server, hub, to_server, to_hub, direct)
            bed.prepare()
            yield bed


def _wait(
    process: subprocess.Popen[bytes],
    deadline: float,
    watch: Callable[[subprocess.Popen[bytes]], None] | None,
) -> tuple[int | None, int]:
    """The exit code, or None where it did not end, and the most memory that it took in bytes."""
    ended_itself = True
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        if watch is not None:
            watch(process)
        if time.monotonic() > deadline:
            ended_itself = False
            os.killpg(process.pid, signal.SIGKILL)
            _, status, usage = os.wait4(process.pid, 0)
            break
        time.sleep(0.002 if watch is not None else 0.01)
    code = os.waitstatus_to_exitcode(status)
    # What wait4 has taken, Popen must not wait for.
    process.returncode = code
    return (code if ended_itself else None), usage.ru_maxrss * 1024


def _text(path: Path) -> str:
    return path.read_bytes()[: 1 << 20].decode(errors="backslashreplace")


def _model_name(parts: tuple[str, ...]) -> str:
    host, namespace, model, tag = parts
    prefix = "" if host == "registry.ollama.ai" else f"{host}/"
    owner = "" if not prefix and namespace == "library" else f"{namespace}/"
    return f"{prefix}{owner}{model}:{tag}"


def public_digest(names: Mapping[str, str]) -> str | None:
    """What the public name stands for."""
    return names.get(NAME)
