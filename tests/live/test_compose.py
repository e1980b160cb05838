"""``render --target compose``: a file that compose itself reads, and a server that passes smoke.

The file is read by docker compose's own library, and what it says of the container is then done by
hand; docker itself starts it in ``tests/fleet/test_containers.py``, which needs root.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import pytest

from ollama_tools import __main__ as entry
from ollama_tools.devstral.miniature import write_miniature
from ollama_tools.gateway.targets import render_both
from ollama_tools.settings.environment import ServerSettings
from ollama_tools.settings.targets import Gpu, Target, render_settings
from tests.testbed.build import Build
from tests.testbed.compose_file import read_compose, run_beside
from tests.testbed.models import TEMPLATES

ROOT = Path(__file__).parents[2]
NVIDIA = [{"driver": "nvidia", "count": -1, "capabilities": ["gpu"]}]


def written(tmp_path: Path, settings: ServerSettings, gpu: Gpu | None = None) -> Path:
    path = tmp_path / "compose.yaml"
    path.write_text(render_settings(settings, Target.COMPOSE, gpu=gpu))
    return path


@pytest.mark.parametrize("gpu", [None, *Gpu])
def test_compose_reads_the_file_and_gives_the_container_its_cards(
    tmp_path: Path, gpu: Gpu | None
) -> None:
    settings = ServerSettings(
        models=tmp_path / 'a "$models" folder', llama_args=("LLAMA_ARG_ALIAS=$a ${b} 100%",)
    )
    [service] = read_compose(written(tmp_path, settings, gpu))["services"].values()
    # What stands in the file is what the container gets, dollar signs and all.
    assert service["environment"]["LLAMA_ARG_ALIAS"] == "$a ${b} 100%"
    assert service["volumes"][0]["source"] == str(settings.models)
    deploy = service.get("deploy") or {}
    reserved = deploy.get("resources", {}).get("reservations", {}).get("devices")
    assert reserved == (NVIDIA if gpu in (None, Gpu.NVIDIA) else None)
    devices = [each["source"] for each in service.get("devices") or []]
    assert devices == (["/dev/kfd", "/dev/dri"] if gpu is Gpu.AMD else [])
    assert service["image"].endswith("-rocm") == (gpu is Gpu.AMD)


def test_compose_reads_the_gateway_before_the_server(tmp_path: Path) -> None:
    [text] = render_both({}, {"keys": tmp_path / "keys.json"}, Target.COMPOSE).values()
    path = tmp_path / "compose.yaml"
    path.write_text(text)
    services = read_compose(path)["services"]
    assert not services["ollama"].get("ports")
    gateway = services["gateway"]
    assert [(each["host_ip"], each["published"]) for each in gateway["ports"]] == [
        ("127.0.0.1", "11434")
    ]
    assert gateway["volumes"][0]["source"] == str(tmp_path)
    assert list(gateway["depends_on"]) == ["ollama"]
    assert gateway["build"]["dockerfile_inline"].startswith("FROM python")


def test_compose_would_refuse_a_file_with_a_mistake_in_it(tmp_path: Path) -> None:
    path = written(tmp_path, ServerSettings())
    path.write_text(path.read_text().replace("capabilities", "capability"))
    with pytest.raises(ValueError, match="capabilit"):
        read_compose(path)


def test_the_server_of_the_file_passes_smoke(newest_build: Build, tmp_path: Path) -> None:
    settings = ServerSettings(dedicated_to="2507", context=4096)
    project = read_compose(written(tmp_path, settings, Gpu.NONE))
    [service] = project["services"].values()
    [port] = service["ports"]
    assert (port["host_ip"], port["published"], port["target"]) == ("127.0.0.1", "11434", 11434)
    # As files are published, with a template that is not ours: it is for the server to replace it.
    template = (TEMPLATES / "published.jinja").read_text()
    path = tmp_path / "mini.gguf"
    write_miniature(path, layers=1, heads=1, kv_heads=1, chat_template=template)
    tool = shlex.join([sys.executable, "-m", "ollama_tools"])
    script = f"""
        until {tool} list >/dev/null 2>&1; do sleep 0.2; done
        {tool} create {path} --release 2507 --name it --context 4096 \\
            --carrier server --system bundled --no-check
        {tool} smoke it --release 2507 --prompt-tokens 300
    """
    done = run_beside(
        service,
        newest_build,
        tmp_path / "container",
        script,
        {**os.environ, "PYTHONPATH": str(ROOT)},
    )
    log = tmp_path / "container" / "server.log"
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{log.read_text()[-3000:]}"
    assert "0 failed" in done.stdout
    assert "q8_0" in done.stdout
    # The model lies in the volume, so that it is there when the container is made anew.
    assert any((tmp_path / "container" / "volume-0" / "manifests").rglob("it/*"))


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--target", "systemd", "--gpu", "amd"], "systemd starts no container"),
        (["UD-Q4_K_XL", "--gpu", "amd"], "a Modelfile carries no settings"),
        (["--target", "compose", "--gpu", "intel"], "intel"),
    ],
)
def test_cards_are_a_containers_affair(
    capsys: pytest.CaptureFixture[str], arguments: list[str], error: str
) -> None:
    assert entry.run(["render", *arguments]) == 2
    assert error in capsys.readouterr().err
