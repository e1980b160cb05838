"""What an engine cannot carry, each thing under a name of its own.

A predicate changes a conversation as the server or its engine changes it, so that the reference,
given the changed one, must write what the server writes: everything outside the predicates is
held to be identical. Each has a live test of its own that it is still so; one that has become
needless fails there.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from ollama_tools.devstral.carriers import Carrier
from ollama_tools.devstral.catalog import TokenizerVersion
from tests.parity.conversation import Conversation, Message, Tool, has_images, is_image, text
from tests.parity.places import Place, Surface
from tests.parity.reference import Reference, reference, tokens

KNOWN_ROLES = ("system", "developer", "user", "assistant", "tool")
PROPERTY_KEYWORDS = ("anyOf", "type", "items", "description", "enum", "properties", "required")
PARAMETER_KEYWORDS = ("type", "properties", "required", "$defs", "items")

_Change = Callable[[Place, Conversation], Conversation]
_TextChange = Callable[[Place, Conversation, str], str]


@dataclass(frozen=True)
class Predicate:
    """One thing that is lost or changed on the way to the model.

    Attributes:
        name: Short name.
        meaning: What happens, in one sentence.
        holds: Whether it happens in a place.
        change: What it does to a conversation; None where it only shows in the prompt's text.
        rewrite: What it does to the prompt's text; None where it is done by ``change``.
    """

    name: str
    meaning: str
    holds: Callable[[Place], bool]
    change: _Change | None = None
    rewrite: _TextChange | None = None


def expected(place: Place, conversation: Conversation) -> Reference:
    """The prompt that a place must give: the reference, seen through all its predicates."""
    here = [each for each in PREDICATES if each.holds(place)]
    seen = conversation
    for each in here:
        if each.change:
            seen = each.change(place, seen)
    found = reference(place.version, seen)
    written = found.text
    for each in here:
        if each.rewrite:
            written = each.rewrite(place, seen, written)
    if written != found.text:
        found = replace(found, text=written, tokens=tokens(place.version, written))
    return found


def at_work(place: Place, conversation: Conversation) -> list[str]:
    """Names of the predicates without which a place's prompt would be another one."""
    here = [each for each in PREDICATES if each.holds(place)]
    names = []
    seen = conversation
    for each in here:
        if each.change:
            changed = each.change(place, seen)
            # Compared as text: 1 and 1.0 are equal, and so are objects in another order.
            if json.dumps(_plain(changed)) != json.dumps(_plain(seen)):
                names.append(each.name)
            seen = changed
    written = reference(place.version, seen).text
    for each in here:
        if each.rewrite:
            rewritten = each.rewrite(place, seen, written)
            if rewritten != written and each.name not in names:
                names.append(each.name)
            written = rewritten
    return names


@dataclass(frozen=True)
class Refusal:
    """What a server answers with an error instead of a prompt.

    Attributes:
        name: Short name.
        meaning: What happens, in one sentence.
        holds: Whether it happens in a place.
        met_by: Whether a conversation meets it.
    """

    name: str
    meaning: str
    holds: Callable[[Place], bool]
    met_by: Callable[[Conversation], bool]


def refusals(place: Place, conversation: Conversation) -> list[str]:
    """Names of what makes a place refuse a conversation."""
    return [each.name for each in REFUSALS if each.holds(place) and each.met_by(conversation)]


def _plain(conversation: Conversation) -> list[Any]:
    return [conversation.messages, conversation.tools]


def _everywhere(_: Place) -> bool:
    return True


def _by_ollama(place: Place) -> bool:
    return place.by_ollama


def _modelfile(place: Place) -> bool:
    return place.carrier is Carrier.MODELFILE


def _gguf(place: Place) -> bool:
    # The same Jinja in the same engine, whether the file brings it or the server.
    return place.carrier in (Carrier.GGUF, Carrier.SERVER)


# What the server's decoding of a request does


