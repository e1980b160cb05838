"""The tools on a host: never half there, on every Python, and with no change to the host's own."""

from __future__ import annotations

import hashlib
import re
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.fleet.fleet import Fleet, Run, make_wheels
from tests.testbed.hosts import Host
from tests.testbed.hosts.image import base_image

PLAYBOOK = str(Path(__file__).with_name("tools.yml"))
LINK = "/opt/devstral-ollama"
MADE = ["Install the tools", "Switch to them"]
ONE, TWO, NEWER = "gpu1", "gpu2", "gpu3"

pytestmark = pytest.mark.xdist_group("fleet")


def changed(run: Run, host: str) -> list[str]:
    """What the role changed on a host."""
    return [each.removeprefix("devstral.ollama.devstral_tools : ") for each in run.changed(host)]


def said(run: Run, host: str, task: str) -> str:
    """What a task of the role said on a host."""
    return run.of(host, f"devstral.ollama.devstral_tools : {task}").message


def works(host: Host, link: str = LINK) -> None:
    """That the tools run, and that nothing but whole environments is there."""
    assert host.run(f"'{link}/bin/devstral-ollama' --version").stdout.startswith("devstral-ollama ")
    host.run(f"'{link}/bin/python' -c 'import ollama_tools.collection'")
    left = host.run(f"ls -d '{link}'.d/*/wheels /var/cache/devstral-tools.[pw]*", check=False)
    assert left.stdout == ""


def environments(host: Host) -> set[str]:
    """The names of what is kept beside the tools."""
    return set(host.run(f"ls {LINK}.d").stdout.split())


def current(host: Host) -> str:
    """The environment that is used."""
    return host.run(f"basename $(readlink {LINK})").stdout.strip()


def packages(host: Host) -> str:
    """The host's own packages, and the files of its Python."""
    return host.run("dpkg -l | cksum; find /usr /etc -newer /etc/hostname -type f | sort").stdout


@pytest.fixture
def bare(fleet: Fleet) -> Fleet:
    """A fleet without tools."""
    for host in fleet.hosts.hosts:
        host.run(f"rm -rf {LINK} {LINK}.d")
    return fleet


@pytest.fixture
def other_wheels(session_wheels: Path, tmp_path: Path) -> Path:
    """Wheels that stand for another environment; without a pip, so that the host's is used."""
    place = tmp_path / "other wheels"
    ignored = shutil.ignore_patterns("pip-*")
    return Path(shutil.copytree(session_wheels, place, ignore=ignored))


@pytest.fixture
def broken_wheels(session_wheels: Path, tmp_path: Path) -> Path:
    """Wheels whose package can be installed and does not run."""
    place = Path(shutil.copytree(session_wheels, tmp_path / "broken"))
    [ours] = place.glob("devstral_ollama-*.whl")
    with zipfile.ZipFile(ours) as whole:
        content = {each: whole.read(each) for each in whole.namelist()}
    content["ollama_tools/collection.py"] = b"raise RuntimeError('half written')\n"
    with zipfile.ZipFile(ours, "w") as broken:
        for name, data in content.items():
            broken.writestr(name, data)
    return place


def test_new_tools_are_tried_before_they_are_used_and_the_old_ones_stay(
    bare: Fleet, other_wheels: Path, broken_wheels: Path
) -> None:
    host = bare.hosts[ONE]
    only = ("--limit", f"{ONE},{NEWER}")
    before = {name: packages(bare.hosts[name]) for name in (ONE, NEWER)}
    done = bare.converge(*only, playbook=PLAYBOOK)
    for name, python in ((ONE, "3.11"), (NEWER, "3.13")):
        assert changed(done, name) == MADE
        works(bare.hosts[name])
        assert current(bare.hosts[name]).endswith(f"-{python}")
        assert packages(bare.hosts[name]) == before[name]
    first = current(host)

    first_wheels = bare.variables["devstral_tools_wheels"]
    bare.variables["devstral_tools_wheels"] = str(broken_wheels)
    failed = bare.play(PLAYBOOK, "--limit", ONE)
    assert failed.code != 0
    assert failed.failures() == {
        ONE: f"{ONE}: the tools could not be made, and those that are there stay: "
        "RuntimeError: half written"
    }
    assert changed(failed, ONE) == []
    assert current(host) == first
    assert environments(host) == {first}
    works(host)

    bare.variables["devstral_tools_wheels"] = str(other_wheels)
    done = bare.converge(*only, playbook=PLAYBOOK)
    assert changed(done, ONE) == MADE
    second = current(host)
    assert environments(host) == {first, second, "previous"}
    works(host)

    bare.variables["devstral_tools_wheels"] = first_wheels
    back = bare.converge(*only, playbook=PLAYBOOK)
    assert changed(back, ONE) == changed(back, NEWER) == ["Switch to them"]
    assert current(host) == first
    works(host)


