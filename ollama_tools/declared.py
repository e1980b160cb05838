"""A choice that people have, declared once: what every surface tells them of it.

The command line makes its options of a dataclass's fields, the collection its arguments, and the
documentation its tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, dataclass
from typing import Any

_KEY = "choice"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What a person is told of a field.

    Attributes:
        help: What it is, one sentence.
        more: Further sentences, for places with room.
        flags: Its options on the command line; none for ``--`` and the field's name.
        formerly: Options that mean the same and are shown no longer.
        metavar: What stands for its value.
        panel: The heading of its options in the help, where it is not that of the whole.
        choices: The words that it may be.
        written: Whether people write it in a form of their own, which the dataclass reads.
        off: An option that gives it the empty text, and the help of that.
        variable: The environment variable that says it where nobody else does.
        secret: Whether nobody may see it: it has no option, since every process of a machine can
            read the command lines of all others, and Ansible does not log it.
    """

    help: str
    more: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    formerly: tuple[str, ...] = ()
    metavar: str | None = None
    panel: str | None = None
    choices: tuple[str, ...] = ()
    written: bool = False
    off: tuple[str, str] | None = None
    variable: str | None = None
    secret: bool = False


def said(**words: Any) -> Mapping[str, Choice]:
    """A field's ``metadata`` that declares it; the words are those of :class:`Choice`."""
    return {_KEY: Choice(**words)}


def choice(of: Field[Any]) -> Choice:
    """What is said of a field."""
    found: Choice = of.metadata[_KEY]
    return found
