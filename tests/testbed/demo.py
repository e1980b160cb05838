"""The main job, end to end: a miniature Devstral on a real Ollama server, made and checked."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from ollama_tools.settings.environment import ServerSettings, environment
from tests.testbed.build import ollama_build
from tests.testbed.hub import Hub
from tests.testbed.models import devstral_repositories
from tests.testbed.server import OllamaServer

_COMMANDS = (
    "create UD-Q4_K_XL",
    "create UD-Q4_K_XL",
    "list",
    "smoke UD-Q4_K_XL",
)


def main() -> int:
    """Start a server with the recommended environment and the hub, and run the commands there."""
    build = ollama_build()
    with tempfile.TemporaryDirectory(prefix="devstral-demo-") as temporary:
        root = Path(temporary)
        # The bed chooses address and store itself.
        recommended = {
            key: value
            for key, value in environment(ServerSettings()).items()
            if key not in ("OLLAMA_HOST", "OLLAMA_MODELS")
        }
        with (
            Hub(devstral_repositories(heads=1, kv_heads=1)) as hub,
            OllamaServer(
                build,
                models_dir=root / "models",
                log_path=root / "ollama.log",
                env=recommended,
            ) as server,
        ):
            mine = {
                "OLLAMA_HOST": server.url,
                "HF_ENDPOINT": hub.endpoint,
                "HF_HOME": str(root / "hf"),
                "XDG_CACHE_HOME": str(root / "cache"),
                "XDG_STATE_HOME": str(root / "state"),
            }
            for command in _COMMANDS:
                print(f"\n$ devstral-ollama {command}", flush=True)
                code = subprocess.run(
                    [sys.executable, "-m", "ollama_tools", *shlex.split(command)],
                    env=os.environ | mine,
                    check=False,
                ).returncode
                if code:
                    return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
