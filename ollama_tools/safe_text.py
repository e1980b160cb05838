"""Text out of strange hands, made safe to show: nothing moves a cursor, nothing tells a secret."""

from __future__ import annotations

import re

_TO_ESCAPE = re.compile(r"[^\x20-\x7e]")
_QUOTED = re.compile(r"(?P<quote>[\"'])(?P<inside>[^\n]*?)(?P=quote)")
# Up to the last "@", since a password may contain one; a digest pins weights and is no host.
_WITH_SCHEME = re.compile(r"(?P<keep>[\w+.-]*:?//?)[^\s\"'/]*@(?!sha256:)")
_WITH_PASSWORD = re.compile(
    r"(?<![^\s\"'=(,;<])(?P<keep>(?:-{1,2}[\w-]+=)?(?:[\w+.-]*:?/{1,2})?)"
    r"[^\s\"'@]*?(?::(?!//)|%3a)[^\s\"']*@(?!sha256:)",
    re.IGNORECASE,
)
_IN_QUOTES = re.compile(
    r"(?P<keep>(?:-{1,2}[\w-]+=)?(?:[\w+.-]*:?/{1,2})?)[^@]*?(?::(?!//)|%3a).*@(?!sha256:)",
    re.IGNORECASE,
)
# A text that was cut may have lost its "@"; what follows a host is a port or an address.
_CUT = re.compile(r"(?P<keep>://)[^\s\"'/:@\[\]]+:(?![0-9a-f:.]*(?:[/?#\s\"'\],;)…]|$))[^\s\"'/]+")
_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{8,}")
_HIDDEN = "***"


def printable(text: str, *, but: str = "") -> str:
    """A text without control characters, also those that turn the direction of writing.

    Args:
        text: What a model, a server, a file or a person said.
        but: Characters that may stand, as the line ends of a text of several lines.
    """

    def escaped(match: re.Match[str]) -> str:
        each = match[0]
        if each.isprintable() or each in but:
            return each
        return each.encode("unicode_escape").decode()

    return _TO_ESCAPE.sub(escaped, text)


def printable_json(text: str) -> str:
    """A JSON document without raw control characters in its texts; it means the same."""

    def escaped(match: re.Match[str]) -> str:
        each = match[0]
        if each.isprintable() or each == "\n":
            return each
        units = each.encode("utf-16-be", "surrogatepass")
        return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))

    return _TO_ESCAPE.sub(escaped, text)


def without_secrets(text: str) -> str:
    """A text without the user and password of any address in it, however it is mistyped."""
    if "@" in text:
        text = _QUOTED.sub(_hide_in_quotes, text)
        text = _WITH_PASSWORD.sub(rf"\g<keep>{_HIDDEN}@", text)
        text = _WITH_SCHEME.sub(_hide_user, text)
    if "://" in text:
        text = _CUT.sub(rf"\g<keep>{_HIDDEN}", text)
    return _TOKEN.sub(f"hf_{_HIDDEN}", text)


def shown(text: str, *, but: str = "") -> str:
    """A text for the terminal: nothing of it moves the cursor, and no address tells a password."""
    return printable(without_secrets(text), but=but)


def _hide_in_quotes(match: re.Match[str]) -> str:
    inside = _IN_QUOTES.sub(rf"\g<keep>{_HIDDEN}@", match["inside"], count=1)
    return f"{match['quote']}{inside}{match['quote']}"


def _hide_user(match: re.Match[str]) -> str:
    # A path may have a revision behind its "@"; only what stands behind a scheme is a user.
    return f"{match['keep']}{_HIDDEN}@" if "//" in match["keep"] else match[0]
