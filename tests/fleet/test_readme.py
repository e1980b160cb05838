"""The inventory of the collection's README, run as it stands there."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleet.fleet import COLLECTION, run_playbook
from tests.fleet.test_scenarios import verify
from tests.testbed.build import NEWEST
from tests.testbed.hosts import FileServer, Hosts, ollama_archive
from tests.testbed.hub import Hub
from tests.testbed.relays import new_authority, public_hosts

pytestmark = [pytest.mark.xdist_group("fleet"), pytest.mark.long]

HUB = ("hf.co", "huggingface.co")
RELEASES = "github.com"
NUMBERS = (
    "devstral_model_keep=4",
    "devstral_model_prompt_tokens=300",
    "devstral_model_timeout=0",
    "devstral_serial=2",
    "ollama_server_health_timeout=90",
    "ollama_server_keep_versions=4",
)
_DOWNLOADS = f"ollama/ollama/releases/download/v{NEWEST}"


def inventory() -> str:
    """The README's inventory, to the letter."""
    readme = (COLLECTION / "README.md").read_text(encoding="utf-8")
    [found] = re.findall(r"```yaml\n(# inventory\.yml\n.*?)```", readme, re.DOTALL)
    return str(found)


@pytest.fixture
def internet(
    hosts: Hosts, fleet_hub: Hub, files: FileServer, tmp_path: Path
) -> Iterator[list[str]]:
    """Two new hosts that find the hub and Ollama's releases under their own names."""
    names = [each.name for each in hosts.hosts[:2]]
    hosts.reset(hosts.hosts[:2])
    archive = ollama_archive(NEWEST, "zst")
    files.add(f"{_DOWNLOADS}/{archive.path.name}", archive.path)
    sums = tmp_path / "sha256sum.txt"
    sums.write_text(f"{'0' * 64}  ./ollama-darwin.tgz\n{archive.sha256}  ./{archive.path.name}\n")
    files.add(f"{_DOWNLOADS}/{sums.name}", sums)
    (tmp_path / "authority").mkdir()
    authority = new_authority(tmp_path / "authority", *HUB, RELEASES)
    for host in hosts.hosts[:2]:
        host.run(f"echo '{hosts.controller} {' '.join(HUB)} {RELEASES}' >>/etc/hosts")
        host.run(
            "cat >/usr/local/share/ca-certificates/testbed.crt", stdin=authority.file.read_text()
        )
        host.run("update-ca-certificates")
    ports = dict.fromkeys(HUB, port_of(fleet_hub.endpoint)) | {RELEASES: port_of(files.url)}
    with public_hosts(hosts.controller, ports, authority):
        yield names


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def test_the_readmes_inventory_runs_as_it_stands(
    hosts: Hosts, internet: list[str], files: FileServer, session_wheels: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "inventory.yml").write_text(inventory(), encoding="utf-8")
    shutil.copytree(session_wheels, folder / "wheels")
    # How a person's machine reaches hosts stands in no inventory. On a command line every number is
    # a text; a prompt of the checks as long as an agent's would take this machine minutes.
    done = run_playbook(
        "devstral.ollama.site",
        *("--inventory", str(folder / "inventory.yml")),
        *(word for each in NUMBERS for word in ("-e", each)),
        place=tmp_path,
        variables={},
        environment={"ANSIBLE_SSH_ARGS": f"-F {hosts.ssh_config}"},
    )
    assert done.code == 0, done.output
    for name in internet:
        verify(hosts, name)
    assert f"/{_DOWNLOADS}/sha256sum.txt" in files.requests
