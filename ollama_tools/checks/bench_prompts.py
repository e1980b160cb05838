"""What a benchmark asks: prompts of a wanted length that no cache knows, and an agent's session."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ollama_tools.lint.cases import TOOLS

_TEXT = (
    "the build reads a file and writes another one before it asks for more of the same so that "
    "nothing is lost when a test fails and somebody has to find out why it did"
)
_WORDS = _TEXT.split()
_COUNT = "Write the numbers from 1 to 2000, one on each line, and nothing else. Do not stop before."
"""What a model answers at length: an answer that ends early says little of a speed."""
_TASK = "Find out why the build fails, and mend it. Until you know, say the word ok and no more."
"""What a model answers in a word: a call that were cut short would be an error."""

Message = dict[str, Any]


def text_of(words: int) -> str:
    """A text of so many words."""
    rounds = -(-words // len(_WORDS))
    return " ".join((_WORDS * rounds)[:words])


@dataclass(frozen=True, slots=True)
class Scale:
    """How many tokens words become on a server, as it counted them.

    Attributes:
        overhead: Tokens of a prompt without any of those words.
        per_word: Tokens of a word.
    """

    overhead: float
    per_word: float

    def words(self, tokens: float) -> int:
        """How many words a prompt of so many tokens has beside what every prompt has."""
        return max(0, round((tokens - self.overhead) / self.per_word))


@dataclass(slots=True)
class Prompts:
    """Prompts no two of which begin alike, within a run or between runs.

    A server knows a prompt again by its beginning, so the first words of each are its own. What
    stands before them is the template's, a token or two.
    """

    _run: str = field(default_factory=lambda: os.urandom(4).hex())
    _made: int = 0

    def unknown(self, words: int = 0) -> list[Message]:
        """A chat that nobody has asked before, answered at length.

        Args:
            words: Words beside those that every such chat has.
        """
        filler = f"{text_of(words)}\n\n" if words else ""
        return [self._mark(), {"role": "user", "content": f"{filler}{_COUNT}"}]

    def session(self, words: int) -> list[Message]:
        """The beginning of an agent's session that nobody has asked before.

        Args:
            words: Words of its system prompt.
        """
        begin = self._mark()
        begin["content"] += f" You are a coding agent. {text_of(words)}"
        return [begin, {"role": "user", "content": _TASK}]

    def _mark(self) -> Message:
        # The number first: two prompts of one run differ in their first token.
        self._made += 1
        return {"role": "system", "content": f"{self._made} {self._run}."}


def tools(words: int) -> list[dict[str, Any]]:
    """Tools as an agent has them; their descriptions are most of its first prompt.

    Args:
        words: Words of all descriptions together.
    """
    names = ("read_file", "list_files", "search")
    parameters = {
        "type": "object",
        "properties": {"path": {"type": "string"}},
        "required": ["path"],
    }
    described = {"description": text_of(words // len(names)), "parameters": parameters}
    # The last is the one that a miniature calls.
    return [
        *({"type": "function", "function": {"name": each, **described}} for each in names),
        *TOOLS,
    ]


def call_and_result(number: int, words: int) -> Iterator[Message]:
    """A call and its result, as the model and the agent would have made them.

    The same on every server and model, so that sessions can be compared.

    Args:
        number: Which turn it ends.
        words: Words of the result.
    """
    function = {"name": "read_file", "arguments": {"path": f"src/module_{number}.py"}}
    # Mistral's templates want nine letters or digits.
    identifier = f"call{number:05d}"
    yield {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": identifier, "function": function}],
    }
    yield {
        "role": "tool",
        "tool_call_id": identifier,
        "tool_name": "read_file",
        "content": f"{number} {text_of(words)}",
    }
