from __future__ import annotations

import dataclasses

import pytest

from ollama_tools.devstral.catalog_file import load_catalog
from ollama_tools.devstral.memory import KvType, kv_cache_bytes, round_up_context
from ollama_tools.errors import UsageError
from ollama_tools.files.architecture import Architecture

MIB = 1 << 20


@pytest.fixture(scope="module")
def small() -> Architecture:
    return load_catalog().release("2507").architecture


@pytest.mark.parametrize(
    ("context", "kv_type", "mebibytes"),
    [
        (8192, KvType.F16, 1280),
        (8192, KvType.Q8_0, 680),
        (8192, KvType.Q4_0, 360),
        (8192, KvType.Q5_1, 480),
        (8200, KvType.Q8_0, 701.25),
        (32768, KvType.Q8_0, 2720),
        (131072, KvType.F16, 20480),
        (131072, KvType.Q8_0, 10880),
    ],
)
def test_kv_cache_equals_what_servers_log(
    small: Architecture, context: int, kv_type: KvType, mebibytes: float
) -> None:
    assert kv_cache_bytes(small, context, kv_type) == mebibytes * MIB


def test_each_parallel_slot_has_a_cache_of_its_own(small: Architecture) -> None:
    assert kv_cache_bytes(small, 8200, KvType.F16, slots=2) == 2 * kv_cache_bytes(
        small, 8200, KvType.F16
    )


def test_kv_cache_of_the_large_model_takes_352_kib_per_token() -> None:
    large = load_catalog().release("123b").architecture
    assert kv_cache_bytes(large, 256, KvType.F16) == 256 * 352 * 1024


@pytest.mark.parametrize(
    ("kv_type", "expected"),
    [("f16", 2), ("q8_0", 34 / 32), ("q5_1", 24 / 32), ("q4_0", 18 / 32)],
)
def test_bytes_per_element_are_those_of_the_blocks(kv_type: str, expected: float) -> None:
    assert KvType(kv_type).bytes_per_element == expected


def test_every_kv_type_has_a_size(small: Architecture) -> None:
    sizes = [kv_cache_bytes(small, 256, kv_type) for kv_type in KvType]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize(
    ("asked", "allocated"), [(1, 256), (256, 256), (257, 512), (8200, 8448), (131072, 131072)]
)
def test_context_is_rounded_up_to_256_tokens(asked: int, allocated: int) -> None:
    assert round_up_context(asked) == allocated


@pytest.mark.parametrize("context", [0, -1])
def test_context_must_be_positive(small: Architecture, context: int) -> None:
    with pytest.raises(UsageError, match="context"):
        kv_cache_bytes(small, context, KvType.F16)


def test_slots_must_be_positive(small: Architecture) -> None:
    with pytest.raises(UsageError, match="slots"):
        kv_cache_bytes(small, 8192, KvType.F16, slots=0)


def test_rows_that_fill_no_block_cannot_be_quantised(small: Architecture) -> None:
    odd = dataclasses.replace(small, kv_heads=1, head_dim=80)
    assert kv_cache_bytes(odd, 256, KvType.F16) == 2 * 40 * 80 * 256 * 2
    with pytest.raises(UsageError, match="q8_0"):
        kv_cache_bytes(odd, 256, KvType.Q8_0)
