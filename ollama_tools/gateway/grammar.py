"""The schema that a server makes its grammar of, where the model itself reads another text.

Ollama sorts the keys of objects in lists, and llama.cpp puts optional keys behind the required
ones (0.34.4). A grammar in another order than the schema that the model has read bends what it
writes, so such a schema is loosened: it then asks for less, and in the order that was sent.
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
    found = _loosened(parameters)
    assert isinstance(found, dict)
    return found


def _loosened(schema: Any, in_list: bool = False) -> Any:
    if not isinstance(schema, dict):
        return schema
    properties = schema.get("properties")
    if in_list and isinstance(properties, dict) and list(properties) != sorted(properties):
        return _ANY_OBJECT
    found = dict(schema)
    if isinstance(properties, dict):
        found["properties"] = {name: _loosened(each, in_list) for name, each in properties.items()}
        if _puts_optional_first(properties, schema.get("required")):
            found.pop("required")
    if "items" in found:
        found["items"] = _loosened(found["items"], in_list=True)
    if isinstance(found.get("anyOf"), list):
        found["anyOf"] = [_loosened(each, in_list) for each in found["anyOf"]]
    return found


def _puts_optional_first(properties: dict[str, Any], required: object) -> bool:
    """Whether a key that may be left out stands before one that may not."""
    if not isinstance(required, list):
        return False
    needed = [name in required for name in properties]
    return any(not one and other for one, other in pairwise(needed))
