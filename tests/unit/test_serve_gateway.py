"""A server and the gateway before it: who gets which address."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import pytest

from ollama_tools import __main__ as entry
from ollama_tools.errors import UsageError
from ollama_tools.gateway.beside import plan_behind


@pytest.mark.parametrize(
    ("given", "asked", "around", "listen", "behind"),
    [
        ({}, {}, {}, "127.0.0.1:11434", "127.0.0.1:11435"),
        ({}, {}, {"OLLAMA_HOST": ":8080"}, ":8080", "127.0.0.1:8081"),
        ({"host": "[::1]:9000"}, {}, {"OLLAMA_HOST": ":8080"}, "[::1]:9000", "127.0.0.1:9001"),
        ({}, {"listen": "127.0.0.1:70"}, {"OLLAMA_HOST": ":80"}, "127.0.0.1:70", "127.0.0.1:11434"),
        ({"host": "127.0.0.1:65535"}, {}, {}, "127.0.0.1:65535", "127.0.0.1:11434"),
        ({}, {"upstream": "127.0.0.1:5"}, {}, "127.0.0.1:11434", "127.0.0.1:5"),
    ],
)  # fmt: skip
def test_clients_keep_the_address_and_the_server_moves_behind_it(
    given: Mapping[str, Any],
    asked: Mapping[str, Any],
    around: Mapping[str, str],
    listen: str,
    behind: str,
) -> None:
    plan, settings = plan_behind(given, sys.executable, asked, around)
    assert settings.listen == listen
    assert plan.changes["OLLAMA_HOST"] == behind
    assert settings.upstream == f"http://{behind}"


@pytest.mark.parametrize(
    ("given", "asked", "error"),
    [
        ({}, {"upstream": "0.0.0.0:11435"}, "past the gateway"),
        ({}, {"upstream": "10.0.0.1"}, "past the gateway"),
        ({"host": "0.0.0.0"}, {}, "nobody is asked for a key"),
        ({"host": "127.0.0.1:11435"}, {"upstream": "127.0.0.1:11435"}, "the server behind"),
    ],
)
def test_what_would_let_strangers_in_is_refused(
    given: Mapping[str, Any], asked: Mapping[str, Any], error: str
) -> None:
    with pytest.raises(UsageError, match=error):
        plan_behind(given, sys.executable, asked, {})


def test_settings_of_a_gateway_that_is_not_there_are_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for option in (["--keys", "k"], ["--gateway-config", "f"]):
        assert entry.run(["serve", "--ollama", "true", "--dry-run", *option]) == 2
        assert "--gateway" in capsys.readouterr().err
