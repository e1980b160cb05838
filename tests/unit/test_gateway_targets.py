"""A gateway beside its server as files: each is read back by a reader of its format."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from ollama_tools import __main__ as entry
from ollama_tools.errors import FileProblem, UsageError
from ollama_tools.gateway import serve
from ollama_tools.gateway.keys import add_key, read_keys
from ollama_tools.gateway.settings import GatewaySettings
from ollama_tools.gateway.targets import UNIT, gateway_unit, render_both
from ollama_tools.settings.targets import DROP_IN, Target

AWKWARD: dict[str, Any] = {
    "keys": Path("/etc/100% own/keys.json"),
    "tls_certificate": Path("/etc/tls/it.pem"),
    "tls_key": Path("/etc/tls/it.key"),
    "model": 'a "$b" \\ 100%',
    "without": ("schema", "room"),
    "at_a_time": 2,
    "pin_context": True,
}


def test_systemd_reads_the_unit_as_it_is_meant(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.fail("systemd-analyze is missing: install systemd")
    settings = GatewaySettings(listen="0.0.0.0:443", **AWKWARD)
    unit = tmp_path / Path(UNIT).name
    text = gateway_unit(settings, Path("/bin/true"))
    unit.write_text(text)
    other = tmp_path / "ollama.service"
    other.write_text("[Service]\nExecStart=/bin/true\n")
    command = [analyze, "verify", "--man=no", str(unit), str(other)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert unit.name not in checked.stderr
    unit.write_text(text.replace("ProtectProc=invisible", "ProtectProc=maybe"))
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert unit.name in checked.stderr
    assert r'--model "a \"$$b\" \\ 100%%"' in text
    assert "LoadCredential=keys:/etc/100%% own/keys.json\n" in text
    assert "CapabilityBoundingSet=CAP_NET_BIND_SERVICE\n" in text
    assert "CapabilityBoundingSet=\n" in gateway_unit(GatewaySettings(), Path("/bin/true"))


def test_both_files_agree_and_the_server_is_behind() -> None:
    files = render_both({"host": "127.0.0.1:9000"}, {}, Target.SYSTEMD)
    assert 'Environment="OLLAMA_HOST=127.0.0.1:9001"' in files[DROP_IN]
    assert "--listen 127.0.0.1:9000 --upstream http://127.0.0.1:9001\n" in files[UNIT]


def test_in_containers_only_the_gateway_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = AWKWARD | {"listen": "0.0.0.0:8080", "keys": Path("keys/them.json")}
    [text] = render_both({"host": "0.0.0.0:8080"}, asked, Target.COMPOSE).values()
    services = yaml.safe_load(text.replace("$$", "$"))["services"]
    assert "ports" not in services["ollama"]
    gateway = services["gateway"]
    assert gateway["ports"] == ["8080:11434"]
    assert gateway["volumes"][0] == "./keys:/run/keys:ro"
    # Being ready is about a model here, and asking that each time would cost its clients' cache.
    assert "HTTPSConnection" in gateway["healthcheck"]["test"][-1]
    assert "/ready" not in gateway["healthcheck"]["test"][-1]
    # What is written there is what the command understands.
    found: list[GatewaySettings] = []
    monkeypatch.setattr(serve, "serve", found.append)
    assert entry.run(gateway["command"][1:]) == 0
    [settings] = found
    assert settings == GatewaySettings(
        **AWKWARD
        | {
            "listen": "0.0.0.0:11434",
            "upstream": "ollama:11434",
            "keys": Path("/run/keys/them.json"),
            "tls_certificate": Path("/run/tls/tls_certificate"),
            "tls_key": Path("/run/tls/tls_key"),
        }
    )


def test_the_server_behind_is_reached_where_a_person_says() -> None:
    [text] = render_both({}, {"upstream": "127.0.0.1:9000"}, Target.COMPOSE).values()
    services = yaml.safe_load(text)["services"]
    assert services["ollama"]["ports"] == ["127.0.0.1:9000:11434"]
    assert "/ready" in services["gateway"]["healthcheck"]["test"][-1]


def test_strangers_are_asked_for_keys_in_containers_too() -> None:
    with pytest.raises(UsageError, match="nobody is asked for a key"):
        render_both({"host": "0.0.0.0"}, {}, Target.COMPOSE)


@pytest.mark.parametrize("target", sorted(set(Target) - {Target.SYSTEMD, Target.COMPOSE}))
def test_what_starts_no_gateway_says_so(target: Target) -> None:
    with pytest.raises(UsageError, match="says nothing of a gateway"):
        render_both({}, {}, target)


def test_a_file_that_systemd_would_not_find_is_refused() -> None:
    with pytest.raises(UsageError, match=r"'keys\.json'"):
        gateway_unit(GatewaySettings(keys=Path("keys.json")), Path("/bin/true"))


def test_the_files_are_written_where_systemd_looks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["render", "--target", "systemd", "--gateway"]
    assert entry.run([*command, "--directory", str(tmp_path)]) == 0
    assert capsys.readouterr().out.split() == [
        str(tmp_path / "ollama.service.d" / "devstral.conf"),
        str(tmp_path / "devstral-gateway.service"),
    ]
    assert entry.run(command) == 0
    shown = capsys.readouterr().out
    for path in (DROP_IN, UNIT):
        text = (tmp_path / Path(path).relative_to("/etc/systemd/system")).read_text()
        assert f"# {path}\n{text}" in shown
    (tmp_path / "file").touch()
    assert entry.run([*command, "--directory", str(tmp_path / "file")]) == 2


@pytest.mark.parametrize(
    "arguments", [["UD-Q4_K_XL", "--gateway"], ["--target", "systemd", "--keys", "/k"]]
)
def test_what_is_said_of_a_gateway_is_never_left_out(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert entry.run(["render", *arguments]) == 2
    assert "gateway" in capsys.readouterr().err


def test_keys_that_systemd_hands_over_may_be_the_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "keys"
    add_key(path, "alice")
    path.chmod(0o440)
    with pytest.raises(FileProblem, match="others can read"):
        read_keys(path)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert [each.name for each in read_keys(path)] == ["alice"]
    path.chmod(0o444)
    with pytest.raises(FileProblem, match="others can read"):
        read_keys(path)
