"""Ollama's own tests of its templates, asked of ours; they lie in the module that is built."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from ollama_tools.lint.engines import run_go
from ollama_tools.lint.gotemplate.data import names, parse_template
from tests.testbed import toolchain
from tests.testbed.build import NEWEST, Build

CONVERSATIONS = {
    "user": [{"role": "user", "content": "Hello, how are you?"}],
    "user-assistant-user": [
        {"role": "user", "content": "Hello, how are you?"},
        {"role": "assistant", "content": "I'm doing great. How can I help you today?"},
        {"role": "user", "content": "I'd like to show off how chat templating works!"},
    ],
}
CONVERSATIONS["system-user-assistant-user"] = [
    {"role": "system", "content": "You are a helpful assistant."},
    *CONVERSATIONS["user-assistant-user"],
]
# Ollama's test takes one blank off their end.
BLANK_AT_END = ("chatqa", "llama2-chat", "mistral-instruct", "openchat", "vicuna")


@pytest.fixture(scope="session")
def templates(newest_build: Build) -> Path:
    """Where Ollama's templates and their tests lie."""
    answer = subprocess.run(
        [toolchain.go(), "mod", "download", "-json", f"github.com/ollama/ollama@v{NEWEST}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return Path(json.loads(answer.stdout)["Dir"]) / "template"


def test_sixty_prompts_of_ollamas_own_templates_are_the_same(templates: Path) -> None:
    compared = 0
    for path in sorted(templates.glob("*.gotmpl")):
        conversations = [{"messages": each, "tools": []} for each in CONVERSATIONS.values()]
        rendered = run_go(path.read_text(encoding="utf-8"), conversations).rendered
        for name, found in zip(CONVERSATIONS, rendered, strict=True):
            wanted = (templates / "testdata" / path.name / name).read_bytes().decode()
            prompt = found.prompt or found.fault
            if path.stem in BLANK_AT_END:
                prompt = prompt.removesuffix(" ")
            assert prompt == wanted, f"{path.stem} {name}"
            compared += 1
    assert compared == 60


@pytest.mark.parametrize(
    ("template", "fields"),
    [
        ("{{ .System }} {{ .Prompt }}", {"prompt", "system"}),
        (
            '{{ range .Messages }}{{ if eq .Role "tool" }}{{ .ToolName }}{{ .Content }}{{ end }}'
            "{{ end }}",
            {"content", "messages", "role", "toolname"},
        ),
    ],
)
def test_fields_are_collected_as_ollama_does(template: str, fields: set[str]) -> None:
    assert names(parse_template(template)) == fields
