"""Rules about what stands beside the template: parser, parameters, system prompt, the Modelfile."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from ollama_tools.devstral.carriers import CONTROL_TOKENS
from ollama_tools.devstral.catalog_file import load_catalog
from ollama_tools.devstral.reference import parse_reference
from ollama_tools.errors import UsageError
from ollama_tools.lint.finding import Hit, Severity, rule
from ollama_tools.lint.gotemplate.parse import words
from ollama_tools.lint.subject import Kind, Subject, Value
from ollama_tools.server.modelfile_text import INSTRUCTIONS, FaultKind
from ollama_tools.server.parameters import OBSOLETE, PARAMETERS, is_number, near_parameter
from ollama_tools.server.versions import (
    MINIMUM_SERVER,
    NO_ADAPTERS,
    TESTED_SERVER,
    parse_version,
)
from ollama_tools.settings.environment import ServerSettings

_OURS = "make the model with devstral-ollama create"
_LEAST_CONTEXT = ServerSettings().context
_WARM = 0.5
"""Temperature above which it is far from the recommended 0.15."""

_PATH = re.compile(r"[/.~]|.*\.(gguf|bin|safetensors)$", re.IGNORECASE | re.DOTALL)
_ON_HUB = re.compile(r"(hf\.co|huggingface\.co)/")

_PARSERS = words(
    "qwen3 qwen3-thinking qwen3.5 ornith qwen3-coder qwen3-vl-instruct qwen3-vl-thinking "
    "ministral passthrough harmony cogito deepseek3 olmo3 olmo3-think nemotron-3-nano "
    "nemotron-3.5-nano functiongemma glm-4.7 gemma4 gemma4-no-thinking glm-ocr lfm2 "
    "lfm2-thinking laguna poolside-v1 cohere glimmer"
)
"""Those of Ollama 0.34.4 (model/parsers/parsers.go)."""

_OF_THE_SERVER = {
    **dict.fromkeys(
        ("kv_cache_type", "cache_type_k", "cache_type_v", "cache_type", "ollama_kv_cache_type"),
        "OLLAMA_KV_CACHE_TYPE",
    ),
    **dict.fromkeys(
        ("flash_attention", "flash_attn", "ollama_flash_attention"), "OLLAMA_FLASH_ATTENTION"
    ),
    **dict.fromkeys(("num_parallel", "ollama_num_parallel"), "OLLAMA_NUM_PARALLEL"),
    **dict.fromkeys(("keep_alive", "ollama_keep_alive"), "OLLAMA_KEEP_ALIVE"),
    **dict.fromkeys(("context_length", "ollama_context_length"), "OLLAMA_CONTEXT_LENGTH"),
}


def _last(subject: Subject, name: str) -> Value | None:
    values = (subject.parameters or {}).get(name)
    return values[-1] if values else None


def _number(subject: Subject, name: str) -> float | None:
    value = _last(subject, name)
    return float(value.text) if value is not None and is_number(value.text) else None


def _line(value: Value | None) -> int | None:
    return value.line if value else None


def _absent(subject: Subject, name: str) -> bool:
    """Whether a parameter is surely not set."""
    return subject.parameters is not None and subject.is_whole and _last(subject, name) is None


def _place(subject: Subject) -> int | None:
    """Where something that is missing in a Modelfile could be written."""
    return _line(subject.origin)


# Parser and engine


@rule(
    "DV201",
    "parser-unknown",
    Severity.ERROR,
    what="A PARSER that does not exist, or that is another family's",
    why="The server takes any name without a word; tool calls then reach the client as text.",
    source="measured on Ollama 0.34.4; model/parsers/parsers.go",
    fix="write PARSER ministral for v13, and none for v7",
)
def _parser_unknown(subject: Subject) -> Iterator[Hit]:
    parser = subject.parser
    if parser is not None and parser.text != "ministral":
        reason = "reads another family's calls" if parser.text in _PARSERS else "does not exist"
        yield Hit(f"PARSER {parser.text[:40]} {reason}", "PARSER", parser.line)


@rule(
    "DV202",
    "parser-missing",
    Severity.WARNING,
    what="v13 with a Go TEMPLATE and without PARSER",
    why="The generic parser loses calls whose arguments have a key `name` or `parameters`.",
    source="measured on Ollama 0.34.4",
    fix="write PARSER ministral",
)
def _parser_missing(subject: Subject) -> Iterator[Hit]:
    template = subject.template
    if subject.kind in (Kind.TEMPLATE, Kind.GGUF) or template is None or template.is_jinja:
        return
    if subject.parser is not None or subject.renderer is not None or not subject.is_whole:
        return
    if subject.is_v13 and not subject.is_generic:
        message = "a TEMPLATE for v13 without PARSER loses some tool calls"
        yield Hit(message, "PARSER", _place(subject))


@rule(
    "DV203",
    "parser-swallows",
    Severity.ERROR,
    what="PARSER ministral on v7 (Devstral 2505)",
    why="It swallows calls of the form `[{…}]`: replies come empty.",
    source="measured on Ollama 0.34.4",
    fix="remove PARSER; the generic parser reads v7",
)
def _parser_swallows(subject: Subject) -> Iterator[Hit]:
    parser = subject.parser
    if parser is not None and parser.text == "ministral" and not subject.is_v13:
        yield Hit("PARSER ministral swallows the tool calls of v7", "PARSER", parser.line)


@rule(
    "DV204",
    "renderer-set",
    Severity.ERROR,
    what="A RENDERER",
    why="Ollama has none for Mistral's formats; one that is set overrides TEMPLATE.",
    source="Ollama's model/renderers/renderer.go, up to 0.34.4",
    fix="remove RENDERER",
)
def _renderer(subject: Subject) -> Iterator[Hit]:
    if subject.renderer is not None:
        message = f"RENDERER {subject.renderer.text[:40]} writes another family's prompt"
        yield Hit(message, "RENDERER", subject.renderer.line)


@rule(
    "DV205",
    "parser-without-template",
    Severity.ERROR,
    what="PARSER without TEMPLATE",
    why="The server then renders the bare text of the last message: no roles, no tools.",
    source="Ollama's server/prompt.go and server/routes.go, 0.34.4",
    fix="add TEMPLATE, or remove PARSER where the GGUF's own template is right",
)
def _parser_alone(subject: Subject) -> Iterator[Hit]:
    if subject.kind is not Kind.MODELFILE or not subject.is_whole or _inherits(subject):
        return
    if subject.parser and subject.template is None and subject.renderer is None:
        yield Hit("PARSER without TEMPLATE: no template is used", "PARSER", subject.parser.line)


@rule(
    "DV206",
    "requires-low",
    Severity.WARNING,
    what=f"PARSER ministral without REQUIRES {MINIMUM_SERVER} or higher",
    why="Before that version the parser cuts arguments at the first `}`.",
    source="Ollama's model/parsers/ministral.go, 0.13.1 to 0.15.3",
    fix=f"write REQUIRES {MINIMUM_SERVER}",
)
def _requires(subject: Subject) -> Iterator[Hit]:
    if subject.kind is not Kind.MODELFILE or subject.parser is None or not subject.is_whole:
        return
    if subject.requires is None:
        yield Hit(
            f"nothing requires Ollama {MINIMUM_SERVER}, whose parser is the first that is sound",
            "REQUIRES",
            _place(subject),
        )
        return
    version = parse_version(subject.requires.text)
    if version is None or version < MINIMUM_SERVER:
        message = f"REQUIRES {subject.requires.text[:20]} is below {MINIMUM_SERVER}"
        yield Hit(message, "REQUIRES", subject.requires.line)


@rule(
    "DV207",
    "shared-weights",
    Severity.ERROR,
    what="Two models on a server with the same weights, one with PARSER and one without",
    why="Engines are kept by weights: while the one with PARSER is loaded, the other, such as the "
    "plain name that was pulled as its base, answers tools with HTTP 500.",
    source="measured on Ollama 0.34.4",
    fix="remove the one that is not needed with ollama rm; the weights stay",
)
def _shared(subject: Subject) -> Iterator[Hit]:
    if subject.clashing:
        names = ", ".join(subject.clashing[:3])
        plain = subject.clashing[0] if subject.parser else subject.label
        yield Hit(
            f"shares its weights with {names}: only one of them can call tools",
            "FROM",
            fix=f"remove the one that is not needed, as by ollama rm {plain}; the weights stay",
        )


@rule(
    "DV208",
    "inherits-all",
    Severity.WARNING,
    what="FROM another model without a TEMPLATE of one's own",
    why="Template, parser and parameters come with that model, whatever they are; those of "
    "Ollama's library lose tools or calls, and a parameter that is inherited cannot be removed.",
    source="measured: `devstral` of the library has 6 of 24 conversations right",
    fix="name the weights: FROM hf.co/unsloth/Devstral-Small-2507-GGUF:UD-Q4_K_XL, or a file",
)
def _inherited(subject: Subject) -> Iterator[Hit]:
    if subject.origin is not None and _inherits(subject) and subject.template is None:
        message = f"FROM {subject.origin.text[:60]} takes over that model's template and parameters"
        yield Hit(message, "FROM", subject.origin.line)


def _inherits(subject: Subject) -> bool:
    """Whether FROM names a model, not weights."""
    origin = subject.origin.text if subject.origin else ""
    return bool(origin) and not _PATH.match(origin) and not _ON_HUB.match(origin)


@rule(
    "DV209",
    "no-tools-capability",
    Severity.ERROR,
    what="A model on a server to which the server offers no tools",
    why="Requests with tools are answered with HTTP 400.",
    source="capabilities in /api/show, Ollama 0.6.4 and newer",
    fix=_OURS,
)
def _capability(subject: Subject) -> Iterator[Hit]:
    if subject.capabilities and "tools" not in subject.capabilities:
        yield Hit("the server refuses tools for it", "capabilities")


@rule(
    "DV210",
    "server-old",
    Severity.ERROR,
    what=f"A server older than Ollama {MINIMUM_SERVER}",
    why="Its parser cuts tool calls short.",
    source="Ollama's model/parsers/ministral.go",
    fix="upgrade the server",
)
def _server_old(subject: Subject) -> Iterator[Hit]:
    if subject.version is not None and subject.version < MINIMUM_SERVER:
        yield Hit(f"the server is Ollama {subject.version}", "server")


@rule(
    "DV211",
    "no-template",
    Severity.WARNING,
    what="A GGUF without a chat template",
    why="From Ollama 0.30 on, a model without TEMPLATE uses the one in its file; without any, only "
    "the bare text of the last message reaches the model.",
    source="Ollama's server/routes.go, 0.34.4",
    fix=_OURS,
)
def _no_template(subject: Subject) -> Iterator[Hit]:
    if subject.kind is Kind.GGUF and subject.template is None and subject.file_type == "model":
        yield Hit("no tokenizer.chat_template in its header", "tokenizer.chat_template")


# Parameters


@rule(
    "DV301",
    "repeat-penalty",
    Severity.WARNING,
    what="`repeat_penalty` unset, or other than 1.0",
    why="Ollama's default was 1.1 up to 0.32.10, which spoils code that repeats.",
    source="Ollama's api/types.go; Unsloth's guide",
    fix="write PARAMETER repeat_penalty 1.0",
)
def _repeat_penalty(subject: Subject) -> Iterator[Hit]:
    if _absent(subject, "repeat_penalty"):
        message = "repeat_penalty is not set: the server's default decides"
        yield Hit(message, "PARAMETER repeat_penalty", _place(subject))
    value = _number(subject, "repeat_penalty")
    if value is not None and abs(value - 1.0) > 0.02:
        line = _line(_last(subject, "repeat_penalty"))
        yield Hit(f"repeat_penalty {value:g} spoils code", "PARAMETER repeat_penalty", line)


@rule(
    "DV302",
    "context-unset",
    Severity.WARNING,
    what="`num_ctx` unset",
    why="The server's default decides, 4096 below 23 GiB of GPU memory: every user message of an "
    "agent's prompt is then dropped without a word, and no /v1 client can set it.",
    source="measured on Ollama 0.34.4 with recorded requests of agents",
    fix=f"write PARAMETER num_ctx {_LEAST_CONTEXT} or more",
)
def _context_unset(subject: Subject) -> Iterator[Hit]:
    if _absent(subject, "num_ctx"):
        yield Hit("num_ctx is not set", "PARAMETER num_ctx", _place(subject))


@rule(
    "DV303",
    "context-small",
    Severity.WARNING,
    what=f"`num_ctx` below {_LEAST_CONTEXT}",
    why="Coding agents start with prompts of up to 18,000 tokens, and what does not fit is "
    "dropped without a word.",
    source="recorded requests of agents",
    fix=f"write PARAMETER num_ctx {_LEAST_CONTEXT} or more",
)
def _context_small(subject: Subject) -> Iterator[Hit]:
    value = _number(subject, "num_ctx")
    if value is not None and value < _LEAST_CONTEXT:
        line = _line(_last(subject, "num_ctx"))
        yield Hit(f"num_ctx {value:g} is below {_LEAST_CONTEXT}", "PARAMETER num_ctx", line)


@rule(
    "DV304",
    "context-large",
    Severity.WARNING,
    what="`num_ctx` above what the weights were made for",
    why="The server cuts it to that without a word.",
    source="measured on Ollama 0.34.4",
    fix="write the model's own context, or less",
)
def _context_large(subject: Subject) -> Iterator[Hit]:
    value, most = _number(subject, "num_ctx"), subject.longest_context
    if value is not None and most is not None and value > most:
        line = _line(_last(subject, "num_ctx"))
        message = f"num_ctx {value:.0f} is above the model's {most}"
        yield Hit(message, "PARAMETER num_ctx", line)


@rule(
    "DV305",
    "temperature",
    Severity.WARNING,
    what=f"`temperature` unset, or above {_WARM}",
    why="Ollama's default is 0.8; Devstral is recommended to run at 0.15.",
    source="Unsloth's guide, after Mistral's model card",
    fix="write PARAMETER temperature 0.15",
)
def _temperature(subject: Subject) -> Iterator[Hit]:
    field = "PARAMETER temperature"
    if _absent(subject, "temperature"):
        yield Hit("temperature is not set: 0.8 is used", field, _place(subject))
    value = _number(subject, "temperature")
    if value is not None and value > _WARM:
        line = _line(_last(subject, "temperature"))
        yield Hit(f"temperature {value:g} is far above 0.15", field, line)


@rule(
    "DV306",
    "sampling-unset",
    Severity.INFO,
    what="`min_p` or `top_k` unset",
    why="/v1/chat/completions and /v1/responses set the temperature to 1.0 where a client sends "
    "none; these two are the brake that they leave alone.",
    source="measured on Ollama 0.34.4",
    fix="write PARAMETER min_p 0.01 and PARAMETER top_k 64",
)
def _sampling(subject: Subject) -> Iterator[Hit]:
    missing = [each for each in ("min_p", "top_k") if _absent(subject, each)]
    if missing:
        message = f"{' and '.join(missing)} not set"
        yield Hit(message, f"PARAMETER {missing[0]}", _place(subject))


def _each_parameter(subject: Subject) -> Iterator[tuple[str, Sequence[Value]]]:
    yield from (subject.parameters or {}).items()


@rule(
    "DV307",
    "parameter-unknown",
    Severity.ERROR,
    what="A PARAMETER that Ollama does not know",
    why="`ollama create` refuses it; the API takes it without a word, and it does nothing.",
    source="Ollama's api/types.go, 0.34.4; measured",
    fix="correct or remove it",
)
def _unknown(subject: Subject) -> Iterator[Hit]:
    for name, values in _each_parameter(subject):
        if name in PARAMETERS or name in OBSOLETE or name.lower() in _OF_THE_SERVER:
            continue
        near = near_parameter(name)
        fix = f"did you mean {near}?" if near else ""
        yield Hit(f"unknown parameter {name[:40]}", f"PARAMETER {name}", values[0].line, fix)


@rule(
    "DV308",
    "parameter-value",
    Severity.ERROR,
    what="A PARAMETER with a value of a wrong kind",
    why="`ollama create` refuses it, or every chat fails. Ollama knows no comments behind a value.",
    source="Ollama's api/types.go, 0.34.4",
    fix="write a value of the right kind, and comments on lines of their own",
)
def _value(subject: Subject) -> Iterator[Hit]:
    for name, values in _each_parameter(subject):
        known = PARAMETERS.get(name)
        for each in values:
            if known is not None and not known.fits(each.text):
                message = f"{name} wants {known.kind}, not {each.text[:40]!r}"
                yield Hit(message, f"PARAMETER {name}", each.line)


@rule(
    "DV309",
    "server-setting",
    Severity.ERROR,
    what="A setting of the server as PARAMETER, above all the type of the KV cache",
    why="No Modelfile can set it; the server's environment can.",
    source="Ollama's envconfig, 0.34.4",
    fix="set the server's environment: devstral-ollama env shows how",
)
def _server_setting(subject: Subject) -> Iterator[Hit]:
    for name, values in _each_parameter(subject):
        if variable := _OF_THE_SERVER.get(name.lower()):
            message = f"{name} belongs to the server: {variable}"
            yield Hit(message, f"PARAMETER {name}", values[0].line)


@rule(
    "DV310",
    "parameter-obsolete",
    Severity.WARNING,
    what="A PARAMETER that has no effect any more, such as `mirostat`, or is refused, such as "
    "`typical_p`",
    why="Ollama prints a warning and drops it, or refuses to create the model.",
    source="Ollama's parser/parser.go and api/types.go, 0.34.4",
    fix="remove it",
)
def _obsolete(subject: Subject) -> Iterator[Hit]:
    for name, values in _each_parameter(subject):
        if name in OBSOLETE:
            yield Hit(f"{name} has no effect", f"PARAMETER {name}", values[0].line)
        elif name in PARAMETERS and (
            fault := PARAMETERS[name].fault(subject.version or TESTED_SERVER)
        ):
            yield Hit(fault, f"PARAMETER {name}", values[0].line)


@rule(
    "DV311",
    "stop-token",
    Severity.WARNING,
    what="A `stop` that cuts tool calls: `[TOOL_CALLS]`, `[ARGS]`, `{` or a newline",
    why="The answer ends before the call begins.",
    source="Ollama's runner compares stops with the text that the model writes",
    fix="remove it; Devstral ends its turns by `</s>` itself",
)
def _stop(subject: Subject) -> Iterator[Hit]:
    for each in (subject.parameters or {}).get("stop", ()):
        if each.text in ("[TOOL_CALLS]", "[ARGS]", "{", "\n", "\\n", "}"):
            yield Hit(f"stop {each.text!r} cuts tool calls", "PARAMETER stop", each.line)


# Modelfile and system prompt


@rule(
    "DV401",
    "modelfile-syntax",
    Severity.ERROR,
    what="A Modelfile that Ollama refuses: an unknown instruction, a missing name or value",
    why="Ollama stops at the first one; it may also be the rest of a text that ended too early.",
    source="Ollama's parser/parser.go, 0.34.4",
    fix=f"an instruction is one of {', '.join(INSTRUCTIONS)}",
)
def _modelfile(subject: Subject) -> Iterator[Hit]:
    if subject.kind is Kind.MODELFILE and subject.modelfile is not None:
        for fault in subject.modelfile.faults:
            if fault.kind in (FaultKind.INSTRUCTION, FaultKind.NAME):
                yield Hit(fault.message, "", fault.line)


@rule(
    "DV402",
    "quotes-open",
    Severity.ERROR,
    what="Quotes that are not closed",
    why="Everything up to the end of the file belongs to the value, and Ollama refuses it.",
    source="Ollama's parser/parser.go, 0.34.4",
    fix='close the value with `"""` at the end of a line',
)
def _quotes(subject: Subject) -> Iterator[Hit]:
    if subject.kind is Kind.MODELFILE and subject.modelfile is not None:
        for fault in subject.modelfile.faults:
            if fault.kind is FaultKind.QUOTE:
                yield Hit(fault.message, "", fault.line)


@rule(
    "DV403",
    "from-missing",
    Severity.ERROR,
    what="A Modelfile without FROM",
    why="Ollama refuses it.",
    source="Ollama's parser/parser.go, 0.34.4",
    fix="write FROM hf.co/unsloth/Devstral-Small-2507-GGUF:UD-Q4_K_XL, or another's weights",
)
def _from(subject: Subject) -> Iterator[Hit]:
    if subject.kind is Kind.MODELFILE and subject.modelfile is not None:
        for fault in subject.modelfile.faults:
            if fault.kind is FaultKind.NO_FROM:
                yield Hit(fault.message, "FROM", fault.line)


@rule(
    "DV404",
    "control-tokens",
    Severity.ERROR,
    what="A SYSTEM with control tokens in it, such as `[INST]` or `<s>`",
    why="The tokenizer makes control tokens of them wherever they stand: the prompt falls apart.",
    source="mistral-common; measured on Ollama 0.34.4",
    fix="leave them out; the template writes them",
)
def _control_tokens(subject: Subject) -> Iterator[Hit]:
    system = subject.system
    found = [each for each in CONTROL_TOKENS if system and each in system.text]
    if system and found:
        at = min(system.text.index(each) for each in found)
        line = None if system.line is None else system.line + system.text.count("\n", 0, at)
        yield Hit(f"SYSTEM contains {', '.join(found[:4])}", "SYSTEM", line)


@rule(
    "DV405",
    "dropped-characters",
    Severity.WARNING,
    what="Characters that Ollama drops from a Modelfile: those that cannot be printed, such as a "
    "no-break space or a zero-width space",
    why="Words run together; the model gets another text than the one that was written.",
    source="Ollama's parser/parser.go, 0.34.4",
    fix="write a plain space, or create the model over the API, which keeps them",
)
def _dropped(subject: Subject) -> Iterator[Hit]:
    if subject.kind is not Kind.MODELFILE or subject.modelfile is None:
        return
    for each in subject.modelfile.instructions:
        if each.dropped:
            names = ", ".join(f"U+{ord(letter):04X}" for letter, _ in each.dropped[:5])
            yield Hit(f"Ollama drops {names}", each.name, each.dropped[0][1])


@rule(
    "DV406",
    "quotes-inside",
    Severity.WARNING,
    what='`"""` inside a SYSTEM or TEMPLATE',
    why="A Modelfile has no way to escape it: at the end of a line it ends the text, and what "
    "`ollama show --modelfile` prints cannot be created again.",
    source="Ollama's parser/parser.go, 0.34.4",
    fix="write other quotes",
)
def _quotes_inside(subject: Subject) -> Iterator[Hit]:
    system = subject.system
    if system is not None and '"""' in system.text:
        at = system.text.index('"""')
        line = None if system.line is None else system.line + system.text.count("\n", 0, at)
        yield Hit('SYSTEM contains """', "SYSTEM", line)
    template = subject.template
    if template is not None and not template.is_jinja and '"""' in template.text:
        yield Hit('TEMPLATE contains """', "TEMPLATE", template.line_with('"""'))


