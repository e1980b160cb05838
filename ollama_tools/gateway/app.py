"""The gateway itself: an ASGI application between clients and one Ollama server."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from http import HTTPStatus
from typing import Final

from ollama_tools.errors import MALFORMED, FileProblem
from ollama_tools.gateway import answers
from ollama_tools.gateway.asked import Asked, JsonObject, NotUnderstood, Problem, parsed
from ollama_tools.gateway.encodings import decoded
from ollama_tools.gateway.exchange import BrokenOff, Exchange, Gone, Receive, Scope, Send
from ollama_tools.gateway.first_calls import FirstCalls
from ollama_tools.gateway.keys import Keyring
from ollama_tools.gateway.known import Known
from ollama_tools.gateway.limits import Limits
from ollama_tools.gateway.meant import model_meant, require_usual_keys
from ollama_tools.gateway.offered import Offered
from ollama_tools.gateway.readiness import Readiness
from ollama_tools.gateway.recalled import Recalled
from ollama_tools.gateway.repairs import Repair
from ollama_tools.gateway.request import Sealed, sealed
from ollama_tools.gateway.room import Counted, Prompt
from ollama_tools.gateway.settings import GatewaySettings, ToolCallParser
from ollama_tools.gateway.speech import Speech
from ollama_tools.gateway.strangers import is_name_of_this_machine
from ollama_tools.gateway.surfaces import SURFACES
from ollama_tools.gateway.surfaces.surface import Piece, Surface, calls_of, count
from ollama_tools.gateway.upstream import Answer, Presumed, Upstream
from ollama_tools.gateway.watch import METRICS_TYPE, Seen, Watch

_HOP_BY_HOP: Final = frozenset(
    (
        "connection",
        "content-length",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
_KEYS: Final = ("authorization", "x-api-key")
_ASKED: Final = ("/", "/api/version", "/api/tags", "/api/ps", "/v1/models")
_POSTED: Final = (
    "/api/embed",
    "/api/embeddings",
    "/api/generate",
    "/api/show",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/messages/count_tokens",
    "/v1/responses/compact",
    *SURFACES,
)
_ONE_MODEL: Final = re.compile(r"/v1/models/(?!\.{1,2}$)[^/]+")
_LONGEST_NAME: Final = 1024
"""Characters, more than a server takes: what it may be asked for, remembered and logged."""
_METRICS: Final = "/metrics"
_READY: Final = "/ready"


class _Came(Enum):
    """What came of a request to the server: nothing of another model's is shown to a client."""

    ANSWER = auto()
    NOTHING = auto()
    OTHER = auto()


@dataclass
class _Turn:
    """A request of one model, and its answer.

    Attributes:
        answer: The server's.
        speech: Reads the calls in it; None where the server has done so.
        again: Whether the model was asked before, and said nothing but what it must not.
        first: The calls of it that its client takes.
    """

    answer: Answer
    asked: Asked
    speech: Speech | None
    again: bool
    first: FirstCalls = field(init=False)

    def __post_init__(self) -> None:
        self.first = FirstCalls(self.asked.choice.most)

    @property
    def is_vain(self) -> bool:
        """Whether nothing but a call has come that the model must not make."""
        return self.first.is_over and not self.first.has_said and not self.again


