"""How much of an agent's session the server evaluates again because of the template.

A session of 40 turns through the live server: question, the model's call, its result, the model's
answer. Calls are sent back as they came, their arguments not in alphabetical order. Of each
template are printed

* reuse: of the tokens that the server had evaluated when a request came, the part that it did not
  evaluate again; 1.00 is all of them;
* evaluated: prompt tokens that it evaluated in all, by the tokens of the last prompt; 1.00 would be
  every token once, and it is less where the model's own words need not be evaluated at all;
* own words: of what the model said, the part that was still known when it was sent back.

And again where the arguments have an object whose keys and numbers the server writes anew: asked
directly, and through a gateway, where the server reads the calls or the gateway itself does.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.templates import Contender, contenders, server_with
from ollama_tools.devstral.miniature import Output
from ollama_tools.gateway.settings import ToolCallParser
from ollama_tools.server.client import Server
from tests.testbed.gateway import GatewayServer

_TURNS = 40
_CONTEXT = 16384
_TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "write_file",
            "description": "Writes a file.",
            "parameters": {
                "type": "object",
                "properties": {
                    "path": {"type": "string"},
                    "content": {"type": "string"},
                    "options": {"type": "object"},
                },
                "required": ["path", "content"],
            },
        },
    }
]
# A token for each word, as a tokenizer has them, so that a call weighs what it does in a session.
_WORDS = re.findall(
    r"\w+", "a report of so many words that its call is worth to be kept in a cache"
)
_ARGUMENTS = [
    *('{"path": "', "report.txt", '", "content": "'),
    *(f"{number} {word} " for number, word in enumerate(_WORDS)),
]
_CALL = ["[TOOL_CALLS]", "write_file", "[ARGS]", *_ARGUMENTS]
_PLAIN: Output = [*_CALL, '"}']
_OWN: Output = [*_CALL, '", "options": ', '{"wrap": 80.0, ', '"append": true}', "}"]


def _session(server: Server, model: str, label: str) -> tuple[float, float, float]:
    # Sessions with one model have no beginning in common.
    messages: list[dict[str, Any]] = [{"role": "system", "content": f"{label}: write files."}]
    evaluated = reused_all = known = own_reused = own = before = said = 0
    answer: dict[str, Any] = {}
    for turn in range(_TURNS):
        messages.append({"role": "user", "content": f"Write {turn}."})
        for _ in ("call", "answer"):
            answer = server.chat({"model": model, "messages": messages, "tools": _TOOLS})
            prompt, reused = answer["prompt_eval_count"], answer["prompt_eval_cached_count"]
            evaluated += prompt - reused
            if before:
                reused_all += reused
                own_reused += max(0, reused - before)
                known += before + said
                own += said
            # The last token of an answer is drawn, and never evaluated.
            before, said = prompt, answer["eval_count"] - 1
            messages.append(answer["message"])
            for call in answer["message"].get("tool_calls") or ():
                messages.append(
                    {
                        "role": "tool",
                        "tool_call_id": call["id"],
                        "tool_name": call["function"]["name"],
                        "content": f"ok {turn}",
                    }
                )
    return reused_all / known, evaluated / answer["prompt_eval_count"], own_reused / own


def _row(server: Server, contender: Contender, label: str = "") -> str:
    label = label or contender.label
    reuse, evaluated, own = _session(server, contender.name, label)
    return f"{label:28} {reuse:9.2f} {evaluated:9.2f} {own:9.0%}"


def _print_templates(models: Sequence[Contender]) -> None:
    # Counted, not timed: the sessions may run side by side.
    with (
        server_with(models, _PLAIN, _CONTEXT) as server,
        ThreadPoolExecutor(len(models)) as pool,
    ):
        for row in pool.map(partial(_row, server), models):
            print(row, flush=True)


def _print_gateways(model: Contender) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as temporary,
        server_with([model], _OWN, _CONTEXT) as server,
    ):
        print(_row(server, model), flush=True)
        for parser in (ToolCallParser.SERVER, ToolCallParser.GATEWAY):
            log = Path(temporary) / f"{parser}.log"
            options = ("--tool-call-parser", parser)
            with (
                GatewayServer(server.url, *options, log_path=log) as gateway,
                Server(gateway.url) as through,
            ):
                print(_row(through, model, f"gateway, {parser} reads"), flush=True)


def main() -> None:
    """Measure and print."""
    columns = f"{'reuse':>9} {'evaluated':>9} {'own words':>9}"
    models = contenders()
    print(f"{'template':28} {columns}")
    _print_templates(models)
    print(f"\n{'an object in the call':28} {columns}")
    _print_gateways(models[0])


if __name__ == "__main__":
    main()
