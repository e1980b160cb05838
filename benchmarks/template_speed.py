"""What a template costs on the server, as conversations and arguments grow.

Each request only renders. Printed are the milliseconds at the largest size, and by how much each
doubling of the size multiplies them: 2 is linear, 4 quadratic, and below 2 is the request's fixed
cost. Each figure is the least of several; the templates take turns, so that a machine's moods hit
all of them.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.templates import Contender, contenders, server_with
from ollama_tools.server.client import Server

_TURNS = (50, 100, 200)
_ARGUMENT_BYTES = (262_144, 524_288, 1_048_576)
_ROUNDS = 2
_CONTEXT = 131_072
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
_LINE = 'print("line", end="\\n")  # é\n'

Messages = list[dict[str, Any]]


def _turn(number: int, content: str) -> Messages:
    arguments = {"path": f"{number}.py", "content": content}
    call = {"id": f"call{number:05}", "function": {"name": "write_file", "arguments": arguments}}
    return [
        {"role": "user", "content": f"Write file {number}."},
        {"role": "assistant", "content": "I write it.", "tool_calls": [call]},
        {"role": "tool", "content": "done", "tool_call_id": f"call{number:05}"},
        {"role": "assistant", "content": "It is written."},
    ]


def _conversation(turns: int) -> Messages:
    messages: Messages = [{"role": "system", "content": "You write files."}]
    for number in range(turns):
        messages += _turn(number, _LINE * 4)
    return [*messages, {"role": "user", "content": "Go on."}]


def _arguments(size: int) -> Messages:
    content = _LINE * (size // len(json.dumps(_LINE)))
    return [*_turn(0, content), {"role": "user", "content": "Go on."}]


def _times(
    server: Server,
    models: Sequence[Contender],
    make: Callable[[int], Messages],
    sizes: Sequence[int],
) -> dict[str, list[float]]:
    requests = [{"messages": make(size), "tools": _TOOLS} for size in sizes]
    best = {each.label: [float("inf")] * len(sizes) for each in models}
    for _ in range(_ROUNDS):
        for each in models:
            for i, request in enumerate(requests):
                started = time.perf_counter()
                server.rendered_prompt({"model": each.name, **request})
                best[each.label][i] = min(best[each.label][i], time.perf_counter() - started)
    return best


def _print(title: str, unit: str, sizes: Sequence[int], found: dict[str, list[float]]) -> None:
    steps = [f"{a}→{b}" for a, b in itertools.pairwise(sizes)]
    print(
        f"\n{title:28} {'ms at ' + str(sizes[-1]) + unit:>16}" + "".join(f"{s:>16}" for s in steps)
    )
    for label, times in found.items():
        growth = [b / a for a, b in itertools.pairwise(times)]
        print(f"{label:28} {times[-1] * 1000:16.1f}" + "".join(f"{g:16.2f}" for g in growth))


def main() -> None:
    """Measure and print."""
    # Where the tools stand makes no difference here: one of the others will do.
    models = [each for each in contenders() if each.name != "last-user:hub"]
    with server_with(models, "Hello.", _CONTEXT) as server:
        for each in models:
            server.rendered_prompt({"model": each.name, "messages": _conversation(1)})
        print("Render only, growth of the time per doubling")
        _print("turns", "", _TURNS, _times(server, models, _conversation, _TURNS))
        kib = [size // 1024 for size in _ARGUMENT_BYTES]
        _print("arguments, KiB", "", kib, _times(server, models, _arguments, _ARGUMENT_BYTES))


if __name__ == "__main__":
    main()
