"""Modelfiles for people: one on demand, and all of the catalog's as files."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Unpack

from ollama_tools.devstral.carriers import AUTO, EXACT, Carrier
from ollama_tools.devstral.catalog import Catalog, Quant, Release
from ollama_tools.devstral.catalog_file import load_catalog
from ollama_tools.devstral.header import faults_of, require_sound
from ollama_tools.devstral.reference import parse_reference
from ollama_tools.devstral.system_prompt import SystemOrigin, from_hub
from ollama_tools.errors import UsageError
from ollama_tools.files.gguf import read_header
from ollama_tools.files.gguf_rewrite import parts
from ollama_tools.model import modelfile
from ollama_tools.wanted.draft import offline_facts, parse_carrier, require_number
from ollama_tools.wanted.source import FileSource, Source, named_source
from ollama_tools.wanted.spec import Spec
from ollama_tools.wanted.vision import settle
from ollama_tools.wanted.wish import Wish, WishOptions


def render(reference: str, **wish: Unpack[WishOptions]) -> str:
    """The Modelfile that makes a Devstral right on any supported server; asks no server.

    Args:
        reference: What names the weights; see :func:`ollama_tools.ensure_model`.
        **wish: What else is said of the model: the fields of
            :class:`ollama_tools.wanted.wish.Wish`. The system prompt is the bundled one if nothing
            is said, the carrier ``"modelfile"``; ``"hub"`` leaves the template to the GGUF (Ollama
            0.30 and newer).

    Returns:
        The text of the Modelfile.

    Raises:
        UsageError: What was asked for cannot be, or Modelfile text cannot say it.
        HubError: The hub's system prompt was asked for and cannot be had.
    """
    return render_wish(modelfile_wish(reference, **wish), load_catalog())


def modelfile_wish(reference: str, **wish: Unpack[WishOptions]) -> Wish:
    """A wish with what holds for a Modelfile where nothing is said."""
    wish.setdefault("system", "bundled")
    wish.setdefault("carrier", Carrier.MODELFILE.value)
    return Wish(reference=reference, **wish)


def render_wish(wish: Wish, catalog: Catalog, filename: str | None = None) -> str:
    """The Modelfile of a wish; see :func:`render`.

    Args:
        wish: The wish.
        catalog: The catalog.
        filename: Name of the file that it is written to; None for the quant's.
    """
    if wish.via is not None or wish.revision is not None:
        said = "--via" if wish.via is not None else "--revision"
        raise UsageError(
            f"a Modelfile cannot say how or which bytes come: {said}", "use create for that"
        )
    require_number(wish)
    reference = parse_reference(wish.reference, catalog)
    facts = offline_facts(reference, wish, catalog)
    source = named_source(reference, wish)
    if source.is_narrowed:
        raise UsageError(
            f"{wish.reference!r} cannot stand in a Modelfile, which says no commit and no digest",
            "FROM takes a file, or a repository and a quant, as hf.co/owner/name-GGUF:Q4_K_M",
        )
    prompt = facts.systems[0]
    if prompt.origin is SystemOrigin.HUB:
        prompt = from_hub(facts.release)
    if isinstance(source, FileSource) and source.path.exists():
        # ollama create -f takes the file as it is.
        first = parts(source.path)[0]
        faults = faults_of(
            read_header(first), facts.release, keeps_template=bool(wish.keep_template)
        )
        require_sound(str(first), faults, f"use create: devstral-ollama create {source.path}")
    is_left = wish.carrier in (AUTO, EXACT)
    carrier = Carrier.MODELFILE if is_left else parse_carrier(wish.carrier)
    if wish.keep_template:
        carrier = Carrier.HUB
    if carrier is Carrier.GGUF:
        raise UsageError(
            "a Modelfile cannot carry a template inside the GGUF", "use create, or modelfile or hub"
        )
    spec = Spec(
        facts.name,
        facts.release,
        source,
        carrier,
        prompt,
        facts.parameters,
        projector=_projector(wish, facts.release, source),
    )
    return modelfile.render(spec, registry=facts.registry.host, filename=filename)


def _projector(wish: Wish, release: Release, source: Source) -> Path | None:
    """The projector of a model that is made of a file; of a name nothing can be said.

    Raises:
        UsageError: Somebody says it.
    """
    if isinstance(source, FileSource):
        return settle(wish, release, source, asks_hub=False).projector
    if wish.vision or wish.projector is not None:
        raise UsageError(
            "a Modelfile takes a projector only beside a file: of a name and a file behind FROM, "
            "Ollama drops the file without a word",
            "use create; or devstral-ollama download with --vision, then render what it brought",
        )
    if wish.vision is False:
        raise UsageError(
            "a Modelfile cannot keep away a projector that comes with a name behind FROM",
            "use create, which leaves it out",
        )
    return None


def default_modelfiles(catalog: Catalog) -> dict[Path, str]:
    """A Modelfile for each release, with its default quant, by the file's name."""
    found = {}
    for release in catalog.releases:
        path = Path(f"{release.slug}.Modelfile")
        found[path] = render_wish(_plain_wish(release, release.quant()), catalog, path.name)
    return found


def every_modelfile(catalog: Catalog) -> dict[Path, str]:
    """A Modelfile for each quant of each release, by its path below a directory."""
    return {
        Path(release.slug) / f"{quant.name}.Modelfile": render_wish(
            _plain_wish(release, quant), catalog
        )
        for release in catalog.releases
        for quant in release.quants
    }


def _plain_wish(release: Release, quant: Quant) -> Wish:
    return modelfile_wish(f"{release.slug}:{quant.name}")


def write_modelfiles(directory: Path, wanted: Mapping[Path, str]) -> list[Path]:
    """Write Modelfiles, and remove others that lie beside them.

    Args:
        directory: Where they go.
        wanted: Their texts, by their paths below it.

    Returns:
        The paths that were written or removed because they differed.
    """
    changed = []
    for path, (old, new) in sorted(_compared(directory, wanted).items()):
        if old == new:
            continue
        if new is None:
            path.unlink()
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(new, encoding="utf-8")
        changed.append(path)
    return changed


def stale_modelfiles(directory: Path, wanted: Mapping[Path, str]) -> list[str]:
    """Diffs, one for each Modelfile of a directory that is not as it should be.

    Args:
        directory: Where they lie.
        wanted: Their texts, by their paths below it.
    """
    return [
        "".join(
            difflib.unified_diff(
                (old or "").splitlines(keepends=True),
                (new or "").splitlines(keepends=True),
                str(path),
                "rendered",
            )
        )
        for path, (old, new) in sorted(_compared(directory, wanted).items())
        if old != new
    ]


def _compared(
    directory: Path, wanted: Mapping[Path, str]
) -> dict[Path, tuple[str | None, str | None]]:
    """What there is and what there should be, by path; None for no file."""
    folders = {directory / path.parent for path in wanted}
    there = {path for folder in folders for path in folder.glob("*.Modelfile")}
    texts = {directory / path: text for path, text in wanted.items()}
    return {
        path: (path.read_text(encoding="utf-8") if path in there else None, texts.get(path))
        for path in {*there, *texts}
    }
