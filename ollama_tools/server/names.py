"""Names of models on a server: what Ollama accepts, and how two of them compare."""

from __future__ import annotations

import os
import re
from enum import StrEnum
from typing import NamedTuple

from ollama_tools.errors import UsageError

_HOST = r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}"
_NAMESPACE = r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}"
_PART = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}"
_NAME = re.compile(
    rf"(?P<prefix>(?:{_HOST}/)?(?:{_NAMESPACE}/)?)(?P<model>{_PART})(?::(?P<tag>{_PART}))?"
)
_MARK_DIGITS = 12
_OWN = re.compile(
    r"(?P<public>.+:.+?)"
    rf"(?:-(?P<mark>[0-9a-f]{{{_MARK_DIGITS}}})(?P<after>\.failed|\.[sn][0-9a-f]{{5}})?"
    r"|(?P<trial>\.try-[0-9a-f]{8}))"
)
_LONGEST_ENDING = len(f"-{'0' * _MARK_DIGITS}.failed")
_LONGEST_TAG = 80 - _LONGEST_ENDING


class Kind(StrEnum):
    """What a name beside a public one is for.

    Attributes:
        BUILD: One build; it has passed its checks, and nothing ever writes onto it.
        TRIAL: A build that is being made and checked.
        FAILED: A build that did not pass; it is kept to be looked at.
        SERVED: A copy of a build whose time says since when the build serves again.
        UNSERVED: A copy of a build that is there as long as the build has not served yet.
    """

    BUILD = "build"
    TRIAL = "trial"
    FAILED = "failed"
    SERVED = "served"
    UNSERVED = "unserved"

    @property
    def is_mark(self) -> bool:
        """Whether it only says something of a build, and goes with it."""
        return self in (Kind.SERVED, Kind.UNSERVED)


_KINDS = {None: Kind.BUILD, ".f": Kind.FAILED, ".s": Kind.SERVED, ".n": Kind.UNSERVED}
"""By the beginning of what stands behind a build's mark."""


class OwnName(NamedTuple):
    """A name that this package gave to a model, taken apart.

    Attributes:
        kind: What it is for.
        public: The public name that it stands beside.
        mark: What tells one build of that name from others; empty for a trial.
    """

    kind: Kind
    public: str
    mark: str

    @property
    def build(self) -> str:
        """The name of the build that it is, or that it speaks of."""
        return build_name(self.public, self.mark)


def own_name(name: str) -> OwnName | None:
    """Take a name apart that this package may have given; None where its form is another."""
    match = _OWN.fullmatch(name.casefold())
    if match is None:
        return None
    public = name[: match.end("public")]
    if match["trial"]:
        return OwnName(Kind.TRIAL, public, "")
    after = match["after"]
    return OwnName(_KINDS[after[:2] if after else None], public, match["mark"])


def full_name(name: str) -> str:
    """A model's name with its tag: ``devstral`` is ``devstral:latest``."""
    return name if ":" in name.rsplit("/", 1)[-1] else f"{name}:latest"


def same_name(one: str, other: str) -> bool:
    """Whether the server takes two names for one (it ignores case and an absent tag)."""
    return full_name(one).casefold() == full_name(other).casefold()


def public_name(text: str) -> str:
    """Check a name that a person wants for a model, and give it its tag.

    The rules are those of Ollama's own ``types/model`` (parts of up to 80 letters, digits, ``_``,
    ``.`` and ``-``); the tag must leave room for the mark of a build.

    Raises:
        UsageError: Ollama would reject the name, or it is the name of a build.
    """
    match = _NAME.fullmatch(text)
    if match is None:
        raise UsageError(
            f"{text!r} is not a name that Ollama accepts",
            "use letters, digits, '_', '.' and '-', as in my-devstral:agent",
        )
    tag = match["tag"] or "latest"
    if len(tag) > _LONGEST_TAG:
        raise UsageError(
            f"the tag of {text!r} is longer than {_LONGEST_TAG} characters", "use a shorter tag"
        )
    if own := own_name(f"{match['model']}:{tag}"):
        raise UsageError(
            f"{text!r} looks like the name of a build",
            f"leave out what stands behind {own.public.partition(':')[2]!r}",
        )
    return f"{match['prefix']}{match['model']}:{tag}"


def build_name(public: str, mark: str) -> str:
    """The name under which one build of a public name is kept: ``name:tag-<mark>``."""
    return f"{full_name(public)}-{mark}"


def is_build_of(name: str, public: str) -> bool:
    """Whether a name is that of a build of a public name."""
    own = own_name(name)
    return own is not None and own.kind is Kind.BUILD and same_name(own.public, public)


def failed_name(build: str) -> str:
    """The name that a build which failed its checks is left under; it is no build's any more."""
    return f"{build}.failed"


def new_trial_name(public: str) -> str:
    """A name for a build that is being made, which no other run takes."""
    return f"{full_name(public)}.try-{os.urandom(4).hex()}"


def new_served_name(build: str) -> str:
    """A name that says by its time when a build began to serve again."""
    return f"{build}.s{os.urandom(3).hex()[:5]}"


def new_unserved_name(build: str) -> str:
    """A name that says as long as it is there that a build has not served yet."""
    return f"{build}.n{os.urandom(3).hex()[:5]}"
