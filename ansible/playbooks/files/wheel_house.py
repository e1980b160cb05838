"""Makes a wheel house: the package and all that it needs, for every Python and machine of a fleet.

The arguments are one JSON object; the answer is another, with what changed in the folder.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from email.parser import HeaderParser
from importlib.metadata import version
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

# Debian 12, Ubuntu 22.04 and RHEL 9 have a C library of 2.34 or newer.
GLIBC = range(34, 16, -1)


def platforms(machine):
    """The tags of wheels that run on a host's machine, the best first."""
    return [*(f"manylinux_2_{minor}_{machine}" for minor in GLIBC), f"manylinux2014_{machine}"]


def environment(python, machine):
    """What a requirement's marker is judged by on such a host."""
    return {
        **default_environment(),
        "python_version": python,
        "python_full_version": f"{python}.0",
        "implementation_name": "cpython",
        "implementation_version": f"{python}.0",
        "platform_python_implementation": "CPython",
        "os_name": "posix",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": machine,
    }


def requirements(wheel):
    """What a wheel says that it needs."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(each for each in archive.namelist() if each.endswith(".dist-info/METADATA"))
        headers = HeaderParser().parsestr(archive.read(name).decode())
    return [Requirement(each) for each in headers.get_all("Requires-Dist", [])]


def missing(folder, roots, where):
    """What is needed there and is not in the folder: pip judges markers by its own Python."""
    have = {parse_wheel_filename(each.name)[0]: each for each in folder.glob("*.whl")}
    found, seen, todo = set(), set(), [(Requirement(each), frozenset()) for each in roots]
    while todo:
        requirement, extras = todo.pop()
        if requirement.marker is not None and not any(
            requirement.marker.evaluate({**where, "extra": extra}) for extra in extras or {""}
        ):
            continue
        name, extras = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if name not in have:
            requirement.marker = None
            found.add(str(requirement))
        elif (name, extras) not in seen:
            seen.add((name, extras))
            todo += [(each, extras | {""}) for each in requirements(have[name])]
    return found


def download(folder, wanted, python, machine, options):
    """Let pip bring wheels for another Python and machine than its own."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(folder)]
    command += ["--no-input", "--disable-pip-version-check", "--only-binary", ":all:"]
    command += ["--implementation", "cp", "--python-version", python]
    for each in platforms(machine):
        command += ["--platform", each]
    done = subprocess.run(
        [*command, *options, *sorted(wanted)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"no wheels for Python {python} on {machine}: {done.stderr.strip()}")


def digests(folder):
    """The checksum of every wheel in a folder."""
    return {
        each.name: hashlib.sha256(each.read_bytes()).hexdigest() for each in folder.glob("*.whl")
    }


def main():
    """Fill a new folder, and only then let it take the old one's place."""
    given = json.loads(sys.argv[1])
    place = Path(given["folder"]).expanduser().absolute()
    others = [each.name for each in place.glob("*") if each.suffix != ".whl"]
    if others:
        sys.exit(f"{place} holds {others[0]}, which is no wheel: name a folder of its own")
    place.parent.mkdir(parents=True, exist_ok=True)
    # The controller's version, since its collection goes with it; and a pip for hosts without one.
    extras = f"[{','.join(given['extras'])}]" if given["extras"] else ""
    ours = f"devstral-ollama{extras}=={given['version'] or version('devstral-ollama')}"
    roots = {ours, "pip"}
    with tempfile.TemporaryDirectory(prefix=f".{place.name}-", dir=place.parent) as temporary:
        house = Path(temporary) / "house"
        house.mkdir()
        house.chmod(0o755)
        for machine in given["machines"]:
            for python in given["pythons"]:
                folder = Path(temporary) / f"{python}-{machine}"
                where, wanted = environment(python, machine), roots
                while new := missing(folder, wanted, where):
                    wanted = wanted | new
                    download(folder, wanted, python, machine, given["options"])
                for wheel in folder.glob("*.whl"):
                    shutil.copy(wheel, house)
        before, after = digests(place), digests(house)
        if before != after:
            if place.exists():
                place.rename(Path(temporary) / "before")
            house.rename(place)
    sys.stdout.write(json.dumps({"changed": before != after, "wheels": sorted(after)}))


if __name__ == "__main__":
    main()
