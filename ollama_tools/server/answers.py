"""What an answer means: errors in the server's words, and what is no answer of Ollama at all."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ollama_tools.errors import MALFORMED, ModelNotFound, NotOllama, PullFailed, ServerError
from ollama_tools.json_text import MalformedJson, parse_json

if TYPE_CHECKING:
    import httpx

_BEING_WRITTEN = re.compile(r"EOF|unexpected end of JSON")
_DISTURBED = re.compile(r"[/\\]manifests[/\\].*: no such file or directory")


class BeingWritten(ServerError):
    """The answer of a server that met a manifest just when another request wrote it."""


class Disturbed(ServerError):
    """The answer of a server that looked at all manifests just when another request removed one."""


def is_disturbed(message: str) -> bool:
    """Whether the server failed to look at a manifest that another request removed."""
    return _DISTURBED.search(message) is not None


def raise_for_status(response: httpx.Response) -> None:
    """Say in the server's own words what went wrong, where something did."""
    if response.status_code < 400:
        return
    try:
        message = error_text(parse_json(response.content)) or response.text
    except MalformedJson:
        message = response.text
    message = message.strip()[:500] or f"HTTP {response.status_code}"
    path = response.request.url.path
    if response.status_code == 404 and "not found" in message and path != "/api/create":
        raise ModelNotFound(message, "see: devstral-ollama list")
    what = f"{path} answers {response.status_code}: {message}"
    if is_disturbed(message):
        raise Disturbed(what, "run the command again")
    if response.status_code in (400, 500) and _BEING_WRITTEN.search(message):
        raise BeingWritten(what, "run the command again")
    if "no space left" in message:
        raise ServerError(f"the server's disk is full: {message}", "free space, then run again")
    raise ServerError(what, "check the server's log")


@contextmanager
def well_formed(url: str) -> Iterator[None]:
    """Say of an answer that it is not of the form that Ollama's has."""
    try:
        yield
    except MALFORMED as error:
        raise NotOllama(
            f"{url} answers in an unexpected form", "check --host or OLLAMA_HOST"
        ) from error


def error_text(event: Any) -> str:
    """The message of an error object of any surface; empty where the event is none."""
    error = event.get("error") if isinstance(event, dict) else None
    if isinstance(error, dict):
        error = error.get("message") or json.dumps(error)
    return str(error) if error else ""


def pull_failure(name: str, message: str) -> PullFailed:
    """What went wrong in a pull, from the server's own words (seen on 0.34.4)."""
    low = message.lower()
    # A port or a digest may have the digits of any status in it.
    codes = set(re.findall(r"(?<![\w./])(?<![\w\]]:)[45]\d\d(?![\w.])", low))
    what = f"the server cannot pull {name}: {message.strip()[:300]}"
    if "no space left" in low:
        return PullFailed(f"the server's disk is full: {message}", "free space, then run again")
    if "429" in codes or "too many requests" in low:
        return PullFailed(what, "the hub limits requests: wait a few minutes, then run again")
    if codes & {"401", "403"} or "unauthorized" in low or "denied" in low or "realm" in low:
        return PullFailed(
            what, "for a private or gated repository use --via upload, which uses your hub token"
        )
    if "not exist" in low or "not found" in low or "404" in codes:
        return PullFailed(what, "check the repository's and the quant's name on the hub")
    if "location header" in low:
        return PullFailed(what, "the mirror must answer a blob with a redirect to another host")
    return PullFailed(what, "what the server has so far is used by a second run")
