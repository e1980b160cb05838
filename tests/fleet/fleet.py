"""The collection as a person has it: built, installed, and run by ansible-playbook."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.testbed.build import NEWEST
from tests.testbed.hosts import FileServer, Hosts, ollama_archive
from tests.testbed.hub import Hub
from tests.testbed.wheels import locked_wheels, package_wheel

ROOT = Path(__file__).parents[2]
COLLECTION = ROOT / "ansible"
QUANT = "UD-Q4_K_XL"
MODEL = "devstral:agent"
"""The public name, the same for every quant, as a fleet's clients want it."""

_BIN = Path(sys.executable).parent
_TASKS = "tasks.jsonl"


def overtaking(build: str) -> str:
    """Code that lets a process be overtaken: whenever it switches the name, another run does."""
    return f"""\
from ollama_tools.server.client import Server

copy = Server.copy

def overtaken(self, source, target):
    copy(self, source, target)
    if target == {MODEL!r}:
        copy(self, {build!r}, target)

Server.copy = overtaken
"""


@dataclass(frozen=True)
class Task:
    """What a task did on a host, and when: seconds on a clock that all tasks share."""

    kind: str
    host: str
    task: str
    at: float
    changed: bool
    message: str


@dataclass(frozen=True)
class Run:
    """A playbook's run.

    Attributes:
        code: Its exit code.
        output: All that it printed.
        tasks: What each task did.
        seconds: How long it took.
    """

    code: int
    output: str
    tasks: tuple[Task, ...]
    seconds: float

    def changed(self, host: str | None = None) -> list[str]:
        """The tasks that changed something, in order."""
        return [each.task for each in self.tasks if each.changed and host in (None, each.host)]

    def failures(self) -> dict[str, str]:
        """The last message of each host that failed."""
        bad = ("failed", "unreachable")
        return {each.host: each.message for each in self.tasks if each.kind in bad}

    def of(self, host: str, task: str) -> Task:
        """What a task did on a host, and when: seconds on a clock that all tasks share."""
        return next(each for each in self.tasks if (each.host, each.task) == (host, task))


def _run(*command: str | Path, cwd: Path | None = None) -> None:
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@cache
def collection_tarball() -> Path:
    """The collection as ``ansible-galaxy`` builds it, from a copy without what git ignores."""
    place = Path(tempfile.mkdtemp(prefix="devstral-collection-"))
    shutil.copytree(COLLECTION, place / "source", ignore=shutil.ignore_patterns("__pycache__"))
    _run(_BIN / "ansible-galaxy", "collection", "build", "--output-path", place, place / "source")
    return next(place.glob("devstral-ollama-*.tar.gz"))


@cache
def collections_path() -> Path:
    """Where the built collection is installed."""
    tarball = collection_tarball()
    place = tarball.parent / "installed"
    galaxy = _BIN / "ansible-galaxy"
    _run(galaxy, "collection", "install", "--offline", "--no-cache", "-p", place, tarball)
    return place


PYTHONS = ("3.11", "3.13")
"""Those of the hosts: Debian 12 and 13."""


def wheels(pythons: Sequence[str] = PYTHONS) -> Path:
    """What a host without an index is given: the wheel house that the collection makes.

    Args:
        pythons: The versions of Python that it is for.
    """
    place = Path(tempfile.mkdtemp(prefix="devstral-wheels-")) / "wheels"
    done = make_wheels(place, pythons)
    assert done.code == 0, done.output
    return place


def make_wheels(place: Path, pythons: Sequence[str]) -> Run:
    """Let the collection make a wheel house, out of the locked wheels and the package as it is."""
    from_here = Path(tempfile.mkdtemp(prefix="devstral-links-"))
    for folder in (package_wheel(), *map(locked_wheels, pythons)):
        for wheel in folder.iterdir():
            (from_here / wheel.name).unlink(missing_ok=True)
            (from_here / wheel.name).symlink_to(wheel)
    return run_playbook(
        "devstral.ollama.wheels",
        place=place.parent,
        variables={
            "devstral_tools_wheels": str(place),
            "devstral_wheels_pythons": list(pythons),
            "devstral_wheels_from": str(from_here),
        },
        environment={"PIP_NO_INDEX": "1"},
    )


