"""What else an operator's hosts are like, and what an operator does."""

from __future__ import annotations

import hashlib
import tarfile
import time
from pathlib import Path

import pytest

from ollama_tools.lint import cases
from tests.fleet.fleet import Fleet
from tests.fleet.test_gpus import PLAY, converge
from tests.fleet.test_scenarios import environment, tool_call, verify
from tests.fleet.test_upgrades import INTERRUPTED
from tests.testbed.build import NEWEST
from tests.testbed.hosts import FileServer, Host, ollama_archive

pytestmark = [pytest.mark.xdist_group("fleet"), pytest.mark.long]

MODELS = "/srv/models"
PASSWORD = "pass-4c81"

_SETUP = f"""
set -eu
useradd --create-home deploy
echo 'deploy:{PASSWORD}' | chpasswd
echo 'deploy ALL=(ALL) ALL' >/etc/sudoers.d/deploy
install -d -o deploy -g deploy -m 0700 ~deploy/.ssh
install -o deploy -g deploy -m 0600 ~admin/.ssh/authorized_keys ~deploy/.ssh/
echo 'Port 2222' >/etc/ssh/sshd_config.d/port.conf
systemctl restart ssh
# A disk of another server, laid at another place; and a way out of it that nobody may follow.
useradd --system former
mkdir -p /mnt/disk/blobs /mnt/disk/manifests/hf.co
echo weights >/mnt/disk/blobs/sha256-1
chown -R former:former /mnt/disk
chmod -R go-rwx /mnt/disk
ln -s /etc/hostname /mnt/disk/blobs/sha256-2
ln -s /mnt/disk {MODELS}
"""


@pytest.fixture
def host(fleet: Fleet) -> Host:
    """A host as new."""
    host = fleet.hosts["gpu1"]
    host.reset()
    return host


def owners(host: Host, path: str) -> set[str]:
    """Who owns what is below a directory, and itself."""
    return set(host.run(f"find {path} -printf '%u:%g\\n'").stdout.split())


def overlay(path: Path) -> Path:
    """An archive as those of ROCm and JetPack: libraries alone, for the same place."""
    library = path / "libggml-hip.so"
    library.write_bytes(b"a library")
    archive = path / "ollama-linux-amd64-rocm.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(library, "lib/ollama/rocm/libggml-hip.so")
    return archive


def test_another_port_account_and_owner_and_a_second_archive(
    fleet: Fleet, host: Host, files: FileServer, tmp_path: Path
) -> None:
    play = tmp_path / "server.yml"
    play.write_text(PLAY, encoding="utf-8")
    host.run(_SETUP)
    fleet.of_host["gpu1"] = {
        "ansible_port": 2222,
        "ansible_user": "deploy",
        "ansible_become_password": PASSWORD,
    }
    # From a mirror of the releases, by the names that these have.
    main, second = ollama_archive(NEWEST, "zst").path, overlay(tmp_path)
    sums = tmp_path / "sha256sum.txt"
    sums.write_text(f"{ollama_archive(NEWEST, 'zst').sha256}  ./{main.name}\n")
    for path in (main, sums, second):
        files.add(f"mirror/{path.name}", path)
    fleet.variables |= {
        "ollama_server_archive": "",
        "ollama_server_sha256": "",
        "ollama_server_source": f"{files.url}/mirror",
        "ollama_server_archives": [{"archive": second.name}],
        "ollama_server_settings": {
            "models": MODELS,
            "variables": ["HTTPS_PROXY=http://proxy.example:3128", "NO_PROXY=.example"],
        },
    }

    refused = fleet.play(str(play))
    assert refused.code != 0
    assert f"Unable to find a checksum for file '{second.name}'" in refused.output
    assert host.run("ls /opt/ollama", check=False).returncode != 0

    fleet.variables["ollama_server_archives"] = [
        {"archive": second.name, "sha256": hashlib.sha256(second.read_bytes()).hexdigest()}
    ]
    converge(fleet, str(play))
    release = f"/opt/ollama/{NEWEST}/lib/ollama"
    assert host.run(f"ls {release}/rocm").stdout == "libggml-hip.so\n"
    assert host.run(f"test -x {release}/llama-server").returncode == 0
    assert owners(host, "/mnt/disk") == {"ollama:ollama"}
    assert host.run("stat -c %U /etc/hostname").stdout == "root\n"
    assert environment(host)["HTTPS_PROXY"] == "http://proxy.example:3128"
    assert environment(host)["OLLAMA_MODELS"] == MODELS


_LEFT = (
    "/var/lib/devstral-ollama-server.before /opt/ollama/*.* /var/cache/*.archive "
    "/var/cache/devstral-tools.[pw]*"
)


def interrupt(fleet: Fleet, patch: pytest.MonkeyPatch, task: str) -> None:
    """Begin to converge the first host, and press Ctrl-C in the midst of a task."""
    patch.setenv("DEVSTRAL_INTERRUPT", task)
    cut = fleet.play("site", "--limit", "gpu1")
    patch.delenv("DEVSTRAL_INTERRUPT")
    assert cut.code == INTERRUPTED, (task, cut.output)


def answers(host: Host) -> bool:
    """Whether the model calls its tool, within the time that a server may take to start."""
    end = time.monotonic() + 20
    while True:
        try:
            return tool_call(host) == cases.TOOL
        except Exception:
            if time.monotonic() > end:
                raise
            time.sleep(0.5)


def test_an_interrupted_run_leaves_nothing_half_and_converges_when_it_is_run_again(
    fleet: Fleet, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    only = ("--limit", "gpu1")
    for task, there in (
        ("Install the tools", "! test -e /opt/devstral-ollama"),
        ("Unpack the archive", "! test -e /opt/ollama/current"),
        ("Write the unit", "! systemctl is-active ollama"),
        ("Make the model", "HOME=/root /usr/local/bin/ollama list"),
    ):
        interrupt(fleet, monkeypatch, task)
        assert host.run(there, check=False).returncode == 0, task
    done = fleet.play("site", *only)
    assert done.code == 0, done.output
    verify(fleet.hosts, "gpu1")

    fleet.variables["ollama_server_settings"] = {"keep_alive": "25m"}
    fleet.want(context=12288)
    for task in ("Write the settings", "Restart Ollama", "Make the model", "Check what serves"):
        interrupt(fleet, monkeypatch, task)
        assert answers(host), task
    done = fleet.play("site", *only)
    assert done.code == 0, done.output
    verify(fleet.hosts, "gpu1")
    assert environment(host)["OLLAMA_KEEP_ALIVE"] == "25m"
    assert fleet.play("site", *only).changed() == []
    assert fleet.play("drift", *only).code == 0
    left = host.run(f"ls -d {_LEFT}", check=False).stdout.split()
    assert left == [f"/opt/ollama/{NEWEST}"]
