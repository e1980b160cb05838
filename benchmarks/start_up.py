"""Start-up of the command line, against an interpreter that does nothing and an empty program.

Prints ratios of medians; the commands take turns, so that a machine's moods hit all of them.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.processes import compile_package
from tests.testbed.build import ollama_build
from tests.testbed.hub import Hub
from tests.testbed.models import devstral_repositories
from tests.testbed.server import OllamaServer

_RUNS = 21

_EMPTY_PROGRAM = '''
import typer

app = typer.Typer()

for name in {names!r}:

    @app.command(name)
    def command() -> None:
        """Do nothing."""


app()
'''


def _seconds(command: list[str], environment: dict[str, str]) -> float:
    started = time.perf_counter()
    subprocess.run(
        command,
        env=environment,
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return time.perf_counter() - started


def _medians(
    commands: dict[str, list[str]], environment: dict[str, str], runs: int
) -> dict[str, float]:
    for command in commands.values():
        _seconds(command, environment)
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(runs):
        for name, command in commands.items():
            times[name].append(_seconds(command, environment))
    return {name: statistics.median(found) for name, found in times.items()}


def main() -> None:
    """Measure and print."""
    import typer

    from ollama_tools.cli.app import app

    compile_package()
    group = typer.main.get_command(app)
    names = list(getattr(group, "commands", {}))
    python = sys.executable
    # The installed script, since that is what people start.
    ours = str(Path(python).with_name("devstral-ollama"))
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        empty = root / "empty.py"
        empty.write_text(_EMPTY_PROGRAM.format(names=names), encoding="utf-8")
        found = _medians(
            {
                "python -c pass": [python, "-c", "pass"],
                "devstral-ollama --version": [ours, "--version"],
                f"typer program, {len(names)} empty commands, --help": [
                    python,
                    str(empty),
                    "--help",
                ],
                "devstral-ollama --help": [ours, "--help"],
            },
            dict(os.environ),
            _RUNS,
        )
        nothing, version, program, help_ = found.values()
        for name, seconds in found.items():
            print(f"{name:50} {seconds * 1000:7.1f} ms")
        print(f"{'--version / pass':50} {version / nothing:7.2f} x")
        print(f"{'--help / empty typer program':50} {help_ / program:7.2f} x")

        with (
            Hub(devstral_repositories(heads=1, kv_heads=1)) as hub,
            OllamaServer(
                ollama_build(), models_dir=root / "models", log_path=root / "ollama.log"
            ) as server,
        ):
            environment = os.environ | {
                "OLLAMA_HOST": server.url,
                "HF_ENDPOINT": hub.endpoint,
                "HF_HOME": str(root / "hf"),
                "XDG_CACHE_HOME": str(root / "cache"),
                "XDG_STATE_HOME": str(root / "state"),
            }
            create = [ours, "create", "UD-Q4_K_XL", "--prompt-tokens", "300"]
            _seconds(create, environment)
            seconds = _medians({"create": create}, environment, _RUNS)["create"]
            print(f"{'create, nothing to do, over loopback':50} {seconds * 1000:7.1f} ms")
            print(f"{'create, nothing to do / pass':50} {seconds / nothing:7.2f} x")


if __name__ == "__main__":
    main()
