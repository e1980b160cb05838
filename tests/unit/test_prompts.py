"""The prompts that the checks expect are those of the model's own tokenizer library."""

from __future__ import annotations

import pytest

from ollama_tools.checks.exact_session import expected_session, session
from ollama_tools.checks.surfaces import SURFACES, Surface
from ollama_tools.devstral.catalog import TokenizerVersion
from ollama_tools.lint import cases
from tests.oracle import reference_prompt, reference_tokens
from tests.parity.gateway import raw_conversation
from tests.parity.reference import reference

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


@pytest.mark.parametrize("version", TokenizerVersion)
@pytest.mark.parametrize("surface", SURFACES, ids=lambda each: each.path)
def test_the_session_is_one_prompt_on_every_surface(
    version: TokenizerVersion, surface: Surface
) -> None:
    said = raw_conversation(surface.path, session(surface.path))
    assert expected_session(version) == reference(version, said).text
