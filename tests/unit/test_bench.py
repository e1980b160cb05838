"""What a benchmark makes of answers, and of an earlier run; the asking is in live/."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest

from docs import outputs
from ollama_tools import __main__ as entry
from ollama_tools.checks.bench_compare import compare, figures, read_bench
from ollama_tools.checks.bench_figures import (
    Asked,
    BenchJson,
    BenchTurnJson,
    none_together,
    prompt_figures,
    session_figures,
    together_figures,
    turn_rate,
)
from ollama_tools.checks.bench_prompts import Prompts, Scale
from ollama_tools.cli.bench_plot import draw
from ollama_tools.cli.picture import COLOURS
from ollama_tools.errors import FileProblem

# 2048 tokens read in 2 s, 64 written in 1.
ASKED = Asked(10.0, 12.25, 13.25, 2050, 2, 2.0, 64, 1.0)


def turn(prompt: int, cached: int | None, seconds: float) -> BenchTurnJson:
    return {
        "prompt_tokens": prompt,
        "cached_tokens": cached,
        "prompt_seconds": seconds,
        "seconds": seconds + 1,
    }


def measured() -> BenchJson:
    """A whole document."""
    return {
        "complete": True,
        "measured": "2026-11-27T12:00:00+00:00",
        "seconds": 60.0,
        "server": "http://127.0.0.1:11434",
        "version": "0.34.4",
        "package": "0.1.0",
        "counts": True,
        "model": {
            "name": "devstral",
            "weights": "sha256:" + "a" * 64,
            "context": 32768,
            "kv_cache_type": "q8_0",
            "slots": 2,
            "beside": [],
        },
        "machine": {"cards": ["NVIDIA H100"], "processor": "a processor, 16 cores"},
        "placement": {"text": "on the GPU & whole", "on_gpu": 1.0, "bytes": 16 << 30},
        "load": {"seconds": 4.0, "warm_up_seconds": 20.0},
        "prompts": [prompt_figures(2048, [ASKED]), prompt_figures(8192, [ASKED])],
        "together": [together_figures([ASKED], 2), together_figures([ASKED, ASKED], 2)],
        "session": session_figures(
            [turn(3000, 2, 1.0), turn(4000, 3000, 0.25)], turn(4000, 2, 1.5)
        ),
        "memory": {
            "bytes_per_token": 87040.0,
            "kv_cache_bytes": 2 * 32768 * 87040,
            "source": "the server's log",
        },
        "compared": None,
    }


# Figures


def test_what_came_out_of_the_cache_counts_for_nothing() -> None:
    found = prompt_figures(2048, [ASKED])
    assert found["prompt_tokens_per_second"] == 1024.0
    assert found["first_token_seconds"] == 2.25
    assert (found["tokens_per_second"], found["answer_tokens"]) == (64.0, 64)
    assert (found["spread"], found["why"]) == (None, None)


@pytest.mark.parametrize(("cached", "is_measure"), [(None, True), (16, True), (42, False)])
def test_a_prompt_that_the_server_knew_is_no_measure(
    cached: int | None, *, is_measure: bool
) -> None:
    found = prompt_figures(2048, [ASKED, replace(ASKED, cached_tokens=cached)])
    assert (found["prompt_tokens_per_second"] is not None) is is_measure
    assert (found["first_token_seconds"] is not None) is is_measure
    assert found["tokens_per_second"] == 64.0
    assert found["why"] == (
        None if is_measure else "42 tokens of the prompt came out of the server's cache"
    )


def test_the_median_counts_and_the_spread_is_said() -> None:
    runs = [replace(ASKED, first=10.0 + wait, last=11.0 + wait) for wait in (1.0, 4.0, 1.5)]
    found = prompt_figures(2048, runs)
    assert (found["first_token_seconds"], found["spread"], found["runs"]) == (1.5, 4.0, 3)


def test_an_answer_of_a_few_tokens_has_no_speed() -> None:
    found = prompt_figures(2048, [ASKED, replace(ASKED, answer_tokens=7)])
    assert (found["tokens_per_second"], found["answer_tokens"]) == (None, 7)
    assert found["why"] == "an answer ended after 7 tokens, too few for a speed"
    both = together_figures([ASKED, replace(ASKED, answer_tokens=2)], None)
    assert both["tokens_per_second"] is None
    assert "after 2 tokens" in str(both["why"])


def test_the_speed_of_several_is_that_of_all_tokens_after_the_first() -> None:
    # The second waits until the first is done.
    found = together_figures([ASKED, replace(ASKED, first=13.5, last=14.75)], 1)
    assert found["tokens_per_second"] == round(127 / 2.5, 2)
    assert found["each_tokens_per_second"] == 64.0
    assert found["why"] == "the server answers 1 at a time, the others wait"
    assert together_figures([ASKED, ASKED], 2)["why"] is None


def test_text_that_comes_late_makes_no_answer_quick() -> None:
    # As behind a proxy that gathers the answer, or of weights whose tokens have no text.
    late = replace(ASKED, first=13.2499)
    alone, both = prompt_figures(2048, [late]), together_figures([late, late], 2)
    assert (alone["first_token_seconds"], alone["tokens_per_second"]) == (2.25, 64.0)
    assert both["tokens_per_second"] == 127.0
    for each in (alone, both):
        assert each["why"] == "the text of an answer came 1.0 s after its first token"
    # What a server says of its own time is never believed beyond what passed here.
    assert replace(late, answer_seconds=99.0).wrote == late.began
    assert replace(late, answer_seconds=0.0).wrote == late.first


def test_a_session_tells_what_reuse_saves() -> None:
    turns = [turn(1000, 2, 1.0), turn(1500, 1000, 0.5), turn(2000, 1500, 0.3)]
    found = session_figures(turns, turn(2000, 2, 2.0))
    assert (found["first_seconds"], found["further_seconds"]) == (1.0, 0.4)
    assert (found["unknown_seconds"], found["reused"]) == (2.0, round(2500 / 3500, 4))
    known = session_figures(turns, turn(2000, 1990, 0.1))
    assert known["unknown_seconds"] is None
    assert "1990 tokens" in str(known["why"])
    assert session_figures([turn(9, None, 1.0)] * 2, None)["reused"] is None
    assert session_figures([], None)["first_seconds"] is None
    assert turn_rate(turns[1]) == 1000.0
    assert turn_rate(turn(9, 9, 1.0)) is None


def test_no_two_prompts_begin_alike() -> None:
    prompts, others = Prompts(), Prompts()
    made = [
        each[0]["content"]
        for one in (prompts, others)
        for each in (one.unknown(), one.unknown(9), one.session(9))
    ]
    assert len({each[:12] for each in made}) == len(made)
    assert len({each[0] for each in made[:3]}) == 3


def test_words_make_a_prompt_of_the_wanted_length() -> None:
    scale = Scale(20, 1.25)
    assert scale.words(2048) == round(2028 / 1.25)
    assert scale.words(5) == 0


# Beside an earlier run


def test_a_run_beside_itself_has_changed_in_nothing() -> None:
    document = measured()
    found = compare(document, document, Path("earlier.json"))
    assert found["counts"]
    assert {each["change"] for each in found["changes"]} == {"same"}
    assert len(found["changes"]) == len(list(figures(document))) == 13


def test_what_changed_is_said_with_its_ratio_and_whether_it_is_better() -> None:
    before, now = measured(), measured()
    assert now["load"]
    now["load"]["seconds"] = 2.0
    now["prompts"][0]["tokens_per_second"] = 32.0
    now["prompts"][1]["tokens_per_second"] = None
    found = {each["figure"]: each for each in compare(before, now, Path("x"))["changes"]}
    assert (found["load, s"]["ratio"], found["load, s"]["change"]) == (0.5, "better")
    answer = found["answer after 2048, tokens/s"]
    assert (answer["before"], answer["now"], answer["change"]) == (64.0, 32.0, "worse")
    assert "answer after 8192, tokens/s" not in found


def test_what_differs_within_a_run_is_no_change_between_two() -> None:
    before, now = measured(), measured()
    before["prompts"][0]["spread"] = 1.5
    now["prompts"][0]["first_token_seconds"] = 3.0
    changes = compare(before, now, Path("x"))["changes"]
    assert [each["change"] for each in changes if each["change"] != "same"] == []


@pytest.mark.parametrize(
    ("part", "key", "value", "what"),
    [
        ("model", "weights", "sha256:" + "b" * 64, "model"),
        ("model", "context", 65536, "context"),
        ("model", "kv_cache_type", "f16", "KV cache"),
        ("model", "slots", None, "requests at a time"),
        ("model", "beside", ["other"], "loaded beside it"),
        ("machine", "cards", ["NVIDIA L4"], "machine"),
        ("placement", "on_gpu", 0.6, "on the GPU"),
        (None, "version", "0.30.0", "server"),
    ],
)
def test_runs_of_different_things_do_not_count(
    part: str | None, key: str, value: object, what: str
) -> None:
    before = measured()
    now = deepcopy(before)
    (now if part is None else now[part])[key] = value  # type: ignore[literal-required]
    found = compare(before, now, Path("x"))
    assert not found["counts"]
    assert [each["what"] for each in found["differences"]] == [what]


def test_the_document_is_of_its_form() -> None:
    document = measured()
    document["compared"] = compare(document, document, Path("x"))
    assert list(outputs.faults(document, BenchJson)) == []


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"prompts": []}', "1", "{", '{"load": {"seconds": "no"}}']
)
def test_what_is_no_document_of_a_benchmark_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "earlier.json"
    path.write_text(text)
    with pytest.raises(FileProblem, match="no document of a benchmark"):
        read_bench(path)
    path.write_text(json.dumps(measured()))
    assert read_bench(path) == measured()


def test_a_file_of_any_size_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "huge.json"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(FileProblem, match="no document of a benchmark"):
        read_bench(path)


# The command line, before any server is asked


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--depth", "many"], "no number of tokens"),
        (["--depth", "0"], "a prompt of 0 tokens is none"),
        (["--compare", "/nowhere/x.json"], "cannot read"),
        (["--plot", "x.png"], ".svg or .html"),
        (["--plot", "/nowhere/x.svg"], "cannot be written"),
        (["--tokens", "2"], "--tokens"),
        (["--runs", "0"], "--runs"),
    ],
)
def test_bad_input_is_one_message(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert entry.run(["bench", "name", "--host", "http://127.0.0.1:9", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert words in error


# The picture


@pytest.mark.parametrize("ending", ["svg", "html"])
def test_a_picture_has_a_bar_for_each_figure(ending: str, tmp_path: Path) -> None:
    path, document = tmp_path / f"bench.{ending}", measured()
    earlier = deepcopy(document)
    earlier["together"] = [none_together(1, "no time was left")]
    draw(path, document, earlier)
    text = path.read_text(encoding="utf-8")
    picture = ET.fromstring(text[text.index("<svg") : text.index("</svg>") + len("</svg>")])
    space = "{http://www.w3.org/2000/svg}"
    bars = [each.get("fill") for each in picture.iter(f"{space}rect")]
    # One of the legend's each; then 2 prompts thrice, 2 at a time, 2 turns and the unknown prompt.
    assert bars.count(COLOURS[0]) == 1 + 6 + 2 + 3
    assert bars.count(COLOURS[5]) == 1 + 6 + 3
    words = [each.text or "" for each in picture.iter(f"{space}text")]
    assert "on the GPU & whole" in words
    assert {"2048", "8192", "unknown", "1024"} <= set(words)
