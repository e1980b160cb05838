from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.gpu.card import parse_cards, used_bytes
from benchmarks.gpu.driver import OWN_SEARCH, Candidate, candidates, choose, missing

MIB = 1 << 20


def place(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("variable", ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"])
def test_a_variable_that_names_the_driver_wins(
    variable: str, tmp_path: Path, scratch: Path
) -> None:
    place(tmp_path / "usr/share/vulkan/icd.d/nvidia_icd.json")
    (found,) = candidates(tmp_path, {variable: "/a.json:/b.json"}, scratch=scratch)
    assert found.manifests == (Path("/a.json"), Path("/b.json"))


@pytest.mark.parametrize(
    "folder",
    [
        "etc/vulkan/icd.d",
        "usr/share/vulkan/icd.d",
        "usr/local/share/vulkan/icd.d",
        "usr/local/nvidia/share/vulkan/icd.d",
    ],
)
def test_manifests_are_found_where_drivers_put_them(
    folder: str, tmp_path: Path, scratch: Path
) -> None:
    place(tmp_path / folder / "intel_icd.x86_64.json")
    manifest = place(tmp_path / folder / "nvidia_icd.json")
    first, own = candidates(tmp_path, {}, scratch=scratch)
    assert first.manifests == (manifest,)
    assert own.found == OWN_SEARCH


def test_a_driver_beside_the_system_brings_its_folder_of_libraries(
    tmp_path: Path, scratch: Path
) -> None:
    place(tmp_path / "usr/local/nvidia/share/vulkan/icd.d/nvidia_icd.json")
    library = place(tmp_path / "usr/local/nvidia/lib64/libGLX_nvidia.so.0")
    first, *_ = candidates(tmp_path, {}, scratch=scratch)
    assert first.libraries == (library.parent,)
    assert str(library.parent) in first.environment()["LD_LIBRARY_PATH"].split(":")


def test_a_library_that_no_manifest_names_gets_one(tmp_path: Path, scratch: Path) -> None:
    for name in ("libEGL_nvidia.so.0", "libGLX_nvidia.so.0"):
        place(tmp_path / "usr/lib/x86_64-linux-gnu" / name)
    *found, _ = candidates(tmp_path, {}, scratch=scratch)
    named = [json.loads(each.manifests[0].read_text())["ICD"]["library_path"] for each in found]
    assert [Path(each).name for each in named] == ["libGLX_nvidia.so.0", "libEGL_nvidia.so.0"]


def test_where_no_driver_of_nvidia_lies_the_loader_searches(tmp_path: Path, scratch: Path) -> None:
    (own,) = candidates(tmp_path, {}, scratch=scratch)
    assert own.found == OWN_SEARCH
    assert "VK_DRIVER_FILES" not in own.environment()


def engine(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_the_first_that_shows_a_device_is_chosen(tmp_path: Path) -> None:
    program = engine(
        tmp_path / "llama-server",
        'echo "Available devices:"; case "$VK_DRIVER_FILES" in *good*)'
        ' echo "  Vulkan0: NVIDIA H100 80GB HBM3 (81559 MiB, 81000 MiB free)";;'
        ' *) echo "  (none)";; esac',
    )
    bad, good, later = (Candidate((Path(f"/{n}.json"),), (), n) for n in ("bad", "good", "later"))
    chosen, attempts = choose([bad, good, later], program, [])
    assert chosen is good
    assert [each.devices for each in attempts] == [
        (),
        ("Vulkan0: NVIDIA H100 80GB HBM3 (81559 MiB, 81000 MiB free)",),
    ]


def test_an_engine_that_does_not_start_is_no_device(tmp_path: Path) -> None:
    program = engine(tmp_path / "llama-server", "echo 'Vulkan0: x (1 MiB, 1 MiB free)' >&2; exit 1")
    chosen, (attempt,) = choose([Candidate((), (), "it")], program, [])
    assert chosen is None
    assert "Vulkan0" in attempt.output


def test_libraries_that_the_system_has_are_not_brought() -> None:
    assert missing([Path("/x/libc.so.6"), Path("/x/libnobody.so.9")]) == [Path("/x/libnobody.so.9")]


def test_a_cards_figures_are_bytes() -> None:
    answer = "NVIDIA H100 80GB HBM3, 580.159.04, 81559, 4, 81075, 0, 70.12, 345, 31\n"
    (card,) = parse_cards(answer)
    assert card["name"] == "NVIDIA H100 80GB HBM3"
    assert card["driver"] == "580.159.04"
    assert (card["total_bytes"], card["used_bytes"]) == (81559 * MIB, 4 * MIB)
    assert (card["watts"], card["clock_mhz"]) == (70.12, 345)
    assert used_bytes([card, card]) == 8 * MIB


def test_a_figure_that_is_not_known_is_none() -> None:
    (card,) = parse_cards("NVIDIA H100, 580.1, 81559, [N/A], 81075, [N/A], [N/A], 345, 31\n")
    assert card["used_bytes"] is None
    assert card["watts"] is None
    assert used_bytes([card]) is None
    assert used_bytes([]) is None


def test_another_answer_of_nvidia_smi_is_no_card() -> None:
    assert parse_cards("NVIDIA-SMI has failed because it couldn't communicate\n") == []
