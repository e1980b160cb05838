"""Renders conversations by a Jinja template, as llama-server does; runs inside a worker."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NoReturn

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

_MAX_OUTPUT = 1 << 20


def _render(template: Any, values: dict[str, Any]) -> dict[str, Any]:
    parts: list[str] = []
    length = 0
    try:
        for part in template.generate(**values):
            parts.append(part)
            length += len(part)
            if length > _MAX_OUTPUT:
                return {"fault": "it writes without an end"}
    except jinja2.TemplateError as error:
        return {"fault": str(error) or type(error).__name__, "raised": True}
    except MemoryError:
        return {"fault": "it takes too much memory"}
    except Exception as error:  # noqa: BLE001,RUF100 - a template can raise anything
        return {"fault": f"{type(error).__name__}: {error}"}
    return {"prompt": "".join(parts)}


def _environment() -> Any:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.loopcontrols", "jinja2.ext.do"],
    )

    def raise_exception(message: str) -> NoReturn:
        raise jinja2.TemplateError(message)

    def tojson(value: Any, indent: int | None = None, **_: Any) -> str:
        # Jinja's own filter escapes < > & for HTML; those of llama.cpp and transformers do not.
        return json.dumps(value, ensure_ascii=False, indent=indent)

    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda _form: "2026-01-31"
    return environment


def answer(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Every conversation of ``asked``, rendered by its template; or why that cannot be used."""
    try:
        template = _environment().from_string(asked["template"])
    except jinja2.TemplateSyntaxError as error:
        return {"fault": error.message or "syntax error", "line": error.lineno}
    except (RecursionError, ValueError, OverflowError) as error:
        return {"fault": f"it cannot be compiled: {type(error).__name__}", "line": 1}
    return {"answers": [_render(template, each) for each in asked["conversations"]]}
