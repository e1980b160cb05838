"""How much room a prompt leaves for an answer.

Nobody says how many tokens a prompt has before it is evaluated. No token is less than a byte, so a
request's bytes are a bound; and what a server has counted once holds for all that begins alike,
which is how a session grows.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import cached_property

from ollama_tools.gateway.asked import JsonObject
from ollama_tools.gateway.exact import compact

_KEPT = 4096
_AROUND = 64
"""Bytes for what a template puts around the whole."""


class Prompt:
    """What a request's prompt is made of, written once: to be counted, and to be sent."""

    def __init__(self, body: JsonObject) -> None:
        self._model = compact(body.get("model"))
        self._tools = compact(body["tools"]) if "tools" in body else b""
        self._said: list[JsonObject] = body["messages"]
        self._messages = list(map(compact, self._said))

    def request(self, body: JsonObject) -> bytes:
        """The body of a request for it; ``body`` says all but messages and tools."""
        written = ("messages", "tools")
        rest = compact({name: each for name, each in body.items() if name not in written})
        tools = [b'"tools":' + self._tools] if self._tools else []
        messages = [*self._messages]
        messages[0] = b'"messages":[' + messages[0]
        messages[-1] += b"]}"
        # The whole is large, and copied once.
        return b",".join((rest[:-1], *tools, *messages))

    @cached_property
    def has_images(self) -> bool:
        """Whether images are in it, of which no bytes tell the tokens."""
        return any("images" in each for each in self._said)

    @cached_property
    def beginnings(self) -> list[tuple[int, int]]:
        """Each message's bytes, and a key for all up to it; tools are counted with the first."""
        size, found = len(self._model) + len(self._tools), []
        # Python's own hash is the quickest, and nobody outside of this process can aim at one.
        key = hash((self._model, self._tools))
        for text in self._messages:
            key = hash((key, text))
            found.append((size + len(text), key))
            size = 0
        return found


class Counted:
    """The prompts that a server has counted, by what they begin with."""

    def __init__(self) -> None:
        self._tokens: OrderedDict[int, int] = OrderedDict()

    def remember(self, prompt: Prompt, tokens: int) -> None:
        """Keep how many tokens a request's prompt had."""
        _, key = prompt.beginnings[-1]
        self._tokens[key] = tokens
        self._tokens.move_to_end(key)
        while len(self._tokens) > _KEPT:
            self._tokens.popitem(last=False)

    def most(self, prompt: Prompt, system: str) -> int | None:
        """The most tokens that a request's prompt can have; None where images are in it."""
        if prompt.has_images:
            return None
        most = len(system.encode()) + _AROUND
        for size, key in prompt.beginnings:
            most = self._tokens.get(key, most + size)
        return most
