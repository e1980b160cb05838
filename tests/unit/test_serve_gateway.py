"""A server and the gateway before it: who gets which address."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ollama_tools import __main__ as entry
from ollama_tools.errors import DevstralError, UsageError
from ollama_tools.gateway.beside import plan_behind
from ollama_tools.gateway.fleet import gateway_of_host
from ollama_tools.gateway.known import known
from ollama_tools.gateway.settings import GatewaySettings
from ollama_tools.gateway.targets import render_both
from ollama_tools.server.shown import Shown
from ollama_tools.settings.environment import ServerSettings
from ollama_tools.settings.targets import Target


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


def test_the_gateway_knows_what_its_server_is_dedicated_to() -> None:
    given: dict[str, Any] = {"dedicated_to": "2507"}
    _, settings = plan_behind(given, sys.executable, {}, {})
    assert settings.dedicated_to == "2507"
    (unit, drop_in) = sorted(render_both(given, {}, Target.SYSTEMD).values(), key=len)[::-1]
    assert ("--dedicated-to 2507" in unit) != ("--dedicated-to 2507" in drop_in)
    [compose] = render_both(given, {}, Target.COMPOSE).values()
    assert "--dedicated-to" in compose
    host = gateway_of_host(
        {}, [], ServerSettings(**given), program=Path("/x"), keys_file=Path("/k")
    )
    assert host.arguments[-2:] == ["--dedicated-to", "2507"]
    with pytest.raises(DevstralError, match="9999"):
        GatewaySettings(dedicated_to="9999")


@pytest.mark.parametrize(
    ("template", "is_ours"),
    [
        # Whatever a file brings, the server puts its own in that place.
        ("", True),
        ("{% if messages %}{% endif %}", True),
        # A TEMPLATE of the model's own holds.
        ("{{ .Prompt }}", False),
    ],
)
def test_a_dedicated_server_shows_no_template_of_its_own(template: str, is_ours: bool) -> None:
    shown = Shown("m", {"template": template})
    assert not known(shown).understands
    for release, lists_calls in (("2507", False), ("2505", True)):
        dedicated = GatewaySettings(dedicated_to=release).dedicated_template
        found = known(shown, dedicated)
        assert found.understands == found.is_jinja == found.reads_tools_as_text == is_ours
        if is_ours:
            assert found.lists_calls == lists_calls


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
