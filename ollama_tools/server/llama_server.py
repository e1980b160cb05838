"""One live llama-server: llama.cpp's own, with no Ollama before it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

from ollama_tools.errors import ModelNotFound, NotOllama, ServerError, ServerUnreachable
from ollama_tools.progress import Progress
from ollama_tools.server.answers import well_formed
from ollama_tools.server.client import Api

_START = "start it as devstral-ollama render --target llama-server prints, or check the address"


class LlamaServer(Api):
    """One live llama-server, or a router before several."""

    def __init__(
        self,
        url: str,
        *,
        timeout: float | None = None,
        api_key: str | None = None,
        progress: Progress | None = None,
    ) -> None:
        """See the class.

        Args:
            url: Its address, as in ``http://127.0.0.1:8080``; without scheme and port
                it is 8080.
            timeout: Seconds without a byte after which a wait ends.
            api_key: The key that it wants (``--api-key``).
            progress: Hears of long silences.
        """
        url = re.sub(r"/v1/?$", "", url.strip()).rstrip("/")
        if "://" not in url and not re.search(r":\d+(?:/|$)", url):
            host, slash, path = url.partition("/")
            url = f"{host}:8080{slash}{path}"
        super().__init__(url, timeout=timeout, api_key=api_key, progress=progress)
        # Behind a stream it closes the connection without a word: who asks on it in that moment
        # gets no answer.
        self._transport.http.headers["Connection"] = "close"

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """See :class:`Api`."""
        with self._own_words():
            return super().post(path, body)

    def events(self, path: str, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """See :class:`Api`."""
        with self._own_words():
            yield from super().events(path, body)

    def models(self) -> list[tuple[str, ...]]:
        """What it serves: the names of each model, its id first.

        Raises:
            ServerError: It does not answer, or is no llama-server.
        """
        with self._own_words():
            answer = self._transport.settled("GET", "/v1/models")
            with well_formed(f"{self.url}/v1/models"):
                return [
                    tuple(dict.fromkeys((each["id"], *(each.get("aliases") or ()))))
                    for each in answer["data"]
                ]

    def props(self, model: str) -> dict[str, Any]:
        """What it says of itself and of a model, which a router loads for that (``GET /props``).

        Raises:
            ModelNotFound: A router has no such model.
            ServerError: It does not answer, or is no llama-server.
        """
        with self._own_words():
            try:
                found = self._transport.settled("GET", f"/props?{urlencode({'model': model})}")
            except ServerError as error:
                if "model" in error.what and "not found" in error.what:
                    raise ModelNotFound(
                        f"{self.url} has no model {model!r}", "see its /v1/models"
                    ) from error
                raise
        if not isinstance(found.get("build_info"), str):
            raise ServerError(f"{self.url} answers, but not as a llama-server", _START)
        return found

    def prompt(self, model: str, body: Mapping[str, Any]) -> str:
        """The prompt that it builds of a request to ``/v1/chat/completions``."""
        answer = self.post("/apply-template", {**body, "model": model})
        with well_formed(f"{self.url}/apply-template"):
            return str(answer["prompt"])

    def prompt_tokens(self, model: str, messages: list[dict[str, Any]]) -> int:
        """The tokens that it counts for a chat's prompt; a token is generated."""
        body = {"model": model, "messages": messages, "max_tokens": 1, "temperature": 0}
        answer = self.post("/v1/chat/completions", body)
        with well_formed(f"{self.url}/v1/chat/completions"):
            return int(answer["usage"]["prompt_tokens"])

    @contextmanager
    def _own_words(self) -> Iterator[None]:
        """Say of a server that is not there, or another, which one it should have been."""
        try:
            yield
        except ServerUnreachable as error:
            if "Ollama" not in error.what:
                raise
            raise ServerUnreachable(f"no llama-server answers at {self.url}", _START) from error
        except NotOllama as error:
            raise ServerError(
                f"{self.url} answers, but not as a llama-server: {error.what}", _START
            ) from error
