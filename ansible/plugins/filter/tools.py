"""Filters on the controller about what the tools are installed from."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ansible.errors import AnsibleFilterError


def wheel_house(folder):
    """What a folder of wheels stands for, and whether it has a pip; refused without the package."""
    place = Path(folder).expanduser().absolute()
    wheels = sorted(place.glob("*.whl"))
    ours = [each.name for each in wheels if each.name.startswith("devstral_ollama-")]
    if len(ours) != 1:
        found = " and ".join(ours) or "none"
        raise AnsibleFilterError(
            f"{folder} on the controller has to hold one wheel of devstral-ollama, and holds "
            f"{found}: ansible-playbook devstral.ollama.wheels -e devstral_tools_wheels={folder} "
            "makes it"
        )
    digest = hashlib.sha256()
    for each in wheels:
        digest.update(f"{each.name} {hashlib.sha256(each.read_bytes()).hexdigest()}\n".encode())
    return {
        "folder": str(place),
        "digest": digest.hexdigest(),
        "pip": any(each.name.startswith("pip-") for each in wheels),
    }


class FilterModule:
    """The filters."""

    def filters(self):
        """Their names."""
        return {"wheel_house": wheel_house}
