"""The model parameters that Ollama knows: the one table that everything else reads.

They are the fields of ``api.Options`` and ``api.Runner`` in api/types.go, read in 0.15.3, 0.20.0,
0.24.0, 0.30.0, 0.33.3, 0.34.1 and 0.34.4; a live test puts each of them to a server of both
generations. ``ollama create`` refuses a name that is not among them, while ``/api/create`` takes it
without a word and it does nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ollama_tools.errors import UsageError
from ollama_tools.server.versions import Version

_TRUE: Final = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE: Final = frozenset({"0", "f", "F", "false", "FALSE", "False"})


class Kind(StrEnum):
    """What a parameter's value is, in the words for a person."""

    INTEGER = "a whole number"
    NUMBER = "a number"
    BOOLEAN = "true or false"
    TEXTS = "a text"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One model parameter.

    Attributes:
        name: Its name.
        kind: What its value is.
        since: The first version that knows it; None for all that are supported.
        refused_since: The first version that refuses it; None where none does.
    """

    name: str
    kind: Kind
    since: Version | None = None
    refused_since: Version | None = None

    def fits(self, text: str) -> bool:
        """Whether a text is such a value, as ``ollama create`` reads it (Go's strconv)."""
        match self.kind:
            case Kind.INTEGER:
                return re.fullmatch(r"[+-]?\d{1,18}", text, re.ASCII) is not None
            case Kind.NUMBER:
                return is_number(text)
            case Kind.BOOLEAN:
                return as_bool(text) is not None
            case Kind.TEXTS:
                return True

    def fault(self, version: Version) -> str | None:
        """Why a server of a version cannot be given it, in words; None where it can."""
        if self.refused_since is not None and version >= self.refused_since:
            return f"Ollama {self.refused_since} and newer refuse {self.name}"
        if self.since is not None and version < self.since:
            return f"Ollama below {self.since} does not know {self.name}"
        return None


def _table() -> Iterable[Parameter]:
    for name in (
        "num_ctx",
        "num_keep",
        "num_predict",
        "num_batch",
        "num_gpu",
        "num_thread",
        "main_gpu",
        "seed",
        "top_k",
        "repeat_last_n",
    ):
        yield Parameter(name, Kind.INTEGER)
    # The first release that can draft tokens; 0.24.0, the last before it, has no such field.
    yield Parameter("draft_num_predict", Kind.INTEGER, since=Version(0, 30, 0))
    for name in (
        "temperature",
        "top_p",
        "min_p",
        "repeat_penalty",
        "presence_penalty",
        "frequency_penalty",
    ):
        yield Parameter(name, Kind.NUMBER)
    # Models made before keep it; /api/create and requests end in HTTP 400 (server/create.go).
    yield Parameter("typical_p", Kind.NUMBER, refused_since=Version(0, 34, 1))
    yield Parameter("use_mmap", Kind.BOOLEAN)
    yield Parameter("stop", Kind.TEXTS)


PARAMETERS: Final[Mapping[str, Parameter]] = {each.name: each for each in _table()}
"""The parameters by name."""

OBSOLETE: Final = frozenset(
    {
        "penalize_newline",
        "low_vram",
        "f16_kv",
        "logits_all",
        "vocab_only",
        "use_mlock",
        "mirostat",
        "mirostat_tau",
        "mirostat_eta",
        "tfs_z",
        "numa",
    }
)
"""Names that older servers knew: ``ollama create`` drops them with a warning (parser/parser.go),
but refuses ``tfs_z`` and ``numa`` like any unknown name."""


def find_parameter(name: str) -> Parameter:
    """Look a parameter up.

    Raises:
        UsageError: Ollama has none of that name.
    """
    if name not in PARAMETERS:
        near = near_parameter(name)
        hint = f"did you mean {near}?" if near else f"known are {', '.join(PARAMETERS)}"
        raise UsageError(f"Ollama has no model parameter {name!r}", hint)
    return PARAMETERS[name]


def near_parameter(name: str) -> str | None:
    """The parameter that a mistyped name may have meant; None where nothing is near."""
    # Imported here: most runs meet no typing mistake.
    from difflib import get_close_matches

    return next(iter(get_close_matches(name.lower(), PARAMETERS, n=1)), None)


def require_parameters(names: Iterable[str], version: Version) -> None:
    """Refuse parameters that a server of a version does not take.

    Raises:
        UsageError: It refuses one, or would take it without a word and do nothing.
    """
    for name in names:
        if fault := find_parameter(name).fault(version):
            raise UsageError(f"{fault}; the server is Ollama {version}", f"leave out {name}")


def is_number(text: str) -> bool:
    """Whether a text is a number, whole or not."""
    return re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text, re.ASCII) is not None


def as_bool(text: str) -> bool | None:
    """A text as Go's ``strconv.ParseBool`` reads it; None where it is neither."""
    return True if text in _TRUE else False if text in _FALSE else None


def value_text(value: float | bool | str) -> str:
    """A value as a Modelfile has it, and ``/api/show`` gives it back."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)
