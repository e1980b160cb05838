"""A GPU whose driver comes late, simulated: what the kernel would make, the tests make by hand.

Nothing answers behind the files, so that opening one ends in ENXIO or ENODEV where the unit lets
the server do it, and in EPERM where it does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleet.fleet import Fleet, Run
from tests.testbed.hosts import Host

pytestmark = [pytest.mark.xdist_group("fleet"), pytest.mark.long]

PLAY = """
- name: Bring the server
  hosts: gpu1
  gather_facts: false
  become: true
  roles:
    - devstral.ollama.ollama_server
"""
ROLE = "devstral.ollama.ollama_server"
REPORT = f"{ROLE} : Report the GPUs"
RESTART = f"{ROLE} : Restart a server that runs with something else"
UNIT = "ollama.service"
# Files with the numbers of their drivers, and the classes that those register.
FILES = {
    "/dev/nvidia0": (195, 0),
    "/dev/kfd": (511, 0),
    "/dev/dri/renderD128": (226, 128),
    "/dev/dxg": (10, 250),
}
CLASSES = "195 nvidia-frontend\n226 drm\n511 kfd\n"
OPEN = """
import errno, os, sys
with open("/sys/fs/cgroup/system.slice/ollama.service/cgroup.procs", "w") as procs:
    procs.write(str(os.getpid()))
for path in sys.argv[1:]:
    try:
        os.open(path, os.O_RDWR)
    except OSError as error:
        print(errno.errorcode[error.errno])
"""


def known(host: Host, classes: str) -> None:
    """Let the host's kernel know these classes of devices."""
    # Without its second part, the block devices, so that more can be added at its end.
    host.run("sed '/^Block/,$d; /^$/d' /proc/devices >/run/known; cat >>/run/known", stdin=classes)
    host.run("cat /run/known >/run/devices")
    host.run("mountpoint -q /proc/devices || mount --bind /run/devices /proc/devices")


def make(host: Host, *paths: str) -> None:
    """Make device files, as a driver does."""
    for path in paths:
        major, minor = FILES[path]
        host.run(f"mkdir -p $(dirname {path}) && mknod -m 666 {path} c {major} {minor}")


def opened(host: Host, *paths: str) -> set[str]:
    """What a process of the server's unit gets when it opens these files."""
    return set(host.run(f"python3 - {' '.join(paths)}", stdin=OPEN).stdout.split())


@pytest.fixture(scope="module")
def has_run() -> list[bool]:
    """Whether the role has run on the host."""
    return [False]


@pytest.fixture
def play(tmp_path: Path) -> str:
    """A playbook with the role alone."""
    path = tmp_path / "server.yml"
    path.write_text(PLAY, encoding="utf-8")
    return str(path)


@pytest.fixture
def host(fleet: Fleet, play: str, has_run: list[bool]) -> Iterator[Host]:
    """A host on which the role has run, and found no GPU; no file and no class outlives a boot."""
    host = fleet.hosts["gpu1"]
    if not has_run[0]:
        host.reset()
        done = converge(fleet, play)
        assert done.of("gpu1", REPORT).message == "no GPU here: models will run on the CPU"
        has_run[0] = True
    yield host
    host.reboot()


def converge(fleet: Fleet, play: str) -> Run:
    """Promised, done, and nothing left to do."""
    promised = fleet.play(play, "--check")
    assert promised.code == 0, promised.output
    done = fleet.play(play)
    assert done.code == 0, done.output
    assert promised.changed() == done.changed(), promised.output
    again = fleet.play(play)
    assert again.code == 0, again.output
    assert again.changed() == []
    return done