def _images(place: Place, conversation: Conversation) -> Conversation:
    """Marks of images: before the text on one surface, each where it stood on the other."""
    marks = itertools.count()

    def of(message: Message) -> Message:
        content = message["content"]
        if not isinstance(content, list) or not any(map(is_image, content)):
            return message
        if place.surface is Surface.NATIVE:
            before = "".join(f"[img-{next(marks)}]" for each in content if is_image(each))
            return {**message, "content": before + text(content)}
        parts = [
            {"type": "text", "text": f"[img-{next(marks)}]"} if is_image(each) else each
            for each in content
        ]
        return {**message, "content": parts}

    return replace(conversation, messages=[of(each) for each in conversation.messages])


def _over_properties(
    change: Callable[[dict[str, Any]], dict[str, Any]], schema: dict[str, Any]
) -> dict[str, Any]:
    """Applies a change to every subschema that the server decodes by field.

    What stands in ``items`` and ``$defs`` is kept as it is, and so not visited.
    """
    result = dict(schema)
    if isinstance(schema.get("properties"), dict):
        result["properties"] = {
            key: change(_over_properties(change, value))
            for key, value in schema["properties"].items()
        }
    if isinstance(schema.get("anyOf"), list):
        result["anyOf"] = [change(_over_properties(change, each)) for each in schema["anyOf"]]
    return result


def _with_parameters(
    conversation: Conversation,
    change: Callable[[dict[str, Any]], dict[str, Any]],
    of_property: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
) -> Conversation:
    def each(tool: Tool) -> Tool:
        function = tool["function"]
        parameters = function.get("parameters") or {}
        if of_property:
            parameters = _over_properties(of_property, parameters)
        return {**tool, "function": {**function, "parameters": change(parameters)}}

    return replace(conversation, tools=[each(tool) for tool in conversation.tools])


def _dropped_keywords(_: Place, conversation: Conversation) -> Conversation:
    def keep(keywords: tuple[str, ...]) -> Callable[[dict[str, Any]], dict[str, Any]]:
        return lambda schema: {key: value for key, value in schema.items() if key in keywords}

    return _with_parameters(conversation, keep(PARAMETER_KEYWORDS), keep(PROPERTY_KEYWORDS))


def _keyword_order(_: Place, conversation: Conversation) -> Conversation:
    def order(keywords: tuple[str, ...]) -> Callable[[dict[str, Any]], dict[str, Any]]:
        return lambda schema: {key: schema[key] for key in keywords if key in schema}

    return _with_parameters(conversation, order(PARAMETER_KEYWORDS), order(PROPERTY_KEYWORDS))


def _empty_keywords(_: Place, conversation: Conversation) -> Conversation:
    def of_property(schema: dict[str, Any]) -> dict[str, Any]:
        return {
            key: value
            for key, value in schema.items()
            if value is not None
            and not (key in ("anyOf", "type", "description", "enum") and not value)
        }

    def of_parameters(schema: dict[str, Any]) -> dict[str, Any]:
        return {
            key: value
            for key, value in schema.items()
            if value is not None and not (key == "type" and not value)
        }

    return _with_parameters(conversation, of_parameters, of_property)


def _empty_required(_: Place, conversation: Conversation) -> Conversation:
    def without(schema: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in schema.items() if key != "required" or value}

    return _with_parameters(conversation, without, without)


