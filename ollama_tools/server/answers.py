"""What an answer means: errors in the server's words, and what is no answer of Ollama at all."""

from __future__ import annotations

import json
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from ollama_tools.errors import (
    MALFORMED,
    LayerLost,
    ModelNotFound,
    NotOllama,
    PullFailed,
    ServerError,
    ServerUnreachable,
    UsageError,
)
from ollama_tools.json_text import MalformedJson, parse_json
from ollama_tools.network.hosts import is_loopback
from ollama_tools.network.proxies import Way
from ollama_tools.network.ways import causes

if TYPE_CHECKING:
    import httpx

OTHERS = "wait until others are done with this server, then run the command again"
CHECK_ADDRESS = "check --host or OLLAMA_HOST"
_GIVE_CREDENTIALS = (
    "set OLLAMA_API_KEY, or write user, colon, password and @ before the host in OLLAMA_HOST, "
    "or name a header in DEVSTRAL_OLLAMA_HEADERS"
)

_NOT_REACHED = re.compile(
    r"no such host|server misbehaving|connection refused|no route to host|unreachable|i/o timeout"
    r"|proxyconnect"
)
_WITHOUT_MODEL = ("/api/version", "/api/tags", "/api/ps")
_MODEL = re.compile(r"model\b.* not found", re.IGNORECASE)
_HUNG_UP = re.compile(r"disconnected|without|incomplete|peer")
_BEING_WRITTEN = re.compile(r"EOF|unexpected end of JSON")
_DISTURBED = re.compile(r"[/\\]manifests[/\\].*: no such file or directory")
_PAGE = re.compile(r"<(!doctype|html)\b.*", re.IGNORECASE | re.DOTALL)
# "context canceled": an earlier pull of the same layer is just being given up (0.34.4).
_BROKE_OFF = re.compile(r"connection reset|\beof\b|broken pipe|closed by|context canceled")
_BLOB_LOST = re.compile(
    r"[/\\]blobs[/\\]sha256-[0-9a-f]+: (no such file|the system cannot find)", re.I
)


class BeingWritten(ServerError):
    """The answer of a server that met a manifest just when another request wrote it."""


class Disturbed(ServerError):
    """The answer of a server that looked at all manifests just when another request removed one."""


class PullBroke(PullFailed):
    """The registry that the server pulls from could not answer for the moment."""


class Refused(ServerUnreachable):
    """Nobody listens at the address: there is no server, or it is just being started again."""


class Endless(NotOllama):
    """An answer goes on and on, and says nothing by it."""


class Broken(ServerError):
    """The connection broke: nothing tells whether the server did what it was asked."""


class Busy(ServerError):
    """The server, or a proxy before it, is not ready for the moment.

    Attributes:
        after: Seconds after which it wants to be asked again; None where it does not say.
    """

    after: float | None = None


NO_ANSWER = (ServerUnreachable, Broken, Busy, Endless)
"""Errors without any whole answer; one may come where it is asked for again."""

OF_THE_WAY = (*NO_ANSWER, NotOllama)
"""Errors that say nothing of what was asked for, since no answer of Ollama came."""


def is_disturbed(message: str) -> bool:
    """Whether the server failed to look at a manifest that another request removed."""
    return _DISTURBED.search(message) is not None


def kind_of(message: str) -> type[ServerError]:
    """What kind of error it is that a stream ends with."""
    if is_disturbed(message):
        return Disturbed
    return LayerLost if _BLOB_LOST.search(message) else ServerError


