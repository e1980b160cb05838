"""``python -m docs.collection`` writes what the collection says of a model and the way to a server.

That comes out of :class:`ollama_tools.wanted.wish.Wish` and
:class:`ollama_tools.server.access.Access`, and ansible/roles.md out of the roles' argument specs.
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

from ollama_tools.declared import Choice, choice
from ollama_tools.server.access import Access
from ollama_tools.wanted.wish import Wish

ROLES = Path(__file__).parents[1] / "ansible" / "roles"
TARGET = ROLES.parent / "roles.md"
# In the order in which a host meets them.
_ORDER = ("ollama_server", "devstral_tools", "devstral_model", "devstral_gateway")
_HEAD = """# Roles

Written by `make docs` out of the roles' argument specs; a test holds it to them.
"""

_GENERATED = "Written by make docs out of the package's {of}; a test holds it to that."
# A host that runs the role ollama_server has said already where its server listens.
_ELSEWHERE = {"host": "(ollama_server_settings | default({})).host, true"}
_HANDED = {
    # A gateway is turned on for exact prompts; a person's own word wins.
    "carrier": "devstral_model | devstral.ollama.carrier(devstral_gateway_enabled | default(false))"
    " | default(omit, true)"
}


class _Indented(yaml.SafeDumper):
    """Writes lists below their key and further in, as the collection's own files do."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        """See the base; ``indentless`` is what this is about."""
        del indentless
        super().increase_indent(flow, indentless=False)


def arguments(of: type[Any]) -> dict[str, dict[str, Any]]:
    """The argument spec of everything that a dataclass declares."""
    found, hints = {}, get_type_hints(of)
    for field in dataclasses.fields(of):
        told = choice(field)
        option: dict[str, Any] = {"type": _ansible_type(hints[field.name])}
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
    if words.startswith("float"):
        return "float"
    return "bool" if "bool" in words else "str"


def _described(of: type[Any]) -> dict[str, dict[str, Any]]:
    """The same with its documentation, as Ansible reads it."""
    told = {field.name: choice(field) for field in dataclasses.fields(of)}
    return {
        name: {
            "description": [told[name].help, *told[name].more, *_variable(told[name])],
            **{key: value for key, value in option.items() if key != "no_log"},
        }
        for name, option in arguments(of).items()
    }


def _variable(told: Choice) -> Iterator[str]:
    if told.variable:
        yield f"Without it E({told.variable}) of the host counts."


def _yaml(document: Any) -> str:
    return yaml.dump(document, Dumper=_Indented, sort_keys=False, allow_unicode=True, width=88)


def _access_of_role() -> dict[str, dict[str, Any]]:
    """The role's own variables for the way to a server; an empty one says nothing."""
    told = _described(Access)
    return {
        f"devstral_model_{name}": {**told[name], **option, "default": _nothing(option)}
        for name, option in arguments(Access).items()
    }


def _nothing(option: Mapping[str, Any]) -> Any:
    return 0 if option["type"] == "float" else ""


def _access_handed() -> list[str]:
    # On a command line of Ansible's every number is a text, and the text "0" is not nothing.
    number = " | default(0) | float"
    return [
        f'{name}: "{{{{ devstral_model_{name}'
        + (f" | default({_ELSEWHERE[name]})" if name in _ELSEWHERE else "")
        + (number if option["type"] == "float" else "")
        + ' | default(omit, true) }}"'
        for name, option in arguments(Access).items()
    ]


def generated() -> dict[Path, str]:
    """Every file of the collection that says what is declared in the package, as it should be."""
    plugins, playbooks = ROLES.parent / "plugins", ROLES.parent / "playbooks"
    role = ROLES / "devstral_model"
    spec = _yaml(_described(Wish))
    handed = [
        f'{name}: "{{{{ {_HANDED.get(name) or f"devstral_model.{name} | default(omit)"} }}}}"'
        for name in arguments(Wish)
    ]
    blocks: dict[Path, dict[type[Any], list[str]]] = {
        role / "meta" / "argument_specs.yml": {
            Wish: spec.splitlines(),
            Access: _yaml(_access_of_role()).splitlines(),
        },
        role / "tasks" / "main.yml": {Wish: handed, Access: _access_handed()},
        role / "tasks" / "absent.yml": {Access: _access_handed()},
        role / "vars" / "main.yml": {Wish: [f"- {name}" for name in arguments(Wish)]},
        role / "defaults" / "main.yml": {
            Access: [
                f"{name}: {json.dumps(option['default'])}"
                for name, option in _access_of_role().items()
            ]
        },
        playbooks / "drift.yml": {Wish: handed, Access: _access_handed()},
        playbooks / "rollback.yml": {Access: _access_handed()},
        playbooks / "smoke.yml": {Access: _access_handed()},
        playbooks / "tasks" / "model.yml": {Access: _access_handed()},
        plugins / "doc_fragments" / "model.py": {Access: _yaml(_described(Access)).splitlines()},
    }
    return {
        plugins / "module_utils" / "wish.py": _arguments_module(
            Wish, "WISH", "The arguments that say which model is wanted."
        ),
        plugins / "module_utils" / "access.py": _arguments_module(
            Access, "ACCESS", "The arguments that say how a server is reached."
        ),
        plugins / "doc_fragments" / "wish.py": (
            '"""Documentation of the model that is wanted.\n\n'
            f'{_GENERATED.format(of=Wish.__name__)}\n"""\n\n'
            "# ruff: noqa: E501 - a reference is not broken\n\n"
            "from __future__ import annotations\n\n\nclass ModuleDocFragment:\n"
            '    """The fragment."""\n\n    DOCUMENTATION = r"""\noptions:\n'
            f'{textwrap.indent(spec, "  ")}"""\n'
        ),
        **{path: _with_blocks(path, lines) for path, lines in blocks.items()},
    }


def _arguments_module(of: type[Any], name: str, what: str) -> str:
    return (
        f'"""{what}\n\n{_GENERATED.format(of=of.__name__)}\n"""\n\n'
        f"from __future__ import annotations\n\n{name} = {{\n{''.join(_python_lines(of))}}}\n"
    )


def _with_blocks(path: Path, blocks: Mapping[type[Any], list[str]]) -> str:
    """A file with other lines between the two marks of each dataclass."""
    text = path.read_text(encoding="utf-8")
    for of, lines in blocks.items():
        mark = f"# From {of.__name__}, by make docs:"

        def block(match: re.Match[str], mark: str = mark, lines: list[str] = lines) -> str:
            return "".join(
                f"{match['indent']}{line}\n" for line in (f"{mark} begin", *lines, f"{mark} end")
            )

        marked = rf"^(?P<indent> *){mark} begin\n(?:.*\n)*?(?P=indent){mark} end\n"
        text = re.sub(marked, block, text, flags=re.M)
    return text


def _python_lines(of: type[Any]) -> Iterator[str]:
    """The argument spec as lines of Python, formatted as the rest of it."""
    for name, option in arguments(of).items():
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
