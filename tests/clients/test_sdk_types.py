"""The gateway's answers are what the SDKs' own types say, and have the form of Ollama's."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ollama_tools.devstral.carriers import Carrier
from ollama_tools.devstral.catalog import TokenizerVersion
from tests.clients.install import interpreter
from tests.parity.places import Place, parity_server
from tests.testbed.build import NEWEST
from tests.testbed.gateway import GatewayServer

PLACE = Place(Carrier.GGUF, TokenizerVersion.V13)
CALL = '["", [["get_current_weather", {"city": "Paris", "at": "noon"}]]]'
CUT = {
    "/v1/chat/completions": "LengthFinishReasonError(",
    # What it has for an answer that ends with response.incomplete, OpenAI's own too (3.54).
    "/v1/responses": "RuntimeError(\"Didn't receive a `response.completed` event",
    "/v1/messages": '["Hello from the miniature."',
}
TEXT = '["Hello from the miniature.", []]'

DIFFERENCES = {
    # Anthropic's answers have it always, as null.
    "+stop_sequence": "/v1/messages",
    # So they have the reason, before there is one.
    "+message_start.message.stop_reason": "/v1/messages",
    # What a cache had is not known yet, and Ollama's figure there is an estimate.
    "-message_start.message.usage.cache_read_input_tokens": "/v1/messages",
    # The type of openai 3.54 asks for it.
    "+usage.input_tokens_details.cache_write_tokens": "/v1/responses",
    # So does it for this one.
    "+response.function_call_arguments.done.name": "/v1/responses",
    # There is no empty text beside a call.
    "-.choices[].delta.content": "/v1/chat/completions call streamed",
    # OpenAI's own ends so where the limit was reached, and Ollama's as if all had been said.
    "+incomplete_details.reason": "/v1/responses cut",
}
"""What the gateway's answers have more (+) than Ollama's, or less, by the end of its path; where.
"""


@dataclass(frozen=True)
class Answers:
    """What came of each case, from the server itself and through the gateway."""

    straight: dict[str, Any]
    through: dict[str, Any]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Answers]:
    root = tmp_path_factory.mktemp("sdk-types")
    with parity_server(NEWEST, root, (Carrier.GGUF,)) as server:
        small = {"model": "small", "from": PLACE.model, "parameters": {"num_ctx": 4096}}
        server.create(small, lambda *_: None)
        with GatewayServer(server.url, log_path=root / "gateway.log") as gateway:
            yield Answers(_read(server.url), _read(gateway.url))


def _read(url: str) -> dict[str, Any]:
    driver = Path(__file__).parent / "drivers" / "sdk_types.py"
    done = subprocess.run(
        [str(interpreter("libraries")), str(driver), url, "small"],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return {each["case"]: each for each in json.loads(done.stdout)}


@pytest.mark.xdist_group("clients")
def test_every_answer_is_of_the_sdks_own_types(answers: Answers) -> None:
    assert len(answers.through) == 3 * (3 * 3 + 1)
    wrong = {name: each["faults"] for name, each in answers.through.items() if each["faults"]}
    assert wrong == {}


@pytest.mark.xdist_group("clients")
def test_the_sdks_read_what_the_model_said(answers: Answers) -> None:
    for name, each in answers.through.items():
        path, _, case = name.partition(" ")
        if case == "call read":
            assert each["kinds"] == [CALL], path
        elif case == "text read":
            assert each["kinds"] == [TEXT], path
        elif case == "cut read":
            assert each["kinds"][0].startswith(CUT[path])
        elif case == "too long":
            code = "invalid_request_error" if path == "/v1/messages" else "context_length_exceeded"
            assert each["kinds"] == [400, "BadRequestError", code]


@pytest.mark.xdist_group("clients")
def test_the_form_is_ollamas_but_for_what_is_named(answers: Answers) -> None:
    seen = set()
    assert answers.straight.keys() == answers.through.keys()
    for name, ours in answers.through.items():
        theirs = answers.straight[name]
        keys = {_named(each) for each in ours["keys"]}
        found = {f"+{each}" for each in keys - set(theirs["keys"])}
        found |= {f"-{each}" for each in set(theirs["keys"]) - keys}
        for each in found:
            named = {
                known
                for known, where in DIFFERENCES.items()
                if each[0] == known[0] and each.endswith(known[1:]) and name.startswith(where)
            }
            assert len(named) == 1, (name, each)
            seen |= named
        if name.endswith(" streamed") and name != "/v1/chat/completions call streamed":
            assert [_named(each) for each in ours["kinds"]] == theirs["kinds"], name
    assert seen == DIFFERENCES.keys()


def _named(text: str) -> str:
    """The kind of an event, or a key of one, as Ollama has it where an answer was cut."""
    return re.sub(r"^response\.incomplete(?=\.|$)", "response.completed", text)
