"""The cases, declared: which fault, at which request of which command, and how often.

They are products of small tables. What a case expects follows from what its fault is: see
:class:`Kind`.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from hashlib import sha256
from pathlib import Path

from tests.faults import commands
from tests.faults.commands import COMMANDS, Command
from tests.testbed.faults import bodies, hostile
from tests.testbed.faults.kinds import (
    Cut,
    Elsewhere,
    Endless,
    Fault,
    Huge,
    Length,
    Lost,
    Refuse,
    ResetAnswer,
    ResetRequest,
    Say,
    Slow,
    Stall,
    html_answer,
    json_answer,
)
from tests.testbed.faults.proxy import ALWAYS, ONCE, When


class Side(StrEnum):
    """Which of the two proxies a fault is put into."""

    SERVER = "server"
    HUB = "hub"


@dataclass(frozen=True)
class Route:
    """Requests of one kind.

    Attributes:
        name: What the cases call them.
        side: Where they go.
        method: Regular expression of their method.
        path: Regular expression of their path.
        safe: Whether they may be asked again without a look at what was done.
        by_server: Whether it is the server that asks, with a patience of its own.
    """

    name: str
    side: Side
    method: str = ".*"
    path: str = ""
    safe: bool = False
    by_server: bool = False


@dataclass(frozen=True)
class Kind:
    """A kind of fault.

    Attributes:
        name: What the cases call it.
        fault: What happens; None means that nobody listens from the beginning.
        when: To which of the requests of the route.
        says: Regular expression of a word that a message has to have which names the cause.
        passes: Whether it is over soon, so that asking again helps.
        harmless: Whether the answer is right, only late.
        heavy: Whether it takes long, as where it is asked again for as long as that is done.
    """

    name: str
    fault: Fault | None
    when: When = ALWAYS
    says: str = "."
    passes: bool = False
    harmless: bool = False
    heavy: bool = False

    @property
    def is_gone(self) -> bool:
        """Whether nobody listens any more."""
        return self.fault is None or isinstance(self.fault, Refuse)


@dataclass(frozen=True)
class Sent:
    """A signal, and the moment in which it is sent.

    Attributes:
        number: The signal.
        share: After which share of the requests that the command makes without one; below zero it
            is sent after so many seconds of a processor, while the interpreter still starts.
    """

    number: signal.Signals
    share: float


@dataclass(frozen=True)
class Case:
    """One case.

    Attributes:
        group: Which table it comes from.
        command: What is run.
        route: Which requests go wrong; None where it is a signal or the environment.
        kind: How they go wrong.
        sent: The signal that is sent.
        environment: Variables that are otherwise.
        more: More arguments.
        file: Writes the last argument's file, before the command is run.
        label: What tells it apart where nothing above does.
    """

    group: str
    command: Command
    route: Route | None = None
    kind: Kind | None = None
    sent: Sent | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    more: tuple[str, ...] = ()
    file: Callable[[Path], None] | None = None
    label: str = ""

    @property
    def id(self) -> str:
        """Its name, which stays the same as long as the case does."""
        if self.route is not None and self.kind is not None:
            what = f"{self.route.name}: {self.kind.name}, {self.kind.when}"
        else:
            what = self.label
        return f"{self.command.name} | {what}"

    @property
    def traits(self) -> set[tuple[str, str]]:
        """What a choice of the cases should have each of."""
        found = {("command", self.command.name), (self.group, self.command.word)}
        if self.kind is not None and self.route is not None:
            found |= {("route", self.route.name), ("kind", self.kind.name)}
        if self.sent is not None:
            found.add(("signal", self.sent.number.name))
        return found


def _server(name: str, method: str = ".*", path: str = "", *, safe: bool = False) -> Route:
    return Route(name, Side.SERVER, method, path, safe)


def _hub(name: str, method: str = ".*", path: str = "", *, by_server: bool = False) -> Route:
    return Route(name, Side.HUB, method, path, True, by_server)


SERVER = _server("server")
PAST_VERSION = _server("server past version", path="^(?!/api/version)")
VERSION = _server("version", "GET", "^/api/version", safe=True)
TAGS = _server("tags", "GET", "^/api/tags", safe=True)
SHOW = _server("show", "POST", "^/api/show", safe=True)
RUNNING = _server("ps", "GET", "^/api/ps", safe=True)
HAS_BLOB = _server("HEAD blob", "HEAD", "^/api/blobs/", safe=True)
BLOB = _server("POST blob", "POST", "^/api/blobs/", safe=True)
PULL = _server("pull", "POST", "^/api/pull", safe=True)
CREATE = _server("create", "POST", "^/api/create")
COPY = _server("copy", "POST", "^/api/copy")
DELETE = _server("delete", "DELETE", "^/api/delete")
CHAT = _server("chat", "POST", "^/api/chat")
COMPLETIONS = _server("completions", "POST", "^/v1/chat/completions")
MESSAGES = _server("messages", "POST", "^/v1/messages")

HUB = _hub("hub")
PROMPT = _hub("hub prompt", "GET|HEAD", "^/mistralai/")
FACTS = _hub("hub HEAD", "HEAD", "^/unsloth/")
BYTES = _hub("hub bytes", "GET", "^/lfs/")
TREE = _hub("hub tree", "GET", "/tree/")
PATHS = _hub("hub paths", "POST", "/paths-info/")
REGISTRY = _hub("registry", by_server=True)
MANIFEST = _hub("registry manifest", "GET", "^/v2/.*/manifests/", by_server=True)
LAYER = _hub("registry layer", "GET|HEAD", "^/v2/.*/blobs/", by_server=True)
LAYER_BYTES = _hub("registry bytes", "GET", "^/blobs/", by_server=True)

_NO_ANSWER = r"answer|time|silen|wait|reach|refus|broke|connection"
_BROKE = r"broke|reset|closed|connection|cut|incomplete|ended|short|answer|interrupt|EOF"
_FOREIGN = r"Ollama|unexpected|form|JSON|HTML|page|not as|speak|answer|announced|digest|size"

TWICE = When(count=2)

REFUSED = Kind("refused", None, says=r"no .*server answers|refus|reach|connect")
GONE = Kind("goes away", Refuse(), ONCE, _NO_ANSWER)
RESTARTS = Kind("restarts in 1 s", Refuse(1.0), ONCE, _NO_ANSWER, passes=True)
RESET = Kind("reset before the answer", ResetRequest(), ONCE, _BROKE, passes=True)
RESETS = Kind("reset before the answer", ResetRequest(), ALWAYS, _BROKE)
RESET_BODY = Kind(
    "reset after 100 kB of the request", ResetRequest(100_000), ONCE, _BROKE, passes=True
)
RESET_HEAD = Kind("reset after 20 bytes", ResetAnswer(20), ONCE, _BROKE, passes=True)
RESET_LATE = Kind("reset after 300 bytes", ResetAnswer(300), ONCE, _BROKE, passes=True)
LOST = Kind("answer lost", Lost(), ONCE, _BROKE, passes=True)
LOSES = Kind("answer lost", Lost(), ALWAYS, _BROKE)
STALL = Kind("no byte comes", Stall(), ALWAYS, _NO_ANSWER)
STALL_ONCE = Kind("no byte comes", Stall(), ONCE, _NO_ANSWER)
STALL_LATE = Kind("stands still after 250 bytes", Stall(250), ALWAYS, _NO_ANSWER)
SLOW_HEAD = Kind("head takes 4 s", Slow(head=4.0), ONCE, harmless=True)
SLOW_BODY = Kind("body takes 5 s", Slow(body=5.0), ONCE, harmless=True)
CUT = Kind("body cut", Cut(), ONCE, _BROKE, passes=True)
CUTS = Kind("body cut", Cut(), ALWAYS, _BROKE)
TOO_LONG = Kind("Content-Length too long", Length(100), ONCE, _BROKE, passes=True)
TOO_SHORT = Kind("Content-Length too short", Length(-10), ONCE, f"{_BROKE}|{_FOREIGN}")
LOOP = Kind("redirected to itself", Elsewhere(), ALWAYS, "redirect")
HTTPS = Kind(
    "redirected to https",
    Elsewhere(301, "https://127.0.0.1:9{path}"),
    ALWAYS,
    r"https://127\.0\.0\.1:9",
)
_CREDENTIALS = r"credential|password|\bkey\b|log in|private"
UNAUTHORIZED = Kind(
    "401", html_answer(401, WWW_Authenticate='Basic realm="planted"'), ALWAYS, _CREDENTIALS
)
FORBIDDEN = Kind("403", html_answer(403), ALWAYS, rf"refuse|forb|{_CREDENTIALS}")
NO_PAGE = Kind(
    "404 as a page",
    html_answer(404),
    ALWAYS,
    # A server says of its registry's 404 that the file does not exist.
    r"not as|no Ollama|address|no file|answers 404|does not exist",
)
PROXY_ASKS = Kind(
    "407", html_answer(407, Proxy_Authenticate='Basic realm="planted"'), ALWAYS, "[Pp]roxy"
)
TOO_LARGE = Kind(
    "413",
    Say(413, bodies.page("413 Request Entity Too Large"), early=True),
    ALWAYS,
    r"413|large|limit",
)
BUSY = Kind("429, Retry-After 1", html_answer(429, Retry_After="1"), TWICE, "429", passes=True)
BUSY_ALWAYS = Kind(
    "429, Retry-After 1", html_answer(429, Retry_After="1"), ALWAYS, r"429|limit", heavy=True
)
FAILS = Kind("500 as a page", html_answer(500), ONCE, "500", passes=True)
BAD_GATEWAY = Kind("502 as a page", html_answer(502), ONCE, r"502|[Gg]ateway", passes=True)
BAD_GATEWAYS = Kind("502 as a page", html_answer(502), ALWAYS, r"502|[Gg]ateway", heavy=True)
UNAVAILABLE = Kind("503 as a page", html_answer(503), ONCE, r"503|[Uu]navailable", passes=True)
UNAVAILABLE_TWICE = Kind(
    "503 as a page", html_answer(503), TWICE, r"503|[Uu]navailable", passes=True
)
UNAVAILABLES = Kind("503 as a page", html_answer(503), ALWAYS, r"503|[Uu]navailable", heavy=True)
TOO_LATE = Kind("504 as a page", html_answer(504), ONCE, r"504|[Gg]ateway", passes=True)
PAGE = Kind("200 with a page", Say(200, bodies.page("Welcome to nginx!")), ALWAYS, _FOREIGN)
PAGE_ONCE = Kind("200 with a page", Say(200, bodies.page("Log in")), ONCE, _FOREIGN)
NOTHING = Kind("200 with nothing", Say(200, b"", "application/json"), ALWAYS, _FOREIGN)
NOTHING_ONCE = Kind("200 with nothing", Say(200, b"", "application/json"), ONCE, _FOREIGN)
TYPES = Kind("200 with wrong types", json_answer(200, bodies.WRONG_TYPES), ALWAYS, _FOREIGN)
SHAPE = Kind("200 of another shape", json_answer(200, bodies.WRONG_SHAPE), ALWAYS, _FOREIGN)
LIST_SHAPE = Kind("200 with a list", json_answer(200, [1, None, "a"]), ALWAYS, _FOREIGN)
DEEP = Kind("200, 100,000 deep", Say(200, bodies.deep(), "application/json"), ALWAYS, _FOREIGN)
HUGE = Kind("200 with 1.5 GB", Huge(), ALWAYS, rf"{_FOREIGN}|large|big|long|GB|bytes", heavy=True)
ENDLESS = Kind(
    "lines without end", Endless(), ALWAYS, rf"{_NO_ANSWER}|{_FOREIGN}|end|long|progress"
)
TORN = Kind("500 EOF", json_answer(500, {"error": "EOF"}), ONCE, "EOF", passes=True)
VANISHED = Kind(
    "500 no such file",
    json_answer(
        500,
        {"error": "stat /m/manifests/registry.ollama.ai/library/a/b: no such file or directory"},
    ),
    TWICE,
    "no such file",
    passes=True,
)
NOT_FOUND = Kind(
    "404 model not found", json_answer(404, {"error": "model 'x' not found"}), ONCE, passes=True
)
RUDE = Kind(
    "500 with control characters",
    json_answer(500, {"error": f"boom {bodies.CONTROL} boom"}),
    ALWAYS,
    r"boom|hub answers 500",
)


def _at(number: int, *kinds: Kind) -> tuple[Kind, ...]:
    """The same faults, at another request of the route than the first one."""
    return tuple(replace(each, when=When(number, 1)) for each in kinds)


# Every command, when all that a server or a hub says is wrong.
_WHOLE = (
    REFUSED,
    STALL,
    LOOP,
    HTTPS,
    UNAUTHORIZED,
    FORBIDDEN,
    NO_PAGE,
    PROXY_ASKS,
    BUSY_ALWAYS,
    BAD_GATEWAYS,
    RESETS,
    PAGE,
    NOTHING,
    TYPES,
    SHAPE,
    RUDE,
)
_WHOLE_LONG = (*_WHOLE, LIST_SHAPE, DEEP, HUGE, CUTS, LOSES, UNAVAILABLES, STALL_LATE, RESTARTS)
_PAST = (
    STALL,
    STALL_LATE,
    LOOP,
    HTTPS,
    UNAUTHORIZED,
    NO_PAGE,
    BAD_GATEWAYS,
    PAGE,
    NOTHING,
    TYPES,
    SHAPE,
    LIST_SHAPE,
    DEEP,
    RUDE,
)
_WHOLE_SHORT = (REFUSED, STALL, LOOP, UNAUTHORIZED, NO_PAGE, BAD_GATEWAYS, PAGE, TYPES)

# One request of a kind that may be asked again.
_BLIPS = (
    RESET,
    LOST,
    RESET_HEAD,
    CUT,
    TOO_LONG,
    TOO_SHORT,
    BUSY,
    FAILS,
    BAD_GATEWAY,
    UNAVAILABLE_TWICE,
    TOO_LATE,
    STALL_ONCE,
    SLOW_HEAD,
    SLOW_BODY,
    PAGE_ONCE,
    NOTHING_ONCE,
    RESTARTS,
)
_PASSING = (TORN, VANISHED, NOT_FOUND)

# A request that changes something.
_WRITES = (
    RESET,
    RESETS,
    LOST,
    LOSES,
    RESET_LATE,
    CUT,
    STALL,
    GONE,
    RESTARTS,
    UNAVAILABLE,
    BAD_GATEWAYS,
    PAGE,
    NOTHING,
    TYPES,
    SLOW_HEAD,
)
_STREAMS = (*_WRITES, ENDLESS, STALL_LATE, SLOW_BODY)
_CHATS = (RESET, UNAVAILABLE, STALL, PAGE, NOTHING, CUT, TYPES, GONE, SLOW_BODY)
_DOWNLOADS = (
    RESET,
    LOST,
    RESET_LATE,
    CUT,
    CUTS,
    STALL,
    STALL_ONCE,
    BUSY,
    UNAVAILABLE,
    UNAVAILABLES,
    UNAUTHORIZED,
    NO_PAGE,
    PAGE,
    NOTHING,
    TOO_LONG,
    LOOP,
    SLOW_BODY,
    HUGE,
)

_Table = Sequence[tuple[Command, Sequence[Route], Sequence[Kind]]]

WHOLE: _Table = (
    (commands.LIST, [SERVER], _WHOLE_LONG),
    (commands.STATUS, [SERVER], _WHOLE_LONG),
    (commands.STATUS, [PAST_VERSION], (*_PAST, HUGE)),
    (commands.UNCHANGED, [SERVER], _WHOLE_SHORT),
    (commands.UNCHANGED, [PAST_VERSION], _PAST),
    (commands.UPLOAD_GGUF, [SERVER], _WHOLE),
    (commands.UPLOAD_GGUF, [PAST_VERSION], _PAST),
    (commands.PULL_HUB, [SERVER], _WHOLE_SHORT),
    (commands.DOCTOR, [SERVER], _WHOLE_SHORT),
    (commands.DOCTOR, [PAST_VERSION], _PAST),
    (commands.SMOKE, [SERVER], _WHOLE_SHORT),
    (commands.SMOKE, [PAST_VERSION], _PAST),
    (commands.HISTORY, [SERVER], _WHOLE_SHORT),
    (commands.ROLLBACK, [SERVER], _WHOLE_SHORT),
    (commands.PRUNE, [SERVER], _WHOLE_SHORT),
    (commands.UPLOAD_MODELFILE, [HUB], _WHOLE),
    (commands.FIRST, [HUB], _WHOLE_SHORT),
    (commands.UPSTREAM, [HUB], _WHOLE_SHORT),
    (commands.PULL_MODELFILE, [REGISTRY], _WHOLE_SHORT),
    (commands.DOWNLOAD, [HUB], _WHOLE),
)
BLIPS: _Table = (
    (commands.LIST, [TAGS], (*_BLIPS, *_PASSING)),
    (commands.LIST, [SHOW], (RESET, BUSY, CUT, *_PASSING)),
    (commands.LIST, [RUNNING], (LOST, UNAVAILABLE_TWICE, PAGE)),
    (commands.STATUS, [VERSION, TAGS], (RESET, BUSY, CUT, STALL_ONCE)),
    (commands.STATUS, [SHOW], (*_BLIPS, *_PASSING)),
    (commands.DOCTOR, [TAGS, SHOW], (LOST, UNAVAILABLE_TWICE, RESET_HEAD, VANISHED)),
    (commands.HISTORY, [TAGS], (RESET, FAILS, SLOW_BODY)),
    (commands.SMOKE, [VERSION, TAGS, SHOW, RUNNING], (RESET, UNAVAILABLE_TWICE)),
    (commands.UPLOAD_GGUF, [VERSION, TAGS, SHOW, HAS_BLOB], (RESET, BUSY, BAD_GATEWAY, STALL)),
    (commands.UPLOAD_HUB, [HAS_BLOB], (LOST, FAILS, UNAUTHORIZED, PAGE, LOOP)),
    (commands.PULL_HUB, [SHOW, RUNNING], (RESET_HEAD, TOO_LATE)),
    (commands.UNCHANGED, [VERSION, TAGS, SHOW], (LOST, TOO_SHORT, FAILS, PAGE_ONCE, NOTHING_ONCE)),
    # Nothing that is there may go for an answer that did not come.
    (commands.FORCED, [HAS_BLOB, SHOW], (RESET, UNAVAILABLE_TWICE, BAD_GATEWAYS, NOTHING)),
    (commands.ROLLBACK, [TAGS, SHOW], (RESET, BUSY, TORN, NOTHING_ONCE)),
    (commands.PRUNE, [TAGS], (LOST, UNAVAILABLE_TWICE, NOTHING_ONCE)),
)
WRITES: _Table = (
    (commands.UPLOAD_GGUF, [CREATE, COPY, DELETE], _STREAMS),
    # The second copy is the one to the public name, and then it is looked whether it was done.
    (
        commands.UPLOAD_GGUF,
        [COPY],
        _at(2, RESET, LOST, CUT, STALL, GONE, UNAVAILABLE, PAGE, NOTHING),
    ),
    (commands.UPLOAD_GGUF, [TAGS], (*_at(2, RESET), *_at(3, LOST), *_at(4, BUSY), *_at(5, GONE))),
    (commands.UPLOAD_GGUF, [SHOW], (*_at(3, RESET), *_at(5, UNAVAILABLE), *_at(7, GONE, CUT))),
    (commands.UPLOAD_GGUF, [HAS_BLOB], (*_at(2, RESET), *_at(3, FAILS), *_at(4, LOST))),
    (commands.FIRST, [CREATE, COPY], (RESET, LOST, STALL, GONE, UNAVAILABLE)),
    (commands.UPLOAD_MODELFILE, [CREATE], (LOST, RESET_LATE, ENDLESS, RUDE)),
    (commands.UPLOAD_GGUF, [BLOB], (*_WRITES, RESET_BODY, TOO_LARGE)),
    (commands.UPLOAD_HUB, [BLOB], (RESET_BODY, LOST, TOO_LARGE, UNAVAILABLE, STALL)),
    (commands.PULL_HUB, [PULL], _STREAMS),
    (commands.PULL_MODELFILE, [PULL], (CUT, LOST, UNAVAILABLE, STALL_LATE, RUDE)),
    (commands.PULL_HUB, [DELETE], (RESET, LOST, GONE)),
    (commands.ROLLBACK, [COPY], _WRITES),
    # What is made anew is the build that serves already, so that nothing is copied.
    (commands.FORCED, [CREATE, DELETE], (LOST, UNAVAILABLE, NOTHING, GONE)),
    (commands.PRUNE, [DELETE], _WRITES),
    # Of what it puts on a server nothing may be left, whatever goes wrong.
    (commands.PREFLIGHT, [BLOB, CREATE, DELETE], (RESET, LOST, UNAVAILABLE)),
    (commands.PREFLIGHT, [SERVER], (REFUSED, PAGE)),
    (commands.PREFLIGHT, [CHAT], (STALL, GONE)),
)
CHATS: _Table = (
    (commands.PULL_AUTO, [CHAT], (*_CHATS, BUSY, BAD_GATEWAY)),
    (commands.CHECKED, [CHAT], (RESET, STALL, PAGE, GONE)),
    (commands.CHECKED, [COMPLETIONS, MESSAGES], (RESET, UNAVAILABLE, TYPES, CUT)),
    (commands.SMOKE, [CHAT], (*_CHATS, ENDLESS)),
    (commands.SMOKE, [COMPLETIONS, MESSAGES], (RESET, STALL, PAGE, ENDLESS)),
    (commands.TASK, [CHAT], (RESET, STALL, PAGE, NOTHING, CUT, GONE)),
    (commands.BENCH, [CHAT], (*_CHATS, ENDLESS, *_at(4, RESET, PAGE))),
    (commands.BENCH, [SERVER], (REFUSED, PAGE, TYPES)),
)
DOWNLOADS: _Table = (
    (commands.UPLOAD_GGUF, [BYTES], _DOWNLOADS),
    (commands.UPLOAD_GGUF, [FACTS], (RESET, LOST, BUSY, UNAVAILABLE, STALL, STALL_ONCE, NOTHING)),
    (commands.DOWNLOAD, [BYTES], _DOWNLOADS),
    (commands.DOWNLOAD_DIR, [BYTES], (RESET, CUTS, RESET_LATE, STALL, UNAUTHORIZED, PAGE, HUGE)),
    (commands.DOWNLOAD_DIR, [BYTES], _at(2, RESET, CUT, NO_PAGE)),
    (commands.DOWNLOAD_DIR, [TREE], (RESET, UNAVAILABLE, STALL, TYPES, PAGE, DEEP)),
    (commands.FIT, [HUB], _WHOLE_SHORT),
    (commands.FIT, [BYTES], (RESET, CUT, STALL, UNAVAILABLE, PAGE, NOTHING, HUGE)),
    (commands.UPLOAD_MODELFILE, [PROMPT], (RESET, STALL, UNAVAILABLE, PAGE, NOTHING, HUGE)),
    (commands.UPSTREAM, [PATHS], (RESET, BUSY, UNAVAILABLE, TYPES, SHAPE, PAGE, DEEP, STALL)),
    (commands.PULL_HUB, [MANIFEST], (RESET, BUSY, UNAVAILABLE, TYPES, PAGE, NOTHING, STALL, RUDE)),
    (commands.PULL_HUB, [LAYER], (RESET, UNAVAILABLE, LOOP, STALL)),
    (commands.PULL_HUB, [LAYER_BYTES], (RESET, CUT, CUTS, UNAVAILABLE, PAGE, STALL)),
)
_TABLES = {
    "write": WRITES,
    "download": DOWNLOADS,
    "blip": BLIPS,
    "chat": CHATS,
    "whole": WHOLE,
}
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)
_SIGNALLED = {
    commands.UPLOAD_GGUF: 4,
    commands.PULL_HUB: 4,
    commands.FIRST: 2,
    commands.ROLLBACK: 3,
    commands.PRUNE: 3,
    commands.DOWNLOAD: 2,
    commands.PREFLIGHT: 1,
}
_URL = "http://planted:planted-pass-word@"


def all_cases() -> list[Case]:
    """All cases, in the order in which they are run."""
    found = [
        Case(group, command, route, kind)
        for group, table in _TABLES.items()
        for command, routes, kinds in table
        for route in routes
        for kind in kinds
    ]
    return [*found, *_signals(), *_secrets(), *_files()]


def selection() -> list[Case]:
    """Those that run with every change: of each trait one, in the order in which all are run."""
    cases = [each for each in all_cases() if each.kind is None or not each.kind.heavy]
    # By something that no table has an order of, so that they come from all over the tables.
    left = sorted(cases, key=lambda case: sha256(case.id.encode()).digest())
    have: set[tuple[str, str]] = set()
    chosen = set()
    while True:
        best = max(left, key=lambda case: len(case.traits - have))
        if best.traits <= have:
            return [each for each in cases if each.id in chosen]
        have |= best.traits
        chosen.add(best.id)


def _signals() -> Iterator[Case]:
    for command, moments in _SIGNALLED.items():
        for number in _SIGNALS:
            # Random, and the same in every run.
            draw = random.Random(f"{command.name} {number.name}")
            for moment in range(moments):
                share = draw.uniform(moment / moments, (moment + 1) / moments)
                label = f"{number.name} after {share:.0%} of its requests"
                yield Case("signal", command, sent=Sent(number, share), label=label)
    for number in _SIGNALS[:3]:
        for command in (commands.UPLOAD_GGUF, commands.LIST):
            label = f"{number.name} while it starts"
            yield Case("signal", command, sent=Sent(number, -0.12), label=label)


def _secrets() -> Iterator[Case]:
    """Where people put passwords, rightly and wrongly."""
    for label, variables in {
        "password in OLLAMA_HOST": {"OLLAMA_HOST": f"{_URL}{{server}}"},
        "password in OLLAMA_HOST that is no address": {"OLLAMA_HOST": f"{_URL}[::1"},
        "password in an ftp OLLAMA_HOST": {"OLLAMA_HOST": f"ftp{_URL[4:]}{{server}}"},
        "password in OLLAMA_HOST without http": {"OLLAMA_HOST": f"{_URL[7:]}{{server}}"},
        "password in HF_ENDPOINT": {"HF_ENDPOINT": f"{_URL}{{registry}}"},
        "password in a HF_ENDPOINT that is away": {"HF_ENDPOINT": f"{_URL}127.0.0.1:9"},
        "password in a proxy of another kind": {
            "HTTP_PROXY": f"foo{_URL[4:]}127.0.0.1:9",
            "NO_PROXY": "",
        },
        "password in a proxy that is away": {"NO_PROXY": ""},
    }.items():
        for command in (commands.UPLOAD_GGUF, commands.LIST):
            yield Case("secret", command, environment=variables, label=label)
    for label, more in {
        "password in --host": ("--host", f"ftp{_URL[4:]}gpu1"),
        "password in --registry": ("--registry", f"{_URL}{{registry}}", "--via", "server"),
        "password in --registry without http": ("--registry", f"{_URL[7:]}x", "--via", "server"),
    }.items():
        yield Case("secret", commands.UPLOAD_GGUF, more=more, label=label)
    for label, reference in {
        "password in a reference": f"{_URL}hf.co/unsloth/Devstral-Small-2507-GGUF:Q4_K_M",
        "password in a web address": f"https{_URL[4:]}huggingface.co/a/resolve/main/x.gguf",
    }.items():
        odd = Command("create", ("create", reference, "--name", commands.NAME, "--no-check"))
        yield Case("secret", odd, label=label)


def _files() -> Iterator[Case]:
    """What is given to ``lint``; without the file it only says that there is none."""
    steps = ("print $x $x", 'printf "%s%s" $x $x', "html (print $x $x)", "js (print $x $x)")
    files: list[tuple[str, str, Callable[[Path], None]]] = [
        *((f"doublings by {each}", "hostile.gotmpl", hostile.Doubling(each)) for each in steps),
        ("template of 14 MB", "hostile.gotmpl", hostile.long_template),
        ("text of 10 GB", "hostile.jinja", hostile.repeating),
        ("16,000,000 arrays in an array", "hostile.gguf", hostile.nested_arrays),
    ]
    for label, name, write in files:
        lint = Command("lint", ("lint", name), judges=True, next=())
        yield Case("file", lint, file=write, label=label)


def covered() -> dict[str, set[str]]:
    """What the cases are made of: commands, routes, kinds of faults."""
    cases = all_cases()
    return {
        "commands": {each.command.name for each in cases} & {each.name for each in COMMANDS},
        "routes": {each.route.name for each in cases if each.route},
        "kinds": {each.kind.name for each in cases if each.kind},
    }