@rule(
    "DV407",
    "twice",
    Severity.WARNING,
    what="An instruction or a PARAMETER that stands there twice",
    why="Only the last one counts.",
    source="Ollama's parser/parser.go, 0.34.4",
    fix="remove the one that is not meant",
)
def _twice(subject: Subject) -> Iterator[Hit]:
    if subject.kind is not Kind.MODELFILE or subject.modelfile is None:
        return
    seen: dict[tuple[str, str], int] = {}
    for each in subject.modelfile.instructions:
        if each.name in ("FROM", "ADAPTER", "LICENSE", "MESSAGE", "DRAFT") or each.key == "stop":
            continue
        place = (each.name, each.key)
        if place in seen:
            name = f"{each.name} {each.key}".strip()
            yield Hit(f"{name} stands on line {seen[place]} as well", name, each.line)
        seen[place] = each.line


@rule(
    "DV409",
    "adapter",
    Severity.ERROR,
    what=f"ADAPTER, on Ollama {NO_ADAPTERS} or newer",
    why='Ollama answers "LoRA adapters are no longer supported"; models that were made with one '
    "before still load.",
    source="Ollama's server/create.go and cmd/cmd.go, 0.34.4; measured",
    fix="merge it: devstral-ollama merge BASE --adapter FILE, and name what comes out in FROM",
)
def _adapter(subject: Subject) -> Iterator[Hit]:
    if subject.kind is not Kind.MODELFILE or subject.modelfile is None:
        return
    if (subject.version or TESTED_SERVER) < NO_ADAPTERS:
        return
    for each in subject.modelfile.instructions:
        if each.name == "ADAPTER":
            yield Hit(f"ADAPTER is refused since Ollama {NO_ADAPTERS}", "ADAPTER", each.line)


