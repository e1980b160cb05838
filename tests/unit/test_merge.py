"""Merging an adapter: what is refused before anything runs, and what is left where it fails."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from ollama_tools.devstral.catalog_file import load_catalog
from ollama_tools.devstral.miniature import write_miniature
from ollama_tools.errors import DevstralError, FileProblem, UsageError
from ollama_tools.files.adapter import merged_bytes, read_adapter
from ollama_tools.files.gguf import read_layout
from ollama_tools.files.packaged import data_path
from ollama_tools.model import merge as merging
from ollama_tools.model.merge import Merged
from ollama_tools.model.refusals import SPARE
from ollama_tools.progress import Silence
from tests.testbed.adapter import TENSOR, write_adapter
from tests.testbed.tunes import write_header

ROOT = Path(__file__).parents[2]
CATALOG = load_catalog(data_path("catalog.yaml"))
HELP = "--version\n-m, --model FNAME  model\n--lora FNAME  adapter\n-o, --output FNAME  file\n"
COPY = 'cp "$2" "$6"'
"""What ends well and has written a whole model; the real program's work is tried elsewhere."""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "base.gguf"
    write_miniature(path, layers=1, heads=1, kv_heads=1)
    return path


@pytest.fixture
def adapter(tmp_path: Path, base: Path) -> Path:
    path = tmp_path / "lora.gguf"
    write_adapter(path, base)
    return path


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str], str]:
    """A stand-in for llama-export-lora that does what it is told, for faults that one cannot be
    made to show.
    """

    def made(does: str, said: str = HELP) -> str:
        (tmp_path / "help").write_text(said)
        path = tmp_path / "llama-export-lora"
        path.write_text(
            f'#!/bin/sh\ncase "$1" in --help) cat {shlex.quote(str(tmp_path / "help"))};; '
            f'--version) echo "version: 1";; *) {does};; esac\n'
        )
        path.chmod(0o755)
        return str(path)

    return made


def merge(base: Path, adapter: Path, program: str | None, target: Path) -> Merged:
    return merging.merge(str(base), adapter, CATALOG, Silence(), output=target, program=program)


def left(directory: Path) -> set[str]:
    return {each.name for each in directory.iterdir()}


def test_what_was_merged_appears_whole(
    tmp_path: Path, base: Path, adapter: Path, program: Callable[[str], str]
) -> None:
    target = tmp_path / "merged.gguf"
    made = merge(base, adapter, program(COPY), target)
    assert made.as_json() == {
        "path": str(target),
        "bytes": base.stat().st_size,
        "base": str(base),
        "adapter": str(adapter),
        "tensors": 1,
        "program": f"{tmp_path}/llama-export-lora 1",
    }
    assert "incomplete" not in " ".join(left(tmp_path))


