"""What becomes of a request on its way through the gateway, up to the prompt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ollama_tools.devstral.carriers import Carrier
from ollama_tools.devstral.catalog import TokenizerVersion
from ollama_tools.gateway.known import Known
from ollama_tools.gateway.recalled import Recalled
from ollama_tools.gateway.request import sealed
from ollama_tools.gateway.settings import ToolCallParser
from ollama_tools.gateway.surfaces import SURFACES
from ollama_tools.server.client import Server
from tests.parity.conversation import Conversation, from_anthropic, from_openai, from_responses
from tests.parity.places import Place, Surface, render_body
from tests.parity.predicates import PREDICATES
from tests.parity.reference import Reference, reference

_KEPT = ("messages", "tools", "truncate")


def render_through(
    server: Server,
    place: Place,
    path: str,
    body: Mapping[str, Any],
    parser: ToolCallParser = ToolCallParser.SERVER,
) -> str:
    """The prompt that a live server builds of a request that came to the gateway.

    A call that the request forces has begun at its end, which is left out.
    """
    is_jinja = place.carrier is Carrier.GGUF
    known = Known(
        understands=True,
        is_jinja=is_jinja,
        context=None,
        thinks=False,
        reads_tools_as_text=is_jinja,
        lists_calls=place.version is TokenizerVersion.V7,
    )
    recalled = Recalled() if parser is ToolCallParser.GATEWAY else None
    found = sealed(SURFACES[path].read(dict(body)), known, recalled=recalled)
    whole, begun = found.body, "".join(found.opening)
    assert (recalled is None or not is_jinja) or "tools" not in whole
    assert place.surface is Surface.NATIVE
    prompt = render_body(server, place, {key: whole[key] for key in _KEPT if key in whole})
    assert prompt.endswith(begun)
    return prompt.removesuffix(begun)


def exact(place: Place, conversation: Conversation) -> Reference:
    """The prompt that a place must give: the reference's, with what no template can know.

    Those are the ids that a client leaves out, and the names that the server gives to images.
    """
    for each in PREDICATES:
        if each.name in ("ids", "images") and each.change and each.holds(place):
            conversation = each.change(place, conversation)
    return reference(place.version, conversation)


def raw_conversation(path: str, body: Mapping[str, Any]) -> Conversation:
    """What a request says, the parts of its messages apart."""
    match path:
        case "/v1/messages":
            return from_anthropic(body, apart=True)
        case "/v1/responses":
            return from_responses(body, apart=True)
        case _:
            return from_openai(body)
