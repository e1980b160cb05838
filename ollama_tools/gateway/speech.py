"""An answer whose calls stand in its text, made into one in which they have been read.

What comes of it is what the server would have made: calls with ids and arguments. What a grammar
would not have let the model write is answered so that the model hears of it from whoever runs its
tools: a call of a tool that nobody offered is a call; arguments that are no JSON go on as they are
where arguments are text, and elsewhere as the one value of an object.
"""

from __future__ import annotations

import re
import secrets
import string
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from ollama_tools.gateway.asked import JsonObject, arguments_of
from ollama_tools.gateway.call_text import Begun, CallText, Ended, Escaper, Event, Said, Written
from ollama_tools.gateway.exact import compact, read_json
from ollama_tools.gateway.recalled import Recalled
from ollama_tools.gateway.surfaces.surface import CallPart, Piece
from ollama_tools.json_text import MalformedJson

NO_JSON: Final = "INVALID_JSON"
"""The key under which an object holds arguments that are none.

It is the one that Anthropic recommends (fine-grained tool streaming).
"""

_ID_LENGTH: Final = 9
_ID = re.compile(rf"[A-Za-z0-9]{{{_ID_LENGTH}}}")
_LETTERS: Final = string.ascii_letters + string.digits


@dataclass
class _Call:
    """A call that is being written.

    Attributes:
        call_id: Its id.
        name: Its tool.
        texts: Its arguments as the model writes them.
        given: Its arguments as clients get them, the control characters in strings escaped.
        escaper: Does that.
        is_shown: Whether clients have got some of it.
        is_held: Whether they get none of it before its end.
    """

    call_id: str
    name: str
    texts: list[str] = field(default_factory=list)
    given: list[str] = field(default_factory=list)
    escaper: Escaper = field(default_factory=Escaper)
    is_shown: bool = False
    is_held: bool = False