def _environment(place: Path, **more: str) -> dict[str, str]:
    """The environment of Ansible's programs: the installed collection, and nobody's settings."""
    return {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(collections_path()),
        "ANSIBLE_HOME": str(place / "home"),
        "ANSIBLE_LOCALHOST_WARNING": "0",
        **more,
    }


def run_playbook(
    playbook: str,
    *options: str,
    place: Path,
    variables: Mapping[str, object],
    environment: Mapping[str, str] | None = None,
) -> Run:
    """Run a playbook with the installed collection.

    Args:
        playbook: Its name, or its path.
        *options: Options of ansible-playbook.
        place: A directory for what is noted of the run.
        variables: Extra variables.
        environment: Environment variables over those of this process.
    """
    started = time.monotonic()
    process = start_playbook(
        playbook, *options, place=place, variables=variables, environment=environment
    )
    with process:
        try:
            output, _ = process.communicate(timeout=900)
        except BaseException:
            process.kill()
            raise
    return Run(process.returncode, output, tasks_of(place), time.monotonic() - started)


def start_playbook(
    playbook: str,
    *options: str,
    place: Path,
    variables: Mapping[str, object],
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[str]:
    """The same, without waiting for its end."""
    log = place / _TASKS
    log.unlink(missing_ok=True)
    log.touch()
    extra = ["--extra-vars", json.dumps(variables)] if variables else []
    return subprocess.Popen(
        [str(_BIN / "ansible-playbook"), playbook, *extra, *options],
        env=_environment(
            place,
            ANSIBLE_CALLBACK_PLUGINS=str(Path(__file__).parent / "callbacks"),
            ANSIBLE_CALLBACKS_ENABLED="tasks",
            ANSIBLE_NOCOLOR="1",
            ANSIBLE_PIPELINING="1",
            DEVSTRAL_TASKS=str(log),
            **(environment or {}),
        ),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # An interrupt of it is one of it alone.
        start_new_session=True,
    )


def tasks_of(place: Path) -> tuple[Task, ...]:
    """What the tasks of the run there did so far."""
    lines = (place / _TASKS).read_text(encoding="utf-8").splitlines()
    return tuple(Task(**json.loads(each)) for each in lines)


def answer_of(
    module: str,
    host: str,
    /,
    *arguments: str,
    place: Path,
    environment: Mapping[str, str],
    **options: object,
) -> dict[str, Any]:
    """What a module of the installed collection answers when it is run by itself.

    Args:
        module: Its name.
        host: The host that it runs on.
        *arguments: More arguments of the program ``ansible``.
        place: A directory for the answer.
        environment: Environment variables over those of this process.
        **options: The module's options.
    """
    done = subprocess.run(
        [
            str(_BIN / "ansible"),
            host,
            *("-m", f"devstral.ollama.{module}"),
            *("-a", json.dumps(options)),
            *("--tree", str(place)),
            # Without it a difference is left out of the answer.
            "-vvv",
            *arguments,
        ],
        env=_environment(place, **environment),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    answer = place / host
    assert answer.exists(), done.stdout + done.stderr
    found: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
    answer.unlink()
    return found


class Fleet:
    """Hosts, what they are to be, and playbooks to make them so.

    Attributes:
        hosts: The hosts.
        hub: What they pull from.
        variables: What the inventory's group says; a test may change it.
        of_host: What the inventory says of single hosts.
        settled: Whether the hosts are as a new fleet's variables say, which a test may leave so.
    """

    def __init__(self, hosts: Hosts, hub: Hub, files: FileServer, wheels: Path) -> None:
        self.hosts = hosts
        self.hub = hub
        self._files = files
        self._place = Path(tempfile.mkdtemp(prefix="devstral-fleet-"))
        self.variables: dict[str, Any] = {
            **self.release(NEWEST),
            "devstral_tools_wheels": str(wheels),
            "devstral_model": {
                "reference": QUANT,
                "name": MODEL,
                "registry": f"http://{hub.registry}",
            },
            "devstral_model_prompt_tokens": 300,
            "devstral_serial": 3,
        }
        self.of_host: dict[str, dict[str, Any]] = {}
        self.settled = False

    def want(self, **wish: Any) -> None:
        """Say something else of the model that is wanted."""
        self.variables["devstral_model"] = {**self.variables["devstral_model"], **wish}

    def serve(self, path: Path) -> str:
        """The URL by which the hosts reach a file."""
        return self._files.add(path.name, path)

    def release(self, version: str) -> dict[str, Any]:
        """The variables that pin a release of the server."""
        archive = ollama_archive(version)
        return {
            "ollama_server_version": version,
            "ollama_server_archive": self._files.add(
                f"{version}-{archive.path.name}", archive.path
            ),
            "ollama_server_sha256": archive.sha256,
        }

    def play(self, playbook: str, *options: str, **variables: object) -> Run:
        """Run a playbook of the installed collection.

        Args:
            playbook: Its name, as ``site``; or the path of another.
            *options: Options of ansible-playbook.
            **variables: Extra variables.
        """
        return run_playbook(*self._asked(playbook, options), place=self._place, variables=variables)

    def start(
        self, playbook: str, *options: str, place: Path, **variables: object
    ) -> subprocess.Popen[str]:
        """The same beside others, without waiting for its end.

        Args:
            playbook: See :meth:`play`.
            *options: Options of ansible-playbook.
            place: A directory for what is noted of the run.
            **variables: Extra variables.
        """
        return start_playbook(*self._asked(playbook, options), place=place, variables=variables)

    def _asked(self, playbook: str, options: Sequence[str]) -> list[str]:
        name = playbook if "/" in playbook else f"devstral.ollama.{playbook}"
        return [name, "--inventory", str(self._inventory()), *options]

    def module(self, host: str, module: str, /, **options: object) -> dict[str, Any]:
        """What a module answers on a host."""
        return answer_of(
            module,
            host,
            *("--inventory", str(self._inventory())),
            "--become",
            *("-e", "ansible_python_interpreter=/opt/devstral-ollama/bin/python"),
            place=self._place,
            environment={},
            **options,
        )

    def converge(self, *options: str, playbook: str = "site", **variables: object) -> Run:
        """Check mode, the run itself, and once more: promised, done, and nothing left to do."""
        promised = self.play(playbook, "--check", *options, **variables)
        assert promised.code == 0, promised.output
        done = self.play(playbook, *options, **variables)
        assert done.code == 0, done.output
        for host in self.names:
            assert promised.changed(host) == done.changed(host), promised.output
        again = self.play(playbook, *options, **variables)
        assert again.code == 0, again.output
        assert again.changed() == []
        return done

    @property
    def names(self) -> Sequence[str]:
        """The hosts' names."""
        return [each.name for each in self.hosts.hosts]

    def _inventory(self) -> Path:
        import yaml

        place = self._place / "inventory"
        shutil.rmtree(place, ignore_errors=True)
        (place / "group_vars").mkdir(parents=True)
        (place / "host_vars").mkdir()
        shutil.copy(self.hosts.inventory, place / "hosts.yml")
        _write(place / "group_vars" / "ollama.yml", self.variables, yaml.safe_dump)
        for host, variables in self.of_host.items():
            _write(place / "host_vars" / f"{host}.yml", variables, yaml.safe_dump)
        return place


def _write(path: Path, content: Mapping[str, Any], dump: Any) -> None:
    path.write_text(dump(dict(content)), encoding="utf-8")
