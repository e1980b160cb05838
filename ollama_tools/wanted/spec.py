"""The desired model, complete and frozen."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ollama_tools.devstral.carriers import Carrier, PromptLayers, prompt_layers
from ollama_tools.devstral.catalog import Release
from ollama_tools.devstral.context import check_smallest_context
from ollama_tools.devstral.header import rewriting
from ollama_tools.devstral.system_prompt import SystemPrompt
from ollama_tools.errors import CatalogError, UsageError
from ollama_tools.files.gguf_rewrite import Rewriting
from ollama_tools.server.names import build_name
from ollama_tools.server.parameters import Kind, as_bool, find_parameter
from ollama_tools.wanted.source import Source
from ollama_tools.wanted.wish import Parameters, Scalar

_NUMBERS_END = 2**63
_EXAMPLES = {Kind.INTEGER: "40", Kind.NUMBER: "0.5", Kind.BOOLEAN: "true"}


@dataclass(frozen=True, slots=True)
class Spec:
    """A model as it shall be: equal specs give equal models.

    Attributes:
        name: The public name, with its tag.
        release: The Devstral whose format and figures hold.
        source: Where the weights come from.
        carrier: Where the chat template lives.
        system: The system prompt.
        parameters: Ollama's model parameters, ``num_ctx`` (tokens) always among them.
        native: Whether the server could apply the file's own Jinja. It is part of the spec so that
            a model made before a server's upgrade is looked at again after it.
        vision: Whether it sees images; None where it does if a projector is published beside its
            weights. A projector is among the weights that a mark is made of, so the mark says it.
        projector: The projector on this machine by which it does; None for the source's own.
        keep_template: Whether the file's own template is meant; None where nobody said it. It is
            part of a build's mark only where it is: else a build that keeps one would be taken for
            one whose template has passed.
    """

    name: str
    release: Release
    source: Source
    carrier: Carrier
    system: SystemPrompt
    parameters: Parameters
    native: bool = True
    vision: bool | None = False
    projector: Path | None = None
    keep_template: bool | None = None

    @property
    def context(self) -> int:
        """Context in tokens."""
        context = self.parameters["num_ctx"]
        assert isinstance(context, int)  # noqa: S101 - merge_parameters has seen to it
        return context

    @property
    def layers(self) -> PromptLayers:
        """Template and parser that go into the model's manifest."""
        return prompt_layers(self.carrier, self.release.tokenizer)

    @property
    def rewriting(self) -> Rewriting:
        """What is put into the file's header on its way."""
        return rewriting(self.layers.jinja, keeps_template=bool(self.keep_template))

    def mark(self, weights: Sequence[str], *, jinja: str | None = None) -> str:
        """Twelve hex digits that name a build of this spec: they vouch for its weights too.

        Args:
            weights: ``sha256:…`` of the GGUF blobs that the server serves, as ``/api/show`` has
                them.
            jinja: The template inside the file, where it is an earlier one of this package; None
                for the present one.
        """
        facts = {**self._facts, "weights": list(weights)}
        if jinja is not None:
            facts["jinja"] = jinja
        return _mark(facts)

    def build(self, weights: Sequence[str]) -> str:
        """The name under which a build of this spec is kept beside the public one."""
        return build_name(self.name, self.mark(weights))

    def earlier_builds(self, weights: Sequence[str]) -> tuple[str, ...]:
        """The names that this build may have from before 0.2, whose marks were of other facts.

        They said nothing of weights at first, and a whole number that a parameter wants as a
        fraction made another mark where it came from Python or YAML.

        Args:
            weights: As :meth:`mark` takes them.
        """
        earlier = self.source.earlier_identity
        if earlier is None:
            return ()
        facts = {**self._facts, "source": earlier}
        recommended = self.release.parameters
        whole = {
            key: int(value)
            if isinstance(value, float) and value.is_integer() and recommended.get(key) != value
            else value
            for key, value in self.parameters.items()
        }
        spelled = [{**facts, "parameters": dict(each)} for each in (self.parameters, whole)]
        if self.source.stood_beside_weights:
            spelled.append({**facts, "weights": list(weights)})
        return tuple(dict.fromkeys(build_name(self.name, _mark(each)) for each in spelled))

    @property
    def _facts(self) -> dict[str, Any]:
        layers = self.layers
        said = {"keep_template": True} if self.keep_template else {}
        return {
            "source": self.source.identity,
            "carrier": self.carrier.value,
            "template": layers.template,
            "parser": layers.parser,
            "jinja": layers.jinja,
            "requires": self.release.minimum_server,
            "system": self.system.sha256,
            "parameters": dict(self.parameters),
            "native": self.native,
            **said,
        }


