"""Reading the catalog's file, `modelfiles/catalog.yaml`.

Reading it checks everything, so that nobody further on has to: a wrong key, type or value ends in
one `CatalogError` that names file, line and reason.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Protocol, Self

from ollama_tools.devstral.catalog import (
    Catalog,
    Quant,
    Release,
    SystemPromptFile,
    TokenizerVersion,
)
from ollama_tools.devstral.quant_sizes import is_exact, tensor_bytes, weight_count
from ollama_tools.errors import CatalogError
from ollama_tools.files.architecture import Architecture
from ollama_tools.files.packaged import data_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import yaml

CATALOG_VARIABLE = "DEVSTRAL_OLLAMA_CATALOG"
"""Environment variable with the path of a catalog to read in place of the packaged one."""

_MAX_FILE_BYTES = 1 << 20
_MAX_DEPTH = 16
_HUB_FILE_LIMIT = 50_000_000_000
"""Bytes above which publishers on the hub cut a file into parts."""


def load_catalog(path: Path | None = None) -> Catalog:
    """Read and check a catalog.

    Args:
        path: The file; None for the one that `DEVSTRAL_OLLAMA_CATALOG` names, and where that is
            unset or empty, for the packaged one, which is read once per process.

    Returns:
        The catalog.

    Raises:
        CatalogError: The file cannot be read or is broken; the message names file, line, reason.
    """
    if path is None:
        if not (named := os.environ.get(CATALOG_VARIABLE)):
            return _packaged_catalog()
        path = Path(named)
    return _read_catalog(path)


@functools.cache
def _packaged_catalog() -> Catalog:
    return _read_catalog(data_path("catalog.yaml"))


def _read_catalog(path: Path) -> Catalog:
    with _Table(_compose(path), path) as table:
        estimates = _estimates(table)
        default_name = table.text("default_release")
        with table.table("releases") as releases:
            found = [_release(releases, name, estimates) for name in releases]
        _refuse_ambiguity(table, found)
        default = next((release for release in found if release.name == default_name), None)
        if default is None:
            table.fail(f"default_release names {default_name!r}, which is not among the releases")
    return Catalog(releases=tuple(found), default=default)


def _compose(path: Path) -> yaml.Node | None:
    """Parse the file into YAML nodes, which know their line, rather than into plain values."""
    import yaml

    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise CatalogError(
            f"{path}:1: cannot be read: {error.strerror}", f"check the path or {CATALOG_VARIABLE}"
        ) from error
    if len(data) > _MAX_FILE_BYTES:
        _fail(path, 1, "larger than 1 MiB: this is no catalog")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        _fail(path, 1 + data.count(b"\n", 0, error.start), "not UTF-8")
    loader: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        _refuse_deep_nesting(path, yaml.parse(text, Loader=loader))
        return yaml.compose(text, Loader=loader)
    except yaml.YAMLError as error:
        # Some versions of libyaml's scanner refuse depth by themselves, before the first event, in
        # words of their own; the one in Python comes only as far as our own bound.
        with contextlib.suppress(yaml.YAMLError):
            _refuse_deep_nesting(path, yaml.parse(text, Loader=yaml.SafeLoader))
        _refuse_yaml(path, error)


def _refuse_yaml(path: Path, error: yaml.YAMLError) -> NoReturn:
    import yaml

    if isinstance(error, yaml.MarkedYAMLError):
        reason = " ".join(filter(None, (error.context, error.problem)))
        _fail(path, _line(error.problem_mark), f"not valid YAML: {reason}")
    _fail(path, 1, f"not valid YAML: {str(error).splitlines()[0]}")


def _refuse_deep_nesting(path: Path, events: Iterable[yaml.Event]) -> None:
    """Look at the nesting before composing: libyaml's composer recurses until the stack is gone."""
    import yaml

    depth = 0
    for event in events:
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _MAX_DEPTH:
            _fail(path, _line(event.start_mark), "nested too deeply")


def _line(mark: _Mark | None) -> int:
    return mark.line + 1 if mark else 1


def _fail(path: Path, line: int, reason: str) -> NoReturn:
    raise CatalogError(f"{path}:{line}: {reason}", "correct the file")


@dataclass(frozen=True, slots=True)
class _Estimates:
    """What is assumed of files whose size no rule tells."""

    header: int
    bits_per_weight: Mapping[str, float]
    source: str


def _estimates(table: _Table) -> _Estimates:
    with table.table("estimates") as estimates:
        with estimates.table("bits_per_weight") as bits:
            per_weight = {name: bits.number(name) for name in bits}
        return _Estimates(estimates.integer("header"), per_weight, estimates.text("source"))


