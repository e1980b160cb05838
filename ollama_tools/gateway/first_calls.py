"""An answer with no more calls than its client takes."""

from __future__ import annotations

from collections.abc import Iterable

from ollama_tools.gateway.asked import JsonObject
from ollama_tools.gateway.exact import compact
from ollama_tools.gateway.surfaces.surface import CallPart, Piece


class FirstCalls:
    """Lets the first calls of one answer through, and none that follow them.

    Attributes:
        most: How many; None lets all through.
        is_over: Whether a call has begun that is one too many: nobody wants what follows it.
        has_said: Whether anything came through.
    """

    def __init__(self, most: int | None) -> None:
        self.is_over = False
        self.has_said = False
        self.most = most
        self._begun = 0
        self._told = 0

    def kept(self, pieces: Iterable[Piece]) -> list[Piece]:
        """What of the pieces of an answer goes on; of those behind a call too many the last."""
        if self.most is None:
            return list(pieces)
        found = []
        for piece in pieces:
            # What comes in one piece may not say that it is the last.
            is_last = piece.content.get("done") is not False
            if self.is_over and not is_last:
                continue
            kept = self._kept(piece, self.most)
            said = kept.content.get("message", {})
            says = bool(said.get("content") or said.get("thinking") or kept.calls)
            self.has_said = self.has_said or says
            if says or is_last:
                found.append(kept)
        return found

    def _kept(self, piece: Piece, most: int) -> Piece:
        parts: list[CallPart] = []
        for part in piece.calls:
            self._begun += part.begins
            if self._begun <= most:
                parts.append(part)
            else:
                self.is_over = True
        message: JsonObject = piece.content.get("message", {})
        calls = message.get("tool_calls") or []
        told = calls[: most - self._told]
        self._told += len(told)
        if len(told) == len(calls):
            return piece._replace(calls=parts)
        message = {key: each for key, each in message.items() if key != "tool_calls"}
        if told:
            message["tool_calls"] = told
        content = {**piece.content, "message": message}
        return Piece(content, compact(content), parts)
