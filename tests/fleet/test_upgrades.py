"""Another release of the server on real hosts, and the way back where it or its model fails."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.fleet.fleet import MODEL, Fleet
from tests.fleet.test_scenarios import TOOLS, status, verify
from tests.testbed.build import NEWEST, OLDEST
from tests.testbed.hosts import Host

pytestmark = pytest.mark.xdist_group("fleet")

ONLY = ("--limit", "gpu1")
NEXT = "0.99.0"
"""A release that does not serve."""

EXITS, HANGS = "exit 1", "exec sleep infinity"
INTERRUPTED = 99
"""Ansible's exit code after Ctrl-C."""


def broken(fleet: Fleet, place: Path, serve: str) -> dict[str, Any]:
    """The variables that ask for a release whose server does this instead of serving."""
    script = f"#!/bin/sh\n[ $1 != serve ] || {serve}\necho client version is {NEXT}\n"
    path = place / f"ollama-{serve.rsplit(maxsplit=1)[-1]}.tgz"
    with tarfile.open(path, "w:gz") as tar:
        for name in ("bin/ollama", "lib/ollama/llama-server"):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(script), 0o755
            tar.addfile(entry, io.BytesIO(script.encode()))
    return {
        "ollama_server_version": NEXT,
        "ollama_server_archive": fleet.serve(path),
        "ollama_server_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "ollama_server_health_timeout": 4,
    }


def made_of(host: Host) -> str:
    """All that makes a host's server what it is: files and links, without what a way back needs."""
    return host.run(
        "cd /; find etc/systemd/system etc/ollama opt/ollama usr/local var/lib/devstral* ! -type d "
        "-printf '%p %m %u %s %l\\n' | sort; cat etc/systemd/system/ollama.service.d/*.conf",
        check=False,
    ).stdout


def carrier(host: Host) -> str:
    """Where the template lives."""
    listed = json.loads(host.run(f"{TOOLS} list --json").stdout)
    [entry] = [each for each in listed["models"] if each["name"] == MODEL]
    return str(entry["carrier"])


def test_a_release_that_does_not_serve_is_taken_back_with_all_that_came_with_it(
    converged: Fleet, tmp_path: Path
) -> None:
    host = converged.hosts["gpu1"]
    before, models = made_of(host), status(host)
    asked = broken(converged, tmp_path, EXITS)
    asked |= {"ollama_server_settings": {"keep_alive": "9m"}, "ollama_server_perfmon": True}
    promised = converged.play("upgrade_server", "--check", *ONLY, **asked)
    assert promised.code == 0, promised.output
    assert made_of(host) == before
    failed = converged.play("upgrade_server", *ONLY, **asked)
    assert failed.code != 0
    # A program that ends at once may do so before systemd has seen it begin.
    said = failed.failures()["gpu1"].removeprefix(f"gpu1 went back to Ollama {NEWEST}: ")
    assert said.startswith(
        (
            f"http://127.0.0.1:11434 does not answer as Ollama {NEXT} within 4 seconds; ",
            "ollama.service does not start: ",
        )
    )
    assert made_of(host) == before
    assert status(host) == models
    again = converged.play("site", *ONLY)
    assert again.code == 0, again.output
    assert again.changed() == []
    verify(converged.hosts, "gpu1")
    converged.settled = True


@pytest.mark.long
def test_a_server_is_upgraded_and_goes_back_until_its_model_passes(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = fleet.hosts["gpu1"]
    host.reset()
    bare = made_of(host)
    first = fleet.play("site", *ONLY, **broken(fleet, tmp_path, EXITS))
    assert first.failures()["gpu1"].startswith("gpu1 has no server, as before: http://127.0.0.1:11")
    assert made_of(host) == bare
    assert host.run("systemctl cat ollama", check=False).returncode != 0

    newest, oldest = fleet.release(NEWEST), fleet.release(OLDEST)
    fleet.variables |= oldest
    old = fleet.play("site", *ONLY)
    assert old.code == 0, old.output
    verify(fleet.hosts, "gpu1", OLDEST)
    assert carrier(host) == "modelfile"
    before, model = made_of(host), status(host)[MODEL]

    def went_back(told: str, words: str) -> None:
        assert re.match(f"gpu1 went back to Ollama {re.escape(OLDEST)}{words}: ", told), told
        assert made_of(host) == before
        assert status(host)[MODEL] == model
        verify(fleet.hosts, "gpu1", OLDEST)

    # The server serves, and its model fails: no context holds such a prompt. The old server would
    # refuse such settings.
    failed = fleet.play(
        "upgrade_server",
        *ONLY,
        **newest,
        ollama_server_settings={"kv_cache_type": "q5_1"},
        devstral_smoke_prompt_tokens=60_000,
    )
    assert failed.code != 0
    went_back(failed.failures()["gpu1"], f", was put back to {MODEL}-[0-9a-f]+")

    # What an interrupted run has left is not what a host goes back to.
    asked = broken(fleet, tmp_path, HANGS)
    monkeypatch.setenv("DEVSTRAL_INTERRUPT", "Wait for the pinned version to answer")
    cut = fleet.play("upgrade_server", *ONLY, **asked)
    assert cut.code == INTERRUPTED, cut.output
    monkeypatch.delenv("DEVSTRAL_INTERRUPT")
    assert host.run("readlink /opt/ollama/current").stdout.strip() == NEXT
    again = fleet.play("upgrade_server", *ONLY, **asked)
    went_back(again.failures()["gpu1"], "")
    assert fleet.play("site", *ONLY).changed() == []

    def moved(playbook: str) -> None:
        promised = fleet.play(playbook, "--check", *ONLY)
        done = fleet.play(playbook, *ONLY)
        assert done.code == 0, done.output
        # That its template has another place there, no server of another release can tell.
        model = "devstral.ollama.devstral_model : Make the model"
        assert promised.changed() == [each for each in done.changed() if each != model]
        assert model in done.changed()
        assert fleet.play("site", *ONLY).changed() == []

    fleet.variables |= newest
    moved("upgrade_server")
    verify(fleet.hosts, "gpu1")
    assert carrier(host) == "hub"
    assert host.run("readlink /opt/ollama/previous").stdout.strip() == OLDEST

    fleet.variables |= oldest
    moved("site")
    verify(fleet.hosts, "gpu1", OLDEST)
    assert carrier(host) == "modelfile"
    assert host.run("readlink /opt/ollama/previous").stdout.strip() == NEWEST