def test_a_driver_that_comes_after_the_role_is_let_in(fleet: Fleet, host: Host, play: str) -> None:
    known(host, CLASSES)
    make(host, *FILES)
    # So it stayed for ever where the role had written a unit for a host without a GPU.
    assert opened(host, *FILES) == {"EPERM"}
    done = converge(fleet, play)
    assert done.changed() == [RESTART, f"{ROLE} : Restart Ollama"]
    found = ", ".join(sorted(FILES))
    assert done.of("gpu1", REPORT).message == f"GPUs: {found}"
    assert done.of("gpu1", RESTART).message == (f"the running server lacks {found}")
    # Behind these files there is no card.
    computes = done.of("gpu1", f"{ROLE} : Report what it computes on").message
    assert computes.startswith(f"no model will run on {found}: it computes on the processor alone")
    assert opened(host, *FILES) == {"ENXIO", "ENODEV"}


def test_files_of_a_known_driver_may_come_after_the_start(host: Host) -> None:
    known(host, CLASSES)
    host.run(f"systemctl restart {UNIT}")
    make(host, "/dev/nvidia0", "/dev/kfd", "/dev/dri/renderD128")
    assert opened(host, "/dev/nvidia0", "/dev/kfd", "/dev/dri/renderD128") == {"ENXIO"}


def test_nvidias_devices_are_made_before_the_server_starts(host: Host) -> None:
    # Its driver is there, and as after a boot nothing has asked for its memory driver yet.
    known(host, "195 nvidia\n")
    host.run(
        "mkdir -p /run/driver/nvidia && touch /run/driver/nvidia/version"
        " && mount --bind /run/driver /proc/driver"
    )
    helpers = {
        "modprobe": '[ "$3" != nvidia-uvm ] || echo "508 nvidia-uvm" >>/run/devices',
        "nvidia-smi": "mknod -m 666 /dev/nvidia0 c 195 0",
        "nvidia-modprobe": "mknod -m 666 /dev/nvidia-uvm c 508 0",
    }
    for name, command in helpers.items():
        host.run(f"cat >/usr/sbin/{name}", stdin=f"#!/bin/sh\n{command}\n")
        host.run(f"chmod 755 /usr/sbin/{name}")
    try:
        host.run(f"systemctl restart {UNIT}")
        assert opened(host, "/dev/nvidia0", "/dev/nvidia-uvm") == {"ENXIO"}
    finally:
        host.run(f"cd /usr/sbin && rm {' '.join(helpers)}")


def test_a_start_waits_for_amds_device(host: Host) -> None:
    host.run("mkdir -p /run/module/amdgpu && mount --bind /run/module /sys/module")
    come = "sleep 2; echo '511 kfd' >>/run/devices; mknod -m 666 /dev/kfd c 511 0"
    known(host, "")
    host.run(f'systemd-run --quiet sh -c "{come}"')
    host.run(f"systemctl restart {UNIT}")
    assert opened(host, "/dev/kfd") == {"ENXIO"}


def test_a_program_with_the_right_of_vulkan_starts(host: Host) -> None:
    # What "setcap cap_perfmon+ep" writes: VFS_CAP_REVISION_2 with its effective bit, and bit 38.
    code = (
        "import os, struct\n"
        "words = struct.pack('<5I', 0x02000001, 0, 0, 1 << (38 - 32), 0)\n"
        "program = os.path.realpath('/opt/ollama/current/bin/ollama')\n"
        "os.setxattr(program, 'security.capability', words)"
    )
    host.run("python3 -", stdin=code)
    host.run(f"systemctl restart {UNIT}")
    assert host.run(f"systemctl is-active {UNIT}").stdout == "active\n"


def test_the_right_of_vulkan_is_given_where_it_is_asked_for(
    fleet: Fleet, host: Host, play: str
) -> None:
    def rights() -> str:
        return host.run(f"grep CapEff /proc/$(systemctl show -P MainPID {UNIT})/status").stdout

    assert int(rights().split()[1], 16) == 0
    fleet.variables["ollama_server_perfmon"] = True
    done = fleet.play(play)
    assert done.code == 0, done.output
    assert int(rights().split()[1], 16) == 1 << 38
