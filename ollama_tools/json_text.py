"""JSON out of strange hands: one way to read it, and one way in which that fails."""

from __future__ import annotations

import json
from typing import Any


class MalformedJson(ValueError):
    """A text is no JSON, or none that can be read; the message is a reason of one line."""


def parse_json(text: str | bytes) -> Any:
    """The value that a text stands for.

    ``json`` has an exception of its own for syntax, another for bytes that are no text, and none
    for nesting, which ends in a RecursionError at a depth that differs by Python's version.

    Raises:
        MalformedJson: It cannot be read, for whatever reason.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise MalformedJson(f"line {error.lineno}: {error.msg}") from error
    except RecursionError as error:
        raise MalformedJson("nested too deeply") from error
    except ValueError as error:
        raise MalformedJson(str(error)) from error
