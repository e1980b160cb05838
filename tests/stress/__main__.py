"""``python -m tests.stress``: the whole of it, with its figures as JSON."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from tests.stress.run import stress
from tests.testbed.build import ollama_build
from tests.testbed.cache import CACHE_VARIABLE, cache_root
from tests.testbed.hub import Hub
from tests.testbed.models import devstral_repositories
from tests.testbed.server import OllamaServer


def main() -> int:
    """Start a server and the hub, run, and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.stress", description=__doc__)
    parser.add_argument("--switches", type=int, default=2500, help="of each process")
    parser.add_argument("--processes", type=int, default=4, help="that switch")
    parser.add_argument("--seed", type=int, default=0, help="of what the processes choose")
    parser.add_argument("--traces", action="store_true", help="print where each fault came up")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="devstral-stress-") as temporary:
        root = Path(temporary)
        os.environ[CACHE_VARIABLE] = str(cache_root())
        os.environ["XDG_CACHE_HOME"] = str(root / "cache")
        os.environ["XDG_STATE_HOME"] = str(root / "state")
        with (
            Hub(devstral_repositories(heads=1, kv_heads=1)) as hub,
            OllamaServer(
                ollama_build(), models_dir=root / "models", log_path=root / "ollama.log"
            ) as server,
        ):
            result = stress(
                server.url,
                hub.registry,
                switches=options.switches,
                processes=options.processes,
                seed=options.seed,
            )
    print(json.dumps(result.as_json(), indent=1, ensure_ascii=False))
    if options.traces:
        for text, trace in result.counts.where.items():
            print(f"\n--- {text}\n{trace}", file=sys.stderr)
    return 0 if result.passed else 1


if __name__ == "__main__":
    sys.exit(main())
