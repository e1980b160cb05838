"""The system prompt: which text a model gets, and whether a Modelfile can carry it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ollama_tools.devstral.carriers import CONTROL_TOKENS
from ollama_tools.devstral.catalog import Release
from ollama_tools.errors import FileProblem, HubError, UsageError
from ollama_tools.files import hub
from ollama_tools.files.digests import short_digest
from ollama_tools.files.packaged import data_path

LONGEST = 256 * 1024
"""Bytes of the longest system prompt taken; about 60,000 tokens, more than any context spares."""

BUNDLED = data_path("system", "devstral.txt")
"""The file of the prompt that comes with this package."""


class SystemOrigin(StrEnum):
    """Where a system prompt comes from."""

    HUB = "hub"
    BUNDLED = "bundled"
    FILE = "file"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class SystemPrompt:
    """A system prompt that a Modelfile can carry.

    Attributes:
        origin: Where it comes from.
        sha256: Hex digest of its text in UTF-8, without a final newline.
        text: The text; None where only its digest is known so far (see :func:`from_hub`).
    """

    origin: SystemOrigin
    sha256: str
    text: str | None


NO_SYSTEM = SystemPrompt(SystemOrigin.NONE, hashlib.sha256(b"").hexdigest(), "")


def system_prompt(text: str, origin: SystemOrigin, label: str) -> SystemPrompt:
    """Check a text and make it a system prompt.

    Args:
        text: The prompt; newlines at its end are dropped, since a file has one and a prompt none.
        origin: Where it comes from.
        label: What to call it in an error.

    Raises:
        UsageError: A Modelfile cannot carry the text unchanged, or it would break the prompt.
    """
    text = text.replace("\r\n", "\n").rstrip("\n")
    if not text.strip():
        raise UsageError(f"{label} is empty", "use --no-system for a model without a system prompt")
    if len(text.encode()) > LONGEST:
        raise UsageError(f"{label} is longer than {LONGEST // 1024} KiB", "shorten it")
    if '"""' in text:
        raise UsageError(
            f'{label} contains """, which a Modelfile cannot carry', "use another kind of quote"
        )
    for token in CONTROL_TOKENS:
        if token in text:
            raise UsageError(
                f"{label} contains {token}, which the tokenizer turns into a control token",
                "take it out of the text",
            )
    for position, character in enumerate(text):
        if not (character.isprintable() or character in "\n\t"):
            line = text.count("\n", 0, position) + 1
            raise UsageError(
                f"{label}, line {line}: the character U+{ord(character):04X} is not printable, "
                "and Ollama drops it from a Modelfile",
                "replace it by a plain character",
            )
    return SystemPrompt(origin, hashlib.sha256(text.encode()).hexdigest(), text)


def bundled() -> SystemPrompt:
    """The prompt that comes with this package, in its own words."""
    text = BUNDLED.read_text(encoding="utf-8")
    return system_prompt(text, SystemOrigin.BUNDLED, "the bundled system prompt")


def from_file(path: Path) -> SystemPrompt:
    """A prompt from a file in UTF-8.

    Raises:
        FileProblem: The file cannot be read, or is no text.
        UsageError: A Modelfile cannot carry the text.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LONGEST + 1)
        text = data.decode("utf-8-sig") if len(data) <= LONGEST else "x" * len(data)
    except OSError as error:
        raise FileProblem(
            f"cannot read the system prompt {path}: {error.strerror}", "check the path"
        ) from error
    except UnicodeDecodeError as error:
        raise FileProblem(
            f"the system prompt {path} is not UTF-8 (byte {error.start})", "save it as UTF-8"
        ) from error
    return system_prompt(text, SystemOrigin.FILE, f"the system prompt {path}")


def announced_by_hub(release: Release) -> SystemPrompt | None:
    """The hub's prompt for a release as the catalog knows it: by digest, without its text."""
    if release.system_prompt is None:
        return None
    return SystemPrompt(SystemOrigin.HUB, release.system_prompt.sha256, None)


def from_hub(release: Release) -> SystemPrompt:
    """The hub's prompt for a release, checked against the digest that the catalog has.

    Raises:
        HubError: The release has none, the hub does not give it, or it is another text.
    """
    known = release.system_prompt
    if known is None:
        raise HubError(
            f"no system prompt on the hub is known for {release.name}", "use --system bundled"
        )
    file = hub.HubFile(known.repository, known.filename)
    if (path := hub.cached(file)) and (found := _read_hub_file(path, file)).sha256 == known.sha256:
        return found
    # One question that fails at once: a download would try again for half a minute.
    hub.facts(file)
    found = _read_hub_file(hub.download(file), file)
    if found.sha256 != known.sha256:
        raise HubError(
            f"{known.repository}/{known.filename} has the sha256 {short_digest(found.sha256)}…, "
            f"the catalog expects {short_digest(known.sha256)}…",
            "the file has changed on the hub: read it, then use --system FILE, or --system bundled",
        )
    return found


def _read_hub_file(path: Path, file: hub.HubFile) -> SystemPrompt:
    text = path.read_bytes().decode("utf-8", errors="replace")
    return system_prompt(text, SystemOrigin.HUB, str(file))
