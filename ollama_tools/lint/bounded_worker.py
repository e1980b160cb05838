"""The worker: answers one question in JSON on stdin, on stdout, within limits.

It is started by its path, and must import nothing of the package before it knows where that lies.
"""

from __future__ import annotations

import importlib
import json
import resource
import sys
from contextlib import suppress
from typing import Any

_MAX_MEMORY = 1 << 30
_MAX_SECONDS = 4
_MAX_ANSWER = 1 << 24


def _limit() -> None:
    started = resource.getrusage(resource.RUSAGE_SELF)
    used = int(started.ru_utime + started.ru_stime)
    for what, most in (
        (resource.RLIMIT_AS, _MAX_MEMORY),
        (resource.RLIMIT_CPU, used + _MAX_SECONDS),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(what)
        bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
        # Not every system has every limit.
        with suppress(ValueError, OSError):
            resource.setrlimit(what, (bound, hard))


def main() -> None:
    """Answer what stdin asks."""
    request = json.load(sys.stdin)
    sys.path[:] = request["path"]
    module = importlib.import_module(request["module"])
    _limit()
    try:
        answer: dict[str, Any] = module.answer(request["asked"])
        text = json.dumps(answer)
        if len(text) > _MAX_ANSWER:
            text = json.dumps({"fault": "it writes without an end"})
    except MemoryError:
        answer = {}
        text = json.dumps({"fault": "it takes too much memory"})
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
