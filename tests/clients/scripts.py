"""What the scripted models say to the clients, and the models on a live server."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ollama_tools.devstral.carriers import Carrier, go_template, jinja_template
from ollama_tools.devstral.catalog import TokenizerVersion
from ollama_tools.devstral.miniature import Script, write_miniature, write_speaker
from ollama_tools.server.client import Server
from tests.conformance.cases import canonical
from tests.parity.places import Place

_SESSION: dict[str, Any] = json.loads(
    (Path(__file__).parent / "drivers" / "session.json").read_text(encoding="utf-8")
)
ANSWER: str = _SESSION["answer"]
PLAIN: str = _SESSION["plain"]
CARRIERS = (Carrier.GGUF, Carrier.MODELFILE)

Call = tuple[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Part:
    """A role for a model to play.

    Attributes:
        name: Its name.
        calls: What it calls after each message of the user, side by side.
        then: What it calls when it has their results, in place of an answer.
        context: Its ``num_ctx``; a miniature reads a byte a token.
    """

    name: str
    calls: tuple[Call, ...]
    then: tuple[Call, ...] = ()
    context: int = 16384

    def model(self, carrier: Carrier, version: TokenizerVersion) -> str:
        """The name of the model that plays it."""
        return f"{self.name}-{carrier.value}-{version.value}"

    def write(self, path: Path, version: TokenizerVersion, chat_template: str | None) -> None:
        """Writes the model's file."""
        if len(self.calls) == 1 and not self.then:
            # This kind of miniature has a plain answer for requests that offer no tools.
            ((tool, arguments),) = self.calls
            script = Script(
                tool=tool,
                arguments=_json(arguments),
                after_result=ANSWER,
                plain=PLAIN,
                form=version.value,
            )
            write_miniature(
                path,
                layers=1,
                heads=1,
                kv_heads=1,
                chat_template=chat_template,
                name=self.name,
                script=script,
            )
        else:
            write_speaker(
                path,
                canonical("", self.calls, version.value),
                after_result="".join(canonical("", self.then, version.value)) or ANSWER,
                chat_template=chat_template,
                name=self.name,
            )


_CALLS: tuple[Call, ...] = tuple((name, arguments) for name, arguments in _SESSION["calls"])
ONE = Part("one", _CALLS[:1])
TWO = Part("two", _CALLS)


def sorted_keys(part: Part) -> Part:
    """A part for a surface that sorts schemas: a grammar lets no other order pass."""
    calls = tuple((name, json.loads(_json(each, sort_keys=True))) for name, each in part.calls)
    return replace(part, name=f"{part.name}-sorted", calls=calls)


def create_models(server: Server, directory: Path, parts: Iterable[Part]) -> None:
    """Makes a model for each part in each place."""
    for part in parts:
        for carrier in CARRIERS:
            for version in TokenizerVersion:
                _create(server, directory, part, Place(carrier, version))


def _create(server: Server, directory: Path, part: Part, place: Place) -> None:
    native = place.carrier is Carrier.GGUF
    model = part.model(place.carrier, place.version)
    path = directory / f"{model}.gguf"
    part.write(path, place.version, jinja_template(place.version) if native else None)
    digest = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    server.upload(path, digest, lambda *_: None)
    path.unlink()
    request: dict[str, Any] = {
        "model": model,
        "files": {"model.gguf": digest},
        # One thread: on a busy machine two wait for each other at each of a token's barriers.
        "parameters": {"num_ctx": part.context, "temperature": 0.15, "num_thread": 1},
    }
    if not native:
        request["template"] = go_template(place.version)
        if place.version is TokenizerVersion.V13:
            request["parser"] = "ministral"
    server.create(request, lambda *_: None)


def _json(value: object, *, sort_keys: bool = False) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=sort_keys)
