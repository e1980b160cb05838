"""What each server version can do, and which versions have known security faults."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from ollama_tools.devstral.carriers import Carrier
from ollama_tools.devstral.memory import KvType
from ollama_tools.errors import ServerTooOld


class Version(NamedTuple):
    """A server version that compares as numbers do."""

    major: int
    minor: int
    patch: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"


def parse_version(text: str) -> Version | None:
    """``0.34.4`` or ``v0.34.4-rc1`` as a version; None where the text is none.

    A release candidate counts as its release: it carries the same features.
    """
    match = re.match(r"v?(\d+)\.(\d+)\.(\d+)", text)
    return Version(*map(int, match.groups())) if match else None


MINIMUM_SERVER = Version(0, 15, 3)
"""The first version whose ``ministral`` parser reads nested arguments whole."""

NATIVE_JINJA = Version(0, 30, 0)
"""The first version that applies the GGUF's own Jinja, by a llama-server of its own."""

NO_ADAPTERS = Version(0, 34, 1)
"""The first version that takes no LoRA adapter."""

TESTED_SERVER = Version(0, 34, 4)
"""The newest release that the tests of this package ran on."""

KV_TYPES_BEFORE_NATIVE = frozenset({KvType.F16, KvType.Q8_0, KvType.Q4_0})
"""What servers before :data:`NATIVE_JINJA` know of types of a KV cache; for others they silently
use f16."""

UNQUOTED_FILES = Version(0, 34, 0)
"""The first of the newer generation that takes a GGUF as it is, without llama-quantize."""


def rewrites_files(version: Version) -> bool:
    """Whether a server makes files of its own out of those that it is given (measured)."""
    return NATIVE_JINJA <= version < UNQUOTED_FILES


@dataclass(frozen=True, slots=True)
class Advisory:
    """A security fault of some server versions.

    Attributes:
        identifier: Its CVE number.
        first: First affected version; None where all before the fix are.
        fixed: First version with the fix.
        summary: What an attacker can do, in a few words; empty where not published.
    """

    identifier: str
    first: Version | None
    fixed: Version
    summary: str = ""

    def affects(self, version: Version) -> bool:
        """Whether a server of this version has the fault."""
        return (self.first is None or version >= self.first) and version < self.fixed


ADVISORIES = (
    Advisory("CVE-2024-37032", None, Version(0, 1, 34), "path traversal by a digest"),
    Advisory("CVE-2025-1975", None, Version(0, 5, 8), "crash by a manifest"),
    Advisory("CVE-2025-51471", None, Version(0, 14, 3), "token sent to another registry"),
    Advisory("CVE-2026-7482", None, Version(0, 17, 1)),
    Advisory("CVE-2026-86289", None, Version(0, 31, 2)),
    Advisory(
        "CVE-2026-85180", Version(0, 30, 0), Version(0, 33, 3), "server-side requests on pull"
    ),
)
"""Known faults, from public vulnerability trackers (read in November 2026); the list grows."""


def advisories(version: Version) -> tuple[Advisory, ...]:
    """The known security faults of a server version."""
    return tuple(each for each in ADVISORIES if each.affects(version))


def require_supported(version_text: str) -> Version:
    """The server's version, if Devstral can work there at all.

    A build without a version stamp says ``0.0.0``; it is refused as well, since nothing is known
    of what it can do.

    Raises:
        ServerTooOld: The version is below :data:`MINIMUM_SERVER` or cannot be read.
    """
    version = parse_version(version_text)
    if version is None or version < MINIMUM_SERVER:
        raise ServerTooOld(
            f"the server is Ollama {version_text}; Devstral needs {MINIMUM_SERVER} or newer, "
            "the first whose tool-call parser reads nested arguments whole",
            "upgrade the server: https://github.com/ollama/ollama/releases",
        )
    return version


def carriers(version: Version, *, rewritable: bool) -> tuple[Carrier, ...]:
    """The carriers that this package can build on a server version, the best first.

    Args:
        version: The server's version.
        rewritable: Whether the weights pass through this machine, so that a template can be put
            into them on their way.
    """
    if version < NATIVE_JINJA:
        return (Carrier.MODELFILE,)
    if rewritable:
        return (Carrier.GGUF, Carrier.HUB, Carrier.MODELFILE)
    return (Carrier.HUB, Carrier.MODELFILE)
