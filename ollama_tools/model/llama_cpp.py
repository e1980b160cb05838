"""A Devstral in llama.cpp's own programs: the command line of each, as it is right today.

What the programs do with these options was seen on llama.cpp b10434; several lines of older guides
still run and no longer mean what they did: ``llama-cli`` takes a raw prompt for a user's message,
and ``llama-mtmd-cli`` writes another format without ``--jinja``.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from ollama_tools.devstral.carriers import AUTO, BOS, CONTROL_TOKENS, complete_jinja
from ollama_tools.devstral.catalog import Catalog, Release
from ollama_tools.devstral.catalog_file import load_catalog
from ollama_tools.devstral.context import parse_context
from ollama_tools.devstral.header import faults_of
from ollama_tools.devstral.memory import KvType
from ollama_tools.devstral.reference import parse_reference
from ollama_tools.devstral.system_prompt import BUNDLED, SystemOrigin, from_hub
from ollama_tools.errors import UsageError
from ollama_tools.files.adapter import read_adapter
from ollama_tools.files.gguf import read_header
from ollama_tools.files.gguf_rewrite import parts
from ollama_tools.lint.engines import run_jinja
from ollama_tools.network.hosts import is_loopback_host
from ollama_tools.server.address import resolve_host
from ollama_tools.server.parameters import value_text
from ollama_tools.settings.environment import ServerSettings
from ollama_tools.settings.llama_programs import LlamaProgram, LlamaTarget
from ollama_tools.wanted.draft import choose_release, offline_facts, require_number, system_prompts
from ollama_tools.wanted.source import FileSource, HubSource, Source, named_source
from ollama_tools.wanted.vision import settle
from ollama_tools.wanted.wish import Wish

GUIDE_CONTEXT: Final = 131072
"""Tokens of context where nobody says it: as Unsloth's guide to running Devstral has it."""

_DEFAULT_HOST = "127.0.0.1:8080"
_SETTINGS: Final[Mapping[LlamaTarget, tuple[str, ...]]] = {
    LlamaTarget.SERVER: ("host", "kv_cache_type", "parallel"),
    LlamaTarget.PRESET: ("kv_cache_type", "parallel"),
}
"""What each target takes of Ollama's settings; the others take the type of the KV cache."""
_PARAMETERS: Final[Mapping[str, str]] = {
    "num_thread": "--threads",
    "num_ctx": "--ctx-size",
    "num_gpu": "--n-gpu-layers",
    "seed": "--seed",
    "temperature": "--temp",
    "repeat_penalty": "--repeat-penalty",
    "min_p": "--min-p",
    "top_k": "--top-k",
    "top_p": "--top-p",
    "num_predict": "--predict",
    "num_keep": "--keep",
    "num_batch": "--batch-size",
    "repeat_last_n": "--repeat-last-n",
    "presence_penalty": "--presence-penalty",
    "frequency_penalty": "--frequency-penalty",
}
"""The option for each of Ollama's model parameters, in the order in which they are printed."""

# Unsloth's guide has these beside the recommended parameters.
_GUIDE: Final[Mapping[str, int]] = {"num_thread": -1, "num_gpu": 99, "seed": 3407}


