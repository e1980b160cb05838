"""A spec as Modelfile text for people, and as the request that makes it on a server."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

from ollama_tools.devstral.memory import KvType, kv_cache_bytes
from ollama_tools.errors import UsageError
from ollama_tools.files.digests import short_digest
from ollama_tools.files.packaged import data_path
from ollama_tools.server.parameters import value_text
from ollama_tools.server.shown import Shown
from ollama_tools.wanted.spec import Spec
from ollama_tools.wanted.wish import Scalar

_GIB = 1024**3
_SHOWN_KV_TYPES = (KvType.F16, KvType.Q8_0, KvType.Q4_0)


def _text(spec: Spec) -> str:
    if spec.system.text is None:
        raise ValueError("the system prompt's text has not been fetched")
    return spec.system.text


def _quoted(value: Scalar) -> str:
    """A parameter's value as Modelfile text."""
    if not isinstance(value, str):
        return value_text(value)
    if '"""' in value or "\n" in value:
        raise UsageError(f"a Modelfile cannot carry the value {value!r}", "choose another")
    return f'"""{value}"""' if '"' in value or value != value.strip() else f'"{value}"'


def _lines(spec: Spec) -> Iterator[tuple[str, str]]:
    for key, value in spec.parameters.items():
        for each in value if isinstance(value, tuple) else (value,):
            yield key, _quoted(each)


def render(spec: Spec, *, registry: str = "hf.co", filename: str | None = None) -> str:
    """The Modelfile of a spec; ``ollama create -f`` makes the same manifest of it as the API does.

    Args:
        spec: The desired model, its system prompt's text included.
        registry: Host from which the server pulls the weights.
        filename: Name of the file that the text is written to; None for the tag's.

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
    return environment.from_string(data_path("Modelfile.j2").read_text(encoding="utf-8")).render(
        title=f"{spec.release.name} {spec.source.label}",
        name=spec.name,
        filename=filename or f"{spec.name.rsplit(':', 1)[-1]}.Modelfile",
        source=spec.source.origin(registry),
        projector=spec.projector,
        pulled=spec.source.pulled_from(registry) is not None,
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


class DifferenceJson(TypedDict):
    """What a server has otherwise than it should."""

    field: str
    found: str | None
    wanted: str | None


@dataclass(frozen=True, slots=True)
class Difference:
    """What a server has otherwise than it should; None for nothing at all.

    Attributes:
        field: What differs, in words: ``parameter num_ctx``.
        found: What the server has; long texts by their digest.
        wanted: What it should have.
    """

    field: str
    found: str | None
    wanted: str | None

    def __str__(self) -> str:
        return f"{self.field}: {self.found or 'none'} instead of {self.wanted or 'none'}"

    def as_json(self) -> DifferenceJson:
        """The difference as JSON has it."""
        return {"field": self.field, "found": self.found, "wanted": self.wanted}


def differences(spec: Spec, found: Shown) -> list[Difference]:
    """What a model on a server has otherwise than a spec wants, field by field; empty if nothing.

    Parameters that the model has beside those of the spec are no difference: what a repository on
    the hub sets is inherited and cannot be removed.

    Args:
        spec: The desired model; its system prompt may be known by digest alone.
        found: The model, as its server shows it.
    """
    layers = spec.layers
    different = []
    if (system := _sha256(found.system)) != spec.system.sha256:
        different.append(
            Difference("system prompt", _short(system, found.system), _short(spec.system.sha256))
        )
    template = layers.template or layers.jinja
    shown = found.template.rstrip("\n")
    if template is not None and shown != template:
        digest = _short(_sha256(shown), shown)
        if found.has_earlier_template:
            digest = f"{digest}, an earlier one of this package"
        different.append(Difference("template", digest, _short(_sha256(template))))
    if spec.vision is not None and found.sees_images != spec.vision:
        different.append(Difference("vision", *map(_seen, (found.sees_images, spec.vision))))
    if found.parser != (layers.parser or ""):
        different.append(Difference("parser", found.parser or None, layers.parser))
    for key, value in spec.parameters.items():
        wanted = sorted(value) if isinstance(value, tuple) else [value_text(value)]
        there = sorted(found.parameters.get(key, []))
        if there != wanted:
            different.append(
                Difference(f"parameter {key}", ", ".join(there) or None, ", ".join(wanted))
            )
    return different


def _seen(images: bool) -> str | None:
    return "images" if images else None


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _short(sha256: str, text: str | None = None) -> str | None:
    """A long text by its digest; None for an empty one."""
    return None if text == "" or sha256 == _sha256("") else f"sha256:{short_digest(sha256)}"
