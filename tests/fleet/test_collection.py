"""The collection as it is built and installed; no host is needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.fleet.fleet import COLLECTION, collection_tarball, collections_path

BIN = Path(sys.executable).parent
MODULES = ("devstral_model", "devstral_model_info", "devstral_rollback", "devstral_smoke")
PLAYBOOKS = sorted(path.stem for path in (COLLECTION / "playbooks").glob("*.yml"))
PINNED = {
    "ollama_server_version": "0.34.4",
    "ollama_server_archive": "/nowhere.tgz",
    "ollama_server_sha256": "0" * 64,
    "devstral_model": {"reference": "UD-Q4_K_XL"},
}


def run(
    command: str, *arguments: str, cwd: Path, home: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """One of Ansible's programs, with the installed collection and no other."""
    environment = {
        **os.environ,
        # ansible-lint finds its helpers by it.
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "ANSIBLE_COLLECTIONS_PATH": str(collections_path()),
        "ANSIBLE_HOME": str((home or cwd) / "home"),
        "ANSIBLE_NOCOLOR": "1",
        "NO_COLOR": "1",
    }
    return subprocess.run(
        [str(BIN / command), *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def template(expression: str, place: Path) -> subprocess.CompletedProcess[str]:
    """What an expression gives on the controller."""
    arguments = json.dumps({"msg": f"{{{{ {expression} }}}}"})
    module = ("-m", "ansible.builtin.debug", "-a", arguments)
    return run("ansible", "localhost", *module, cwd=place)


def play(playbook: str, place: Path, hosts: list[str], **variables: object) -> Any:
    """A playbook over hosts that nobody could reach, so that touching one would show."""
    inventory = place / "inventory.json"
    members = {host: {"ansible_host": "192.0.2.1"} for host in hosts}
    inventory.write_text(json.dumps({"ollama": {"hosts": members, "vars": variables}}))
    inventory = inventory.rename(place / "inventory.yml")
    return run("ansible-playbook", f"devstral.ollama.{playbook}", "-i", str(inventory), cwd=place)


def test_the_tarball_holds_the_collection_and_nothing_else() -> None:
    with tarfile.open(collection_tarball()) as tar:
        names = {Path(each).parts[0] for each in tar.getnames()}
        manifest = json.load(tar.extractfile("MANIFEST.json") or pytest.fail("no manifest"))
    assert names == {
        "CHANGELOG.md",
        "FILES.json",
        "MANIFEST.json",
        "README.md",
        "inventory.example.yml",
        "meta",
        "playbooks",
        "plugins",
        "roles",
        "roles.md",
        "tests",
    }
    assert manifest["collection_info"]["license"] == ["Apache-2.0"]


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_documented(name: str, tmp_path: Path) -> None:
    shown = run("ansible-doc", "--json", "-t", "module", f"devstral.ollama.{name}", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    found = json.loads(shown.stdout)[f"devstral.ollama.{name}"]
    assert found["examples"].strip()
    assert found["return"]
    doc = found["doc"]
    assert {"check_mode", "diff_mode"} <= set(doc["attributes"])
    for option, each in doc["options"].items():
        assert each["description"], option
    assert "host" in doc["options"]


@pytest.mark.parametrize(
    "name", ["ollama_server", "devstral_tools", "devstral_model", "devstral_gateway"]
)
def test_a_role_is_documented(name: str, tmp_path: Path) -> None:
    shown = run("ansible-doc", "--json", "-t", "role", f"devstral.ollama.{name}", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout)[f"devstral.ollama.{name}"]["entry_points"]["main"]["options"]


@pytest.mark.parametrize("name", PLAYBOOKS)
def test_a_playbook_can_be_read(name: str, tmp_path: Path) -> None:
    done = run("ansible-playbook", "--syntax-check", f"devstral.ollama.{name}", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_lint_finds_nothing(tmp_path: Path) -> None:
    done = run(
        "ansible-lint", "--profile", "production", "--offline", ".", cwd=COLLECTION, home=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_sanity_knows_the_license_of_every_module() -> None:
    """``ansible-test sanity`` takes minutes, and pip for each of its tests: it is run by hand."""
    for path in (COLLECTION / "tests" / "sanity").glob("ignore-*.txt"):
        told = {line.partition(" ")[0] for line in path.read_text("utf-8").splitlines()}
        modules = (COLLECTION / "plugins" / "modules").glob("devstral_*.*")
        assert told == {f"plugins/modules/{each.name}" for each in modules}, path


@pytest.mark.parametrize(
    ("machine", "first", "more"),
    [
        ("x86_64", "ollama-linux-amd64.tar.zst", "ollama-linux-amd64-rocm.tar.zst"),
        ("aarch64", "ollama-linux-arm64.tar.zst", "ollama-linux-arm64-jetpack6.tar.zst"),
    ],
)
def test_a_version_alone_names_the_archive_of_the_processor(
    machine: str, first: str, more: str, tmp_path: Path
) -> None:
    said = f"[{{'archive': '{more}', 'sha256': '{'A' * 64}'}}]"
    given = f"'', '', '0.34.4', 'https://mirror/v0.34.4/', '{machine}'"
    done = template(f"{said} | devstral.ollama.archives({given}) | to_json", tmp_path)
    assert done.returncode == 0, done.stdout
    answer = json.loads(done.stdout.partition("=>")[2])["msg"]
    found = json.loads(answer) if isinstance(answer, str) else answer
    assert [each["archive"] for each in found] == [
        f"https://mirror/v0.34.4/{first}",
        f"https://mirror/v0.34.4/{more}",
    ]
    assert [each["checksum"] for each in found] == [
        "sha256:https://mirror/v0.34.4/sha256sum.txt",
        f"sha256:{'a' * 64}",
    ]


def test_a_processor_without_an_archive_is_refused(tmp_path: Path) -> None:
    given = "'', '', '0.34.4', 'https://mirror', 'riscv64'"
    done = template(f"[] | devstral.ollama.archives({given})", tmp_path)
    assert done.returncode != 0
    assert "no archive for riscv64: set ollama_server_archive" in done.stdout + done.stderr


def test_settings_become_a_drop_in(tmp_path: Path) -> None:
    done = template("{'kv_cache_type': 'q4_0'} | devstral.ollama.drop_in('0.34.4')", tmp_path)
    assert done.returncode == 0, done.stderr
    assert 'Environment=\\"OLLAMA_KV_CACHE_TYPE=q4_0\\"' in done.stdout


@pytest.mark.parametrize(
    ("settings", "version", "why"),
    [
        ("{'kv_cache_type': 'q9_9'}", "0.34.4", "q9_9"),
        ("{'kv_cache_typ': 'q8_0'}", "0.34.4", "there is no setting"),
        ("{'kv_cache_type': 'q5_1'}", "0.24.0", "silently use f16"),
        ("{'flash_attention': false}", "0.34.4", "needs flash attention"),
        ("{'context': 'much'}", "0.34.4", "the context 'much' is no number"),
        ("{}", "0.9.0", "Devstral needs 0.15.3"),
    ],
)
def test_impossible_settings_are_refused(
    settings: str, version: str, why: str, tmp_path: Path
) -> None:
    done = template(f"{settings} | devstral.ollama.drop_in('{version}')", tmp_path)
    assert done.returncode != 0
    assert why in done.stdout + done.stderr


def asked(**said: object) -> dict[str, Any]:
    return {"devstral_model": {"reference": "UD-Q4_K_XL", **said}}


WRONG_MODELS: list[tuple[dict[str, Any], str]] = [
    (asked(reference="Q4_K_XXL"), "Q4_K_XXL"),
    ({"devstral_model": {"name": "devstral:agent"}}, "as in devstral_model: {reference"),
    ({"devstral_model": ["UD-Q4_K_XL"]}, "as in devstral_model: {reference"),
    (asked(contxt=8192), "contxt"),
    (asked(context="64x"), "the context '64x' is no number of tokens"),
    (asked(context="512k"), "more than the 131072"),
    (asked(carrier="template"), "carrier must be one of"),
    (asked(parameters={"temprature": 1}), "did you mean temperature"),
    (asked(name="a b"), "a b"),
    (
        {"devstral_model_context": 8192, "devstral_model_via": ""},
        'as in devstral_model: {"reference": "UD-Q4_K_XL", "context": 8192}',
    ),
]


@pytest.mark.parametrize("playbook", ["site", "drift"])
@pytest.mark.parametrize(("wrong", "why"), WRONG_MODELS)
def test_a_model_that_cannot_be_is_refused_before_any_host_is_asked(
    playbook: str, wrong: dict[str, Any], why: str, tmp_path: Path
) -> None:
    done = play(playbook, tmp_path, ["gpu1"], **{**PINNED, **wrong})
    assert done.returncode != 0
    # A message of several lines is quoted.
    assert why in done.stdout.replace('\\"', '"')
    assert "UNREACHABLE" not in done.stdout


@pytest.mark.parametrize("playbook", ["upgrade_server", "smoke", "rollback"])
def test_every_playbook_refuses_the_variables_of_before(playbook: str, tmp_path: Path) -> None:
    given = {key: value for key, value in PINNED.items() if key != "devstral_model"}
    done = play(playbook, tmp_path, ["gpu1"], **given, devstral_model_reference="Q8_0")
    assert done.returncode != 0
    assert 'as in devstral_model: {"reference": "Q8_0"}' in done.stdout.replace('\\"', '"')
    assert "UNREACHABLE" not in done.stdout


@pytest.mark.parametrize(
    "model",
    [
        "{'reference': 'UD-Q4_K_XL', 'release': 2507, 'context': 65536, 'system': '/on/the/host'}",
        "{'reference': 'UD-Q4_K_XL', 'context': '64k', 'parameters': {'temperature': '0.3'}}",
        "{'reference': 'UD-Q4_K_XL', 'name': none}",
    ],
)
def test_a_model_is_read_as_yaml_has_it(model: str, tmp_path: Path) -> None:
    done = template(f"{model} | devstral.ollama.public_name", tmp_path)
    assert "devstral-small-2507:UD-Q4_K_XL" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("said", "has_gateway", "carrier"),
    [
        ("{}", "'yes'", "exact"),
        ("{'keep_template': none}", "true", "exact"),
        ("{'keep_template': 'false'}", "true", "exact"),
        ("{'keep_template': true}", "true", ""),
        ("{}", "'no'", ""),
        ("{'carrier': 'auto'}", "true", "auto"),
        ("{'carrier': none}", "true", "exact"),
    ],
)
def test_a_host_with_a_gateway_gets_a_template_that_it_knows_unless_another_shall_stay(
    said: str, has_gateway: str, carrier: str, tmp_path: Path
) -> None:
    done = template(f"{said} | devstral.ollama.carrier({has_gateway}) | to_json", tmp_path)
    assert json.loads(done.stdout.partition("=>")[2])["msg"] in (carrier, f'"{carrier}"')


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"devstral_model_keep": 1}, "keep 2 or more"),
        ({"devstral_model_absent": ["Devstral-Small-2507:UD-Q4_K_XL"]},
         "is the name of devstral_model"),
        ({"devstral_model_absent": ["a b"]}, "'a b' is not a name that Ollama accepts"),
        ({"devstral_model_absent": "devstral:old"}, "has to be a list of names"),
        ({"ollama_server_version": ""}, "ollama_server_version is needed"),
        ({"ollama_server_sha256": ""}, "ollama_server_sha256 is missing: nothing is installed"),
        ({"ollama_server_sha256": "0123"}, "is '0123', not 64 hexadecimal digits"),
        ({"ollama_server_archive": "./a.tgz"}, "ollama_server_archive is './a.tgz'; give the name"),
        ({"ollama_server_archives": [{"archive": "/rocm.tgz"}]},
         "sha256 of ollama_server_archives[0] is missing"),
        ({"ollama_server_archives": [{"sha256": "0" * 64}]},
         "ollama_server_archives[0] has no archive"),
        ({"ollama_server_archives": "rocm"}, "ollama_server_archives has to be a list"),
        ({"ollama_server_settings": {"kv_cache_type": "q9_9"}}, "q9_9"),
        ({"ollama_server_version": "0.24.0", "ollama_server_settings": {"dedicated_to": "2507"}},
         "no llama-server"),
        ({"devstral_gateway_enabled": True, "ollama_server_settings": {"host": "0.0.0.0"}},
         "others reach Ollama past the gateway"),
        ({"devstral_gateway_enabled": True,
          "devstral_gateway_keys": [{"name": "a", "key": "hush"}]},
         "the key of a has less than 32 characters"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_any_host_is_asked(
    wrong: dict[str, Any], why: str, tmp_path: Path
) -> None:
    done = play("site", tmp_path, ["gpu1"], **{**PINNED, **wrong})
    assert done.returncode != 0
    assert why in done.stdout
    assert "UNREACHABLE" not in done.stdout
    assert "hush" not in done.stdout


@pytest.mark.parametrize("playbook", ["site", "upgrade_server"])
def test_a_missing_checksum_is_refused_before_any_host_is_asked(
    playbook: str, tmp_path: Path
) -> None:
    given = {key: value for key, value in PINNED.items() if key != "ollama_server_sha256"}
    done = play(playbook, tmp_path, ["gpu1"], **given)
    assert done.returncode != 0
    assert "ollama_server_sha256 is missing: nothing is installed" in done.stdout
    assert "UNREACHABLE" not in done.stdout


def test_an_inventory_without_hosts_is_an_error(tmp_path: Path) -> None:
    done = play("site", tmp_path, [], **PINNED)
    assert done.returncode != 0
    assert "no host in the group ollama" in done.stdout