@dataclass(frozen=True, slots=True)
class FileText:
    """The text of a file as an argument, where a program takes no file there."""

    path: Path

    def __str__(self) -> str:
        return self.path.read_text(encoding="utf-8").rstrip("\n")


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a command line.

    Attributes:
        flag: Its flag.
        value: Its value; None for a flag without one.
    """

    flag: str
    value: str | FileText | None = None

    @property
    def arguments(self) -> list[str]:
        """As the program gets it."""
        return [self.flag] if self.value is None else [self.flag, str(self.value)]

    @property
    def shell(self) -> str:
        """As a shell reads it."""
        match self.value:
            case None:
                return self.flag
            case FileText(path):
                return f'{self.flag} "$(cat {shlex.quote(str(path))})"'
            case text:
                return f"{self.flag} {shlex.quote(text)}"


@dataclass(frozen=True, slots=True)
class CommandLine:
    """How a program of llama.cpp is started.

    Attributes:
        target: What runs.
        program: Its name, or the path to it.
        name: The model's name for clients of a server.
        options: Its options.
        more: Further arguments, as a person gave them.
        notes: What a person should know beside it.
    """

    target: LlamaTarget
    program: str
    name: str
    options: tuple[Option, ...]
    more: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def arguments(self) -> list[str]:
        """The program and its arguments."""
        own = [word for each in self.options for word in each.arguments]
        return [self.program, *own, *self.more]

    @property
    def shell(self) -> str:
        """The same for a shell, over several lines."""
        lines = [shlex.quote(self.program), *(each.shell for each in self.options)]
        if self.more:
            lines.append(shlex.join(self.more))
        return " \\\n    ".join(lines)

    @property
    def preset(self) -> str:
        """The same as a preset of ``llama-server``'s router (common/preset.cpp of llama.cpp).

        Raises:
            UsageError: Such a file has no way to say something of it.
        """
        if self.more:
            raise UsageError(
                f"a preset takes no further arguments: {' '.join(self.more)}",
                "give them to llama-server, where they hold for every model",
            )
        lines = [
            "; Made by devstral-ollama, for: llama-server --models-preset FILE --host 127.0.0.1",
            "version = 1",
            "",
            f"[{_ini(self.name)}]",
        ]
        for each in self.options:
            value = "true" if each.value is None else _ini(str(each.value))
            lines.append(f"{each.flag.lstrip('-')} = {value}")
        return "\n".join(lines)

    def suited(self, program: LlamaProgram) -> CommandLine:
        """The same for a program of some version.

        Raises:
            UsageError: It is too old.
        """
        options = [
            # Where a program knows of no projectors by itself, none comes along.
            each
            for each in self.options
            if each.flag != "--no-mmproj" or each.flag in program.flags
        ]
        quantized = Option("--cache-type-v", KvType.F16.value) not in options
        if quantized and program.flags.get("--flash-attn") is False:
            # Before August 2025 it was off, and a flag without a value (llama.cpp#15434).
            options.insert(0, Option("--flash-attn"))
        program.require(dict.fromkeys(each.flag for each in options))
        return replace(self, program=program.path, options=tuple(options))


def _ini(text: str) -> str:
    # A value ends before the first of these, and nothing quotes them.
    if re.search(r"[;#\]\r\n]", text) or text != text.strip():
        raise UsageError(f"a preset cannot say {text!r}", "choose a path or name without it")
    return text


def command_line(
    wish: Wish,
    target: LlamaTarget,
    settings: Mapping[str, Any],
    *,
    prompt: str | None = None,
    more: Sequence[str] = (),
    adapter: Path | None = None,
) -> CommandLine:
    """The command line that runs a Devstral.

    Args:
        wish: What is wanted of the model; its context is :data:`GUIDE_CONTEXT` if nothing is said,
            its system prompt this package's.
        target: What runs it.
        settings: Fields of :class:`ServerSettings` that were asked for.
        prompt: What the person says; None for a conversation in the terminal.
        more: Further arguments of the program.
        adapter: A LoRA adapter that is applied to the weights when they are loaded.

    Raises:
        UsageError: What was asked for cannot be.
    """
    catalog = load_catalog()
    _refuse_unheard(wish, target, settings)
    require_number(wish)
    reference = parse_reference(wish.reference, catalog)
    facts = offline_facts(reference, wish, catalog)
    kv = ServerSettings(**{key: settings[key] for key in settings if key != "host"})
    if prompt is not None:
        if target.serves:
            raise UsageError(f"{target} takes no prompt: its clients do", "leave out --prompt")
        check_prompt(prompt)
    source = named_source(reference, wish)
    options = [
        *_model(source, wish, facts.release, target, more),
        *_mended(source, facts.release, wish),
    ]
    if adapter is not None:
        read_adapter(adapter, facts.release.architecture.name)
        options.append(Option("--lora", str(adapter)))
    options += _numbers(wish, facts.release, facts.parameters, kv.kv_cache_type)
    notes: list[str] = []
    if target.serves:
        options.append(Option("--parallel", str(kv.parallel)))
        options += _template(facts.release, wish, target)
        # The router cuts a section's name, UD- and all that stands before the last hyphen or dot.
        options.append(Option("--alias", facts.name))
        if target is LlamaTarget.SERVER:
            options += _listening(str(settings.get("host", _DEFAULT_HOST)), notes)
        notes.append("llama-server has no system prompt of its own: its clients send theirs")
    else:
        options += _talk(facts.release, wish, target, prompt, more)
    return CommandLine(
        target, target.program, facts.name, tuple(options), tuple(more), tuple(notes)
    )


def check_prompt(prompt: str) -> None:
    """Refuse a prompt with control tokens: llama.cpp takes their names for them wherever they are.

    Raises:
        UsageError: It has some, or is empty.
    """
    if not prompt.strip():
        raise UsageError("the prompt is empty", "say something, or leave out --prompt")
    found = [each for each in CONTROL_TOKENS if each in prompt]
    if BOS in found:
        raise UsageError(
            f"the prompt contains {BOS}, which llama.cpp writes itself: a second one spoils it",
            "leave it out",
        )
    if found:
        raise UsageError(
            f"the prompt contains the control token {found[0]}",
            "give only what the person says: [INST] and the like are put around it",
        )


def raw_prompt(release: Release, system: str, prompt: str) -> str:
    """The whole prompt of a first message as text, its BOS token left out.

    Args:
        release: The Devstral whose format holds.
        system: The system prompt; empty for none.
        prompt: What the person says.

    Raises:
        UsageError: The prompt has control tokens in it.
    """
    check_prompt(prompt)
    messages = [{"role": "user", "content": prompt}]
    if system:
        messages.insert(0, {"role": "system", "content": system})
    template = complete_jinja(release.tokenizer).read_text(encoding="utf-8")
    [rendered] = run_jinja(template, [{"messages": messages, "bos_token": "", "eos_token": "</s>"}])
    if rendered.prompt is None:
        raise ValueError(f"the template fails: {rendered.fault}")
    return rendered.prompt


def wished_prompt(wish: Wish, catalog: Catalog, prompt: str) -> str:
    """:func:`raw_prompt` for the release and the system prompt of a wish.

    Raises:
        UsageError: What was asked for cannot be.
    """
    reference = parse_reference(wish.reference, catalog)
    release = choose_release(wish.release, str(reference), reference.release, catalog)
    return raw_prompt(release, _system_text(wish, release), prompt)


def _refuse_unheard(wish: Wish, target: LlamaTarget, settings: Mapping[str, Any]) -> None:
    """Refuse what llama.cpp's programs have no use for."""
    if wish.carrier != AUTO:
        raise UsageError(
            "llama.cpp gets the template as a file, so there is no carrier to choose",
            "leave out --carrier",
        )
    if wish.registry is not None:
        raise UsageError(
            "llama.cpp pulls from the hub, and from no registry of Ollama's",
            "leave out --registry; HF_ENDPOINT names a mirror of the hub for llama.cpp as well",
        )
    if wish.via is not None or wish.revision is not None:
        said = "--via" if wish.via is not None else "--revision"
        raise UsageError(
            f"-hf cannot say how or which bytes come: {said}",
            "download the file, and name it, as in ./my.gguf",
        )
    if wish.name is not None and not target.serves:
        raise UsageError(
            f"in {target} a model has no name", "leave out --name, or use --target llama-server"
        )
    if wish.system is not None and target.serves:
        raise UsageError(
            "llama-server has no system prompt of its own: its clients send theirs",
            "leave out --system and --no-system",
        )
    known = _SETTINGS.get(target, ("kv_cache_type",))
    unheard = [f"--{each.replace('_', '-')}" for each in settings if each not in known]
    if unheard:
        raise UsageError(
            f"{target} takes none of Ollama's settings {', '.join(unheard)}",
            "leave them out; options of llama.cpp itself go behind --",
        )


