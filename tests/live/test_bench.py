"""A benchmark measures a real server, and is fooled by neither its cache nor a short answer."""

from __future__ import annotations

import hashlib
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from docs import outputs
from ollama_tools import __main__ as entry
from ollama_tools.checks.bench import Bench, Choices
from ollama_tools.checks.bench_figures import BenchJson
from ollama_tools.checks.bench_prompts import Prompts
from ollama_tools.devstral.carriers import jinja_template
from ollama_tools.devstral.catalog import TokenizerVersion
from ollama_tools.devstral.miniature import Script, write_miniature
from ollama_tools.progress import Silence
from ollama_tools.server.client import Server
from tests.testbed.server import OllamaServer

CONTEXT = 2048
# One layer, one head of 128, keys and values in f16.
BYTES_PER_TOKEN = 2 * 128 * 2


@pytest.fixture
def put(server: Server, tmp_path: Path) -> Any:
    """Put a miniature on the server that speaks without an end, or hardly says anything."""

    def put(name: str, *, endless: bool) -> None:
        path = tmp_path / f"{name}.gguf"
        write_miniature(
            path,
            layers=1,
            heads=1,
            kv_heads=1,
            chat_template=jinja_template(TokenizerVersion.V13),
            name=name,
            script=Script(endless=endless),
        )
        digest = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
        server.upload(path, digest, lambda *_: None)
        request = {"model": name, "files": {path.name: digest}}
        server.create({**request, "parameters": {"num_ctx": CONTEXT}}, lambda *_: None)

    return put


def run(bed: OllamaServer, *arguments: str) -> int:
    few = ("--tokens", "16", "--runs", "1")
    return entry.run(["bench", *arguments, *few, "--host", bed.url, "--json"])


def printed(capsys: pytest.CaptureFixture[str]) -> Any:
    document = json.loads(capsys.readouterr().out)
    assert list(outputs.faults(document, outputs.form_of(["bench"], document))) == []
    return document


def test_a_model_is_measured(
    bed: OllamaServer, put: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    put("endless", endless=True)
    # The only one there need not be named.
    code = run(
        bed,
        *("--depth", "512", "--depth", "context", "--depth", "32k"),
        *("--parallel", "2", "--turns", "3"),
    )
    found: BenchJson = printed(capsys)
    assert (code, found["complete"], found["counts"]) == (0, True, False)
    assert found["model"] | {"weights": None} == {
        "name": "endless:latest",
        "weights": None,
        "context": CONTEXT,
        "kv_cache_type": "f16",
        "slots": 1,
        "beside": [],
    }
    assert found["memory"] == {
        "bytes_per_token": BYTES_PER_TOKEN,
        "kv_cache_bytes": CONTEXT * BYTES_PER_TOKEN,
        "source": "the server's log",
    }
    assert found["placement"]
    assert found["placement"]["on_gpu"] == 0
    *measured, too_long = found["prompts"]
    whole = CONTEXT - 16 - 64 - CONTEXT // 128
    for depth, each in zip((512, whole), measured, strict=True):
        assert each["depth"] == depth
        assert each["prompt_tokens"] == pytest.approx(depth, abs=16)
        # BOS and what opens a system prompt, which all have.
        assert each["cached_tokens"] is not None
        assert each["cached_tokens"] <= 3
        assert each["answer_tokens"] == 16
        assert each["first_token_seconds"]
        assert each["prompt_tokens_per_second"]
        assert each["tokens_per_second"]
    assert too_long["why"] == f"the context of {CONTEXT} has no room for it"
    [together] = found["together"]
    assert together["answer_tokens"] == [16, 16]
    assert together["tokens_per_second"]
    assert together["why"] == "the server answers 1 at a time, the others wait"
    session = found["session"]
    assert session
    assert session["why"] is None
    turns = session["turns"]
    for before, after in pairwise(turns):
        assert after["prompt_tokens"] > before["prompt_tokens"]
        assert after["cached_tokens"] is not None
        assert after["cached_tokens"] >= before["prompt_tokens"] - 1
    assert session["unknown_seconds"]


def test_another_model_is_no_comparison_and_a_short_answer_no_speed(
    bed: OllamaServer,
    put: Any,
    server: Server,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    put("endless", endless=True)
    shorter = ("--depth", "512", "--parallel", "1", "--turns", "0")
    assert run(bed, "endless", *shorter) == 0
    found = printed(capsys)
    put("short", endless=False)
    earlier, picture = tmp_path / "earlier.json", tmp_path / "bench.svg"
    earlier.write_text(json.dumps(found))
    beside = ("--compare", str(earlier), "--plot", str(picture))
    assert run(bed, "short", *shorter, *beside) == 0
    found = printed(capsys)
    assert found["prompts"][0]["tokens_per_second"] is None
    assert found["prompts"][0]["answer_tokens"] == 2
    assert found["prompts"][0]["prompt_tokens_per_second"]
    assert "after 2 tokens" in str(found["together"][0]["why"])
    assert found["session"] is None
    compared = found["compared"]
    assert compared
    assert not compared["counts"]
    assert {each["what"] for each in compared["differences"]} == {"model", "loaded beside it"}
    assert {each["figure"] for each in compared["changes"]} == {
        "load, s",
        "first token after 512, s",
        "prompt of 512, tokens/s",
        "KV cache, bytes a token",
    }
    assert picture.read_text().startswith("<svg")

    # Two are there, and none is named: that which is loaded is meant, where it is one.
    server.unload("endless")
    assert run(bed, "--depth", "64", "--parallel", "1", "--turns", "0", "--require-gpu") == 4
    error = printed(capsys)
    assert "short:latest is not where it should be" in error["error"]
    assert "--no-require-gpu" in error["fix"]


def test_ctrl_c_leaves_what_was_measured(
    bed: OllamaServer,
    put: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    put("endless", endless=True)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Bench, "_session", interrupt)
    assert run(bed, "endless", "--depth", "512", "--parallel", "1") == 130
    found: BenchJson = printed(capsys)
    assert not found["complete"]
    assert found["together"][0]["tokens_per_second"]
    assert (found["prompts"], found["session"]) == ([], None)


def test_neither_the_cache_nor_the_clock_fools_it(
    bed: OllamaServer, put: Any, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("endless", endless=True)
    monkeypatch.setattr(Prompts, "_mark", lambda _: {"role": "system", "content": "the same"})
    choices = Choices(depths=(512,), at_a_time=(1,), tokens=16, runs=2, turns=2)
    bench = Bench(server, "endless", choices, Silence(), lambda: Server(bed.url))
    bench.run()
    [prompt] = bench.document["prompts"]
    assert prompt["prompt_tokens_per_second"] is None
    assert "came out of the server's cache" in str(prompt["why"])
    assert bench.document["session"]
    assert bench.document["session"]["unknown_seconds"] is None
    assert "were known to the server" in str(bench.document["session"]["why"])

    # What has no time says so, and is not begun.
    bench = Bench(
        server,
        "endless",
        Choices(depths=(512,), seconds=0.001),
        Silence(),
        lambda: Server(bed.url),
    )
    bench.run()
    assert "would take about" in str(bench.document["prompts"][0]["why"])
    assert {each["why"] for each in bench.document["together"]} == {"no time was left"}
    assert bench.document["complete"]
