"""What programs read is what the reference says; outputs that need a server are held in live/."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer

from docs import outputs
from docs.generate import all_commands
from ollama_tools import __main__ as entry
from ollama_tools.checks.result import CheckResult, Report, Status
from ollama_tools.cli.app import app
from ollama_tools.lint import lint_modelfile
from ollama_tools.server.origin import Origin

MODELFILE = "FROM ./none.gguf\nTEMPLATE x\n"


def test_the_reference_is_what_the_types_say() -> None:
    assert outputs.TARGET.read_text(encoding="utf-8") == outputs.markdown(), "run: make docs"


def test_every_command_is_in_it() -> None:
    group: Any = typer.main.get_command(app)
    # One serves until it is told to stop, and has nothing to print.
    assert {*outputs.OUTPUTS, "gateway"} == {name for name, _ in all_commands(group)}


@pytest.mark.parametrize(
    "arguments",
    [
        ["env"],
        ["quants"],
        ["render", "UD-Q4_K_XL"],
        ["render", "--check"],
        ["render", "--all", "--directory", "all"],
        ["render", "--target", "systemd"],
        ["render", "UD-Q4_K_XL", "--target", "llama-cli"],
        ["render", "UD-Q4_K_XL", "--target", "llama-server-preset"],
        ["render", "--prompt", "Hi"],
        ["serve", "--dry-run"],
        ["lint", "Modelfile"],
        ["env", "--nosuch"],
        ["render", "nosuch:quant:at:all"],
    ],
)
def test_a_command_prints_the_fields_of_its_document(
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    program = tmp_path / "ollama"
    program.write_text("#!/bin/sh\necho ollama version is 0.34.4\n")
    program.chmod(0o755)
    (tmp_path / "Modelfile").write_text(MODELFILE)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.chdir(tmp_path)
    entry.run([*arguments, "--json"])
    document = json.loads(capsys.readouterr().out)
    assert list(outputs.faults(document, outputs.form_of(arguments, document))) == []


@pytest.mark.parametrize(
    ("form", "made"),
    [
        ("OriginJson", Origin("me/x", "a.gguf", None, "0" * 40, "1" * 64).as_json()),
        ("FindingJson", lint_modelfile(MODELFILE)[0].as_json()),
        (
            "ReportJson",
            Report("x", "http://x", "0.34.4", (CheckResult("a", Status.PASS, "b"),)).as_json(),
        ),
    ],
)
def test_a_part_that_is_missing_added_or_of_another_kind_is_seen(
    form: str, made: dict[str, Any]
) -> None:
    [declared] = [each for name, each in outputs.classes().items() if name == form]
    assert list(outputs.faults(made, declared)) == []
    assert list(outputs.faults({**made, "more": 1}, declared)) == ["$ has more beside its form"]
    for field, value in made.items():
        less = {key: each for key, each in made.items() if key != field}
        assert list(outputs.faults(less, declared)) == [f"$ has no {field}"]
        other = () if isinstance(value, list | dict) else [value]
        assert any(
            each.startswith(f"$.{field}")
            for each in outputs.faults({**made, field: other}, declared)
        )
