"""What an answer of the hub, or of a mirror, may be; held to before huggingface_hub uses it.

huggingface_hub takes an ETag and a commit for names of files, reads documents of any size, waits
for as long as it is told to, and follows the pages of a list to whatever host they name. Hooks on
its HTTP client hold all that to bounds while this package asks, and leave a program's own use of
huggingface_hub alone.
"""

from __future__ import annotations

import contextvars
import importlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urljoin, urlsplit

from ollama_tools.errors import HubAway, HubError
from ollama_tools.json_text import MalformedJson, Nesting
from ollama_tools.network.deadline import Deadline, Sockets
from ollama_tools.network.ways import bare_environment, transport_for_all

_T = TypeVar("_T")

LONGEST_WAIT = 30.0
"""Seconds that the hub may ask us to wait before we ask again."""

METADATA_SECONDS = 90.0
"""Seconds within which an answer that is no file has to be there whole."""

_IDLE_SECONDS = 15.0
"""For which nobody says how long; a request is tried twice."""

_HEADERS_SECONDS = 60.0
_MOST_BYTES = 32 * 1024**2
_MOST_REQUESTS = 200
_MOST_UNANSWERED = 2
_TO_ASK_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_WAITS = (0.5, 1.0, 2.0)

# Room is left for what huggingface_hub puts behind it: a random part and `.incomplete`.
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=-]{0,199}")
_NAMING_HEADERS = ("X-Linked-ETag", "ETag", "X-Repo-Commit", "X-Xet-Hash")
_RATE_LIMIT = re.compile(r"\br=0\b.*\bt=(\d+)")
_MIRROR = "check HF_ENDPOINT, and the proxy in between"


class Unavailable(HubAway):
    """The hub cannot answer now; the same question may be answered later.

    Attributes:
        wait: Seconds after which to ask again, as the hub said; None where it said nothing.
    """

    def __init__(self, what: str, fix: str, wait: float | None = None) -> None:
        super().__init__(what, fix)
        self.wait = wait


class Unanswered(HubAway):
    """Nothing comes back from where the hub should be."""


@dataclass
class _Call:
    """One question of this package, or one download, whatever it takes of requests."""

    label: str
    is_download: bool = False
    bytes_left: int = _MOST_BYTES
    requests_left: int = _MOST_REQUESTS
    announced: int | None = None
    unanswered: int = 0
    sent_to: str = ""
    ends: float = field(default_factory=lambda: time.monotonic() + METADATA_SECONDS)
    deadline: Deadline | None = None

    def begin(self) -> None:
        """A request goes out, whose answer has to begin in time.

        Raises:
            HubError: The time for all of them is over.
        """
        self.close()
        now = time.monotonic()
        if self.is_download:
            self.ends = now + METADATA_SECONDS
        if now >= self.ends or self.is_late:
            raise _never_ends(self.label)
        self.deadline = Deadline(min(_HEADERS_SECONDS, self.ends - now), _sockets.cut)

    @property
    def is_late(self) -> bool:
        """Whether the answer did not begin in time, so that its connection was cut."""
        return self.deadline is not None and self.deadline.passed

    def close(self) -> None:
        """The answer has begun, or nobody waits for it any more."""
        if self.deadline is not None:
            self.deadline.close()


_call: contextvars.ContextVar[_Call | None] = contextvars.ContextVar("hub_call", default=None)
_sockets = Sockets()
_installing = threading.Lock()


def is_safe_path(name: str) -> bool:
    """Whether a file's name in a repository stays in the folder that it is put in."""
    return (
        bool(name)
        and name.isprintable()
        and not re.match(r"[/\\]|[A-Za-z]:", name)
        and not {"..", ".", ""} & set(re.split(r"[/\\]", name))
    )