class Gateway:
    """An ASGI application."""

    def __init__(self, settings: GatewaySettings, watch: Watch | None = None) -> None:
        self._settings = settings
        self._upstream = Upstream(
            settings.upstream,
            wait=settings.wait,
            silence=settings.silence,
            template=settings.dedicated_template,
        )
        self._readiness = Readiness(self._upstream, settings.model)
        self._counted = Counted()
        reads_calls = settings.tool_call_parser == ToolCallParser.GATEWAY
        self._recalled = Recalled() if reads_calls else None
        self._offered = Offered()
        self._keyring = Keyring(settings.keys)
        self._limits = Limits(settings.at_a_time, settings.a_minute)
        self._off = settings.off
        self._is_for_this_machine = settings.is_for_this_machine
        self._watch = watch or Watch()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._answer(Exchange(scope, receive, send))

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                await self._upstream.close()
                await send({"type": "lifespan.shutdown.complete"})
                return
            await send({"type": "lifespan.startup.complete"})

    async def _answer(self, exchange: Exchange) -> None:
        seen = self._watch.begins(
            exchange.path if exchange.path in SURFACES else "",
            exchange.headers.get("user-agent", ""),
        )

        def begins(status: int) -> None:
            seen.status = status
            seen.begins()

        exchange.begins = begins
        try:
            await self._keep_strangers_out(exchange)
            with ExitStack() as stack:
                self._admit(exchange, seen)
                if seen.key:
                    stack.enter_context(self._limits.taken(seen.key))
                await exchange.read(self._settings.body_limit)
                await exchange.while_heard(self._work(exchange, seen))
            seen.outcome = seen.outcome if seen.error else "answered"
        except Problem as problem:
            seen.outcome = (
                "refused" if problem.status < HTTPStatus.INTERNAL_SERVER_ERROR else "failed"
            )
            seen.error = problem.code or problem.status.phrase.lower().replace(" ", "_")
            await _refuse(exchange, problem)
        except BrokenOff:
            # Without the end of the answer the client's connection is closed, which says it.
            seen.outcome, seen.error = "cut", "broken_off"
        except Gone:
            seen.outcome = "gone"
        finally:
            self._watch.ends(seen)

    async def _keep_strangers_out(self, exchange: Exchange) -> None:
        """Serve no page in a browser that the server itself would not serve."""
        host = exchange.headers.get("host", "")
        if (
            self._is_for_this_machine
            and not self._keyring.is_asked_for
            and not is_name_of_this_machine(host)
        ):
            raise Problem(
                f"the gateway serves this machine alone, of which {host[:200]} is no name: a proxy "
                "before it has to send Host: localhost, or the gateway to ask for --keys",
                HTTPStatus.FORBIDDEN,
            )
        origin = exchange.headers.get("origin")
        # The server itself answers a browser that only asks whether it may ask.
        if origin and exchange.method != "OPTIONS":
            shared = await self._upstream.shared_with(origin)
            if shared is None:
                raise Problem(
                    f"the server serves no pages of {origin[:200]}: its OLLAMA_ORIGINS says which",
                    HTTPStatus.FORBIDDEN,
                )
            exchange.shared = shared

    def _admit(self, exchange: Exchange, seen: Seen) -> None:
        """Let pass what asks; what changes the server has no business here, however written."""
        method, path = exchange.method, exchange.path
        own = method == "GET" and path in (_METRICS, _READY)
        is_model = _ONE_MODEL.fullmatch(path) is not None
        asks = method in ("GET", "HEAD") and (path in _ASKED or is_model)
        posts = method == "POST" and path in _POSTED
        # A browser asks before it asks.
        may_be_asked = method == "OPTIONS" and path in (*_ASKED, *_POSTED)
        # A name has characters that are escaped; a path of ours has none.
        if not (exchange.is_plain or is_model) or not (own or asks or posts or may_be_asked):
            raise Problem(f"the gateway does not serve {method} {path}", HTTPStatus.FORBIDDEN)
        if self._keyring.is_asked_for and path != _READY and not may_be_asked:
            try:
                owner = self._keyring.owner(exchange.headers)
            except FileProblem:
                status = HTTPStatus.INTERNAL_SERVER_ERROR
                what = "the gateway cannot read its keys"
                raise Problem(what, status, "keys_unreadable") from None
            if owner is None:
                raise Problem("no key, or none that is known", HTTPStatus.UNAUTHORIZED)
            seen.key = owner

    async def _work(self, exchange: Exchange, seen: Seen) -> None:
        if exchange.path == _METRICS:
            await exchange.whole(HTTPStatus.OK, METRICS_TYPE.encode(), self._watch.metrics())
        elif exchange.path == _READY:
            await self._ready(exchange)
        elif exchange.method == "POST" and exchange.path in SURFACES:
            await self._chat(exchange, seen, SURFACES[exchange.path])
        else:
            await self._pass(exchange)

    async def _ready(self, exchange: Exchange) -> None:
        is_ready = await self._readiness.holds()
        await exchange.json(
            HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE, {"ready": is_ready}
        )

    async def _chat(self, exchange: Exchange, seen: Seen, surface: Surface) -> None:
        encoding = exchange.headers.get("content-encoding", "")
        content = decoded(exchange.content, encoding, self._settings.body_limit)
        wrong: Problem | None = None
        body: JsonObject = {}
        try:
            body = parsed(content)
            require_usual_keys(body)
            seen.model = _name(body.get("model"))
        except Problem as problem:
            # What is no JSON to us may be some to the server, and for a model of ours.
            wrong = problem
            seen.model = _name(model_meant(content))
        while not await self._treated(exchange, seen, surface, body, wrong):
            pass

    async def _treated(
        self,
        exchange: Exchange,
        seen: Seen,
        surface: Surface,
        body: JsonObject,
        wrong: Problem | None,
    ) -> bool:
        """Answer a chat as its model asks for; False where the model is another meanwhile."""
        presumed = await self._upstream.known(seen.model) if seen.model else Presumed(None)
        known = presumed.known
        if known is None or not known.understands:
            await self._untouched(exchange, seen, "other_model")
            return True
        try:
            if wrong is not None:
                raise wrong
            asked = _read(surface, body)
            whole = sealed(asked, known, self._off, self._recalled, self._offered)
            seen.unmet = whole.unmet
            came = await self._exactly(exchange, seen, surface, asked, whole, presumed)
            if came is _Came.NOTHING:
                # All that it would say is a call, and it must not call: so it is offered none.
                bare = sealed(replace(asked, tools=[]), known, self._off, self._recalled)
                body = {**bare.body, "stream": whole.body["stream"]}
                whole = replace(bare, body=body, offered=whole.offered)
                came = await self._exactly(
                    exchange, seen, surface, asked, whole, presumed, again=True
                )
        except NotUnderstood:
            await self._untouched(exchange, seen, "not_understood")
            return True
        except MALFORMED as error:
            raise answers.not_a_chat() from error
        except Problem:
            if exchange.has_begun or await presumed.holds():
                raise
            return False
        return came is not _Came.OTHER

    async def _untouched(self, exchange: Exchange, seen: Seen, reason: str) -> None:
        seen.untouched = reason
        await self._pass(exchange)

    async def _pass(self, exchange: Exchange) -> None:
        """Hand a request on as it came, and its answer as it comes."""
        headers = {
            name: value
            for name, value in exchange.headers.items()
            if name not in _HOP_BY_HOP and not (self._keyring.is_asked_for and name in _KEYS)
        }
        async with self._upstream.ask(
            exchange.method, exchange.target, exchange.content, headers
        ) as answer:
            kept = [
                (name, value)
                for name, value in answer.headers
                if name.decode("latin-1").lower() not in _HOP_BY_HOP - {"content-length"}
            ]
            # The server has said by itself what a browser shares.
            exchange.shared = []
            await exchange.start(answer.status, kept)
            try:
                async for piece in answer.pieces():
                    await exchange.send(piece)
            except Problem:
                raise BrokenOff from None
        await exchange.end()

    async def _exactly(
        self,
        exchange: Exchange,
        seen: Seen,
        surface: Surface,
        asked: Asked,
        whole: Sealed,
        presumed: Presumed,
        *,
        again: bool = False,
    ) -> _Came:
        """Ask the server for what the client asked for, and answer in the client's own words.

        Args:
            exchange: The client's request.
            seen: What is told of it.
            surface: Where it was asked.
            asked: What was asked for.
            whole: The request for the server.
            presumed: What is known of the model, or presumed to be so still.
            again: Whether the model has said nothing but calls that it must not make.
        """
        prompt = Prompt(whole.body)
        if presumed.known is not None:
            whole = await self._with_room(whole, prompt, presumed.known)
        seen.repairs = whole.repairs
        headers = [
            (name, ", ".join(words).encode())
            for name, words in (
                (b"x-devstral-ollama-repairs", whole.repairs),
                (b"x-devstral-ollama-unmet", whole.unmet),
            )
            if words
        ]
        content = prompt.request(whole.body)
        speech = None
        # A prompt that is only to be seen is no answer.
        if whole.offered and not asked.fields.get("_debug_render_only"):
            recalled = Recalled(0) if self._recalled is None else self._recalled
            speech = Speech(whole.offered, recalled, whole.opening)
            seen.calls = speech.calls
        async with self._upstream.ask(
            "POST", "/api/chat", content, {"content-type": "application/json"}
        ) as answer:
            if not await presumed.holds():
                return _Came.OTHER
            turn = _Turn(answer, asked, speech, again=again)
            if not asked.stream:
                said = await self._whole(turn)
                if turn.is_vain:
                    return _Came.NOTHING
                seen.last = self._counts(prompt, said.content)
                await exchange.json(HTTPStatus.OK, surface.whole(asked, said), *headers)
                return _Came.ANSWER
            kind = (b"content-type", surface.media_type.encode())
            writer = surface.writer(asked)
            try:
                async for pieces in self._pieces(turn):
                    if not exchange.has_begun:
                        cache = (b"cache-control", b"no-cache")
                        await exchange.start(HTTPStatus.OK, [kind, cache, *headers])
                    last = pieces[-1].content
                    if last.get("done"):
                        seen.last = self._counts(prompt, last)
                    written = [part for each in pieces for part in writer.feed(each)]
                    await exchange.send(b"".join(written))
            except (Problem, *MALFORMED) as error:
                if not exchange.has_begun:
                    raise
                seen.outcome, seen.error = "cut", "broken_off"
                problem = error if isinstance(error, Problem) else answers.not_a_chat()
                await exchange.send(writer.broken(problem))
        if turn.is_vain:
            return _Came.NOTHING
        await exchange.end()
        return _Came.ANSWER

    async def _whole(self, turn: _Turn) -> Piece:
        answer = turn.answer
        if turn.speech is not None:
            parts = self._pieces(turn)
            return turn.speech.whole([each async for pieces in parts for each in pieces])
        if answer.status == HTTPStatus.OK:
            content = await answers.whole(answer)
            if "error" in content:
                raise answers.problem_of(HTTPStatus.INTERNAL_SERVER_ERROR, content)
            (found,) = turn.first.kept([Piece(content, calls=calls_of(content))])
            return found
        problem = await answers.refusal(answer)
        if answers.is_cut_call(problem):
            return answers.cut(turn.asked.model)
        raise problem

    async def _pieces(self, turn: _Turn) -> AsyncIterator[list[Piece]]:
        answer, speech = turn.answer, turn.speech
        try:
            if answer.status != HTTPStatus.OK:
                raise await answers.refusal(answer)
            # To its end, though nobody wants what is beyond: a server from which its client turns
            # away as the answer ends may keep the model for that client for ever (Ollama 0.34.4).
            async for pieces in answers.pieces(answer):
                found = turn.first.kept(pieces if speech is None else speech.heard(pieces))
                if speech is not None and turn.first.most is not None:
                    # Long before its arguments are there.
                    turn.first.is_over |= speech.is_beyond(turn.first.most)
                if found and not turn.is_vain:
                    yield found
        except Problem as problem:
            if not answers.is_cut_call(problem):
                raise
            yield [answers.cut(turn.asked.model)]

    async def _with_room(self, whole: Sealed, prompt: Prompt, known: Known) -> Sealed:
        """The request with an end to its answer where the context ends.

        Ollama goes on otherwise, and pushes the beginning out of the context without a word.
        """
        options = whole.body.get("options", {})
        context = options.get("num_ctx") or known.context
        if Repair.ROOM in self._off or not isinstance(context, int):
            return whole
        # An engine has no more than the weights were made for, whatever is asked of it.
        context = min(context, known.longest or context)
        wanted = options.get("num_predict", known.longest_answer)
        limit = wanted if isinstance(wanted, int) and wanted >= 0 else None
        most = self._counted.most(prompt, known.system)
        room = context - most if most is not None else 0
        if room < min(context if limit is None else limit, context // 2):
            room = context - await self._tokens(whole, prompt)
        if limit is not None and limit <= room:
            return whole
        limited = {**options, "num_predict": max(room, 1)}
        repairs = (*whole.repairs, Repair.ROOM)
        return replace(whole, body={**whole.body, "options": limited}, repairs=repairs)

    async def _tokens(self, whole: Sealed, prompt: Prompt) -> int:
        """Let the server evaluate a prompt, which it keeps for the request that follows."""
        options = {**whole.body.get("options", {}), "num_predict": 1}
        body = {**whole.body, "options": options, "stream": False}
        status, answer = await self._upstream.json("/api/chat", prompt.request(body))
        if status != HTTPStatus.OK:
            raise answers.problem_of(status, answer)
        return count(self._counts(prompt, answer), "prompt_eval_count")

    def _counts(self, prompt: Prompt, answer: JsonObject) -> JsonObject:
        if tokens := count(answer, "prompt_eval_count"):
            self._counted.remember(prompt, tokens)
        return answer


async def _refuse(exchange: Exchange, problem: Problem) -> None:
    fallback = "/v1/chat/completions" if exchange.path.startswith("/v1/") else "/api/chat"
    surface = SURFACES.get(exchange.path, SURFACES[fallback])
    headers = []
    if problem.retry_after is not None:
        headers.append((b"retry-after", str(problem.retry_after).encode()))
    if problem.status == HTTPStatus.UNAUTHORIZED:
        headers.append((b"www-authenticate", b"Bearer"))
    await exchange.json(problem.status, surface.problem(problem), *headers)


def _name(model: object) -> str:
    """The name of a model; empty for what cannot be one."""
    return model if isinstance(model, str) and len(model) <= _LONGEST_NAME else ""


def _read(surface: Surface, body: JsonObject) -> Asked:
    try:
        return surface.read(body)
    except MALFORMED as error:
        raise Problem("the request is not of the form that it should be") from error
