"""What a server's environment should say, and why; the server offers no other way to set it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

from ollama_tools.declared import choice, said
from ollama_tools.devstral.context import parse_context
from ollama_tools.devstral.memory import KvType
from ollama_tools.errors import UsageError
from ollama_tools.files.packaged import data_path
from ollama_tools.progress import parse_size
from ollama_tools.server.versions import KV_TYPES_BEFORE_NATIVE, NATIVE_JINJA, Version

TEMPLATE_FILE = "LLAMA_ARG_CHAT_TEMPLATE_FILE"
"""What makes llama-server, from Ollama 0.30 on, apply one Jinja to every model without a TEMPLATE
of its own."""

TEMPLATES = data_path("templates")
"""Where the templates of this package lie on this machine."""

_LLAMA_ARGUMENT = re.compile(r"LLAMA_ARG_[A-Z0-9_]+")
# Ollama gives these by flags, and llama-server lets a flag win over its variable
# (llm/llama_server.go of Ollama 0.34.4); the last two have settings of their own.
_TAKEN_ARGUMENTS = {
    "LLAMA_ARG_MODEL": "each model has its own",
    "LLAMA_ARG_PORT": "Ollama chooses it",
    "LLAMA_ARG_HOST": "Ollama chooses it",
    "LLAMA_ARG_CTX_SIZE": "use the context",
    "LLAMA_ARG_N_PARALLEL": "use parallel",
    "LLAMA_ARG_BATCH": "Ollama chooses it",
    "LLAMA_ARG_UBATCH": "Ollama chooses it",
    "LLAMA_ARG_CACHE_TYPE_K": "use the type of the KV cache",
    "LLAMA_ARG_CACHE_TYPE_V": "use the type of the KV cache",
    "LLAMA_ARG_FLASH_ATTN": "use flash attention",
    TEMPLATE_FILE: "name the release that the server is dedicated to",
}
_PLAIN_TYPES = frozenset({KvType.F32, KvType.F16, KvType.BF16})
# What Go's time.ParseDuration reads, or a number of seconds; negative keeps a model for ever.
_DURATION = re.compile(r"-?(\d+|(\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+)")


_CARDS = "Graphics cards"
"""The heading of the settings that only hosts with graphics cards need."""

_CARD = re.compile(r"\d{1,3}|GPU-[0-9A-Fa-f-]{4,36}|MIG-[0-9A-Za-z/-]{4,80}")
_PLAIN_CARD = re.compile(r"\d{1,3}")
_NO_CARD = "-1"
_CARD_FORMS = {
    "cuda_devices": (_CARD, "a number, GPU-… or MIG-… as nvidia-smi -L lists it"),
    "rocr_devices": (_CARD, "a number, or GPU-… as rocminfo lists it"),
    "hip_devices": (_PLAIN_CARD, "a number"),
    "vulkan_devices": (_PLAIN_CARD, "a number"),
}
_GFX = re.compile(r"(?:(\d{1,3})=)?(\d{1,2}\.\d{1,2}\.\d{1,2})")
_LIBRARY = re.compile(r"[a-z0-9_]{2,40}")
_MOST_DEBUG = 2


def _carry(variable: str, why: str, *, negated: bool = False, **words: Any) -> dict[str, Any]:
    """What carries a setting to the server, the reason for its default, and words of its option."""
    return {
        "variable": variable,
        "why": why,
        "negated": negated,
        **said(help=f"{variable}: {why}", **words),
    }


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """The settings of an Ollama server for Devstral; None leaves one to the server.

    Each carries its environment variable and the reason for it: see :func:`explain`.
    """

    host: str = field(
        default="127.0.0.1:11434",
        metadata=_carry(
            "OLLAMA_HOST",
            "no route of Ollama asks for a password, so only this machine may reach it",
            metavar="ADDRESS",
        ),
    )
    kv_cache_type: KvType = field(
        default=KvType.Q8_0,
        metadata=_carry(
            "OLLAMA_KV_CACHE_TYPE",
            "half the memory per token of f16; it holds for every model of the server",
            metavar="TYPE",
        ),
    )
    flash_attention: bool = field(
        default=True,
        metadata=_carry(
            "OLLAMA_FLASH_ATTENTION",
            "a quantized KV cache needs it; Ollama up to 0.24 silently uses f16 without it",
        ),
    )
    context: int = field(
        default=32768,
        metadata=_carry(
            "OLLAMA_CONTEXT_LENGTH",
            "tokens for models that set none: Ollama may take 4096, and agents start with 18,000",
            metavar="TOKENS",
            written=True,
        ),
    )
    parallel: int = field(
        default=1,
        metadata=_carry(
            "OLLAMA_NUM_PARALLEL",
            "every further request at a time takes a KV cache of its own",
            metavar="N",
        ),
    )
    keep_alive: str = field(
        default="30m",
        metadata=_carry(
            "OLLAMA_KEEP_ALIVE",
            "an agent may wait for its person longer than Ollama's 5 minutes; loading takes long",
            metavar="DURATION",
        ),
    )
    max_loaded_models: int | None = field(
        default=None,
        metadata=_carry(
            "OLLAMA_MAX_LOADED_MODELS",
            "how many models may share the memory at a time",
            metavar="N",
        ),
    )
    max_queue: int | None = field(
        default=None,
        metadata=_carry(
            "OLLAMA_MAX_QUEUE",
            "how many requests may wait before the server answers 503",
            metavar="N",
        ),
    )
    origins: tuple[str, ...] = field(
        default=(),
        metadata=_carry(
            "OLLAMA_ORIGINS",
            "web pages that a browser lets talk to the server, beside local ones",
            metavar="ORIGIN",
        ),
    )
    models: Path | None = field(
        default=None,
        metadata=_carry(
            "OLLAMA_MODELS", "where models lie; a Devstral takes 14 GiB and more", metavar="DIR"
        ),
    )
    cloud: bool = field(
        default=False,
        metadata=_carry(
            "OLLAMA_NO_CLOUD", "no prompt leaves this machine for a hosted model", negated=True
        ),
    )
    prune: bool | None = field(
        default=None,
        metadata=_carry(
            "OLLAMA_NOPRUNE",
            "1 keeps partial downloads older than an hour when the server starts, and with them "
            "every layer that a model has left behind",
            negated=True,
        ),
    )

    cuda_devices: tuple[str, ...] = field(
        default=(),
        metadata=_carry(
            "CUDA_VISIBLE_DEVICES",
            "NVIDIA's cards that the server may use, as 0 or GPU-…; -1 hides all",
            metavar="CARD",
            panel=_CARDS,
        ),
    )
    rocr_devices: tuple[str, ...] = field(
        default=(),
        metadata=_carry(
            "ROCR_VISIBLE_DEVICES",
            "AMD's cards that the server may use, as 0 or GPU-…; -1 hides all",
            metavar="CARD",
            panel=_CARDS,
        ),
    )
    hip_devices: tuple[str, ...] = field(
        default=(),
        metadata=_carry(
            "HIP_VISIBLE_DEVICES",
            "the same by HIP, which counts what ROCR_VISIBLE_DEVICES leaves",
            metavar="CARD",
            panel=_CARDS,
        ),
    )
    vulkan_devices: tuple[str, ...] = field(
        default=(),
        metadata=_carry(
            "GGML_VK_VISIBLE_DEVICES",
            "the cards that the server may use by Vulkan, as 0; -1 hides all",
            metavar="CARD",
            panel=_CARDS,
        ),
    )
    hsa_override: tuple[str, ...] = field(
        default=(),
        metadata=_carry(
            "HSA_OVERRIDE_GFX_VERSION",
            "the architecture that an AMD card without libraries of its own is taken for, as "
            "10.3.0, or 1=11.0.0 for the second card",
            metavar="[CARD=]VERSION",
            panel=_CARDS,
        ),
    )
    vulkan: bool | None = field(
        default=None,
        metadata=_carry(
            "OLLAMA_VULKAN",
            "whether cards may be used by Vulkan, where neither CUDA nor ROCm has them",
            negated=False,
            panel=_CARDS,
        ),
    )
    integrated: bool | None = field(
        default=None,
        metadata=_carry(
            "OLLAMA_IGPU_ENABLE",
            "whether a processor's own graphics are used, with main memory as theirs",
            panel=_CARDS,
        ),
    )
    spread: bool | None = field(
        default=None,
        metadata=_carry(
            "OLLAMA_SCHED_SPREAD",
            "whether a model that fits on one card is spread over all of them",
            panel=_CARDS,
        ),
    )
    gpu_overhead: int | None = field(
        default=None,
        metadata=_carry(
            "OLLAMA_GPU_OVERHEAD",
            "memory of each card that is left to others, as 1GiB",
            metavar="SIZE",
            written=True,
            panel=_CARDS,
        ),
    )
    load_timeout: str | None = field(
        default=None,
        metadata=_carry(
            "OLLAMA_LOAD_TIMEOUT",
            "how long a load may make no progress; 5 minutes are short for a slow disk",
            metavar="DURATION",
            panel=_CARDS,
        ),
    )
    llm_library: str | None = field(
        default=None,
        metadata=_carry(
            "OLLAMA_LLM_LIBRARY",
            "the one library that is taken, as cuda_v12, where the server's own choice fails",
            metavar="LIBRARY",
            panel=_CARDS,
        ),
    )
    log_level: int | None = field(
        default=None,
        metadata=_carry(
            "OLLAMA_DEBUG",
            "1 writes into the log why a card is not used, 2 every request as well",
            metavar="LEVEL",
            panel=_CARDS,
        ),
    )

    dedicated_to: str | None = field(
        default=None,
        metadata=_carry(
            TEMPLATE_FILE,
            "the one release, as 2507, that this server serves: its template goes to every model "
            "without a TEMPLATE of its own",
            metavar="RELEASE",
        ),
    )
    llama_args: tuple[str, ...] = field(
        default=(),
        metadata=_carry(
            "LLAMA_ARG_…",
            "handed to llama-server as it is",
            metavar="LLAMA_ARG_…=VALUE",
        ),
    )
    variables: tuple[str, ...] = field(
        default=(),
        metadata=_carry(
            "NAME=VALUE",
            "any other variable of the server's: HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE",
            metavar="NAME=VALUE",
        ),
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "kv_cache_type", parse_kv_type(self.kv_cache_type))
        object.__setattr__(self, "context", parse_context(self.context))
        object.__setattr__(self, "gpu_overhead", _parse_overhead(self.gpu_overhead))
        _check(self)


def from_mapping(given: Mapping[str, Any]) -> ServerSettings:
    """Settings as a YAML file or an inventory has them.

    Args:
        given: Fields of :class:`ServerSettings`; lists for those of several values.

    Raises:
        UsageError: There is no such setting, it has another type, or it is impossible.
    """
    known = {each.name: each for each in fields(ServerSettings)}
    values: dict[str, Any] = {}
    for name, value in given.items():
        if name not in known:
            raise UsageError(
                f"there is no setting {name!r}", f"known are {', '.join(sorted(known))}"
            )
        kind = "str" if choice(known[name]).written else known[name].type
        values[name] = _typed(name, value, kind)
    settings = ServerSettings(**values)
    require_whole(settings, "a server on another machine")
    return settings


def whole_path(path: str | Path) -> Path:
    """A folder on this machine, from what a person of it writes: ``~`` and relative are known.

    Raises:
        UsageError: Nobody knows whose home it is, or it is an address.
    """
    _refuse_address(path)
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError:
        raise UsageError(
            f"nobody knows which home is meant by {str(path)!r}", "write it from / on"
        ) from None


def _refuse_address(path: str | Path) -> None:
    """Refuse an address, which may hold a password, before it is shown as a folder's name."""
    if re.match(r"[A-Za-z][\w+.-]+:/", str(path)):
        raise UsageError("the models cannot lie at an address", "name a folder, as in /srv/models")


