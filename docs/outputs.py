"""The reference of what programs read: ``--json`` of every command, and what modules return."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import types
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints, is_typeddict

import yaml

from docs.rooms import PACKAGE, modules
from ollama_tools.checks.bench_figures import BenchJson
from ollama_tools.checks.result import ReportJson
from ollama_tools.cli import documents
from ollama_tools.devstral.fit import EstimateJson
from ollama_tools.model.apply import OutcomeJson
from ollama_tools.model.builds import RollbackJson
from ollama_tools.model.download import DownloadJson
from ollama_tools.model.merge import MergedJson
from ollama_tools.model.plan import PlanJson
from ollama_tools.model.status import ModelStatusJson

TARGET = Path(__file__).parent / "reference" / "json.md"
_COLLECTION = Path(__file__).parents[1] / "ansible" / "plugins" / "modules"

OUTPUTS: dict[str, Mapping[str, Any]] = {
    "create": {"": OutcomeJson, "--dry-run": PlanJson},
    "preflight": {"": ReportJson},
    "smoke": {"": ReportJson},
    "bench": {"": BenchJson},
    "status": {"": ModelStatusJson},
    "history": {"": documents.HistoryJson},
    "rollback": {"": RollbackJson},
    "prune": {"": documents.PrunedJson},
    "remove": {"": documents.RemovedJson},
    "render": {
        "": documents.RenderJson,
        "--check": documents.RenderCheckJson,
        "--all": documents.RenderAllJson,
        "--target": documents.RenderTargetJson,
        "--prompt": documents.RenderPromptJson,
    },
    "lint": {"": documents.LintJson},
    "download": {"": DownloadJson},
    "merge": {"": MergedJson},
    "quants": {"": documents.QuantsJson},
    "fit": {"": list[EstimateJson]},
    "list": {"": documents.ListJson},
    "doctor": {"": ReportJson},
    "env": {"": documents.EnvJson},
    "serve": {"--dry-run": documents.ServeJson},
    "gateway key add": {"": documents.KeyJson},
    "gateway key list": {"": documents.KeysJson},
    "gateway key revoke": {"": documents.KeyRevokedJson},
}
"""What each command prints, by the option that makes it another document, the stronger first."""

_HEAD = """# JSON

Written by `make docs` out of the types that the code is checked against; a test holds real output
to them.