class Speech:
    """Reads one answer.

    Args:
        offered: The names of the tools that the model may call.
        recalled: Keeps what it writes.
        opening: What the prompt has of the answer already.

    Attributes:
        calls: How many calls it made, by what became of them: ``read``, ``mended``,
            ``unknown_tool``, ``no_json``, ``cut``.
    """

    def __init__(
        self, offered: Collection[str], recalled: Recalled, opening: Sequence[str] = ()
    ) -> None:
        self.calls: Counter[str] = Counter()
        self._offered = offered
        self._recalled = recalled
        self._text = CallText(offered)
        self._call = _Call("", "")
        self._ids: set[str] = set()
        self._made: list[JsonObject] = []
        # Where no call comes of it, it is nothing that the model has said.
        _, *begun = opening or ("",)
        self._begun_by_us = "".join(begun)
        for piece in opening:
            for event in self._text.feed(piece):
                # A call that has only begun is nothing to tell of yet.
                for _ in self._parts(event, cut=False):
                    pass

    def heard(self, pieces: Iterable[Piece]) -> list[Piece]:
        """What pieces of the server's become; those that say nothing yet are left out."""
        return [found for piece in pieces for found in self._heard(piece)]

    def is_beyond(self, most: int) -> bool:
        """Whether a call has begun behind as many as these."""
        return len(self._made) >= most and self._text.is_in_call

    def whole(self, pieces: Iterable[Piece]) -> Piece:
        """All of an answer's pieces as one."""
        said: dict[str, list[str]] = {"content": [], "thinking": []}
        calls: list[CallPart] = []
        texts: list[list[str]] = []
        content: JsonObject = {}
        for piece in pieces:
            content = piece.content
            for name, found in said.items():
                found.append(content.get("message", {}).get(name) or "")
            for part in piece.calls:
                if part.begins:
                    calls.append(part)
                    texts.append([])
                calls[-1] = part
                texts[-1].append(part.text)
        message = {**content.get("message", {}), "role": "assistant"}
        message |= {name: text for name, found in said.items() if (text := "".join(found))}
        whole = [
            part._replace(text="".join(found), begins=True)
            for part, found in zip(calls, texts, strict=True)
        ]
        return Piece({**content, "message": {"content": "", **message}}, b"", whole)

    def _heard(self, piece: Piece) -> Iterator[Piece]:
        content = piece.content
        said = content.get("message", {}).get("content") or ""
        events = list(self._text.feed(said))
        is_last = bool(content.get("done"))
        cut = content.get("done_reason") == "length"
        if is_last:
            events += self._text.end(cut=cut)
        if events == [Said(said)] and not self._begun_by_us and not (is_last and self._made):
            yield piece
            return
        texts: list[str] = []
        parts: list[CallPart] = []
        for event in events:
            if isinstance(event, Said):
                if parts:
                    yield _part_of(content, texts, parts)
                    texts, parts = [], []
                texts.append(event.text.removeprefix(self._begun_by_us))
                self._begun_by_us = ""
            else:
                parts += self._parts(event, cut=cut and is_last)
        if is_last:
            message = {**content.get("message", {}), "content": "".join(texts)}
            if self._made:
                message["tool_calls"] = self._made
            whole = {**content, "message": message}
            yield Piece(whole, compact(whole), parts)
        elif texts or parts or content.get("message", {}).get("thinking"):
            yield _part_of(content, texts, parts)

    def _parts(self, event: Event, *, cut: bool) -> Iterator[CallPart]:
        call = self._call
        match event:
            case Begun():
                self._call = self._begun(event)
            case Written(text):
                call.texts.append(text)
                call.given.append(call.escaper.escaped(text))
                if call.is_shown:
                    yield CallPart(
                        call.call_id, call.name, call.given[-1], begins=False, ends=False
                    )
                elif not call.is_held and text.strip():
                    # What is no object may yet become one, so it waits for its end.
                    call.is_shown = text.lstrip().startswith("{")
                    call.is_held = not call.is_shown
                    if call.is_shown:
                        yield CallPart(call.call_id, call.name, "".join(call.given), ends=False)
            case Ended(whole):
                yield from self._ended(call, cut=cut and not whole)

    def _begun(self, event: Begun) -> _Call:
        name, call_id = event.name.strip(), event.call_id
        # llama-server leaves out a [CALL_ID] between the two.
        if name not in self._offered and name[:-_ID_LENGTH] in self._offered:
            name, call_id = name[:-_ID_LENGTH], name[-_ID_LENGTH:]
        while not _ID.fullmatch(call_id) or call_id in self._ids:
            call_id = "".join(secrets.choice(_LETTERS) for _ in range(_ID_LENGTH))
        self._ids.add(call_id)
        return _Call(call_id, name)

    def _ended(self, call: _Call, *, cut: bool) -> Iterator[CallPart]:
        text, given = "".join(call.texts), "".join(call.given)
        if cut:
            self.calls["cut"] += 1
            if call.is_shown:
                self._recalled.remember(call.call_id, call.name, text, given)
                yield CallPart(call.call_id, call.name, "", begins=False)
            return
        kind = "read" if given == text else "mended"
        given, arguments = _object(given)
        if arguments is None:
            kind, arguments = "no_json", {NO_JSON: given}
        elif call.name not in self._offered:
            kind = "unknown_tool"
        self.calls[kind] += 1
        self._recalled.remember(call.call_id, call.name, text, arguments, arguments_of(given))
        function = {"index": len(self._made), "name": call.name, "arguments": arguments}
        self._made.append({"id": call.call_id, "function": function})
        shown = "" if call.is_shown else given
        yield CallPart(
            call.call_id, call.name, shown, begins=not call.is_shown, arguments=arguments
        )


def _part_of(content: JsonObject, texts: list[str], parts: list[CallPart]) -> Piece:
    """A piece that is not the last; ``/api/chat`` has all calls in that one."""
    text = "".join(texts)
    found = {**content, "message": {**content.get("message", {}), "content": text}, "done": False}
    says = text or found["message"].get("thinking")
    return Piece(found, compact(found) if says else b"", parts)


def _object(text: str) -> tuple[str, JsonObject | None]:
    """Arguments as clients get them: their JSON text, and the object; None where they are none.

    Some models write the object as a text of its own.
    """
    if not text.strip():
        return "{}", {}
    try:
        value = read_json(text, strict=True)
        if isinstance(value, str):
            text, value = value, read_json(value, strict=True)
    except MalformedJson:
        return text, None
    if value is None:
        return "{}", {}
    return text, value if isinstance(value, dict) else None
