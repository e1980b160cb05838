"""What is to be expected of each cell: the stored results are held to this, by hand.

A cell that stands nowhere here is expected to be ``ok``. The words are those of the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Word(StrEnum):
    """What became of a call, in a word."""

    OK = "ok"
    TEXT_LOST = "text lost"
    REORDERED = "keys reordered"
    REWRITTEN = "numbers rewritten"
    WRONG_NUMBER = "number wrong"
    PREVENTED = "prevented"
    OTHER = "another call"
    AS_TEXT = "as text"
    LOST = "lost"
    CUT = "cut off"
    AS_WRITTEN = "as written"
    ERROR = "error 500"
    BREAKS_OFF = "stream breaks off"
    MALFORMED = "malformed"


MEANING: Mapping[Word, str] = {
    Word.OK: "name, arguments and text reach the caller as the model wrote them",
    Word.TEXT_LOST: "the calls arrive, the text beside them does not",
    Word.REORDERED: "the call arrives, its keys in another order",
    Word.REWRITTEN: "the call arrives with numbers of the same value, written in another way",
    Word.WRONG_NUMBER: "the call arrives with a number that is another one",
    Word.PREVENTED: "the grammar lets the model write no such thing, and it writes what is allowed",
    Word.OTHER: "the server makes another call of it",
    Word.AS_TEXT: "no call; what the model wrote arrives as text, without its control tokens in Go",
    Word.LOST: "an empty answer (on `/v1/messages`, not streamed: `content` is null)",
    Word.CUT: "the call arrives, its arguments as far as they were written; not streamed, "
    "`/v1/messages` makes `{}` of them",
    Word.AS_WRITTEN: "the call arrives, its arguments as the model wrote them, which are no JSON: "
    "as text, or in an object under `INVALID_JSON`",
    Word.ERROR: "an error, to which agents answer with the same request again",
    Word.BREAKS_OFF: "the stream ends in the middle, without a word of the error behind it",
    Word.MALFORMED: "an answer that the API does not know",
}


def word(outcome: str, carrier: str) -> Word:
    """The word for an outcome as the bed describes it."""
    if outcome == "ok":
        return Word.OK
    if carrier in _READING and (outcome in _CUT or outcome.startswith(_NO_JSON)):
        return Word.AS_WRITTEN
    if outcome in _CUT:
        return Word.CUT
    if carrier in _GRAMMAR and outcome.startswith("calls "):
        return Word.PREVENTED
    for start, found in (
        ("ok but numbers", Word.REWRITTEN),
        ("ok but keys", Word.REORDERED),
        ("ok but text", Word.TEXT_LOST),
        ("wrong numbers ", Word.WRONG_NUMBER),
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


@dataclass(frozen=True, slots=True)
class Rule:
    """An expectation for some cells; what is empty holds for all."""

    word: Word
    cases: tuple[str, ...] = ()
    carriers: tuple[str, ...] = ()
    ways: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()

    def holds(self, case: str, carrier: str, way: str, version: str) -> bool:
        """Whether a cell is one of the rule's."""
        return (
            (not self.cases or case in self.cases)
            and (not self.carriers or carrier in self.carriers)
            and (not self.ways or way.startswith(self.ways))
            and (not self.versions or version in self.versions)
        )


_LLAMA = ("llama-server", "llama-server v7")
_GATEWAY = ("gateway",)
_READING = ("gateway reads", "gateway reads v7")
_GRAMMAR = ("gguf", "gguf v7", *_GATEWAY, *_LLAMA)
# What is no JSON, since it was cut off, is None to our client.
_CUT = ('calls "bash(null)"', 'calls "bash({})"')
_NO_JSON = 'calls "bash({\\"INVALID_JSON'
_MINISTRAL = ("modelfile",)
_GENERIC = ("generic", "modelfile v7")
_STREAMS = ("/v1/chat/completions streamed", "/v1/responses streamed", "/v1/messages streamed")
_STRAYS = (
    "a tool that was not offered",
    "a tool whose name ends in an offered one",
    "a space before the name",
    "the form with [CALL_ID]",
    "arguments as a string",
    "the form of the other version",
    "the list form, arguments first",
    "arguments that are no JSON",
)
_CUT_OFF = ("cut off inside the arguments",)
_NOT_OFFERED = ("a call, no tools offered", "text and a call, no tools offered")

