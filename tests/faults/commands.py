"""The command lines that faults are put to, and what each finds on the server."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

NAME = "bed:agent"
"""The public name that all commands are about."""

_OLD = "UD-Q4_K_XL"
_BUNDLED = ("--system", "bundled")
_SHORT = ("--prompt-tokens", "300")
_PULLED = ("--via", "server", "--registry", "http://{registry}")


class State(StrEnum):
    """What is on the server before a command."""

    EMPTY = "empty"
    SERVED = "served"


@dataclass(frozen=True)
class Command:
    """A command line.

    Attributes:
        name: What the cases call it.
        arguments: What stands behind the program's name; ``{registry}`` is the hub's address.
        state: What it finds.
        writes: Whether it may change the server.
        judges: Whether it judges a model or server, so that exit code 4 can be an answer.
        next: The arguments of the run after it; None means the same, and none that there is none,
            where it would take long and show nothing new.
    """

    name: str
    arguments: tuple[str, ...]
    state: State = State.SERVED
    writes: bool = False
    judges: bool = False
    next: tuple[str, ...] | None = None

    @property
    def again(self) -> tuple[str, ...]:
        """The arguments of the run after it."""
        return self.arguments if self.next is None else self.next

    @property
    def word(self) -> str:
        """The subcommand."""
        return self.arguments[0]


def made(context: int) -> tuple[str, ...]:
    """The arguments that make a build of the name for :attr:`State.SERVED`."""
    carrier = ("--template-in", "modelfile", "--no-check")
    return ("create", _OLD, "--name", NAME, "--context", str(context), *carrier, *_BUNDLED)


def _create(name: str, carrier: str, *more: str, state: State = State.SERVED) -> Command:
    wish = ("--name", NAME, "--context", "4096", "--template-in", carrier)
    arguments = ("create", "2507:Q4_K_M", *wish, *more)
    judges = "--no-check" not in more
    return Command(name, arguments, state, writes=True, judges=judges)


UPLOAD_GGUF = _create("create gguf", "gguf", "--via", "upload", "--no-check", *_BUNDLED)
UPLOAD_HUB = _create("create hub", "hub", "--via", "upload", "--no-check", *_BUNDLED)
UPLOAD_MODELFILE = _create("create modelfile", "modelfile", "--via", "upload", "--no-check")
PULL_HUB = _create("create pulled hub", "hub", *_PULLED, "--no-check", *_BUNDLED)
PULL_MODELFILE = _create("create pulled modelfile", "modelfile", *_PULLED, "--no-check", *_BUNDLED)
PULL_AUTO = _create("create pulled auto", "auto", *_PULLED, *_SHORT, *_BUNDLED)
CHECKED = replace(
    _create("create checked", "gguf", "--via", "upload", *_SHORT, *_BUNDLED),
    next=UPLOAD_GGUF.arguments,
)
FIRST = _create("create first", "gguf", "--no-check", *_BUNDLED, state=State.EMPTY)
UNCHANGED = Command("create unchanged", made(8192))
FORCED = Command("create --force", (*made(8192), "--force"), writes=True)
SMOKE = Command("smoke", ("smoke", NAME, "--release", "2507", *_SHORT), judges=True, next=())
_STATUS = ("status", _OLD, "--name", NAME, "--context", "8192", "--template-in", "modelfile")
STATUS = Command("status", (*_STATUS, *_BUNDLED))
UPSTREAM = Command("status --upstream", (*_STATUS, *_BUNDLED, "--upstream"))
LIST = Command("list", ("list",))
DOCTOR = Command("doctor", ("doctor",), judges=True)
HISTORY = Command("history", ("history", NAME))
ROLLBACK = Command("rollback", ("rollback", NAME), writes=True)
PRUNE = Command("prune", ("prune", "--keep", "1"), writes=True)
DOWNLOAD = Command("download", ("download", "2507:Q4_K_M"))
DOWNLOAD_DIR = Command("download --dir", ("download", "2507:Q4_K_M", "--vision", "--dir", "d"))
# Of a repository that the catalog does not know, so that the hub has to say what its file is.
OTHERS = "somebody/Devstral-Small-2507-GGUF"
FIT = Command("fit", ("fit", f"hf.co/{OTHERS}:Q4_K_M", "--vram", "24GiB", "--context", "8k"))
# Forty layers take long to load where many share a machine.
_PATIENT = ("--timeout", "20")
# An engine whose name is gone counts as one that serves, and then less would be tried.
_WHOLE = ("preflight", "--release", "2507", "--context", "2560", "--force", "--quiet", *_PATIENT)
PREFLIGHT = Command("preflight", _WHOLE, judges=True, next=())
TASK = Command(
    "smoke --task", ("smoke", NAME, "--task", "flappy-bird", "--quiet"), judges=True, next=()
)
_ONCE = ("--depth", "300", "--runs", "1", "--parallel", "2", "--turns", "2", "--tokens", "16")
# What it measures is otherwise each time; the name is not.
BENCH = Command("bench", ("bench", NAME, *_ONCE, "--quiet"), next=())

CREATES = (
    UPLOAD_GGUF,
    UPLOAD_HUB,
    UPLOAD_MODELFILE,
    PULL_HUB,
    PULL_MODELFILE,
    PULL_AUTO,
    CHECKED,
    FIRST,
    UNCHANGED,
    FORCED,
)
READERS = (STATUS, UPSTREAM, LIST, DOCTOR, HISTORY, SMOKE, FIT, PREFLIGHT, TASK, BENCH)
COMMANDS = (*CREATES, *READERS, ROLLBACK, PRUNE, DOWNLOAD, DOWNLOAD_DIR)
