"""How requests get to a server: connections, certificates, proxies, and asking again."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeVar

from ollama_tools.errors import ModelNotFound, NotOllama, ServerError, UsageError
from ollama_tools.json_text import MalformedJson, parse_json
from ollama_tools.network.hosts import is_loopback
from ollama_tools.network.proxies import Way, proxy_for
from ollama_tools.network.ways import bare_environment, transport_for
from ollama_tools.progress import Progress
from ollama_tools.server.address import Address
from ollama_tools.server.answers import (
    CHECK_ADDRESS,
    NO_ANSWER,
    OF_THE_WAY,
    BeingWritten,
    Broken,
    Busy,
    Disturbed,
    Refused,
    error_text,
    kind_of,
    message_of,
    no_answer,
    raise_for_status,
    well_formed,
)
from ollama_tools.server.credentials import headers_for
from ollama_tools.server.waits import Progressing, Waits

if TYPE_CHECKING:
    import httpx
    import ollama

SECONDS_BETWEEN_TRIES = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32)
_DISTURBED_SECONDS = 10.0
_SAFE_SECONDS = 30.0
_UNHEARD_SECONDS = 2.5
_RESTART_SECONDS = 10.0
_WITHOUT_CONTENT = ("/api/copy", "/api/delete")
_OF_OTHERS = frozenset((401, 403, 407, 413, 429, 502, 503, 504))
_PAUSES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0)

_T = TypeVar("_T")


class Transport:
    """The connections to one server.

    Attributes:
        url: Base URL, without a slash at its end.
    """

    def __init__(
        self, address: Address, waits: Waits, progress: Progress, api_key: str | None = None
    ) -> None:
        self.url = address.url
        self._api_key = api_key
        self._address = address
        self.waits = waits
        self._progress = progress
        self._date = ""
        self._heard = False
        self._in_vain = False

    @cached_property
    def _proxy(self) -> Way | None:
        return proxy_for(self.url)

    @cached_property
    def _wire(self) -> httpx.BaseTransport:
        import httpx

        from ollama_tools.server.wire import Wire

        headers = headers_for(self._address, self._api_key)
        return Wire(transport_for(self.url, httpx), self.waits, self._progress.step, headers)

    @cached_property
    def http(self) -> httpx.Client:
        """The client for all that the official one cannot say."""
        import httpx

        try:
            return httpx.Client(base_url=self.url, transport=self._wire, trust_env=False)
        except (httpx.InvalidURL, UnicodeError) as error:
            raise self._no_address() from error

    @cached_property
    def client(self) -> ollama.Client:
        """The official client, for what it can say, on the same connections."""
        wire = self._wire
        with bare_environment():
            # Upon import it already makes a client of its own, with what the environment names.
            import ollama
        import httpx

        try:
            return ollama.Client(
                host=self.url,
                transport=wire,
                trust_env=False,
                follow_redirects=False,
                event_hooks={"response": [self._judge]},
            )
        except (httpx.InvalidURL, UnicodeError) as error:
            raise self._no_address() from error

    def _judge(self, response: httpx.Response) -> None:
        """Say what an answer means that is of somebody between us and the server."""
        if response.is_redirect or response.status_code in _OF_OTHERS:
            response.read()
            raise_for_status(response, self._proxy)

    @property
    def is_local(self) -> bool:
        """Whether the server is on this machine, as far as its address tells."""
        return is_loopback(self.url)

    @property
    def now(self) -> datetime:
        """The server's own time, as its last answer said it; ours where it said none."""
        from email.utils import parsedate_to_datetime

        try:
            return parsedate_to_datetime(self._date)
        except ValueError:
            return datetime.now(UTC)

    def close(self) -> None:
        """Close connections."""
        if "http" in self.__dict__:
            self.http.close()
        if "client" in self.__dict__:
            self.client.close()  # type: ignore[no-untyped-call] # its stubs lack it

    def settled(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        passing: tuple[type[ServerError], ...] = (ModelNotFound, BeingWritten),
        *,
        safe: bool | None = None,
    ) -> dict[str, Any]:
        """Ask for what may be asked for again, until the answer is not one of a passing moment.

        A manifest that is being written has no content, and nearly every request looks at all
        manifests and ends where one of them goes meanwhile: HTTP 400 or 500 ("EOF", "no such file
        or directory"), or 404 for a model that is there (0.34.4).

        Args:
            method: The method.
            path: The path.
            body: What is sent.
            passing: What is taken for an answer of a passing moment, as every disturbed one is.
            safe: Whether it changes nothing, so that it may be asked again though it may have been
                heard; None where the route tells.
        """
        if safe is None:
            safe = method == "GET" or path == "/api/show"
        return self.again(partial(self.json, method, path, body), passing, safe=safe)

    def again(
        self,
        ask: Callable[[], _T],
        passing: tuple[type[ServerError], ...] = (),
        *,
        safe: bool = False,
        busy: bool = False,
        seconds: float = _SAFE_SECONDS,
    ) -> _T:
        """Ask until the answer is not one of a passing moment; see :func:`again`."""
        # Who has waited for it in vain need not do so with every question that follows.
        seconds = min(seconds, _UNHEARD_SECONDS) if self._in_vain else seconds
        try:
            found = again(ask, passing, safe=safe, busy=busy, seconds=seconds, heard=self._heard)
        except NO_ANSWER:
            self._in_vain = safe
            raise
        self._in_vain = False
        return found

    def _asked(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> httpx.Response:
        with self.explained(path):
            response = self.http.request(method, path, json=body)
        self._heard = True
        shorter = re.sub(r"/(v1|api)$", "", self.url)
        if response.status_code != 404 or shorter == self.url or message_of(response):
            return response
        # Clients of other programs want the address with this end, so people have it at hand.
        longer, self.url = self.url, shorter
        self._forget()
        with self.explained(path):
            second = self.http.request(method, path, json=body)
        if second.status_code == 404:
            self.url = longer
            self._forget()
            return response
        self._progress.warn(f"{longer} is taken as {shorter}: write that for --host or OLLAMA_HOST")
        return second

    def _forget(self) -> None:
        self.close()
        for name in ("http", "client", "_wire"):
            self.__dict__.pop(name, None)

    def json(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """One JSON object; the body of an empty answer is an empty one."""
        response = self._asked(method, path, body)
        self._date = response.headers.get("Date", self._date)
        raise_for_status(response, self._proxy)
        if not response.content.strip() and path in _WITHOUT_CONTENT:
            return {}
        try:
            answer = parse_json(response.content)
        except MalformedJson:
            answer = None
        if not isinstance(answer, dict):
            raise self._no_json(path)
        return answer

    def _no_json(self, path: str) -> NotOllama:
        return NotOllama(f"{self.url}{path} gives no JSON object", CHECK_ADDRESS)

    def stream(self, path: str, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The events of a streamed answer, JSON lines or server-sent events."""
        with (
            self.explained(path),
            self.http.stream("POST", path, json={**body, "stream": True}) as response,
        ):
            if response.status_code >= 300:
                response.read()
                raise_for_status(response, self._proxy)
            progressing = Progressing(f"{self.url}{path}", self.waits.transfer)
            # The surfaces of other makers have lines beside the events.
            is_bare = not path.startswith("/v1/")
            came = False
            for line in response.iter_lines():
                text = line.removeprefix("data:").strip()
                if not text.startswith("{"):
                    if text and is_bare:
                        raise self._no_json(path)
                    continue
                came = True
                with well_formed(f"{self.url}{path}"):
                    event = parse_json(text)
                if message := error_text(event):
                    raise kind_of(message)(f"{path}: {message}", "check the server's log")
                if path == "/api/create":
                    progressing.saw(event)
                yield event
            if not came:
                raise self._no_json(path)

    def _no_address(self) -> UsageError:
        return UsageError(f"{self.url} is not an address of a server", "as in gpu1:11434")

    @contextmanager
    def explained(self, path: str) -> Iterator[None]:
        """Say what broke where no answer came."""
        import httpx

        try:
            yield
        except (ServerError, UnicodeDecodeError):
            # What cannot be read is an answer; only an address can be impossible to write.
            raise
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError, ConnectionError) as error:
            raise no_answer(error, self.url, path, self._proxy) from error

    def check(self, response: httpx.Response) -> None:
        """Say what went wrong, where something did."""
        raise_for_status(response, self._proxy)


def again(
    ask: Callable[[], _T],
    passing: tuple[type[ServerError], ...],
    *,
    safe: bool = False,
    busy: bool = False,
    seconds: float = _SAFE_SECONDS,
    heard: bool = True,
) -> _T:
    """Ask until the answer is not one of a passing moment.

    Args:
        ask: Asks once.
        passing: What a few tries in a second decide about. A disturbed answer says nothing of what
            was asked, and only that others are busy, so it is given longer.
        safe: Whether to ask again as well where the connection broke or a proxy has no server for
            the moment. A server that is silent is not asked again: the wait was its chance. Where
            nobody listens any more, it may be just being started again.
        busy: Whether to ask again in the second case alone, where nothing has begun.
        seconds: For how long that is done.
        heard: Whether the server has answered before. One that only hangs up may be no server at
            all, so a moment tells; and where nobody listens, none was there.
    """
    delays, pauses = iter(SECONDS_BETWEEN_TRIES), iter(_PAUSES)
    started = time.monotonic()
    listened = _RESTART_SECONDS if heard else 0.0
    while True:
        try:
            return ask()
        except OF_THE_WAY as error:
            limit = {
                Broken: seconds if heard else min(seconds, _UNHEARD_SECONDS),
                Busy: seconds,
                Refused: min(seconds, listened),
            }.get(type(error), 0.0)
            # Who hung up has listened, though it may have been no server.
            listened = max(listened, _UNHEARD_SECONDS)
            is_busy = isinstance(error, Busy)
            pause = next(pauses, None)
            if not (safe or (busy and is_busy)) or pause is None:
                raise
            pause = max(pause, getattr(error, "after", None) or 0.0)
            if time.monotonic() + pause > started + limit:
                raise
            time.sleep(pause)
        except Disturbed:
            if time.monotonic() > started + _DISTURBED_SECONDS:
                raise
            time.sleep(random.uniform(0.0, 0.02))  # noqa: S311 - no secret
        except passing:
            delay = next(delays, None)
            if delay is None:
                raise
            time.sleep(delay)
