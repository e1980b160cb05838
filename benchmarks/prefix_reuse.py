"""How much of an agent's session the server evaluates again because of the template.

A session of 40 turns through the live server: question, the model's call, its result, the model's
answer. Calls are sent back as they came, their arguments not in alphabetical order. Of each
template are printed

* reuse: of the tokens that the server had evaluated when a request came, the part that it did not
  evaluate again; 1.00 is all of them;
* evaluated: prompt tokens that it evaluated in all, by the tokens of the last prompt; 1.00 would be
  every token once, and it is less where the model's own words need not be evaluated at all;
* own words: of what the model said, the part that was still known when it was sent back.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from benchmarks.templates import Contender, contenders, server_with
from ollama_tools.devstral.miniature import Output
from ollama_tools.server.client import Server

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
                "properties": {"path": {"type": "string"}, "content": {"type": "string"}},
                "required": ["path", "content"],
            },
        },
    }
]
# A token for each word, as a tokenizer has them, so that a call weighs what it does in a session.
_WORDS = re.findall(
    r"\w+", "a report of so many words that its call is worth to be kept in a cache"
)
_CALL: Output = [
    *("[TOOL_CALLS]", "write_file", "[ARGS]", '{"path": "', "report.txt", '", "content": "'),
    *(f"{number} {word} " for number, word in enumerate(_WORDS)),
    '"}',
]


def _session(server: Server, model: str) -> tuple[float, float, float]:
    messages: list[dict[str, Any]] = [{"role": "system", "content": "You write files."}]
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


def _row(server: Server, contender: Contender) -> str:
    reuse, evaluated, own = _session(server, contender.name)
    return f"{contender.label:28} {reuse:9.2f} {evaluated:9.2f} {own:9.0%}"


def main() -> None:
    """Measure and print."""
    print(f"{'template':28} {'reuse':>9} {'evaluated':>9} {'own words':>9}")
    models = contenders()
    # Counted, not timed: the sessions may run side by side.
    with (
        server_with(models, _CALL, _CONTEXT) as server,
        ThreadPoolExecutor(len(models)) as pool,
    ):
        for row in pool.map(partial(_row, server), models):
            print(row, flush=True)


if __name__ == "__main__":
    main()
