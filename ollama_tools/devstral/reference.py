"""What a person types to name a model, told apart: quant, hub repository, file, model on a server.

A typing mistake in a quant is never taken for the name of a model on the server, because that
could only fail much later, or pick the wrong model.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NoReturn
from urllib.parse import unquote

from ollama_tools.devstral.catalog import close_matches, suggest
from ollama_tools.errors import UnknownReference

if TYPE_CHECKING:
    from ollama_tools.devstral.catalog import Catalog, Quant, Release

HUB = "hf.co"
"""The hub's name as Ollama spells it in the names of pulled models."""

_MAX_CHARACTERS = 300
_MAIN = "main"
_TYPO_CUTOFF = 0.75
"""Similarity from which a bare word is a mistyped quant rather than a model on the server."""

_WEB_ADDRESS = re.compile(r"https?://", re.IGNORECASE)
_HUB_PREFIX = re.compile(
    r"(?:https?://)?(?:www\.)?(?:hf\.co|huggingface\.co)(?:/|$)", re.IGNORECASE
)
_HUB_ADDRESS = re.compile(
    r"(?P<repository>[\w-][\w.-]*/[\w-][\w.-]*)"
    r"(?:(?:@(?P<revision>[\w.-]+)|/tree/(?P<tree>[\w.-]+)(?:/[^:]*)?)?/?(?::(?P<tag>[\w./ +-]+))?"
    r"|/(?:blob|resolve|raw|tree)/(?P<web_revision>[\w.-]+)/(?P<file>.+\.(?i:gguf)))",
    re.ASCII,
)
_SHOWN_FILE = re.compile(r"[?&]show_file_info=([^&]+)")
_SERVER_NAME = re.compile(
    r"(?:[\w.-]+(?::\d+)?/)?(?:\w[\w.-]*/)*\w[\w.-]*(?::\w[\w.-]*)?", re.ASCII
)
_QUANT_SHAPE = re.compile(r"(?:UD-)?(?:I?Q\d|BF16|F16|F32|TQ\d|MXFP)", re.IGNORECASE)
_WHOLE_QUANT = re.compile(
    r"(?:UD-)?(?:I?Q\d_\w+|BF16|F16|F32|TQ\d_\d|MXFP4(?:_\w+)?)", re.IGNORECASE | re.ASCII
)
_QUANT_OF_FILE = re.compile(
    rf"(?:^|[-._])(?P<quant>{_WHOLE_QUANT.pattern})(?:-\d{{5}}-of-\d{{5}})?\.gguf",
    re.IGNORECASE | re.ASCII,
)
_OTHER_WEIGHTS = re.compile(
    r"(?<![a-z0-9])(bnb-4bit|[48]bit|awq|gptq|exl[23]|mlx|fp8|nvfp4|onnx)(?![a-z0-9])",
    re.IGNORECASE,
)
_BARE_HUB = re.compile(r"[\w-][\w.-]*/[\w.-]+(?:[@:/].*)?", re.ASCII)
_LIBRARY = re.compile(
    r"(?:(?:registry\.)?ollama\.(?:ai|com)/)?(?:library/)?(?P<model>devstral(?:-small-2|-2)?)"
    r"(?::(?P<tag>[\w.-]+))?",
    re.IGNORECASE | re.ASCII,
)
_LIBRARY_RELEASES = {"devstral": ("2507", "2505"), "devstral-small-2": ("2512",)}
_SHA256 = re.compile(r"[0-9a-f]{64}", re.IGNORECASE)
_VERSION = re.compile(r"\d+\.\d+")
_RELEASE_SHAPE = re.compile(r"(?:(?:devstral-)?small-)?\d{4}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class QuantReference:
    """A quant of a release in the catalog.

    Attributes:
        release: The release.
        quant: The quant.
        sha256: Hex digest that the file must have as published; None where nobody pinned it.
    """

    release: Release
    quant: Quant
    sha256: str | None = None

    def __str__(self) -> str:
        return f"{self.release.slug}:{self.quant.name}"

    @property
    def default_name(self) -> str:
        """The public name of a model for which nobody chose one."""
        return str(self)

    @property
    def pull_name(self) -> str:
        """The name under which an Ollama server pulls it from the hub."""
        return f"{HUB}/{self.release.repository}:{self.quant.name}"


@dataclass(frozen=True, slots=True)
class HubReference:
    """A GGUF in any repository of the hub.

    Attributes:
        repository: `owner/name`.
        tag: Quant or file name; None leaves the choice to the hub.
        revision: Commit, branch or tag of the repository; None for its main branch. An Ollama
            server cannot pull a revision: such a file has to be downloaded and uploaded.
        release: The release that it looks like by its name; None where the name says nothing.
        sha256: Hex digest that the file must have as published; None where nobody pinned it.
    """

    repository: str
    tag: str | None
    revision: str | None
    release: Release | None
    sha256: str | None = None

    @property
    def filename(self) -> str | None:
        """The file's path in the repository, where a person named the file."""
        is_file = self.tag is not None and self.tag.lower().endswith(".gguf")
        return self.tag if is_file else None

    @property
    def default_name(self) -> str:
        """The public name of a model for which nobody chose one."""
        owner, _, stem = self.repository.lower().rpartition("/")
        stem = re.sub(r"-gguf$", "", stem)
        tag = re.sub(r"[^A-Za-z0-9_.-]", "-", self.label or "latest").lstrip(".-")
        if self.release is not None and self.release.repository.lower() == self.repository.lower():
            return f"{stem}:{tag}"
        # Two owners may call their repositories the same.
        return f"{re.sub('[^a-z0-9_-]', '-', owner).lstrip('-')}/{stem}:{tag}"

    @property
    def label(self) -> str | None:
        """The tag as part of a name: the quant, also where a whole file was named."""
        if self.tag is None or self.filename is None:
            return self.tag
        quant = _QUANT_OF_FILE.search(self.tag)
        return quant["quant"] if quant else Path(self.tag).stem

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        tag = f":{self.tag}" if self.tag else ""
        return f"{HUB}/{self.repository}{revision}{tag}"

    @property
    def pull_name(self) -> str:
        """The name under which an Ollama server pulls it from the hub; leaves out the revision."""
        return f"{HUB}/{self.repository}:{self.tag or 'latest'}"


@dataclass(frozen=True, slots=True)
class FileReference:
    """A GGUF on this machine; whether it exists has not been looked at.

    Attributes:
        path: Where it lies.
        sha256: Hex digest that it must have; None where nobody pinned it.
    """

    path: Path
    sha256: str | None = None
    release: ClassVar[None] = None

    @property
    def default_name(self) -> str:
        """The public name of a model for which nobody chose one."""
        return re.sub(r"[^a-z0-9_.-]", "-", self.path.stem.lower()).lstrip(".-") or "devstral"

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, slots=True)
class ServerReference:
    """The name of a model on a server; only the server knows whether it exists."""

    name: str
    release: ClassVar[None] = None

    @property
    def default_name(self) -> str:
        """The public name of a model for which nobody chose one."""
        return self.name

    def __str__(self) -> str:
        return self.name


