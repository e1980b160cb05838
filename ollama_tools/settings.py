"""What a server's environment should say, and why; the server offers no other way to set it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from ollama_tools.errors import UsageError
from ollama_tools.memory import KvType

_PLAIN_TYPES = frozenset({KvType.F32, KvType.F16, KvType.BF16})
# What Go's time.ParseDuration reads, or a number of seconds; negative keeps a model for ever.
_DURATION = re.compile(r"-?(\d+|(\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+)")


def _carry(variable: str, why: str, *, negated: bool = False) -> dict[str, Any]:
    """What carries a setting to the server, and the reason for its default."""
    return {"variable": variable, "why": why, "negated": negated}


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
        ),
    )
    kv_cache_type: KvType = field(
        default=KvType.Q8_0,
        metadata=_carry(
            "OLLAMA_KV_CACHE_TYPE",
            "half the memory per token of f16; it holds for every model of the server",
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
        ),
    )
    parallel: int = field(
        default=1,
        metadata=_carry(
            "OLLAMA_NUM_PARALLEL", "every further request at a time takes a KV cache of its own"
        ),
    )
    keep_alive: str = field(
        default="30m",
        metadata=_carry(
            "OLLAMA_KEEP_ALIVE",
            "an agent may wait for its person longer than Ollama's 5 minutes; loading takes long",
        ),
    )
    max_loaded_models: int | None = field(
        default=None,
        metadata=_carry(
            "OLLAMA_MAX_LOADED_MODELS", "how many models may share the memory at a time"
        ),
    )
    max_queue: int | None = field(
        default=None,
        metadata=_carry(
            "OLLAMA_MAX_QUEUE", "how many requests may wait before the server answers 503"
        ),
    )
    origins: tuple[str, ...] = field(
        default=(),
        metadata=_carry(
            "OLLAMA_ORIGINS", "web pages that a browser lets talk to the server, beside local ones"
        ),
    )
    models: Path | None = field(
        default=None,
        metadata=_carry("OLLAMA_MODELS", "where models lie; a Devstral takes 14 GB and more"),
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

    def __post_init__(self) -> None:
        object.__setattr__(self, "kv_cache_type", parse_kv_type(self.kv_cache_type))
        _check(self)


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
    from ollama_tools.server import resolve_host
    from ollama_tools.spec import SMALLEST_CONTEXT

    resolve_host(settings.host)
    if is_quantized(settings.kv_cache_type) and not settings.flash_attention:
        raise UsageError(
            f"a KV cache of type {settings.kv_cache_type} needs flash attention: without it Ollama "
            "up to 0.24 silently uses f16, and later ones fail to load any model",
            "leave flash attention on, or choose f16",
        )
    if settings.context < SMALLEST_CONTEXT:
        raise UsageError(
            f"a context of {settings.context} tokens is too small for any tool call",
            "agents start with prompts of up to 18,000 tokens: use 32768 or more",
        )
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
    for variable, value in environment(settings).items():
        if not value.isprintable():
            raise UsageError(f"{variable} cannot contain control characters", "remove them")


def _carried(settings: ServerSettings) -> Iterator[tuple[Field[Any], str]]:
    for each in fields(settings):
        value = getattr(settings, each.name)
        if value is None or value == ():
            continue
        if isinstance(value, bool):
            value = int(value is not each.metadata["negated"])
        elif isinstance(value, tuple):
            value = ",".join(value)
        yield each, str(value)


def environment(settings: ServerSettings) -> dict[str, str]:
    """The environment variables that settings stand for, in the order of importance."""
    return {each.metadata["variable"]: value for each, value in _carried(settings)}


def explain(settings: ServerSettings) -> list[tuple[str, str, str]]:
    """The same with reasons: variable, value, why; for another value than ours, why ours is so."""
    ours = environment(ServerSettings())
    explained = []
    for each, value in _carried(settings):
        variable, why = each.metadata["variable"], each.metadata["why"]
        default = ours.get(variable, value)
        explained.append(
            (variable, value, why if value == default else f"instead of {default}: {why}")
        )
    return explained
