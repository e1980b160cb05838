"""The hosts themselves: what every other test of a fleet takes for granted."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.testbed.build import NEWEST, OLDEST
from tests.testbed.hosts import FileServer, Host, HostError, Hosts, ollama_archive
from tests.testbed.hub import Hub

MODEL = "unsloth/Devstral-Small-2507-GGUF:UD-Q4_K_XL"
HARDENING = {
    "DynamicUser": "yes",
    "LockPersonality": "yes",
    "MemoryDenyWriteExecute": "yes",
    "NoNewPrivileges": "yes",
    "PrivateDevices": "yes",
    "PrivateTmp": "yes",
    "PrivateUsers": "yes",
    "ProtectControlGroups": "yes",
    "ProtectHome": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectProc": "invisible",
    "ProtectSystem": "strict",
    "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX",
    "RestrictNamespaces": "yes",
    "StateDirectory": "probe",
    "SystemCallFilter": "@system-service",
}


@pytest.fixture
def host(hosts: Hosts) -> Host:
    """A host as it comes out of the image."""
    host = hosts["gpu1"]
    host.reset()
    return host


def fetch(url: str) -> str:
    """A command that prints what a URL answers; the hosts have no curl."""
    code = f"import urllib.request as u; print(u.urlopen({url!r}, timeout=10).read().decode())"
    return f'python3 -c "{code}"'


def test_three_hosts_run_systemd_without_a_failed_unit(hosts: Hosts) -> None:
    assert [host.name for host in hosts.hosts] == ["gpu1", "gpu2", "gpu3"]
    for host in hosts.hosts:
        assert host.run("cat /proc/1/comm").stdout.strip() == "systemd"
        state = host.run("systemctl is-system-running; systemctl --failed", check=False)
        assert state.stdout.startswith("running"), state.stdout
        assert host.run("cat /etc/hostname").stdout.strip() == host.name


def test_ssh_knows_each_host_by_its_key(hosts: Hosts, tmp_path: Path) -> None:
    for host in hosts.hosts:
        assert host.ssh("hostname; whoami; sudo id -u").stdout.split() == [host.name, "admin", "0"]
    # With another host's key under the name, nobody gets in.
    keys = (hosts.place / "known_hosts").read_text().splitlines()
    wrong = f"{keys[0].split()[0]} {' '.join(keys[1].split()[1:])}\n"
    (tmp_path / "known").write_text(wrong)
    config = hosts.ssh_config.read_text()
    other = config.replace(str(hosts.place / "known_hosts"), str(tmp_path / "known"))
    (tmp_path / "config").write_text(other)
    answer = subprocess.run(
        ["ssh", "-F", tmp_path / "config", "gpu1", "true"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 255
    assert "Host key verification failed" in answer.stderr


def test_the_inventory_opens_every_host(hosts: Hosts) -> None:
    group = yaml.safe_load(hosts.inventory.read_text())["all"]["children"]["ollama"]
    names = {host.name: {"ansible_host": host.address} for host in hosts.hosts}
    assert group["hosts"] == names
    variables = group["vars"]
    for host in hosts.hosts:
        # As Ansible puts it together.
        command = (
            f"ssh {variables['ansible_ssh_args']} {variables['ansible_ssh_common_args']}"
            f" -i {variables['ansible_ssh_private_key_file']} -o User={variables['ansible_user']}"
            f" {host.address} {variables['ansible_python_interpreter']} --version"
        )
        answer = subprocess.run(
            ["sh", "-c", command],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=True,
        )
        # The third is of Debian 13.
        assert answer.stdout.startswith("Python 3.13." if host.name == "gpu3" else "Python 3.11.")


def test_a_hardened_unit_starts_and_is_held_back(host: Host) -> None:
    options = " ".join(f"-p '{key}={value}'" for key, value in HARDENING.items())
    script = "touch /var/lib/probe/mine && ! touch /etc/mine && ! touch /proc/sys/kernel/domainname"
    host.run(f"systemd-run --wait --pipe {options} sh -c '{script}'")
    assert host.run("ls /var/lib/probe/").stdout == "mine\n"


def test_a_host_comes_back_from_a_reboot_with_its_disk(host: Host) -> None:
    identity = "cat /proc/sys/kernel/random/boot_id"
    host.run("echo kept >/root/file")
    before = host.ssh(identity).stdout
    host.reboot()
    assert host.ssh(identity).stdout != before
    assert host.run("cat /root/file").stdout == "kept\n"
    # From the host's side, too, as Ansible's module does it.
    before = host.ssh(identity).stdout
    host.ssh("sudo shutdown -r now", check=False)
    deadline = time.monotonic() + 30
    while (answer := host.ssh(identity, check=False)).returncode or answer.stdout == before:
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize("way", ["stop", "kill"])
def test_a_host_that_is_off_is_unreachable_until_it_is_started(host: Host, way: str) -> None:
    host.run("echo kept >/root/file")
    getattr(host, way)()
    assert not host.is_on
    assert host.ssh("true", check=False).returncode == 255
    with pytest.raises(HostError, match="off"):
        host.run("true")
    host.start()
    assert host.ssh("sudo cat /root/file").stdout == "kept\n"


def test_a_host_that_is_cut_off_goes_on_and_comes_back(host: Host, files: FileServer) -> None:
    host.cut_off()
    answer = host.ssh("true", check=False)
    assert answer.returncode == 255
    assert "No route to host" in answer.stderr
    assert host.run("hostname").stdout == "gpu1\n"
    assert host.run(fetch(files.url), check=False).returncode
    host.restore()
    assert host.ssh("hostname").stdout == "gpu1\n"


def test_hosts_reach_the_controller_and_nobody_else(hosts: Hosts, files: FileServer) -> None:
    first, second, _ = hosts.hosts
    assert "404" in first.run(fetch(f"{files.url}/nothing"), check=False).stderr
    reach = "ip route get {} 2>&1"
    assert "dev host0" in first.run(reach.format(hosts.controller)).stdout
    for address in (second.address, "192.0.2.1"):
        assert "unreachable" in first.run(reach.format(address), check=False).stdout


def test_a_host_fetches_files(host: Host, files: FileServer, tmp_path: Path) -> None:
    (tmp_path / "some.whl").write_text("a wheel")
    url = files.add("wheels/some.whl", tmp_path / "some.whl")
    assert host.ssh(fetch(url)).stdout == "a wheel\n"
    assert '<a href="some.whl">' in host.ssh(fetch(f"{files.url}/wheels/")).stdout
    assert files.requests == ["/wheels/some.whl", "/wheels/"]
    files.remove("wheels/some.whl")
    assert "404" in host.ssh(fetch(url), check=False).stderr


def test_a_full_disk_is_full_and_then_is_not(host: Host) -> None:
    write = "dd if=/dev/zero of=/var/file bs=1M count=2"
    with host.full_disk(leave_bytes=1_000_000):
        assert "No space left" in host.run(write, check=False).stderr
    host.run(write)


def test_a_small_disk_lies_over_one_directory(host: Host) -> None:
    with host.small_disk("/srv/models", 1_000_000):
        answer = host.run("dd if=/dev/zero of=/srv/models/x bs=1M count=2", check=False)
        assert "No space left" in answer.stderr
        host.run("dd if=/dev/zero of=/srv/x bs=1M count=2")
    assert host.run("ls /srv/models").stdout == ""


def test_a_reset_host_is_as_new_and_still_the_same_host(hosts: Hosts) -> None:
    host, other, _ = hosts.hosts
    host.run("echo old >/root/file; systemctl mask ssh; useradd somebody; ip address flush host0")
    other.run("echo mine >/root/file")
    hosts.reset([host])
    assert "file" not in host.ssh("sudo ls -A /root").stdout.split()
    assert host.run("getent passwd somebody", check=False).returncode == 2
    assert other.run("cat /root/file").stdout == "mine\n"
    other.run("rm /root/file")


@pytest.mark.parametrize(
    ("version", "compression"), [(NEWEST, "gz"), (NEWEST, "zst"), (OLDEST, "gz")]
)
def test_an_archive_runs_on_a_host_and_pulls_from_the_hub(
    host: Host, files: FileServer, fleet_hub: Hub, version: str, compression: Any
) -> None:
    archive = ollama_archive(version, compression)
    url = files.add(archive.path.name, archive.path)
    host.ssh(
        f"python3 -c \"import urllib.request as u; u.urlretrieve('{url}', '{archive.path.name}')\""
        f" && sudo tar -C /usr/local -xf {archive.path.name}"
    )
    digest = host.ssh(f"sha256sum {archive.path.name}").stdout.split()[0]
    assert digest == archive.sha256
    if version == NEWEST:
        engine = host.ssh("/usr/local/lib/ollama/llama-server --version 2>&1").stdout
        assert "version" in engine
        lacking = host.ssh("ldd /usr/local/lib/ollama/llama-server").stdout
        assert "not found" not in lacking
    host.ssh(
        "sudo systemd-run --unit=ollama -p DynamicUser=yes -p StateDirectory=ollama"
        " -E HOME=/var/lib/ollama -E OLLAMA_MODELS=/var/lib/ollama/models"
        " -E OLLAMA_NO_CLOUD=1 /usr/local/bin/ollama serve"
    )
    wait = "for i in $(seq 100); do ollama --version 2>&1 | grep -q 'ollama version is' && break"
    host.ssh(f"{wait}; sleep 0.1; done")
    answer = json.loads(host.ssh(fetch("http://127.0.0.1:11434/api/version")).stdout)
    assert answer == {"version": version}
    host.ssh(f"ollama pull --insecure {fleet_hub.registry}/{MODEL}")
    assert {request.headers["host"] for request in fleet_hub.requests} == {
        fleet_hub.registry,
        fleet_hub.registry.replace("controller", "blobs.controller"),
    }
    host.ssh(f"ollama run {fleet_hub.registry}/{MODEL} Hello", timeout=120)


def test_an_archive_has_the_official_layout_and_no_trace_of_this_machine() -> None:
    for version in (NEWEST, OLDEST):
        archive = ollama_archive(version)
        assert hashlib.sha256(archive.path.read_bytes()).hexdigest() == archive.sha256
        with tarfile.open(archive.path) as tar:
            members = {member.name: member for member in tar.getmembers()}
        assert members["bin/ollama"].mode == 0o755
        assert ("lib/ollama/llama-server" in members) == (version == NEWEST)
        for member in members.values():
            assert member.isfile() or member.isdir()
            assert (member.uid, member.gid, member.uname, member.mtime) == (0, 0, "", 0)


def test_nothing_is_left_when_the_runner_is_killed() -> None:
    command = [sys.executable, "-m", "tests.testbed.hosts", "--hosts", "2"]
    runner = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert runner.stdout is not None
    try:
        where = json.loads(runner.stdout.readline())
        place = Path(where["inventory"]).parent
        # A connection that Ansible would leave open, and a process that does not want to go.
        inventory = yaml.safe_load(Path(where["inventory"]).read_text())
        arguments = inventory["all"]["children"]["ollama"]["vars"]["ansible_ssh_args"]
        keep = f"ssh -F {where['ssh_config']} {arguments} gpu1 true"
        subprocess.run(["sh", "-c", keep], check=True, stderr=subprocess.DEVNULL)
        stubborn = "sudo systemd-run sh -c 'trap \"\" TERM HUP; while :; do sleep 1; done'"
        ssh = ["ssh", "-F", where["ssh_config"], "gpu2", stubborn]
        subprocess.run(ssh, check=True, capture_output=True)
        links = [link_to(address) for address in where["hosts"].values()]
        # The end of that connection will never be answered.
        subprocess.run(["ip", "link", "set", links[0], "down"], check=True)
        assert left(place, links)
    finally:
        runner.kill()
        runner.wait()
        runner.stdout.close()
    deadline = time.monotonic() + 20
    while found := left(place, links):
        assert time.monotonic() < deadline, found
        time.sleep(0.1)


def test_hosts_in_the_background_of_a_script_end_on_an_interrupt(tmp_path: Path) -> None:
    # A shell without job control lets its background jobs ignore SIGINT.
    script = f"""
        {sys.executable} -m tests.testbed.hosts --hosts 1 > {tmp_path}/where &
        until [ -s {tmp_path}/where ]; do sleep 0.05; done
        cat {tmp_path}/where
        kill -INT $!
        wait $!
    """
    done = subprocess.run(
        ["sh", "-c", script], stdout=subprocess.PIPE, text=True, check=True, timeout=300
    )
    place = Path(json.loads(done.stdout)["inventory"]).parent
    assert not left(place, [])


def link_to(address: str) -> str:
    """The interface that leads to a host."""
    command = ["ip", "-json", "route", "get", address]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    return str(json.loads(answer.stdout)[0]["dev"])


def left(place: Path, links: list[str]) -> list[str]:
    """What there is of a bed: its directory, processes, mounts, interfaces and control groups."""
    found = [str(place)] if place.exists() else []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str(place) in (line := (process / "cmdline").read_text()):
                found.append(line)
        except OSError:
            continue
    found += [line for line in Path("/proc/mounts").read_text().splitlines() if str(place) in line]
    found += [link for link in links if Path("/sys/class/net", link).exists()]
    show = "umount -R /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup; ls /sys/fs/cgroup"
    answer = subprocess.run(
        ["unshare", "--mount", "sh", "-c", show], capture_output=True, text=True, check=True
    )
    return found + [name for name in answer.stdout.split() if name == place.name]
