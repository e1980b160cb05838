"""``fit`` asks the hub for the beginning of a file, and a server's engine takes what it says."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from ollama_tools import __main__ as entry
from ollama_tools.devstral import miniature
from ollama_tools.devstral.memory import KvType, batch_tokens, compute_bytes, kv_cache_bytes
from ollama_tools.files.gguf import read_header
from ollama_tools.server.client import Server
from ollama_tools.server.log import newest_load
from tests.live.test_create import hub
from tests.testbed.build import Build
from tests.testbed.hub import Hub
from tests.testbed.repository import Content, Repository
from tests.testbed.server import OllamaServer

__all__ = ["hub"]

OTHERS = "somebody/Devstral-Small-2507-GGUF"
FILE = "Devstral-Small-2507-tuned-Q4_K_M.gguf"
_MIB = 1 << 20


@pytest.fixture
def large(hub: Hub, tmp_path: Path) -> Path:
    """A file whose header is larger than what is asked for, in another owner's repository."""
    path = tmp_path / FILE
    miniature.write_miniature(path, layers=2, heads=4, kv_heads=2, chat_template="x" * 300_000)
    hub.publish(Repository(OTHERS, {FILE: Content.of(path.read_bytes())}))
    return path


def fit(*arguments: str) -> int:
    return entry.run(["fit", *arguments, "--vram", "2GiB", "--context", "8k", "--json"])


def test_a_file_on_the_hub_is_asked_for_its_beginning_alone(
    hub: Hub, large: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(f"hf.co/{OTHERS}:{FILE}") == 0
    asked = [each for each in hub.requests if each.path.startswith(f"/{OTHERS}/resolve")]
    assert len(hub.requests) <= 2, [each.path for each in hub.requests]
    assert {each.range for each in asked} == {"bytes=0-65535"}
    by_hub = json.loads(capsys.readouterr().out)
    assert fit(str(large)) == 0
    by_file = json.loads(capsys.readouterr().out)
    assert [each | {"quant": ""} for each in by_hub] == [each | {"quant": ""} for each in by_file]


@pytest.mark.usefixtures("large")
def test_a_quant_of_another_owner_is_found_by_its_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert fit(f"{OTHERS}:tuned-Q4_K_M") == 0
    assert json.loads(capsys.readouterr().out)[0]["quant"] == "tuned-Q4_K_M"


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"status": 401}, "hf auth login"),
        ({"status": 404}, "has no"),
        ({"status": 503}, "again"),
        ({"cut_after": 100}, "broke"),
    ],
)
@pytest.mark.usefixtures("large")
def test_a_hub_that_fails_is_one_message(
    hub: Hub, fault: dict[str, Any], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.fail("/", **fault)
    assert fit(f"hf.co/{OTHERS}:{FILE}") not in (0, 130)
    out = json.loads(capsys.readouterr().out)
    assert "please report" not in out["error"]
    assert words in out["error"] + out["fix"], out


@pytest.mark.parametrize("slots", [1, 2])
def test_an_engine_on_a_processor_takes_what_is_reckoned(
    newest_build: Build, tmp_path: Path, slots: int
) -> None:
    path = tmp_path / "m.gguf"
    miniature.write_miniature(path, layers=3, heads=4, kv_heads=2)
    shape, size = read_header(path).shape(), path.stat().st_size
    digest = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    for kind in (KvType.F16, KvType.Q8_0, KvType.Q4_0):
        environment = {"OLLAMA_KV_CACHE_TYPE": kind.value, "OLLAMA_NUM_PARALLEL": str(slots)}
        log = tmp_path / f"{kind}.log"
        with (
            OllamaServer(
                newest_build, models_dir=tmp_path / "models", log_path=log, env=environment
            ) as bed,
            Server(bed.url) as server,
        ):
            server.upload(path, digest, lambda *_: None)
            server.create({"model": "m", "files": {"m.gguf": digest}}, lambda *_: None)
            for context in (4096, 8200, 40960):
                options = {"num_ctx": context, "num_predict": 1}
                server.post(
                    "/api/generate",
                    {"model": "m", "prompt": "a", "stream": False, "options": options},
                )
                load = newest_load(log.read_text(errors="replace")).as_json()
                assert load["kv_bytes"] == pytest.approx(
                    kv_cache_bytes(shape, context, kind, slots), abs=0.0101 * _MIB
                )
                batch = batch_tokens(shape, context * slots, size)
                assert int(load["command"]["batch"]) == batch
                compute = sum(each.get("compute", 0) for each in load["buffers"].values())
                reckoned = compute_bytes(shape, context, batch, on_card=False)
                assert compute == pytest.approx(reckoned, rel=0.1)
