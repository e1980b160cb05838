"""What is to be expected of each cell: the stored results are held to this, by hand.

A cell that stands nowhere here is expected to be ``ok``. The words are those of the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from tests.conformance.bed import CARRIERS, WAYS
from tests.conformance.cases import CASES


class Word(StrEnum):
    """What became of a call, in a word."""

    OK = "ok"
    TEXT_LOST = "text lost"
    REORDERED = "keys reordered"
    REWRITTEN = "numbers rewritten"
    OTHER = "another call"
    AS_TEXT = "as text"
    LOST = "lost"
    ERROR = "error 500"
    BREAKS_OFF = "stream breaks off"
    MALFORMED = "malformed"


MEANING: Mapping[Word, str] = {
    Word.OK: "name, arguments and text reach the caller as the model wrote them",
    Word.TEXT_LOST: "the calls arrive, the text beside them does not",
    Word.REORDERED: "the call arrives, its keys in another order",
    Word.REWRITTEN: "the call arrives with numbers of the same value, written in another way",
    Word.OTHER: "a call arrives that the model did not mean; of a model held to a grammar, one "
    "that the grammar allows",
    Word.AS_TEXT: "no call; what the model wrote arrives as text, without its control tokens in Go",
    Word.LOST: "an empty answer (on `/v1/messages`, not streamed: `content` is null)",
    Word.ERROR: "an error, to which agents answer with the same request again",
    Word.BREAKS_OFF: "the stream ends in the middle, without a word of the error behind it",
    Word.MALFORMED: "an answer that the API does not know",
}


def word(outcome: str) -> Word:
    """The word for an outcome as the bed describes it."""
    if outcome == "ok":
        return Word.OK
    for start, found in (
        ("ok but numbers", Word.REWRITTEN),
        ("ok but keys", Word.REORDERED),
        ("ok but text", Word.TEXT_LOST),
        ("calls ", Word.OTHER),
        ("text ", Word.AS_TEXT),
        ("empty", Word.LOST),
        ("malformed: content is null", Word.LOST),
        ("malformed: the stream breaks off", Word.BREAKS_OFF),
        # A stream has begun by then: the status was 200, the error is a line of its own.
        ("error: answers -1: ", Word.ERROR),
        ("error: answers 500: ", Word.ERROR),
    ):
        if outcome.startswith(start):
            return found
    return Word.MALFORMED
