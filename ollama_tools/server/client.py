"""One live Ollama server, route by route.

``ollama.Client`` is the transport where it can say what is needed (pull, copy, delete, chat). It
cannot send a parser, ask whether a blob is there, or ask for the rendered prompt, and it takes a
fifth of a second to import; the rest goes through httpx. Only this module knows which is which.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ollama_tools.errors import (
    FileProblem,
    ModelNotFound,
    NotOllama,
    PullFailed,
    ServerError,
    ServerUnreachable,
)
from ollama_tools.json_text import MalformedJson, parse_json
from ollama_tools.progress import Progress, Silence
from ollama_tools.server.address import parse_address
from ollama_tools.server.answers import (
    CHECK_ADDRESS,
    OF_THE_WAY,
    OTHERS,
    Broken,
    Busy,
    Disturbed,
    PullBroke,
    Refused,
    is_disturbed,
    pull_failure,
    well_formed,
)
from ollama_tools.server.names import own_name, same_name
from ollama_tools.server.shown import Shown
from ollama_tools.server.transport import SECONDS_BETWEEN_TRIES, Transport
from ollama_tools.server.waits import Progressing, waits_for

if TYPE_CHECKING:
    import ollama

_PULLS_IN_VAIN = 3
_CREATED = 201
_PULL_PAUSE = 0.5
_MADE_SINCE = 2.0
_SHOWN = frozenset(("details", "model_info", "modelfile", "template", "system", "capabilities"))
_UPLOAD_PIECE = 1024 * 1024

Advance = Callable[[str, int, int | None], None]
"""Called with a server's status text, bytes done, and bytes of the whole where known."""


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


@dataclass(frozen=True, slots=True)
class Told:
    """An answer, whatever it says.

    Attributes:
        status: HTTP status.
        headers: Its headers, by their names in small letters.
        content: The object that it says; empty where it says none.
    """

    status: int
    headers: Mapping[str, str]
    content: Mapping[str, Any]


