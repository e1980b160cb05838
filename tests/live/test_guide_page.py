"""The page about Unsloth's guide: what it lets a person type beside this package's commands."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "from-the-unsloth-guide.md"
RELEASES = "https://github.com/ollama/ollama/releases/download"


def install_lines() -> str:
    """The lines that install Ollama for one person, as a script that stops where one fails."""
    block = PAGE.read_text(encoding="utf-8").split("```console")[1].split("```")[0]
    lines = re.findall(r"^\$ (.*)$", block, re.MULTILINE)
    assert lines[-1].startswith("devstral-ollama serve --ollama ~/.local/bin/ollama")
    return "\n".join(["set -e", *lines[:-1]])


@pytest.mark.parametrize("right", [True, False])
def test_ollama_is_installed_for_one_person_if_its_checksum_is_right(
    httpserver: HTTPServer, tmp_path: Path, right: bool
) -> None:
    tree = tmp_path / "tree"
    for name in ("bin/ollama", "lib/ollama/llama-server"):
        (tree / name).parent.mkdir(parents=True)
        (tree / name).write_text("#!/bin/sh\necho ollama\n")
        (tree / name).chmod(0o755)
    archive = tmp_path / "a.tar.zst"
    subprocess.run(["tar", "--zstd", "-cf", archive, "-C", tree, "."], check=True)
    digest = hashlib.sha256(archive.read_bytes() if right else b"").hexdigest()
    sums = f"{'0' * 64}  ./ollama-darwin.tgz\n{digest}  ./ollama-linux-amd64.tar.zst\n"
    httpserver.expect_request("/v0.34.4/ollama-linux-amd64.tar.zst").respond_with_data(
        archive.read_bytes()
    )
    httpserver.expect_request("/v0.34.4/sha256sum.txt").respond_with_data(sums)
    script = install_lines()
    assert RELEASES in script
    home = tmp_path / "home"
    home.mkdir()
    done = subprocess.run(
        ["sh", "-c", script.replace(RELEASES, httpserver.url_for("").rstrip("/"))],
        cwd=home,
        env={"PATH": os.environ["PATH"], "HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    program = home / ".local" / "bin" / "ollama"
    assert (done.returncode == 0, program.exists()) == (right, right), done.stderr
    if right:
        assert os.access(program, os.X_OK)
        assert (home / ".local" / "lib" / "ollama" / "llama-server").exists()
