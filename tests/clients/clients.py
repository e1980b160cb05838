"""The clients, and what has to come of their sessions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ollama_tools.devstral.carriers import Carrier
from ollama_tools.devstral.catalog import TokenizerVersion
from tests.clients.install import Environment, version
from tests.clients.scripts import ANSWER, CARRIERS, ONE, PLAIN, TWO, Call, Part, sorted_keys

_BOTH = tuple(TokenizerVersion)
_NEWER = (TokenizerVersion.V13,)


@dataclass(frozen=True)
class Client:
    """One client on one surface.

    Attributes:
        name: Its name in the table.
        package: The package that is driven.
        environment: Where it is installed.
        driver: Its file in ``drivers``.
        surface: The path of its requests.
        parts: What the models say to it, one session of each.
        through: What they say through the gateway, where that differs: it keeps the order of keys.
        option: The argument of its driver.
        rounds: How often a session makes the calls of its part.
        answers: The answers of a session.
        formats: The formats whose models it talks to; an agent takes seconds for each.
        carriers: The carriers of those models.
        exact: Whether carrier ``gguf`` gives the reference's prompts for all that it sends.
        broken: Sessions whose loop is known to break, as model and whether streamed, with the
            reason.
        reaches: Hosts that it asks for things, and gets on without.
    """

    name: str
    package: str
    environment: Environment
    driver: str
    surface: str
    parts: tuple[Part, ...] = (ONE, TWO)
    through: tuple[Part, ...] | None = None
    option: str = ""
    rounds: int = 2
    answers: tuple[str, ...] = (ANSWER, ANSWER)
    formats: tuple[TokenizerVersion, ...] = _BOTH
    carriers: tuple[Carrier, ...] = CARRIERS
    exact: bool = True
    broken: Mapping[tuple[str, bool], str] = field(default_factory=dict)
    reaches: tuple[str, ...] = ()

    @property
    def version(self) -> str:
        """The version that is driven."""
        return version(self.environment, self.package)

    @property
    def models(self) -> dict[str, Part]:
        """The models that it talks to, each with its part."""
        return {
            part.model(carrier, version): part
            for part in self.parts
            for carrier in self.carriers
            for version in self.formats
        }

    @property
    def behind_gateway(self) -> Client:
        """The same, as it is driven through the gateway."""
        return self if self.through is None else replace(self, parts=self.through)

    @property
    def read_by_gateway(self) -> Client:
        """The same, as it is driven through a gateway that reads the calls."""
        return replace(self.behind_gateway, carriers=(Carrier.GGUF,))

    def calls(self, part: Part) -> list[Call]:
        """The calls that reach the caller in a session."""
        return [*part.calls, *part.then] * self.rounds


_SORTED = tuple(sorted_keys(part) for part in (ONE, TWO))
# Its agent ends where a command prints a certain line first; a miniature says the same after each
# message of the user, so the command has to remember that it ran.
_MINI = Part(
    "mini",
    (
        (
            "bash",
            {
                "command": "if [ -e seen ]; then echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT; "
                'echo "pruned & watered"; else touch seen; fi'
            },
        ),
    ),
)
_READ: Call = ("read", {"path": "note.txt"})
_PI = (
    Part("pi-one", (_READ,), context=32768),
    Part("pi-two", (_READ, ("bash", {"command": "echo 'é' < note.txt && ls"})), context=32768),
)
# Without a prompter it goes on until its tool ``complete`` is called.
_GPTME = Part(
    "gptme",
    (("shell", {"command": "cat note.txt && echo '<é>'"}),),
    then=(("complete", {}),),
    context=65536,
)

_CHAT, _V1 = "/api/chat", "/v1/chat/completions"

CLIENTS: tuple[Client, ...] = (
    Client("openai (Python)", "openai", "libraries", "openai_chat.py", _V1),
    Client(
        "openai (Python)",
        "openai",
        "libraries",
        "openai_responses.py",
        "/v1/responses",
        parts=_SORTED,
        through=(ONE, TWO),
        exact=False,
    ),
    Client("anthropic (Python)", "anthropic", "libraries", "anthropic_messages.py", "/v1/messages"),
    Client("ollama (Python)", "ollama", "libraries", "ollama_chat.py", _CHAT, exact=False),
    Client("litellm, openai/", "litellm", "litellm", "litellm_completion.py", _V1, option="openai"),
    Client(
        "litellm, ollama_chat/",
        "litellm",
        "litellm",
        "litellm_completion.py",
        _CHAT,
        option="ollama_chat",
        broken={
            ("two-modelfile-v13", True): "litellm numbers the calls of each chunk from 0 and joins "
            "those of one number; PARSER ministral sends each call in a chunk of its own"
        },
    ),
    Client(
        "langchain-ollama", "langchain-ollama", "libraries", "langchain_chat.py", _CHAT, exact=False
    ),
    Client("pydantic-ai", "pydantic-ai-slim", "libraries", "pydantic_agent.py", _V1, exact=False),
    Client(
        "smolagents",
        "smolagents",
        "libraries",
        "smolagents_agent.py",
        _V1,
        parts=(ONE,),
        rounds=4,
        answers=(PLAIN, PLAIN),
    ),
    Client("ollama (JavaScript)", "ollama", "node", "ollama_chat.cjs", _CHAT),
    Client("openai (JavaScript), runTools", "openai", "node", "openai_tools.cjs", _V1),
    Client(
        "mini-swe-agent",
        "mini-swe-agent",
        "litellm",
        "mini_agent.py",
        _V1,
        parts=(_MINI,),
        option="openai",
        answers=("Submitted: pruned & watered\n",),
    ),
    Client(
        "pi",
        "@mariozechner/pi-coding-agent",
        "node",
        "pi_agent.cjs",
        _V1,
        parts=_PI,
        formats=_NEWER,
        exact=False,
    ),
    Client(
        "gptme",
        "gptme",
        "gptme",
        "gptme_agent.py",
        _V1,
        parts=(_GPTME,),
        # Its log has no answer but what the tools said.
        answers=("Prune the roses.\n", "Prune the roses.\n"),
        formats=_NEWER,
        exact=False,
        # A vocabulary to count tokens with.
        reaches=("openaipublic.blob.core.windows.net:443",),
    ),
)
