"""What is linted, in one form for all: a Modelfile, a template, a GGUF, a model on a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path

from ollama_tools.devstral.catalog import Catalog, Release, TokenizerVersion
from ollama_tools.devstral.catalog_file import load_catalog
from ollama_tools.devstral.header import (
    HeaderFault,
    faults_of,
    header_faults,
    template_family,
    told_release,
)
from ollama_tools.devstral.reference import guess_release
from ollama_tools.errors import FileProblem
from ollama_tools.files.gguf import GgufHeader, read_header
from ollama_tools.files.projectors import is_projector, projector_names
from ollama_tools.lint.engines import GoTried
from ollama_tools.lint.fault import TemplateFault, WorkerCrash
from ollama_tools.lint.probes import (
    Prompts,
    Renderer,
    try_go,
    try_jinja,
)
from ollama_tools.server.client import Server, shown_or_broken
from ollama_tools.server.modelfile_text import Instruction, Modelfile, parse_modelfile, read_text
from ollama_tools.server.names import is_build_of, same_name
from ollama_tools.server.shown import Shown
from ollama_tools.server.versions import NATIVE_JINJA, Version, parse_version

_SHARED = "shared.gotmpl"


class Kind(StrEnum):
    """What a subject is."""

    MODELFILE = "Modelfile"
    TEMPLATE = "template"
    GGUF = "GGUF"
    MODEL = "model"


@dataclass(frozen=True, slots=True)
class Value:
    """A text, and the line that it begins on; None where it stands in no file."""

    text: str
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Template:
    """A chat template.

    Attributes:
        text: Its text.
        is_jinja: Whether it is Jinja, not Go.
        line: Line of the file on which it begins; None where it stands in no file.
    """

    text: str
    is_jinja: bool
    line: int | None = None

    def line_of(self, line: int | None) -> int | None:
        """The file's line of one of the template's lines."""
        if self.line is None or line is None:
            return self.line
        found = self.line + line - 1
        return found if found > 0 else self.line

    def line_with(self, text: str) -> int | None:
        """The file's line on which a text first stands, or the first line."""
        at = self.text.find(text)
        return self.line_of(self.text.count("\n", 0, at) + 1 if at >= 0 else 1)


@dataclass
class Subject:
    """Everything that rules look at; None is what is not known, or not part of the kind.

    Attributes:
        label: The path or the model's name, for messages.
        kind: What it is.
        tokenizer: The tokenizer version that it is held to.
        release: The release, where its name or the caller tells.
        template: The chat template.
        parser: Value of ``PARSER``.
        renderer: Value of ``RENDERER``.
        requires: Value of ``REQUIRES``.
        system: The system prompt.
        origin: Value of ``FROM``.
        parameters: Model parameters by name; None for a kind that has none.
        longest_context: Tokens of context that the weights were made for.
        modelfile: The Modelfile as it was read.
        version: The server's version.
        capabilities: What the server thinks the model can do.
        clashing: Other models on the server that use the same weights in a way that excludes this.
        text: Text of the file, for comments that ignore findings.
        directory: Where a file in ``FROM`` is looked for; None for nowhere.
        file_type: What the GGUF calls itself; see
            :attr:`ollama_tools.files.gguf.GgufHeader.type`.
        header_faults: What the header of the weights says otherwise than a Devstral's.
        render: What renders conversations; None for the template's own engine, run here.
        differs: Says how the prompt of a live server differs from the reference, empty where it
            does not; None where no server renders.
    """

    label: str
    kind: Kind
    tokenizer: TokenizerVersion
    release: Release | None = None
    template: Template | None = None
    parser: Value | None = None
    renderer: Value | None = None
    requires: Value | None = None
    system: Value | None = None
    origin: Value | None = None
    parameters: Mapping[str, Sequence[Value]] | None = None
    longest_context: int | None = None
    modelfile: Modelfile | None = None
    version: Version | None = None
    capabilities: tuple[str, ...] | None = None
    clashing: tuple[str, ...] = ()
    text: str = ""
    directory: Path | None = None
    file_type: str = "model"
    header_faults: tuple[HeaderFault, ...] = ()
    render: Renderer | None = field(default=None, repr=False)
    differs: Callable[[], str] | None = field(default=None, repr=False)

    @property
    def is_v13(self) -> bool:
        """Whether it is held to tokenizer v13."""
        return self.tokenizer is TokenizerVersion.V13

    @property
    def is_whole(self) -> bool:
        """Whether all of it could be read, so that what is missing really is."""
        return self.modelfile is None or not self.modelfile.faults

    @cached_property
    def go(self) -> GoTried | TemplateFault | WorkerCrash | None:
        """The Go template, tried, or why it could not be; None where there is none."""
        if self.template is None or self.template.is_jinja:
            return None
        try:
            return try_go(self.template.text, with_system=bool(self._system))
        except (TemplateFault, WorkerCrash) as error:
            return error

    @property
    def is_generic(self) -> bool:
        """Whether it is a Go template that knows no messages, and so neither tools nor history."""
        return isinstance(self.go, GoTried) and not self.go.knows_messages

    @cached_property
    def prompts(self) -> Prompts:
        """What becomes of the probes."""
        if self.template is None:
            return Prompts({})
        match self.go:
            case TemplateFault() as fault:
                return Prompts({}, fault)
            case WorkerCrash() as crash:
                return Prompts({}, crash=crash.message)
            case GoTried() as tried:
                if not tried.says_something:
                    # A file of definitions for other templates to use.
                    return Prompts({})
                render = self.render or (lambda _: tried.rendered)
                return Prompts.of(render, self._system, rendered_by_go=True)
        text, with_system = self.template.text, bool(self._system)
        render = self.render or (lambda _: try_jinja(text, with_system=with_system))
        return Prompts.of(render, self._system, rendered_by_go=False)

    @property
    def _system(self) -> str:
        return self.system.text if self.system else ""


