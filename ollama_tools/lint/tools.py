"""What Ollama drops from tools, and what it re-orders, before any template sees them.

Ollama decodes a schema into structs of a few fields (``api/types.go``). What has no field is gone,
and maps come out with sorted keys. No template can bring either back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ollama_tools.errors import FileProblem
from ollama_tools.json_text import MalformedJson, parse_json
from ollama_tools.lint.finding import Finding, Hit, Rule, Severity, add_rule
from ollama_tools.server.modelfile_text import read_text

_TYPES = "Ollama's api/types.go, 0.34.4; measured"
_TEMPLATE = "Ollama's template/template.go, 0.34.4; measured"
_BY_GATEWAY = "let clients ask through devstral-ollama gateway, which mends it"

_DROPPED = add_rule(
    "DV501",
    "keyword-dropped",
    Severity.WARNING,
    what="A keyword of a tool's schema that Ollama drops: all but `type`, `description`, `enum`, "
    "`items`, `anyOf`, `properties` and `required`",
    why="The model never sees it: no default, no bound, no format. What is in `items` and `$defs` "
    "stays.",
    source=_TYPES,
    fix="say it in the description, which is kept",
)
_REFUSED = add_rule(
    "DV502",
    "tool-refused",
    Severity.ERROR,
    what="A tool that Ollama cannot decode, or of which llama-server cannot make a grammar: no "
    "name, no parameters, no `type`, `true` or `null` in the place of a schema",
    why="The server answers the whole request with HTTP 400 or 500, whatever else is in it; the "
    "latter kind only where the template is inside the GGUF. For a schema `{}`, or none, the "
    "gateway sends one without properties.",
    source=_TYPES,
    fix="write it as JSON Schema has it, without true or false in the place of a schema",
)
_NAME = add_rule(
    "DV503",
    "tool-name",
    Severity.ERROR,
    what="A tool's name that is not made of letters, digits, `_` and `-`, or that stands there "
    "twice",
    why="The model was trained on such names only, and a call of a name that two tools have is "
    "anybody's.",
    source="mistral-common refuses them",
    fix="rename the tool",
)
_SORTED = add_rule(
    "DV504",
    "properties-sorted",
    Severity.INFO,
    what="Properties that are not in alphabetical order",
    why="With a Go TEMPLATE they come out sorted, at the top. With a template inside the GGUF the "
    "model reads them in their order, and a grammar holds its calls to that; but on "
    "/v1/responses the grammar wants them sorted, also inside of objects: a model that writes what "
    "it has read is bent, or answered with HTTP 500.",
    source=f"{_TEMPLATE}; the grammar read out of the engine",
    fix=f"sort them, or {_BY_GATEWAY}",
)
_RESORTED = add_rule(
    "DV505",
    "keys-sorted",
    Severity.INFO,
    what="Keys inside of `items`, `$defs` or `enum` that are not in alphabetical order",
    why="Everything is kept there, but its keys come out sorted, and the grammar of every surface "
    "wants the properties of objects in lists sorted. Keywords alone do no harm.",
    source=f"{_TYPES}; the grammar read out of the engine",
    fix=f"sort the properties, or {_BY_GATEWAY}",
)
_REORDERED = add_rule(
    "DV506",
    "keywords-reordered",
    Severity.INFO,
    what="Keywords in another order than Ollama's",
    why="They come out in the order of Ollama's fields or of the template: "
    "`type` before `description`.",
    source=_TYPES,
    fix="nothing has to be done",
)
_EMPTY = add_rule(
    "DV507",
    "required-omitted",
    Severity.INFO,
    what="An empty `required`",
    why="It is left out, but for a Go TEMPLATE that is asked by /api/chat.",
    source=_TYPES,
    fix="leave it out",
)
_NO_DESCRIPTION = add_rule(
    "DV508",
    "description-missing",
    Severity.WARNING,
    what="A tool without a description",
    why="The model has its name alone to guess from.",
    source="rendered",
    fix="write one",
)

_SCHEMA_KEYS = ("anyOf", "type", "description", "enum", "items", "properties", "required")
_TOP_KEYS = ("type", "$defs", "items", "properties", "required")
_TYPE_WORDS = ("string", "number", "integer", "boolean", "object", "array", "null")
_MAX_DEPTH = 100
_NO_PARAMETERS = 'write "parameters": {"type": "object", "properties": {}} for none'


def read_tools(path: Path) -> list[Any]:
    """The tools in a JSON file: a list, or an object with ``tools``, as in a request.

    Raises:
        FileProblem: It cannot be read, or there are none in it.
    """
    try:
        found = parse_json(read_text(path, "JSON file with tools"))
    except MalformedJson as error:
        raise FileProblem(f"{path}: not JSON: {error}", "name a file with tools") from error
    if isinstance(found, dict):
        found = found.get("tools")
    if not isinstance(found, list):
        raise FileProblem(f"{path}: no tools in it", 'as in [{"type": "function", …}]')
    return found


def lint_tools(tools: Sequence[Any], *, label: str = "tools") -> list[Finding]:
    """Say what Ollama drops from tools, and what it re-orders.

    Args:
        tools: Tools as OpenAI's chat or responses API has them, or as Anthropic's has them.
        label: What to call them in messages.
    """
    found = [rule.finding(label, hit) for rule, hit in _tools(tools)]
    return sorted(found, key=lambda each: list(Severity).index(each.severity))


_Hits = Iterator[tuple[Rule, Hit]]


def _tools(tools: Sequence[Any]) -> _Hits:
    names: dict[str, str] = {}
    for index, tool in enumerate(tools):
        place = f"tools[{index}]"
        if not isinstance(tool, dict):
            yield _REFUSED, Hit("a tool is no object", place)
            continue
        kind = tool.get("type", "function")
        if "input_schema" in tool:
            function, where, schema = tool, place, "input_schema"
        elif "function" in tool:
            function, where, schema = tool["function"], f"{place}.function", "parameters"
        elif kind in ("function", "custom"):
            function, where, schema = tool, place, "parameters"
        else:
            message = f"a tool of the type {str(kind)[:40]!r} is no function; Ollama knows no other"
            yield _REFUSED, Hit(message, place)
            continue
        if not isinstance(function, dict):
            yield _REFUSED, Hit("its function is no object", where)
            continue
        yield from _name(function, where, names)
        yield from _function(function, where, schema, is_flat=function is tool)


def _name(function: Mapping[str, Any], where: str, names: dict[str, str]) -> _Hits:
    name = function.get("name")
    if not isinstance(name, str) or not name:
        yield _REFUSED, Hit("it has no name", f"{where}.name")
        return
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,256}", name):
        yield _NAME, Hit(f"{name[:60]!r} is no name that Devstral knows", f"{where}.name")
    if name in names:
        yield _NAME, Hit(f"{name} is the name of {names[name]} as well", f"{where}.name")
    names.setdefault(name, where)


def _function(function: Mapping[str, Any], where: str, schema: str, *, is_flat: bool) -> _Hits:
    known = {"name", "description", schema} | ({"type", "cache_control"} if is_flat else set())
    for key in function:
        if key not in known:
            yield _DROPPED, Hit(f"{key} is dropped", f"{where}.{key}")
    description = function.get("description")
    if not isinstance(description, str | None):
        yield _REFUSED, Hit("its description is no text", f"{where}.description")
    elif not description:
        yield _NO_DESCRIPTION, Hit("it has no description", where)
    place = f"{where}.{schema}"
    parameters = function.get(schema)
    if parameters is None:
        yield _REFUSED, Hit("it has no parameters", place, fix=_NO_PARAMETERS)
    elif not isinstance(parameters, dict):
        yield _REFUSED, Hit("its parameters are no object", place)
    else:
        yield from _top(parameters, place)


def _top(schema: Mapping[str, Any], where: str) -> _Hits:
    kind = schema.get("type")
    if not isinstance(kind, str) or not kind:
        what = "the parameters have no type" if kind is None else "their type is no text"
        yield _REFUSED, Hit(what, f"{where}.type", fix=_NO_PARAMETERS)
    yield from _dropped(schema, where, _TOP_KEYS)
    yield from _properties(schema, where, 0, is_top=True)
    for key in ("$defs", "items"):
        yield from _raw(schema.get(key), f"{where}.{key}")


def _property(schema: Any, where: str, depth: int) -> _Hits:
    if schema is None:
        return  # Ollama takes it for an empty schema.
    if not isinstance(schema, dict):
        yield _REFUSED, Hit("it is no object", where)
        return
    if depth > _MAX_DEPTH:
        return
    kinds = schema["type"] if isinstance(schema.get("type"), list) else [schema.get("type")]
    if "type" in schema and not all(each in _TYPE_WORDS for each in kinds):
        yield _REFUSED, Hit("its type is none that JSON Schema knows", f"{where}.type")
    if not isinstance(schema.get("description"), str | None):
        yield _REFUSED, Hit("its description is no text", f"{where}.description")
    if not isinstance(schema.get("enum"), list | None):
        yield _REFUSED, Hit("its enum is no list", f"{where}.enum")
    yield from _dropped(schema, where, _SCHEMA_KEYS)
    yield from _properties(schema, where, depth)
    if isinstance(schema.get("items"), bool | str | int | float):
        yield _REFUSED, Hit("its items are no schema", f"{where}.items")
    yield from _raw(schema.get("items"), f"{where}.items")
    yield from _raw(schema.get("enum"), f"{where}.enum")
    choices = schema.get("anyOf")
    if isinstance(choices, list):
        for index, each in enumerate(choices):
            yield from _property(each, f"{where}.anyOf[{index}]", depth + 1)
    elif choices is not None:
        yield _REFUSED, Hit("its anyOf is no list", f"{where}.anyOf")


def _dropped(schema: Mapping[str, Any], where: str, known: Sequence[str]) -> _Hits:
    for key in schema:
        if key == "$ref":
            message = "$ref is dropped: the model sees neither type nor properties"
            yield _DROPPED, Hit(message, f"{where}.$ref", fix="write the schema out in its place")
        elif key not in known:
            yield _DROPPED, Hit(f"{key} is dropped", f"{where}.{key}")
    order = [key for key in schema if key in known]
    if order != sorted(order, key=known.index):
        wanted = ", ".join(sorted(order, key=known.index))
        yield _REORDERED, Hit(f"the keywords come out as {wanted}", where)


def _properties(
    schema: Mapping[str, Any], where: str, depth: int, *, is_top: bool = False
) -> _Hits:
    required = schema.get("required")
    if required is not None and not (
        isinstance(required, list) and all(isinstance(each, str) for each in required)
    ):
        yield _REFUSED, Hit("its required is no list of names", f"{where}.required")
    elif required == []:
        yield _EMPTY, Hit("an empty required is left out", f"{where}.required")
    properties = schema.get("properties")
    if properties is None:
        return
    if not isinstance(properties, dict):
        yield _REFUSED, Hit("its properties are no object", f"{where}.properties")
        return
    if list(properties) != sorted(properties):
        come = ", ".join(sorted(properties)[:6])
        # Nested ones keep their order where the template asks for it, as this package's does.
        what = "the properties come out as" if is_top else "the grammar of /v1/responses wants"
        yield _SORTED, Hit(f"{what} {come}", f"{where}.properties")
    for name, each in properties.items():
        yield from _property(each, f"{where}.properties.{name}", depth + 1)


def _raw(value: Any, where: str) -> _Hits:
    """What Ollama keeps as JSON of any kind, keys sorted; one finding for the whole of it."""
    if _is_unsorted(value, is_properties=True):
        yield _RESORTED, Hit("its properties come out sorted, and calls have to be so", where)
    elif _is_unsorted(value):
        yield _RESORTED, Hit("its keys come out sorted", where, fix="nothing has to be done")


def _is_unsorted(value: Any, depth: int = 0, *, is_properties: bool = False) -> bool:
    """Whether keys are in another order than Ollama's, or those of properties alone."""
    if depth > _MAX_DEPTH:
        return False
    if isinstance(value, list):
        return any(_is_unsorted(each, depth + 1, is_properties=is_properties) for each in value)
    if not isinstance(value, dict):
        return False
    held = value.get("properties") if is_properties else value
    return (isinstance(held, dict) and list(held) != sorted(held)) or any(
        _is_unsorted(each, depth + 1, is_properties=is_properties) for each in value.values()
    )
