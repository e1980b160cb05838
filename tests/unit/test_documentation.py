"""README, docs, help texts and Makefile say the same."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from docs.generate import TARGET, markdown
from ollama_tools.cli.app import app
from ollama_tools.devstral.carriers import AUTO, Carrier
from ollama_tools.errors import ExitCode

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
COMMANDS = sorted(set(re.findall(r"^\$ (devstral-ollama [^#\n]*)", README, re.M)))


def test_the_command_line_reference_is_what_the_commands_say() -> None:
    assert TARGET.read_text(encoding="utf-8") == markdown(), "run: make docs"


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_in_the_readme_is_one_that_the_command_line_takes(line: str) -> None:
    group: Any = typer.main.get_command(app)
    _, name, *arguments = shlex.split(line)
    command = group.commands[name]
    command.make_context(name, arguments).close()


def test_the_readme_has_commands_to_check() -> None:
    assert len(COMMANDS) >= 6


def test_every_option_in_the_readme_exists() -> None:
    group: Any = typer.main.get_command(app)
    known = {
        option
        for command in group.commands.values()
        for parameter in command.params
        for option in parameter.opts
    }
    mentioned = set(re.findall(r"`(--[a-z-]+)", README))
    assert mentioned
    assert mentioned <= known


def test_the_readme_lists_every_command() -> None:
    group: Any = typer.main.get_command(app)
    for name in group.commands:
        assert f"devstral-ollama {name}" in README


def test_the_readme_lists_every_exit_code() -> None:
    table = README.split("### Exit codes")[1].split("##")[0]
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.M)} == {*ExitCode}


def test_the_readme_lists_every_carrier() -> None:
    table = README.split("### Where the chat template lives")[1].split("###")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.M)) == {AUTO, *Carrier}


def test_every_make_target_in_the_readme_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.M))
    mentioned = set(
        re.findall(r"make ([a-z-]+)", re.sub(r"```python.*?```", "", README, flags=re.S))
    )
    code = {each for each in mentioned if f"`make {each}" in README or f"$ make {each}" in README}
    assert {"setup", "demo", "test"} <= code
    assert code <= targets


def test_links_in_the_readme_lead_somewhere() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        if not link.startswith("http"):
            assert (ROOT / link).exists(), link
