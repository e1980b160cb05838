"""Compose files: read as docker compose reads them, and started by hand where docker cannot run.

What is done by hand is what a container is: the image's program with nothing but the file's
environment, in a root of its own with the file's mounts, and a network of its own.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.testbed import toolchain
from tests.testbed.build import Build
from tests.testbed.cache import cached

_MODULE = Path(__file__).parent / "compose"

_LOOPBACK = (
    "import fcntl, socket, struct; "
    "fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sH14s', b'lo', 1, b''))"
)
_ROOT = """\
set -e
root=$1 image=$2
shift 2
{python} -c {loopback}
mount -t tmpfs root "$root"
for each in /*; do
    name=${{each#/}}
    if [ -L "$each" ]; then cp -P "$each" "$root/"
    elif [ "$name" != root ] && [ -d "$each" ]; then
        mkdir "$root/$name"
        mount --rbind "$each" "$root/$name"
    fi
done
mkdir -p "$root/image"
mount --bind "$image" "$root/image"
{mounts}
# As the image's own entry point and command are.
chroot "$root" /usr/bin/env -i PATH=/usr/bin:/bin HOME=/root {environment} \
    /image/bin/ollama serve >"$root/../server.log" 2>&1 &
server=$!
trap 'kill $server; wait $server 2>/dev/null || true' EXIT
"$@"
"""


def read_compose(path: Path) -> dict[str, Any]:
    """The project that docker compose makes of a file: validated, interpolated, normalised.

    Raises:
        ValueError: It is none; with the words of compose's own library.
    """

    def make(into: Path) -> None:
        toolchain.run(
            [toolchain.go(), "build", "-o", into / "compose", "."],
            log="compose",
            env={"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly"},
            cwd=_MODULE,
        )

    sources = b"".join(each.read_bytes() for each in sorted(_MODULE.iterdir()))
    program = cached(f"compose-{hashlib.sha256(sources).hexdigest()[:12]}", make) / "compose"
    done = subprocess.run([program, path], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(done.stderr.strip())
    project: dict[str, Any] = json.loads(done.stdout)
    return project


def run_beside(
    service: dict[str, Any], build: Build, folder: Path, script: str, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """Start a service's server by hand, run a shell script beside it, and end the server.

    Args:
        service: As :func:`read_compose` has it.
        build: What stands for the image.
        folder: For the volumes, the container's root and ``server.log``.
        script: What is run with the server's ports in reach, and nothing else.
        environment: The script's environment.
    """
    root = folder / "root"
    root.mkdir(parents=True)
    mounts = []
    for number, each in enumerate(service["volumes"]):
        source = Path(each["source"])
        if each["type"] == "volume":
            source = folder / f"volume-{number}"
            source.mkdir()
        target = shlex.quote(each["target"])
        mounts.append(f'mkdir -p "$root"{target}')
        mounts.append(f'mount --bind {shlex.quote(str(source))} "$root"{target}')
        if each.get("read_only"):
            mounts.append(f'mount -o remount,bind,ro "$root"{target}')
    variables = [shlex.quote(f"{key}={value}") for key, value in service["environment"].items()]
    text = _ROOT.format(
        python=shlex.quote(sys.executable),
        loopback=shlex.quote(_LOOPBACK),
        mounts="\n".join(mounts),
        environment=" ".join(variables),
    )
    image = build.binary.parents[1]
    apart = ("unshare", "--user", "--map-root-user", "--mount", "--net")
    line = ("sh", "-c", text, "sh", str(root), str(image), "sh", "-ec", script)
    return subprocess.run(
        [*apart, *line],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
