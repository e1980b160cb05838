"""Renders conversations by a Jinja template, in a process with limits on time and memory.

A template out of a downloaded file may be a bomb, and Python has no way to stop one inside the
process that runs it. Reads one JSON document from stdin and writes one to stdout.
"""

from __future__ import annotations

import json
import resource
import sys
from typing import Any, NoReturn

_MAX_MEMORY = 1 << 30
_MAX_SECONDS = 4
_MAX_OUTPUT = 1 << 20


def _limit() -> None:
    for what, most in ((resource.RLIMIT_AS, _MAX_MEMORY), (resource.RLIMIT_CPU, _MAX_SECONDS)):
        _, hard = resource.getrlimit(what)
        bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (bound, hard))


def _render(template: Any, values: dict[str, Any]) -> dict[str, Any]:
    import jinja2

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
    from jinja2.exceptions import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.loopcontrols", "jinja2.ext.do"],
    )

    def raise_exception(message: str) -> NoReturn:
        raise TemplateError(message)

    def tojson(value: Any, indent: int | None = None, **_: Any) -> str:
        # Jinja's own filter escapes < > & for HTML; those of llama.cpp and transformers do not.
        return json.dumps(value, ensure_ascii=False, indent=indent)

    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda _form: "2026-01-31"
    return environment


def main() -> None:
    """Render what stdin asks for."""
    import jinja2

    asked = json.load(sys.stdin)
    environment = _environment()
    _limit()
    try:
        template = environment.from_string(asked["template"])
    except jinja2.TemplateSyntaxError as error:
        answer: dict[str, Any] = {"fault": error.message or "syntax error", "line": error.lineno}
    except (MemoryError, RecursionError, ValueError, OverflowError) as error:
        answer = {"fault": f"it cannot be compiled: {type(error).__name__}", "line": 1}
    else:
        answer = {"answers": [_render(template, each) for each in asked["conversations"]]}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
