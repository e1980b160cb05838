"""A request in one form for all surfaces: what the client asked for, nothing lost."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any, Final, NamedTuple, TypeVar

from ollama_tools.errors import DevstralError
from ollama_tools.gateway.exact import read_json
from ollama_tools.json_text import MalformedJson

JsonObject = dict[str, Any]

_T = TypeVar("_T")

_KINDS: Final = {
    dict: "an object",
    list: "a list",
    str: "a text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
}
_LARGEST = 2**63 - 1
"""The server keeps whole numbers in so many bits."""


class Problem(DevstralError):
    """A request that gets an error for an answer; each surface has its own form of it.

    Attributes:
        status: HTTP status.
        code: A word for it, where clients look for one; empty where there is none.
        retry_after: Seconds after which to ask again; None where that would not help.
    """

    def __init__(
        self,
        what: str,
        status: HTTPStatus = HTTPStatus.BAD_REQUEST,
        code: str = "",
        retry_after: int | None = None,
    ) -> None:
        super().__init__(what)
        self.status = status
        self.code = code
        self.retry_after = retry_after


class NotUnderstood(Exception):
    """A request that has something in it that only the server knows what to do with.

    It goes on as it came. The message says what it is.
    """


class Tool(NamedTuple):
    """A tool that is offered to the model.

    Attributes:
        name: What the model calls it.
        description: What it is for.
        parameters: Its JSON schema, as the client sent it.
    """

    name: str
    description: str
    parameters: JsonObject


@dataclass(frozen=True)
class ToolChoice:
    """What a client says of the calls that the model may make.

    Attributes:
        is_forced: Whether it has to call.
        name: The tool that it then has to call; empty where that is left to it.
        most: How many calls the client takes; None where it does not say.
    """

    is_forced: bool = False
    name: str = ""
    most: int | None = None

    def at_most(self, most: int) -> ToolChoice:
        """The same, with no more calls than these."""
        return replace(self, most=most if self.most is None else min(self.most, most))

    def of(self, name: str) -> ToolChoice:
        """The same, with a call of this tool."""
        return replace(self, name=name)


@dataclass
class Asked:
    """What a client asked for.

    Attributes:
        model: The model's name.
        messages: The messages as ``/api/chat`` has them, but for the arguments of calls: those
            are what the client sent, where it sent text what that says.
        tools: The tools that are offered.
        options: Options of ``/api/chat`` that the client set.
        fields: Other fields of ``/api/chat``.
        defaults: Options that the server's surface sets where the client does not.
        stream: Whether the answer comes in pieces.
        web_search: Whether the server itself is to search the web.
        choice: What it says of calls.
        body: The request as it came.
    """

    model: str
    messages: list[JsonObject]
    tools: list[Tool]
    options: JsonObject = field(default_factory=dict)
    fields: JsonObject = field(default_factory=dict)
    defaults: JsonObject = field(default_factory=dict)
    stream: bool = False
    web_search: bool = False
    choice: ToolChoice = field(default_factory=ToolChoice)
    body: Mapping[str, Any] = field(default_factory=dict)


def parsed(content: bytes) -> JsonObject:
    """The object that a request's body says.

    Raises:
        Problem: It is none, or one that means different things to different readers.
    """
    try:
        found = read_json(content, strict=True)
    except MalformedJson as error:
        raise Problem(f"the request is no JSON that has one meaning: {error}") from error
    if not isinstance(found, dict):
        raise Problem("the request is no JSON object")
    return found


def text_of(body: Mapping[str, Any], key: str, where: str = "") -> str:
    """A text of an object; empty where there is none."""
    value = body.get(key)
    return value if isinstance(value, str) else _of(body, key, str, "", where)


def object_of(body: Mapping[str, Any], key: str, where: str = "") -> JsonObject:
    """An object of an object; empty where there is none."""
    value = body.get(key)
    return value if isinstance(value, dict) else _of(body, key, dict, {}, where)


def flag_of(body: Mapping[str, Any], key: str, default: bool = False) -> bool:
    """Whether an object says yes to a thing."""
    return _of(body, key, bool, default, "")


def texts_of(body: Mapping[str, Any], key: str) -> list[str]:
    """A list of texts; empty where there is none."""
    found: list[Any] = _of(body, key, list, [], "")
    for index, each in enumerate(found):
        if not isinstance(each, str):
            raise Problem(f"{key}[{index}] is not {_KINDS[str]}")
    return found


def objects_of(body: Mapping[str, Any], key: str, where: str = "") -> list[JsonObject]:
    """A list of objects."""
    if key not in body:
        return []
    found: list[Any] = _of(body, key, list, [], where)
    for index, each in enumerate(found):
        if not isinstance(each, dict):
            raise Problem(f"{where}{key}[{index}] is no object")
    return found


def _of(body: Mapping[str, Any], key: str, kind: type[_T], none: _T, where: str) -> _T:
    value = body.get(key)
    if value is None:
        return none
    if not isinstance(value, kind):
        raise Problem(f"{where}{key} is not {_KINDS[kind]}")
    return value


def numbers_of(body: Mapping[str, Any], names: Mapping[str, tuple[str, type]]) -> JsonObject:
    """The numbers that a body sets, under the names that options of ``/api/chat`` have.

    Args:
        body: The body.
        names: For each name in it, that of the option, and ``int`` or ``float``.

    Raises:
        Problem: One of them is no such number. As an option it would be HTTP 500 to the server,
            after which clients ask again, or be left out in silence.
    """
    found = {}
    for theirs, (ours, kind) in names.items():
        value = body.get(theirs)
        if value is None:
            continue
        if isinstance(value, float) and kind is int and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, (int, kind)):
            raise Problem(f"{theirs} is not {_KINDS[kind]}")
        if isinstance(value, int) and abs(value) > _LARGEST:
            raise Problem(f"{theirs} is too large")
        found[ours] = value
    return found


def is_plain(message: JsonObject) -> bool:
    """Whether a message is a role and a text, as most are; it is as ``/api/chat`` has it."""
    return (
        len(message) == 2
        and isinstance(message.get("content"), str)
        and is_role(message.get("role"))
    )


def is_role(value: object) -> bool:
    """Whether it says who says a message as :func:`role_of` does."""
    return isinstance(value, str) and bool(value) and value == _lowered(value)


def role_of(message: JsonObject, where: str) -> str:
    """Who says a message, in small letters, as the server has it.

    Raises:
        Problem: Nobody does.
    """
    role = text_of(message, "role", where)
    if not role:
        raise Problem(f"{where}role is missing")
    return _lowered(role)


def _lowered(text: str) -> str:
    """A text in small letters as Go has them, which makes one letter of each."""
    return text.replace("\u0130", "i").lower()


def arguments_of(value: object) -> object:
    """What the arguments of a call say: those that are text are JSON, or a text after all."""
    if value is None or value == "":
        return {}
    if isinstance(value, str):
        try:
            found = read_json(value)
            if "\\u" in value:
                # Half of a surrogate pair is JSON for some, and no text that could be sent.
                json.dumps(found, ensure_ascii=False).encode()
        except (MalformedJson, UnicodeEncodeError):
            return value
        return found
    return value


def joined(texts: Sequence[str]) -> str:
    """The parts of a message as one text, as mistral-common joins them."""
    return "\n\n".join(each for each in texts if each)


def parts_of(content: object, where: str) -> list[tuple[str, JsonObject]]:
    """The parts of a message's content with where each stands; a text is the one part of it."""
    if content is None or isinstance(content, str):
        return [(where, {"type": "text", "text": content})]
    if not isinstance(content, list):
        raise Problem(f"{where} is no text and no list of parts")
    found = []
    for index, part in enumerate(content):
        here = f"{where}[{index}]"
        if not isinstance(part, dict):
            raise Problem(f"{here} is no object")
        found.append((here, part))
    return found


def require_base64(data: str, where: str) -> str:
    """The same text, once it is known to be base64, in lines or in one.

    Raises:
        Problem: It is not.
    """
    try:
        base64.b64decode(data.replace("\r", "").replace("\n", ""), validate=True)
    except binascii.Error as error:
        raise Problem(f"{where} is no base64") from error
    return data


def call(name: str, arguments: object, call_id: str) -> JsonObject:
    """A call of the model's as ``/api/chat`` has it."""
    function = {"name": name, "arguments": arguments_of(arguments)}
    return {"id": call_id, "function": function} if call_id else {"function": function}
