"""A choice is declared once, and every surface takes it from there."""

from __future__ import annotations

import dataclasses
import inspect
import re
from typing import Any, get_type_hints

import pytest
import typer

from docs.collection import generated
from ollama_tools import ensure_model, smoke
from ollama_tools.__main__ import run
from ollama_tools.cli.app import app
from ollama_tools.declared import choice
from ollama_tools.devstral.context import parse_context
from ollama_tools.errors import UsageError
from ollama_tools.lint import lint_file, lint_model
from ollama_tools.server.access import Access
from ollama_tools.server.client import Server
from ollama_tools.settings.environment import ServerSettings, from_mapping
from ollama_tools.wanted.wish import Wish, WishOptions

CHOICES = [each for each in dataclasses.fields(Wish) if each.name != "reference"]


def test_the_keywords_of_functions_are_the_fields_of_a_wish() -> None:
    hints = get_type_hints(Wish)
    del hints["reference"]
    assert get_type_hints(WishOptions) == hints


def test_what_the_collection_says_of_a_model_is_what_a_wish_declares() -> None:
    for path, text in generated().items():
        assert path.read_text(encoding="utf-8") == text, f"{path}: run make docs"


@pytest.mark.parametrize("command", ["create", "status"])
@pytest.mark.parametrize("field", CHOICES, ids=lambda field: field.name)
def test_a_command_has_an_option_for_every_choice(command: str, field: Any) -> None:
    group: Any = typer.main.get_command(app)
    (found,) = (each for each in group.commands[command].params if each.name == field.name)
    assert found.help.startswith(choice(field).help.removesuffix("."))
    assert not found.hidden


@pytest.mark.parametrize(
    "command",
    [
        "create",
        "smoke",
        "status",
        "list",
        "doctor",
        "history",
        "rollback",
        "prune",
        "remove",
        "lint",
    ],
)
def test_a_command_that_asks_a_server_takes_what_is_declared_of_the_way_and_no_secret(
    command: str,
) -> None:
    group: Any = typer.main.get_command(app)
    options = {each.name: each for each in group.commands[command].params}
    for field in dataclasses.fields(Access):
        if choice(field).secret:
            assert field.name not in options
        else:
            assert options[field.name].envvar == choice(field).variable


@pytest.mark.parametrize(
    "function",
    [Server.__init__, ensure_model, smoke, lint_file, lint_model],
    ids=lambda function: function.__qualname__,
)
def test_a_function_that_asks_a_server_takes_what_is_declared_of_the_way(function: Any) -> None:
    wanted = {field.name: (field.type, field.default) for field in dataclasses.fields(Access)}
    taken = inspect.signature(function).parameters.values()
    assert {
        each.name: (each.annotation, each.default) for each in taken if each.name in wanted
    } == wanted


def rendered(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(["render", "Q4_K_M", *arguments]) == 0
    return capsys.readouterr().out


def test_an_earlier_spelling_of_an_option_still_holds(capsys: pytest.CaptureFixture[str]) -> None:
    assert rendered(capsys, "--template-in", "hub") == rendered(capsys, "--carrier", "hub")
    assert "TEMPLATE" in rendered(capsys, "--template-in", "modelfile")
    assert run(["render", "--help"]) == 0
    assert "--template-in" not in capsys.readouterr().out


def test_an_option_that_takes_something_away_gives_the_empty_text(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert rendered(capsys, "--no-system") == rendered(capsys, "--system", "")
    assert "\nSYSTEM " not in rendered(capsys, "--no-system")
    assert "\nSYSTEM " in rendered(capsys)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--carrier", "hub", "--template-in", "modelfile"], "--carrier and --template-in"),
        (["--system", "hub", "--no-system"], "--system and --no-system"),
    ],
)
def test_two_words_for_one_choice_are_refused(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["render", "Q4_K_M", *arguments]) == 2
    assert f"{words} contradict each other" in capsys.readouterr().err


def test_every_choice_and_setting_says_what_it_is() -> None:
    for declared in (Wish, ServerSettings):
        for field in dataclasses.fields(declared):
            assert re.search(r"\w{3}", choice(field).help), field.name


@pytest.mark.parametrize("what", [["--all"], ["--check"], ["--target", "systemd"]])
def test_nothing_can_be_said_of_a_model_that_is_not_named(
    what: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["render", *what, "--directory", "/nowhere", "--vision", "--carrier", "hub"]) == 2
    assert "no model of which carrier, vision could be said" in capsys.readouterr().err


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
    "said", ["", "k", "64 k", "64kb", "64Ki", "-1", "6e4", "64.5k", "٦٤k", "1" * 40, True]
)
def test_what_is_no_context_is_refused(said: str) -> None:
    with pytest.raises(UsageError, match="is no number of tokens"):
        parse_context(said)


def test_a_servers_context_is_taken_as_people_write_it() -> None:
    assert from_mapping({"context": "64k"}) == from_mapping({"context": 65536})
    assert ServerSettings(context="64k").context == 65536  # type: ignore[arg-type]
