"""The files of the stand-in hub: miniatures under the names of the real releases."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ollama_tools.devstral import miniature
from ollama_tools.files import gguf_writer
from ollama_tools.files.gguf import parse_header
from tests.testbed import projector
from tests.testbed.cache import cached
from tests.testbed.repository import Content, Repository

TEMPLATES = Path(__file__).parent / "templates"

# The quants that Unsloth publishes for this family.
QUANTS = (
    "BF16",
    "IQ4_NL",
    "IQ4_XS",
    "Q2_K",
    "Q2_K_L",
    "Q3_K_M",
    "Q3_K_S",
    "Q4_0",
    "Q4_1",
    "Q4_K_M",
    "Q4_K_S",
    "Q5_K_M",
    "Q5_K_S",
    "Q6_K",
    "Q8_0",
    "UD-IQ1_M",
    "UD-IQ1_S",
    "UD-IQ2_M",
    "UD-IQ2_XXS",
    "UD-IQ3_XXS",
    "UD-Q2_K_XL",
    "UD-Q3_K_XL",
    "UD-Q4_K_XL",
    "UD-Q5_K_XL",
    "UD-Q6_K_XL",
    "UD-Q8_K_XL",
)
PROJECTOR = "mmproj-F16.gguf"
SYSTEM_PROMPT = "You are Devstral as the test bed knows it.\n"

# In the manner of the template that the hub derives by itself: no tools, and a second <s>.
GO_TEMPLATE = (
    "<s>{{ if .System }}[SYSTEM_PROMPT]{{ .System }}[/SYSTEM_PROMPT]{{ end }}"
    "{{ if .Prompt }}[INST]{{ .Prompt }}[/INST]{{ end }}{{ .Response }}</s>"
)


@dataclass(frozen=True)
class _Release:
    name: str
    architecture: str
    form: miniature.CallForm
    template: str

    @property
    def repository(self) -> str:
        return f"unsloth/{self.name}-GGUF"


_RELEASES = (
    _Release("Devstral-Small-2507", "llama", "v13", "published.jinja"),
    _Release("Devstral-Small-2505", "llama", "v7", "published-v7.jinja"),
    _Release("Devstral-Small-2-24B-Instruct-2512", "mistral3", "v13", "published.jinja"),
    _Release("Devstral-2-123B-Instruct-2512", "mistral3", "v13", "published.jinja"),
)


def devstral_repositories(
    *,
    layers: int = 2,
    heads: int = 8,
    kv_heads: int = 8,
    filler: int = 0,
    quants: Sequence[str] = QUANTS,
    chat_templates: Mapping[str, str] | None = None,
    go_template: str | None = GO_TEMPLATE,
    params: str | None = None,
    system_prompt: str = SYSTEM_PROMPT,
) -> list[Repository]:
    """Makes the repositories of all releases, out of the cache where it has them.

    Every file of a repository is a miniature of its own name and so has a digest of its own.

    Args:
        layers: Transformer blocks of every miniature.
        heads: Query heads.
        kv_heads: Heads of keys and values.
        filler: Zero bytes at the end of every GGUF, for tests of long transfers.
        quants: Which quants there are.
        chat_templates: Jinja by repository (``unsloth/Devstral-Small-2507-GGUF``); the others
            get our stand-in for the published one.
        go_template: Template layer of the registry's manifests; None leaves it out.
        params: Parameter layer of the registry's manifests as JSON text; None leaves it out.
        system_prompt: Text of ``SYSTEM_PROMPT.txt``.
    """
    prompt = Content.of(system_prompt.encode())
    repositories = []
    for release in _RELEASES:
        template = (chat_templates or {}).get(release.repository)
        if template is None:
            template = (TEMPLATES / release.template).read_text()
        shape = {"layers": layers, "heads": heads, "kv_heads": kv_heads, "filler": filler}
        files = _release_files(release, template, quants, shape)
        tags = {quant: f"{release.name}-{quant}.gguf" for quant in quants}
        if "Q4_K_M" in tags:
            tags["latest"] = tags["Q4_K_M"]
        repositories.append(
            Repository(
                name=release.repository,
                files={**files, "SYSTEM_PROMPT.txt": prompt},
                tags=tags,
                family=release.architecture,
                go_template=go_template,
                params=params,
            )
        )
    original = Repository("mistralai/Devstral-Small-2507", {"SYSTEM_PROMPT.txt": prompt})
    return [*repositories, original]


def changed(
    repository: Repository, *quants: str, plain: str = "Hello from the successor."
) -> Repository:
    """Gives models of a repository other bytes under their old names, and of their old size.

    They are miniatures like those before, so a server loads them, and say something else.

    Args:
        repository: One of :func:`devstral_repositories`.
        quants: Tags or file names of miniatures; none means all that have a tag.
        plain: Their new answer without tools, which has to differ from the one before; where its
            length differs, so may the size.

    Raises:
        KeyError: When there is no such file.
    """
    files = dict(repository.files)
    forms = {release.repository: release.form for release in _RELEASES}
    script = miniature.Script(form=forms.get(repository.name, "v13"), plain=plain)
    for path in {repository.tags.get(each, each) for each in quants or repository.tags}:
        files[path] = _successor(path, files[path], script)
    return replace(repository, files=files)


def with_readme(repository: Repository, text: str) -> Repository:
    """Gives a repository another README.md, and changes nothing else.

    Args:
        repository: Any.
        text: What the file says.
    """
    return replace(repository, files={**repository.files, "README.md": Content.of(text.encode())})


def _successor(path: str, content: Content, script: miniature.Script) -> Content:
    def make(into: Path) -> None:
        with content.open() as source:
            header = parse_header(source, content.size, path)
        shape = header.shape()
        miniature.write_miniature(
            into / path,
            layers=shape.layers,
            heads=shape.heads,
            kv_heads=shape.kv_heads,
            chat_template=header.chat_template,
            architecture=header.architecture,
            name=header.name or path,
            script=script,
        )
        # What the old one has behind its tensors, and in any case no less than it has.
        if (into / path).stat().st_size < content.size:
            with (into / path).open("r+b") as file:
                file.truncate(content.size)

    return _cached_files(f"changed-{path}", make, path, content.sha256, repr(script))[path]


def _release_files(
    release: _Release, template: str, quants: Sequence[str], shape: Mapping[str, int]
) -> dict[str, Content]:
    def make(into: Path) -> None:
        for quant in quants:
            name = f"{release.name}-{quant}"
            miniature.write_miniature(
                into / f"{name}.gguf",
                chat_template=template,
                architecture=release.architecture,
                name=name,
                script=miniature.Script(form=release.form),
                **shape,
            )
        projector.write_projector(into / PROJECTOR, name=release.name)

    return _cached_files(release.name, make, repr(release), template, repr(quants), repr(shape))


def _cached_files(name: str, make: Callable[[Path], None], *inputs: str) -> dict[str, Content]:
    """The GGUF files that ``make`` puts into a directory, by name; ``inputs`` tell them apart."""

    def make_with_index(into: Path) -> None:
        make(into)
        contents = {path.name: Content.of(path) for path in sorted(into.glob("*.gguf"))}
        index = {name: [content.size, content.sha256] for name, content in contents.items()}
        (into / "index.json").write_text(json.dumps(index))

    makers = [inspect.getsource(each) for each in (miniature, gguf_writer, projector)]
    key = hashlib.sha256("\0".join([*makers, *inputs]).encode())
    directory = cached(f"models/{name}-{key.hexdigest()[:16]}", make_with_index)
    index = json.loads((directory / "index.json").read_text())
    return {name: Content(directory / name, size, digest) for name, (size, digest) in index.items()}