# The last rule that holds counts.
RULES: tuple[Rule, ...] = (
    # Whatever the carrier
    Rule(
        Word.TEXT_LOST,
        ("text, then a call", "text, then two calls", "a call, then text"),
        ways=("/v1/responses",),
    ),
    Rule(Word.REWRITTEN, ("a float without a fraction",)),
    Rule(Word.WRONG_NUMBER, ("an integer above 2^53",)),
    # A grammar lets nothing stray through, and knows the keys in the order of the schema alone,
    # which is sorted on /v1/responses.
    Rule(Word.REORDERED, ("nested keys out of order",), (*_GRAMMAR, *_MINISTRAL)),
    Rule(Word.PREVENTED, ("keys out of alphabetical order",), _GRAMMAR, ("/v1/responses",)),
    Rule(Word.PREVENTED, _STRAYS, _GRAMMAR),
    Rule(Word.TEXT_LOST, ("a call, then text",), _GRAMMAR),
    Rule(Word.ERROR, _CUT_OFF, _GRAMMAR),
    Rule(Word.AS_TEXT, _NOT_OFFERED, _GRAMMAR),
    # PARSER ministral
    Rule(Word.ERROR, _STRAYS, _MINISTRAL),
    Rule(
        Word.LOST,
        (
            "arguments as a string",
            "the form of the other version",
            "the list form, arguments first",
            *_CUT_OFF,
        ),
        _MINISTRAL,
    ),
    Rule(Word.ERROR, _NOT_OFFERED, _MINISTRAL),
    Rule(Word.BREAKS_OFF, ("text and a call, no tools offered",), _MINISTRAL, _STREAMS),
    # The generic parser
    Rule(
        Word.LOST,
        ("an argument called name", "a nested key called name", "arguments as a string"),
        ("generic",),
    ),
    Rule(Word.OTHER, ("arguments name and parameters",), ("generic",)),
    Rule(Word.LOST, ("a tool that was not offered", "arguments that are no JSON"), _GENERIC),
    Rule(Word.LOST, _CUT_OFF, _GENERIC),
    Rule(
        Word.OTHER,
        ("a tool whose name ends in an offered one", "the list form, arguments first"),
        _GENERIC,
    ),
    Rule(Word.TEXT_LOST, ("a call, then text",), _GENERIC),
    Rule(Word.AS_TEXT, _NOT_OFFERED, _GENERIC),
    # llama-server by itself: what it reads of a model is what the client gets, JSON as text.
    Rule(
        Word.OK,
        (
            "text, then a call",
            "text, then two calls",
            "a float without a fraction",
            "an integer above 2^53",
            "nested keys out of order",
            "keys out of alphabetical order",
        ),
        _LLAMA,
    ),
    Rule(Word.CUT, _CUT_OFF, _LLAMA),
    # A gateway asks /api/chat for all surfaces, and writes their answers.
    Rule(Word.OK, ("text, then a call", "text, then two calls"), (*_GATEWAY, *_READING)),
    Rule(Word.OK, ("keys out of alphabetical order",), _GATEWAY),
    Rule(Word.LOST, _CUT_OFF, _GATEWAY),
    # One that reads the calls itself gets the model's own text, which no grammar holds.
    Rule(
        Word.OK,
        ("a float without a fraction", "an integer above 2^53", "a call, then text"),
        _READING,
    ),
    Rule(Word.AS_WRITTEN, ("arguments that are no JSON",), ("gateway reads",)),
    Rule(Word.AS_TEXT, ("arguments that are no JSON",), ("gateway reads v7",)),
    Rule(Word.LOST, _CUT_OFF, _READING),
    Rule(Word.AS_WRITTEN, _CUT_OFF, ("gateway reads",), ("/v1/chat/completions", "/v1/responses")),
    Rule(Word.AS_TEXT, _NOT_OFFERED, _READING),
)


def expected(case: str, carrier: str, way: str, version: str) -> Word:
    """What is expected of a cell."""
    words = [rule.word for rule in RULES if rule.holds(case, carrier, way, version)]
    return words[-1] if words else Word.OK