def on_this_machine(given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that a person of this machine asked for, for a server on it.

    The server takes ``~`` for a folder of that name, and a relative path for one where it starts.

    Raises:
        UsageError: Nobody knows whose home it is.
    """
    models = given.get("models")
    return {**given, **({} if models is None else {"models": whole_path(models)})}


def require_whole(settings: ServerSettings, who: str) -> None:
    """Refuse a folder that means another one, or none, where the settings are read.

    Args:
        settings: The settings.
        who: Who reads them.

    Raises:
        UsageError: It does not begin at the root.
    """
    if settings.models is not None and not settings.models.is_absolute():
        raise UsageError(
            f"{who} would not find the models in {str(settings.models)!r}: it starts elsewhere, "
            "and perhaps as somebody else",
            "write the folder from / on, as in /srv/models",
        )


def _typed(name: str, value: Any, kind: Any) -> Any:
    """A value as its field wants it; inventories know lists and texts, and quote as they like."""
    wanted = str(kind)
    if value is None and "None" in wanted:
        return None
    if wanted.startswith("tuple"):
        if isinstance(value, list | tuple):
            return tuple(map(str, value))
    elif wanted.startswith("bool"):
        if isinstance(value, bool):
            return value
    elif wanted.startswith("int"):
        if isinstance(value, int | str) and re.fullmatch(r"\d+", str(value)):
            return int(value)
    elif not isinstance(value, bool | list | dict | None):
        return Path(value) if wanted.startswith("Path") else str(value)
    raise UsageError(f"the setting {name} cannot be {value!r}", "see: devstral-ollama env --help")


def _parse_overhead(said: int | str | None) -> int | None:
    """Bytes of a size as people write it; a bare number is bytes already, as Ollama reads it."""
    if said is None or isinstance(said, int):
        return said
    return int(said) if said.isascii() and said.isdigit() else parse_size(said)


def parse_kv_type(text: str) -> KvType:
    """A KV cache type by its name.

    Raises:
        UsageError: There is no such type; a server would take it and fail at every load.
    """
    try:
        return KvType(text.lower())
    except ValueError:
        raise UsageError(
            f"{text!r} is no type of a KV cache", f"known are {', '.join(KvType)}"
        ) from None


def is_quantized(kv_type: KvType) -> bool:
    """Whether a KV cache of this type needs flash attention."""
    return kv_type not in _PLAIN_TYPES


def _check(settings: ServerSettings) -> None:
    from ollama_tools.devstral.context import check_smallest_context
    from ollama_tools.server.address import resolve_host

    resolve_host(settings.host)
    if settings.models is not None:
        _refuse_address(settings.models)
    if is_quantized(settings.kv_cache_type) and not settings.flash_attention:
        raise UsageError(
            f"a KV cache of type {settings.kv_cache_type} needs flash attention: without it Ollama "
            "up to 0.24 silently uses f16, and later ones fail to load any model",
            "leave flash attention on, or choose f16",
        )
    check_smallest_context(settings.context)
    for name, smallest in (("parallel", 1), ("max_loaded_models", 1), ("max_queue", 1)):
        value = getattr(settings, name)
        if value is not None and value < smallest:
            raise UsageError(
                f"{name.replace('_', ' ')} cannot be {value}", f"use {smallest} or more"
            )
    if not _DURATION.fullmatch(settings.keep_alive):
        raise UsageError(
            f"{settings.keep_alive!r} is no duration", "as in 30m, 1h30m, or -1 for no end"
        )
    _check_cards(settings)
    for argument in settings.llama_args:
        _check_llama_argument(argument)
    _check_variables(settings.variables)
    for variable, value in environment(settings).items():
        if not value.isprintable():
            raise UsageError(f"{variable} cannot contain control characters", "remove them")


def _check_cards(settings: ServerSettings) -> None:
    for name, (form, words) in _CARD_FORMS.items():
        cards = getattr(settings, name)
        said = name.replace("_", " ")
        if _NO_CARD in cards and len(cards) > 1:
            raise UsageError(f"{said} hide all cards, and name some", "give -1 alone, or cards")
        for each in cards:
            if each != _NO_CARD and not form.fullmatch(each):
                raise UsageError(f"{each!r} is none of the {said}", f"name each by {words}")
        if len(set(cards)) < len(cards):
            raise UsageError(f"{said} name a card twice", "name each once")
    overridden = [_gfx(each)[0] for each in settings.hsa_override]
    if len(set(overridden)) < len(overridden):
        raise UsageError("hsa override says two versions of one card", "leave one of them out")
    if settings.gpu_overhead is not None and settings.gpu_overhead < 0:
        raise UsageError("gpu overhead cannot be negative", "as in 1GiB")
    if settings.load_timeout is not None and not _DURATION.fullmatch(settings.load_timeout):
        raise UsageError(f"{settings.load_timeout!r} is no duration", "as in 10m")
    if settings.llm_library is not None and not _LIBRARY.fullmatch(settings.llm_library):
        raise UsageError(
            f"{settings.llm_library!r} is no library of Ollama's",
            "name a folder of its lib/ollama, as cuda_v12, rocm_v7, vulkan or cpu",
        )
    if settings.log_level is not None and not 0 <= settings.log_level <= _MOST_DEBUG:
        raise UsageError(f"log level cannot be {settings.log_level}", f"use 0 to {_MOST_DEBUG}")


def _gfx(said: str) -> tuple[str, str]:
    """Which card, empty for all of them, and the version that it is taken for."""
    match = _GFX.fullmatch(said)
    if match is None:
        raise UsageError(
            f"{said!r} is no version of an AMD architecture", "as in 10.3.0, or 1=11.0.0"
        )
    return match[1] or "", match[2]


def _check_llama_argument(argument: str) -> None:
    name, equals, _ = argument.partition("=")
    if not equals or not _LLAMA_ARGUMENT.fullmatch(name):
        raise UsageError(
            f"{argument!r} is no argument of llama-server", "as in LLAMA_ARG_THREADS=8"
        )
    if instead := _TAKEN_ARGUMENTS.get(name):
        raise UsageError(f"{name} cannot be passed on: Ollama sets it itself", instead)


def _check_variables(given: tuple[str, ...]) -> None:
    own = {each.metadata["variable"]: each.name for each in fields(ServerSettings)}
    names = [each.partition("=")[0] for each in given]
    for name, each in zip(names, given, strict=True):
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*=.*", each, re.DOTALL):
            # What it holds may be a secret.
            raise UsageError(
                f"a variable without a name and a value: {name!r}", "as in NO_PROXY=.example.com"
            )
        if name in own or name.startswith("HSA_OVERRIDE_GFX_VERSION_"):
            raise UsageError(
                f"{name} has a setting of its own", f"use {own.get(name, 'hsa_override')}"
            )
        if _LLAMA_ARGUMENT.fullmatch(name):
            raise UsageError(f"{name} is an argument of llama-server", "use llama_args")
        if names.count(name) > 1:
            raise UsageError(f"{name} is given more than once", "leave one of them out")
        if re.search(r"://[^/]*@", each):
            raise UsageError(
                f"{name} holds a password, and every account of the machine can read the settings",
                "give the server a way without one, or write it into a file of root's that "
                "EnvironmentFile= of a drop-in of yours names",
            )


def require_possible(settings: ServerSettings, version: Version) -> None:
    """Refuse what a server of some version would ignore, or fail on at every load.

    Args:
        settings: The settings, which are sound in themselves.
        version: The server's version.

    Raises:
        UsageError: The version cannot have them.
    """
    if version >= NATIVE_JINJA:
        return
    if settings.kv_cache_type not in KV_TYPES_BEFORE_NATIVE:
        raise UsageError(
            f"Ollama {version} knows no KV cache of type {settings.kv_cache_type}: it would "
            "silently use f16",
            f"use one of {', '.join(sorted(KV_TYPES_BEFORE_NATIVE))}, or upgrade the server",
        )
    for name, value in (
        ("a template for the whole server", settings.dedicated_to),
        ("arguments of llama-server", settings.llama_args),
    ):
        if value:
            raise UsageError(
                f"Ollama {version} has no llama-server, so {name} would be ignored",
                f"leave it out, or upgrade the server to {NATIVE_JINJA} or newer",
            )


def template_file(release: str, directory: Path = TEMPLATES) -> Path:
    """The Jinja that a server dedicated to a release applies.

    Args:
        release: Name or alias of the release.
        directory: Where the templates lie on the server's machine.

    Raises:
        UnknownReference: There is no such release.
    """
    from ollama_tools.devstral.catalog_file import load_catalog

    return directory / f"{load_catalog().release(release).tokenizer.value}.jinja"


class _Carried(NamedTuple):
    field: Field[Any]
    variable: str
    value: str


def _carried(settings: ServerSettings, templates: Path) -> Iterator[_Carried]:
    for each in fields(settings):
        value = getattr(settings, each.name)
        if value is None or value == ():
            continue
        variable = each.metadata["variable"]
        if each.name in ("llama_args", "variables"):
            for argument in value:
                name, _, text = argument.partition("=")
                yield _Carried(each, name, text)
            continue
        if each.name == "hsa_override":
            for card, version in map(_gfx, value):
                yield _Carried(each, f"{variable}_{card}" if card else variable, version)
            continue
        if each.name == "dedicated_to":
            value = template_file(value, templates)
        elif isinstance(value, bool):
            value = int(value is not each.metadata["negated"])
        elif isinstance(value, tuple):
            value = ",".join(value)
        yield _Carried(each, variable, str(value))


def environment(settings: ServerSettings, templates: Path = TEMPLATES) -> dict[str, str]:
    """The environment variables that settings stand for, in the order of importance.

    Args:
        settings: The settings.
        templates: Where the templates of this package lie on the server's machine.
    """
    return {each.variable: each.value for each in _carried(settings, templates)}


def asked_environment(given: Mapping[str, Any], templates: Path = TEMPLATES) -> dict[str, str]:
    """The variables of those settings alone that a person asked for.

    Args:
        given: Fields of :class:`ServerSettings` with their values.
        templates: Where the templates of this package lie on the server's machine.

    Raises:
        UsageError: A setting is impossible.
    """
    return {
        each.variable: each.value
        for each in _carried(ServerSettings(**given), templates)
        if each.field.name in given
    }


def environment_differences(
    wanted: Mapping[str, str], found: Mapping[str, str]
) -> dict[str, tuple[str | None, str]]:
    """Which variables a running server has otherwise: variable, what it has, what it should.

    Args:
        wanted: What :func:`environment` says.
        found: The environment of the server's process.
    """
    return {
        variable: (found.get(variable), value)
        for variable, value in wanted.items()
        if found.get(variable) != value
    }


def explain(settings: ServerSettings, templates: Path = TEMPLATES) -> list[tuple[str, str, str]]:
    """The same with reasons: variable, value, why; for another value than ours, why ours is so."""
    ours = environment(ServerSettings())
    explained = []
    for each, variable, value in _carried(settings, templates):
        why = each.metadata["why"]
        default = ours.get(variable, value)
        explained.append(
            (variable, value, why if value == default else f"instead of {default}: {why}")
        )
    return explained
