"""``python -m docs.collection`` writes ansible/roles.md out of the roles' argument specs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROLES = Path(__file__).parents[1] / "ansible" / "roles"
TARGET = ROLES.parent / "roles.md"
# In the order in which a host meets them.
_ORDER = ("ollama_server", "devstral_tools", "devstral_model")
_HEAD = """# Roles

Written by `make docs` out of the roles' argument specs; a test holds it to them.
"""


def argument_spec(role: str) -> dict[str, Any]:
    """What a role's ``meta/argument_specs.yml`` says of its entry point ``main``."""
    text = (ROLES / role / "meta" / "argument_specs.yml").read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.safe_load(text)["argument_specs"]["main"]
    return found


def _text(words: str | list[str]) -> str:
    """A description as Markdown; Ansible's own markup becomes code."""
    joined = " ".join([words] if isinstance(words, str) else words)
    plain = " ".join(joined.split()).replace("<", "&lt;").replace("|", "\\|")
    return re.sub(r"\b[CVOPIME]\(([^)]*)\)", r"`\1`", plain)


def _kind(option: Mapping[str, Any]) -> str:
    if choices := option.get("choices"):
        return " · ".join(f"`{each}`" if each else "empty" for each in choices)
    if option.get("elements"):
        return f"list of {option['elements']}"
    return str(option.get("type", "str"))


def _default(option: Mapping[str, Any]) -> str:
    if option.get("required"):
        return "**needed**"
    value = option.get("default")
    if value is None or value == "":
        return ""
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _role(role: str) -> Iterator[str]:
    spec = argument_spec(role)
    yield f"## {role}"
    yield ""
    yield f"{_text(spec['short_description'])}."
    for paragraph in spec["description"]:
        yield ""
        yield _text(paragraph)
    yield ""
    yield "| variable | meaning | type | default |"
    yield "|---|---|---|---|"
    for name, option in spec["options"].items():
        cells = (f"`{name}`", _text(option["description"]), _kind(option), _default(option))
        yield f"| {' | '.join(cells)} |".replace("|  |", "| |")


def markdown() -> str:
    """The variables of every role."""
    found = {path.name for path in ROLES.iterdir()}
    roles = [*_ORDER, *sorted(found - set(_ORDER))]
    return "\n".join([_HEAD, "\n\n".join("\n".join(_role(each)) for each in roles), ""])


if __name__ == "__main__":
    TARGET.write_text(markdown(), encoding="utf-8")
