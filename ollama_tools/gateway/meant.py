"""What a server makes of a request that others would read otherwise, or not at all.

Ollama reads JSON as Go's ``encoding/json`` does: keys in any case, of a key that is there twice the
last, bytes that are no text as a sign for those, and nothing of what follows the first value.
"""

from __future__ import annotations

import json
from typing import Final

from ollama_tools.gateway.asked import Problem
from ollama_tools.json_text import TOO_DEEP

_READ: Final = """
_debug_render_only arguments author background call_id content conversation data description
disable_parallel_tool_use effort encrypted_content execution format frequency_penalty function
id image_url images include include_usage input input_schema instructions json_schema keep_alive
logprobs max_output_tokens max_tokens messages metadata model name namespace options output
output_config parameters presence_penalty reasoning reasoning_effort recipient response_format
role schema seed shift source stop stop_sequences stream stream_options system temperature text
think thinking tool_call_id tool_calls tool_choice tool_name tool_use_id tools top_k
top_logprobs top_p truncate truncation type
"""
"""What a server looks for in the requests of the four surfaces (``api/types.go``, ``openai`` and
``anthropic`` of 0.34.4)."""

_NAMES: Final = frozenset(_READ.split())

_FREE: Final = frozenset(
    ("arguments", "input", "input_schema", "metadata", "options", "parameters", "schema")
)
"""Objects whose keys are whatever their sender calls them."""

_KELVIN_AND_LONG_S: Final = {0x212A: "k", 0x17F: "s"}
_HALF_PAIRS: Final = "surrogatepass"


# An object is a tuple of all that stands in it. Of a number only that it is one is of interest, and
# it may be one that Python does not read.
_LOOSE: Final = json.JSONDecoder(
    object_pairs_hook=tuple, parse_int=len, parse_float=len, parse_constant=len
)


def model_meant(content: bytes) -> str:
    """The model that a server would take a request's body to be for; empty where it is for none.

    Raises:
        Problem: It is nested too deeply to tell.
    """
    text = content.decode("utf-8", "replace").lstrip(" \t\r\n")
    try:
        found, _ = _LOOSE.raw_decode(text)
    except RecursionError as error:
        raise Problem(f"the request cannot be read: {TOO_DEEP}") from error
    except ValueError:
        return ""
    pairs = found if isinstance(found, tuple) else ()
    models = [value for key, value in pairs if isinstance(value, str) and _usual(key) == "model"]
    return models[-1].encode("utf-16", _HALF_PAIRS).decode("utf-16", "replace") if models else ""


def require_usual_keys(value: object, inside: str = "") -> None:
    """Let no key pass that only the server would know.

    Args:
        value: A request, or a part of it.
        inside: The key under which that part stands.

    Raises:
        Problem: There is one.
    """
    if isinstance(value, list):
        for each in value:
            require_usual_keys(each, inside)
    elif isinstance(value, dict):
        for key, each in value.items():
            if key not in _NAMES:
                is_usual = key.islower() and key.isascii()
                if not is_usual and (usual := _usual(key)) in _NAMES:
                    raise Problem(f"{key} has to be written {usual}")
            elif isinstance(each, list) or (isinstance(each, dict) and not _is_free(key, inside)):
                require_usual_keys(each, key)


def _is_free(key: str, inside: str) -> bool:
    # On one surface the format is a schema, on another it holds one.
    return key in _FREE or (key == "format" and inside != "text")


def _usual(key: str) -> str:
    """A key as it is usually written, among those that are the same to a server."""
    return key.translate(_KELVIN_AND_LONG_S).lower()
