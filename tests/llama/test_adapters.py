"""LoRA adapters in llama.cpp's own programs: merged into a model, and applied where one is run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest

from ollama_tools.devstral.miniature import Script, write_miniature
from tests.llama.conftest import ROOT, Shell
from tests.testbed.adapter import TENSOR, write_adapter

QUESTION = ("--prompt", "Hi", "--no-system")


@pytest.fixture
def base(shell: Shell) -> Path:
    """A miniature, and beside it the adapter by which it swaps its answers."""
    path = shell.directory / "devstral-2507.gguf"
    write_miniature(path, layers=1, heads=1, kv_heads=1)
    write_adapter(shell.directory / "lora.gguf", path)
    return path


def said(shell: Shell, *arguments: str) -> str:
    line = shell.printed(*arguments, "--target", "llama-completion", *QUESTION)
    done = shell.run(line)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_merged_model_says_what_the_adapter_makes_it_say(shell: Shell, base: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "ollama_tools", "merge", f"./{base.name}"),
            *("--adapter", "lora.gguf", "--output", "devstral-2507-merged.gguf"),
        ],
        cwd=shell.directory,
        env={**shell.env, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "1 tensors changed by lora.gguf" in done.stdout
    before, after = (
        {each.name: each.data for each in gguf.GGUFReader(path).tensors}
        for path in (base, shell.directory / "devstral-2507-merged.gguf")
    )
    assert before.keys() == after.keys()
    for name, data in before.items():
        wanted = data.copy()
        if name == TENSOR:
            wanted[[-2, -1]] = data[[-1, -2]]
        assert np.allclose(after[name], wanted, atol=0.01)
    assert Script().plain in said(shell, f"./{base.name}")
    assert Script().after_result in said(shell, "./devstral-2507-merged.gguf")


def test_an_adapter_is_applied_where_a_model_is_run(shell: Shell, base: Path) -> None:
    assert Script().after_result in said(shell, f"./{base.name}", "--adapter", "lora.gguf")


def test_what_a_header_says_wrongly_is_read_rightly(shell: Shell, base: Path) -> None:
    from ollama_tools.files.gguf_rewrite import Setting
    from tests.testbed.tunes import spoil

    wrong = (
        Setting("tokenizer.ggml.add_eos_token", value=True),
        Setting("tokenizer.ggml.add_bos_token", value=False),
        Setting("tokenizer.ggml.eos_token_id", 11),
        Setting("tokenizer.ggml.pre", "default"),
    )
    spoilt = spoil(base, shell.directory / "devstral-2507-spoilt.gguf", *wrong)
    prompts = []
    for path in (base, spoilt):
        line = shell.printed(f"./{path.name}", "--target", "llama-completion", *QUESTION)
        done = shell.run(f"{line.rstrip()} --verbose-prompt")
        assert done.returncode == 0, done.stderr
        assert Script().plain in done.stdout
        prompts.append([each for each in done.stderr.splitlines() if " -> '" in each])
    assert prompts[0]
    assert [len(each) for each in prompts] == [len(prompts[0])] * 2
    assert [each.split()[-3:] for each in prompts[0]] == [each.split()[-3:] for each in prompts[1]]
