"""``python -m tests.testbed.hosts``: hosts, hub and archives, up until interrupted."""

from __future__ import annotations

import argparse
import json
import os
import signal
from functools import partial

from tests.testbed.build import NEWEST, OLDEST
from tests.testbed.hosts import BLOBS, CONTROLLER, FileServer, Hosts, ollama_archive
from tests.testbed.hub import Hub
from tests.testbed.models import devstral_repositories
from tests.testbed.until import until_interrupted


def main() -> None:
    """Starts all, prints where it is as one line of JSON, and waits for a signal."""
    parser = argparse.ArgumentParser(prog="python -m tests.testbed.hosts", description=__doc__)
    parser.add_argument("--hosts", type=int, default=3, metavar="N", help="how many (default: 3)")
    parser.add_argument("--group", default="ollama", help="their group in the inventory")
    parser.add_argument(
        "--ollama",
        action="append",
        choices=(NEWEST, OLDEST),
        help=f"release whose archive is served, repeatable (default: {NEWEST}); {OLDEST} takes "
        "minutes to build the first time",
    )
    options = parser.parse_args()

    until_interrupted(partial(_serve, options))


def _serve(options: argparse.Namespace) -> None:
    archives = [ollama_archive(version) for version in options.ollama or (NEWEST,)]
    with (
        Hosts(options.hosts, group=options.group, disk="64g") as bed,
        Hub(
            devstral_repositories(heads=1, kv_heads=1),
            address=bed.controller,
            name=CONTROLLER,
            bytes_name=BLOBS,
        ) as hub,
        FileServer(bed.controller, name=CONTROLLER) as files,
    ):
        where = {
            "pid": os.getpid(),
            "inventory": str(bed.inventory),
            "ssh_config": str(bed.ssh_config),
            "controller": bed.controller,
            "hosts": {host.name: host.address for host in bed.hosts},
            "registry": hub.registry,
            "hub_endpoint": hub.endpoint,
            "archives": {
                archive.version: {
                    "url": files.add(f"v{archive.version}/{archive.path.name}", archive.path),
                    "sha256": archive.sha256,
                }
                for archive in archives
            },
        }
        print(json.dumps(where), flush=True)
        signal.pause()


if __name__ == "__main__":
    main()
