"""Settings as files: each is read back by a reader of its format."""

from __future__ import annotations

import plistlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ollama_tools.errors import UsageError
from ollama_tools.server.versions import Version
from ollama_tools.settings.environment import (
    ServerSettings,
    environment,
    from_mapping,
    on_this_machine,
)
from ollama_tools.settings.serve import plan_server
from ollama_tools.settings.targets import Gpu, Target, render_settings

AWKWARD = ServerSettings(
    models=Path('/srv/100% "own"/back\\slash models'), llama_args=("LLAMA_ARG_THREADS=8",)
)


def test_systemd_reads_back_what_was_meant(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.fail("systemd-analyze is missing: install systemd")
    unit = tmp_path / "ollama.service"
    unit.write_text("[Service]\nExecStart=/bin/true\n")
    drop_in = tmp_path / "ollama.service.d" / "devstral.conf"
    drop_in.parent.mkdir()
    text = render_settings(AWKWARD, Target.SYSTEMD)
    drop_in.write_text(text)
    checked = subprocess.run(
        [analyze, "verify", str(unit)], capture_output=True, text=True, check=False
    )
    assert "devstral.conf" not in checked.stderr
    assert r'"OLLAMA_MODELS=/srv/100%% \"own\"/back\\slash models"' in text


def test_an_env_file_has_one_variable_a_line() -> None:
    lines = [
        line
        for line in render_settings(AWKWARD, Target.ENV).splitlines()
        if not line.startswith("#")
    ]
    assert dict(line.split("=", 1) for line in lines) == environment(AWKWARD)


@pytest.mark.parametrize(
    ("host", "port"),
    [
        ("127.0.0.1:11434", "127.0.0.1:11434:11434"),
        ("0.0.0.0:8080", "8080:11434"),
        (":8080", "8080:11434"),
        ("[::]:8080", "8080:11434"),
        ("[::1]:8080", "[::1]:8080:11434"),
        ("10.1.2.3", "10.1.2.3:11434:11434"),
    ],
)
def test_compose_publishes_the_port_to_whom_it_should(host: str, port: str) -> None:
    settings = ServerSettings(host=host)
    [service] = compose(settings)["services"].values()
    assert service["ports"] == [port]
    assert service["environment"]["OLLAMA_HOST"] == "0.0.0.0:11434"


def test_compose_mounts_models_and_templates() -> None:
    settings = ServerSettings(models=Path("/srv/models"), dedicated_to="2507")
    document = compose(settings)
    [service] = document["services"].values()
    assert service["image"] == "ollama/ollama:0.33.0"
    assert service["volumes"][0] == "/srv/models:/root/.ollama/models"
    assert service["volumes"][1].endswith("/templates:/templates:ro")
    assert service["environment"]["LLAMA_ARG_CHAT_TEMPLATE_FILE"] == "/templates/v13.jinja"
    assert "OLLAMA_MODELS" not in service["environment"]
    assert "volumes" not in document


@pytest.mark.parametrize(
    ("written", "mounted"),
    [
        ("./models", "./models"),
        ("models", "./models"),
        ("../models", "./../models"),
        ("~/models", "~/models"),
        ("/srv/$a", "/srv/$$a"),
    ],
)
def test_compose_mounts_the_folder_that_was_written(written: str, mounted: str) -> None:
    document = compose(ServerSettings(models=Path(written)))
    [service] = document["services"].values()
    assert service["volumes"] == [f"{mounted}:/root/.ollama/models"]
    assert "volumes" not in document


def test_a_container_has_the_cards_that_are_named_and_counts_them_anew() -> None:
    def service(*cards: str, gpu: Gpu = Gpu.NVIDIA) -> dict[str, Any]:
        settings = ServerSettings(cuda_devices=cards, rocr_devices=("1",))
        text = render_settings(settings, Target.COMPOSE, gpu=gpu)
        found: dict[str, Any] = yaml.safe_load(text)["services"]["ollama"]
        return found

    def reserved(found: dict[str, Any]) -> dict[str, Any]:
        (device,) = found["deploy"]["resources"]["reservations"]["devices"]
        return {key: device.get(key) for key in ("device_ids", "count")}

    assert reserved(service()) == {"device_ids": None, "count": "all"}
    named = service("1", "GPU-8932f937")
    assert reserved(named) == {"device_ids": ["1", "GPU-8932f937"], "count": None}
    assert "CUDA_VISIBLE_DEVICES" not in named["environment"]
    assert "deploy" not in service("-1")
    assert service(gpu=Gpu.AMD)["environment"]["ROCR_VISIBLE_DEVICES"] == "1"


def test_compose_refuses_a_folder_that_it_would_split() -> None:
    with pytest.raises(UsageError, match="colon"):
        render_settings(ServerSettings(models=Path("/srv/a:b")), Target.COMPOSE)


@pytest.mark.parametrize("target", sorted(set(Target) - {Target.COMPOSE}))
@pytest.mark.parametrize("written", ["~/models", "./models", "models", "~nobody-at-all/models"])
def test_a_folder_that_the_starter_would_not_find_is_refused(target: Target, written: str) -> None:
    with pytest.raises(UsageError, match=f"{target} would not find") as caught:
        render_settings(ServerSettings(models=Path(written)), target)
    assert "/srv/models" in caught.value.fix


def test_an_address_is_no_folder_and_its_password_is_not_shown() -> None:
    written = Path("http://me:secret@h/models")
    for use in (
        lambda: ServerSettings(models=written),
        lambda: on_this_machine({"models": written}),
    ):
        with pytest.raises(UsageError, match="at an address") as caught:
            use()
        assert "secret" not in str(caught.value)


def test_a_folder_of_a_fleet_is_written_whole() -> None:
    with pytest.raises(UsageError, match="another machine would not find"):
        from_mapping({"models": "~/models"})


def test_on_this_machine_a_folder_is_taken_as_a_person_writes_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    for written, whole in (("~/models", "home/models"), ("./models", "models"), ("/a/b", "/a/b")):
        wanted = str(tmp_path / whole)
        found = plan_server({"models": Path(written)}, sys.executable, {})
        assert found.changes["OLLAMA_MODELS"] == wanted
        inherited = plan_server({}, sys.executable, {"OLLAMA_MODELS": written})
        assert inherited.changes["OLLAMA_MODELS"] == wanted
    with pytest.raises(UsageError, match="which home"):
        plan_server({"models": Path("~nobody-at-all/models")}, sys.executable, {})


def compose(settings: ServerSettings) -> dict[str, Any]:
    found = yaml.safe_load(render_settings(settings, Target.COMPOSE, version=Version(0, 33, 0)))
    assert isinstance(found, dict)
    return found


def test_launchd_reads_back_what_was_meant() -> None:
    agent = plistlib.loads(render_settings(AWKWARD, Target.LAUNCHD).encode())
    assert agent["EnvironmentVariables"] == environment(AWKWARD)
    assert agent["ProgramArguments"][-1] == "serve"


@pytest.mark.parametrize("target", list(Target))
def test_a_version_that_cannot_have_them_gets_none(target: Target) -> None:
    with pytest.raises(UsageError, match="silently use f16"):
        render_settings(ServerSettings(kv_cache_type="q5_1"), target, version=Version(0, 24, 0))  # type: ignore[arg-type]