def _model(
    source: Source, wish: Wish, release: Release, target: LlamaTarget, more: Sequence[str]
) -> Iterator[Option]:
    if source.is_narrowed:
        raise UsageError(
            "llama.cpp holds a model to no commit and no digest",
            "download the file, and name it, as in ./my.gguf",
        )
    match source:
        case HubSource(repository=repository, tag=tag, filename=filename):
            if tag.lower().endswith(".gguf"):
                yield Option("-hf", repository)
                yield Option("-hff", filename or tag)
            else:
                yield Option("-hf", f"{repository}:{tag}")
        case FileSource(path=path):
            yield Option("-m", str(path))
        case _:
            raise UsageError(
                f"{str(source)!r} is a model on an Ollama server, which llama.cpp cannot reach",
                "name a quant, hf.co/owner/name-GGUF:Q4_K_M or ./my.gguf",
            )
    yield from _projector(source, wish, release, target, more)


def _projector(
    source: HubSource | FileSource,
    wish: Wish,
    release: Release,
    target: LlamaTarget,
    more: Sequence[str],
) -> Iterator[Option]:
    """What lets the model see images, or keeps it from that."""
    if target is LlamaTarget.COMPLETION:
        if wish.vision or wish.projector is not None:
            raise UsageError(
                "llama-completion goes on with a text, and sees no images",
                "leave out --vision and --projector, or use --target llama-cli",
            )
        return
    if {"--mmproj", "-mm"} & set(more):
        if wish.projector is not None or wish.vision is False:
            raise UsageError(
                "the projector is named behind -- as well", "name it once, by --projector"
            )
        return
    shown = target is LlamaTarget.MTMD or "--image" in more
    if shown and wish.vision is False:
        raise UsageError("no image is seen without vision", "leave out --no-vision or the image")
    sight = settle(
        replace(wish, vision=True if shown else wish.vision), release, source, asks_hub=True
    )
    if sight.projector is not None:
        yield Option("--mmproj", str(sight.projector))
    elif isinstance(source, HubSource) and sight.vision is False:
        # Else the projector comes along: another 0.9 GB, of disk and of memory.
        yield Option("--no-mmproj")


