"""What a model takes of a server, the context that fits there, and what is refused beforehand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ollama_tools.checks.placement import Host
from ollama_tools.devstral.catalog_file import load_catalog
from ollama_tools.devstral.context import AGENT_CONTEXT, LEAST_CONTEXT
from ollama_tools.devstral.fit import Cards, Weights, weights_of_release
from ollama_tools.devstral.memory import KvType
from ollama_tools.errors import UsageError
from ollama_tools.hardware.cards import Card
from ollama_tools.hardware.memory import MainMemory, main_memory
from ollama_tools.model.room import Needs, Room, stated_cards
from tests.unit.test_placement import ON_CPU, START

GIB = 1 << 30
SMALL = load_catalog().default
LONGEST = SMALL.architecture.context


def quant(name: str) -> Weights:
    return next(each for each in weights_of_release(SMALL) if each.name == name)


USUAL, LARGE = quant("UD-Q4_K_XL"), quant("Q8_0")


def room(gib: int | None, kind: KvType = KvType.Q8_0, *, seen: bool = True) -> Room:
    cards = Cards((gib * GIB,)) if gib else None
    return Room(cards, "as it is here", 64 * GIB, kind, 1, seen)


class Heard:
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def step(self, text: str) -> None:
        """Nothing."""

    def transfer(self, label: str, done: int, total: int | None) -> None:
        """Nothing."""

    def warn(self, text: str) -> None:
        self.warnings.append(text)


# The context that fits


@pytest.mark.parametrize("gib", [16, 20, 24, 32, 80])
@pytest.mark.parametrize("kind", [KvType.F16, KvType.Q8_0, KvType.Q4_0])
@pytest.mark.parametrize("weights", [USUAL, LARGE], ids=lambda each: each.name)
def test_auto_is_the_largest_that_fits_between_what_agents_need_and_want(
    gib: int, kind: KvType, weights: Weights
) -> None:
    here = room(gib, kind)
    context, why = here.context(weights, LONGEST, None)
    assert LEAST_CONTEXT <= context <= AGENT_CONTEXT
    assert why
    if here.estimate(weights, context).fits:
        larger = here.estimate(weights, context + 1024)
        assert context == AGENT_CONTEXT or not larger.fits
    else:
        assert context == LEAST_CONTEXT
        assert "no longer one fits" in why


def test_a_context_that_serves_stays_as_long_as_it_fits() -> None:
    assert room(20).context(USUAL, LONGEST, None)[0] == 61440
    assert room(20).context(USUAL, LONGEST, 40960)[0] == 40960
    # A smaller card, another type: what serves does not fit any more.
    assert room(20, KvType.F16).context(USUAL, LONGEST, 61440)[0] == 32768
    # What auto never chooses does not stay: a person took another number for it.
    assert room(80).context(USUAL, LONGEST, 131072)[0] == AGENT_CONTEXT
    assert room(80).context(USUAL, LONGEST, 4096)[0] == AGENT_CONTEXT


def test_where_nothing_tells_of_the_memory_it_is_the_least_and_stays() -> None:
    context, why = room(None).context(USUAL, LONGEST, None)
    assert (context, "--vram" in why) == (LEAST_CONTEXT, True)
    assert room(None).context(USUAL, LONGEST, 49152)[0] == 49152
    assert room(24).context(None, LONGEST, None)[0] == LEAST_CONTEXT


def test_a_model_of_a_short_context_gets_no_longer_one() -> None:
    assert room(80).context(USUAL, 40960, None)[0] == 40960
    assert room(80).context(USUAL, 8192, None)[0] == 8192


# What is refused


def test_what_does_not_fit_is_refused_with_what_would() -> None:
    here = room(16, KvType.F16)
    needs = Needs(here, here.estimate(USUAL, 65536))
    with pytest.raises(UsageError, match=r"does not fit: it takes 23.* GiB and 14.5 GiB") as caught:
        needs.require("devstral", wanted=None, progress=Heard())
    assert "devstral-ollama fit --vram 16.0GiB" in caught.value.fix
    needs.require("devstral", wanted=False, progress=Heard())

    here = room(24, KvType.F16)
    needs = Needs(here, here.estimate(USUAL, 131072))
    with pytest.raises(UsageError) as caught:
        needs.require("devstral", wanted=True, progress=Heard())
    assert "use --context 58368;" in caught.value.fix


def test_what_would_fit_with_another_type_is_told_so() -> None:
    here = room(20, KvType.F16)
    tight = replace(USUAL, file_bytes=USUAL.file_bytes + (3 * GIB // 2))
    needs = Needs(here, here.estimate(tight, 32768))
    with pytest.raises(UsageError) as caught:
        needs.require("devstral", wanted=None, progress=Heard())
    assert "use --context 32768 and OLLAMA_KV_CACHE_TYPE=q8_0" in caught.value.fix


@pytest.mark.parametrize("seen", [True, False])
def test_a_doubt_is_no_refusal(*, seen: bool) -> None:
    heard = Heard()
    here = room(24, KvType.F16, seen=seen)
    needs = Needs(here, here.estimate(USUAL, 65536))
    if seen:
        with pytest.raises(UsageError):
            needs.require("devstral", wanted=None, progress=heard)
    else:
        # With q8_0, which its server may have, it fits.
        needs.require("devstral", wanted=None, progress=heard)
        assert "may not fit" in heard.warnings[0]


def test_without_a_card_main_memory_is_what_counts() -> None:
    heard = Heard()
    small = replace(room(None), memory=8 * GIB)
    Needs(small, small.estimate(USUAL, 32768)).require("devstral", wanted=None, progress=heard)
    assert "will swap, or not load" in heard.warnings[0]
    text = Needs(room(None), room(None).estimate(USUAL, 32768)).text
    assert "of main memory, which is 64.0 GiB" in text
    elsewhere = Room(None, "it runs elsewhere", 0, KvType.F16, 1, is_seen=False)
    assert "not seen from here" in Needs(elsewhere, elsewhere.estimate(USUAL, 32768)).text


def test_what_it_takes_is_the_sum_of_its_parts() -> None:
    here = replace(room(24), parallel=2)
    found = Needs(here, here.estimate(USUAL, 32768))
    document = found.as_json()
    assert document["memory"]["total_bytes"] == sum(
        document["memory"][key]
        for key in ("weights_bytes", "kv_cache_bytes", "compute_bytes", "projector_bytes")
    )
    assert (document["on_cards"], document["room_bytes"]) == (True, Cards((24 * GIB,)).room)
    assert "2 at a time" in found.text


# What a machine has


def test_the_servers_own_list_of_cards_counts_most() -> None:
    card = Card("NVIDIA GeForce RTX 4090", 24 * GIB)
    line = 'level=INFO msg="inference compute" id=0 library=CUDA name=CUDA0 total="{}"'
    log = "\n".join([START, line.format("23.6 GiB"), line.format("15.7 GiB")])
    totals, source = Host([card, card], log=log).card_memory
    assert [round(each / GIB, 1) for each in totals] == [23.6, 15.7]
    assert "log" in source
    assert Host([card], log=f"{START}\n{ON_CPU}").card_memory[0] == (24 * GIB,)
    assert Host([card], log=f"{START}\n{line.format('unknown')}").card_memory[0] == (24 * GIB,)
    assert Host(log=f"{START}\n{ON_CPU}").card_memory[0] == ()


def test_what_a_person_says_of_the_cards_is_read_or_refused() -> None:
    assert stated_cards(None) is None
    assert stated_cards("24GiB,16GiB") == Cards((24 * GIB, 16 * GIB))
    for wrong in ("much", "24GiB,", "512MiB"):
        with pytest.raises(UsageError):
            stated_cards(wrong)


def test_main_memory_is_read_from_the_kernel(tmp_path: Path) -> None:
    path = tmp_path / "meminfo"
    path.write_text("MemTotal:       24589012 kB\nMemFree: 1 kB\nMemAvailable:   21000000 kB\n")
    assert main_memory(path) == MainMemory(24589012 << 10, 21000000 << 10)
    path.write_text("nothing")
    assert main_memory(path) is None
    assert main_memory(tmp_path / "missing") is None