@pytest.mark.parametrize(
    ("does", "message"),
    [
        ("echo 'tensor x is odd' >&2; exit 1", "failed: tensor x is odd"),
        (f"{COPY}; exit 3", "failed: exit code 3"),
        ("true", "wrote no whole model"),
        ('head -c 100000 "$2" > "$6"', "wrote no whole model"),
        ('cp "$4" "$6"', "wrote 2 of"),
        ("kill -KILL $$", "failed: exit code -9"),
    ],
)
def test_what_fails_leaves_nothing(
    tmp_path: Path,
    base: Path,
    adapter: Path,
    program: Callable[[str], str],
    does: str,
    message: str,
) -> None:
    path = program(does)
    before = left(tmp_path)
    with pytest.raises(FileProblem, match=message):
        merge(base, adapter, path, tmp_path / "merged.gguf")
    assert left(tmp_path) == before


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_merge_that_is_stopped_leaves_nothing_and_nobody(
    tmp_path: Path,
    base: Path,
    adapter: Path,
    program: Callable[[str], str],
    sent: signal.Signals,
) -> None:
    pid = tmp_path / "pid"
    path = program(f"{COPY}; echo $$ > {shlex.quote(str(pid))}; exec sleep 600")
    running = subprocess.Popen(
        [
            *(sys.executable, "-m", "ollama_tools", "merge", str(base)),
            *("--adapter", str(adapter), "--output", "merged.gguf", "--program", path),
        ],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        stderr=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + 60
    while not (pid.exists() and pid.read_text().strip()) and time.monotonic() < end:
        time.sleep(0.05)
    assert [each for each in left(tmp_path) if each.endswith(".incomplete")]
    running.send_signal(sent)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130, said
    assert not [each for each in left(tmp_path) if "merged" in each]
    assert not Path("/proc", pid.read_text().strip()).exists()


def test_an_interrupt_as_the_program_begins_leaves_nobody(
    tmp_path: Path,
    base: Path,
    adapter: Path,
    program: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun: list[int] = []

    class Interrupted(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **more: Any) -> None:
            super().__init__(*args, **more)
            if "start_new_session" in more:
                begun.append(self.pid)
                os.kill(os.getpid(), signal.SIGINT)

    path = program("exec sleep 600")
    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        merge(base, adapter, path, tmp_path / "merged.gguf")
    assert len(begun) == 1
    assert not Path("/proc", str(begun[0])).exists()


def test_a_program_that_is_not_there_is_named_with_the_line_and_where_to_get_it(
    tmp_path: Path, base: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="there is no program 'llama-export-lora'") as caught:
        merge(base, adapter, None, tmp_path / "merged.gguf")
    assert "https://github.com/ggml-org/llama.cpp/releases" in caught.value.fix
    line = f"llama-export-lora --model {base} --lora {adapter} --output {tmp_path}/merged.gguf"
    assert caught.value.fix.endswith(line)


def test_a_program_that_is_too_old_is_named_with_the_option(
    tmp_path: Path, base: Path, adapter: Path, program: Callable[..., str]
) -> None:
    old = program(COPY, "--version\n-m, --model FNAME  model\n--lora FNAME  adapter\n")
    with pytest.raises(UsageError, match="has no --output: it is too old"):
        merge(base, adapter, old, tmp_path / "merged.gguf")


def test_an_output_that_is_there_is_not_written_over(
    tmp_path: Path, base: Path, adapter: Path, program: Callable[[str], str]
) -> None:
    target = tmp_path / "merged.gguf"
    target.write_text("mine")
    with pytest.raises(FileProblem, match="is there already"):
        merge(base, adapter, program(COPY), target)
    # Also where it comes while the program runs.
    target.unlink()
    with pytest.raises(FileProblem, match="is there already"):
        merge(base, adapter, program(f"{COPY}; echo mine > {target}"), target)
    assert target.read_text() == "mine\n"


def test_room_is_looked_for_before(
    tmp_path: Path,
    base: Path,
    adapter: Path,
    program: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layout = read_layout(base)
    needed = merged_bytes(read_adapter(adapter, "llama"), layout)
    assert (
        needed
        == layout.size + 2 * layout.tensors[TENSOR].shape[0] * (layout.tensors[TENSOR].shape[1])
    )
    free = needed + SPARE - 1
    usage = shutil.disk_usage(tmp_path)._replace(free=free)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(FileProblem, match="the merged model takes up to"):
        merge(base, adapter, program("exit 9"), tmp_path / "merged.gguf")


# What does not belong together


def write_pair(
    path: Path,
    a: tuple[int, ...],
    b: tuple[int, ...] | None,
    *,
    name: str = TENSOR,
    kind: str = "lora",
    dtype: type = np.float32,
) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", kind)
    writer.add_tensor(f"{name}.lora_a", np.zeros(a, dtype=dtype))
    if b is not None:
        writer.add_tensor(f"{name}.lora_b", np.zeros(b, dtype=dtype))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: write_pair(path, (8, 32), (1260, 8)), None),
        (lambda path: write_pair(path, (8, 1260)[::-1], (32, 8), name="token_embd.weight"), None),
        (lambda path: write_pair(path, (8, 64), (1260, 8)), "changes output.weight of 64x1260"),
        (lambda path: write_pair(path, (8, 32), (1261, 8)), "has 32x1260"),
        (lambda path: write_pair(path, (8, 32), (1260, 4)), "do not fit each other"),
        (lambda path: write_pair(path, (8, 32), (32, 8), name="blk.9.x"), "base.gguf has none"),
        (lambda path: write_pair(path, (8, 32), None), "has no output.weight.lora_b"),
        (lambda path: write_pair(path, (8, 32), (1260, 8), kind="ia3"), "of the type 'ia3'"),
        (lambda path: write_pair(path, (8, 32), (1260, 8), dtype=np.int8), "is quantized"),
        (lambda path: write_header(path, **{"general.type": "adapter"}), "of the type None"),
        (write_header, "is no adapter"),
        (lambda path: path.write_text("x"), "not a GGUF"),
        (lambda path: None, "No such file"),
    ],
)
def test_an_adapter_is_held_to_the_model(
    tmp_path: Path,
    base: Path,
    program: Callable[[str], str],
    write: Callable[[Path], object],
    message: str | None,
) -> None:
    path = tmp_path / "a.gguf"
    write(path)
    target = tmp_path / "merged.gguf"
    if message is None:
        assert merge(base, path, program(COPY), target).tensors == 1
        return
    with pytest.raises(FileProblem, match=message):
        merge(base, path, program("exit 9"), target)


def test_an_adapter_of_another_architecture_is_refused_without_a_download(
    tmp_path: Path, base: Path
) -> None:
    path = tmp_path / "a.gguf"
    write_adapter(path, base, architecture="mistral3")
    with pytest.raises(FileProblem, match="trained on the architecture 'mistral3'"):
        merging.merge("UD-Q4_K_XL", path, CATALOG, Silence())


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "lora"])
def test_what_training_leaves_is_told_from_a_gguf(tmp_path: Path, base: Path, name: str) -> None:
    path = tmp_path / name
    if path.suffix:
        path.write_bytes(b"x")
    else:
        path.mkdir()
    with pytest.raises(FileProblem, match="as training leaves it") as caught:
        merge(base, path, None, tmp_path / "merged.gguf")
    assert "convert_lora_to_gguf.py" in caught.value.fix


def test_what_is_no_base_is_refused_for_what_it_is(
    tmp_path: Path, base: Path, adapter: Path
) -> None:
    with pytest.raises(DevstralError, match="is a LoRA adapter, and no model"):
        merge(adapter, adapter, None, tmp_path / "merged.gguf")