Reference = QuantReference | HubReference | FileReference | ServerReference


_EXAMPLES = (
    "UD-Q4_K_XL",
    "2507",
    "2505:Q4_K_M",
    "hf.co/unsloth/Devstral-Small-2507-GGUF:Q8_0",
    "./my-tune.gguf",
    "my-devstral:latest",
)


def parse_reference(text: str, catalog: Catalog) -> Reference:
    """Find out what a person means.

    Args:
        text: What was typed; white space around it does not count.
        catalog: The known releases.

    Returns:
        What it names. Only a `QuantReference` is sure to exist; the others are well-formed.

    Raises:
        UnknownReference: It can name nothing: malformed, or a quant that does not exist.
    """
    text = text.strip()
    if not text:
        _refuse("an empty reference names no model")
    if len(text) > _MAX_CHARACTERS:
        _refuse(f"a reference of {len(text)} characters names no model")
    if not text.isprintable():
        _refuse(f"{text!r} contains control characters")

    text, pinned, digest = text.partition("@sha256:")
    if not pinned:
        return _parse(text, catalog)
    if not _SHA256.fullmatch(digest):
        raise UnknownReference(
            f"{digest[:80]!r} is no SHA-256", "write all of its 64 digits from 0 to f"
        )
    reference = _parse(text, catalog)
    if isinstance(reference, ServerReference):
        raise UnknownReference(
            f"{text!r} names no file that could be pinned", "pin a quant, a hub reference or a file"
        )
    return replace(reference, sha256=digest.lower())


