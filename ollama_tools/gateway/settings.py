"""How a gateway is set up; each choice is declared once, for options and files."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from ollama_tools.declared import said
from ollama_tools.errors import UsageError
from ollama_tools.gateway.repairs import Repair
from ollama_tools.network.hosts import is_loopback
from ollama_tools.server.address import parse_address, resolve_host
from ollama_tools.settings.environment import template_file


class ToolCallParser(StrEnum):
    """Who reads the calls in what a model writes."""

    GATEWAY = "gateway"
    SERVER = "server"


@dataclass(frozen=True, kw_only=True)
class GatewaySettings:
    """The settings of a gateway.

    Raises:
        UsageError: They cannot be, or would serve strangers.
    """

    listen: str = field(
        default="127.0.0.1:11435",
        metadata=said(help="Where clients ask.", metavar="ADDRESS"),
    )
    upstream: str = field(
        default="127.0.0.1:11434",
        metadata=said(help="The Ollama server behind it.", metavar="ADDRESS"),
    )
    model: str | None = field(
        default=None,
        metadata=said(help="The model that /ready is about; the server else.", metavar="NAME"),
    )
    keys: Path | None = field(
        default=None,
        metadata=said(help="The file of keys; nobody is asked for one without it.", metavar="FILE"),
    )
    without_keys: bool = field(
        default=False,
        metadata=said(help="Serve others than this machine, and ask nobody for a key."),
    )
    tls_certificate: Path | None = field(
        default=None, metadata=said(help="The certificate to serve https with.", metavar="FILE")
    )
    tls_key: Path | None = field(
        default=None, metadata=said(help="The key of that certificate.", metavar="FILE")
    )
    at_a_time: int | None = field(
        default=None, metadata=said(help="Requests at a time for each key.", metavar="N")
    )
    a_minute: int | None = field(
        default=None, metadata=said(help="Requests a minute for each key.", metavar="N")
    )
    body_limit: int = field(
        default=64 * 2**20, metadata=said(help="The largest request, in bytes.", metavar="BYTES")
    )
    pin_context: bool = field(
        default=False,
        metadata=said(
            help="Keep to the model's own context where a client asks for another, which would "
            "load the model anew."
        ),
    )
    tool_call_parser: str = field(
        default=ToolCallParser.SERVER,
        metadata=said(
            help="Who reads a model's calls: the server, which holds them to a grammar, or the "
            "gateway, which gives them on and back as the model wrote them.",
            metavar="PARSER",
            choices=tuple(sorted(ToolCallParser)),
        ),
    )
    dedicated_to: str | None = field(
        default=None,
        metadata=said(
            help="The one release, as 2507, that the server behind it is dedicated to: it has the "
            "template of that for every model without a TEMPLATE of its own (carrier server).",
            metavar="RELEASE",
        ),
    )
    without: tuple[str, ...] = field(
        default=(),
        metadata=said(
            help=f"A repair that is not made: {', '.join(Repair)}.",
            flags=("--without",),
            metavar="REPAIR",
        ),
    )
    wait: float = field(
        default=30.0,
        metadata=said(
            help="Seconds to wait for a server that is full or being started again.",
            metavar="SECONDS",
        ),
    )
    silence: float = field(
        default=900.0,
        metadata=said(
            help="Seconds after which a server that says nothing is given up.", metavar="SECONDS"
        ),
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "upstream", resolve_host(self.upstream))
        if self.dedicated_to is not None:
            template_file(self.dedicated_to)
        unknown = [each for each in self.without if each not in set(Repair)]
        if unknown:
            raise UsageError(f"there is no repair {unknown[0]!r}", f"one of {', '.join(Repair)}")
        if self.tool_call_parser not in set(ToolCallParser):
            raise UsageError(
                f"no such parser of calls: {self.tool_call_parser!r}",
                f"one of {', '.join(ToolCallParser)}",
            )
        for name in ("at_a_time", "a_minute", "body_limit", "wait", "silence"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UsageError(f"{name} is {value}", "it has to be above 0")
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise UsageError("a certificate and its key belong together", "give both, or neither")
        if (self.at_a_time or self.a_minute) and self.keys is None:
            raise UsageError("limits are for keys, and there are none", "give --keys FILE")
        if self._is_its_own_server:
            url = parse_address(self.listen).url
            raise UsageError(f"{url} is the server behind the gateway", "listen on another port")
        if not self.is_for_this_machine and self.keys is None and not self.without_keys:
            raise UsageError(
                f"others than this machine reach {self.listen}, and nobody is asked for a key",
                "give --keys FILE, or --without-keys",
            )

    @property
    def _is_its_own_server(self) -> bool:
        """Whether it would ask itself, as far as the text of both addresses tells."""
        here, there = parse_address(self.listen), parse_address(self.upstream)
        if here.url == there.url:
            return True
        if here.port != there.port or not is_loopback(there.url):
            return False
        # A name may stand for either address.
        is_name = "localhost" in (here.host.casefold(), there.host.casefold())
        return here.is_everywhere or (is_name and is_loopback(here.url))

    @property
    def is_for_this_machine(self) -> bool:
        """Whether nobody else can reach it."""
        address = parse_address(self.listen)
        return not address.is_everywhere and is_loopback(address.url)

    @property
    def dedicated_template(self) -> str:
        """The template of the release that the server is dedicated to; empty where it is not."""
        if self.dedicated_to is None:
            return ""
        return template_file(self.dedicated_to).read_text(encoding="utf-8")

    @property
    def off(self) -> frozenset[Repair]:
        """The repairs that are not made."""
        off = {each for each in Repair if each in self.without}
        return frozenset(off if self.pin_context else off | {Repair.CONTEXT})