@contextmanager
def guarded(label: str, *, is_download: bool = False) -> Iterator[None]:
    """Hold the hub's answers to bounds.

    Args:
        label: What is asked about.
        is_download: Whether a file is brought, which may take as long as it goes on.

    Raises:
        HubError: An answer is not there in time, or is none of the hub's.
    """
    _install()
    call = _Call(label, is_download)
    token = _call.set(call)
    try:
        yield
    except Exception as error:
        # Whatever broke then, it was the cut; and there is no use in asking again.
        if call.is_late:
            raise _never_ends(label) from error
        raise
    finally:
        _call.reset(token)
        call.close()


def redirected() -> str:
    """Where the hub sent what is asked just now, for a message; empty where it did not."""
    call = _call.get()
    return f", which redirects to {call.sent_to}" if call and call.sent_to else ""


def ask(question: Callable[[], _T]) -> _T:
    """Ask, and ask again a few times where the hub cannot answer now.

    Raises:
        HubError: It refuses, or it cannot answer within the limit.
    """
    for pause in _WAITS:
        try:
            return question()
        except Unavailable as error:
            wait = pause if error.wait is None else error.wait
            if wait > LONGEST_WAIT:
                raise
            time.sleep(wait)
    return question()


def _never_ends(label: str) -> HubError:
    return HubError(
        f"the answer of the hub for {label} was not whole after {METADATA_SECONDS:.0f} seconds",
        f"{_MIRROR}, or try again later",
    )


def _install() -> None:
    """Put the hooks on every HTTP client that huggingface_hub makes from now on."""
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils import _http

    with _installing:
        make = getattr(_http, "_GLOBAL_CLIENT_FACTORY", _http.default_client_factory)
        if getattr(make, "is_guarded", False):
            return

        def factory() -> Any:
            # A program that has its own knows better how the hub is reached.
            client = _by_our_ways(make) if make is _http.default_client_factory else make()
            hooks = client.event_hooks
            client.event_hooks = {
                "request": [*hooks["request"], _before],
                "response": [*hooks["response"], _after],
            }
            return client

        factory.is_guarded = True  # type: ignore[attr-defined] # a function's own attribute
        set_client_factory(factory)


def _by_our_ways(make: Callable[[], Any]) -> Any:
    """The client that huggingface_hub makes, by the same proxies and certificates as all others.

    It would fail upon a range of addresses in NO_PROXY, and know none for this machine itself.
    """
    with bare_environment():
        like = make()
    like.close()
    return type(like)(
        transport=transport_for_all(_library_of(like)),
        trust_env=False,
        event_hooks=like.event_hooks,
        follow_redirects=like.follow_redirects,
        timeout=like.timeout,
    )


def _library_of(thing: Any) -> Any:
    """The HTTP library that a client or an answer is of."""
    return importlib.import_module(type(thing).__module__.partition(".")[0])


def _before(request: Any) -> None:
    call = _call.get()
    if call is None:
        return
    call.unanswered += 1
    if call.unanswered > _MOST_UNANSWERED:
        # huggingface_hub would go on for half a minute.
        raise Unanswered(f"no answer comes from the hub for {call.label}")
    call.requests_left -= 1
    if call.requests_left < 0:
        raise HubError(f"the hub sends us from page to page for {call.label}", _MIRROR)
    if "authorization" in request.headers and not _is_hub(str(request.url)):
        del request.headers["authorization"]
    # What is small on the wire must not be large in memory.
    request.headers["accept-encoding"] = "identity"
    call.begin()
    request.extensions["trace"] = _sockets.trace
    limits = request.extensions.get("timeout", {})
    request.extensions["timeout"] = {
        each: limits.get(each) or _IDLE_SECONDS for each in ("connect", "read", "write", "pool")
    }


