"""From a wish to the specs that would do: by the catalog alone, then by what a server has."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ollama_tools.devstral import system_prompt as system
from ollama_tools.devstral.carriers import AUTO, EXACT, Carrier
from ollama_tools.devstral.catalog import Catalog, Release
from ollama_tools.devstral.context import is_auto, parse_context
from ollama_tools.devstral.header import (
    Told,
    require_fit,
    require_model,
    told_release,
)
from ollama_tools.devstral.reference import (
    FileReference,
    Reference,
    explain_library_name,
    guess_release,
)
from ollama_tools.devstral.system_prompt import SystemPrompt
from ollama_tools.errors import UsageError
from ollama_tools.files.gguf import read_header
from ollama_tools.files.gguf_rewrite import parts
from ollama_tools.network.hosts import is_loopback
from ollama_tools.server.names import public_name
from ollama_tools.server.versions import NATIVE_JINJA, Version, carriers
from ollama_tools.wanted.source import Source
from ollama_tools.wanted.spec import Spec, merge_parameters
from ollama_tools.wanted.vision import check_vision, settle
from ollama_tools.wanted.wish import Parameters, Via, Wish


@dataclass(frozen=True, slots=True)
class RegistryAddress:
    """Where a server pulls from.

    Attributes:
        host: ``hf.co``, or ``host:port`` of a mirror.
        insecure: Whether it is reached by plain HTTP.
    """

    host: str = "hf.co"
    insecure: bool = False

    @property
    def is_hub(self) -> bool:
        """Whether it is the hub's own, and no mirror."""
        return self.host.casefold() in ("hf.co", "huggingface.co")

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http{'' if self.insecure else 's'}://{self.host}"


@dataclass(frozen=True, slots=True)
class Offline:
    """What a wish says before any server is asked.

    Where its context is left to what fits, its parameters have a stand-in for it.

    Attributes:
        name: The public name.
        release: The Devstral whose format holds.
        parameters: The model's parameters.
        systems: The system prompts that would do, the best first.
        via: How the bytes shall come; None where nobody said it.
        registry: Where a server pulls from.
        told: What tells which Devstral a file of this machine is; None where the person said it.
    """

    name: str
    release: Release
    parameters: Parameters
    systems: tuple[SystemPrompt, ...]
    via: Via | None
    registry: RegistryAddress
    told: Told | None = None


def offline_facts(reference: Reference, wish: Wish, catalog: Catalog) -> Offline:
    """Everything that can be said, and refused, before any server is asked.

    Raises:
        UsageError: What was asked for cannot be.
    """
    check_vision(wish)
    told = _told_by_file(reference, wish, catalog)
    known = told.release if told else reference.release
    release = choose_release(wish.release, str(reference), known, catalog)
    return Offline(
        name=public_name(wish.name if wish.name is not None else reference.default_name),
        release=release,
        parameters=merge_parameters(release, _context(wish), wish.parameters),
        systems=system_prompts(wish.system, release),
        via=parse_via(wish.via),
        registry=parse_registry(wish.registry),
        told=told,
    )


def _told_by_file(reference: Reference, wish: Wish, catalog: Catalog) -> Told | None:
    """Which Devstral a file is that is here; a file of another machine is not looked at.

    Raises:
        UsageError: It cannot be what is wished; nothing of it is hashed for that.
    """
    if not isinstance(reference, FileReference) or not reference.path.exists():
        return None
    header = read_header(parts(reference.path)[0])
    require_model(header)
    if wish.release is not None:
        require_fit(header, catalog.release(wish.release), keep_template=wish.keep_template)
        return None
    if told := told_release(header, reference.path, catalog):
        require_fit(header, told.release, keep_template=wish.keep_template)
    return told


def _context(wish: Wish) -> int | None:
    if not is_auto(wish.context):
        return parse_context(wish.context)
    if "num_ctx" in wish.parameters:
        raise UsageError("the context is given twice: auto and num_ctx", "give it once")
    return None


def require_number(wish: Wish) -> None:
    """Refuse a context that only a server's memory could say.

    Raises:
        UsageError: It is left to what fits.
    """
    if is_auto(wish.context):
        raise UsageError(
            "no server is asked here, so that nothing tells which context fits",
            "name a number, see: devstral-ollama fit",
        )


def choose_release(
    asked: str | None, text: str, known: Release | None, catalog: Catalog
) -> Release:
    """The Devstral whose format holds: asked for, known, or guessed from a name."""
    if asked is not None:
        return catalog.release(asked)
    found = known or guess_release(text, catalog)
    if found is None:
        names = ", ".join(each.aliases[0] for each in catalog.releases)
        if explained := explain_library_name(text, catalog):
            what, fix = explained
            raise UsageError(
                what, f"{fix}; where the server has it, name its --release as well ({names})"
            )
        raise UsageError(
            f"nothing tells which Devstral {text!r} is", f"name it by --release ({names})"
        )
    return found


def system_prompts(wish: str | Path | None, release: Release) -> tuple[SystemPrompt, ...]:
    """The system prompts that would do, the best first; the hub's is known by digest alone.

    Raises:
        UsageError: The hub is known to have none, or a file is none that a Modelfile can carry.
    """
    announced = system.announced_by_hub(release)
    match wish:
        case None:
            return (announced, system.bundled()) if announced else (system.bundled(),)
        case "":
            return (system.NO_SYSTEM,)
        case "bundled":
            return (system.bundled(),)
        case "hub":
            if announced is None:
                raise UsageError(
                    f"no system prompt on the hub is known for {release.name}",
                    "use --system bundled or --system FILE",
                )
            return (announced,)
        case _:
            return (system.from_file(Path(wish)),)


