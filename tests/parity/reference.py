"""The prompt of a conversation by mistral-common, also where its validator would refuse it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from mistral_common.exceptions import MistralCommonException
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.tokens.tokenizers.base import SpecialTokenPolicy

from ollama_tools.devstral.catalog import TokenizerVersion
from tests.oracle import reference_tokenizer
from tests.parity.conversation import Conversation, to_openai


@dataclass(frozen=True)
class Reference:
    """A prompt as it has to be.

    Attributes:
        text: The prompt, its BOS token left out.
        tokens: Its token ids, the BOS token first.
        refused: Why the library's validator would not have this conversation; it asks for an
            order of roles that clients do not all keep, and encodes others as well as these.
    """

    text: str
    tokens: list[int]
    refused: str = ""


def reference(version: TokenizerVersion, conversation: Conversation) -> Reference:
    """The prompt of a conversation."""
    body = to_openai(conversation)
    request: ChatCompletionRequest[Any] = ChatCompletionRequest.from_openai(
        messages=body["messages"],
        tools=body.get("tools"),
        continue_final_message=conversation.ends_in_prefix,
    )
    tokenizer = reference_tokenizer(version)
    refused = ""
    try:
        encoded = tokenizer.encode_chat_completion(request)
    except MistralCommonException as error:
        refused = str(error)
        normalizer = tokenizer._instruct_request_normalizer
        normal = normalizer.from_chat_completion_request(request)
        encoded = tokenizer.instruct_tokenizer.encode_instruct(normal)
    text = tokenizer.decode(encoded.tokens, special_token_policy=SpecialTokenPolicy.KEEP)
    return Reference(text.removeprefix("<s>"), encoded.tokens, refused)


def tokens(version: TokenizerVersion, prompt: str) -> list[int]:
    """The token ids of a rendered prompt, as a server tokenizes it: BOS first, control tokens
    wherever their text stands."""
    vocabulary = reference_tokenizer(version).instruct_tokenizer.tokenizer
    ids = [vocabulary.bos_id]
    for piece in _control_pattern().split(prompt):
        if _control_pattern().fullmatch(piece):
            ids.append(vocabulary.get_special_token(piece))
        elif piece:
            ids += vocabulary.encode(piece, bos=False, eos=False)
    return ids


@cache
def _control_pattern() -> re.Pattern[str]:
    from ollama_tools.devstral.carriers import CONTROL_TOKENS

    return re.compile("(" + "|".join(map(re.escape, CONTROL_TOKENS)) + ")")
