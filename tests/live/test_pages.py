"""The pages, tried by doing what they say: each command in its order, on a server of their own."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ollama_tools import __main__ as entry
from ollama_tools.devstral.miniature import write_miniature
from ollama_tools.server.client import Server
from tests.live.test_create import use_hub
from tests.testbed.adapter import write_adapter
from tests.testbed.build import Build
from tests.testbed.hub import Hub
from tests.testbed.models import TEMPLATES
from tests.testbed.programs import llama_programs
from tests.testbed.server import OllamaServer

ROOT = Path(__file__).parents[2]
PAGES = (
    "README.md",
    "docs/how-to/one-machine.md",
    "docs/how-to/air-gapped.md",
    "docs/how-to/from-the-unsloth-guide.md",
    "docs/how-to/fine-tune.md",
)
_CHEAPER = {
    # That a build is checked before it serves is held elsewhere; here `smoke` asks once.
    "create": ["--no-check"],
    # A miniature reads a long prompt slowly.
    "smoke": ["--prompt-tokens", "300"],
    "bench": ["--depth", "300", "--runs", "1", "--parallel", "1", "--turns", "1"],
}


def commands(page: str) -> list[list[str]]:
    """What a page lets a person type, as far as it needs neither root nor other hosts."""
    text = (ROOT / page).read_text(encoding="utf-8")
    lines = re.findall(r"^\$ ((?:devstral-ollama|hf|llama-quantize) [^#|\n]*)", text, re.M)
    return [shlex.split(each) for each in lines]


def test_what_is_done_for_agents_is_tried_by_the_readme() -> None:
    tried = commands("README.md")
    assert all(each in tried for each in commands("docs/how-to/coding-agents.md"))


def write_tunes(directory: Path) -> None:
    """What a training leaves: a tune, and an adapter with the model that it belongs to."""
    template = (TEMPLATES / "published.jinja").read_text(encoding="utf-8")
    (directory / "devstral-2507-tune_gguf").mkdir()
    tune = directory / "devstral-2507-tune_gguf" / "unsloth.Q8_0.gguf"
    base = directory / "devstral-2507-BF16.gguf"
    for path in (tune, base):
        write_miniature(
            path, layers=1, heads=1, kv_heads=1, chat_template=template, name="Devstral Small 2507"
        )
    write_adapter(directory / "lora.gguf", base)


@pytest.fixture(scope="module")
def served(newest_build: Build, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OllamaServer]:
    """A server that ``devstral-ollama serve`` has started, as the pages say."""
    root = tmp_path_factory.mktemp("served")
    program = root / "serve"
    run = shlex.join([sys.executable, "-m", "ollama_tools"])
    program.write_text(f'#!/bin/sh\nexec {run} "$@" --ollama {newest_build.binary}\n')
    program.chmod(0o755)
    with OllamaServer(
        replace(newest_build, binary=program),
        models_dir=root / "models",
        log_path=root / "ollama.log",
        env={"PYTHONPATH": str(ROOT), "OLLAMA_CONTEXT_LENGTH": "4096"},
    ) as server:
        yield server


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_says_can_be_done(
    page: str,
    served: OllamaServer,
    hub: Hub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    use_hub(hub, monkeypatch)
    monkeypatch.setenv("OLLAMA_HOST", served.url)
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    monkeypatch.chdir(tmp_path)
    said = commands(page)
    assert said
    (tmp_path / "Modelfile").write_bytes(
        (ROOT / "modelfiles" / "devstral-small-2507.Modelfile").read_bytes()
    )
    if page in ("README.md", "docs/how-to/fine-tune.md"):
        write_tunes(tmp_path)
        monkeypatch.setenv("PATH", f"{llama_programs()}{os.pathsep}{os.environ['PATH']}")
    with Server(served.url) as server:
        for each in server.models():
            server.delete(each.name)
    for program, *arguments in said:
        if arguments[0] in ("serve", "gateway"):
            # That is how the server was started; and a gateway serves until it is stopped.
            continue
        if program != "devstral-ollama":
            path = shutil.which(program) or Path(sys.executable).with_name(program)
            done = subprocess.run([path, *arguments], check=True)
            code = done.returncode
        else:
            code = entry.run([*arguments, *_CHEAPER.get(arguments[0], [])])
        told = capfd.readouterr()
        assert code == 0, f"{shlex.join([program, *arguments])}: {told.out}{told.err}"
