"""``python -m docs.collection`` writes what the collection says of a model, and ansible/roles.md.

The first comes out of :class:`ollama_tools.wanted.wish.Wish`, the second out of the roles'
argument specs.
"""

from __future__ import annotations

import dataclasses
import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from ollama_tools.declared import choice
from ollama_tools.wanted.wish import Wish

ROLES = Path(__file__).parents[1] / "ansible" / "roles"
TARGET = ROLES.parent / "roles.md"
# In the order in which a host meets them.
_ORDER = ("ollama_server", "devstral_tools", "devstral_model")
_HEAD = """# Roles

Written by `make docs` out of the roles' argument specs; a test holds it to them.
"""


_BEGIN, _END = "# From Wish, by make docs: begin", "# From Wish, by make docs: end"
_GENERATED = "Written by make docs out of the package's Wish; a test holds it to that."


class _Indented(yaml.SafeDumper):
    """Writes lists below their key and further in, as the collection's own files do."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        """See the base; ``indentless`` is what this is about."""
        del indentless
        super().increase_indent(flow, indentless=False)


def wish_arguments() -> dict[str, dict[str, Any]]:
    """The argument spec of everything that can be said of a model."""
    found = {}
    for field in dataclasses.fields(Wish):
        told = choice(field)
        option: dict[str, Any] = {"type": _ansible_type(get_type_hints(Wish)[field.name])}
        if told.choices:
            option["choices"] = [str(each) for each in told.choices]
        if told.secret:
            option["no_log"] = True
        found[field.name] = option
    return found


def _ansible_type(hint: Any) -> str:
    words = str(hint)
    if "Mapping" in words:
        return "dict"
    return "bool" if "bool" in words else "str"


def _described() -> dict[str, dict[str, Any]]:
    """The same with its documentation, as Ansible reads it."""
    told = {field.name: choice(field) for field in dataclasses.fields(Wish)}
    return {
        name: {"description": [told[name].help, *told[name].more], **option}
        for name, option in wish_arguments().items()
    }


def generated() -> dict[Path, str]:
    """Every file of the collection that says what can be said of a model, as it should be."""
    plugins = ROLES.parent / "plugins"
    role = ROLES / "devstral_model"
    spec = yaml.dump(_described(), Dumper=_Indented, sort_keys=False, allow_unicode=True, width=88)
    handed = [
        f'{name}: "{{{{ devstral_model.{name} | default(omit) }}}}"' for name in wish_arguments()
    ]
    return {
        plugins / "module_utils" / "wish.py": (
            f'"""The arguments that say which model is wanted.\n\n{_GENERATED}\n"""\n\n'
            f"from __future__ import annotations\n\nWISH = {{\n{''.join(_python_lines())}}}\n"
        ),
        plugins / "doc_fragments" / "wish.py": (
            f'"""Documentation of the model that is wanted.\n\n{_GENERATED}\n"""\n\n'
            "# ruff: noqa: E501 - a reference is not broken\n\n"
            "from __future__ import annotations\n\n\nclass ModuleDocFragment:\n"
            '    """The fragment."""\n\n    DOCUMENTATION = r"""\noptions:\n'
            f'{textwrap.indent(spec, "  ")}"""\n'
        ),
        role / "meta" / "argument_specs.yml": _between(
            role / "meta" / "argument_specs.yml", spec.splitlines()
        ),
        role / "tasks" / "main.yml": _between(role / "tasks" / "main.yml", handed),
        role / "vars" / "main.yml": _between(
            role / "vars" / "main.yml", [f"- {name}" for name in wish_arguments()]
        ),
        ROLES.parent / "playbooks" / "drift.yml": _between(
            ROLES.parent / "playbooks" / "drift.yml", handed
        ),
    }


def _between(path: Path, lines: list[str]) -> str:
    """A file with other lines between its two marks."""
    text = path.read_text(encoding="utf-8")
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    indent = before.rpartition("\n")[2]
    inner = "".join(f"{indent}{line}\n" for line in lines)
    return f"{before}{begin}\n{inner}{indent}{end}{after}"


def _python_lines() -> Iterator[str]:
    """The argument spec as lines of Python, formatted as the rest of it."""
    for name, option in wish_arguments().items():
        pairs = [f'"{key}": {_literal(value)}' for key, value in option.items()]
        line = f'    "{name}": {{{", ".join(pairs)}}},\n'
        if len(line) <= 101:
            yield line
        else:
            inner = "".join(f"        {each},\n" for each in pairs)
            yield f'    "{name}": {{\n{inner}    }},\n'


def _literal(value: Any) -> str:
    return json.dumps(value).replace("true", "True")


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
    for file, text in generated().items():
        file.write_text(text, encoding="utf-8")
    TARGET.write_text(markdown(), encoding="utf-8")