def _mark(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


def parse_parameters(assignments: list[str]) -> dict[str, Scalar | tuple[str, ...]]:
    """``["temperature=0.2", "stop=END"]`` as typed parameters; ``stop`` may come several times.

    Raises:
        UsageError: An assignment is malformed, its name unknown, or its value of another type.
    """
    parameters: dict[str, Scalar | tuple[str, ...]] = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not key:
            raise UsageError(f"{assignment!r} is not NAME=VALUE", "as in temperature=0.2")
        if key in parameters and find_parameter(key).kind is Kind.TEXTS:
            earlier = parameters[key]
            assert isinstance(earlier, tuple)  # noqa: S101 - what normalised makes of a text
            parameters[key] = normalised(key, (*earlier, value))
        else:
            parameters[key] = normalised(key, value)
    return parameters


def _number(text: str, kind: Kind) -> int | float | None:
    """A number that JSON and the server can carry, so neither NaN nor more than 64 bits."""
    try:
        number = int(text) if kind is Kind.INTEGER else float(text)
    except ValueError:
        return None
    return number if abs(number) < _NUMBERS_END else None


def normalised(key: str, value: Any) -> Scalar | tuple[str, ...]:
    """A parameter in its one form, whoever said it: ``1`` and ``1.0``, ``"1"`` and ``1`` are one.

    Args:
        key: The parameter's name.
        value: A number or a truth, or text that is one; for ``stop`` a text or several, whose
            order means nothing.

    Raises:
        UsageError: Ollama has no such parameter, or it cannot have this value.
    """
    kind = find_parameter(key).kind
    if kind is Kind.TEXTS:
        texts = value if isinstance(value, list | tuple) else (value,)
        if all(
            isinstance(each, str | int | float) and not isinstance(each, bool) for each in texts
        ):
            return tuple(sorted({str(each) for each in texts}))
        raise _impossible(key, value)
    if isinstance(value, str):
        read = as_bool(value) if kind is Kind.BOOLEAN else _number(value, kind)
        if read is None:
            raise UsageError(
                f"the parameter {key} wants {kind}, not {value[:80]!r}",
                f"as in {key}={_EXAMPLES[kind]}",
            )
        value = read
    if kind is Kind.BOOLEAN:
        if isinstance(value, bool):
            return value
        raise _impossible(key, value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _impossible(key, value)
    if not abs(value) < _NUMBERS_END or (kind is Kind.INTEGER and value != int(value)):
        raise _impossible(key, value)
    # Adding zero takes the sign from a negative one.
    return int(value) if kind is Kind.INTEGER else float(value) + 0.0


def _impossible(key: str, value: object) -> UsageError:
    text = repr(value)[:80]
    return UsageError(f"the parameter {key} has the impossible value {text}", "leave it out")


def merge_parameters(
    release: Release,
    context: int | None,
    overrides: Parameters,
    *,
    longest: int | None = None,
) -> dict[str, Scalar | tuple[str, ...]]:
    """The release's recommended parameters, a person's own over them, and the context.

    Args:
        release: The release whose recommendations hold.
        context: Context in tokens; None for the release's default, or what the overrides say.
        overrides: Parameters that a person asked for.
        longest: The model's own longest context in tokens; None for the release's.

    Raises:
        UsageError: A parameter is unknown or of a wrong type, or the context is impossible.
        CatalogError: A recommended one is.
    """
    overrides = {key: normalised(key, value) for key, value in overrides.items()}
    if context is None:
        asked = overrides.get("num_ctx", release.default_context)
        assert isinstance(asked, int)  # noqa: S101 - the loop above has seen to it
        context = asked
    elif overrides.get("num_ctx", context) != context:
        raise UsageError(
            f"the context is given twice: {context} and num_ctx={overrides['num_ctx']}",
            "give it once, by --context",
        )
    check_context(context, longest or release.architecture.context, release.name)
    return {**_recommended(release), **overrides, "num_ctx": context}


def _recommended(release: Release) -> dict[str, Scalar | tuple[str, ...]]:
    found = {}
    for key, value in release.parameters.items():
        try:
            found[key] = normalised(key, value)
        except UsageError as error:
            place = release.parameter_places.get(key) or f"the parameters of {release.name}"
            raise CatalogError(f"{place}: {error.what}", error.fix) from error
    return found


def check_context(context: int, longest: int, label: str) -> None:
    """Refuse a context that the model does not have.

    The server would cut it to the model's own without a word (measured on 0.34.4).

    Raises:
        UsageError: The context is too large or too small.
    """
    if context > longest:
        raise UsageError(
            f"a context of {context} tokens is more than the {longest} of {label}",
            f"use --context {longest} or less",
        )
    check_smallest_context(context)
