"""The complete form of each Jinja template, out of the form for Ollama's engine.

Ollama hands over what its structs know of a tool's schema, in an order of its own: its template
writes five keys in the order in which most clients write them. llama-server hands the schema over
as the client sent it, so there the same template would drop keys and re-order them.
"""

from __future__ import annotations

import re
from pathlib import Path

from ollama_tools.devstral.catalog import TokenizerVersion
from ollama_tools.files.packaged import data_path

TEMPLATES = Path(__file__).parents[1] / "modelfiles" / "templates"

_AVAILABLE = re.compile(r"\{#- available:.*?\{%- endmacro -%\}", re.DOTALL)
_COMPLETE = """\
{#- available: the tools, each with its schema as the client sent it, or the text of them. -#}
{%- macro available(tools) -%}
    {{- '[AVAILABLE_TOOLS]' -}}
    {%- if tools is string -%}
        {{- tools -}}
    {%- else -%}
        {{- '[' -}}
        {%- for tool in tools -%}
            {{- ', ' if not loop.first -}}
            {{- '{"type": "function", "function": {"name": ' + tool.function.name | tojson -}}
            {{- ', "description": ' + (tool.function.description or '') | tojson -}}
            {{- ', "parameters": ' + json(tool.function.parameters or {}) + '}}' -}}
        {%- endfor -%}
        {{- ']' -}}
    {%- endif -%}
    {{- '[/AVAILABLE_TOOLS]' -}}
{%- endmacro -%}"""
_OPENING = re.compile(r"\A(\{#- Devstral, .*?)\n    For llama\.cpp's engine,", re.DOTALL)


def complete(template: str) -> str:
    """The complete form of a template.

    Raises:
        ValueError: It has no opening comment or no macro ``available`` as ours have.
    """
    template, opened = _OPENING.subn(
        r"\1\n    The complete form, for llama.cpp's own programs; written by `make docs`."
        r"\n    For llama.cpp's engine,",
        template,
    )
    template, replaced = _AVAILABLE.subn(lambda _: _COMPLETE, template)
    if (opened, replaced) != (1, 1):
        raise ValueError("the template has another shape than this expects")
    return template


def complete_templates() -> dict[Path, str]:
    """The complete form for each tokenizer version, by its file."""
    return {
        TEMPLATES / "complete" / f"{version.value}.jinja": complete(
            data_path("templates", f"{version.value}.jinja").read_text(encoding="utf-8")
        )
        for version in TokenizerVersion
    }


def write_complete_templates() -> None:
    """Write them."""
    for path, text in complete_templates().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
