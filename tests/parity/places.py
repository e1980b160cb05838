"""Where a template is put to the test: carrier, tokenizer version, server, request surface."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from ollama_tools.devstral.carriers import (
    Carrier,
    complete_jinja,
    go_template,
    jinja_template,
)
from ollama_tools.devstral.catalog import TokenizerVersion
from ollama_tools.devstral.miniature import Script, write_miniature
from ollama_tools.server.client import Server
from ollama_tools.settings.environment import TEMPLATE_FILE
from tests.parity.conversation import Body, Conversation, to_native, to_openai
from tests.testbed.build import NEWEST, ollama_build
from tests.testbed.models import TEMPLATES
from tests.testbed.server import LlamaServer, OllamaServer

# A miniature reads a byte a token: room for the longest recorded prompt.
_CONTEXT = 65536
_PUBLISHED = {TokenizerVersion.V13: "published.jinja", TokenizerVersion.V7: "published-v7.jinja"}


class Surface(StrEnum):
    """The request surfaces that tell what prompt they build.

    The last is llama-server's own; it takes what its ``/v1/chat/completions`` takes.
    """

    NATIVE = "/api/chat"
    OPENAI = "/v1/chat/completions"
    TEMPLATE = "/apply-template"


LlamaServers = Mapping[TokenizerVersion, Server]
"""A llama-server for each format: it has one template for all that it serves."""

OLLAMA_SURFACES = (Surface.NATIVE, Surface.OPENAI)


@dataclass(frozen=True)
class Place:
    """One template in one place.

    Attributes:
        carrier: Where the template lives; ``hub`` stands for one like the published template.
        version: The format of the prompt.
        surface: Where the request goes in.
        ollama: Version of the server; of no meaning for llama-server by itself.
    """

    carrier: Carrier
    version: TokenizerVersion
    surface: Surface = Surface.NATIVE
    ollama: str = NEWEST

    @property
    def model(self) -> str:
        return f"{self.carrier.value}-{self.version.value}"

    @property
    def by_ollama(self) -> bool:
        """Whether an Ollama server decodes the request before llama.cpp sees it."""
        return self.surface is not Surface.TEMPLATE

    def __str__(self) -> str:
        if not self.by_ollama:
            return f"llama-server-{self.version.value}"
        api = self.surface.value.removeprefix("/").replace("/", "-")
        return f"{self.carrier.value}-{self.version.value}-{api}-{self.ollama}"


def llama_place(version: TokenizerVersion) -> Place:
    """The complete form of our Jinja on llama-server by itself."""
    return Place(Carrier.SERVER, version, Surface.TEMPLATE)


@contextmanager
def parity_llama_server(
    version: TokenizerVersion, root: Path, template: Path | None = None
) -> Iterator[Server]:
    """A live llama-server with a miniature.

    Args:
        version: The format of the prompt.
        root: Where the server keeps what it has.
        template: File of the Jinja; None for the complete form of ours.
    """
    root.mkdir(parents=True, exist_ok=True)
    model = root / f"{version.value}.gguf"
    write_miniature(
        model, layers=1, heads=1, kv_heads=1, name=version.value, script=Script(form=version.value)
    )
    arguments = ("-m", model, "-c", str(_CONTEXT), "-np", "1")
    chosen = ("--jinja", "--chat-template-file", template or complete_jinja(version))
    program = ollama_build().llama_server
    assert program is not None
    log = root / "llama-server.log"
    with (
        LlamaServer(program, (*arguments, *chosen), log_path=log) as bed,
        Server(bed.url) as server,
    ):
        yield server


@contextmanager
def parity_llama_servers(root: Path) -> Iterator[LlamaServers]:
    """A llama-server for each format, with the complete form of our Jinja."""
    v13, v7 = TokenizerVersion.V13, TokenizerVersion.V7
    with (
        parity_llama_server(v13, root / v13.value) as one,
        parity_llama_server(v7, root / v7.value) as other,
    ):
        yield {v13: one, v7: other}


@contextmanager
def parity_server(
    version: str,
    root: Path,
    carriers: tuple[Carrier, ...] | None = None,
    dedicated: str | None = None,
    env: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """A live server with a model for each place on it; ``Place.model`` is its name.

    Args:
        version: Version of Ollama.
        root: Where the server keeps what it has.
        carriers: Where templates live; None for those that this package brings with a model.
        dedicated: The Jinja that the server applies to every model without a TEMPLATE.
        env: Further variables of its environment.
    """
    if carriers is None:
        native = version == NEWEST
        carriers = (Carrier.MODELFILE, Carrier.GGUF) if native else (Carrier.MODELFILE,)
    # Without a GPU a server keeps three models and would load one anew with every request.
    env = {"OLLAMA_MAX_LOADED_MODELS": "4", "OLLAMA_KEEP_ALIVE": "-1", **(env or {})}
    if dedicated is not None:
        path = root / "dedicated.jinja"
        path.write_text(dedicated, encoding="utf-8")
        env[TEMPLATE_FILE] = str(path)
    with (
        OllamaServer(
            ollama_build(version),
            models_dir=root / "models",
            log_path=root / "ollama.log",
            env=env,
        ) as bed,
        Server(bed.url) as server,
    ):
        for each in TokenizerVersion:
            for carrier in carriers:
                _create(server, Place(carrier, each), root)
        yield server


def render_live(server: Server, place: Place, conversation: Conversation) -> str:
    """The prompt that a live server builds, its BOS token left out.

    Raises:
        ollama_tools.errors.ServerError: The server refuses the conversation.
    """
    native = place.surface is Surface.NATIVE
    body = to_native(conversation) if native else to_openai(conversation)
    return render_body(server, place, body)


def render_body(server: Server, place: Place, body: Mapping[str, Any]) -> str:
    """The prompt for a body as a client sent it."""
    if not place.by_ollama:
        prompt = server.post(place.surface.value, body)["prompt"]
        assert isinstance(prompt, str)
        return prompt.removeprefix("<s>")
    # Without "truncate" a prompt over the context would lose its first messages.
    more: Body = {"model": place.model, "stream": False, "_debug_render_only": True}
    if place.surface is Surface.NATIVE:
        more |= {"truncate": False}
    answer = server.post(place.surface.value, {**body, **more})
    rendered = answer["_debug_info"]["rendered_template"]
    assert isinstance(rendered, str)
    return rendered.removeprefix("<s>")


def _create(server: Server, place: Place, root: Path) -> None:
    path = root / f"{place.model}.gguf"
    jinja: str | None = None
    match place.carrier:
        case Carrier.GGUF:
            jinja = jinja_template(place.version)
        case Carrier.HUB | Carrier.SERVER:
            jinja = (TEMPLATES / _PUBLISHED[place.version]).read_text(encoding="utf-8")
        case Carrier.MODELFILE:
            pass
    write_miniature(
        path,
        layers=1,
        heads=1,
        kv_heads=1,
        chat_template=jinja,
        name=place.model,
        script=Script(form=place.version.value),
    )
    digest = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    server.upload(path, digest, lambda *_: None)
    request: Body = {
        "model": place.model,
        "files": {"model.gguf": digest},
        "parameters": {"num_ctx": _CONTEXT},
    }
    if place.carrier is Carrier.MODELFILE:
        request["template"] = go_template(place.version)
        if place.version is TokenizerVersion.V13:
            request["parser"] = "ministral"
    server.create(request, lambda *_: None)