class Api:
    """A live server's chat APIs."""

    def __init__(
        self,
        host: str | None = None,
        *,
        timeout: float | None = None,
        api_key: str | None = None,
        progress: Progress | None = None,
    ) -> None:
        """See the class; what may be said of the way is declared in :class:`Access`.

        Args:
            host: Its address; None for ``OLLAMA_HOST``.
            timeout: Seconds without a byte or progress after which a wait ends; None for
                ``DEVSTRAL_OLLAMA_TIMEOUT``, or what suits each request.
            api_key: The key that goes with every request; None for ``OLLAMA_API_KEY``.
            progress: Hears of long silences; None for silence.
        """
        self._transport = Transport(
            parse_address(host), waits_for(timeout), progress or Silence(), api_key
        )

    @property
    def url(self) -> str:
        """Base URL, without a slash at its end."""
        return self._transport.url

    def close(self) -> None:
        """Close connections."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """One JSON answer of any of the server's surfaces."""
        return self._transport.json("POST", path, body)

    def told(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Told:
        """An answer of any of the server's surfaces, also where it is an error."""
        with self.explained(path):
            response = self._transport.http.request(method, path, json=body)
        try:
            content = parse_json(response.content)
        except MalformedJson:
            content = None
        return Told(
            response.status_code, response.headers, content if isinstance(content, dict) else {}
        )

    def explained(self, path: str) -> AbstractContextManager[None]:
        """Say what it means where no answer comes at a path.

        Raises:
            ServerError: One of :data:`ollama_tools.server.answers.OF_THE_WAY`.
        """
        return self._transport.explained(path)

    def events(self, path: str, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The events of a streamed answer, JSON lines or server-sent events."""
        yield from self._transport.stream(path, body)


class Server(Api):
    """One live Ollama server."""

    @property
    def client(self) -> ollama.Client:
        """The official client, for what it can say."""
        return self._transport.client

    @property
    def is_local(self) -> bool:
        """Whether the server is on this machine, as far as its address tells."""
        return self._transport.is_local

    @property
    def now(self) -> datetime:
        """The server's own time, as its last answer said it; ours where it said none."""
        return self._transport.now

    # What the server is and has

    def version(self) -> str:
        """The server's version.

        Raises:
            ServerUnreachable: Nothing answers.
            NotOllama: Something else than Ollama answers.
        """
        version = self._transport.settled("GET", "/api/version").get("version")
        if not isinstance(version, str):
            raise NotOllama(f"{self.url} answers, but not as an Ollama server", CHECK_ADDRESS)
        return version

    def models(self) -> list[InstalledModel]:
        """All models on the server, the one whose manifest was written last first."""
        answer = self._transport.settled("GET", "/api/tags")
        with well_formed(f"{self.url}/api/tags"):
            # Where there are none it says so; without the word it is not Ollama.
            found = answer["models"] or []
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
        for delay in SECONDS_BETWEEN_TRIES[:3]:
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
        answer = self._transport.settled("POST", "/api/show", {"model": name, **options})
        with well_formed(f"{self.url}/api/show"):
            for key in ("model_info", "details"):
                dict(answer.get(key) or {})
            if not answer.keys() & _SHOWN:
                raise KeyError(*_SHOWN)
        return Shown(name, answer)

    def running(self) -> list[RunningModel]:
        """The models that are loaded now."""
        answer = self._transport.settled("GET", "/api/ps")
        with well_formed(f"{self.url}/api/ps"):
            found = answer["models"] or []
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

        def ask() -> bool:
            with self._transport.explained(path):
                response = self._transport.http.head(path)
            if response.status_code != 404:
                self._transport.check(response)
            if "html" in response.headers.get("Content-Type", ""):
                # Without a body, a page looks like a blob that is there.
                raise NotOllama(
                    f"{self.url}{path} answers with a page ({response.status_code})",
                    CHECK_ADDRESS,
                )
            return response.status_code == 200

        return self._transport.again(ask, safe=True)

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

        self.upload_stream(pieces, size, digest, advance, label=str(path))

    def upload_stream(
        self,
        chunks: Callable[[], Iterable[bytes]],
        size: int,
        digest: str,
        advance: Advance,
        *,
        label: str,
    ) -> None:
        """Send bytes as a blob; the server checks the digest.

        An error that ``chunks`` raises passes through, and leaves the server without the blob.

        Args:
            chunks: Gives the blob, piece by piece, anew each time that it is sent.
            size: Bytes of all pieces.
            digest: ``sha256:…`` of them.
            advance: Hears of the progress.
            label: What is sent, for messages.

        Raises:
            ServerError: The server refuses it.
            FileProblem: The bytes are not those of the digest, so they changed since it was taken.
        """
        changed = FileProblem(
            f"{label} changed while it was sent", "wait until it is complete, then run it again"
        )

        def counted() -> Iterator[bytes]:
            done = 0
            for chunk in chunks():
                if done + len(chunk) > size:
                    raise changed
                yield chunk
                done += len(chunk)
                advance("uploading", done, size)
            if done != size:
                raise changed

        target = f"/api/blobs/{digest}"

        def send() -> None:
            try:
                with self._transport.explained(target):
                    response = self._transport.http.post(
                        target, content=counted(), headers={"Content-Length": str(size)}
                    )
                if response.status_code == 400 and "digest" in response.text:
                    raise changed
                self._transport.check(response)
            except (Broken, Busy):
                if not self.has_blob(digest):
                    raise
            else:
                # So says Ollama of a blob that was there already, and a stranger of anything.
                if response.status_code != _CREATED and not self.has_blob(digest):
                    raise NotOllama(
                        f"{self.url}{target} answers as if {label} were there, and it is not",
                        CHECK_ADDRESS,
                    )

        # A long transfer is not measured by the clock of short ones; the pauses have an end too.
        self._transport.again(send, safe=True, seconds=math.inf)

    def create(self, request: Mapping[str, Any], advance: Advance) -> None:
        """``POST /api/create``; see :func:`ollama_tools.model.modelfile.create_request`."""
        try:
            self._transport.again(partial(self._create, request, advance))
        except OF_THE_WAY as error:
            # Only the answer may be lost. A creation takes a name that is new, see its steps.
            self._require(lambda: self.model(request["model"]) is not None, error, request["model"])

    @staticmethod
    def _require(done: Callable[[], bool], error: ServerError, name: str) -> None:
        """Look whether something was done whose answer is lost; say that it was not."""
        try:
            if done():
                return
        except ServerError:
            raise error from None
        raise type(error)(f"{error.what}; {name} was not written", error.fix) from error

    def _create(self, request: Mapping[str, Any], advance: Advance) -> None:
        status = ""
        try:
            for line in self._transport.stream("/api/create", request):
                with well_formed(f"{self.url}/api/create"):
                    status = line.get("status", "").strip()
                advance(status, 0, None)
        except OF_THE_WAY:
            raise
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
        most = brought = 0

        def heard(status: str, done: int, total: int | None) -> None:
            nonlocal brought
            brought = max(brought, done)
            advance(status, done, total)

        def ask() -> None:
            self._pull(name, insecure=insecure, advance=heard)

        broke_off: ServerError | None = None
        in_vain = 0
        while in_vain < _PULLS_IN_VAIN:
            try:
                self._transport.again(ask, busy=True)
            except (Broken, PullBroke) as error:
                broke_off = error
                in_vain = 0 if brought > most else in_vain + 1
                most = brought
                time.sleep(_PULL_PAUSE * max(1, in_vain))
            except Busy as error:
                raise PullFailed(error.what, error.fix) from error
            except ServerUnreachable as error:
                if broke_off is None:
                    raise
                in_vain += 1
                if not (isinstance(error, Refused) and self._comes_back()):
                    break
            else:
                return
        if isinstance(broke_off, PullFailed):
            raise broke_off
        raise PullFailed(
            f"the server broke off while it pulled {name}",
            "check its log; what it has so far is used by a second run",
        ) from broke_off

    def _comes_back(self) -> bool:
        """Whether a server that nobody reaches is only being started again."""
        try:
            self.version()
        except ServerError:
            return False
        return True

    def _pull(self, name: str, *, insecure: bool, advance: Advance) -> None:
        client = self.client
        import ollama

        # The layers come side by side; a person wants one figure.
        done: dict[str, int] = {}
        totals: dict[str, int] = {}
        finished = came = False
        progressing = Progressing(f"{self.url}/api/pull", self._transport.waits.transfer)
        try:
            with self.explained("/api/pull"), well_formed(f"{self.url}/api/pull"):
                for each in client.pull(name, insecure=insecure, stream=True):
                    came, finished = True, each.status == "success"
                    if each.digest and each.total:
                        done[each.digest] = each.completed or 0
                        totals[each.digest] = each.total
                    progressing.saw(each.status, dict(done))
                    advance(each.status or "", sum(done.values()), sum(totals.values()) or None)
        except ollama.ResponseError as error:
            if is_disturbed(error.error):
                raise Disturbed(error.error, OTHERS) from error
            raise pull_failure(name, error.error) from error
        if not came:
            raise NotOllama(f"{self.url}/api/pull gives no JSON", CHECK_ADDRESS)
        if not finished:
            raise PullFailed(
                f"the pull of {name} ended without a result",
                "check the server's log; what it has so far is kept",
            )

    def copy(self, source: str, destination: str) -> None:
        """Give a model a second name, or switch a name to it; only metadata moves.

        Raises:
            ModelNotFound: There is no such model.
        """

        def is_done() -> bool:
            models = self.models()
            one, other = find_model(models, source), find_model(models, destination)
            return one is not None and other is not None and one.digest == other.digest

        body = {"source": source, "destination": destination}
        try:
            self._transport.settled("POST", "/api/copy", body)
        except OF_THE_WAY as error:
            self._require(is_done, error, destination)

    def delete(self, name: str) -> None:
        """Remove a name that may be gone already; blobs that another model uses stay.

        The server may answer with an error though it did what was asked, where another model goes
        or comes at the same time (0.34.4): what counts is whether the name is there afterwards.

        Raises:
            ServerError: It is still there.
        """

        def ask() -> None:
            try:
                self._transport.json("DELETE", "/api/delete", {"model": name})
                left, now = self.model(name), self.now.timestamp()
            except ServerUnreachable:
                raise
            except ServerError as error:
                if self.model(name) is None:
                    return
                if isinstance(error, ModelNotFound):
                    # It is listed, so it was the look at all manifests that failed.
                    raise Disturbed(error.what, error.fix) from error
                raise
            # Another run may have made one of that name since.
            if left is not None and moment(left.modified) < now - _MADE_SINCE:
                raise NotOllama(
                    f"{self.url}/api/delete answers as if {name} were removed, and it is not",
                    CHECK_ADDRESS,
                )

        self._transport.again(ask, (ServerError,), safe=True)

    def unload(self, name: str) -> None:
        """Let a model's runner go; the next request loads it again."""
        self._transport.settled("POST", "/api/generate", {"model": name, "keep_alive": 0})

    # Asking a model

    def chat(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """``POST /api/chat`` without a stream, with every field that a request may have."""
        # "EOF" is what an engine says that ended, and asking again would only start it again.
        passing = (ModelNotFound,)
        return self._transport.settled("POST", "/api/chat", {**request, "stream": False}, passing)

    def rendered_prompt(self, request: Mapping[str, Any]) -> str:
        """The prompt that the server builds from a chat request; it loads the model.

        Uses ``_debug_render_only`` (Ollama 0.11.5 and newer).
        """
        body = {**request, "stream": False, "_debug_render_only": True}
        passing = (ModelNotFound,)
        answer = self._transport.settled("POST", "/api/chat", body, passing, safe=True)
        with well_formed(f"{self.url}/api/chat"):
            return str(answer["_debug_info"]["rendered_template"])


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FileProblem(f"cannot read {path}: {error.strerror}", "check the path") from error


def find_model(models: list[InstalledModel], name: str) -> InstalledModel | None:
    """The model of a name among those of a server, or None."""
    return next((each for each in models if same_name(each.name, name)), None)


def shown_or_broken(server: Server, name: str) -> Shown | ServerError | None:
    """What a server shows of a model that it has listed.

    Returns:
        What it shows; or, where it lists the model and cannot show it (a cloud model that is
        switched off, weights that are missing or cut), what it says instead; or None, where the
        model is gone meanwhile.

    Raises:
        ServerError: The server does not answer.
    """
    try:
        return server.show(name)
    except OF_THE_WAY:
        raise
    except ServerError as error:
        return error if server.model(name) is not None else None


def running_if_said(server: Server) -> list[RunningModel]:
    """What is loaded; nothing where a server refuses to say only that.

    Raises:
        ServerError: The server does not answer.
    """
    try:
        return server.running()
    except OF_THE_WAY:
        raise
    except ServerError:
        return []


def moment(text: str) -> float:
    """Seconds since 1970; a server's clock may change its offset between two models."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0


def _has_builds(models: list[InstalledModel], name: str) -> bool:
    owned = (own_name(each.name) for each in models)
    return any(own is not None and same_name(own.public, name) for own in owned)
