"""Which server is asked, for how long, and by whom: each choice declared here, and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass, field

from ollama_tools.declared import said
from ollama_tools.server.waits import VARIABLE


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How a server is reached: the keywords of :class:`ollama_tools.server.client.Server`."""

    host: str | None = field(
        default=None,
        metadata=said(
            help="The Ollama server, as in gpu1 or http://gpu1:11434; 127.0.0.1:11434 if absent.",
            metavar="ADDRESS",
            variable="OLLAMA_HOST",
        ),
    )
    timeout: float | None = field(
        default=None,
        metadata=said(
            help="Seconds without a byte or progress after which a wait for the server ends; what "
            "suits each request if absent.",
            metavar="SECONDS",
            variable=VARIABLE,
            written=True,
        ),
    )
    api_key: str | None = field(
        default=None,
        repr=False,
        metadata=said(
            help="The key that the server, or a proxy before it, wants with every request.",
            variable="OLLAMA_API_KEY",
            secret=True,
        ),
    )