def _is_hub(url: str) -> bool:
    from huggingface_hub import constants

    hubs = (constants.ENDPOINT, "https://huggingface.co", "https://hub-ci.huggingface.co")
    return _origin(url) in {_origin(each) for each in hubs}


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _after(response: Any) -> None:
    call = _call.get()
    if call is None:
        return
    call.unanswered = 0
    call.close()
    if response.is_redirect:
        # Its origin alone: what follows may be a signature that opens the file to anybody.
        target = urljoin(str(response.request.url), response.headers.get("Location", ""))
        parts = urlsplit(target)
        call.sent_to = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"[:100]
    _require_available(call, response)
    if response.request.method == "HEAD":
        _require_names(call, response)
        size = response.headers.get("X-Linked-Size")
        if size is None and not response.is_redirect:
            size = response.headers.get("Content-Length")
        call.announced = int(size) if re.fullmatch(r"\d{1,18}", size or "") else None
        return
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise HubError(f"the hub packs its answer for {call.label}, unasked", _MIRROR)
    is_file = response.is_success and "/api/" not in response.request.url.path
    response.stream = _bounded(response, _Bounds(response.stream, call, is_file=is_file))


def _require_available(call: _Call, response: Any) -> None:
    status = response.status_code
    if status not in _TO_ASK_AGAIN:
        return
    wait = _asked_wait(response.headers)
    after = f", and asks to wait {wait:.0f} seconds" if wait and wait > LONGEST_WAIT else ""
    if status == 429:
        raise Unavailable(
            f"the hub answers 429: too many requests{after}",
            "wait a few minutes, or log in: hf auth login",
            wait,
        )
    raise Unavailable(
        f"the hub answers {status} for {call.label}{after}",
        "it is overloaded or being mended: try again in a few minutes",
        wait,
    )


def _asked_wait(headers: Any) -> float | None:
    """Seconds to wait, as ``Retry-After`` (a number or a date) or the rate limit say."""
    from datetime import UTC, datetime
    from email.utils import parsedate_to_datetime

    if limit := _RATE_LIMIT.search(headers.get("RateLimit", "")):
        return float(limit[1][:9])
    text = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d{1,9}", text):
        return float(text)
    try:
        when = parsedate_to_datetime(text)
        return max(0.0, (when - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, OverflowError):
        # No date, or one without its zone.
        return None


def _require_names(call: _Call, response: Any) -> None:
    """Refuse what is to become the name of a file here and could lead out of its folder."""
    for header in _NAMING_HEADERS:
        value = response.headers.get(header)
        # As huggingface_hub takes it out of its quotes.
        name = value.lstrip("W/").strip('"') if value else None
        if name and not _FILE_NAME.fullmatch(name):
            raise HubError(
                f"what answers for the hub gives {call.label} the {header} {value[:80]!r}, which "
                "is no name of a file",
                f"do not trust it: {_MIRROR}",
            )


def _bounded(response: Any, bounds: _Bounds) -> Any:
    """The bounds as a stream of the HTTP library, which accepts nothing but its own kind."""
    kind = type("Bounded", (_library_of(response).SyncByteStream,), {})
    kind.__iter__ = lambda _: iter(bounds)  # type: ignore[attr-defined] # abstract in its base
    kind.close = lambda _: bounds.close()  # type: ignore[attr-defined] # the same
    return kind()


class _Bounds:
    """The bytes of an answer, up to a bound."""

    def __init__(self, stream: Any, call: _Call, *, is_file: bool) -> None:
        self._stream = stream
        self._call = call
        self._is_file = is_file

    def __iter__(self) -> Iterator[bytes]:
        call, got, nesting = self._call, 0, Nesting()
        for piece in self._stream:
            got += len(piece)
            if self._is_file:
                if call.announced is not None and got > call.announced:
                    raise HubError(
                        f"the hub sends more of {call.label} than the {call.announced} bytes that "
                        "it announced",
                        _MIRROR,
                    )
            else:
                call.bytes_left -= len(piece)
                if call.bytes_left < 0:
                    raise HubError(
                        f"the hub's answer for {call.label} is longer than "
                        f"{_MOST_BYTES // 1024**2} MiB",
                        _MIRROR,
                    )
                if time.monotonic() > call.ends:
                    raise _never_ends(call.label)
                # huggingface_hub reads it, and how deep Python can differs by its version.
                try:
                    nesting.feed(piece)
                except MalformedJson as error:
                    raise HubError(
                        f"the hub's answer for {call.label} cannot be read: {error}", _MIRROR
                    ) from error
            yield piece

    def close(self) -> None:
        self._stream.close()
