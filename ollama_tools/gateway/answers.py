"""The server's answers, read piece by piece, and what its errors mean."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from ollama_tools.errors import MALFORMED
from ollama_tools.gateway.asked import JsonObject, Problem
from ollama_tools.gateway.exact import compact, read_json
from ollama_tools.gateway.surfaces.surface import Piece, calls_of
from ollama_tools.gateway.upstream import MOST_BYTES, Answer, endless
from ollama_tools.json_text import MalformedJson

TOO_LONG = "context_length_exceeded"
"""The word for a prompt that does not fit, which agents compact their history upon."""

# What engines before Ollama 0.30 say of such a prompt (runner.go, 0.24.0).
_UNCOUNTED = "the input length exceeds the context length"

_SAID = ("message", "error", "_debug_info")
# Go's reader ends a text with a space, which in a literal, a number or an escape is what is wrong.
_CUT_CALL = re.compile(
    r"invalid tool call arguments for .*: "
    r"(unexpected end of JSON input|invalid character ' ' (in|after) )"
)


async def pieces(answer: Answer) -> AsyncIterator[list[Piece]]:
    """The pieces of a streamed answer, those together that came together.

    Raises:
        Problem: It breaks off, or ends in an error.
    """
    rest, ended = b"", False
    async for came in answer.pieces():
        *lines, rest = (rest + came).split(b"\n")
        if len(rest) > MOST_BYTES:
            raise endless()
        found: list[Piece] = []
        for line in lines:
            if not line:
                continue
            piece = _object(line)
            if "error" in piece:
                if found:
                    yield found
                raise problem_of(HTTPStatus.INTERNAL_SERVER_ERROR, piece)
            ended = bool(piece.get("done"))
            left = _without_begun(piece)
            found.append(Piece(left, line if left is piece else compact(left), calls_of(left)))
        if found:
            yield found
    if not ended:
        raise Problem("the server ended in the middle of its answer", HTTPStatus.BAD_GATEWAY)


async def whole(answer: Answer) -> JsonObject:
    """An answer in one piece.

    Raises:
        Problem: It breaks off, or is none.
    """
    found = _object(await answer.read())
    if found.keys().isdisjoint(_SAID):
        raise not_a_chat()
    return _without_begun(found)


def not_a_chat() -> Problem:
    """A server's answer is not of the form of a chat's."""
    return Problem("the server's answer is no chat's", HTTPStatus.BAD_GATEWAY)


async def refusal(answer: Answer) -> Problem:
    """What a server's error means."""
    try:
        said = await whole(answer)
    except Problem:
        said = {}
    return problem_of(answer.status, said)


def problem_of(status: int, answer: JsonObject) -> Problem:
    """What a server's error means.

    llama-server's own stands as JSON in the text of Ollama's (0.34.4).
    """
    said = answer.get("error")
    message = said if isinstance(said, str) else ""
    if message == _UNCOUNTED:
        return _refused("more tokens than the model's context takes")
    try:
        inner = read_json(message)["error"]
        if inner["type"] == "exceed_context_size_error":
            return too_long(int(inner["n_prompt_tokens"]), int(inner["n_ctx"]))
        message = str(inner["message"])
    except (MalformedJson, *MALFORMED):
        pass
    is_error = status >= HTTPStatus.BAD_REQUEST and status in set(HTTPStatus)
    return Problem(
        message or f"the server answers {status}",
        HTTPStatus(status) if is_error else HTTPStatus.BAD_GATEWAY,
    )


def is_cut_call(problem: Problem) -> bool:
    """Whether an answer ended in the midst of a call, since no more tokens were to be had.

    The server calls that a fault of its own (HTTP 500, 0.34.4).
    """
    return _CUT_CALL.search(problem.what) is not None


def cut(model: str) -> Piece:
    """The end of an answer that ended in the midst of a call."""
    content: JsonObject = {
        "model": model,
        "created_at": datetime.now(UTC).isoformat(),
        "message": {"role": "assistant", "content": ""},
        "done": True,
        "done_reason": "length",
    }
    return Piece(content, compact(content))


def too_long(tokens: int, context: int) -> Problem:
    """A prompt does not fit; the words are those that Claude Code looks for."""
    return _refused(f"{tokens} tokens > {context} maximum")


def _refused(why: str) -> Problem:
    return Problem(f"prompt is too long: {why}", HTTPStatus.BAD_REQUEST, TOO_LONG)


def _without_begun(content: JsonObject) -> JsonObject:
    """What an answer says, without a call of which no more than the name has come.

    The server makes it one with no arguments (0.34.4), which somebody might run.
    """
    message: Any = content.get("message")
    calls = message.get("tool_calls") if isinstance(message, dict) else None
    if not calls or content.get("done_reason") != "length" or calls[-1]["function"]["arguments"]:
        return content
    rest = {key: each for key, each in message.items() if key != "tool_calls"}
    return {**content, "message": {**rest, "tool_calls": calls[:-1]} if calls[:-1] else rest}


def _object(text: str | bytes) -> JsonObject:
    try:
        found = read_json(text)
    except MalformedJson:
        found = None
    if not isinstance(found, dict):
        raise Problem("the server's answer is no JSON object", HTTPStatus.BAD_GATEWAY)
    return found