def find_release(asked: str | None, text: str, catalog: Catalog) -> Release | None:
    """The release that was asked for, or that a name tells."""
    return catalog.release(asked) if asked is not None else guess_release(text, catalog)


def choose_tokenizer(
    release: Release | None, template: Template | None, catalog: Catalog, name: str = ""
) -> TokenizerVersion:
    """The format to hold something to: by its release, its file's name or its template's tokens."""
    if release is not None:
        return release.tokenizer
    by_name = [each for each in TokenizerVersion if name.lower().startswith(each.value)]
    if by_name:
        return by_name[0]
    text = template.text if template else ""
    if "[ARGS]" not in text and "[TOOL_CONTENT]" in text:
        return TokenizerVersion.V7
    return catalog.default.tokenizer


def from_path(path: Path, release: str | None = None) -> Subject:
    """The subject of a file, told by its name: template, GGUF, or else a Modelfile.

    Raises:
        FileProblem: It cannot be read.
        UsageError: The release is unknown.
    """
    catalog = load_catalog()
    known = find_release(release, str(path), catalog)
    if path.suffix.lower() == ".gguf":
        return _from_gguf(path, release, catalog)
    if path.suffix.lower() in (".gotmpl", ".jinja", ".jinja2"):
        # The engines that try templates refuse what is too long for one, whatever it stands in.
        text = read_text(path, "template", cut=True)
        template = _template_of_file(path, text)
        return Subject(
            label=str(path),
            kind=Kind.TEMPLATE,
            tokenizer=choose_tokenizer(known, template, catalog, path.name),
            release=known,
            template=template,
            text=text,
        )
    return from_modelfile(read_text(path), str(path), release, directory=path.parent)


def _template_of_file(path: Path, text: str) -> Template:
    if path.suffix.lower() != ".gotmpl":
        return Template(text, is_jinja=True, line=1)
    shared = path.with_name(_SHARED)
    if path.name == _SHARED or not shared.is_file():
        return Template(text.rstrip("\n"), is_jinja=False, line=1)
    # Go templates of one folder share their definitions; a model gets both as one text.
    before = read_text(shared, "template", cut=True)
    return Template(f"{before}{text}".rstrip("\n"), is_jinja=False, line=1 - before.count("\n"))


def _from_gguf(path: Path, release: str | None, catalog: Catalog) -> Subject:
    header = read_header(path)
    told = told_release(header, path, catalog)
    known = told.release if told else None
    known = known if release is None else catalog.release(release)
    template = _template_of_header(header)
    tokenizer = choose_tokenizer(known, template, catalog)
    return Subject(
        label=str(path),
        kind=Kind.GGUF,
        tokenizer=tokenizer,
        release=known,
        template=template,
        longest_context=_context(header),
        file_type=header.type,
        header_faults=_faults(header, known or catalog.default),
    )


def _faults(header: GgufHeader, release: Release) -> tuple[HeaderFault, ...]:
    if header.type != "model":
        return ()
    # A tune in another family's format has its reasons for another end of a turn.
    keeps = template_family(header.chat_template or "") is not None
    return tuple(faults_of(header, release, keeps_template=keeps))


def _template_of_header(header: GgufHeader) -> Template | None:
    text = header.chat_template
    return None if text is None else Template(text, is_jinja=True)


