"""Conversations that show what a template does, and what it made of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeAlias

from ollama_tools.lint.engines import GoTried, Rendered, run_go, run_jinja
from ollama_tools.lint.fault import TemplateFault, WorkerCrash

SYSTEM, USER, USER_TWO = "S-system", "U-one", "U-two"
TEXT, ANSWER = "A-text", "A-answer"
RESULT, RESULT_TWO = "R-one", "R-two"
DEVELOPER, STRANGER = "D-developer", "X-stranger"
TOOL, TOOL_TWO = "alpha_tool", "beta_tool"
MARKED = "a < b & c > d"
"""Characters that Go's JSON escapes."""

_MODEL_SYSTEM = "M-own-system"
"""Stands for the SYSTEM of a model, which the server puts in front of a conversation."""

Conversation: TypeAlias = "dict[str, Any]"
Renderer: TypeAlias = "Callable[[Sequence[Conversation]], Sequence[Rendered]]"
"""Renders conversations: ``messages`` and ``tools`` in OpenAI's form, arguments as objects."""


def _tool(name: str) -> dict[str, Any]:
    return {
        "type": "function",
        "function": {
            "name": name,
            "description": f"Does {name}.",
            "parameters": {
                "type": "object",
                "properties": {"path": {"type": "string", "description": "Which."}},
                "required": ["path"],
            },
        },
    }


def _call(identifier: str, name: str, path: str) -> dict[str, Any]:
    return {
        "id": identifier,
        "type": "function",
        "function": {"name": name, "arguments": {"path": path}},
    }


_TOOLS = [_tool(TOOL), _tool(TOOL_TWO)]
_ONE = _call("abcdEF123", TOOL, "one")
_TWO = _call("abcdEF124", TOOL_TWO, "two")


def _parts(text: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text}]


