"""A spec as Modelfile text for people, and as the request that makes it on a server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ollama_tools.data import data_path
from ollama_tools.errors import UsageError
from ollama_tools.memory import KvType, kv_cache_bytes
from ollama_tools.shown import Shown
from ollama_tools.spec import FileSource, HubSource, Scalar, Spec

_GIB = 1024**3
_SHOWN_KV_TYPES = (KvType.F16, KvType.Q8_0, KvType.Q4_0)


def _text(spec: Spec) -> str:
    if spec.system.text is None:
        raise ValueError("the system prompt's text has not been fetched")
    return spec.system.text


def _quoted(value: Scalar) -> str:
    """A parameter's value as Modelfile text."""
    if not isinstance(value, str):
        return f"{value:g}" if isinstance(value, float) else str(value)
    if '"""' in value or "\n" in value:
        raise UsageError(f"a Modelfile cannot carry the value {value!r}", "choose another")
    return f'"""{value}"""' if '"' in value or value != value.strip() else f'"{value}"'


def _lines(spec: Spec) -> Iterator[tuple[str, str]]:
    for key, value in spec.parameters.items():
        for each in value if isinstance(value, tuple) else (value,):
            yield key, _quoted(each)


def render(spec: Spec, *, registry: str = "hf.co") -> str:
    """The Modelfile of a spec; ``ollama create -f`` makes the same manifest of it as the API does.

    Args:
        spec: The desired model, its system prompt's text included.
        registry: Host from which the server pulls the weights.

    Raises:
        UsageError: Modelfile text has no way to say something that the spec wants.
    """
    import jinja2

    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - the output is a Modelfile, not HTML
    )
    layers = spec.layers
    match spec.source:
        case HubSource() as source:
            origin, label = source.pull_name(registry), source.tag
        case FileSource(path=path):
            origin, label = str(path), path.name
        case server:
            origin, label = server.name, server.name
    return environment.from_string(data_path("Modelfile.j2").read_text(encoding="utf-8")).render(
        title=f"{spec.release.name} {label}",
        name=spec.name,
        filename=f"{spec.name.rsplit(':', 1)[-1]}.Modelfile",
        source=origin,
        requires=spec.release.minimum_server,
        parser=layers.parser,
        template=layers.template,
        system=_text(spec),
        parameters=list(_lines(spec)),
        context=spec.context,
        kv_sizes=[
            (kv.value, kv_cache_bytes(spec.release.architecture, spec.context, kv) / _GIB)
            for kv in _SHOWN_KV_TYPES
        ],
    )


def create_request(spec: Spec, model: str, weights: str | Mapping[str, str]) -> dict[str, Any]:
    """The body of ``POST /api/create`` for a spec.

    Args:
        spec: The desired model, its system prompt's text included.
        model: The name to create.
        weights: Name of a model on the server to build from, or file names with their
            ``sha256:…`` digests on the server.
    """
    layers = spec.layers
    request: dict[str, Any] = {
        "model": model,
        "requires": spec.release.minimum_server,
        "parameters": {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in spec.parameters.items()
        },
        "stream": True,
    }
    if isinstance(weights, str):
        request["from"] = weights
    else:
        request["files"] = dict(weights)
    if layers.template is not None:
        request["template"] = layers.template
    if layers.parser is not None:
        request["parser"] = layers.parser
    if text := _text(spec):
        request["system"] = text
    return request


def differences(spec: Spec, found: Shown) -> list[str]:
    """What a model on a server has otherwise than a spec wants, field by field; empty if nothing.

    Parameters that the model has beside those of the spec are no difference: what a repository on
    the hub sets is inherited and cannot be removed.

    Args:
        spec: The desired model; its system prompt may be known by digest alone.
        found: The model, as its server shows it.
    """
    import hashlib

    layers = spec.layers
    different = []
    if hashlib.sha256(found.system.encode()).hexdigest() != spec.system.sha256:
        different.append("system prompt")
    template = layers.template or layers.jinja
    if template is not None and found.template.rstrip("\n") != template:
        different.append("template")
    if found.parser != (layers.parser or ""):
        different.append("parser")
    for key, value in spec.parameters.items():
        wanted = (
            sorted(value)
            if isinstance(value, tuple)
            else [f"{value:g}" if isinstance(value, float) else str(value)]
        )
        if sorted(found.parameters.get(key, [])) != wanted:
            different.append(f"parameter {key}")
    return different
