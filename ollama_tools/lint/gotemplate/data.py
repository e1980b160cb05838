"""What Ollama gives a Go chat template, and what it looks for in one.

The data has the shape and the type names of Ollama's own (``template/template.go``, 0.34), because
templates ask for both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ollama_tools.lint.fault import TemplateFault
from ollama_tools.lint.gotemplate.parse import (
    Action,
    Branch,
    Call,
    Chain,
    Field,
    GoTemplate,
    Node,
    Pipe,
    Text,
    Variable,
    parse,
)
from ollama_tools.lint.gotemplate.run import Functions, Map, Slice, Struct, go_json, run

_FUNCTIONS: Functions = {
    "json": lambda values: go_json(values[0]),
    "currentDate": lambda _: "2026-01-31",
    "yesterdayDate": lambda _: "2026-01-31",
    "toTypeScriptType": lambda _: "any",
}
"""Those that Ollama adds (0.34)."""


def parse_template(text: str) -> GoTemplate:
    """Parse a chat template.

    Raises:
        TemplateFault: It cannot be parsed, so that Ollama refuses it.
    """
    template = parse(text, frozenset(_FUNCTIONS))
    for each in template.calls:
        if each.pipe is None:
            # Go itself allows it; Ollama's engine stumbles over the missing pipeline.
            raise TemplateFault(f"template {each.name!r} is given no value, as in a dot", each.line)
    return template


def render(
    template: GoTemplate, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]
) -> str:
    """The prompt that Ollama builds from a conversation by a Go template.

    Args:
        template: The template.
        messages: Messages in OpenAI's form, arguments as objects.
        tools: Tools in OpenAI's form.

    Raises:
        TemplateFault: The template fails on it, or does not come to an end.
    """
    collated = _collate(messages)
    if not knows_messages(template):
        return _legacy(template, collated)
    system = "\n\n".join(str(each["content"]) for each in messages if each["role"] == "system")
    top = Map(
        "map[string]interface {}",
        {
            "System": system,
            "Messages": Slice("[]*template.templateMessage", [_message(m) for m in collated]),
            "Tools": _tools(tools),
            "Response": "",
            **_THINK,
        },
    )
    return run(template, top, _FUNCTIONS)


# What Ollama looks for in the nodes


def names(template: GoTemplate) -> frozenset[str]:
    """Every field that is asked for anywhere, in lower case, as Ollama collects them."""
    found: set[str] = set()
    for nodes in (template.root, *template.defined.values()):
        for pipe in _pipes(nodes):
            found.update(each.lower() for each in _pipe_names(pipe))
    return frozenset(found)


def knows_messages(template: GoTemplate) -> bool:
    """Whether a template is run once for a conversation; else it is run once for each turn."""
    return bool({"messages", "$.messages"} & names(template))


def tool_call_tag(template: GoTemplate) -> str:
    """The text by which Ollama's generic parser finds tool calls; ``{`` where it finds none.

    Follows ``tools/template.go``: the first text inside the first ``if`` of the main template
    that asks for a field ``.ToolCalls``.
    """
    branch = _find_tool_calls(template.root)
    text = _first_text(branch.body)[0] if branch else None
    tag = (text or "").replace("\r\n", "\n").partition("{")[0].strip()
    return tag or "{"


def says_something(template: GoTemplate) -> bool:
    """Whether the main template is more than white space between definitions."""
    return any(not isinstance(each, Text) or each.text.strip() for each in template.root)


def _pipes(nodes: list[Node]) -> Iterator[Pipe]:
    for node in nodes:
        if isinstance(node, Action | Call):
            if node.pipe is not None:
                yield node.pipe
        elif isinstance(node, Branch):
            yield node.pipe
            yield from _pipes(node.body)
            yield from _pipes(node.otherwise)


def _pipe_names(pipe: Pipe) -> Iterator[str]:
    for command in pipe.commands:
        for each in command:
            if isinstance(each, Field):
                yield from each.names
            elif isinstance(each, Variable):
                yield each.name
                yield from each.names
            elif isinstance(each, Pipe):
                yield from _pipe_names(each)
            elif isinstance(each, Chain):
                yield from each.names
                yield from _pipe_names(each.of)


def _asks_for_tool_calls(pipe: Pipe) -> bool:
    return any(
        isinstance(each, Field) and "ToolCalls" in each.names
        for command in pipe.commands
        for each in command
    )


def _find_tool_calls(nodes: list[Node]) -> Branch | None:
    for node in nodes:
        if not isinstance(node, Branch):
            continue
        if node.kind == "if" and _asks_for_tool_calls(node.pipe):
            return node
        found = _find_tool_calls(node.body) or _find_tool_calls(node.otherwise)
        if found:
            return found
    return None


def _first_text(nodes: list[Node]) -> tuple[str | None, bool]:
    """The first text that is not blank, and whether the search is over."""
    for node in nodes:
        if isinstance(node, Text):
            if node.text.strip():
                return node.text, True
        elif isinstance(node, Branch):
            for part in (node.body, node.otherwise):
                text, _ = _first_text(part)
                if text is not None:
                    return text, True
            return None, True
        elif isinstance(node, Action):
            return None, True
    return None, False


# What a template is given


_THINK = {"Think": False, "ThinkLevel": "", "IsThinkSet": False}


def _legacy(template: GoTemplate, messages: Sequence[Mapping[str, Any]]) -> str:
    """A template that knows no messages is run once for each turn, without the tools."""
    parts: list[str] = []
    adds_response = "response" not in names(template)
    turn = {"System": "", "Prompt": "", "Response": ""}

    def flush(*, last: bool = False) -> None:
        values = Map("map[string]interface {}", {**turn, **_THINK})
        parts.append(run(template, values, _FUNCTIONS, stop_at="Response" if last else ""))
        if adds_response:
            parts.append(turn["Response"])
        turn.update(System="", Prompt="", Response="")

    for each in messages:
        content = str(each.get("content") or "")
        match each["role"]:
            case "system":
                if turn["Prompt"] or turn["Response"]:
                    flush()
                turn["System"] = content
            case "user":
                if turn["Response"]:
                    flush()
                turn["Prompt"] = content
            case "assistant":
                turn["Response"] = content
    flush(last=True)
    return "".join(parts)


def _collate(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Neighbours of one role become one message, and the second one's calls are lost."""
    found: list[dict[str, Any]] = []
    for each in messages:
        if found and found[-1]["role"] == each["role"] != "tool":
            found[-1]["content"] = f"{found[-1].get('content')}\n\n{each.get('content')}"
        else:
            found.append(dict(each))
    return found


