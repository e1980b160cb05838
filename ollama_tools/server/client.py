"""One live Ollama server, over its HTTP API.

``ollama.Client`` is the transport where it can say what is needed (pull, copy, delete, chat). It
cannot send a parser, ask whether a blob is there, or ask for the rendered prompt, and it takes a
fifth of a second to import; the rest goes through httpx. Only this module knows which is which.
"""

from __future__ import annotations

import json
import os
import random
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import urlsplit

from ollama_tools.errors import (
    MALFORMED,
    FileProblem,
    LayerLost,
    ModelNotFound,
    NotOllama,
    PullFailed,
    ServerError,
    ServerUnreachable,
    UsageError,
)
from ollama_tools.json_text import MalformedJson, parse_json
from ollama_tools.server.names import own_name, same_name
from ollama_tools.server.process import is_local
from ollama_tools.server.shown import Shown

if TYPE_CHECKING:
    import httpx
    import ollama

DEFAULT_PORT = 11434
_SCHEME_PORTS = {"http": 80, "https": 443}
_UPLOAD_PIECE = 1024 * 1024
_SECONDS_BETWEEN_TRIES = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32)
_DISTURBED_SECONDS = 10.0
_BEING_WRITTEN = re.compile(r"EOF|unexpected end of JSON")
_DISTURBED = re.compile(r"[/\\]manifests[/\\].*: no such file or directory")
_BLOB_LOST = re.compile(
    r"[/\\]blobs[/\\]sha256-[0-9a-f]+: (no such file|the system cannot find)", re.I
)

_T = TypeVar("_T")

Advance = Callable[[str, int, int | None], None]
"""Called with a server's status text, bytes done, and bytes of the whole where known."""


def resolve_host(text: str | None = None) -> str:
    """The server's base URL, read as the ollama command line reads ``OLLAMA_HOST``.

    ``gpu1``, ``gpu1:8080``, ``:8080``, ``http://gpu1``, ``https://gpu1/ollama`` and ``[::1]`` are
    all understood. The port is 11434 unless a scheme is given without one. An address that means
    "every interface" is where a server listens, so a client asks loopback.

    Args:
        text: What a person wrote; None for ``OLLAMA_HOST``, or 127.0.0.1 where that is unset.

    Raises:
        UsageError: The text is no address.
    """
    text = (os.environ.get("OLLAMA_HOST", "") if text is None else text).strip().strip("\"'")
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "http", text
    scheme = scheme.lower()
    if scheme not in _SCHEME_PORTS:
        raise UsageError(f"{text!r} is not an address of a server", "use http:// or https://")
    if rest.startswith(":"):
        rest = f"127.0.0.1{rest}"
    try:
        parts = urlsplit(f"{scheme}://{rest}")
        port = parts.port
    except ValueError:
        raise UsageError(f"{text!r} is not an address of a server", "as in gpu1:11434") from None
    if parts.username or parts.password:
        raise UsageError(
            "the server's address contains a password", "put the server behind a proxy instead"
        )
    host = parts.hostname or "127.0.0.1"
    if not re.fullmatch(r"[\w.:%-]+", host):
        raise UsageError(f"{text!r} is not an address of a server", "as in gpu1:11434")
    if host in ("0.0.0.0", "::"):  # noqa: S104 - replaced, not bound
        host = "127.0.0.1" if host == "0.0.0.0" else "::1"  # noqa: S104
    if ":" in host:
        host = f"[{host}]"
    if port is None:
        port = _SCHEME_PORTS[scheme] if separator else DEFAULT_PORT
    return f"{scheme}://{host}:{port}{parts.path.rstrip('/')}"


@dataclass(frozen=True, slots=True)
class InstalledModel:
    """A model as ``/api/tags`` lists it.

    Attributes:
        name: Its name.
        digest: Hex digest of its manifest.
        bytes: Size of all its layers.
        modified: When its manifest was written: ISO 8601 with the server's own offset.
        parent: What its weights were made of; see :mod:`ollama_tools.server.origin`.
    """

    name: str
    digest: str
    bytes: int
    modified: str = ""
    parent: str = ""


