"""A choice is declared once, and every surface takes it from there."""

from __future__ import annotations

import dataclasses
import re
from typing import Any, get_type_hints

import pytest
import typer

from ollama_tools.cli.app import app
from ollama_tools.declared import choice
from ollama_tools.devstral.context import parse_context
from ollama_tools.errors import UsageError
from ollama_tools.settings.environment import ServerSettings, from_mapping
from ollama_tools.wanted.wish import Wish, WishOptions

CHOICES = [each for each in dataclasses.fields(Wish) if each.name != "reference"]


def test_the_keywords_of_functions_are_the_fields_of_a_wish() -> None:
    hints = get_type_hints(Wish)
    del hints["reference"]
    assert get_type_hints(WishOptions) == hints


@pytest.mark.parametrize("command", ["create", "status"])
@pytest.mark.parametrize("field", CHOICES, ids=lambda field: field.name)
def test_a_command_has_an_option_for_every_choice(command: str, field: Any) -> None:
    group: Any = typer.main.get_command(app)
    (found,) = (each for each in group.commands[command].params if each.name == field.name)
    assert found.help == choice(field).help
    assert not found.hidden


def test_every_choice_and_setting_says_what_it_is() -> None:
    for declared in (Wish, ServerSettings):
        for field in dataclasses.fields(declared):
            assert re.search(r"\w{3}", choice(field).help), field.name


@pytest.mark.parametrize(
    ("said", "tokens"),
    [
        (65536, 65536),
        ("65536", 65536),
        ("64k", 65536),
        ("128K", 131072),
        (" 32k ", 32768),
        ("65_536", 65536),
        (None, None),
    ],
)
def test_a_context_is_taken_as_people_write_it(said: int | str | None, tokens: int | None) -> None:
    assert parse_context(said) == tokens


@pytest.mark.parametrize(
    "said", ["", "k", "64 k", "64kb", "-1", "6e4", "64.5k", "٦٤k", "1" * 40, True]
)
def test_what_is_no_context_is_refused(said: str) -> None:
    with pytest.raises(UsageError, match="is no number of tokens"):
        parse_context(said)


def test_a_servers_context_is_taken_as_people_write_it() -> None:
    assert from_mapping({"context": "64k"}) == from_mapping({"context": 65536})
    assert ServerSettings(context="64k").context == 65536  # type: ignore[arg-type]
