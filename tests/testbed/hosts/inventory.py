"""What ssh and Ansible have to know to reach the hosts."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

import yaml

from tests.testbed.hosts.image import ADMIN


def kept_connection(address: str) -> str:
    """Name of the socket of a connection that Ansible keeps open, beside the inventory."""
    return f"ssh-{address}"


def write_ssh_config(path: Path, hosts: Mapping[str, str], *, key: Path, known: Path) -> None:
    """Writes a configuration for ``ssh -F`` that knows the hosts by name.

    Args:
        path: The file.
        hosts: Addresses by name.
        key: Private key that opens them.
        known: The hosts' keys; no other is accepted.
    """
    lines = [f"Host {name}\n  HostName {address}" for name, address in hosts.items()]
    lines.append(
        "Host *\n"
        f"  User {ADMIN}\n"
        f"  IdentityFile {key}\n"
        "  IdentitiesOnly yes\n"
        f"  UserKnownHostsFile {known}\n"
        "  GlobalKnownHostsFile /dev/null\n"
        "  StrictHostKeyChecking yes\n"
        "  BatchMode yes\n"
        "  ConnectTimeout 5\n"
        "  LogLevel ERROR\n"
    )
    path.write_text("\n".join(lines))


def write_inventory(
    path: Path, group: str, hosts: Mapping[str, str], *, key: Path, known: Path
) -> None:
    """Writes an Ansible inventory with all hosts in one group.

    Args:
        path: The file, ending in ``.yml``.
        group: Name of the group.
        hosts: Addresses by name.
        key: Private key that opens them.
        known: The hosts' keys; no other is accepted.
    """
    strict = {
        "UserKnownHostsFile": str(known),
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "IdentitiesOnly": "yes",
    }
    # Connections are kept where hosts and guard find and end them.
    kept = {
        "ControlMaster": "auto",
        "ControlPersist": "60s",
        "ControlPath": str(path.parent / kept_connection("%h")),
        # Over a kept connection, a host that is cut off would be waited for a quarter of an hour.
        "ServerAliveInterval": "3",
        "ServerAliveCountMax": "2",
    }
    variables = {
        "ansible_user": ADMIN,
        "ansible_ssh_private_key_file": str(key),
        "ansible_ssh_common_args": _options({"": "/dev/null"} | strict),
        "ansible_ssh_args": _options(kept),
        "ansible_python_interpreter": "/usr/bin/python3",
    }
    members = {name: {"ansible_host": address} for name, address in hosts.items()}
    tree = {"all": {"children": {group: {"hosts": members, "vars": variables}}}}
    path.write_text(yaml.safe_dump(tree, sort_keys=False))


def _options(options: Mapping[str, str]) -> str:
    words = [f"-o {key}={shlex.quote(value)}" for key, value in options.items() if key]
    # A person's own configuration must not get in.
    first = [f"-F {options['']}"] if "" in options else []
    return " ".join([*first, *words])
