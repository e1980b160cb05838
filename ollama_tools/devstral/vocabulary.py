"""The beginning of Devstral's vocabulary: its control tokens, then the 256 bytes.

Models that are made rather than trained begin with it, so that every marker of a prompt has the
id that the real model knows it by.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

VOCABULARY: Final = 131_072
"""Tokens of the tekken vocabulary, control tokens included, in every release of the family."""

SPECIAL_IDS: Final = 1000
"""Ids that the tekken tokenizer keeps for control tokens, named or not."""

CONTROL: Final[Mapping[int, str]] = {
    0: "<unk>",
    1: "<s>",
    2: "</s>",
    3: "[INST]",
    4: "[/INST]",
    5: "[AVAILABLE_TOOLS]",
    6: "[/AVAILABLE_TOOLS]",
    7: "[TOOL_RESULTS]",
    8: "[/TOOL_RESULTS]",
    9: "[TOOL_CALLS]",
    10: "[IMG]",
    11: "<pad>",
    12: "[IMG_BREAK]",
    13: "[IMG_END]",
    14: "[PREFIX]",
    15: "[MIDDLE]",
    16: "[SUFFIX]",
    17: "[SYSTEM_PROMPT]",
    18: "[/SYSTEM_PROMPT]",
    19: "[TOOL_CONTENT]",
    32: "[ARGS]",
    33: "[CALL_ID]",
}
"""Control tokens of the tekken vocabulary by id, as mistral-common numbers them."""


def base_tokens() -> list[str]:
    """Control tokens, then the 256 bytes."""
    special = [CONTROL.get(i, f"<SPECIAL_{i}>") for i in range(SPECIAL_IDS)]
    return special + byte_symbols()


def byte_symbols() -> list[str]:
    """GPT-2's printable stand-in for each byte: bytes that do not print move up from U+0100."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    spare = iter(range(0x100, 0x200))
    return [chr(byte) if byte in printable else chr(next(spare)) for byte in range(256)]