def _sorted_raw(_: Place, conversation: Conversation) -> Conversation:
    def of(*keywords: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
        return lambda schema: {
            key: _sorted(value) if key in keywords else value for key, value in schema.items()
        }

    return _with_parameters(conversation, of("items", "$defs"), of("items", "enum"))


def _sorted_properties(_: Place, conversation: Conversation) -> Conversation:
    def by_name(schema: dict[str, Any]) -> dict[str, Any]:
        if "properties" not in schema:
            return schema
        return {**schema, "properties": dict(sorted(schema["properties"].items()))}

    return _with_parameters(conversation, by_name)


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [_sorted(each) for each in value]
    return value


def _with_arguments(conversation: Conversation, change: Callable[[Any], Any]) -> Conversation:
    def of(message: Message) -> Message:
        if "tool_calls" not in message:
            return message
        calls = [
            {
                **call,
                "function": {
                    **call["function"],
                    "arguments": change(call["function"]["arguments"]),
                },
            }
            for call in message["tool_calls"]
        ]
        return {**message, "tool_calls": calls}

    return replace(conversation, messages=[of(each) for each in conversation.messages])


def _nested_keys(_: Place, conversation: Conversation) -> Conversation:
    return _with_arguments(
        conversation, lambda value: {key: _sorted(each) for key, each in value.items()}
    )


def _argument_keys(_: Place, conversation: Conversation) -> Conversation:
    return _with_arguments(conversation, lambda value: dict(sorted(value.items())))


# Numbers


def _over_numbers(change: Callable[[Any], Any], value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _over_numbers(change, each) for key, each in value.items()}
    if isinstance(value, list):
        return [_over_numbers(change, each) for each in value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return change(value)
    return value


def _with_numbers(change: Callable[[Any], Any]) -> _Change:
    def of(place: Place, conversation: Conversation) -> Conversation:
        def parameters(schema: dict[str, Any]) -> dict[str, Any]:
            return _with_only(("$defs", "items"), schema)

        def of_property(schema: dict[str, Any]) -> dict[str, Any]:
            return _with_only(("enum", "items"), schema)

        def _with_only(keywords: Iterable[str], schema: dict[str, Any]) -> dict[str, Any]:
            return {
                key: _over_numbers(change, value) if key in keywords else value
                for key, value in schema.items()
            }

        changed = _with_arguments(conversation, lambda value: _over_numbers(change, value))
        if not place.by_ollama:
            # No number of a schema has been dropped on the way.
            return _with_parameters(changed, lambda schema: dict(_over_numbers(change, schema)))
        return _with_parameters(changed, parameters, of_property)

    return of


def _whole_float(value: float) -> float:
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e21:
        return int(Decimal(repr(value)))
    return value


def _big_integer(value: float) -> float:
    """A number that Go reads as a float and writes in as few digits as it needs, then zeros."""
    if isinstance(value, float) or abs(value) <= 2**53:
        return value
    near = float(value)
    return near if abs(near) >= 1e21 else int(Decimal(repr(near)))


def _beyond_64_bits(value: float) -> float:
    if isinstance(value, float) and abs(value) >= 1e15:
        return float(f"{value:.6g}")
    if isinstance(value, int) and 2**63 <= value < 2**64:
        return value - 2**64
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return float(f"{float(value):.6g}")
    return value


def _by_arithmetic(value: float) -> str | None:
    """A positive fraction as the template's macro ``number`` writes it; None where it cannot."""
    scale = 1.0
    for places in range(1, 23):
        scale *= 10
        digits = int(value * scale + 0.5)
        if value * scale < 9e18 and digits / scale == value:
            found = Decimal(digits).scaleb(-places)
            return f"{found:f}" if value >= 1e-4 else _with_power(digits, places)
    return None


def _with_power(digits: int, places: int) -> str:
    first, rest = str(digits)[:1], str(digits)[1:]
    return f"{first}{'.' if rest else ''}{rest}e-{places - len(rest):02}"


def _long_fraction(value: float) -> float:
    if isinstance(value, int) or abs(value) >= 1e15 or _by_arithmetic(abs(value)) is not None:
        return value
    return float(f"{value:.6g}")


def _rewritten(
    place: Place, written: str, conversation: Conversation, of: Callable[[float], str]
) -> str:
    """A prompt with every fraction of it written in another way."""

    def note(value: Any) -> Any:
        if isinstance(value, float):
            numbers.append(abs(value))
        return value

    numbers: list[float] = []
    _with_numbers(note)(place, conversation)
    for number in numbers:
        written = written.replace(repr(number), of(number))
    return written


def _neighbouring_fractions(place: Place, conversation: Conversation, written: str) -> str:
    def of(number: float) -> str:
        # Above 2**53 the arithmetic knows even digits only.
        return (_by_arithmetic(number) if number < 1e15 else None) or repr(number)

    return _rewritten(place, written, conversation, of)


def _large_fractions(place: Place, conversation: Conversation, written: str) -> str:
    def of(number: float) -> str:
        # Python begins to write an exponent at 10**16.
        return f"{number:.6g}" if 1e15 <= number < 1e16 else repr(number)

    return _rewritten(place, written, conversation, of)


# Two characters that print nothing by themselves stand for line and paragraph separator on their
# way through the reference.
_SEPARATORS = {"\u2028": "\ue028", "\u2029": "\ue029"}


def _over_texts(change: Callable[[str], str], value: Any) -> Any:
    if isinstance(value, dict):
        return {change(key): _over_texts(change, each) for key, each in value.items()}
    if isinstance(value, list):
        return [_over_texts(change, each) for each in value]
    return change(value) if isinstance(value, str) else value


def _mark_separators(_: Place, conversation: Conversation) -> Conversation:
    def mark(text: str) -> str:
        for separator, stand_in in _SEPARATORS.items():
            text = text.replace(separator, stand_in)
        return text

    marked = _with_arguments(conversation, lambda value: _over_texts(mark, value))
    return replace(marked, tools=_over_texts(mark, marked.tools))


def _escape_separators(_: Place, __: Conversation, prompt: str) -> str:
    for separator, stand_in in _SEPARATORS.items():
        prompt = prompt.replace(stand_in, f"\\u{ord(separator):04x}")
    return prompt


# Messages


def _unknown_roles(_: Place, conversation: Conversation) -> Conversation:
    return replace(
        conversation,
        messages=[
            each if each["role"] in KNOWN_ROLES else {**each, "role": "user"}
            for each in conversation.messages
        ],
    )


def _merged_neighbours(place: Place, conversation: Conversation) -> Conversation:
    merged: list[Message] = []
    for message in conversation.messages:
        role = message["role"]
        # Through the OpenAI surface each part of a content is a message of its own.
        parts: list[Message] = [{**message, "content": text(message["content"])}]
        if place.surface is Surface.OPENAI and isinstance(message["content"], list):
            parts = [{"role": role, "content": part["text"]} for part in message["content"]]
            if "tool_calls" in message:
                parts[-1]["tool_calls"] = message["tool_calls"]
        for part in parts:
            if merged and merged[-1]["role"] == role != "tool":
                merged[-1]["content"] += "\n\n" + part["content"]
            elif role == "tool":
                merged.append(message)
                break
            else:
                merged.append(dict(part))
    return replace(conversation, messages=merged)


def _leading_newlines(_: Place, conversation: Conversation) -> Conversation:
    return replace(
        conversation,
        messages=[
            {**each, "content": text(each["content"]).lstrip("\n")}
            if each["role"] == "assistant"
            else each
            for each in conversation.messages
        ],
    )


def _split_results(place: Place, conversation: Conversation) -> Conversation:
    """Parts of a result stay apart where more than one call is left without an answer."""
    if place.surface is not Surface.OPENAI:
        return conversation
    result: list[Message] = []
    calls: list[dict[str, Any]] = []
    for run in _runs(conversation.messages):
        if run[0]["role"] == "assistant":
            calls = [call for each in run for call in each.get("tool_calls") or []]
        if run[0]["role"] != "tool":
            result += run
            continue
        whole = {each["tool_call_id"] for each in run if not isinstance(each["content"], list)}
        open_calls = [call for call in calls if call.get("id") not in whole]
        if len(open_calls) == 1:
            result += run
            continue
        for each in run:
            if isinstance(each["content"], list):
                result += [
                    {"role": "tool", "tool_call_id": None, "content": part["text"]}
                    for part in each["content"]
                ]
            else:
                result.append(each)
    return replace(conversation, messages=result)


def _ids(place: Place, conversation: Conversation) -> Conversation:
    """Ids as the templates write them: nine characters, and none is left out.

    v13 writes no id, but the reference asks for one, and puts results in the order of their calls
    by it: results that name no call come last, as they came.
    """
    result: list[Message] = []
    written: list[tuple[object, str]] = []
    count = 0
    for run in _runs(conversation.messages):
        if run[0]["role"] == "assistant":
            written = []
            for message in run:
                changed = dict(message)
                if calls := message.get("tool_calls"):
                    changed["tool_calls"] = []
                    for call in calls:
                        count += 1
                        name = _nine(call.get("id") or count)
                        written.append((call.get("id"), name))
                        changed["tool_calls"].append({**call, "id": name})
                result.append(changed)
        elif run[0]["role"] == "tool":
            result += _answered(place, run, written)
        else:
            result += run
    return replace(conversation, messages=result)


def _nine(call_id: object) -> str:
    end = f"000000000{call_id}"[-9:]
    return f"0{end[1:]}" if end[0] == "_" else end


def _answered(place: Place, run: list[Message], written: list[tuple[object, str]]) -> list[Message]:
    known = dict(reversed([each for each in written if each[0]]))
    named = {each.get("tool_call_id") for each in run}
    free = [name for own, name in written if not own or own not in named]
    only = len(free) == 1
    result = []
    for place_in_run, message in enumerate(run):
        own = message.get("tool_call_id")
        if own in known:
            name = known[own]
        elif place.version is TokenizerVersion.V7 or (only and not own):
            name = free.pop(0) if free else _nine(own or "")
        else:
            name = f"unknown{place_in_run:02}"
        result.append({**message, "tool_call_id": name})
    return result


def _runs(messages: Iterable[Message]) -> list[list[Message]]:
    runs: list[list[Message]] = []
    for message in messages:
        if runs and runs[-1][0]["role"] == message["role"]:
            runs[-1].append(message)
        else:
            runs.append([message])
    return runs


# What shows in the text alone


def _thinking_prefix(_: Place, conversation: Conversation, prompt: str) -> str:
    if not conversation.ends_in_prefix:
        return prompt
    said = text(conversation.messages[-1]["content"])
    # llama.cpp appends the prefix by itself, so that its trailing spaces stay too.
    return prompt.removesuffix(said.rstrip(" ")) + "[THINK][/THINK]" + said


def _untrimmed_prefix(_: Place, conversation: Conversation, prompt: str) -> str:
    if not conversation.ends_in_prefix:
        return prompt
    said = text(conversation.messages[-1]["content"])
    return prompt.removesuffix(said.rstrip(" ")) + said


def _tools_without_user(place: Place, conversation: Conversation, prompt: str) -> str:
    roles = [each["role"] for each in conversation.messages]
    if not conversation.tools or "user" in roles:
        return prompt
    asked = Conversation([{"role": "user", "content": ""}], conversation.tools)
    block = reference(place.version, asked).text.partition("[INST]")[0]
    system, end, rest = prompt.rpartition("[/SYSTEM_PROMPT]")
    return system + end + block + rest


PREDICATES: tuple[Predicate, ...] = (
    Predicate(
        "images",
        "The server writes [img-0] and so on for images, whether or not the model can see them.",
        _modelfile,
        _images,
    ),
    Predicate(
        "unknown roles",
        "A role that the format does not know is written as a user's; the reference refuses it.",
        _everywhere,
        _unknown_roles,
    ),
    Predicate(
        "dropped keywords",
        "The server drops all keywords of a schema but a handful.",
        _by_ollama,
        _dropped_keywords,
    ),
    Predicate(
        "empty keywords",
        "The server drops an empty description, enum, anyOf or type.",
        _by_ollama,
        _empty_keywords,
    ),
    Predicate(
        "empty required",
        "An empty list of required properties is dropped on the way.",
        lambda place: place.by_ollama and (_gguf(place) or place.surface is Surface.OPENAI),
        _empty_required,
    ),
    Predicate(
        "keyword order",
        "The server forgets the order of a schema's keywords; the template picks one.",
        _by_ollama,
        _keyword_order,
    ),
    Predicate(
        "sorted raw schemas",
        "The server sorts the keys inside items, $defs and enum.",
        _by_ollama,
        _sorted_raw,
    ),
    Predicate(
        "sorted properties",
        "The server sorts a tool's parameters for a Go template; nested ones keep their order.",
        _modelfile,
        _sorted_properties,
    ),
    Predicate(
        "sorted nested arguments",
        "The server sorts the keys of objects inside a call's arguments.",
        _by_ollama,
        _nested_keys,
    ),
    Predicate(
        "sorted arguments",
        "The server sorts a call's arguments for a Go template.",
        _modelfile,
        _argument_keys,
    ),
    Predicate(
        "whole floats",
        "1.0 becomes 1.",
        _by_ollama,
        _with_numbers(_whole_float),
    ),
    Predicate(
        "big integers",
        "Integers above 2**53 lose digits.",
        _by_ollama,
        _with_numbers(_big_integer),
    ),
    Predicate(
        "beyond 64 bits",
        "llama.cpp reads integers above 2**63 wrong, and keeps six digits of those above 2**64.",
        _gguf,
        _with_numbers(_beyond_64_bits),
    ),
    Predicate(
        "long fractions",
        "llama.cpp keeps six digits of a fraction that no 22 decimal places can tell.",
        _gguf,
        _with_numbers(_long_fraction),
    ),
    Predicate(
        "neighbouring fractions",
        "The template finds a fraction's digits by arithmetic: the seventeenth may be another one "
        "that stands for the same number.",
        _gguf,
        rewrite=_neighbouring_fractions,
    ),
    Predicate(
        "large fractions",
        "llama.cpp writes a fraction above 10**15 with an exponent.",
        _gguf,
        rewrite=_large_fractions,
    ),
    Predicate(
        "line separators",
        "Go escapes U+2028 and U+2029 inside JSON.",
        _modelfile,
        _mark_separators,
        _escape_separators,
    ),
    Predicate(
        "split results",
        "/v1/chat/completions breaks a result into its parts and drops their id: those of several "
        "calls cannot be told apart.",
        _by_ollama,
        _split_results,
    ),
    Predicate(
        "merged neighbours",
        "For a Go template the server joins neighbours of one role: system prompts become one, "
        "empty texts leave blank lines, and the calls of the second message are lost.",
        _modelfile,
        _merged_neighbours,
    ),
    Predicate(
        "leading newlines",
        "The Go templates drop newlines before assistant text, which the server's joining leaves.",
        _modelfile,
        _leading_newlines,
    ),
    Predicate(
        "ids",
        "Ids are cut to nine characters, missing ones made up; the reference refuses all others.",
        _everywhere,
        _ids,
    ),
    Predicate(
        "thinking before a prefix",
        "llama.cpp writes an empty [THINK] block before an assistant's prefix.",
        lambda place: _gguf(place) and place.version is TokenizerVersion.V13,
        None,
        _thinking_prefix,
    ),
    Predicate(
        "untrimmed prefix",
        "llama.cpp keeps the spaces at the end of an assistant's prefix.",
        lambda place: _gguf(place) and place.version is TokenizerVersion.V7,
        None,
        _untrimmed_prefix,
    ),
    Predicate(
        "tools without a user",
        "Where no user message is, the templates write the tools all the same.",
        _everywhere,
        None,
        _tools_without_user,
    ),
)


def _has_text_arguments(conversation: Conversation) -> bool:
    return any(
        isinstance(call["function"]["arguments"], str)
        for message in conversation.messages
        for call in message.get("tool_calls") or []
    )


def _has_null_content(conversation: Conversation) -> bool:
    return any(
        each["content"] is None and not each.get("tool_calls") for each in conversation.messages
    )


def _has_tool_without_parameters(conversation: Conversation) -> bool:
    return any(
        not (each["function"].get("parameters") or {}).get("type") for each in conversation.tools
    )


REFUSALS: tuple[Refusal, ...] = (
    Refusal(
        "arguments that are no object",
        "Arguments that are no JSON object are refused; the reference passes them on.",
        _everywhere,
        _has_text_arguments,
    ),
    Refusal(
        "null content",
        "A message without content and calls is refused; for the reference it is empty.",
        lambda place: place.surface is Surface.OPENAI,
        _has_null_content,
    ),
    Refusal(
        "tools without parameters",
        "llama.cpp finds no grammar for a tool whose schema names no type.",
        lambda place: place.by_ollama and _gguf(place),
        _has_tool_without_parameters,
    ),
    Refusal(
        "images without a projector",
        "llama.cpp takes no image for a model that has no projector.",
        _gguf,
        has_images,
    ),
)
