"""The prompts that the checks expect are those of the model's own tokenizer library."""

from __future__ import annotations

import pytest

from ollama_tools.devstral.catalog import TokenizerVersion
from ollama_tools.lint import cases
from tests.oracle import reference_prompt, reference_tokens

pytestmark = pytest.mark.filterwarnings("ignore:`text` property:DeprecationWarning")


@pytest.mark.parametrize("version", TokenizerVersion)
def test_the_expected_prompt_is_mistral_commons(version: TokenizerVersion) -> None:
    made = reference_prompt(version, cases.CONVERSATION, cases.TOOLS)
    assert cases.expected_prompt(version) == made


@pytest.mark.parametrize("version", TokenizerVersion)
def test_the_prompt_that_counts_bos_has_seven_tokens_and_one_bos(
    version: TokenizerVersion,
) -> None:
    messages = [{"role": "system", "content": "a"}, {"role": "user", "content": "a"}]
    tokens = reference_tokens(version, messages, [])
    assert tokens == [1, 17, 1097, 18, 3, 1097, 4]