@rule(
    "DV410",
    "from-file-missing",
    Severity.ERROR,
    what="FROM with a file that is not there",
    why="Ollama takes what is no file for a model's name, and asks its library for it.",
    source="Ollama's parser/parser.go, 0.34.4",
    fix="correct the path, which counts from the Modelfile's own folder",
)
def _from_missing(subject: Subject) -> Iterator[Hit]:
    for origin, path in _named_in_from(subject):
        if path is not None and not path.exists():
            yield Hit(f"there is no file {origin.text[:80]}", "FROM", origin.line)


@rule(
    "DV411",
    "from-safetensors",
    Severity.ERROR,
    what="FROM with safetensors: a file, a folder, or a repository on the hub such as one of "
    "4-bit weights by bitsandbytes",
    why="They are for training, or other engines. Ollama 0.34 imports them by MLX alone, which is "
    "Apple's, and no repository without a GGUF can be pulled.",
    source="Ollama's server/create.go, 0.34.4",
    fix="export a GGUF (Unsloth's save_pretrained_gguf, llama.cpp's convert_hf_to_gguf.py), or "
    "take a published one",
)
def _safetensors(subject: Subject) -> Iterator[Hit]:
    for origin, path in _named_in_from(subject):
        if origin.text.lower().endswith(".safetensors") or (
            path is not None and path.is_dir() and any(path.glob("*.safetensors"))
        ):
            yield Hit(f"FROM {origin.text[:80]} is safetensors", "FROM", origin.line)
        elif _ON_HUB.match(origin.text):
            try:
                parse_reference(origin.text, load_catalog())
            except UsageError as error:
                if "no GGUF" in error.what:
                    yield Hit(error.what, "FROM", origin.line, error.fix)