def _release(releases: _Table, name: str, estimates: _Estimates) -> Release:
    with releases.table(name) as table:
        architecture = _architecture(table)
        parameters, places, parameters_source = _parameters(table)
        quants = _quants(table, architecture, estimates)
        default_quant = table.text("default_quant")
        if default_quant not in {quant.name for quant in quants}:
            table.fail(f"default_quant names {default_quant!r}, which is not among the quants")
        return Release(
            name=name,
            aliases=table.texts("aliases"),
            repository=table.text("repository", _REPOSITORY),
            origin=table.text("origin", _REPOSITORY),
            tokenizer=TokenizerVersion(table.text("tokenizer", _TOKENIZER)),
            architecture=architecture,
            parameters=parameters,
            parameters_source=parameters_source,
            default_context=table.integer("default_context"),
            minimum_server=table.text("minimum_server", _VERSION),
            default_quant=default_quant,
            system_prompt=_system_prompt(table) if "system_prompt" in table else None,
            quants=quants,
            source=table.text("source"),
            vision=table.truth("vision") if "vision" in table else False,
            parameter_places=places,
        )


def _architecture(release: _Table) -> Architecture:
    with release.table("architecture") as table:
        return Architecture(
            name=table.text("name"),
            layers=table.integer("layers"),
            heads=table.integer("heads"),
            kv_heads=table.integer("kv_heads"),
            head_dim=table.integer("head_dim"),
            embedding=table.integer("embedding"),
            feed_forward=table.integer("feed_forward"),
            context=table.integer("context"),
            source=table.text("source"),
        )


def _parameters(release: _Table) -> tuple[dict[str, int | float], dict[str, str], str]:
    with release.table("parameters") as table:
        with table.table("values") as values:
            # What Ollama knows and takes is known where a server is.
            places = {name: values.place(name) for name in values}
            found = {name: values.number(name) for name in values}
        return found, places, table.text("source")


def _system_prompt(release: _Table) -> SystemPromptFile:
    with release.table("system_prompt") as table:
        return SystemPromptFile(
            repository=table.text("repository", _REPOSITORY),
            filename=table.text("filename"),
            sha256=table.text("sha256", _SHA256),
            bytes=table.integer("bytes"),
            source=table.text("source"),
        )


def _quants(
    release: _Table, architecture: Architecture, estimates: _Estimates
) -> tuple[Quant, ...]:
    with release.table("quants") as table:
        source = table.text("source")
        pattern = table.text("pattern", _FILE_PATTERN)
        split_pattern = (
            table.text("split_pattern", _FILE_PATTERN) if "split_pattern" in table else ""
        )
        header = table.integer("header") if "header" in table else None
        names = table.texts("names")
        known: dict[str, int] = {}
        if "known" in table:
            with table.table("known") as sizes:
                known = {name: sizes.integer(name) for name in sizes}
        for name in known:
            if name not in names:
                table.fail(f"{name!r} is not among the names", at="known")

        def quant(name: str) -> Quant:
            size, exact, whence = known.get(name, 0), True, source
            if not size:
                size, exact, whence = _computed(name, architecture, header, estimates)
            if not size:
                table.fail(f"bits_per_weight says nothing about {name!r}", at="names")
            split = bool(split_pattern) and size > _HUB_FILE_LIMIT
            filename = (split_pattern if split else pattern).replace("{quant}", name)
            return Quant(name, filename, size, not exact, split, whence)

        _refuse_duplicates(table, "quant", names)
        found = [quant(name) for name in names]
    return tuple(sorted(found, key=lambda each: each.bytes))


def _computed(
    name: str, architecture: Architecture, header: int | None, estimates: _Estimates
) -> tuple[int, bool, str]:
    """The size of a file, whether that is exact, and where it comes from; 0 where nothing tells."""
    if tensors := tensor_bytes(architecture, name):
        exact = header is not None and is_exact(name)
        size = tensors + (estimates.header if header is None else header)
        return size, exact, "llama.cpp's rules for a model of this shape (llama-quant.cpp)"
    per_weight = estimates.bits_per_weight.get(name, 0)
    return round(weight_count(architecture) * per_weight / 8), False, estimates.source


def _refuse_ambiguity(table: _Table, releases: Iterable[Release]) -> None:
    found = tuple(releases)
    if not found:
        table.fail("there is no release", at="releases")
    for what, names in (
        ("name or alias", [name for release in found for name in release.names]),
        ("repository", [release.repository for release in found]),
    ):
        _refuse_duplicates(table, what, names)