def _message(message: Mapping[str, Any]) -> Struct:
    return Struct(
        "*template.templateMessage",
        {
            "Role": message["role"],
            "Content": message.get("content") or "",
            "Thinking": "",
            "Images": Slice("[]api.ImageData", []),
            "ToolCalls": Slice(
                "[]template.templateToolCall",
                [_call(index, each) for index, each in enumerate(message.get("tool_calls") or ())],
            ),
            "ToolName": message.get("name") or "",
            "ToolCallID": message.get("tool_call_id") or "",
        },
    )


def _call(index: int, call: Mapping[str, Any]) -> Struct:
    function = call["function"]
    return Struct(
        "template.templateToolCall",
        {
            "ID": call.get("id") or "",
            "Function": Struct(
                "template.templateToolCallFunction",
                {
                    "Index": index,
                    "Name": function["name"],
                    "Arguments": Map(
                        "template.templateArgs", _values(function["arguments"]), has_string=True
                    ),
                },
            ),
        },
    )


def _values(value: Any) -> Any:
    """JSON values with the types that Go decodes them to."""
    if isinstance(value, Mapping):
        return {key: _value(each) for key, each in value.items()}
    return value


def _value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return Map("map[string]interface {}", _values(value))
    if isinstance(value, list):
        return Slice("[]interface {}", [_value(each) for each in value])
    return value


def _tools(tools: Sequence[Mapping[str, Any]]) -> Slice:
    return Slice(
        "template.templateTools",
        [
            Struct(
                "template.templateTool",
                {
                    "Type": tool["type"],
                    "Items": None,
                    "Function": Struct(
                        "template.templateToolFunction",
                        {
                            "Name": tool["function"]["name"],
                            "Description": tool["function"]["description"],
                            "Parameters": _parameters(tool["function"]["parameters"]),
                        },
                        {
                            "Name": ("name", False),
                            "Description": ("description", False),
                            "Parameters": ("parameters", False),
                        },
                    ),
                },
                {
                    "Type": ("type", False),
                    "Items": ("items", True),
                    "Function": ("function", False),
                },
                has_string=True,
            )
            for tool in tools
        ],
        has_string=True,
    )


def _parameters(schema: Mapping[str, Any]) -> Struct:
    return Struct(
        "template.templateToolFunctionParameters",
        {
            "Type": schema["type"],
            "Defs": None,
            "Items": None,
            "Required": Slice("[]string", list(schema.get("required", ()))),
            "Properties": Map(
                "template.templateProperties",
                {key: _property(each) for key, each in schema["properties"].items()},
                has_string=True,
            ),
        },
        {
            "Type": ("type", False),
            "Defs": ("$defs", True),
            "Items": ("items", True),
            "Required": ("required", True),
            "Properties": ("properties", False),
        },
    )


def _property(schema: Mapping[str, Any]) -> Struct:
    return Struct(
        "api.ToolProperty",
        {
            "AnyOf": Slice("[]api.ToolProperty", []),
            "Type": Slice("api.PropertyType", [schema["type"]]),
            "Items": None,
            "Description": schema.get("description", ""),
            "Enum": Slice("[]interface {}", []),
            "Properties": None,
            "Required": None,
        },
        {
            "AnyOf": ("anyOf", True),
            "Type": ("type", True),
            "Items": ("items", True),
            "Description": ("description", True),
            "Enum": ("enum", True),
            "Properties": ("properties", True),
            "Required": ("required", True),
        },
    )
