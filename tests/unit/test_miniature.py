"""The miniature and the speaker, byte for byte; that they do as they should is shown on servers."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import pytest

from ollama_tools.devstral.miniature import Output, Script, write_miniature, write_speaker
from ollama_tools.files.gguf import parse_layout, read_header
from ollama_tools.files.gguf_writer import Kind, Tensor, Value, write_gguf

# Made by the gguf package with numpy, before there was a writer of our own.
MINIATURES: list[tuple[dict[str, Any], str]] = [
    (
        {"layers": 1, "heads": 1, "kv_heads": 1},
        "6eb18fc75e4f2c536c2a37489431a4bcded2ef14c865b300dc6d352c356c3f65",
    ),
    (
        {
            "layers": 1,
            "heads": 1,
            "kv_heads": 1,
            "chat_template": "{{ é }}",
            "name": "Devstral-Small-2507",
            "architecture": "mistral3",
        },
        "bef76c06cb6ab93d1551b64c8988a396607703db2fd3f8fe0f24d4fc5a705289",
    ),
    (
        {"layers": 2, "heads": 1, "kv_heads": 1, "script": Script(form="v7")},
        "936247c1ee8be3b1df8daffe383cf5898b7e6f1a56b1df2509aa957d5ec237bb",
    ),
    (
        {"layers": 2, "heads": 8, "kv_heads": 8, "filler": 4097},
        "148251aeec0eeb2f73b76cf126dae65731c864a9e23902a898321079ef0e92a8",
    ),
    ({}, "e23759e06a7c6a7ca21d0b649ba6fa9695e07b61e46eab199ef3819f7446c9e2"),
]
SPEAKERS: list[tuple[Output | Mapping[str, Output], str | None, str]] = [
    ("Hello.", None, "45aad38e14c63d4693b1ad37d4d2971acf67c745b563cd31d969d222bd7e7adc"),
    (
        'Look.[TOOL_CALLS]one[ARGS]{}[TOOL_CALLS]two[ARGS]{"a": 1}',
        "x",
        "34d706ddeb6788504ebefb9944037aeb534256e305fabf00550c2e89c39c263f",
    ),
    (
        {
            f"cue {i}": f'answer {i}[TOOL_CALLS]t{i}[ARGS]{{"t": {i}}}'
            f'[TOOL_CALLS]u{i}[ARGS]{{"u": {i}}}'
            for i in range(40)
        },
        None,
        "534d77f090810be02e0ef43569e460fa0d073c7a72ce9bdd78f3af0210826011",
    ),
    (
        {f"q{i}": [f"a{i}", "[TOOL_CALLS]", f"b{i}", "[ARGS]", f"c{i}"] for i in range(140)},
        None,
        "e28135cda7faa842c634c13c34c4cc8e4a49ae184d879c391756ba813f2512f6",
    ),
]


@pytest.mark.parametrize(("given", "digest"), MINIATURES)
def test_a_miniature_has_the_bytes_that_it_always_had(
    given: dict[str, Any], digest: str, tmp_path: Path
) -> None:
    path = tmp_path / "model.gguf"
    write_miniature(path, **given)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == digest


@pytest.mark.parametrize(("output", "template", "digest"), SPEAKERS)
def test_a_speaker_has_the_bytes_that_it_always_had(
    output: Output | Mapping[str, Output], template: str | None, digest: str, tmp_path: Path
) -> None:
    path = tmp_path / "model.gguf"
    write_speaker(path, output, chat_template=template)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == digest


def test_making_one_needs_no_package_but_this_one(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; sys.modules.update(numpy=None, gguf=None)\n"
        "from ollama_tools.devstral.miniature import write_miniature\n"
        "write_miniature(Path(sys.argv[1]), layers=1)"
    )
    path = tmp_path / "model.gguf"
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
    assert read_header(path).shape().layers == 1


def test_what_is_written_is_what_the_gguf_package_reads(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    matrix = Tensor(2, 3, Kind.F16)
    matrix[1, 2] = 0.5
    vector = Tensor(None, 5, Kind.F32)
    vector.fill(0, [1.0, 0.1])
    metadata: dict[str, Value] = {
        "general.architecture": "llama",
        "number": 7,
        "fraction": 0.25,
        "yes": True,
        "texts": ["é", ""],
        "signed": [-1, 2],
    }
    write_gguf(path, metadata, {"m": matrix, "v": vector, "again": vector}, filler=3)
    reader = gguf.GGUFReader(path)
    assert {key: reader.fields[key].contents() for key in metadata} == metadata
    found = {each.name: each.data.tolist() for each in reader.tensors}
    assert found["m"] == [[0, 0, 0], [0, 0, 0.5]]
    assert found["v"] == found["again"] == pytest.approx([1, 0.1, 0, 0, 0])
    with path.open("rb") as opened:
        layout = parse_layout(opened, path.stat().st_size, "x.gguf")
    assert layout.size == layout.data_start + 32 + 32 + 32 + 3


@pytest.mark.parametrize("place", [(2, 0), (0, 3), (-1, 0), (0, -1)])
def test_an_element_outside_of_a_tensor_is_refused(place: tuple[int, int]) -> None:
    with pytest.raises(IndexError):
        Tensor(2, 3, Kind.F32)[place] = 1.0