@pytest.mark.long
def test_tools_that_are_damaged_are_noticed_by_running_them(bare: Fleet) -> None:
    # As an earlier role made them, they are kept beside the new ones.
    bare.hosts[ONE].run(f"python3 -m venv --without-pip {LINK} && touch {LINK}/made-of")
    done = bare.play(PLAYBOOK)
    assert done.code == 0, done.output
    assert changed(done, ONE) == MADE
    assert environments(bare.hosts[ONE]) == {current(bare.hosts[ONE]), "before", "previous"}

    site = f"{LINK}/lib/python3*/site-packages"
    damage = {
        ONE: (f"rm {site}/huggingface_hub/utils/_http.py", "utils/_http.py is missing$"),
        TWO: (f"sed -i 1i# {site}/ollama_tools/cli/app.py", "app.py is not as it was installed$"),
        NEWER: (f"rm {LINK}/bin/python3", "not found$|No such file or directory$"),
    }
    for name, (command, _) in damage.items():
        bare.hosts[name].run(command)
    done = bare.converge(playbook=PLAYBOOK)
    for name, (_, words) in damage.items():
        told = said(done, name, "Say what is wrong with those that are there")
        assert told.startswith(f"{LINK} is damaged, and made anew: "), told
        assert re.search(words, told), told
        # What is damaged goes only when another one is whole.
        assert changed(done, name) == MADE
        works(bare.hosts[name])
        old = {"before", "previous"} if name == ONE else set()
        assert environments(bare.hosts[name]) == {current(bare.hosts[name])} | old

    damage = {
        # What is whole is used as it is.
        ONE: (f"rm {LINK}", ""),
        TWO: (f"rm -r {site}/rich-*.dist-info", "rich is missing$"),
        NEWER: (f"rm -r {site}/ollama_tools {LINK}.d/previous; mkdir -p {LINK}.d/half", "ollama_"),
    }
    for name, (command, _) in damage.items():
        bare.hosts[name].run(command, check=False)
    done = bare.converge(playbook=PLAYBOOK)
    assert changed(done, ONE) == ["Switch to them"]
    for name in (TWO, NEWER):
        told = said(done, name, "Say what is wrong with those that are there")
        assert re.search(damage[name][1], told), told
        assert changed(done, name) == MADE
    for host in bare.hosts.hosts:
        works(host)
        old = {"before", "previous"} if host.name == ONE else set()
        assert environments(host) == {current(host)} | old


def test_a_host_without_pip_and_with_spaces_in_every_path_has_the_tools(
    bare: Fleet, session_wheels: Path, tmp_path: Path
) -> None:
    host = bare.hosts[ONE]
    host.run("dpkg --purge python3-venv python3.11-venv")
    assert host.run("python3 -m ensurepip", check=False).returncode != 0
    bare.variables["devstral_tools_path"] = "/opt/the tools/of mine"
    host.run("mkdir '/opt/the tools'")
    bare.variables["devstral_tools_wheels"] = str(tmp_path / "without pip")
    shutil.copytree(
        session_wheels, tmp_path / "without pip", ignore=shutil.ignore_patterns("pip-*")
    )
    refused = bare.play(PLAYBOOK, "--limit", ONE)
    assert refused.failures() == {
        ONE: f"{ONE}: /usr/bin/python3 has no ensurepip, and there is no wheel of pip: make the "
        "wheels that devstral_tools_wheels names by ansible-playbook devstral.ollama.wheels; "
        "nothing was touched"
    }
    bare.variables["devstral_tools_wheels"] = str(tmp_path / "with a pip")
    shutil.copytree(session_wheels, tmp_path / "with a pip")
    try:
        bare.converge("--limit", ONE, playbook=PLAYBOOK)
        works(host, "/opt/the tools/of mine")
        # The modules run with it too; nothing listens there.
        info = bare.play("rollback", "--limit", ONE, devstral_model_host="127.0.0.1:9")
        assert "127.0.0.1:9" in info.failures()[ONE], info.output
    finally:
        host.reset()


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"devstral_tools_python": "/opt/old"}, "/opt/old is Python 3.9, and devstral-ollama needs "
         "3.11 or newer: let devstral_tools_python name a newer one, or an archive of one with "
         "devstral_tools_python_sha256; nothing was touched"),
        ({"devstral_tools_python": "/opt/none"}, "/opt/none is no Python that runs there, and "
         "devstral-ollama needs 3.11 or newer: let devstral_tools_python name a newer one, or an "
         "archive of one with devstral_tools_python_sha256; nothing was touched"),
        ({"devstral_tools_python": "/usr/bin/python3", "devstral_tools_path": "/usr/share"},
         "/usr/share is there and no virtual environment: let devstral_tools_path be another; "
         "nothing was touched"),
        ({"devstral_tools_python": "/nowhere/python.tar.gz"},
         "devstral_tools_python_sha256 is missing or not 64 hexadecimal digits; the archive of a "
         "Python is not unpacked without; nothing was touched"),
    ],
)  # fmt: skip
def test_a_host_that_cannot_have_the_tools_is_refused_before_it_is_touched(
    fleet: Fleet, variables: dict[str, str], words: str
) -> None:
    host = fleet.hosts[TWO]
    host.run(f"rm -rf {LINK} {LINK}.d")
    # An older Python, as far as it is asked; the real one would need a disk of its own.
    host.run("printf '#!/bin/sh\\necho 3.9 venv ensurepip\\n' >/opt/old; chmod +x /opt/old")
    before = host.run("find / -xdev -newer /opt/old -type f -not -path '/var/log/*'").stdout
    fleet.variables |= variables
    done = fleet.play("site", "--limit", TWO)
    assert done.code != 0
    assert done.failures() == {TWO: f"{TWO}: {words}"}
    assert done.changed() == []
    assert host.run(f"ls -d {LINK}*", check=False).stdout == ""
    after = host.run("find / -xdev -newer /opt/old -type f -not -path '/var/log/*'").stdout
    assert [each for each in after.split() if "/journal/" not in each] == before.split()
    host.run("rm /opt/old")