Every command takes `--json`, and prints one document then: that of its section, or where it cannot
do its work, an [error](#error). All fields are always there. Digests are hex, sizes are bytes,
contexts are tokens.
"""


def fields(form: type) -> dict[str, Any]:
    """The fields of a document, each with its type and what else its declaration says of it."""
    return get_type_hints(form, localns=classes(), include_extras=True)


def form_of(arguments: Sequence[str], document: object) -> Any:
    """The form of what a command prints, by its arguments; of an error, by the document."""
    if isinstance(document, dict) and "error" in document:
        return documents.ErrorJson
    [command] = [each for each in arguments if each in OUTPUTS][:1]
    forms = OUTPUTS[command]
    said = [option for option in forms if option and option in arguments]
    return forms[said[0] if said else ""]


def faults(value: object, form: Any, place: str = "$") -> Iterator[str]:
    """What a document has otherwise than its form says, each with its place; nothing if it fits."""
    form, _ = _bare(form)
    if is_typeddict(form):
        if not isinstance(value, dict):
            yield f"{place} is no object"
            return
        wanted = fields(form)
        for key in sorted(wanted.keys() ^ value.keys()):
            yield f"{place} has no {key}" if key in wanted else f"{place} has {key} beside its form"
        for key in wanted.keys() & value.keys():
            yield from faults(value[key], wanted[key], f"{place}.{key}")
    elif isinstance(form, types.UnionType) or get_origin(form) is Union:
        if value is None and type(None) in get_args(form):
            return
        [other] = [each for each in get_args(form) if each is not type(None)]
        yield from faults(value, other, place)
    elif get_origin(form) is list:
        if not isinstance(value, list):
            yield f"{place} is no list"
            return
        for i, each in enumerate(value):
            yield from faults(each, get_args(form)[0], f"{place}[{i}]")
    elif get_origin(form) is dict:
        if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
            yield f"{place} is no object of texts"
    elif type(value) is not form and not (form is float and type(value) is int):
        yield f"{place} is {type(value).__name__}, not {form.__name__}"


def markdown() -> str:
    """The page."""
    lines = [_HEAD.rstrip()]
    named: dict[str, type] = {}
    for command, forms in OUTPUTS.items():
        lines += ["", f"## devstral-ollama {command}"]
        for option, form in forms.items():
            at = f"With `{option}`: " if option else ""
            each = form
            if get_origin(form) is list:
                [each] = get_args(form)
                at += "A list. Of each: "
            lines += ["", f"{at}{_title(each)}", "", *_table(each, named)]
    lines += ["", "## error", "", _title(documents.ErrorJson), ""]
    lines += _table(documents.ErrorJson, named)
    lines += ["", "# Parts of documents"]
    done: set[str] = set()
    while left := [each for each in named if each not in done]:
        for name in sorted(left):
            done.add(name)
            lines += ["", f"## {name}", "", _title(named[name]), "", *_table(named[name], named)]
    return "\n".join([*lines, *_modules(), ""])


def _title(form: type) -> str:
    return inspect.getdoc(form) or ""


def _table(form: type, named: dict[str, type]) -> Iterator[str]:
    said = _said_by_class(form)
    yield "| field | type | meaning |"
    yield "|---|---|---|"
    for name, declared in fields(form).items():
        kind, notes = _bare(declared)
        words, enum = said.get(name, ("", None))
        for each in notes:
            words, enum = (each, enum) if isinstance(each, str) else (words, each)
        if not words and (part := _part(kind)):
            words = _title(part)
        if not words:
            raise ValueError(f"nothing says what {form.__name__}.{name} means")
        values = f" One of {', '.join(f'`{each}`' for each in enum)}." if enum else ""
        yield f"| `{name}` | {_type_text(kind, named)} | {_plain(words)}{values} |"


def _plain(words: str) -> str:
    """Words of a docstring as JSON's reader knows them."""
    words = words.replace("``", "`")
    return re.sub(r"\bNone\b", "null", words).replace("|", "\\|")


def _bare(declared: Any) -> tuple[Any, tuple[Any, ...]]:
    if get_origin(declared) is Annotated:
        return declared.__origin__, declared.__metadata__
    return declared, ()


def _part(kind: Any) -> type | None:
    """The form that a type is made of."""
    if is_typeddict(kind):
        return kind  # type: ignore[no-any-return]
    return next((found for each in get_args(kind) if (found := _part(each))), None)


def _type_text(kind: Any, named: dict[str, type]) -> str:
    if is_typeddict(kind):
        name = _name(kind)
        named.setdefault(name, kind)
        return f"[{name}](#{name.replace(' ', '-')})"
    if get_origin(kind) is list:
        return f"list of {_type_text(get_args(kind)[0], named)}"
    if get_origin(kind) is dict:
        return "object of texts"
    if isinstance(kind, types.UnionType):
        [other] = [each for each in get_args(kind) if each is not type(None)]
        return f"{_type_text(other, named)} or null"
    return {str: "text", int: "number", float: "number", bool: "true or false"}[kind]


def _name(form: type) -> str:
    """A form's name for people: ``CheckResultJson`` is a check result."""
    words = re.findall("[A-Z][a-z0-9]*", form.__name__.removesuffix("Json"))
    return " ".join(words).lower()


@cache
def classes() -> dict[str, type]:
    """Every class of the package by its name, so that names in annotations can be read."""
    names = [each for each in modules() if not each.startswith("__") and "worker" not in each]
    found = [vars(importlib.import_module(f"{PACKAGE.name}.{each}")) for each in names]
    own = [value for each in found for value in each.values() if inspect.isclass(value)]
    return {each.__name__: each for each in own if each.__module__.startswith(PACKAGE.name)}


def _said_by_class(form: type) -> dict[str, tuple[str, type[StrEnum] | None]]:
    """What the class whose ``as_json`` gives a form says of its fields, and their enumerations."""
    for each in classes().values():
        made = vars(each).get("as_json")
        if made is not None and made.__annotations__.get("return") == form.__name__:
            return dict(_said(each))
    return {}


def _said(owner: type) -> Iterator[tuple[str, tuple[str, type[StrEnum] | None]]]:
    hints = get_type_hints(owner, localns=classes())
    attributes = (inspect.getdoc(owner) or "").partition("Attributes:")[2]
    for name, words in re.findall(r"^    (\w+): (.*(?:\n {8,}.*)*)", attributes, re.MULTILINE):
        kind = hints.get(name)
        is_enum = isinstance(kind, type) and issubclass(kind, StrEnum)
        yield name, (" ".join(words.split()), kind if is_enum else None)
    for name, value in vars(owner).items():
        if isinstance(value, property):
            yield name, ((inspect.getdoc(value) or "").partition("\n")[0], None)


def _modules() -> Iterator[str]:
    yield from ("", "# Ansible modules", "")
    yield "What each returns beside Ansible's own `changed`, `failed` and `msg`."
    for path in sorted(_COLLECTION.glob("*.py")):
        yield from ("", f"## devstral.ollama.{path.stem}", "")
        yield from ("| field | type | returned | meaning |", "|---|---|---|---|")
        for name, said in _returned(path).items():
            kind = said["type"] + (f" of {said['elements']}" if "elements" in said else "")
            words = said["description"]
            text = " ".join(words) if isinstance(words, list) else words
            yield f"| `{name}` | {kind} | {_marked(said['returned'])} | {_marked(text)} |"


def _returned(path: Path) -> dict[str, Any]:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "RETURN":
            return dict(yaml.safe_load(ast.literal_eval(node.value)))
    return {}


def _marked(text: str) -> str:
    """Ansible's marks as Markdown has them."""
    return re.sub(r"\b(?:[CVOI]|RV)\(([^)]*)\)", r"`\1`", text).replace("|", "\\|")