def _named_in_from(subject: Subject) -> Iterator[tuple[Value, Path | None]]:
    """What each FROM of a Modelfile names, and the path that it is; None for a model's name."""
    if subject.kind is not Kind.MODELFILE or subject.modelfile is None:
        return
    for each in subject.modelfile.all("FROM"):
        yield Value(each.value, each.value_line), _path(each.value, subject.directory)


def _path(text: str, directory: Path | None) -> Path | None:
    """The path that a text is in a Modelfile's folder; None where it is none, or lies nowhere."""
    if directory is None:
        return None
    try:
        path = directory / Path(text).expanduser()
        return path if _PATH.match(text) or path.exists() else None
    except (RuntimeError, ValueError, OSError):
        return None


@rule(
    "DV412",
    "from-dropped",
    Severity.ERROR,
    what="FROM with a file beside FROM with a name, as for a projector beside a model",
    why="Ollama makes the model of the name alone, and drops the file without a word.",
    source="measured on Ollama 0.34.4",
    fix="name the weights as a file too, or use create --vision",
)
def _dropped_file(subject: Subject) -> Iterator[Hit]:
    if subject.kind is not Kind.MODELFILE or subject.modelfile is None:
        return
    named = [each for each in subject.modelfile.instructions if each.name == "FROM"]
    files = [each for each in named if each.value.lower().endswith(".gguf")]
    # An address of a single file on the hub is a name.
    files = [each for each in files if not re.match(r"(hf\.co|huggingface\.co)/", each.value)]
    if len(files) < len(named):
        for each in files:
            yield Hit(f"FROM {each.value[:80]} is dropped", "FROM", each.line)


@rule(
    "DV408",
    "release-unknown",
    Severity.INFO,
    what="Nothing tells which Devstral it is",
    why="The formats of v7 and v13 differ; it was held to the default release's.",
    source="this package's catalog",
    fix="name it by --release",
)
def _release(subject: Subject) -> Iterator[Hit]:
    is_model = subject.file_type == "model"
    if subject.release is None and is_model and subject.kind is not Kind.TEMPLATE:
        default = load_catalog().default.name
        yield Hit(f"held to tokenizer {subject.tokenizer.value}, as {default} has it", "FROM")
