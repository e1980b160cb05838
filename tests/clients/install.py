"""The client packages, installed into the testbed's cache."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import Literal, get_args

from tests.testbed import toolchain
from tests.testbed.cache import cached
from tests.testbed.toolchain import BuildError, say

Environment = Literal["libraries", "litellm", "gptme", "node"]

_PACKAGES = Path(__file__).with_name("packages.txt")


@cache
def packages() -> dict[str, list[str]]:
    """The lines of ``packages.txt`` by their section."""
    sections: dict[str, list[str]] = {}
    for line in _PACKAGES.read_text(encoding="utf-8").splitlines():
        if head := re.fullmatch(r"\[(\w+)\]", line):
            sections[head[1]] = []
        elif line and not line.startswith("#"):
            sections[list(sections)[-1]].append(line)
    assert tuple(sections) == get_args(Environment)
    return sections


def version(environment: Environment, package: str) -> str:
    """The version of a package, as ``packages.txt`` says."""
    pattern = re.compile(rf"{re.escape(package)}(\[\w+\])?(==|@)(.+)")
    (found,) = filter(None, map(pattern.fullmatch, packages()[environment]))
    return found[3]


def install(environment: Environment) -> Path:
    """The directory of an environment, made when the cache does not have it.

    Raises:
        BuildError: A package cannot be installed.
    """
    key = [*packages()[environment], *sys.version_info[:2]]
    digest = hashlib.sha256(repr(key).encode()).hexdigest()[:12]
    make = _make_node if environment == "node" else partial(_make_python, environment)
    return cached(f"clients/{environment}-{digest}", make)


def install_all(environments: Iterable[Environment] = get_args(Environment)) -> None:
    """Makes several environments side by side."""
    with ThreadPoolExecutor() as pool:
        for future in [pool.submit(install, each) for each in environments]:
            future.result()


def interpreter(environment: Environment) -> Path:
    """The program that runs the drivers of an environment."""
    if environment == "node":
        return _program("node")
    return install(environment) / "bin" / "python"


def variables(environment: Environment) -> dict[str, str]:
    """What a driver needs to find its packages."""
    # Scripts in bin/ name the directory in which they were installed, which is another one now.
    return {"NODE_PATH": str(install("node") / "node_modules")} if environment == "node" else {}


def _make_python(environment: Environment, into: Path) -> None:
    say(f"installing clients: {', '.join(packages()[environment])}")
    toolchain.run([sys.executable, "-m", "venv", into], log=f"clients-{environment}")
    command: list[str | Path] = [
        into / "bin" / "python",
        "-m",
        "pip",
        "--disable-pip-version-check",
        "install",
    ]
    toolchain.run([*command, *packages()[environment]], log=f"clients-{environment}")


def _make_node(into: Path) -> None:
    say(f"installing clients: {', '.join(packages()['node'])}")
    command: list[str | Path] = [
        _program("npm"),
        "install",
        "--no-audit",
        "--no-fund",
        "--prefix",
        into,
    ]
    toolchain.run([*command, *packages()["node"]], log="clients-node")


def _program(name: str) -> Path:
    found = shutil.which(name, path=os.environ.get("PATH"))
    if not found:
        raise BuildError(f"there is no {name}: the clients in JavaScript need Node.js 20 and npm")
    return Path(found)
