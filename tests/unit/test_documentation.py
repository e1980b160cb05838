"""README, docs, help texts and Makefile say the same."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from docs import gateway
from docs.generate import QUANTS_TARGET, TARGET, markdown, quants_markdown
from docs.memory import card_rows
from ollama_tools.cli.app import app
from ollama_tools.devstral.carriers import AUTO, EXACT, Carrier
from ollama_tools.errors import ExitCode

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for folder in (ROOT, ROOT / "docs", ROOT / "tests", ROOT / "ansible")
    for path in sorted(folder.glob("*.md" if folder == ROOT else "**/*.md"))
    if "node_modules" not in path.parts
}
COMMANDS = sorted(
    {
        (page, command.strip())
        for page, text in PAGES.items()
        for command in re.findall(r"^\$ (devstral-ollama [^#|\n]*)", text, re.M)
    }
)


def test_the_command_line_reference_is_what_the_commands_say() -> None:
    assert TARGET.read_text(encoding="utf-8") == markdown(), "run: make docs"


def test_the_table_of_quants_is_what_the_catalog_says() -> None:
    assert QUANTS_TARGET.read_text(encoding="utf-8") == quants_markdown(), "run: make docs"


def test_the_gateways_reference_is_what_the_gateway_says() -> None:
    assert gateway.TARGET.read_text(encoding="utf-8") == gateway.markdown(), "run: make docs"


@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_a_command_in_a_page_is_one_that_the_command_line_takes(page: str, line: str) -> None:
    group: Any = typer.main.get_command(app)
    _, name, *arguments = shlex.split(line)
    command = group.commands[name]
    command.make_context(name, arguments).close()


def test_the_readme_has_commands_to_check() -> None:
    assert len([line for page, line in COMMANDS if page == "README.md"]) >= 6


def test_every_option_in_the_readme_exists() -> None:
    group: Any = typer.main.get_command(app)
    known = {
        option
        for command in group.commands.values()
        for parameter in command.params
        for option in (*parameter.opts, *parameter.secondary_opts)
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
    found = {int(code): text for code, text in re.findall(r"^\| (\d+) \| (.+) \|$", table, re.M)}
    assert found == {each: each.meaning for each in ExitCode}


def test_the_help_lists_every_exit_code() -> None:
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "1000"}).output
    for each in ExitCode:
        assert f"{each} {each.meaning}" in shown


def test_the_readme_lists_every_carrier() -> None:
    table = README.split("### Where the chat template lives")[1].split("###")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.M)) == {AUTO, EXACT, *Carrier}


def code_blocks(text: str) -> list[list[str]]:
    """The lines of each code block, without what is said beside a command."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S)
    return [[re.sub(r"\s+# .*", "", line) for line in each.splitlines()] for each in blocks]


def table_rows(text: str) -> list[tuple[int, list[str], list[str]]]:
    """Of each row of each table: how many cells, which words of code, which numbers."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    return [
        (
            line.count("|"),
            sorted(re.findall(r"`[^`]+`", line)),
            sorted(re.findall(r"\d[\d.,]*", line)),
        )
        for line in prose.splitlines()
        if line.startswith("|")
    ]


def headings(text: str) -> list[int]:
    return [
        len(each)
        for each in re.findall(r"^(#+) ", re.sub(r"```.*?```", "", text, flags=re.S), re.M)
    ]


def test_the_chinese_readme_is_in_step_with_the_english_one() -> None:
    chinese = (ROOT / "README.zh-CN.md").read_text(encoding="utf-8")
    assert headings(chinese) == headings(README)
    assert code_blocks(chinese) == code_blocks(README)
    assert table_rows(chinese) == table_rows(README)
    # Chinese puts words in another order, and says of two what English says of one.
    links, code = r"\]\(([^)]+)\)", r"`[^`\n]+`"
    assert set(re.findall(links, chinese)) - {"README.md"} == set(re.findall(links, README)) - {
        "README.zh-CN.md"
    }
    assert set(re.findall(code, chinese)) == set(re.findall(code, README))


def test_every_make_target_in_the_readme_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.M))
    mentioned = set(
        re.findall(r"make ([a-z-]+)", re.sub(r"```python.*?```", "", README, flags=re.S))
    )
    code = {each for each in mentioned if f"`make {each}" in README or f"$ make {each}" in README}
    assert {"setup", "demo", "test"} <= code
    assert code <= targets


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", PAGES[page]):
        if not link.startswith("http"):
            assert ((ROOT / page).parent / link).exists(), link


def test_every_page_is_in_the_list_of_pages() -> None:
    pages = {each.removeprefix("docs/") for each in PAGES if each.startswith("docs/")}
    listed = set(re.findall(r"\]\(([^)]+)\)", PAGES["docs/README.md"]))
    assert pages - {"README.md"} == {
        f"{each}/README.md" if not each.endswith(".md") else each for each in listed
    }


@pytest.mark.parametrize("page", ["README.md", "docs/how-to/one-machine.md"])
def test_the_quants_for_each_card_are_reckoned(page: str) -> None:
    assert re.findall(r"^\| \d+ GiB .*", PAGES[page], re.M) == card_rows(), (
        "docs/memory.py has them"
    )