def _mended(source: Source, release: Release, wish: Wish) -> Iterator[Option]:
    """What puts right what a file's header says wrongly, when it is loaded."""
    if not isinstance(source, FileSource) or not source.path.exists():
        return
    header = read_header(parts(source.path)[0])
    for fault in faults_of(header, release, keeps_template=bool(wish.keep_template)):
        yield Option("--override-kv", fault.override)


def _numbers(
    wish: Wish, release: Release, parameters: Mapping[str, Any], kv: KvType
) -> Iterator[Option]:
    said = {**_GUIDE, **parameters}
    if parse_context(wish.context) is None and "num_ctx" not in wish.parameters:
        said["num_ctx"] = min(GUIDE_CONTEXT, release.architecture.context)
    for name in said:
        if name not in _PARAMETERS:
            raise UsageError(
                f"there is no option of llama.cpp's programs for the parameter {name}",
                "leave it out; options of llama.cpp itself go behind --",
            )
    for name, flag in _PARAMETERS.items():
        if name in said:
            yield Option(flag, value_text(said[name]))
        if name == "num_ctx":
            yield Option("--cache-type-k", kv.value)
            yield Option("--cache-type-v", kv.value)
        if name == "seed":
            yield Option("--prio", "2")


def _template(release: Release, wish: Wish, target: LlamaTarget) -> Iterator[Option]:
    path = complete_jinja(release.tokenizer)
    # Off by default in some programs and some versions; behind it, a template may be any Jinja.
    yield Option("--jinja")
    if wish.keep_template:
        return
    if target is LlamaTarget.MTMD:
        yield Option("--chat-template", FileText(path))
    else:
        yield Option("--chat-template-file", str(path))


def _listening(host: str, notes: list[str]) -> Iterator[Option]:
    if not re.search(r":\d+/?$", host):
        host = f"{host}:8080"
    parts = urlsplit(resolve_host(host))
    # What means every interface is loopback for who asks, and not for who listens.
    everyone = re.match(r"(?:\w+://)?(0\.0\.0\.0|\[::\]|(?=:\d))", host)
    address = (everyone[1].strip("[]") or "0.0.0.0") if everyone else str(parts.hostname)  # noqa: S104
    if not is_loopback_host(address):
        notes.append("who reaches that address may use the server: add -- --api-key-file FILE")
    yield Option("--host", address)
    yield Option("--port", str(parts.port))


def _talk(
    release: Release, wish: Wish, target: LlamaTarget, prompt: str | None, more: Sequence[str]
) -> Iterator[Option]:
    """Template, system prompt and prompt of a program that is no server."""
    system = _system_text(wish, release)
    if target is LlamaTarget.COMPLETION:
        if prompt is None:
            raise UsageError(
                "llama-completion goes on with a prompt as it is, so it needs one",
                "add --prompt TEXT, or use --target llama-cli for a conversation",
            )
        yield Option("--no-conversation")
        yield Option("--no-escape")
        yield Option("--prompt", raw_prompt(release, system, prompt))
        return
    yield from _template(release, wish, target)
    if system:
        yield _system_option(system, wish, target)
    if prompt is None:
        return
    if target is LlamaTarget.CLI:
        yield Option("--single-turn")
    elif "--image" not in more:
        raise UsageError(
            "llama-mtmd-cli takes a prompt only with an image",
            "add -- --image FILE, or leave out --prompt for a conversation",
        )
    # Else llama.cpp makes a line break of each backslash with an n behind it.
    yield Option("--no-escape")
    yield Option("--prompt", prompt)


def _system_text(wish: Wish, release: Release) -> str:
    """The text of the system prompt; this package's where nothing is said."""
    found = system_prompts("bundled" if wish.system is None else wish.system, release)[0]
    if found.origin is SystemOrigin.HUB:
        found = from_hub(release)
    return found.text or ""


def _system_option(text: str, wish: Wish, target: LlamaTarget) -> Option:
    path = BUNDLED if wish.system in (None, "bundled") else Path(str(wish.system))
    # Of a file the programs drop one newline at its end, and nothing else.
    if wish.system == "hub" or path.read_bytes() not in (text.encode(), f"{text}\n".encode()):
        return Option("--system-prompt", text)
    if target is LlamaTarget.MTMD:
        return Option("--system-prompt", FileText(path))
    return Option("--system-prompt-file", str(path))