def _context(header: GgufHeader) -> int | None:
    value = header.value("context_length")
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def from_modelfile(
    text: str, label: str, release: str | None = None, *, directory: Path | None = None
) -> Subject:
    """The subject of a Modelfile's text.

    Args:
        text: The text.
        label: The file's path, for messages.
        release: The release it is meant for; None to take it from the names in it.
        directory: Where a file in ``FROM`` is looked for; None for nowhere.
    """
    catalog = load_catalog()
    parsed = parse_modelfile(text)

    def last(name: str) -> Value | None:
        found = parsed.last(name)
        return None if found is None else Value(found.value, found.value_line)

    origin, header = _weights_of(parsed, directory)
    words = [label, origin.text if origin else "", (header.name or "") if header else ""]
    known = find_release(release, " ".join(words), catalog)
    template = last("TEMPLATE")
    shown = Template(template.text, is_jinja=False, line=template.line) if template else None
    parser, renderer = last("PARSER"), last("RENDERER")
    if shown is None and parser is None and renderer is None and header is not None:
        shown = _template_of_header(header)
    longest = _context(header) if header else None
    if longest is None and known is not None:
        longest = known.architecture.context
    return Subject(
        label=label,
        kind=Kind.MODELFILE,
        tokenizer=choose_tokenizer(known, shown, catalog),
        release=known,
        template=shown,
        parser=parser,
        renderer=renderer,
        requires=last("REQUIRES"),
        system=last("SYSTEM"),
        origin=origin,
        parameters=_parameters(parsed.all("PARAMETER")),
        longest_context=longest,
        modelfile=parsed,
        text=text,
        directory=directory,
        file_type=header.type if header else "model",
        header_faults=_faults(header, known or catalog.default) if header else (),
    )


def _weights_of(
    parsed: Modelfile, directory: Path | None
) -> tuple[Value | None, GgufHeader | None]:
    """What the last FROM names that is no projector's, and the header of that file."""
    named = [Value(each.value, each.value_line) for each in reversed(parsed.all("FROM"))]
    found = [(each, _header_of(each, directory)) for each in named]
    models = [
        (each, header)
        for each, header in found
        if not (is_projector(header) if header else projector_names([Path(each.text).name]))
    ]
    return (*models, *found, (None, None))[0]


def _header_of(origin: Value | None, directory: Path | None) -> GgufHeader | None:
    """The header of the file that ``FROM`` names, where it is there and whole."""
    if origin is None or directory is None or not origin.text.lower().endswith(".gguf"):
        return None
    try:
        return read_header(directory / Path(origin.text).expanduser())
    except (FileProblem, RuntimeError, ValueError):
        # What is wrong with the weights is not this file's fault.
        return None


def _parameters(instructions: Sequence[Instruction]) -> dict[str, list[Value]]:
    found: dict[str, list[Value]] = {}
    for each in instructions:
        # Ollama takes names as they are written; capitals are a mistake that a rule speaks of.
        found.setdefault(each.key, []).append(Value(each.value, each.line))
    return found


def from_server(server: Server, name: str, release: str | None = None) -> Subject:
    """The subject of a model on a server.

    Args:
        server: The server.
        name: The model's name there.
        release: The release it is; None to take it from its name and its own words.

    Raises:
        ModelNotFound: There is no such model.
        ServerError: The server does not answer.
    """
    version = parse_version(server.version())
    shown = server.show(name)
    return from_shown(shown, version, list(_others(server, shown)), release)


def from_shown(
    shown: Shown, version: Version | None, others: Sequence[Shown], release: str | None = None
) -> Subject:
    """The subject of a model that its server has shown already.

    Args:
        shown: The model.
        version: The server's version; None where it is none.
        others: The server's models, this one among them or not.
        release: The release it is; None to take it from its name and its own words.
    """
    catalog = load_catalog()
    known = find_release(release, f"{shown.name} {shown.label}", catalog)
    template = Template(shown.template, shown.is_jinja) if shown.template else None
    tokenizer = choose_tokenizer(known, template, catalog)
    keeps = shown.is_jinja and template_family(shown.template) is not None

    def last(directive: str) -> Value | None:
        found = shown.modelfile.last(directive)
        return None if found is None else Value(found.value)

    return Subject(
        label=shown.name,
        kind=Kind.MODEL,
        tokenizer=tokenizer,
        header_faults=tuple(header_faults(shown.header, tokenizer, keeps_template=keeps)),
        release=known,
        template=template,
        parser=Value(shown.parser) if shown.parser else None,
        renderer=last("RENDERER"),
        requires=last("REQUIRES"),
        system=Value(shown.system) if shown.system else None,
        parameters={
            key: [Value(each) for each in values] for key, values in shown.parameters.items()
        },
        longest_context=shown.longest_context,
        version=version,
        capabilities=shown.capabilities,
        clashing=tuple(_clashing(shown, version, others)),
    )


def _others(server: Server, shown: Shown) -> Iterator[Shown]:
    for each in server.models():
        if not same_name(each.name, shown.name):
            other = shown_or_broken(server, each.name)
            # Removed after it was listed, or broken: no reason to say nothing of this one.
            if isinstance(other, Shown):
                yield other


def _clashing(shown: Shown, version: Version | None, others: Sequence[Shown]) -> Iterator[str]:
    # Before, the server had no engine that applies a Jinja by itself.
    if shown.weights is None or version is None or version < NATIVE_JINJA:
        return
    for each in others:
        # Builds are kept for a way back, under names that nobody is told to use.
        if (
            same_name(each.name, shown.name)
            or is_build_of(each.name, shown.name)
            or is_build_of(shown.name, each.name)
        ):
            continue
        differs = bool(each.parser) != bool(shown.parser)
        if each.weights == shown.weights and differs and (each.is_jinja or shown.is_jinja):
            yield each.name
