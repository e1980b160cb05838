"""Runs a Jinja chat template on conversations, as llama-server does, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ollama_tools.json_text import MalformedJson, parse_json
from ollama_tools.lint.gotemplate import TemplateFault

_MAX_SECONDS = 15.0
_WORKER = Path(__file__).with_name("jinja_worker.py")


@dataclass(frozen=True, slots=True)
class Rendered:
    """One conversation, rendered.

    Attributes:
        prompt: The prompt; None where the template failed.
        fault: Why it failed; empty where it did not.
        refused: Whether the template itself refused, by ``raise_exception``.
    """

    prompt: str | None
    fault: str = ""
    refused: bool = False


def run_jinja(template: str, conversations: Sequence[Mapping[str, Any]]) -> list[Rendered]:
    """Render conversations.

    Args:
        template: The template.
        conversations: Values of each: ``messages``, ``tools`` and the like.

    Raises:
        TemplateFault: It cannot be parsed, or does not come to an end.
    """
    request = json.dumps({"template": template, "conversations": list(conversations)})
    try:
        process = subprocess.run(
            # By its path, and apart from everything here: it shall import Jinja and nothing else.
            [sys.executable, "-I", str(_WORKER)],
            input=request.encode(),
            capture_output=True,
            timeout=_MAX_SECONDS,
            check=False,
        )
        answer = parse_json(process.stdout)
    except subprocess.TimeoutExpired:
        raise TemplateFault("it does not come to an end") from None
    except MalformedJson:
        raise TemplateFault("it takes too much time or memory") from None
    if "fault" in answer:
        raise TemplateFault(str(answer["fault"]), answer.get("line"))
    return [
        Rendered(each.get("prompt"), str(each.get("fault") or ""), bool(each.get("raised")))
        for each in answer["answers"]
    ]
