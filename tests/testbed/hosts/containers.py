"""A host on which docker runs, with stand-ins for the images that our compose files name."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.testbed.build import NEWEST
from tests.testbed.hosts.archive import ollama_archive
from tests.testbed.hosts.bed import Hosts
from tests.testbed.hosts.image import base_image
from tests.testbed.hosts.machine import Host
from tests.testbed.toolchain import BuildError
from tests.testbed.wheels import locked_wheels

SERVER_IMAGE = f"ollama/ollama:{NEWEST}"
PYTHON_IMAGE = "python:3.13-slim"

_PACKAGES = ("docker.io", "docker-cli", "docker-compose")
_ROOT_IMAGE = "testbed/debian:13"
_UNUSED = ("./var/lib/apt", "./usr/share/doc", "./usr/share/man", "./usr/share/locale", "./boot")
# What is laid over an image has to lie on another file system than what it is laid over.
_START = """
systemctl stop docker.socket docker.service
mount -t tmpfs tmpfs /var/lib/docker
# nspawn leaves it to its machines to say that they route.
mount -o remount,rw /proc/sys
systemctl reset-failed
systemctl start docker.service
mkdir -p /srv/images
mount -t tmpfs tmpfs /srv/images
"""
# As the image of Ollama's release is (its Dockerfile), on the bed's own build.
_SERVER = """\
FROM {root}
ADD {archive} /usr
ENV PATH=/usr/local/nvidia/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility NVIDIA_VISIBLE_DEVICES=all
ENV OLLAMA_HOST=0.0.0.0:11434
EXPOSE 11434
ENTRYPOINT ["/bin/ollama"]
CMD ["serve"]
"""
# As the image of Python is, whose pip finds by itself what an index would have.
_PYTHON = """\
FROM {root}
RUN python3 -m venv /usr/local
COPY wheels /wheels
ENV PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels
CMD ["python3"]
"""


class Containers:
    """A host with docker, compose and the images of a compose file; use it as a context manager.

    Attributes:
        host: The host.
        controller: Our address, as seen from it and from its containers.
    """

    host: Host
    controller: str

    def __init__(self) -> None:
        self._hosts = Hosts(1, disk="8g", suites={"gpu1": "trixie"}, packages=_PACKAGES)

    def __enter__(self) -> Self:
        self._hosts.__enter__()
        try:
            [self.host] = self._hosts.hosts
            self.controller = self._hosts.controller
            self.host.run(f"set -eu\n{_START}")
            self._make_images()
        except BaseException:
            self._hosts.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._hosts.__exit__(kind, error, traceback)

    def beside(self, *command: str | Path) -> list[str]:
        """A command of this machine that has the host's network, as one of the host would."""
        init = self.host.root.parent.name
        return ["nsenter", f"--net=/proc/{init}/ns/net", "--", *map(str, command)]

    def inspect(self, container: str) -> dict[str, Any]:
        """What docker says of a container."""
        [found] = json.loads(self.host.run(f"docker inspect {container}").stdout)
        return dict(found)

    def _make_images(self) -> None:
        place = self.host.root / "srv" / "images"
        archive = ollama_archive(NEWEST)
        command = ["tar", "--create", *(f"--exclude={each}" for each in _UNUSED), "."]
        with (place / "root.tar").open("wb") as output:
            packed = subprocess.run(
                command,
                cwd=base_image("trixie"),
                stdout=output,
                stderr=subprocess.PIPE,
                check=False,
            )
        if packed.returncode:
            raise BuildError(f"tar: {packed.stderr.decode()}")
        self.host.run(f"docker import /srv/images/root.tar {_ROOT_IMAGE}; rm /srv/images/root.tar")
        shutil.copy(archive.path, place)
        shutil.copytree(locked_wheels("3.13"), place / "wheels")
        for name, recipe in ((SERVER_IMAGE, _SERVER), (PYTHON_IMAGE, _PYTHON)):
            text = recipe.format(root=_ROOT_IMAGE, archive=archive.path.name)
            self.host.run(
                f"docker build --quiet --tag {name} --file - /srv/images", stdin=text, timeout=300
            )
        self.host.run("umount /srv/images")
