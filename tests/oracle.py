"""mistral-common as the oracle: what a conversation's prompt has to be."""

from __future__ import annotations

import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import mistral_common
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

from ollama_tools.devstral.catalog import TokenizerVersion
from ollama_tools.devstral.vocabulary import CONTROL


@cache
def reference_tokenizer(version: TokenizerVersion) -> MistralTokenizer[Any, Any, Any, Any, Any]:
    """Devstral's tokenizer: the tekken vocabulary that mistral-common ships, at a version.

    The shipped file says v3 and has no list of control tokens; the vocabulary is the same.
    """
    data = Path(mistral_common.__file__).parent / "data" / "tekken_240911.json"
    content = json.loads(data.read_text(encoding="utf-8"))
    content["config"]["version"] = version.value
    content.pop("image", None)
    content["special_tokens"] = [
        {"rank": rank, "token_str": CONTROL.get(rank, f"<SPECIAL_{rank}>"), "is_control": True}
        for rank in range(content["config"]["default_num_special_tokens"])
    ]
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "tekken.json"
        path.write_text(json.dumps(content), encoding="utf-8")
        return MistralTokenizer.from_file(str(path))


def reference_tokens(
    version: TokenizerVersion, messages: list[dict[str, Any]], tools: list[dict[str, Any]]
) -> list[int]:
    """The token ids of a conversation in the form of the OpenAI chat API."""
    request: ChatCompletionRequest[Any] = ChatCompletionRequest.from_openai(
        messages=messages, tools=tools or None
    )
    tokens: list[int] = reference_tokenizer(version).encode_chat_completion(request).tokens
    return tokens


def reference_prompt(
    version: TokenizerVersion, messages: list[dict[str, Any]], tools: list[dict[str, Any]]
) -> str:
    """The prompt of a conversation as text, its BOS token left out."""
    request: ChatCompletionRequest[Any] = ChatCompletionRequest.from_openai(
        messages=messages, tools=tools or None
    )
    text: str | None = reference_tokenizer(version).encode_chat_completion(request).text
    assert text is not None
    return text.removeprefix("<s>")