def parse_via(text: str | None) -> Via | None:
    """``upload``, ``server`` or None.

    Raises:
        UsageError: Another word.
    """
    if text is None:
        return None
    try:
        return Via(text)
    except ValueError:
        raise UsageError(
            f"{text!r} is no way for the bytes", "use --via upload or server"
        ) from None


def parse_registry(text: str | None) -> RegistryAddress:
    """``hf.co`` where nothing is said; ``http://`` or a loopback host means plain HTTP.

    Raises:
        UsageError: The text is no host.
    """
    if text is None:
        return RegistryAddress()
    if "@" in text:
        raise UsageError(
            "the registry's address contains a password, which no server would send: Ollama pulls "
            "without a login",
            "let the registry know the servers by their addresses, or use --via upload",
        )
    match = re.fullmatch(r"(?:(https?)://)?([A-Za-z0-9_.-]+(?::\d{1,5})?)/?", text)
    if match is None:
        raise UsageError(f"{text!r} is not the host of a registry", "as in mirror.example:5000")
    host = match[2]
    insecure = match[1] == "http" or (match[1] is None and is_loopback(f"http://{host}"))
    return RegistryAddress(host, insecure=insecure)


def choose_via(wish: Wish, asked: Via | None, *, local: bool) -> Via:
    """How the bytes come where nobody says it: through this machine where that costs no network.

    A mirror is something that servers pull from, and a template in the GGUF has to be put there on
    its way, so naming either says it too.
    """
    if asked is not None:
        return asked
    if wish.registry is not None:
        return Via.SERVER
    return Via.UPLOAD if local or wish.carrier == Carrier.GGUF else Via.SERVER


def candidates(
    source: Source, offline: Offline, wish: Wish, version: Version, via: Via
) -> tuple[Spec, ...]:
    """The specs that would do, the best first.

    Raises:
        UsageError: The carrier that was asked for is none, or cannot be had here; or the model
            cannot see images.
        FileProblem: A file cannot be read.
    """
    branch = source.branch
    if branch is not None and via is Via.SERVER:
        # Of a commit the hub can say which weights they are, and what arrived is held to that.
        raise UsageError(
            f"a server cannot pull the revision {branch!r}", "use --via upload, or name the commit"
        )
    possible = carriers(version, rewritable=source.passes_here(via))
    if wish.keep_template:
        possible = (_own_carrier(wish.carrier, version),)
    elif wish.carrier == EXACT or (wish.keep_template is False and wish.carrier == AUTO):
        possible = tuple(each for each in possible if each is not Carrier.HUB)
    elif wish.keep_template is False and wish.carrier == Carrier.HUB:
        raise UsageError(
            "the carrier 'hub' is the file's own template",
            "leave out --carrier or --no-keep-template",
        )
    elif wish.carrier != AUTO:
        possible = (_asked_carrier(wish.carrier, possible, version),)
    asks_hub = via is Via.UPLOAD or offline.registry.is_hub
    sight = settle(wish, offline.release, source, asks_hub=asks_hub)
    return tuple(
        Spec(
            name=offline.name,
            release=offline.release,
            source=sight.source,
            carrier=carrier,
            system=prompt,
            parameters=offline.parameters,
            native=version >= NATIVE_JINJA,
            vision=sight.vision,
            projector=sight.projector,
            keep_template=wish.keep_template,
        )
        for prompt in offline.systems
        for carrier in possible
    )


def parse_carrier(word: str) -> Carrier:
    """A carrier by its name.

    Raises:
        UsageError: There is none of that name.
    """
    try:
        return Carrier(word)
    except ValueError:
        raise UsageError(
            f"{word!r} is no carrier of a template", f"use {', '.join((AUTO, EXACT, *Carrier))}"
        ) from None


def _own_carrier(word: str, version: Version) -> Carrier:
    """The carrier of a template that is the file's own."""
    if word not in (AUTO, Carrier.HUB):
        if word != EXACT:
            parse_carrier(word)
        raise UsageError(
            f"with the carrier {word!r} a file's own template is not used",
            "leave out --carrier or --keep-template",
        )
    if version < NATIVE_JINJA:
        raise UsageError(
            f"a file's own template is used from Ollama {NATIVE_JINJA} on, the server is {version}",
            "upgrade the server, or put Devstral's in its place by --no-keep-template",
        )
    return Carrier.HUB


def _asked_carrier(word: str, possible: tuple[Carrier, ...], version: Version) -> Carrier:
    carrier = parse_carrier(word)
    # Whether the server really applies our template is for the live check to tell.
    if carrier in possible or (carrier is Carrier.SERVER and version >= NATIVE_JINJA):
        return carrier
    if version < NATIVE_JINJA:
        raise UsageError(
            f"the carrier {word!r} needs Ollama {NATIVE_JINJA} or newer, the server is {version}",
            "use --carrier modelfile, or upgrade the server",
        )
    raise UsageError(
        f"the carrier {word!r} needs weights that pass through this machine",
        "use --via upload, or --carrier hub",
    )