def _parse(text: str, catalog: Catalog) -> Reference:
    if prefix := _HUB_PREFIX.match(text):
        return _parse_hub(text, text[prefix.end() :], catalog)
    if _WEB_ADDRESS.match(text):
        _refuse(f"{text!r} is not an address on {HUB}")
    if catalog.find_by_repository(re.split("[@:]", text, maxsplit=1)[0]):
        return _parse_hub(text, text, catalog)
    if text.startswith(("/", "./", "../", "~")):
        return _parse_file(text)
    if _BARE_HUB.fullmatch(text) and not _exists(text):
        owner_and_name = "/".join(re.split("[@:/]", text)[:2])
        repositories = {name.lower() for each in catalog.releases for name in _relatives(each)}
        if (
            re.search(r"[_-]gguf$|bnb-4bit$", owner_and_name, re.IGNORECASE)
            or owner_and_name.lower() in repositories
        ):
            return _parse_hub(text, text, catalog)
    if text.lower().endswith(".gguf"):
        return _parse_file(text)
    return _parse_name(text, catalog)


def _relatives(release: Release) -> tuple[str, str]:
    """The repositories of a release that hold its weights in other forms."""
    return release.origin, re.sub(r"-GGUF$", "", release.repository)


def _exists(path: str) -> bool:
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


def explain_library_name(text: str, catalog: Catalog) -> tuple[str, str] | None:
    """What a name of Ollama's own library is, and what to type instead; None for other names."""
    match = _LIBRARY.fullmatch(text)
    if match is None:
        return None
    names = _LIBRARY_RELEASES.get(match["model"].lower(), ("123b",))
    tag = match["tag"] or ""
    if tag.lower().endswith("cloud"):
        what = f"{text!r} runs on Ollama's own machines, so that there are no weights of it to use"
    else:
        what = f"{text!r} is a name of Ollama's library"
    known = [each for each in map(catalog.find_release, names) if each is not None]
    told = guess_release(text, catalog)
    releases = [told] if told in known else known
    wanted = (tag.rpartition("-")[2] or "Q4_K_M").upper()
    typed = [
        f"{each.aliases[0]}:{quant.name}"
        for each in releases
        if (quant := each.find_quant(wanted) or each.find_quant("Q4_K_M") or each.quant())
    ]
    labels = " or ".join(each.name for each in releases)
    return f"{what}, for {labels}", f"use {' or '.join(typed)}"


def guess_release(text: str, catalog: Catalog) -> Release | None:
    """Guess the release from the name of a repository or file.

    Args:
        text: The name, such as `me/my-devstral-2505-GGUF`.
        catalog: The known releases.

    Returns:
        The release whose longest name or alias stands in the text as a whole word; None where none
        does, or where the text does not speak of Devstral: other families count months too.
    """
    if "devstral" not in text.lower():
        return None
    found = [
        # Between aliases of one length, "123b" says more than a month that two releases share.
        ((len(name), not name.isdigit()), release)
        for release in catalog.releases
        for name in release.names
        # A version alone, such as 1.1, may well be that of somebody's fine-tune.
        if not _VERSION.fullmatch(name)
        and re.search(rf"(?<![a-z0-9]){re.escape(name)}(?![a-z0-9])", text, re.IGNORECASE)
    ]
    return max(found, key=lambda candidate: candidate[0])[1] if found else None


