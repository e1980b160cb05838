"""Modules, roles and the Python API say the same; no host is needed."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from docs.collection import ROLES, TARGET, argument_spec, markdown
from ollama_tools import __version__
from ollama_tools.devstral.carriers import AUTO, EXACT, Carrier
from ollama_tools.model.builds import rollback
from ollama_tools.model.ensure import ensure_model, smoke
from ollama_tools.settings.targets import DROP_IN
from ollama_tools.wanted.wish import Via, WishOptions
from tests.fleet.fleet import COLLECTION, collections_path

MODULES = ("devstral_model", "devstral_model_info", "devstral_rollback", "devstral_smoke")
ROLE_NAMES = sorted(path.name for path in ROLES.iterdir())
# What a Python caller hands over as objects, or what a module does otherwise.
_OURS = {"progress", "server", "dry_run"}
_DUMP = """
import importlib, json, sys
sys.path.insert(0, sys.argv[1])
home = "ansible_collections.devstral.ollama.plugins.modules."
print(json.dumps({m: importlib.import_module(home + m).ARGUMENTS for m in sys.argv[2:]}))
"""


@pytest.fixture(scope="module")
def arguments() -> dict[str, dict[str, Any]]:
    """The argument specs of the modules, as the modules have them."""
    command = [sys.executable, "-c", _DUMP, str(collections_path()), *MODULES]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return found


def api(function: Any) -> dict[str, Any]:
    """What a function of the Python API takes, with its defaults."""
    parameters = inspect.signature(function).parameters
    found = {
        name: None if each.default is inspect.Parameter.empty else each.default
        for name, each in parameters.items()
        if name not in _OURS and each.kind is not inspect.Parameter.VAR_KEYWORD
    }
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values()):
        # What the module leaves out, the wish says by itself.
        found |= dict.fromkeys(WishOptions.__annotations__)
    return found


@pytest.mark.parametrize(
    ("module", "function", "beside"),
    [
        ("devstral_model", ensure_model, {"state", "hub_token"}),
        ("devstral_smoke", smoke, {"fail"}),
        ("devstral_rollback", rollback, {"host", "timeout", "api_key"}),
    ],
)
def test_a_module_takes_what_the_python_api_takes(
    arguments: dict[str, dict[str, Any]], module: str, function: Any, beside: set[str]
) -> None:
    options = arguments[module]
    wanted = api(function)
    # A llama-server is no server of a fleet, and its gateways have a role that sees them answer.
    wanted.pop("llama_server", None)
    wanted.pop("gateway", None)
    assert set(options) - beside == set(wanted)
    for name, default in wanted.items():
        assert options[name].get("default") == default, name


def test_the_info_module_takes_every_wish(arguments: dict[str, dict[str, Any]]) -> None:
    carried_out = {"state", "check", "prompt_tokens", "preflight", "force", "upgrade", "keep"}
    wishes = set(arguments["devstral_model"]) - carried_out
    assert wishes | {"settings", "templates", "absent"} == set(arguments["devstral_model_info"])


def test_choices_are_those_of_the_package(arguments: dict[str, dict[str, Any]]) -> None:
    role = argument_spec("devstral_model")["options"]["devstral_model"]["options"]
    for options in (arguments["devstral_model"], arguments["devstral_model_info"], role):
        assert options["carrier"]["choices"] == [AUTO, EXACT, *sorted(Carrier)]
        assert sorted(options["via"]["choices"]) == sorted(Via)


def test_secrets_are_marked_as_such(arguments: dict[str, dict[str, Any]]) -> None:
    for module in ("devstral_model", "devstral_model_info"):
        assert arguments[module]["hub_token"]["no_log"] is True
    for module in MODULES:
        assert arguments[module]["api_key"]["no_log"] is True
    role = argument_spec("devstral_model")["options"]
    for name in ("devstral_model_hub_token", "devstral_model_api_key"):
        assert role[name]["no_log"] is True


def test_the_role_hands_every_option_to_its_module(arguments: dict[str, dict[str, Any]]) -> None:
    (task,) = [
        each["devstral.ollama.devstral_model"]
        for each in yaml.safe_load((ROLES / "devstral_model" / "tasks" / "main.yml").read_text())
        if "devstral.ollama.devstral_model" in each
    ]
    # A role is for a model that shall be there, and to force is nothing for every run.
    assert set(task) == set(arguments["devstral_model"]) - {"state", "force"}
    for name, value in task.items():
        ways = (f"devstral_model_{name}", f"devstral_model.{name}", f"devstral.ollama.{name}(")
        assert any(each in value for each in ways), name


@pytest.mark.parametrize("role", ROLE_NAMES)
def test_a_roles_defaults_are_those_of_its_argument_spec(role: str) -> None:
    options = argument_spec(role)["options"]
    defaults = yaml.safe_load((ROLES / role / "defaults" / "main.yml").read_text()) or {}
    assert set(defaults) <= set(options)
    for name, option in options.items():
        assert name == role or name.startswith(f"{role}_")
        if option.get("required"):
            assert not defaults.get(name)
        elif "default" in option:
            assert defaults[name] == option["default"], name


@pytest.mark.parametrize("role", ROLE_NAMES)
def test_a_role_uses_no_variable_that_it_does_not_declare(role: str) -> None:
    declared = {name for each in ROLE_NAMES for name in argument_spec(each)["options"]}
    # What a role tells those who come after it.
    told = {
        "devstral_model_result",
        "devstral_tools_looked",
        "ollama_server_gpus",
        "ollama_server_went_back",
    }
    for path in (ROLES / role).rglob("*"):
        if path.suffix not in (".yml", ".j2") or path.parent.name == "meta":
            continue
        used = set(re.findall(rf"\b({'|'.join(ROLE_NAMES)})_(?!_)([a-z0-9_]+)", path.read_text()))
        names = {f"{prefix}_{rest}" for prefix, rest in used}
        assert {name for name in names if "__" not in name} <= declared | told, path


def test_the_roles_are_described_as_they_are() -> None:
    assert TARGET.read_text(encoding="utf-8") == markdown(), "run: python -m docs.collection"


def test_the_drop_in_is_the_one_that_render_names() -> None:
    variables = yaml.safe_load((ROLES / "ollama_server" / "vars" / "main.yml").read_text())
    assert f"{variables['ollama_server__drop_in_directory']}/devstral.conf" == DROP_IN


def test_the_collections_version_is_the_packages() -> None:
    assert yaml.safe_load((COLLECTION / "galaxy.yml").read_text())["version"] == __version__


def test_the_example_inventory_names_variables_that_there_are() -> None:
    example = yaml.safe_load((COLLECTION / "inventory.example.yml").read_text())
    declared = {name for each in ROLE_NAMES for name in argument_spec(each)["options"]}
    assert set(example["ollama"]["vars"]) <= declared


def test_the_readme_names_every_playbook_and_module() -> None:
    readme = (COLLECTION / "README.md").read_text(encoding="utf-8")
    names = [
        *Path(COLLECTION, "playbooks").glob("*.yml"),
        *Path(COLLECTION).glob("plugins/modules/*"),
    ]
    for path in names:
        if path.suffix in (".yml", ".py"):
            assert f"`{path.stem}`" in readme
