"""Names of models on a server: what Ollama accepts, and how two of them compare."""

from __future__ import annotations

import re

from ollama_tools.errors import UsageError

_HOST = r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}"
_NAMESPACE = r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}"
_PART = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}"
_NAME = re.compile(
    rf"(?P<prefix>(?:{_HOST}/)?(?:{_NAMESPACE}/)?)(?P<model>{_PART})(?::(?P<tag>{_PART}))?"
)
_MARK = re.compile(r"-[0-9a-f]{12}")
_MARK_LENGTH = 13
_FAILED = ".failed"
_LONGEST_TAG = 80 - _MARK_LENGTH - len(_FAILED)


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
    if _MARK.fullmatch(tag[-_MARK_LENGTH:]):
        raise UsageError(
            f"{text!r} looks like the name of a build",
            f"leave out the last {_MARK_LENGTH} characters of the tag",
        )
    return f"{match['prefix']}{match['model']}:{tag}"


def build_name(public: str, mark: str) -> str:
    """The name under which one build of a public name is kept: ``name:tag-<mark>``."""
    return f"{full_name(public)}-{mark}"


def is_build_of(name: str, public: str) -> bool:
    """Whether a name is that of a build of a public name."""
    full = full_name(public).casefold()
    rest = name.casefold().removeprefix(full)
    return name.casefold().startswith(full) and _MARK.fullmatch(rest) is not None


def failed_name(build: str) -> str:
    """The name that a build which failed its checks is left under; it is no build's any more."""
    return f"{build}{_FAILED}"


def public_of(name: str) -> str:
    """The public name that a build's name stands beside: ``name:tag`` of ``name:tag-<mark>``."""
    return name[:-_MARK_LENGTH]
