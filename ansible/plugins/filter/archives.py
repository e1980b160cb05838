"""Filters on the controller: which archives make a release of Ollama, and what tells them apart."""

from __future__ import annotations

import hashlib
import re

from ansible.errors import AnsibleFilterError

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_SUMS = "sha256sum.txt"


def archives(more, first, sha256, version, source, machine="x86_64"):
    """The archives of a release, in the order in which they are unpacked over each other.

    A name without a slash is a file of the release, whose ``sha256sum.txt`` vouches for it where
    no checksum is given; nothing vouches for another URL, or for a file on the controller.
    """
    if not isinstance(more, list):
        raise AnsibleFilterError(
            "ollama_server_archives has to be a list, as in "
            "[{archive: ollama-linux-amd64-rocm.tar.zst}]"
        )
    main = {"archive": first, "sha256": sha256}
    given = [("ollama_server_archive", main, "ollama_server_sha256")]
    given += [
        (f"ollama_server_archives[{at}]", each, f"sha256 of ollama_server_archives[{at}]")
        for at, each in enumerate(more)
    ]
    return [_archive(at, *each, version, source, machine) for at, each in enumerate(given)]


def _archive(at, variable, said, sum_name, version, source, machine):
    if not isinstance(said, dict) or set(said) - {"archive", "sha256"}:
        raise AnsibleFilterError(f"{variable} has to be a dict of archive and sha256")
    named = str(said.get("archive") or "")
    digest = str(said.get("sha256") or "").lower()
    if at and not named:
        raise AnsibleFilterError(f"{variable} has no archive")
    archive = named or _official(machine)
    of_release = "/" not in archive
    by_url = of_release or re.match(r"https?://.", archive) is not None
    if not by_url and not re.match(r"/.|~/.", archive):
        raise AnsibleFilterError(
            f"{variable} is {named!r}; give the name of a file of the release, a URL that the host "
            "reaches, or an absolute path on the controller"
        )
    if digest and not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise AnsibleFilterError(f"{sum_name} is {digest!r}, not 64 hexadecimal digits")
    if not digest and not of_release:
        raise AnsibleFilterError(
            f"{sum_name} is missing: nothing is installed that cannot be compared. Ollama's "
            f"releases have it in {_SUMS}, and sha256sum prints that of a file"
        )
    source = source.rstrip("/")
    return {
        "archive": f"{source}/{archive}" if of_release else archive,
        "by_url": by_url,
        "checksum": f"sha256:{digest or f'{source}/{_SUMS}'}",
        "sha256": digest,
        # In a directory of root's that every host has: nobody can change the file between the
        # comparison and the unpacking, and check mode can ask for it on a bare host.
        "download": f"/var/cache/ollama-{version}{f'-{at}' if at else ''}.archive",
        "identity": digest or named or "of the release",
    }


def _official(machine):
    if machine not in _ARCHITECTURES:
        raise AnsibleFilterError(
            f"Ollama's releases have no archive for {machine}: set ollama_server_archive"
        )
    return f"ollama-linux-{_ARCHITECTURES[machine]}.tar.zst"


def proof(found):
    """The name of a file that tells which archives a release was unpacked from.

    Other archives of the same version are installed anew. It asks nobody: an archive without a
    pinned checksum is known by its name.
    """
    identities = [each["identity"] for each in found]
    if len(identities) > 1 or not found[0]["sha256"]:
        return hashlib.sha256("\n".join(identities).encode()).hexdigest()
    return identities[0]


class FilterModule:
    """The filters of this file."""

    def filters(self):
        """Their names."""
        return {"archives": archives, "archives_proof": proof}