def raise_for_status(response: httpx.Response, proxy: Way | None = None) -> None:
    """Say in the server's own words what went wrong, where something did."""
    status = response.status_code
    if status < 300:
        return
    url = response.request.url
    path, base = url.path, f"{url.scheme}://{url.netloc.decode()}"
    if status < 400:
        raise _redirected(response, base)
    message = message_of(response)
    is_page = not message
    message = _printable(message or _page_text(response.text))[:500] or f"HTTP {status}"
    what = f"{path} answers {status}: {message}"
    if status in (404, 405) and path.endswith(_WITHOUT_MODEL) and not _MODEL.match(message):
        # Nobody asked for a model; Ollama may miss one that goes just then, and names it.
        raise NotOllama(what, CHECK_ADDRESS)
    if status == 404 and "not found" in message.lower() and path != "/api/create":
        if is_page and "<" in response.text:
            raise NotOllama(what, CHECK_ADDRESS)
        raise ModelNotFound(message, "see: devstral-ollama list")
    if is_disturbed(message):
        raise Disturbed(what, OTHERS)
    if _BLOB_LOST.search(message):
        raise LayerLost(what, "devstral-ollama create brings it again")
    if status in (400, 500) and _BEING_WRITTEN.search(message):
        raise BeingWritten(what, OTHERS)
    if "no space left" in message:
        raise ServerError(f"the server's disk is full: {message}", "free space, then run again")
    if status == 400 and "HTTPS" in message:
        raise NotOllama(
            f"{base} speaks TLS",
            f"write {base.replace('http:', 'https:', 1)} for --host or OLLAMA_HOST",
        )
    if status == 407:
        name, variable = (proxy.name, proxy.variable) if proxy else ("in between", "HTTPS_PROXY")
        raise ServerError(
            f"the proxy {name} asks for credentials",
            f"write user, colon, password and @ before the host in {variable}",
        )
    if status == 403 and not response.content.strip():
        # What Ollama says where it listens on loopback and is asked for by a name from outside
        # (allowedHostsMiddleware of server/routes.go, 0.34.4), and many a proxy, too.
        raise ServerError(
            f"{what}; either {_who(response)} asks for credentials, or Ollama listens to its own "
            f"machine and does not know itself as {url.host}",
            f"{_GIVE_CREDENTIALS}; or let the proxy before it send the header Host: localhost",
        )
    if status == 401 or (status == 403 and is_page):
        raise ServerError(f"{what}; {_who(response)} asks for credentials", _GIVE_CREDENTIALS)
    if status == 413:
        raise ServerError(
            f"{what}; {_who(response)} takes no body of this size",
            "raise its limit (nginx: client_max_body_size 0), or use --via server",
        )
    # Ollama's own errors are JSON, and where it fell itself, nothing: a page is a proxy's.
    if status in (429, 502, 503, 504) or (status == 500 and is_page and _is_markup(response)):
        busy = Busy(what, "check the server's log")
        after = response.headers.get("Retry-After", "")
        busy.after = float(after) if after.isdecimal() else None
        raise busy
    if status in (404, 405) and is_page:
        raise NotOllama(what, CHECK_ADDRESS)
    raise ServerError(what, "check the server's log")


def _redirected(response: httpx.Response, base: str) -> NotOllama:
    target = urljoin(str(response.request.url), response.headers.get("Location", ""))
    parts = urlsplit(target)
    place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    # What follows the route's own path is what the address lacks or has too much.
    prefix = parts.path.removesuffix(response.request.url.path)
    instead = place + (prefix if prefix != parts.path else "")
    if instead == base:
        fix = f"{base} sends its visitors elsewhere: check the proxy before the server"
    else:
        fix = f"write {_printable(instead)} for --host or OLLAMA_HOST"
    return NotOllama(
        f"{base} answers, but not as an Ollama server ({response.status_code}): "
        f"it redirects requests to {_printable(place + parts.path)[:300]}",
        fix,
    )


def _is_markup(response: httpx.Response) -> bool:
    """Whether an answer is a page, also one to a HEAD, which has no body."""
    return "<" in response.text or "html" in response.headers.get("Content-Type", "")


def _who(response: httpx.Response) -> str:
    """Who speaks for the server, as far as an answer tells."""
    realm = re.search(r'realm="?([^",]+)', response.headers.get("WWW-Authenticate", ""))
    if realm:
        return f"{_printable(realm[1])[:100]!r}"
    named = response.headers.get("Via") or response.headers.get("Server")
    return _printable(named)[:100] if named else "the server"


def _page_text(text: str) -> str:
    """A page's title; a text as it is."""
    title = re.search(r"<title[^>]*>([^<]*)", text[:65536], re.IGNORECASE)
    if title:
        return title[1]
    return re.sub(r"<[^>]*>", " ", text[:2000]) if text.lstrip().startswith("<") else text[:2000]


def _printable(text: str) -> str:
    """A text of a stranger in one line, without what a terminal would obey."""
    line = " ".join(text.split())
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in line)


@contextmanager
def well_formed(url: str) -> Iterator[None]:
    """Say of an answer that it is not of the form that Ollama's has."""
    try:
        yield
    except MALFORMED as error:
        raise NotOllama(f"{url} answers in an unexpected form", CHECK_ADDRESS) from error


