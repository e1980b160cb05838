"""The example that an app's author starts from works as it stands."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.testbed.hub import Hub
from tests.testbed.server import OllamaServer

EXAMPLE = Path(__file__).parents[2] / "examples" / "weather_app.py"


def test_the_app_brings_its_model_and_gets_an_answer_by_a_tool(
    bed: OllamaServer, hub: Hub, tmp_path: Path
) -> None:
    environment = os.environ | {
        "OLLAMA_HOST": bed.url,
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(tmp_path / "hf"),
    }
    result = subprocess.run(
        [sys.executable, str(EXAMPLE), "2507:Q4_0"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    made, call, answer = result.stdout.splitlines()
    assert made == "devstral-small-2507:Q4_0: made, gguf"
    assert call == "get_current_weather({'city': 'Paris', 'at': 'noon'})"
    assert answer == "It is sunny in Paris."


def test_the_app_says_what_to_do_when_no_server_answers() -> None:
    result = subprocess.run(
        [sys.executable, str(EXAMPLE)],
        env=os.environ | {"OLLAMA_HOST": "127.0.0.1:9"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr == (
        "no Ollama server answers at http://127.0.0.1:9 (start it: devstral-ollama serve)\n"
    )
