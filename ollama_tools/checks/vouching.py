"""Whether the name of a build tells the truth of its weights.

A build's mark is made of its spec and its weights. What a server shows of a model gives all of them
back, so that the mark can be made once more without knowing what somebody wished for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path, PurePosixPath

from ollama_tools.checks.result import Status
from ollama_tools.devstral.carriers import Carrier
from ollama_tools.devstral.catalog import Catalog, Release
from ollama_tools.devstral.catalog_file import load_catalog
from ollama_tools.devstral.system_prompt import SystemOrigin, SystemPrompt
from ollama_tools.errors import UsageError
from ollama_tools.files.digests import short_digest
from ollama_tools.server.client import InstalledModel, find_model
from ollama_tools.server.names import Kind, own_name, same_name
from ollama_tools.server.origin import Origin
from ollama_tools.server.shown import Shown
from ollama_tools.wanted.source import FileSource, HubSource, ServerSource, Source
from ollama_tools.wanted.spec import Spec, normalised
from ollama_tools.wanted.wish import Parameters

_AGAIN = "run devstral-ollama create again"


def judge_weights(
    shown: Shown, models: Sequence[InstalledModel], name: str
) -> tuple[Status, str, str]:
    """Whether the build that a name stands for has the weights that its name vouches for.

    Args:
        shown: The model, as its server shows it.
        models: The models of the server.
        name: The model's name.

    Returns:
        The status, what was seen, and how to mend it.
    """
    current = find_model(list(models), name)
    digest = current.digest.removeprefix("sha256:") if current else ""
    short = short_digest(digest)
    builds = [
        each
        for each in models
        if (own := own_name(each.name)) and own.kind is Kind.BUILD and same_name(own.public, name)
    ]
    if not builds:
        return Status.PASS, short, ""
    served = [each.name for each in builds if each.digest.removeprefix("sha256:") == digest]
    if not served:
        saw = (
            f"{short} is none of its {len(builds)} builds: the name was changed after its creation"
        )
        return Status.FAIL, saw, _AGAIN
    marks = {mark for each in served if (own := own_name(each)) and (mark := own.mark)}
    text = f"{short}, build {', '.join(sorted(marks))}{_weights(shown)}"
    possible = list(_possible_specs(shown, name))
    jinja = shown.template.rstrip("\n") if shown.has_earlier_template else None
    if marks & {spec.mark(shown.blobs, jinja=jinja) for spec in possible}:
        return Status.PASS, text, ""
    if short in marks:
        return Status.PASS, f"{text}; kept as somebody made it by hand", ""
    if {each.casefold() for each in served} & {
        each.casefold() for spec in possible for each in spec.earlier_builds(shown.blobs)
    }:
        saw = f"{text}; the name is of an earlier version, whose marks were of other facts"
        return Status.WARN, saw, _AGAIN
    if shown.origin is None or shown.origin.tag:
        return Status.UNKNOWN, f"{text}; nothing tells where its weights came from", _AGAIN
    saw = f"{text}: its name vouches for other weights or settings than it has"
    return Status.FAIL, saw, _AGAIN


def vouches(shown: Shown, build: InstalledModel | None, name: str) -> bool:
    """Whether the name of a build of a public name fits what the build is made of.

    Args:
        shown: The build, as its server shows it.
        build: The same in the server's list.
        name: The public name.
    """
    own = own_name(build.name) if build is not None else None
    if build is None or own is None:
        return False
    if own.mark == short_digest(build.digest):
        return True
    specs = list(_possible_specs(shown, name))
    earlier = {each.casefold() for spec in specs for each in spec.earlier_builds(shown.blobs)}
    return build.name.casefold() in earlier or own.mark in {
        each.mark(shown.blobs) for each in specs
    }


def _weights(shown: Shown) -> str:
    if shown.weights is None:
        return ""
    origin = f" of {shown.origin}" if shown.origin else ""
    return f", weights {short_digest(shown.weights)}{origin}"


def _possible_specs(shown: Shown, name: str) -> Iterator[Spec]:
    """The specs that a model may have been made of."""
    catalog = load_catalog()
    system = hashlib.sha256(shown.system.encode()).hexdigest()
    prompt = SystemPrompt(SystemOrigin.NONE, system, shown.system)
    carriers = [each for each in Carrier if each.value == shown.carrier]
    if shown.carrier == Carrier.HUB:
        carriers.append(Carrier.SERVER)
    sources = list(_possible_sources(shown, name, catalog))
    for release in catalog.releases:
        for parameters in _possible_parameters(shown, release):
            for source, carrier, native in product(sources, carriers, (True, False)):
                spec = Spec(name, release, source, carrier, prompt, parameters, native)
                yield spec
                if carrier is Carrier.HUB:
                    yield replace(spec, keep_template=True)


def _possible_parameters(shown: Shown, release: Release) -> Iterator[Parameters]:
    """All that the model has; and without what a repository set beside ours (before 0.34)."""
    try:
        found = {
            key: normalised(key, values if key == "stop" else values[-1])
            for key, values in shown.parameters.items()
        }
    except (UsageError, IndexError):
        return
    yield found
    ours = {*release.parameters, "num_ctx"}
    if not found.keys() <= ours:
        yield {key: value for key, value in found.items() if key in ours}


def _possible_sources(shown: Shown, name: str, catalog: Catalog) -> Iterator[Source]:
    yield ServerSource(name, shown.blobs)
    if shown.projectors:
        # The projector may have come from elsewhere.
        yield ServerSource(name, shown.weight_blobs)
    origin = shown.origin
    if origin is None:
        return
    if origin.repository is None:
        yield FileSource(Path(origin.file or ""), origin.sha256)
        return
    for tag in _possible_tags(origin, name, catalog):
        yield HubSource(origin.repository, tag)


def _possible_tags(origin: Origin, name: str, catalog: Catalog) -> Iterator[str]:
    if origin.tag:
        yield origin.tag
    if origin.file is None:
        return
    file = PurePosixPath(origin.file)
    release = catalog.find_by_repository(origin.repository or "")
    if release is not None:
        # A file of the catalog's is one quant's, whatever the name of the model says.
        yield from (
            each.name
            for each in release.quants
            if fnmatchcase(file.name, PurePosixPath(each.filename).name)
        )
        return
    yield name.rpartition(":")[2]
    words = file.stem.split("-")
    yield from ("-".join(words[start:]) for start in range(len(words)))