def _says(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def _result(content: str, identifier: str = "abcdEF123") -> dict[str, Any]:
    return _says("tool", content, tool_call_id=identifier)


_ASK = _says("user", USER)

PROBES: dict[str, Conversation] = {
    "plain": {"messages": [_ASK]},
    "system": {"messages": [_says("system", SYSTEM), _ASK]},
    "history": {"messages": [_ASK, _says("assistant", ANSWER), _says("user", USER_TWO)]},
    "tools": {"messages": [_ASK], "tools": _TOOLS},
    "second-turn": {
        "messages": [_ASK, _says("assistant", ANSWER), _says("user", USER_TWO)],
        "tools": _TOOLS,
    },
    "result": {
        "messages": [_ASK, _says("assistant", "", tool_calls=[_ONE]), _result(RESULT)],
        "tools": _TOOLS,
    },
    "parallel": {
        "messages": [
            _ASK,
            _says("assistant", "", tool_calls=[_ONE, _TWO]),
            _result(RESULT),
            _result(RESULT_TWO, "abcdEF124"),
        ],
        "tools": _TOOLS,
    },
    "text-and-call": {
        "messages": [_ASK, _says("assistant", TEXT, tool_calls=[_ONE]), _result(RESULT)],
        "tools": _TOOLS,
    },
    "marked": {
        "messages": [
            _ASK,
            _says("assistant", "", tool_calls=[_call("abcdEF123", TOOL, MARKED)]),
            _result(RESULT),
        ],
        "tools": _TOOLS,
    },
    "developer": {"messages": [_says("developer", DEVELOPER), _ASK]},
    "stranger": {"messages": [_ASK, _says("function", STRANGER)]},
    "two-users": {"messages": [_ASK, _says("user", USER_TWO)]},
    "late-system": {"messages": [_ASK, _says("system", SYSTEM)]},
    "lists": {
        "messages": [
            _says("system", _parts(SYSTEM)),
            _ASK,
            _says("assistant", _parts(ANSWER)),
            _says("user", USER_TWO),
        ]
    },
}
"""By name; small, because a template may be slow, and each shows one thing."""

_ESSENTIAL = ("plain", "system", "history", "tools", "second-turn", "result", "parallel")
_HABITS = ("two-users", "late-system")


@dataclass(frozen=True, slots=True)
class Prompts:
    """What a template made of the probes.

    Attributes:
        rendered: The outcome by probe; empty where there is no template to run.
        fault: Why the template cannot run at all.
        by_go: Whether it is Ollama's Go engine that runs it.
        crash: How the attempt to find out broke down; empty where it did not.
    """

    rendered: Mapping[str, Rendered] = field(hash=False)
    fault: TemplateFault | None = None
    by_go: bool = True
    crash: str = ""

    @classmethod
    def of(cls, render: Renderer, system: str, *, rendered_by_go: bool) -> Prompts:
        """Render every probe.

        Args:
            render: What renders.
            system: The model's own system prompt, which the server puts in front.
            rendered_by_go: Whether that is Ollama's Go engine.
        """
        try:
            found = render(_asked(with_system=bool(system)))
        except TemplateFault as fault:
            return cls({}, fault, rendered_by_go)
        except WorkerCrash as crash:
            return cls({}, None, rendered_by_go, crash.message)
        return cls(
            {name: _without_system(each, system) for name, each in zip(PROBES, found, strict=True)},
            None,
            rendered_by_go,
        )

    def get(self, probe: str) -> str:
        """The prompt of a probe; empty where there is none."""
        found = self.rendered.get(probe)
        return (found.prompt or "") if found else ""

    @property
    def is_devstral(self) -> bool:
        """Whether a plain question is rendered in Mistral's format at all."""
        return f"[INST]{USER}[/INST]" in self.get("plain")

    @property
    def writes_lists(self) -> bool:
        """Whether contents that come as lists of parts are written as they come."""
        return any("'type': 'text'" in self.get(each) for each in ("system", "history", "lists"))

    @property
    def failures(self) -> dict[str, str]:
        """Why essential conversations cannot be rendered, by probe."""
        return self._faults(_ESSENTIAL)

    @property
    def refusals(self) -> dict[str, str]:
        """Why conversations that agents do send cannot be rendered, by probe."""
        return self._faults(_HABITS)

    def _faults(self, names: Sequence[str]) -> dict[str, str]:
        return {
            name: self.rendered[name].fault
            for name in names
            if name in self.rendered and self.rendered[name].prompt is None
        }


def _text(content: Any) -> str:
    return "".join(each["text"] for each in content) if isinstance(content, list) else content


def as_texts(conversation: Conversation) -> Conversation:
    """A conversation whose contents are texts, as Ollama gives them to a Go template."""
    messages = [{**each, "content": _text(each["content"])} for each in conversation["messages"]]
    return {**conversation, "messages": messages}


def _with_system(conversation: Conversation) -> Conversation:
    messages = conversation["messages"]
    if messages[0]["role"] == "system":
        return conversation
    return {**conversation, "messages": [_says("system", _MODEL_SYSTEM), *messages]}


def _without_system(rendered: Rendered, system: str) -> Rendered:
    if not system or rendered.prompt is None:
        return rendered
    own = f"[SYSTEM_PROMPT]{_MODEL_SYSTEM}[/SYSTEM_PROMPT]"
    return Rendered(rendered.prompt.replace(own, "", 1), rendered.fault, rendered.refused)


# Models of one server mostly have one template, which is tried once.
_tried_once = lru_cache(maxsize=16)


@_tried_once
def try_go(template: str, *, with_system: bool) -> GoTried:
    """Try a Go template on every probe.

    Args:
        template: The template.
        with_system: Whether the model has a system prompt of its own.

    Raises:
        TemplateFault: It cannot be parsed, or does not come to an end.
        WorkerCrash: Nobody could find out.
    """
    probes = [as_texts(each) for each in _asked(with_system=with_system)]
    return run_go(template, [{"tools": [], **each} for each in probes])


@_tried_once
def try_jinja(template: str, *, with_system: bool) -> tuple[Rendered, ...]:
    """Try a Jinja template on every probe; see :func:`try_go`."""
    # llama-server finds out what a template can take, and hands over arguments as objects or
    # texts, and contents as texts or lists, accordingly.
    probes = _asked(with_system=with_system)
    forms = [
        _form(each, arguments=arguments, contents=contents)
        for arguments, contents in ((False, False), (True, False), (False, True))
        for each in probes
    ]
    found = run_jinja(template, forms)
    count = len(probes)
    return tuple(
        next((each for each in found[at::count] if each.prompt is not None), found[at])
        for at in range(count)
    )


def _asked(*, with_system: bool) -> list[Conversation]:
    """The probes, each with the system prompt that a server puts in front of it."""
    return [_with_system(each) if with_system else each for each in PROBES.values()]


def _form(conversation: Conversation, *, arguments: bool, contents: bool) -> Conversation:
    messages = []
    for message in conversation["messages"]:
        own = {**message}
        # llama-server knows no developer: Ollama hands the message over as one of the system.
        own["role"] = {"developer": "system"}.get(own["role"], own["role"])
        if contents:
            own["content"] = _parts(_text(own["content"]))
        if arguments and "tool_calls" in own:
            own["tool_calls"] = [
                {
                    **call,
                    "function": {
                        **call["function"],
                        "arguments": json.dumps(call["function"]["arguments"], ensure_ascii=False),
                    },
                }
                for call in own["tool_calls"]
            ]
        messages.append(own)
    return {
        "messages": messages,
        "tools": conversation.get("tools"),
        "bos_token": "<s>",
        "eos_token": "</s>",
        "add_generation_prompt": True,
    }