def _parse_hub(text: str, address: str, catalog: Catalog) -> QuantReference | HubReference:
    shown = _SHOWN_FILE.search(address)
    match = _HUB_ADDRESS.fullmatch(unquote(re.split("[?#]", address, maxsplit=1)[0]))
    shown_file = unquote(shown[1]) if shown else None
    if not match or ".." in unquote(address) or not f"{match[0]}{shown_file}".isprintable():
        _refuse(f"{text!r} names no repository on the hub")
    repository = match["repository"]
    revision = match["revision"] or match["web_revision"] or match["tree"]
    revision = None if revision == _MAIN else revision
    tag = match["tag"] or match["file"] or shown_file
    # What Ollama writes where a person named none.
    tag = None if tag == "latest" else tag

    release = catalog.find_by_repository(repository)
    if release is None:
        for known in catalog.releases:
            if repository.lower() in map(str.lower, _relatives(known)):
                raise UnknownReference(
                    f"{repository} holds no GGUF", f"use {known.slug}, from {known.repository}"
                )
        guess = guess_release(f"{repository} {tag or ''}", catalog)
        name = repository.partition("/")[2]
        if (other := _OTHER_WEIGHTS.search(name)) and "gguf" not in name.lower():
            known = guess or catalog.default
            raise UnknownReference(
                f"{repository} holds {other[1]} weights, for training or other engines, and no "
                "GGUF",
                f"use {known.slug}, from {known.repository}",
            )
        return HubReference(repository, tag, revision, guess)
    quant = _quant_of_file(release, tag)
    is_whole = tag is not None and (tag.lower().endswith(".gguf") or _WHOLE_QUANT.fullmatch(tag))
    if quant is None and tag is not None and is_whole and release.find_quant(tag) is None:
        # The hub may have more than the catalog, and says what it has where it has not.
        return HubReference(release.repository, tag, revision, release)
    quant = quant or release.quant(tag)
    if revision is None:
        return QuantReference(release, quant)
    return HubReference(release.repository, quant.name, revision, release)


def _quant_of_file(release: Release, filename: str | None) -> Quant | None:
    if filename is None:
        return None
    return next((quant for quant in release.quants if fnmatchcase(filename, quant.filename)), None)


def _parse_file(text: str) -> FileReference:
    try:
        # A name that begins with "./" loses that in a path, and may begin with "~" then.
        is_home = text.startswith("~") and not _exists(text)
        path = Path(text).expanduser() if is_home else Path(text)
    except RuntimeError:
        _refuse(f"{text!r} begins with a user who is not known here")
    # What is there is told by its first bytes, whatever it is called: blobs have no ending.
    if not text.lower().endswith(".gguf") and not _exists(str(path)):
        if not path.is_dir():
            _refuse(f"there is no file {text!r}")
        _refuse_safetensors(path)
        _refuse(f"{text!r} looks like a path, but not like one of a GGUF file")
    return FileReference(path)


def _refuse_safetensors(folder: Path) -> None:
    """Say of a folder what training leaves in it, and how that becomes a GGUF."""
    try:
        files = {each.name for each in folder.iterdir()}
    except OSError:
        return
    if "adapter_config.json" in files:
        raise UnknownReference(
            f"{folder} holds a LoRA adapter as training leaves it, and no GGUF",
            "export the whole model by Unsloth's save_pretrained_gguf; or make a GGUF of the "
            "adapter by llama.cpp's convert_lora_to_gguf.py, and merge it: devstral-ollama merge",
        )
    if any(each.endswith(".safetensors") for each in files):
        raise UnknownReference(
            f"{folder} holds safetensors, for training or other engines, and no GGUF",
            "export one by Unsloth's save_pretrained_gguf or llama.cpp's convert_hf_to_gguf.py",
        )


def _parse_name(text: str, catalog: Catalog) -> QuantReference | ServerReference:
    head, colon, tag = text.partition(":")
    if release := catalog.find_release(head):
        if colon and not tag:
            _refuse(f"{text!r} ends where the quant should follow")
        return QuantReference(release, release.quant(tag or None))
    if quant := catalog.default.find_quant(text):
        return QuantReference(catalog.default, quant)

    quants = [quant.name for quant in catalog.default.quants]
    is_bare = not colon and "/" not in text
    if is_bare and (_QUANT_SHAPE.match(text) or close_matches(text, quants, _TYPO_CUTOFF)):
        raise UnknownReference(
            f"{text!r} is no quant of {catalog.default.name}", suggest(text, quants)
        )
    if _RELEASE_SHAPE.fullmatch(head):
        # Nothing is found here any more; this words the refusal.
        catalog.release(head)
    if not _SERVER_NAME.fullmatch(text) or ".." in text:
        _refuse(f"{text!r} names no model")
    return ServerReference(text)


def _refuse(what: str) -> NoReturn:
    forms = ", ".join(_EXAMPLES)
    raise UnknownReference(what, f"write it like one of: {forms}")
