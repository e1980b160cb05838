"""``python -m tests.testbed``: a server and the hub, up until interrupted."""

from __future__ import annotations

import argparse
import json
import os
import signal
import tempfile
from functools import partial
from pathlib import Path

from tests.testbed.build import NEWEST, OLDEST, ollama_build
from tests.testbed.hub import Hub
from tests.testbed.models import devstral_repositories
from tests.testbed.server import OllamaServer
from tests.testbed.until import until_interrupted


def main() -> None:
    """Starts both, prints where they are as one line of JSON, and waits for a signal."""
    parser = argparse.ArgumentParser(prog="python -m tests.testbed", description=__doc__)
    parser.add_argument("--ollama", default=NEWEST, choices=[NEWEST, OLDEST], metavar="VERSION")
    parser.add_argument("--layers", type=int, default=2, help="of the hub's models (default: 2)")
    parser.add_argument("--token", help="bearer token that the hub asks for")
    parser.add_argument("--dir", type=Path, help="keep models and log here (default: temporary)")
    options = parser.parse_args()

    until_interrupted(partial(_serve, options))


def _serve(options: argparse.Namespace) -> None:
    build = ollama_build(options.ollama)
    repositories = devstral_repositories(layers=options.layers)
    with tempfile.TemporaryDirectory(prefix="devstral-testbed-") as temporary:
        root = (options.dir or Path(temporary)).absolute()
        root.mkdir(parents=True, exist_ok=True)
        with (
            Hub(repositories, token=options.token) as hub,
            OllamaServer(build, models_dir=root / "models", log_path=root / "ollama.log") as server,
        ):
            where = {
                "pid": os.getpid(),
                "ollama": server.url,
                "ollama_version": build.version,
                "registry": hub.registry,
                "hub_endpoint": hub.endpoint,
                "ollama_log": str(server.log_path),
            }
            print(json.dumps(where), flush=True)
            signal.pause()


if __name__ == "__main__":
    main()