@dataclass(frozen=True, slots=True)
class RunningModel:
    """A loaded model as ``/api/ps`` lists it: ``context`` in tokens, sizes in bytes."""

    name: str
    digest: str
    context: int | None
    bytes: int
    vram_bytes: int


class _BeingWritten(ServerError):
    """The answer of a server that met a manifest just when another request wrote it."""


class _Disturbed(ServerError):
    """The answer of a server that looked at all manifests just when another request removed one."""


class Server:
    """One live Ollama server.

    Attributes:
        url: Base URL, without a slash at its end.
    """

    def __init__(self, host: str | None = None) -> None:
        self.url = resolve_host(host)
        self._date = ""

    @cached_property
    def _http(self) -> httpx.Client:
        import httpx

        with self._surroundings_explained():
            # A proxy for the outside world must not swallow requests to a server in the next room.
            return httpx.Client(
                base_url=self.url,
                timeout=httpx.Timeout(30.0, read=None),
                trust_env=not self.is_local,
                # Reading the certificates takes longer than all requests of an unchanged model.
                verify=self.url.startswith("https:"),
            )

    @cached_property
    def client(self) -> ollama.Client:
        """The official client, for what it can say."""
        with self._surroundings_explained():
            # Upon import it already makes a client of its own, with what the environment names.
            import ollama

            return ollama.Client(host=self.url, trust_env=not self.is_local)

    @property
    def is_local(self) -> bool:
        """Whether the server is on this machine, as far as its address tells."""
        return is_local(self.url)

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
        if "_http" in self.__dict__:
            self._http.close()
        if "client" in self.__dict__:
            self.client.close()  # type: ignore[no-untyped-call] # its stubs lack it

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # What the server is and has

    def version(self) -> str:
        """The server's version.

        Raises:
            ServerUnreachable: Nothing answers.
            NotOllama: Something else than Ollama answers.
        """
        with self._explained("/api/version"):
            response = self._http.get("/api/version", timeout=10.0)
        try:
            version = parse_json(response.content)["version"]
        except MALFORMED:
            version = None
        if response.status_code != 200 or not isinstance(version, str):
            raise NotOllama(
                f"{self.url} answers, but not as an Ollama server ({response.status_code})",
                "check --host or OLLAMA_HOST",
            )
        return version

    def models(self) -> list[InstalledModel]:
        """All models on the server, the one whose manifest was written last first."""
        found = self._settled("GET", "/api/tags").get("models") or []
        with self._well_formed("/api/tags"):
            return [
                InstalledModel(
                    each["name"],
                    each["digest"],
                    int(each.get("size") or 0),
                    str(each.get("modified_at") or ""),
                    str((each.get("details") or {}).get("parent_model") or ""),
                )
                for each in found
            ]

    def model(self, name: str) -> InstalledModel | None:
        """One model on the server, or None."""
        return find_model(self.models(), name)

    def models_with(self, name: str) -> list[InstalledModel]:
        """All models; looks again for a name that is missing, since a switch hides it for a moment.

        Only a name that has builds is switched.
        """
        found = self.models()
        for delay in _SECONDS_BETWEEN_TRIES[:3]:
            if find_model(found, name) is not None or not _has_builds(found, name):
                break
            time.sleep(delay)
            found = self.models()
        return found

    def show(self, name: str, *, anew: bool = False) -> Shown:
        """What a model is made of.

        Args:
            name: Its name.
            anew: Whether the server must look at the model's layers, and not answer with what it
                saw when it was asked before (0.34.4 does, also where a layer is gone since).

        Raises:
            ModelNotFound: There is no such model, or a layer of it is gone.
            LayerLost: Its weights are gone.
        """
        # Options are a request's own, so that no earlier answer fits one that has some.
        options = {"options": {"num_keep": 0}} if anew else {}
        answer = self._settled("POST", "/api/show", {"model": name, **options})
        with self._well_formed("/api/show"):
            for key in ("model_info", "details"):
                dict(answer.get(key) or {})
        return Shown(name, answer)

    def running(self) -> list[RunningModel]:
        """The models that are loaded now."""
        found = self._settled("GET", "/api/ps").get("models") or []
        with self._well_formed("/api/ps"):
            return [
                RunningModel(
                    each["name"],
                    each.get("digest", ""),
                    each.get("context_length"),
                    int(each.get("size") or 0),
                    int(each.get("size_vram") or 0),
                )
                for each in found
            ]

    def has_blob(self, digest: str) -> bool:
        """Whether ``sha256:…`` is among the server's blobs."""
        path = f"/api/blobs/{digest}"
        with self._explained(path):
            return self._http.head(path, timeout=30.0).status_code == 200

    # Changing what it has

    def upload(self, path: Path, digest: str, advance: Advance) -> None:
        """Send a file as a blob; the server checks the digest.

        Raises:
            ServerError: The server refuses it.
            FileProblem: The file cannot be read, or changed since its digest was taken.
        """

        def pieces() -> Iterator[bytes]:
            with _readable(path), path.open("rb") as file:
                while piece := file.read(_UPLOAD_PIECE):
                    yield piece

        with _readable(path):
            size = path.stat().st_size
        self.upload_stream(pieces(), size, digest, advance, label=str(path))

    def upload_stream(
        self, chunks: Iterable[bytes], size: int, digest: str, advance: Advance, *, label: str
    ) -> None:
        """Send bytes as a blob; the server checks the digest.

        An error that ``chunks`` raises passes through, and leaves the server without the blob.

        Args:
            chunks: The blob, piece by piece.
            size: Bytes of all pieces.
            digest: ``sha256:…`` of them.
            advance: Hears of the progress.
            label: What is sent, for messages.

        Raises:
            ServerError: The server refuses it.
            FileProblem: The bytes are not those of the digest, so they changed since it was taken.
        """
        changed = FileProblem(f"{label} changed while it was sent", "run the command again")

        def counted() -> Iterator[bytes]:
            done = 0
            for chunk in chunks:
                if done + len(chunk) > size:
                    raise changed
                yield chunk
                done += len(chunk)
                advance("uploading", done, size)
            if done != size:
                raise changed

        target = f"/api/blobs/{digest}"
        with self._explained(target):
            response = self._http.post(
                target, content=counted(), headers={"Content-Length": str(size)}
            )
        if response.status_code == 400 and "digest" in response.text:
            raise changed
        self._raise_for_status(response)

    def create(self, request: Mapping[str, Any], advance: Advance) -> None:
        """``POST /api/create``; see :func:`ollama_tools.model.modelfile.create_request`."""
        _again(partial(self._create, request, advance), ())

    def _create(self, request: Mapping[str, Any], advance: Advance) -> None:
        status = ""
        try:
            for line in self._stream("/api/create", request):
                status = str(line.get("status", ""))
                advance(status, 0, None)
        except ServerError as error:
            if "exceeds file size" in error.what or "EOF" in error.what:
                raise ServerError(
                    f"the weights are cut short: {error.what}", "fetch the file again"
                ) from error
            raise
        if status != "success":
            raise ServerError(
                f"the creation of {request['model']} ended without a result",
                "check the server's log, then run it again",
            )

    def pull(self, name: str, *, insecure: bool, advance: Advance) -> None:
        """Let the server bring a model from its registry.

        Raises:
            PullFailed: It cannot; what was brought so far is kept for the next try.
        """
        _again(partial(self._pull, name, insecure=insecure, advance=advance), ())

    def _pull(self, name: str, *, insecure: bool, advance: Advance) -> None:
        client = self.client
        import httpx
        import ollama

        # The layers come side by side; a person wants one figure.
        done: dict[str, int] = {}
        totals: dict[str, int] = {}
        finished = False
        try:
            for each in client.pull(name, insecure=insecure, stream=True):
                finished = each.status == "success"
                if each.digest and each.total:
                    done[each.digest] = each.completed or 0
                    totals[each.digest] = each.total
                advance(each.status or "", sum(done.values()), sum(totals.values()) or None)
        except ollama.ResponseError as error:
            if _DISTURBED.search(error.error):
                raise _Disturbed(error.error, "run the command again") from error
            raise _pull_failure(name, error.error) from error
        except (httpx.HTTPError, ConnectionError) as error:
            raise PullFailed(
                f"the server broke off while it pulled {name}",
                "check its log; what it has so far is used by a second run",
            ) from error
        except MALFORMED as error:
            raise NotOllama(
                f"{self.url}/api/pull answers in an unexpected form", "check --host or OLLAMA_HOST"
            ) from error
        if not finished:
            raise PullFailed(f"the pull of {name} ended without a result", "run it again")

    def copy(self, source: str, destination: str) -> None:
        """Give a model a second name, or switch a name to it; only metadata moves.

        Raises:
            ModelNotFound: There is no such model.
        """
        self._settled("POST", "/api/copy", {"source": source, "destination": destination})

    def delete(self, name: str) -> None:
        """Remove a name that may be gone already; blobs that another model uses stay.

        The server may answer with an error though it did what was asked, where another model goes
        or comes at the same time (0.34.4): what counts is whether the name is there afterwards.

        Raises:
            ServerError: It is still there.
        """

        def ask() -> None:
            try:
                self._json("DELETE", "/api/delete", {"model": name})
            except ServerUnreachable:
                raise
            except ServerError as error:
                if self.model(name) is None:
                    return
                if isinstance(error, ModelNotFound):
                    # It is listed, so it was the look at all manifests that failed.
                    raise _Disturbed(error.what, error.fix) from error
                raise

        _again(ask, (ServerError,))

    def unload(self, name: str) -> None:
        """Let a model's runner go; the next request loads it again."""
        self._settled("POST", "/api/generate", {"model": name, "keep_alive": 0})

    # Asking a model

    def chat(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """``POST /api/chat`` without a stream, with every field that a request may have."""
        # "EOF" is what an engine says that ended, and asking again would only start it again.
        passing = (ModelNotFound,)
        return self._settled("POST", "/api/chat", {**request, "stream": False}, passing)

    def rendered_prompt(self, request: Mapping[str, Any]) -> str:
        """The prompt that the server builds from a chat request; it loads the model.

        Uses ``_debug_render_only`` (Ollama 0.11.5 and newer).
        """
        answer = self.chat({**request, "_debug_render_only": True})
        with self._well_formed("/api/chat"):
            return str(answer["_debug_info"]["rendered_template"])

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """One JSON answer of any of the server's surfaces."""
        return self._json("POST", path, body)

    def events(self, path: str, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The events of a streamed answer, JSON lines or server-sent events."""
        yield from self._stream(path, body)

    # Transport

    def _settled(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        passing: tuple[type[ServerError], ...] = (ModelNotFound, _BeingWritten),
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
        """
        return _again(partial(self._json, method, path, body), passing)

    def _json(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        with self._explained(path):
            response = self._http.request(method, path, json=body)
        self._date = response.headers.get("Date", self._date)
        self._raise_for_status(response)
        if not response.content:
            return {}
        try:
            answer = parse_json(response.content)
        except MalformedJson:
            answer = None
        if not isinstance(answer, dict):
            raise NotOllama(f"{self.url}{path} gives no JSON object", "check --host or OLLAMA_HOST")
        return answer

    def _stream(self, path: str, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        with (
            self._explained(path),
            self._http.stream("POST", path, json={**body, "stream": True}) as response,
        ):
            if response.status_code >= 400:
                response.read()
                self._raise_for_status(response)
            for line in response.iter_lines():
                text = line.removeprefix("data:").strip()
                if not text.startswith("{"):
                    continue
                with self._well_formed(path):
                    event = parse_json(text)
                if message := _error_text(event):
                    raise _kind_of(message)(f"{path}: {message}", "check the server's log")
                yield event

    def _raise_for_status(self, response: httpx.Response) -> None:
        if response.status_code < 400:
            return
        try:
            message = _error_text(parse_json(response.content)) or response.text
        except MalformedJson:
            message = response.text
        message = message.strip()[:500] or f"HTTP {response.status_code}"
        path = response.request.url.path
        if response.status_code == 404 and "not found" in message and path != "/api/create":
            raise ModelNotFound(message, "see: devstral-ollama list")
        what = f"{path} answers {response.status_code}: {message}"
        if _DISTURBED.search(message):
            raise _Disturbed(what, "run the command again")
        if _BLOB_LOST.search(message):
            raise LayerLost(what, "devstral-ollama create brings it again")
        if response.status_code in (400, 500) and _BEING_WRITTEN.search(message):
            raise _BeingWritten(what, "run the command again")
        if "no space left" in message:
            raise ServerError(f"the server's disk is full: {message}", "free space, then run again")
        raise ServerError(what, "check the server's log")

    @contextmanager
    def _surroundings_explained(self) -> Iterator[None]:
        """Say which variable makes a client impossible, and nothing of its value (passwords)."""
        import httpx

        try:
            yield
        except UnicodeError as error:
            raise self._no_address() from error
        except ImportError as error:
            raise UsageError(
                "the environment names a SOCKS proxy, which needs another package",
                "pip install 'httpx[socks]', or unset ALL_PROXY",
            ) from error
        except OSError as error:
            raise UsageError(
                f"the certificates that the environment names cannot be read: "
                f"{error.strerror or 'none in it'}",
                "check SSL_CERT_FILE and SSL_CERT_DIR",
            ) from error
        except (httpx.InvalidURL, ValueError) as error:
            raise UsageError(
                "the environment names a proxy that is no address",
                "check HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY",
            ) from error

    def _no_address(self) -> UsageError:
        return UsageError(f"{self.url} is not an address of a server", "as in gpu1:11434")

    @contextmanager
    def _explained(self, path: str) -> Iterator[None]:
        import httpx

        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            hint = "start it: devstral-ollama serve" if self.is_local else "check --host"
            raise ServerUnreachable(f"no Ollama server answers at {self.url}", hint) from error
        except httpx.TimeoutException as error:
            raise ServerUnreachable(
                f"{self.url}{path} does not answer in time", "check the server's log"
            ) from error
        except httpx.RemoteProtocolError as error:
            raise NotOllama(
                f"{self.url}{path} broke the connection or speaks no HTTP",
                "check --host or OLLAMA_HOST, and the server's log",
            ) from error
        except (httpx.InvalidURL, UnicodeError) as error:
            raise self._no_address() from error
        except httpx.HTTPError as error:
            raise ServerError(
                f"the connection to {self.url}{path} broke: {error}",
                "check --host or OLLAMA_HOST, and the server's log",
            ) from error

    @contextmanager
    def _well_formed(self, path: str) -> Iterator[None]:
        try:
            yield
        except MALFORMED as error:
            raise NotOllama(
                f"{self.url}{path} answers in an unexpected form", "check --host or OLLAMA_HOST"
            ) from error


def _kind_of(message: str) -> type[ServerError]:
    """What kind of error it is that a stream ends with."""
    if _DISTURBED.search(message):
        return _Disturbed
    return LayerLost if _BLOB_LOST.search(message) else ServerError


def _again(ask: Callable[[], _T], passing: tuple[type[ServerError], ...]) -> _T:
    """Ask until the answer is not one of a passing moment.

    Args:
        ask: Asks once.
        passing: What a few tries in a second decide about. A disturbed answer says nothing of what
            was asked, and only that others are busy, so it is given longer.
    """
    delays = iter(_SECONDS_BETWEEN_TRIES)
    end = time.monotonic() + _DISTURBED_SECONDS
    while True:
        try:
            return ask()
        except ServerUnreachable:
            raise
        except _Disturbed:
            if time.monotonic() > end:
                raise
            time.sleep(random.uniform(0.0, 0.02))  # noqa: S311 - no secret
        except passing:
            delay = next(delays, None)
            if delay is None:
                raise
            time.sleep(delay)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FileProblem(f"cannot read {path}: {error.strerror}", "check the path") from error


def find_model(models: list[InstalledModel], name: str) -> InstalledModel | None:
    """The model of a name among those of a server, or None."""
    return next((each for each in models if same_name(each.name, name)), None)


def _has_builds(models: list[InstalledModel], name: str) -> bool:
    owned = (own_name(each.name) for each in models)
    return any(own is not None and same_name(own.public, name) for own in owned)


def _error_text(event: Any) -> str:
    """The message of an error object of any surface; empty where the event is none."""
    error = event.get("error") if isinstance(event, dict) else None
    if isinstance(error, dict):
        error = error.get("message") or json.dumps(error)
    return str(error) if error else ""


def _pull_failure(name: str, message: str) -> PullFailed:
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
