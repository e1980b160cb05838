"""``render --target compose``: docker starts the file, and clients get what it promises."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ollama_tools import smoke
from ollama_tools.devstral.carriers import jinja_template
from ollama_tools.devstral.catalog import TokenizerVersion
from ollama_tools.devstral.miniature import write_miniature
from ollama_tools.gateway.keys import add_key, revoke_key
from ollama_tools.gateway.targets import render_both
from ollama_tools.lint import cases
from ollama_tools.settings.environment import ServerSettings
from ollama_tools.settings.targets import Gpu, Target, render_settings
from tests.testbed.hosts.containers import SERVER_IMAGE, Containers
from tests.testbed.wheels import package_wheel

ROOT = Path(__file__).parents[2]
MODEL = "devstral:box"
KEYS = Path("/etc/devstral/keys.json")
# From a death to the next life, with docker's pause and its first look at how it is.
RETURN_SECONDS = 60.0
INTERRUPTED_IN_ORDER = {0, 130, 143}

pytestmark = [pytest.mark.xdist_group("fleet"), pytest.mark.long]


@pytest.fixture(scope="module")
def bed() -> Iterator[Containers]:
    with Containers() as bed:
        yield bed


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "mini.gguf"
    template = jinja_template(TokenizerVersion.V13)
    write_miniature(path, layers=1, heads=1, kv_heads=1, chat_template=template)
    return path


class Project:
    """A compose file in a folder of the host."""

    def __init__(self, bed: Containers, name: str, text: str) -> None:
        self._bed, self._name = bed, name
        self.folder = bed.host.root / "srv" / name
        self.folder.mkdir()
        (self.folder / "compose.yaml").write_text(text)

    def compose(self, words: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run compose in the folder, as a person would."""
        command = f"cd /srv/{self._name} && docker compose {words}"
        return self._bed.host.run(command, check=check, timeout=300)

    def interrupted(self) -> dict[str, int]:
        """Start all in the foreground, and press Ctrl-C once all are well.

        Returns:
            The exit code of each container.
        """
        unit = f"{self._name}-in-front"
        self._bed.host.run(
            f"systemd-run --quiet --unit={unit} --working-directory=/srv/{self._name} "
            "--property=KillSignal=SIGINT --property=KillMode=mixed --property=TimeoutStopSec=60 "
            "docker compose up"
        )
        services = self.compose("config --services").stdout.split()
        until(
            lambda: all(self.is_there(each) and is_healthy(self.inspect(each)) for each in services)
        )
        self._bed.host.run(f"systemctl stop {unit}", timeout=90)
        return {each: int(self.inspect(each)["State"]["ExitCode"]) for each in services}

    def is_there(self, service: str) -> bool:
        """Whether a service has a container."""
        return bool(self.compose(f"ps --all --quiet {service}").stdout)

    def inspect(self, service: str) -> dict[str, Any]:
        """What docker says of a service's container."""
        return self._bed.inspect(self.compose(f"ps --all --quiet {service}").stdout.strip())

    def tool(self, *arguments: str | Path) -> str:
        """Run the package's command line on the host, whose network it has."""
        command = (sys.executable, "-m", "ollama_tools", *arguments)
        done = subprocess.run(
            self._bed.beside(*command), cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def kill(self, service: str) -> None:
        """Kill a service's process, and wait until it serves again."""
        before = self.inspect(service)
        self._bed.host.run(f"kill -KILL {before['State']['Pid']}")

        def is_back() -> bool:
            now = self.inspect(service)
            return now["RestartCount"] > before["RestartCount"] and is_healthy(now)

        until(is_back)

    def is_well(self, service: str) -> bool:
        """Ask what docker asks to know how a service is."""
        asked = self.inspect(service)["Config"]["Healthcheck"]["Test"]
        assert asked[0] == "CMD"
        return self.compose(f"exec {service} {shlex.join(asked[1:])}", check=False).returncode == 0


def until(it: Callable[[], bool]) -> None:
    """Wait until something is so."""
    end = time.monotonic() + RETURN_SECONDS
    while not it():
        assert time.monotonic() < end
        time.sleep(0.2)


def is_healthy(container: dict[str, Any]) -> bool:
    """Whether docker holds a container to be well."""
    return bool(container["State"]["Health"]["Status"] == "healthy")


def left(bed: Containers) -> str:
    """What docker has running, kept or open, without volumes and images."""
    commands = ("docker ps --all --quiet", "docker network ls --quiet --filter type=custom")
    ports = "ss --listening --tcp --numeric --no-header | grep -E ':(8080|1143[45])( |$)' || true"
    return bed.host.run("; ".join((*commands, ports))).stdout


def is_open(bed: Containers, port: int) -> bool:
    """Whether others than the host reach a port of it."""
    try:
        httpx.get(f"http://{bed.host.address}:{port}/api/version", trust_env=False)
    except httpx.ConnectError:
        return False
    return True


def test_docker_starts_the_server_and_brings_it_back_with_its_models(
    bed: Containers, weights: Path, tmp_path: Path
) -> None:
    project = Project(bed, "server", render_settings(ServerSettings(), Target.COMPOSE))
    # The file asks for cards, and here there are none.
    refused = project.compose("up --detach --wait", check=False)
    assert 'could not select device driver "nvidia"' in refused.stderr
    project.compose("down --volumes")
    settings = ServerSettings(context=4096)
    text = render_settings(settings, Target.COMPOSE, gpu=Gpu.NONE)
    (project.folder / "compose.yaml").write_text(text)

    project.compose("up --detach --wait")
    assert is_healthy(project.inspect("ollama"))
    assert project.is_well("ollama")
    # With nobody serving beside it, the same question has another answer.
    alone = f"docker run --rm --network none {SERVER_IMAGE} ls"
    assert bed.host.run(alone, check=False).returncode == 1
    assert not is_open(bed, 11434)
    model = ("--name", MODEL, "--release", "2507", "--context", "4096")
    project.tool("create", weights, *model, "--no-check")
    # The server's process is not seen from here, and its log is.
    log = tmp_path / "server.log"
    log.write_text(project.compose("logs --no-log-prefix ollama").stdout)
    report = project.tool("smoke", MODEL, "--prompt-tokens", "300", "--log", log)
    assert " 0 failed" in report
    assert "q8_0 (log: " in report

    project.kill("ollama")
    assert project.tool("list", "--quiet").split() == [MODEL]
    project.compose("down")
    assert left(bed) == ""
    project.compose("up --detach --wait")
    assert project.tool("list", "--quiet").split() == [MODEL]
    project.compose("down")

    codes = project.interrupted()
    assert set(codes) == {"ollama"}
    assert set(codes.values()) <= INTERRUPTED_IN_ORDER
    project.compose("down --volumes")
    assert left(bed) == ""
    assert bed.host.run("docker volume ls --quiet").stdout == ""


def test_docker_starts_the_gateway_before_the_server_and_nobody_gets_past_it(
    bed: Containers, weights: Path
) -> None:
    keys = bed.host.root / KEYS.relative_to("/")
    keys.parent.mkdir()
    alice = add_key(keys, "alice")
    asked: dict[str, Any] = {"keys": KEYS, "upstream": "127.0.0.1:11435", "wait": 40}
    given = {"host": "0.0.0.0:8080", "context": 4096}
    [text] = render_both(given, asked, Target.COMPOSE, gpu=Gpu.NONE).values()
    project = Project(bed, "both", text)
    shutil.copy(next(package_wheel().iterdir()), project.folder)
    project.compose("up --detach --wait")
    url = f"http://{bed.host.address}:8080"

    def told(key: str | None) -> int:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        body = {"model": MODEL, "messages": cases.QUESTION, "tools": cases.TOOLS, "stream": False}
        answer = httpx.post(
            f"{url}/api/chat", json=body, headers=headers, trust_env=False, timeout=90
        )
        if answer.is_success:
            [call] = answer.json()["message"]["tool_calls"]
            assert call["function"]["name"] == cases.TOOL
        return answer.status_code

    assert is_healthy(project.inspect("gateway"))
    assert project.is_well("gateway")
    assert [is_open(bed, port) for port in (8080, 11434, 11435)] == [True, False, False]
    host = ("--host", "127.0.0.1:11435")
    model = ("--name", MODEL, "--release", "2507", "--context", "4096")
    project.tool("create", weights, *model, "--no-check", *host)
    report = smoke(MODEL, gateway=url, api_key=alice, prompt_tokens=300)
    assert report.passed, report
    assert [told(each) for each in (alice, "k" * 43, None)] == [200, 401, 401]

    # Keys come and go while it runs.
    bob = add_key(keys, "bob")
    revoke_key(keys, "alice")
    assert [told(bob), told(alice)] == [200, 401]

    # Whoever of the two dies is back by itself, and clients wait for the server.
    project.kill("gateway")
    assert told(bob) == 200
    server = project.inspect("ollama")
    bed.host.run(f"kill -KILL {server['State']['Pid']}")
    assert told(bob) == 200
    assert project.inspect("ollama")["RestartCount"] == 1

    project.compose("down")
    assert left(bed) == ""
    codes = project.interrupted()
    assert set(codes) == {"ollama", "gateway"}
    assert set(codes.values()) <= INTERRUPTED_IN_ORDER
    project.compose("down --volumes")
    assert left(bed) == ""
