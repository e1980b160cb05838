"""What fits on a card: the arithmetic against what was logged, the choice, and how it is said."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from docs import memory as page
from ollama_tools import __main__ as entry
from ollama_tools.devstral.catalog_file import load_catalog
from ollama_tools.devstral.context import AGENT_CONTEXT
from ollama_tools.devstral.fit import (
    DRIVER,
    Cards,
    Weights,
    recommend,
    weights_of_release,
)
from ollama_tools.devstral.memory import (
    FIT_MARGIN,
    KvType,
    batch_tokens,
    compute_bytes,
    kv_cache_bytes,
)
from ollama_tools.devstral.miniature import write_miniature
from ollama_tools.errors import UsageError
from ollama_tools.hardware import cards as hardware
from ollama_tools.progress import parse_size

MIB, GIB = 1 << 20, 1 << 30
RELEASE = load_catalog().default
MODELS = weights_of_release(RELEASE)
CARD = Cards((24 * GIB,))
NVIDIA_SMI = """\
#!/bin/sh
case "$1" in
--query-gpu=name,memory.total,memory.used) ;;
*) exit 6 ;;
esac
echo "NVIDIA GeForce RTX 4090, 24564, 1203"
echo "NVIDIA GeForce RTX 3060, 12288, [N/A]"
"""


def ours(*arguments: str) -> int:
    return entry.run(list(arguments))


# The arithmetic


@pytest.mark.parametrize("load", page.loads(), ids=str)
def test_what_is_reckoned_is_what_a_card_logged(load: page.Load) -> None:
    (kv, compute, host), (kv_, compute_, host_) = load.reckoned, load.logged
    # The log has two decimals of a MiB.
    assert kv == pytest.approx(kv_, abs=0.01 * MIB)
    assert compute == pytest.approx(compute_, rel=0.1)
    assert host == pytest.approx(host_, rel=0.003)
    assert load.reckoned_batch == load.batch


def test_enough_was_measured() -> None:
    found = page.loads()
    assert len({(each.context, each.slots, each.kv_type) for each in found}) == 15
    assert {each.batch for each in found} == {512, 1024, 2048}


@pytest.mark.parametrize(
    ("context", "mebibytes"), [(8192, 492.1), (32768, 540.1), (131072, 1464.1)]
)
def test_a_processor_takes_what_it_logged(context: int, mebibytes: float) -> None:
    """Of the true shape in 13,441,806,464 bytes, Ollama 0.34.4, 24 GB of memory."""
    batch = batch_tokens(RELEASE.architecture, context, 13_441_806_464)
    found = compute_bytes(RELEASE.architecture, context, batch, on_card=False)
    assert found / MIB == pytest.approx(mebibytes, abs=0.2)


@pytest.mark.parametrize(
    ("context", "kind", "gibibytes"),
    [
        (8192, KvType.Q8_0, 13.66),
        (32768, KvType.F16, 18.04),
        (32768, KvType.Q8_0, 15.70),
        (131072, KvType.Q4_0, 19.57),
    ],
)
def test_a_whole_model_on_a_processor(context: int, kind: KvType, gibibytes: float) -> None:
    """The sum of what 0.34.4 logged of the true shape: weights 12811.58 MiB, KV cache, compute."""
    shape = RELEASE.architecture
    batch = batch_tokens(shape, context, 13_441_806_464)
    whole = (
        12811.58 * MIB
        + kv_cache_bytes(shape, context, kind)
        + compute_bytes(shape, context, batch, on_card=False)
    )
    assert whole / GIB == pytest.approx(gibibytes, rel=0.002)


@pytest.mark.parametrize(
    ("cells", "free", "batch"),
    [
        (4096, None, 512),
        (4097, None, 1024),
        (32768, None, 1024),
        (32769, None, 2048),
        # The server's guess at 65536 tokens is 13.5 GiB and 12.5 of f16, and it wants 40 % left.
        (65536, 44 * GIB, 2048),
        (65536, 42 * GIB, 1024),
        (65536, 34 * GIB, 512),
    ],
)
def test_the_batch_follows_context_and_memory(cells: int, free: int | None, batch: int) -> None:
    size = RELEASE.quant("UD-Q4_K_XL").bytes
    assert batch_tokens(RELEASE.architecture, cells, size, free) == batch


def test_what_driver_and_engine_keep_is_no_room() -> None:
    assert CARD.room == 24 * GIB - DRIVER - FIT_MARGIN
    assert Cards((24 * GIB, 24 * GIB)).room == 2 * CARD.room


def test_what_does_not_fit_is_said_in_layers() -> None:
    [weights] = [each for each in MODELS if each.name == "UD-Q4_K_XL"]
    assert CARD.estimate(weights, 65536, KvType.Q8_0).layers_on_card == 41
    some = CARD.estimate(weights, 131072, KvType.F16)
    assert not some.fits
    assert 20 < some.layers_on_card < 35


def test_an_estimated_file_may_be_a_twentieth_larger() -> None:
    known = Weights("X", RELEASE.architecture, 20 * GIB, GIB // 2)
    doubtful = Weights("X", RELEASE.architecture, 20 * GIB, GIB // 2, estimated=True)
    assert CARD.estimate(known, 32768, KvType.Q8_0).fits
    assert not CARD.estimate(doubtful, 32768, KvType.Q8_0).fits


# The choice


@pytest.mark.parametrize("gibibytes", range(8, 100, 4))
def test_what_is_recommended_fits_and_the_next_larger_does_not(gibibytes: int) -> None:
    cards = Cards((gibibytes * GIB,))
    best = recommend(cards, MODELS)
    assert best is not None
    assert best.fits
    assert best.weights.bits <= 10
    if best.context < AGENT_CONTEXT:
        assert not cards.estimate(best.weights, best.context + 1024, best.kv_type).fits
    larger = MODELS[MODELS.index(best.weights) + 1 :]
    goal = min(32768, best.context) if best.context < AGENT_CONTEXT else AGENT_CONTEXT
    for each in larger:
        assert each.bits > 10 or not cards.estimate(each, goal, best.kv_type).fits


def test_what_is_asked_for_is_kept_to() -> None:
    best = recommend(CARD, MODELS, [131072], [KvType.Q4_0], parallel=2)
    assert best is not None
    assert (best.context, best.kv_type, best.parallel) == (131072, KvType.Q4_0, 2)
    assert recommend(Cards((6 * GIB,)), MODELS, [131072]) is None


# How it is said


def test_json_is_a_list_of_estimates(capsys: pytest.CaptureFixture[str]) -> None:
    code = ours("fit", "UD-Q4_K_XL", "--vram", "24GiB", "--context", "64k", "--json")
    [found] = json.loads(capsys.readouterr().out)[1:2]
    assert code == 0
    assert found["kv_cache_bytes"] == 5440 * MIB
    parts = ("weights_bytes", "kv_cache_bytes", "compute_bytes", "projector_bytes")
    assert found["total_bytes"] == sum(found[each] for each in parts)
    assert found | {"quant": "UD-Q4_K_XL", "context": 65536, "kv_cache_type": "q8_0"} == found
    assert found["fits"] is True


def test_all_quants_are_shown_with_the_largest_context(capsys: pytest.CaptureFixture[str]) -> None:
    assert ours("fit", "--vram", "24GiB") == 0
    out = capsys.readouterr().out
    rows = {line.split()[0]: line.split()[-3:] for line in out.splitlines() if "GiB  " in line}
    assert set(rows) == {each.name for each in MODELS}
    assert rows["BF16"] == ["-", "-", "-"]
    assert rows["UD-Q4_K_XL"][1] == "110592"
    assert "Take UD-Q5_K_XL with a context of 65536 and a KV cache of q8_0" in out


def test_nothing_fits(capsys: pytest.CaptureFixture[str]) -> None:
    assert ours("fit", "Q8_0", "--vram", "16GiB") == 4
    out = capsys.readouterr().out
    assert "Nothing of this fits on a card of 16.0 GiB" in out
    assert "of 41 layers" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--vram", "much"], "is no size"),
        (["--vram", "0"], "is no size"),
        (["--vram", "100MiB"], "less than 1 GiB"),
        (["--vram", "24GiB", "--context", "many"], "no number of tokens"),
        (["--vram", "24GiB", "--kv-cache-type", "q3"], "q3"),
        (["UD-Q9", "--vram", "24GiB"], "UD-Q9"),
        (["my-model:latest", "--vram", "24GiB"], "a model on a server"),
        (["./nothing.gguf", "--vram", "24GiB"], "cannot be read"),
        (["123b", "--vision", "--vram", "96GiB"], "no vision projector"),
        (["--vram", "24GiB", "--plot", "x.png"], ".svg or .html"),
        (["--vram", "24GiB", "--plot", "/nowhere/x.svg"], "cannot be written"),
    ],
)
def test_bad_input_is_one_message(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ours("fit", *arguments) in (2, 3)
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "unexpected" not in error
    assert words in error


def test_no_card_and_no_word_of_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(hardware, "cards", lambda: [])
    assert ours("fit") == 2
    assert "--vram 24GiB" in capsys.readouterr().err


@pytest.mark.parametrize("ending", ["svg", "html"])
def test_a_picture_has_a_line_for_each_type_and_the_cards_limit(
    ending: str, tmp_path: Path
) -> None:
    path = tmp_path / f"memory.{ending}"
    assert ours("fit", "--vram", "24GiB", "--vram", "24GiB", "--plot", str(path)) == 0
    text = path.read_text(encoding="utf-8")
    [start, end] = text.index("<svg"), text.index("</svg>") + len("</svg>")
    picture = ET.fromstring(text[start:end])
    space = "{http://www.w3.org/2000/svg}"
    assert len(picture.findall(f"{space}polyline")) == 3
    labels = {each.text for each in picture.findall(f"{space}text")}
    assert {"f16", "q8_0", "q4_0", "2 cards of 24.0 GiB", "128k"} <= labels


# What tells of files and cards


def test_a_local_file_tells_its_own_shape(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "tune.gguf"
    write_miniature(path, layers=2, heads=4, kv_heads=2)
    assert ours("fit", str(path), "--vram", "2GiB", "--context", "8192", "--json") == 0
    f16 = json.loads(capsys.readouterr().out)[0]
    assert f16["quant"] == "tune"
    assert f16["kv_cache_bytes"] == 2 * 2 * 2 * 128 * 8192 * 2


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("24GiB", 24 * GIB),
        ("24 GB", 24 * GIB),
        ("24g", 24 * GIB),
        ("24", 24 * GIB),
        ("24576MiB", 24 * GIB),
        ("0.5t", 512 * GIB),
        ("79.65GiB", round(79.65 * GIB)),
    ],
)
def test_sizes_as_people_write_them(said: str, expected: int) -> None:
    assert parse_size(said) == expected


@pytest.mark.parametrize("said", ["", "GiB", "-1", "1e3", "24 Gi B", "٢٤", "inf", "9" * 400])
def test_what_is_no_size(said: str) -> None:
    with pytest.raises(UsageError, match="is no size"):
        parse_size(said)


def test_nvidia_cards_as_their_program_tells_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(NVIDIA_SMI)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    first, second = hardware.cards(tmp_path)
    assert (first.name, first.total, first.used) == (
        "NVIDIA GeForce RTX 4090",
        24564 * MIB,
        1203 * MIB,
    )
    assert second.used is None


def test_amd_cards_as_their_driver_tells_of_them(tmp_path: Path) -> None:
    for number, vendor, more in ((0, "0x8086", {}), (1, "0x1002", {"product_name": "W7900"})):
        device = tmp_path / f"class/drm/card{number}/device"
        device.mkdir(parents=True)
        figures = {"vendor": vendor, "mem_info_vram_total": "51522830336", **more}
        for name, value in (figures | {"mem_info_vram_used": "27086848"}).items():
            (device / name).write_text(f"{value}\n")
    found = [each for each in hardware.cards(tmp_path) if "NVIDIA" not in each.name]
    assert found == [hardware.Card("W7900", 51522830336, 27086848)]


def test_the_page_is_what_the_arithmetic_says() -> None:
    assert page.TARGET.read_text(encoding="utf-8") == page.markdown(), "run: make docs"
