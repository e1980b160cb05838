"""A wheel, installed elsewhere, is the whole program."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which a freshly built wheel was installed."""
    root = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", root, ROOT],
        check=True,
        capture_output=True,
    )
    (wheel,) = root.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(root / "site")
    return root / "site"


def _run(installed: Path, *arguments: str) -> str:
    result = subprocess.run(
        [sys.executable, *arguments],
        cwd=installed.parent,
        env=os.environ | {"PYTHONPATH": str(installed)},
        check=True,
        capture_output=True,
        text=True,
    )
    return result.stdout


def test_it_is_the_wheel_that_runs(installed: Path) -> None:
    found = _run(installed, "-c", "import ollama_tools; print(ollama_tools.__file__)")
    assert Path(found.strip()).is_relative_to(installed)


def test_it_renders_from_its_own_data(installed: Path) -> None:
    text = _run(installed, "-m", "ollama_tools", "render", "2505:Q4_K_M")
    assert "FROM hf.co/unsloth/Devstral-Small-2505-GGUF:Q4_K_M" in text
    assert 'SYSTEM """You are Devstral' in text
    assert "[TOOL_CONTENT]" in text


def test_it_has_types_templates_prompts_and_modelfiles(installed: Path) -> None:
    package = installed / "ollama_tools"
    assert (package / "py.typed").is_file()
    assert (package / "lint" / "prompts" / "v13.txt").is_file()
    assert (package / "checks" / "prompts" / "flappy-bird.txt").is_file()
    assert (package / "modelfiles" / "templates" / "v13.gotmpl").is_file()
    assert (package / "modelfiles" / "devstral-small-2507.Modelfile").is_file()


def test_it_has_a_console_script_and_carries_no_tests(installed: Path) -> None:
    (scripts,) = installed.glob("*.dist-info/entry_points.txt")
    assert "devstral-ollama = ollama_tools.__main__:main" in scripts.read_text()
    assert not (installed / "tests").exists()
