"""Models that differ in their template alone: ours in each place, and what people use today."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ollama_tools.devstral.carriers import go_template
from ollama_tools.devstral.catalog import TokenizerVersion
from ollama_tools.devstral.miniature import Output, write_speaker
from ollama_tools.files.packaged import data_path
from ollama_tools.server.client import Server
from tests.testbed.build import ollama_build
from tests.testbed.models import TEMPLATES
from tests.testbed.server import OllamaServer

_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Contender:
    """A template in a place.

    Attributes:
        label: What the report calls it.
        name: Name of its model.
        jinja: Chat template in the GGUF; None leaves it out.
        go: Go template, with ``PARSER ministral``.
    """

    label: str
    name: str
    jinja: str | None = None
    go: str | None = None


def contenders() -> list[Contender]:
    """Ours first, then templates with the tools at the last user message."""
    ours = data_path("templates", "v13.jinja").read_text(encoding="utf-8")
    last_user = (_HERE / "last_user.gotmpl").read_text(encoding="utf-8").rstrip("\n")
    return [
        Contender("ours, gguf", "ours:gguf", jinja=ours),
        Contender("as published, hub", "published:hub", jinja=_bed("published")),
        Contender("ours, modelfile", "ours:modelfile", go=go_template(TokenizerVersion.V13)),
        Contender("tools at last user, Jinja", "last-user:hub", jinja=_bed("broken")),
        Contender("tools at last user, Go", "last-user:modelfile", go=last_user),
    ]


def _bed(name: str) -> str:
    return (TEMPLATES / f"{name}.jinja").read_text(encoding="utf-8")


@contextmanager
def server_with(models: Sequence[Contender], output: Output, context: int) -> Iterator[Server]:
    """A server of the newest release with a model for each; every one says the same."""
    with tempfile.TemporaryDirectory(prefix="bench-") as temporary:
        root = Path(temporary)
        with (
            OllamaServer(
                ollama_build(),
                models_dir=root / "models",
                log_path=root / "ollama.log",
                env={"OLLAMA_MAX_LOADED_MODELS": "8", "OLLAMA_KEEP_ALIVE": "-1"},
            ) as bed,
            Server(bed.url) as server,
        ):
            for each in models:
                path = root / "speaker.gguf"
                write_speaker(path, output, chat_template=each.jinja, name=each.name)
                digest = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
                server.upload(path, digest, lambda *_: None)
                request: dict[str, Any] = {
                    "model": each.name,
                    "files": {"speaker.gguf": digest},
                    "parameters": {"num_ctx": context, "temperature": 0, "num_thread": 1},
                }
                if each.go is not None:
                    request |= {"template": each.go, "parser": "ministral"}
                server.create(request, lambda *_: None)
            yield server
