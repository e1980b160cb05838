"""What a person may say of the model they want: each choice declared here, and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TypeAlias, TypedDict

from ollama_tools.declared import said
from ollama_tools.devstral.carriers import AUTO, EXACT, Carrier

Scalar: TypeAlias = int | float | bool | str
Parameters: TypeAlias = Mapping[str, Scalar | tuple[str, ...]]

_WEIGHTS = "How the weights come"


class Via(StrEnum):
    """How the bytes reach the server."""

    SERVER = "server"
    UPLOAD = "upload"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """Everything that a person may say about the model they want; None where they say nothing."""

    reference: str = field(
        metadata=said(
            help="What names the weights: UD-Q4_K_XL · 2505:Q4_K_M · "
            "hf.co/unsloth/Devstral-Small-2507-GGUF:Q8_0 · ./my-tune.gguf · the name of a model "
            "on the server.",
            more=("UD-Q4_K_XL@sha256:… pins the file by the digest it was published with.",),
            metavar="REFERENCE",
        )
    )
    name: str | None = field(
        default=None,
        metadata=said(help="The model's name; else <release>:<quant>.", metavar="NAME"),
    )
    release: str | None = field(
        default=None,
        metadata=said(
            help="The Devstral whose format holds, where the reference does not tell: 2507, 2505 …",
            metavar="RELEASE",
        ),
    )
    context: int | str | None = field(
        default=None,
        metadata=said(
            help="Context in tokens, as 65536 or 64k; 32768 if absent; auto for what fits.",
            more=(
                "auto is the largest that fits on the server's cards, from 32768 to 65536, and "
                "stays as it is as long as it fits.",
            ),
            metavar="TOKENS",
        ),
    )
    vram: str | None = field(
        default=None,
        metadata=said(
            help="Memory of the server's cards, as 24GiB or 24GiB,24GiB; what is seen if absent.",
            more=("A server does not say it, so of one on another machine a person has to.",),
            metavar="SIZE",
        ),
    )
    parameters: Parameters = field(
        default_factory=dict,
        metadata=said(
            help="A model parameter over the recommended one, as temperature=0.3.",
            more=("A number may be quoted: 1, 1.0 and '1' are the same. stop may be a list.",),
            flags=("--parameter", "-p"),
            metavar="NAME=VALUE",
        ),
    )
    system: str | Path | None = field(
        default=None,
        metadata=said(
            help="The system prompt: the hub's, this package's, or a file's.",
            more=(
                "An empty text means no system prompt; where nothing is said, the hub's is taken "
                "where it can be had, else this package's.",
            ),
            metavar="hub|bundled|FILE",
            off=("--no-system", "No system prompt in the model."),
        ),
    )
    carrier: str = field(
        default=AUTO,
        metadata=said(
            help="Where the chat template lives: auto, gguf, hub, modelfile, or server, which has "
            "to run with --dedicated-to.",
            more=(
                "exact is auto without hub: a template that the gateway keeps requests whole for.",
            ),
            formerly=("--template-in",),
            metavar="CARRIER",
            choices=(AUTO, EXACT, *sorted(Carrier)),
        ),
    )
    keep_template: bool | None = field(
        default=None,
        metadata=said(
            help="Whether a tune's own chat template stays; asked for where that is another "
            "family's, else Devstral's takes its place.",
            more=("It needs Ollama 0.30, and the carrier hub.",),
        ),
    )
    vision: bool | None = field(
        default=None,
        metadata=said(
            help="Whether the model sees images, by the projector of its repository, or beside its "
            "file; if absent, no for 2505 and 2507, yes for the Small of 2512.",
            more=(
                "A projector takes 0.9 GB more of disk and memory, and is part of what a build is.",
                "What comes with a pull and is not wanted is left out.",
            ),
        ),
    )
    projector: str | Path | None = field(
        default=None,
        metadata=said(
            help="The projector with which the model sees images, a GGUF on this machine; it "
            "implies --vision.",
            metavar="FILE",
        ),
    )
    via: str | None = field(
        default=None,
        metadata=said(
            help="upload: download here, then upload; server: the server pulls. upload if absent "
            "and the server is on this machine, else server.",
            metavar="WAY",
            panel=_WEIGHTS,
            choices=tuple(sorted(Via)),
        ),
    )
    registry: str | None = field(
        default=None,
        metadata=said(
            help="Mirror that the server pulls from instead of hf.co; http://HOST for plain HTTP.",
            metavar="HOST",
            panel=_WEIGHTS,
        ),
    )
    revision: str | None = field(
        default=None,
        metadata=said(
            help="Commit, branch or tag of the repository on the hub; a commit pins the weights.",
            more=(
                "A server can pull neither a branch nor a tag; by upload both can be had.",
                "No mirror can say which file a commit has: pin the digest there, as "
                "UD-Q4_K_XL@sha256:….",
            ),
            metavar="REVISION",
            panel=_WEIGHTS,
        ),
    )


class WishOptions(TypedDict, total=False):
    """The fields of :class:`Wish` beside the reference, as a function's keywords."""

    name: str | None
    release: str | None
    context: int | str | None
    vram: str | None
    parameters: Parameters
    system: str | Path | None
    carrier: str
    keep_template: bool | None
    vision: bool | None
    projector: str | Path | None
    via: str | None
    registry: str | None
    revision: str | None
