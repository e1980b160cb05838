"""Rules about chat templates: what they do to conversations, and whether Ollama can read them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ollama_tools.errors import ServerError
from ollama_tools.json_text import MalformedJson, parse_json
from ollama_tools.lint.engines import GoTried
from ollama_tools.lint.finding import Hit, Severity, rule
from ollama_tools.lint.probes import (
    ANSWER,
    DEVELOPER,
    MARKED,
    RESULT,
    RESULT_TWO,
    STRANGER,
    SYSTEM,
    TEXT,
    TOOL,
    TOOL_TWO,
    USER,
    USER_TWO,
)
from ollama_tools.lint.subject import Kind, Subject
from ollama_tools.server.answers import OF_THE_WAY

_OURS = "make the model with devstral-ollama create, which brings the right template"
_MISTRAL = "mistral-common"
_PROBES = {
    "plain": "a plain question",
    "system": "a system prompt",
    "history": "a second question",
    "tools": "a question with tools",
    "second-turn": "a second question with tools",
    "result": "a tool's result",
    "parallel": "two calls at once",
    "two-users": "two user messages in a row",
    "late-system": "a system message behind the user's",
}


def _at_start(subject: Subject) -> int | None:
    return subject.template.line_of(1) if subject.template else None


def _at(subject: Subject, text: str) -> int | None:
    return subject.template.line_with(text) if subject.template else None


def _hit(subject: Subject, message: str, near: str = "", fix: str = "") -> Hit:
    """A hit in the template, at the first place where a text stands."""
    line = _at(subject, near) if near else _at_start(subject)
    return Hit(message, "template", line, fix)


def _probed(subject: Subject, probe: str) -> str:
    """The prompt of a probe; empty where the template is not in the format, so that rules about
    details stay silent.
    """  # noqa: D205
    prompts = subject.prompts
    if not prompts.is_devstral or subject.is_generic or (subject.render and prompts.writes_lists):
        return ""
    return prompts.get(probe)


@rule(
    "DV101",
    "template-syntax",
    Severity.ERROR,
    what="A template that cannot be parsed",
    why="Ollama answers 400 to its creation; a Jinja in a GGUF fails when the model is loaded.",
    source="text/template and Ollama's template/template.go, 0.34.4",
    fix="mend the template at that line",
)
def _syntax(subject: Subject) -> Iterator[Hit]:
    fault = subject.prompts.fault
    if fault is not None and subject.template is not None:
        line = subject.template.line_of(fault.line)
        yield Hit(f"the template cannot be used: {fault.message}", "template", line)


@rule(
    "DV102",
    "template-fails",
    Severity.ERROR,
    what="A template that fails on an ordinary conversation",
    why="A field that the server does not know, or a call of `raise_exception`: creation passes, "
    "and every such chat ends in an HTTP error.",
    source="rendered",
    fix=_OURS,
)
def _fails(subject: Subject) -> Iterator[Hit]:
    for probe, reason in subject.prompts.failures.items():
        yield _hit(subject, f"fails on {_PROBES[probe]}: {reason[:200]}")
        return


@rule(
    "DV103",
    "bos-in-template",
    Severity.ERROR,
    what="`<s>` in a Go template, or more than once in what a Jinja renders",
    why="The tokenizer adds the BOS token: the prompt begins with two, which the model never saw.",
    source="measured by token count on Ollama 0.34.4",
    fix="remove `<s>` from the template",
)
def _bos(subject: Subject) -> Iterator[Hit]:
    if not subject.prompts.rendered:
        return
    found = [subject.prompts.get(each) for each in ("plain", "history", "system")]
    # llama-server takes off one at the beginning of what a Jinja renders.
    allowed = 0 if subject.prompts.by_go or subject.render else 1
    if any(each.count("<s>") > allowed for each in found) or any(
        not each.startswith("<s>") and "<s>" in each for each in found
    ):
        yield _hit(subject, "writes <s>, which the tokenizer adds as well", "<s>")


@rule(
    "DV104",
    "generic-template",
    Severity.ERROR,
    what="A Go template that knows no `.Messages`",
    why="The hub gives such a template to every GGUF of the family: no tools, no tool results, "
    "and the server refuses requests with tools.",
    source="Ollama's template/template.go, 0.34.4; the manifests of hf.co",
    fix=_OURS,
)
def _generic(subject: Subject) -> Iterator[Hit]:
    if subject.is_generic and subject.prompts.rendered:
        yield _hit(subject, "a generic template: it knows neither messages nor tools")


@rule(
    "DV105",
    "not-devstral",
    Severity.ERROR,
    what="A template in another family's format",
    why="The model was trained on `[INST]…[/INST]`, with a block of its own for the system prompt.",
    source=_MISTRAL,
    fix=_OURS,
)
def _format(subject: Subject) -> Iterator[Hit]:
    prompts = subject.prompts
    plain = re.sub(r"\s+", "", prompts.get("plain"))
    if not prompts.rendered or "plain" in prompts.failures:
        return
    if subject.render and prompts.writes_lists:
        return
    if f"[INST]{USER}[/INST]" not in plain:
        yield _hit(subject, "does not put the user's text between [INST] and [/INST]")
    elif not prompts.is_devstral:
        yield _hit(subject, "puts white space beside the user's text", "[INST]")
    elif f"[SYSTEM_PROMPT]{SYSTEM}[/SYSTEM_PROMPT]" not in prompts.get("system"):
        lost = "loses the system prompt" if SYSTEM not in prompts.get("system") else ""
        message = lost or "does not put the system prompt between [SYSTEM_PROMPT] tokens"
        yield _hit(subject, message, "ystem")


@rule(
    "DV106",
    "tools-missing",
    Severity.ERROR,
    what="A template that does not write the tools of a request",
    why="The model cannot know that it has tools; without `.Tools` the server refuses them.",
    source="rendered",
    fix=_OURS,
)
def _tools_missing(subject: Subject) -> Iterator[Hit]:
    prompt = _probed(subject, "tools")
    if prompt and not all(each in prompt for each in (TOOL, TOOL_TWO)):
        yield _hit(subject, "the tools of a request are not in the prompt", "ools")
    elif prompt and not re.search(
        r"\[AVAILABLE_TOOLS\]\s*\[.*\]\s*\[/AVAILABLE_TOOLS\]", prompt, re.DOTALL
    ):
        yield _hit(subject, "the tools do not stand between [AVAILABLE_TOOLS] tokens", "ools")


@rule(
    "DV107",
    "tools-vanish",
    Severity.ERROR,
    what="Tools that are gone from the prompt once a tool's result is in it",
    why="The model cannot call a second tool: agents stop after their first step.",
    source="rendered; so does the template of `devstral` in Ollama's library",
    fix=_OURS,
)
def _tools_vanish(subject: Subject) -> Iterator[Hit]:
    after = _probed(subject, "result")
    if after and TOOL_TWO in _probed(subject, "tools") and TOOL_TWO not in after:
        yield _hit(subject, "the tools vanish from the prompt after a tool's result", "ools")


@rule(
    "DV108",
    "tools-late",
    Severity.WARNING,
    what="v13: tools at the last user message instead of before the first",
    why="Not the format of v13, and each user turn changes the prompt in its middle: the prompt "
    "cache is lost, 1.9 times the tokens are evaluated in a session of 12 turns.",
    source=f"{_MISTRAL}; measured on Ollama 0.34.4",
    fix=_OURS,
)
def _tools_late(subject: Subject) -> Iterator[Hit]:
    prompt = _probed(subject, "second-turn")
    if subject.is_v13 and TOOL in prompt and -1 < prompt.find(USER) < prompt.index(TOOL):
        message = "the tools stand at the last user message, not before the first"
        yield _hit(subject, message, "ools")


@rule(
    "DV109",
    "tools-early",
    Severity.WARNING,
    what="v7: tools before the first user message instead of the last",
    why="Devstral 2505 was trained with the tools before the last user message.",
    source=_MISTRAL,
    fix=_OURS,
)
def _tools_early(subject: Subject) -> Iterator[Hit]:
    prompt = _probed(subject, "second-turn")
    if not subject.is_v13 and TOOL in prompt and prompt.index(TOOL) < prompt.find(USER):
        yield _hit(subject, "the tools stand before the first user message, not the last", "ools")


@rule(
    "DV110",
    "tag-not-found",
    Severity.ERROR,
    what="A Go template without PARSER in which the first text of the first `{{ if .ToolCalls }}` "
    "is not `[TOOL_CALLS]`",
    why="Ollama's generic parser takes its tag from there; with another tag, calls reach the "
    "client as text or not at all.",
    source="Ollama's tools/template.go, 0.34.4",
    fix="write `{{ if .ToolCalls }}[TOOL_CALLS]…` in the main template, or set PARSER ministral",
)
def _tag(subject: Subject) -> Iterator[Hit]:
    if subject.parser is not None or subject.renderer is not None or subject.is_generic:
        return
    if subject.kind is Kind.TEMPLATE and subject.is_v13:
        # A template alone does not say which parser will read what the model writes.
        return
    if isinstance(subject.go, GoTried) and subject.prompts.rendered:
        tag = subject.go.tag
        if not tag.startswith("[TOOL_CALLS]"):
            yield _hit(
                subject, f"the server looks for tool calls by {tag[:30]!r}, not [TOOL_CALLS]"
            )


@rule(
    "DV111",
    "call-lost",
    Severity.ERROR,
    what="A tool call, or its result, that is missing from the prompt of the next turn",
    why="The model sees a result without its call, or asks for the same again and again.",
    source="rendered",
    fix=_OURS,
)
def _call_lost(subject: Subject) -> Iterator[Hit]:
    prompt = _probed(subject, "result")
    after = prompt.rpartition("[/AVAILABLE_TOOLS]")[2] if TOOL_TWO in prompt else prompt
    if prompt and TOOL not in after and "[TOOL_CALLS]" not in after:
        yield _hit(subject, "a tool call of the history is not in the prompt", "ToolCalls")
    if prompt and RESULT not in prompt:
        yield _hit(subject, "a tool's result is not in the prompt", "tool")
    elif prompt and f"{RESULT}[/TOOL_RESULTS]" not in prompt:
        yield _hit(subject, "a tool's result does not end with [/TOOL_RESULTS]", "TOOL_RESULTS")


@rule(
    "DV112",
    "call-form",
    Severity.ERROR,
    what="Tool calls of the history in another form than the tokenizer version has",
    why="v13 is `[TOOL_CALLS]name[ARGS]{…}`, v7 `[TOOL_CALLS][{…}]`; the model goes on in the "
    "form that it sees, and the parser reads the other.",
    source=_MISTRAL,
    fix=_OURS,
)
def _call_form(subject: Subject) -> Iterator[Hit]:
    prompt = _probed(subject, "result")
    if "[TOOL_CALLS]" not in prompt:
        return
    call = prompt.split("[TOOL_CALLS]", 1)[1]
    wanted = f"{TOOL}[ARGS]{{" if subject.is_v13 else "[{"
    if not call.startswith(wanted):
        form = "name[ARGS]{…}" if subject.is_v13 else "[{…}]"
        message = f"a call is not written as [TOOL_CALLS]{form}, the form of"
        yield _hit(subject, f"{message} {subject.tokenizer.value}", "[TOOL_CALLS]")


@rule(
    "DV113",
    "parallel-calls",
    Severity.ERROR,
    what="Several calls at once in a wrong form: one `[TOOL_CALLS]` for all in v13, no comma "
    "between them in v7",
    why="The model sees one call with a strange name, and its results belong to nothing.",
    source=f"{_MISTRAL}; so do `ministral-3` and `devstral` in Ollama's library",
    fix=_OURS,
)
def _parallel(subject: Subject) -> Iterator[Hit]:
    prompt = _probed(subject, "parallel")
    # Only where a single call is right is this a fault of its own.
    if not prompt or list(_call_form(subject)) or "[TOOL_CALLS]" not in prompt:
        return
    calls = prompt[prompt.index("[TOOL_CALLS]") :].partition("</s>")[0].partition("[TOOL_RES")[0]
    if subject.is_v13:
        if f"[TOOL_CALLS]{TOOL_TWO}[ARGS]" not in calls or calls.count("[TOOL_CALLS]") != 2:
            message = f"two calls at once have {calls.count('[TOOL_CALLS]')} [TOOL_CALLS]"
            yield _hit(subject, message, "[TOOL_CALLS]")
    elif not _is_list_of_two(calls.removeprefix("[TOOL_CALLS]")):
        yield _hit(subject, "two calls at once are no JSON list of two", "[TOOL_CALLS]")
    if not 0 <= prompt.find(RESULT) < prompt.find(RESULT_TWO):
        yield _hit(subject, "of two results at once, one is lost or out of order", "TOOL_RESULTS")


def _is_list_of_two(text: str) -> bool:
    try:
        found = parse_json(text)
    except MalformedJson:
        return False
    return isinstance(found, list) and len(found) == 2


@rule(
    "DV114",
    "text-beside-call",
    Severity.ERROR,
    what="A message with text and a call, of which one is lost",
    why="Coding agents explain, then call. Without the call the result stands alone.",
    source="rendered; so does the template of `devstral` in Ollama's library",
    fix=_OURS,
)
def _text_beside_call(subject: Subject) -> Iterator[Hit]:
    prompt = _probed(subject, "text-and-call")
    if not prompt or "[TOOL_CALLS]" not in _probed(subject, "result"):
        return
    if "[TOOL_CALLS]" not in prompt:
        yield _hit(subject, "text beside a tool call loses the call", "ToolCalls")
    elif TEXT not in prompt:
        yield _hit(subject, "a tool call loses the text beside it", "ToolCalls")
    elif f"{TEXT}[TOOL_CALLS]" not in prompt:
        yield _hit(subject, "text and the call behind it are torn apart", "ToolCalls")


@rule(
    "DV115",
    "prompt-end",
    Severity.WARNING,
    what="A prompt that goes on behind `[/INST]`, as by a newline at the template's end",
    why="The model was trained to answer directly behind that token.",
    source=f"{_MISTRAL}; so do `ministral-3` and `devstral-small-2` in Ollama's library",
    fix='trim it: `{{- end -}}`, and the closing `"""` on the last line itself',
)
def _end(subject: Subject) -> Iterator[Hit]:
    for probe, end in (("plain", "[/INST]"), ("result", "[/TOOL_RESULTS]")):
        prompt = _probed(subject, probe)
        if end in prompt and not prompt.endswith(end):
            rest = prompt.rpartition(end)[2]
            if subject.template is not None:
                last = subject.template.line_of(subject.template.text.count("\n") + 1)
                yield Hit(f"{rest[:20]!r} follows {end} at the prompt's end", "template", last)
            return


@rule(
    "DV116",
    "turn-not-closed",
    Severity.ERROR,
    what="An assistant's message of the history without `</s>` behind it, or with something "
    "before it",
    why="The model sees its answer go over into the user's next question.",
    source=_MISTRAL,
    fix=_OURS,
)
def _closed(subject: Subject) -> Iterator[Hit]:
    prompt = _probed(subject, "history")
    if prompt and ANSWER not in prompt:
        yield _hit(subject, "an answer of the history is not in the prompt", "assistant")
    elif prompt and f"[/INST]{ANSWER}</s>[INST]{USER_TWO}[/INST]" not in prompt:
        yield _hit(
            subject, "an answer of the history is not written as [/INST]text</s>[INST]", "assistant"
        )


@rule(
    "DV117",
    "developer-lost",
    Severity.ERROR,
    what="A message of the role `developer` that is missing from the prompt",
    why="Codex and newer OpenAI clients send their whole instructions in it.",
    source="recorded from openai-node and codex on Ollama 0.34.4",
    fix='treat it as system: `{{ if eq .Role "system" "developer" }}`',
)
def _developer(subject: Subject) -> Iterator[Hit]:
    if _probed(subject, "plain") and DEVELOPER not in subject.prompts.get("developer"):
        yield _hit(subject, "a developer message is not in the prompt", '"system"')


@rule(
    "DV118",
    "role-lost",
    Severity.WARNING,
    what="A message of an unknown role that is missing from the prompt, without an error",
    why="Clients send the role `function` and roles of their own; nobody is told of the loss.",
    source="rendered",
    fix="write what is of no known role as a user's message",
)
def _role(subject: Subject) -> Iterator[Hit]:
    found = subject.prompts.rendered.get("stranger")
    if not _probed(subject, "plain") or found is None or found.prompt is None:
        return
    if STRANGER not in found.prompt:
        yield _hit(subject, "a message of an unknown role is not in the prompt", ".Role")


@rule(
    "DV119",
    "refuses-conversation",
    Severity.WARNING,
    what="A template that raises an error on user messages in a row, or on a late system message",
    why="Agents send both; the server answers HTTP 500 (“roles must alternate”).",
    source="rendered; reported by users of several coding agents",
    fix=_OURS,
)
def _refuses(subject: Subject) -> Iterator[Hit]:
    if not _probed(subject, "plain"):
        return
    for probe, reason in subject.prompts.refusals.items():
        yield _hit(subject, f"fails on {_PROBES[probe]}: {reason[:200]}", "raise_exception")


@rule(
    "DV120",
    "injected-system",
    Severity.WARNING,
    what="A system prompt that the template puts in where the conversation has none",
    why="Nobody asked for it, and nobody sees it: 1220 tokens in the published template.",
    source=f"{_MISTRAL} adds none; measured with the GGUFs of unsloth",
    fix="give the model a SYSTEM of its own; the template then adds none",
)
def _injected(subject: Subject) -> Iterator[Hit]:
    if "[SYSTEM_PROMPT]" in _probed(subject, "plain"):
        yield _hit(subject, "adds a system prompt of its own", "SYSTEM_PROMPT")


@rule(
    "DV121",
    "json-escapes",
    Severity.WARNING,
    what="JSON of tools or arguments that is compact, or in which `< > &` are escaped",
    why="Go's `json` writes `\\u003c` for `<`: code in arguments comes back to the model in "
    "letters that it never wrote.",
    source=f"{_MISTRAL} writes JSON as Python's json.dumps does",
    fix=_OURS,
)
def _escapes(subject: Subject) -> Iterator[Hit]:
    prompt = _probed(subject, "marked")
    if "\\u003c" in prompt:
        yield _hit(subject, "arguments are written with \\u003c in the place of <", "json .")
    elif f'{{"path":"{MARKED}"}}' in prompt or '"type":"function"' in prompt:
        yield _hit(subject, "JSON is written without blanks", "json .")
    elif (
        f'{{"path": "{MARKED}"}}' not in prompt
        and "[TOOL_CALLS]" in prompt
        and not list(_call_form(subject))
    ):
        yield _hit(subject, "arguments are not written as JSON", "Arguments")


@rule(
    "DV122",
    "lists-written",
    Severity.ERROR,
    what="A Jinja that writes contents as they come, where they come as lists of parts",
    why="llama-server hands over the contents of system and assistant messages as "
    "`[{'type': 'text', 'text': …}]`, and the prompt gets just these letters.",
    source="measured on Ollama 0.34.4",
    fix="write the `text` of each part where `content` is not a string",
)
def _lists(subject: Subject) -> Iterator[Hit]:
    prompts = subject.prompts
    if subject.template is None or not subject.template.is_jinja or not prompts.is_devstral:
        return
    # Where texts are not right either, another rule says so.
    right = subject.render or f"{SYSTEM}[/SYSTEM_PROMPT]" in prompts.get("system")
    lost = SYSTEM not in prompts.get("lists") or ANSWER not in prompts.get("lists")
    if right and "history" not in prompts.failures and (lost or prompts.writes_lists):
        yield _hit(subject, "cannot take contents that are lists of parts", "content")


@rule(
    "DV123",
    "template-untried",
    Severity.ERROR,
    what="A template that could not be tried, because the process for that broke down",
    why="Nothing is known of it, good or bad: no rule about what it does has been asked.",
    source="a process with bounds on memory, time and output",
    fix="mend what the message names; if it is this package, report it with that line",
)
def _untried(subject: Subject) -> Iterator[Hit]:
    if subject.prompts.crash:
        message = f"the template could not be tried: {subject.prompts.crash}"
        yield Hit(message, "template", _at_start(subject))


@rule(
    "DV124",
    "prompt-differs",
    Severity.ERROR,
    what="A server's prompt of a session with tools that is not the reference's (`--live`)",
    why="The model was trained on that text; the order of keys inside JSON is forgiven.",
    source=f"{_MISTRAL}, character by character",
    fix=_OURS,
)
def _differs(subject: Subject) -> Iterator[Hit]:
    if subject.differs is None or not _probed(subject, "plain"):
        return
    try:
        difference = subject.differs()
    except OF_THE_WAY:
        raise
    except ServerError as error:
        difference = f"the server renders none: {error.what}"
    if difference:
        yield _hit(subject, f"not {_MISTRAL}'s prompt: {difference}")
