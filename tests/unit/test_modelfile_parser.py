"""Modelfile text, read as Ollama reads it."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_tools.errors import FileProblem
from ollama_tools.lint import lint_modelfile
from ollama_tools.server.modelfile_text import FaultKind, Modelfile, parse_modelfile, read_text

MODELFILES = Path(__file__).parents[2] / "modelfiles"

SNIPPETS = st.sampled_from(
    [
        "FROM x\n",
        "from\ty",
        "PARAMETER num_ctx 4096\n",
        "PARAMETER",
        'SYSTEM """',
        '"""',
        '"',
        "\r\n",
        "\r",
        "\n",
        "# noqa: DV101\n",
        "# lint: ignore=DV3\n",
        'TEMPLATE """{{ range .Messages }}',
        "{{ end }}",
        "{{- if .ToolCalls -}}",
        "{{ /* */ }}",
        "[TOOL_CALLS]",
        "\u200b",
        "\u2028",
        "\ufeff",
        "MESSAGE user hi\n",
        "PARSER ministral\n",
    ]
)
TEXTS = st.lists(SNIPPETS | st.text(max_size=12), max_size=14).map("".join)


def values(text: str) -> list[tuple[str, str, str]]:
    return [(each.name, each.key, each.value) for each in parse_modelfile(text).instructions]


def fault(text: str) -> tuple[FaultKind, int]:
    found = parse_modelfile(text).faults
    assert len(found) == 1
    return found[0].kind, found[0].line


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM x", ("FROM", "", "x")),
        ("from  x  \n", ("FROM", "", "x")),
        ("\t FrOm\tx", ("FROM", "", "x")),
        ('FROM x\nSYSTEM "a b "', ("SYSTEM", "", "a b ")),
        ('FROM x\nSYSTEM """a\n\nb"""\n', ("SYSTEM", "", "a\n\nb")),
        ('FROM x\nSYSTEM "a\nb"\n', ("SYSTEM", "", "a\nb")),
        ('FROM x\nSYSTEM """say "hi" """\n', ("SYSTEM", "", 'say "hi" ')),
        ('FROM x\nSYSTEM """a """ b"""', ("SYSTEM", "", 'a """ b')),
        ("FROM x\nSYSTEM # no comment", ("SYSTEM", "", "# no comment")),
        ("FROM x\nPARAMETER num_ctx 4096 # small", ("PARAMETER", "num_ctx", "4096 # small")),
        ('FROM x\nPARAMETER stop "[INST]"', ("PARAMETER", "stop", "[INST]")),
        ("FROM x\nMESSAGE user Hi there", ("MESSAGE", "user", "Hi there")),
        ("FROM x\r\nPARSER ministral\r\n", ("PARSER", "", "ministral")),
        ("FROM x\nSYSTEM a\u00a0b", ("SYSTEM", "", "ab")),
        ("\ufeffFROM x", ("FROM", "", "x")),
    ],
)
def test_a_value_is_what_ollama_takes(text: str, expected: tuple[str, str, str]) -> None:
    assert values(text)[-1] == expected
    assert parse_modelfile(text).faults == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", (FaultKind.NO_FROM, 1)),
        ("# FROM x\n", (FaultKind.NO_FROM, 1)),
        ("FROM x\n\nFORM y\n", (FaultKind.INSTRUCTION, 3)),
        ("FROM x\nPARSER\n", (FaultKind.INSTRUCTION, 2)),
        ("FROM x\nPARAMETER num_ctx\n", (FaultKind.NAME, 2)),
        ("FROM x\nPARAMETER num-ctx 3\n", (FaultKind.NAME, 2)),
        ("FROM x\nMESSAGE tool hi\n", (FaultKind.NAME, 2)),
        ('FROM x\nSYSTEM """a\nPARAMETER top_k 3\n', (FaultKind.QUOTE, 2)),
        ('FROM x\nSYSTEM """"\n', (FaultKind.QUOTE, 2)),
        ('FROM x\rSYSTEM "a\r', (FaultKind.QUOTE, 2)),
    ],
)
def test_what_ollama_refuses_is_said_with_its_line(
    text: str, expected: tuple[FaultKind, int]
) -> None:
    assert fault(text) == expected


def test_after_a_fault_the_rest_is_read_all_the_same() -> None:
    found = parse_modelfile("FORM x\nFROM y\nPARAMETR a 1\nPARAMETER top_k 1\n")
    assert [each.line for each in found.faults] == [1, 3]
    assert [each.line for each in found.instructions] == [2, 4]


def test_lines_of_a_long_value() -> None:
    text = 'FROM x\n# a comment\nSYSTEM """one\ntwo\u200b\nthree"""\nPARSER ministral\n'
    found = parse_modelfile(text)
    system = found.last("SYSTEM")
    assert system is not None
    assert (system.line, system.last_line, system.dropped) == (3, 5, (("\u200b", 4),))
    assert found.comments == {2: "a comment"}


@given(TEXTS)
def test_any_text_is_read_to_its_end(text: str) -> None:
    found = parse_modelfile(text)
    assert isinstance(found, Modelfile)
    lines = [each.line for each in found.instructions]
    assert lines == sorted(lines)
    assert found.instructions or found.faults


@given(TEXTS)
def test_any_text_can_be_linted(text: str) -> None:
    for each in lint_modelfile(text):
        assert each.message
        assert each.fix
        assert each.line is None or each.line >= 1


@given(st.binary(max_size=200))
def test_any_file_is_text_or_a_clean_refusal(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.mktemp("file") / "Modelfile"
    path.write_bytes(data)
    with contextlib.suppress(FileProblem):
        assert isinstance(read_text(path), str)


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(FileProblem, match="not a file"):
        read_text(tmp_path)
    with pytest.raises(FileProblem, match="cannot be read"):
        read_text(tmp_path / "nothing")
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(5 << 20)
    with pytest.raises(FileProblem, match="bytes are no Modelfile") as caught:
        read_text(large)
    assert "cannot be read" not in caught.value.what


def test_utf_16_is_read_as_ollama_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "Modelfile"
    path.write_bytes("FROM x\n".encode("utf-16"))
    assert read_text(path) == "FROM x\n"


def test_our_own_are_read_whole() -> None:
    paths = list(MODELFILES.glob("*.Modelfile"))
    assert len(paths) == 4
    for path in paths:
        found = parse_modelfile(read_text(path))
        assert found.faults == ()
        assert {each.name for each in found.instructions} >= {"FROM", "SYSTEM", "TEMPLATE"}