def no_answer(error: Exception, url: str, path: str, proxy: Way | None) -> ServerError | UsageError:
    """What a request that got no answer means."""
    import httpx

    from ollama_tools.server.wire import TooLong

    chain = list(causes(error))
    words = " ".join(map(str, chain))
    if isinstance(error, (httpx.InvalidURL, UnicodeError)):
        return UsageError(f"{url} is not an address of a server", "as in gpu1:11434")
    if isinstance(error, TooLong):
        return Endless(f"{url}{path} gives {error}", CHECK_ADDRESS)
    wrong = next((each for each in chain if isinstance(each, ssl.SSLError)), None)
    if proxy is not None and (
        isinstance(error, httpx.ProxyError)
        or (wrong is None and isinstance(error, httpx.ConnectError))
    ):
        return ServerUnreachable(
            f"the proxy {proxy.name} does not lead to {url}",
            f"name the server in NO_PROXY, or check {proxy.variable}",
        )
    if wrong is not None:
        return _tls_failure(wrong, url)
    if any(isinstance(each, socket.gaierror) for each in chain):
        host = urlsplit(url).hostname
        return ServerUnreachable(f"nobody knows a machine named {host}", CHECK_ADDRESS)
    if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout, ConnectionRefusedError)):
        refused = "refused" in words
        if refused and is_loopback(url):
            fix = "start it: devstral-ollama serve"
        elif refused:
            fix = "check --host, and that the server listens to other machines (OLLAMA_HOST there)"
        else:
            fix = "check --host, and that no firewall is in between"
        kind = Refused if refused else ServerUnreachable
        return kind(f"no Ollama server answers at {url}", fix)
    if isinstance(error, httpx.TimeoutException):
        return ServerUnreachable(
            f"{url}{path} does not answer in time",
            "check the server's log, or wait longer with --timeout",
        )
    # httpx has one kind for a server that hung up and for one that speaks something else.
    if isinstance(error, httpx.RemoteProtocolError) and not _HUNG_UP.search(words):
        return NotOllama(
            f"{url}{path} speaks no HTTP", f"{CHECK_ADDRESS}; https:// where it speaks TLS"
        )
    # Some that speak TLS hang up on whoever does not.
    tls = " (https:// where it speaks TLS)" if url.startswith("http:") else ""
    return Broken(
        f"the connection to {url}{path} broke: {error}",
        f"{CHECK_ADDRESS}{tls}, and the server's log",
    )


def _tls_failure(error: ssl.SSLError, url: str) -> ServerUnreachable:
    if isinstance(error, ssl.SSLCertVerificationError):
        return ServerUnreachable(
            f"the certificate of {url} is not trusted: {error.verify_message}",
            "name the authority that signed it in SSL_CERT_FILE",
        )
    if error.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
        plain = url.replace("https:", "http:", 1)
        return ServerUnreachable(f"{url} speaks no TLS", f"write {plain} for --host or OLLAMA_HOST")
    return ServerUnreachable(
        f"no secure connection to {url}: {error.reason or error.strerror}",
        "check the certificates of the server and of the proxy before it",
    )


def message_of(response: httpx.Response) -> str:
    """The message of an answer that is an error object; empty where it is none."""
    try:
        return error_text(parse_json(response.content))
    except MalformedJson:
        return ""


def error_text(event: Any) -> str:
    """The message of an error object of any surface; empty where the event is none."""
    error = event.get("error") if isinstance(event, dict) else None
    if isinstance(error, dict):
        error = error.get("message") or json.dumps(error)
    return str(error) if error else ""


def pull_failure(name: str, message: str) -> PullFailed:
    """What went wrong in a pull, from the server's own words (seen on 0.34.4)."""
    if page := _PAGE.search(message):
        message = message[: page.start()] + _printable(_page_text(page[0]))
    low = message.lower()
    # A port or a digest may have the digits of any status in it.
    codes = set(re.findall(r"(?<![\w./])(?<![\w\]]:)[45]\d\d(?![\w.])", low))
    what = f"the server cannot pull {name}: {message.strip()[:300]}"
    if "no space left" in low:
        return PullFailed(f"the server's disk is full: {message}", "free space, then run again")
    if "429" in codes or "too many requests" in low:
        return PullBroke(what, "the hub limits requests: wait a few minutes, then run again")
    if codes & {"401", "403"} or "unauthorized" in low or "denied" in low or "realm" in low:
        return PullFailed(
            what, "for a private or gated repository use --via upload, which uses your hub token"
        )
    if "not exist" in low or "not found" in low or "404" in codes:
        return PullFailed(what, "check the repository's and the quant's name on the hub")
    if "tls handshake" in low or "http response to https" in low:
        return PullFailed(what, "where it is meant to be plain HTTP: --registry http://HOST")
    if "x509" in low or "certificate" in low:
        return PullFailed(what, "let the server's machine trust who signed that certificate")
    if "invalid character" in low or "unmarshal" in low:
        return PullFailed(
            f"{what}: what answers for the registry gives no JSON",
            "check --registry or HF_ENDPOINT, and what stands before it",
        )
    if codes & {"500", "502", "503", "504"} or _BROKE_OFF.search(low):
        return PullBroke(
            what,
            "the registry is busy or being mended: try again in a few minutes; a second run uses "
            "what the server has so far",
        )
    if _NOT_REACHED.search(low):
        return PullFailed(
            what,
            "the server itself must get there: check the name, and HTTPS_PROXY in its "
            "environment; or name a mirror by --registry, or use --via upload",
        )
    if "location header" in low:
        return PullFailed(what, "the mirror must answer a blob with a redirect to another host")
    return PullFailed(what, "what the server has so far is used by a second run")
