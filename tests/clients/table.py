"""The table of what was found, and the document around it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from ollama_tools.devstral.carriers import Carrier
from ollama_tools.devstral.catalog import TokenizerVersion
from ollama_tools.gateway.settings import ToolCallParser
from tests.clients.drive import PLACES, ROADS, Found, total
from tests.parity.recorded import Score
from tests.testbed.build import NEWEST

DOCUMENT = Path(__file__).parents[2] / "docs" / "reference" / "clients.md"

_INTRODUCTION = f"""\
<!-- Written by `python -m tests.clients --write`, which installs the clients, drives them and
     compares; take another version of a client by its line in tests/clients/packages.txt. -->
# Clients, as they really are

Each client below was installed from its registry and held short sessions with a scripted
miniature on a live Ollama {NEWEST}: a system prompt, tools with nested schemas, a message, a call
or two side by side, their results, an answer, and the same again. A proxy in between wrote down
what the client sent, and the prompts that the server builds of it were held against
mistral-common.

- **requests:** the different requests that it sent.
- **identical:** prompts that are the reference's to the character, with the request as the client
  sent it; carrier `gguf` / carrier `modelfile`, format v13.
- **differing:** characters to insert and to delete, in relation to the reference's, likewise.
- **as decoded:** prompts that are the reference's with the request as Ollama decodes it, in all
  four places: both carriers, formats v13 and v7.
- **loop:** sessions in which each call reached the caller's tool with the right arguments, and the
  right answer came at the end; plain and streamed, on models of both carriers. An agent asks
  in its own way: mini-swe-agent plain, pi streamed, gptme a turn of each.
- **gateway:** the same sessions through `devstral-ollama gateway`: prompts that are the reference's
  to the character, with the requests as the client sent them, in all four places; and sessions
  whose loop worked.
- **gateway reads:** the same with `--tool-call-parser gateway`, on models of carrier `gguf`.
- **lost on the way:** what Ollama and its engine drop, re-order or rewrite with carrier `gguf`; in
  brackets the number of requests.

The tools that we hand to libraries use only keywords that Ollama keeps, in the order that it
writes. Clients that make schemas themselves, or write ours anew, are shown with theirs:
pydantic-ai, langchain-ollama, ollama (Python), and all agents. Many more of those are in the
requests of [tests/parity/corpus](../../tests/parity/corpus).
"""

_SETTINGS = """
## What to set

- **Everything on `/v1/chat/completions` and `/v1/responses`:** send a temperature, 0.15 for
  Devstral. Ollama takes 1.0 where a client sends none, whatever the model says. `/v1/messages` and
  `/api/chat` leave the model's.
- **Everything on `/v1`:** no client can set the context there. It has to be in the model, which is
  where `create` puts it; 32768 at least for coding agents, whose first prompt can take 18,000
  tokens.
- **aider:** fix `num_ctx` in its `extra_params`. It computes another one for every request, and
  the server loads the model anew each time.
- **cline:** its provider for Ollama asks for a context of 32768 always. Build the model with that,
  or use its OpenAI-compatible provider.
- **codex:** name the model with its tag, `-m name:latest`. Without one it does not find it and
  tries to pull.
- **gptme:** run unattended it goes on until its tool `complete` is called; leave that tool on.
- **litellm:** `ollama_chat/` joins parallel calls of a stream into one where each comes in a chunk
  of its own, which is so with carrier `modelfile` (github.com/BerriAI/litellm/issues/33678). Use
  carrier `gguf`, or `openai/`. Version 1.106 wants its extra `mcp` for requests with tools.
- **llama-index:** set `context_window`. It asks for the model's maximum, and the memory for it.
- **mini-swe-agent:** `MSWEA_COST_TRACKING=ignore_errors`, as no price is known for a model of your
  own.
- **openhands:** `reasoning_effort="none"`. Its default is refused: the model does not think.
- **pi:** the model goes into its `models.json`, `api` being `openai-completions`.
- **smolagents:** at its last step it asks once without tools. A model with PARSER that calls one
  all the same is answered with HTTP 500; carrier `gguf` gives the text instead.
"""


def markdown(found: Sequence[Found]) -> str:
    """The whole document."""
    return "\n".join([_INTRODUCTION, *table(found), _SETTINGS.rstrip("\n")]) + "\n"


def table(found: Sequence[Found]) -> Iterator[str]:
    """The lines of both tables, and what is known to break."""
    yield (
        "| client | version | surface | requests | identical | differing | as decoded | loop "
        "| gateway: identical | gateway: loop | gateway reads: identical | gateway reads: loop |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|---|---|"
    for each in found:
        yield _row(each)
    totals = {place: total(found, *place) for place in PLACES}
    yield (
        f"| **all** | | | {len([one for each in found for one in each.requests])} "
        f"| {_measures(totals)} | {_loops(found)} |"
    )
    yield "\n| carrier | format | identical | differing | as decoded |"
    yield "|---|---|---|---|---|"
    for (carrier, version), score in reversed(totals.items()):
        yield (
            f"| `{carrier.value}` | {version.value} | {score.identical} of {score.requests} "
            f"| {score.share:.1%} | {score.decoded} of {score.requests} |"
        )
    yield "\n| client | surface | lost on the way (`gguf`) |"
    yield "|---|---|---|"
    for each in found:
        reasons = each.scores[Carrier.GGUF, TokenizerVersion.V13].reasons
        yield f"| {each.client.name} | `{each.client.surface}` | {_reasons(reasons)} |"
    for each in found:
        for (model, stream), reason in each.client.broken.items():
            way = "streamed" if stream else "plain"
            yield f"\n{each.client.name} does not work {way} on `{model}`: {reason}."


def _row(found: Found) -> str:
    client = found.client
    return (
        f"| {client.name} | {client.version} | `{client.surface}` | {len(found.requests)} "
        f"| {_measures(found.scores)} | {_loops([found])} |"
    )


def _loops(found: Sequence[Found]) -> str:
    """The loops of sessions, and what becomes of them through the gateway."""
    sessions = sum(len(each.sessions) for each in found)
    worked = sessions - sum(len(each.faults) for each in found)
    cells = [f"{worked} of {sessions}"]
    for parser in (ToolCallParser.SERVER, ToolCallParser.GATEWAY):
        exact = sum(sum(each.through[parser].values()) for each in found)
        asked = sum(len(ROADS[parser]) * len(each.requests) for each in found)
        through = sum(len(each.gateway_sessions[parser]) for each in found)
        still = through - sum(len(each.gateway_faults(parser)) for each in found)
        cells += [f"{exact} of {asked}", f"{still} of {through}"]
    return " | ".join(cells)


def _measures(scores: dict[tuple[Carrier, TokenizerVersion], Score]) -> str:
    gguf = scores[Carrier.GGUF, TokenizerVersion.V13]
    modelfile = scores[Carrier.MODELFILE, TokenizerVersion.V13]
    decoded = sum(score.decoded for score in scores.values())
    asked = sum(score.requests for score in scores.values())
    return (
        f"{gguf.identical} / {modelfile.identical} | {_share(gguf)} / {_share(modelfile)} "
        f"| {decoded} of {asked}"
    )


def _share(score: Score) -> str:
    # A client that crashed may have sent nothing.
    return f"{score.share:.1%}" if score.characters else "none"


def _reasons(reasons: Counter[str]) -> str:
    # Made-up ids are no loss.
    told = [f"{name} ({number})" for name, number in reasons.most_common() if name != "ids"]
    return ", ".join(told) or "nothing"
