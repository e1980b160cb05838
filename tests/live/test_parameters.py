"""The table of parameters, against servers: what each knows, refuses, and gives back."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ollama_tools.errors import ServerError, UsageError
from ollama_tools.server.client import Server
from ollama_tools.server.parameters import (
    OBSOLETE,
    PARAMETERS,
    Kind,
    Parameter,
    require_parameters,
    value_text,
)
from ollama_tools.server.versions import Version, parse_version
from tests.testbed.build import NEWEST, OLDEST, Build, ollama_build
from tests.testbed.hub import Hub
from tests.testbed.server import OllamaServer

BASE = "base:latest"
GOOD: dict[Kind, int | float | bool | list[str]] = {
    Kind.INTEGER: 7,
    Kind.NUMBER: 0.5,
    Kind.BOOLEAN: False,
    Kind.TEXTS: ["END"],
}
BAD = {Kind.INTEGER: "0.5", Kind.NUMBER: "warm", Kind.BOOLEAN: "yes"}


def text_of(parameter: Parameter) -> str:
    value = GOOD[parameter.kind]
    return value[0] if isinstance(value, list) else value_text(value)


def create_from_text(build: Build, bed: OllamaServer, folder: Path, line: str) -> str:
    """What ``ollama create`` has against a Modelfile with a PARAMETER; empty for nothing."""
    file = folder / "Modelfile"
    file.write_text(f"FROM {BASE}\nPARAMETER {line}\n")
    done = subprocess.run(
        [build.binary, "create", "mine", "-f", file],
        env={"OLLAMA_HOST": bed.url, "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    said = done.stderr + done.stdout
    return "" if done.returncode == 0 and "warning" not in said else said


def check_table(build: Build, bed: OllamaServer, server: Server, folder: Path) -> None:
    """Puts every parameter of the table, and what is none, to a server that has the base."""
    version = parse_version(build.version)
    assert version is not None
    for parameter in PARAMETERS.values():
        fault = parameter.fault(version)
        said = create_from_text(build, bed, folder, f"{parameter.name} {text_of(parameter)}")
        assert bool(said) is (fault is not None), (parameter, said)
        request = {"model": "mine", "from": BASE, "stream": False}
        request["parameters"] = {parameter.name: GOOD[parameter.kind]}
        if parameter.refused_since is not None and version >= parameter.refused_since:
            with pytest.raises(ServerError, match=f"{parameter.name} is no longer supported"):
                server.post("/api/create", request)
            continue
        server.post("/api/create", request)
        if fault is None:
            assert server.show("mine").parameters[parameter.name] == [text_of(parameter)]
            if parameter.kind in BAD:
                bad = BAD[parameter.kind]
                assert not parameter.fits(bad)
                assert "invalid" in create_from_text(build, bed, folder, f"{parameter.name} {bad}")
        else:
            assert "unknown parameter" in said, parameter
    for name in (*sorted(OBSOLETE), "nosuch", "kv_cache_type"):
        said = create_from_text(build, bed, folder, f"{name} 1")
        assert "deprecated" in said or "unknown parameter" in said, name


@pytest.mark.usefixtures("hub")
def test_the_newest_server_knows_and_refuses_what_the_table_says(
    newest_build: Build, bed: OllamaServer, server: Server, hub: Hub, tmp_path: Path
) -> None:
    pulled = f"{hub.registry}/unsloth/Devstral-Small-2507-GGUF:Q8_0"
    server.pull(pulled, insecure=True, advance=lambda *_: None)
    server.copy(pulled, BASE)
    check_table(newest_build, bed, server, tmp_path)


@pytest.fixture
def old(tmp_path: Path) -> Iterator[OllamaServer]:
    with OllamaServer(
        ollama_build(OLDEST), models_dir=tmp_path / "models", log_path=tmp_path / "ollama.log"
    ) as server:
        yield server


@pytest.mark.old_server
def test_so_does_one_of_the_older_generation(old: OllamaServer, hub: Hub, tmp_path: Path) -> None:
    pulled = f"{hub.registry}/unsloth/Devstral-Small-2507-GGUF:Q8_0"
    with Server(old.url) as server:
        server.pull(pulled, insecure=True, advance=lambda *_: None)
        server.copy(pulled, BASE)
        check_table(ollama_build(OLDEST), old, server, tmp_path)


@pytest.mark.parametrize(
    ("name", "version", "reason"),
    [
        ("typical_p", NEWEST, r"Ollama 0\.34\.1 and newer refuse typical_p"),
        ("draft_num_predict", OLDEST, r"Ollama below 0\.30\.0 does not know draft_num_predict"),
        ("nosuch", NEWEST, "no model parameter 'nosuch'"),
    ],
)
def test_what_a_server_does_not_take_is_refused_before_anything_is_brought(
    name: str, version: str, reason: str
) -> None:
    found = parse_version(version)
    assert found is not None
    with pytest.raises(UsageError, match=reason):
        require_parameters(["temperature", name], found)


def test_every_other_version_takes_them() -> None:
    require_parameters(["typical_p", "use_mmap"], Version(0, 34, 0))
    require_parameters(["draft_num_predict"], Version(0, 30, 0))
