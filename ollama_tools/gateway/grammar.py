"""The schema that a server makes its grammar of, where the model itself reads another text.

Ollama sorts the keys of objects in lists, and llama.cpp puts optional keys behind the required
ones (0.34.4). A grammar in another order than the schema that the model has read bends what it
writes, so such an object is any object for the grammar. The arguments themselves cannot be: of an
object without properties Ollama makes one that has to be empty, so there the optional keys stay
behind the others.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

_ANY_OBJECT = {"type": "object"}


def loosened(parameters: dict[str, Any]) -> dict[str, Any]:
    """The schema of a tool's parameters for the grammar alone."""
    if not parameters:
        # A schema that says nothing is refused ("Unrecognized schema").
        return {"type": "object", "properties": {}}
    return _with_parts(parameters, in_list=False)


def _with_parts(schema: dict[str, Any], *, in_list: bool) -> dict[str, Any]:
    found = dict(schema)
    if isinstance(properties := schema.get("properties"), dict):
        found["properties"] = {
            name: _part(each, in_list=in_list) for name, each in properties.items()
        }
    if "items" in schema:
        found["items"] = _part(schema["items"], in_list=True)
    if isinstance(schema.get("anyOf"), list):
        found["anyOf"] = [_part(each, in_list=in_list) for each in schema["anyOf"]]
    return found


def _part(schema: Any, *, in_list: bool) -> Any:
    if not isinstance(schema, dict):
        return schema
    properties = schema.get("properties")
    if isinstance(properties, dict) and (
        (in_list and list(properties) != sorted(properties))
        or _puts_optional_first(properties, schema.get("required"))
    ):
        return _ANY_OBJECT
    return _with_parts(schema, in_list=in_list)


def _puts_optional_first(properties: dict[str, Any], required: object) -> bool:
    """Whether a key that may be left out stands before one that may not."""
    if not isinstance(required, list):
        return False
    needed = [name in required for name in properties]
    return any(not one and other for one, other in pairwise(needed))