def _refuse_duplicates(table: _Table, what: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name.lower() in seen:
            table.fail(f"the {what} {name!r} stands here twice")
        seen.add(name.lower())


@dataclass(frozen=True, slots=True)
class _Form:
    """What a text has to look like, and the words to say so."""

    pattern: str
    words: str


_REPOSITORY = _Form(r"[\w-][\w.-]*/[\w-][\w.-]*", "a repository, owner/name")
_SHA256 = _Form(r"[0-9a-f]{64}", "a sha256, 64 lower-case hex digits")
_VERSION = _Form(r"\d+\.\d+\.\d+", "a version such as 0.15.3")
_TOKENIZER = _Form("|".join(TokenizerVersion), f"one of {', '.join(TokenizerVersion)}")
_FILE_PATTERN = _Form(r".*\{quant\}.*\.gguf", "a file name with {quant} in it")
_ANY_TEXT = _Form(r".*\S.*", "some text")


class _Mark(Protocol):
    """A place in the file, from YAML's C parser or from its Python one."""

    line: int


class _Table:
    """A YAML mapping that is read key by key; what nobody asked for is an error at the end."""

    def __init__(self, node: yaml.Node | None, path: Path) -> None:
        self._path = path
        self._line = _line(node.start_mark if node else None)
        self._nodes: dict[str, yaml.Node] = {}
        self._unread: dict[str, int] = {}
        if node is None:
            self.fail("the file is empty")
        if not _is(node, "map"):
            self.fail(f"expected a table of keys and values, found {_kind(node)}")
        for key, value in node.value:
            line = _line(key.start_mark)
            if not _is(key, "str"):
                _fail(path, line, f"expected a key that is text, found {_kind(key)}")
            if key.value in self._nodes:
                _fail(path, line, f"duplicate key {key.value!r}")
            self._nodes[key.value] = value
            self._unread[key.value] = line

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            for key, line in self._unread.items():
                _fail(self._path, line, f"unknown key {key!r}")

    def __contains__(self, key: str) -> bool:
        return key in self._nodes

    def __iter__(self) -> Iterator[str]:
        return iter(self._nodes)

    def fail(self, reason: str, *, at: str | None = None) -> NoReturn:
        _fail(self._path, _line(self._nodes[at].start_mark) if at else self._line, reason)

    def place(self, key: str) -> str:
        return f"{self._path}:{_line(self._nodes[key].start_mark)}"

    def table(self, key: str) -> _Table:
        return _Table(self._take(key), self._path)

    def text(self, key: str, form: _Form = _ANY_TEXT) -> str:
        return self._text(self._take(key), key, form)

    def texts(self, key: str) -> tuple[str, ...]:
        node = self._take(key)
        if not _is(node, "seq"):
            self.fail(f"{key}: expected a list, found {_kind(node)}", at=key)
        return tuple(self._text(item, key, _ANY_TEXT) for item in node.value)

    def integer(self, key: str) -> int:
        node = self._take(key)
        if not (_is(node, "int") and re.fullmatch(r"[1-9][0-9_]{0,20}", node.value)):
            self.fail(f"{key}: expected a whole number above 0, found {_kind(node)}", at=key)
        return int(node.value.replace("_", ""))

    def truth(self, key: str) -> bool:
        node = self._take(key)
        if not _is(node, "bool"):
            self.fail(f"{key}: expected yes or no, found {_kind(node)}", at=key)
        return str(node.value).casefold() in ("yes", "true", "on")

    def number(self, key: str) -> int | float:
        node = self._take(key)
        if _is(node, "int"):
            return self.integer(key)
        try:
            value = float(node.value) if _is(node, "float") else math.nan
        except ValueError:
            value = math.nan
        if not 0 <= value < math.inf:
            self.fail(f"{key}: expected a number, 0 or above, found {_kind(node)}", at=key)
        return value

    def _take(self, key: str) -> yaml.Node:
        if key not in self._nodes:
            self.fail(f"missing key {key!r}")
        self._unread.pop(key, None)
        return self._nodes[key]

    def _text(self, node: yaml.Node, key: str, form: _Form) -> str:
        line = _line(node.start_mark)
        if not _is(node, "str"):
            advice = "; put it in quotes" if _is(node, "int") or _is(node, "float") else ""
            _fail(self._path, line, f"{key}: expected text, found {_kind(node)}{advice}")
        text: str = node.value
        if not re.fullmatch(form.pattern, text):
            _fail(self._path, line, f"{key}: expected {form.words}, found {_kind(node)}")
        return text


def _is(node: yaml.Node, tag: str) -> bool:
    return bool(node.tag == f"tag:yaml.org,2002:{tag}")


def _kind(node: yaml.Node) -> str:
    """Say what a node is, for error messages: its text, shortened, or its kind."""
    if not isinstance(node.value, str):
        return "a table" if _is(node, "map") else "a list"
    return repr(node.value if len(node.value) <= 40 else f"{node.value[:40]}…")
