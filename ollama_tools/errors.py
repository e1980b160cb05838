"""One base error: what happened, what to do about it, and how the process ends."""

from __future__ import annotations

from enum import IntEnum
from typing import Final, Self

from ollama_tools.safe_text import without_secrets

MALFORMED: Final = (
    KeyError,
    IndexError,
    TypeError,
    ValueError,
    AttributeError,
    OverflowError,
    RecursionError,
)
"""What taking apart an answer raises that is not of the form it should be, whoever does it: our own
code, pydantic in the official client, or huggingface_hub."""


class ExitCode(IntEnum):
    """Exit codes of the command line.

    Attributes:
        meaning: What it says, in a few words.
    """

    OK = 0, "done, or unchanged"
    FAILED = 1, "failed"
    USAGE = 2, "wrong usage"
    DRIFT = 3, "drift found"
    CHECK_FAILED = 4, "a check failed"
    OVERTAKEN = 5, "another run switched the name in the same moment"
    INTERRUPTED = 130, "interrupted"

    meaning: str

    def __new__(cls, code: int, meaning: str) -> Self:
        """A code with its meaning; as a number it is the code alone."""
        found = int.__new__(cls, code)
        found._value_ = code
        found.meaning = meaning
        return found


class DevstralError(Exception):
    """Base of every error that this package raises on purpose.

    Attributes:
        what: What happened, one line, without a full stop at the end.
        fix: What to do about it, one line; empty where nothing useful can be said.
        exit_code: The exit code with which the command line ends.
        switched: Whether a public name stands for its new build already, though something failed.
    """

    exit_code: ExitCode = ExitCode.FAILED
    switched: bool = False

    def __init__(self, what: str, fix: str = "") -> None:
        # Messages quote what people typed, and they type passwords into addresses.
        self.what = without_secrets(what)
        self.fix = without_secrets(fix)
        super().__init__(self.what)

    def __str__(self) -> str:
        return f"{self.what} ({self.fix})" if self.fix else self.what


class UsageError(DevstralError, ValueError):
    """The caller asked for something that cannot be: a flag, a reference, a file."""

    exit_code = ExitCode.USAGE


class CatalogError(UsageError):
    """The catalog file is broken; the message names file, line and reason."""


class UnknownReference(UsageError):
    """A reference names nothing that the catalog or the hub could have."""


class ServerError(DevstralError):
    """The Ollama server did not do what it was asked; it is as it was before."""


class ServerUnreachable(ServerError, ConnectionError):
    """Nothing answers at the server's address."""


class NotOllama(ServerError):
    """Something answers at the address, but it is not Ollama."""


class ServerTooOld(ServerError):
    """The server's version lacks what Devstral needs."""


class ModelNotFound(ServerError):
    """The server has no model of that name."""


class LayerLost(ServerError):
    """A model stands on the server, and a file that it is made of does not."""


class PullFailed(ServerError):
    """The server could not bring the bytes from the hub."""


class BuildLost(ServerError):
    """Another run removed a build, or a layer of it, before the public name stood for it."""


class Overtaken(ServerError):
    """Another run switched the public name to a build of its own in the same moment."""

    exit_code = ExitCode.OVERTAKEN


class HubError(DevstralError):
    """The Hugging Face hub, or a mirror of it, refused or did not answer."""


class HubAway(HubError):
    """The hub cannot be asked now: offline, not reached, or overloaded; what is here may do."""


class FileProblem(UsageError):
    """A local file cannot be read, or is not what it should be."""


class CheckFailed(DevstralError):
    """A check on a live server failed; what served before still serves."""

    exit_code = ExitCode.CHECK_FAILED