@pytest.fixture(scope="module")
def python_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stand-in for an archive of a Python that runs where it is unpacked: that of Debian 12."""
    path = tmp_path_factory.mktemp("python") / "cpython-3.11-install_only.tar.gz"
    root = base_image("bookworm") / "usr"
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        tar.add(root / "bin" / "python3.11", "python/bin/python3")
        tar.add(root / "lib" / "python3.11", "python/lib/python3.11")
    return path


@pytest.mark.long
def test_a_host_has_the_tools_with_a_python_out_of_an_archive(
    bare: Fleet, python_archive: Path
) -> None:
    host = bare.hosts[NEWER]
    only = ("--limit", NEWER)
    digest = hashlib.sha256(python_archive.read_bytes()).hexdigest()
    bare.variables["devstral_tools_python_sha256"] = "0" * 64
    for place, words in (
        (bare.serve(python_archive), "The checksum for "),
        (python_archive, f"{python_archive} on the controller has the SHA-256 {digest}, not 0000"),
    ):
        bare.variables["devstral_tools_python"] = str(place)
        refused = bare.play(PLAYBOOK, *only)
        assert words in refused.failures()[NEWER]
        assert changed(refused, NEWER) == []
        assert host.run(f"ls -d {LINK}*", check=False).stdout == ""

    bare.variables["devstral_tools_python_sha256"] = digest.upper()
    bare.converge(*only, playbook=PLAYBOOK)
    works(host)
    version = host.run(f"{LINK}/bin/python -c 'import sys; print(sys.version_info[:2])'").stdout
    assert version.strip() == "(3, 11)"
    host.run(f"rm {LINK}.d/*/python/lib/python3.11/json/decoder.py")
    # The archive is the same, wherever it comes from.
    bare.variables["devstral_tools_python"] = bare.serve(python_archive)
    mended = bare.converge(*only, playbook=PLAYBOOK)
    assert changed(mended, NEWER) == MADE
    works(host)


def test_wheels_for_another_python_are_told_apart(
    bare: Fleet, session_wheels: Path, tmp_path: Path
) -> None:
    place = tmp_path / "wheels"
    shutil.copytree(session_wheels, place, ignore=shutil.ignore_patterns("*-cp313-*"))
    bare.variables["devstral_tools_wheels"] = str(place)
    done = bare.play(PLAYBOOK, "--limit", f"{ONE},{NEWER}")
    assert set(done.failures()) == {NEWER}
    told = done.failures()[NEWER]
    assert told.startswith(f"{NEWER}: the tools could not be made: ERROR: Could not find a version")
    assert told.endswith(
        f"; does {place} have wheels for Python 3.13? ansible-playbook devstral.ollama.wheels "
        "makes them"
    )
    works(bare.hosts[ONE])


def test_a_wheel_house_is_made_by_one_command_and_left_alone(
    session_wheels: Path, tmp_path: Path
) -> None:
    names = {each.name for each in session_wheels.iterdir()}
    assert {each.split("-")[0] for each in names} >= {"devstral_ollama", "pip", "pydantic_core"}
    for tag in ("cp311", "cp313"):
        assert [each for each in names if each.startswith("pydantic_core-") and tag in each]

    place = tmp_path / "wheels"
    place.mkdir()
    (place / "letter.txt").touch()
    refused = make_wheels(place, ["3.11"])
    assert refused.code != 0
    assert f"{place} holds letter.txt, which is no wheel: name a folder of its own" in (
        refused.output
    )
    assert [each.name for each in place.iterdir()] == ["letter.txt"]
    (place / "letter.txt").unlink()

    (place / "old-1.0-py3-none-any.whl").touch()
    assert make_wheels(place, ["3.11"]).changed() == ["Bring the wheels"]
    made = {each.name for each in place.iterdir()}
    assert made < names
    assert make_wheels(place, ["3.11"]).changed() == []
