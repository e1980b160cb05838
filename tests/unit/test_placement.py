"""Where a model is, by lines as Ollama 0.34.4 wrote them on an H100 and without a card, and why."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ollama_tools.checks.placement import Host, Placement, cause, judge_placement, placement
from ollama_tools.checks.result import Status
from ollama_tools.hardware.cards import Card, Driver, device_files, driver
from ollama_tools.server.client import RunningModel
from ollama_tools.server.log import newest_load

MIB, GIB = 1 << 20, 1 << 30
MEASURED = Path(__file__).parents[2] / "docs/reference/gpu"
BLOB = "sha256-2301f"
CARD = Card("NVIDIA GeForce RTX 4090", 24 * GIB)
NODES = ["/dev/nvidia0", "/dev/nvidiactl"]
DRIVER = Driver(nvidia=580, capability=(8, 9), uvm=True)
HOST = Host(cards=[CARD], driver=DRIVER, nodes=NODES)
START = 'level=INFO msg="server config" env="m"'
ON_CPU = 'level=INFO msg="inference compute" id=cpu library=cpu name=cpu total="23.6 GiB"'
ON_CUDA = 'level=INFO msg="inference compute" id=0 library=CUDA name=CUDA0 description="RTX 4090"'


def engine(blob: str = BLOB, more: str = "") -> str:
    return (
        f'level=INFO msg="starting llama-server" cmd="/x/llama-server --model /m/{blob} -c 8{more}"'
    )


def written(load: dict[str, Any]) -> str:
    """The lines of a load, out of the figures that a document of a card keeps of them."""
    lines = [engine(more=f" -ngl {n}" if (n := load["command"].get("gpu_layers")) else "")]
    lines += [f"common_params_fit_impl: {each}" for each in load["fit"]]
    lines += [f"load_tensors: offloaded {load['layers_offloaded']}/{load['layers']} layers to GPU"]
    lines += [
        f"x: {name} {kind} buffer size = {count / MIB:.2f} MiB"
        for name, kinds in load["buffers"].items()
        for kind, count in kinds.items()
    ]
    return "\n".join(lines) + "\n"


def loads() -> Iterator[tuple[str, dict[str, Any], dict[str, Any] | None]]:
    """Each load that was kept of a card, and of a machine without: place, figures, `/api/ps`."""

    def walk(value: Any, place: str) -> Iterator[tuple[str, dict[str, Any], Any]]:
        match value:
            case {"log": {"buffers": dict()} as log}:
                yield place, log, next(iter(value.get("ps", [])), None)
            case {"load": {"buffers": dict()} as log, "ps": ps}:
                yield place, log, next(iter(ps), None)
        items = value.items() if isinstance(value, dict) else ()
        for key, each in [*items, *(enumerate(value) if isinstance(value, list) else ())]:
            yield from walk(each, f"{place}/{key}")

    for path in sorted(MEASURED.glob("*.json")):
        yield from walk(json.loads(path.read_text(encoding="utf-8")), path.stem)


@pytest.mark.parametrize(
    ("place", "load", "ps"), [pytest.param(*each, id=each[0]) for each in loads()]
)
def test_where_a_model_was_is_told_from_its_log_and_from_what_is_loaded(
    place: str, load: dict[str, Any], ps: dict[str, Any] | None
) -> None:
    by_log = placement(written(load), BLOB, None)
    assert by_log.share is not None
    few = "few_layers" in place and place.startswith("nvidia")
    on_card = place.startswith("nvidia") and "hidden" not in place
    if few:
        assert 0 < by_log.share < 0.9
        assert not by_log.is_whole
    elif on_card:
        assert by_log.is_whole
        assert by_log.layers == (41, 41)
    elif place.startswith("no-card"):
        assert by_log.share == 0
    if ps is not None and place.startswith(("nvidia", "no-card")):
        running = RunningModel("m", "", None, ps["size"], ps["size_vram"])
        by_ps = placement("", BLOB, running)
        assert by_ps.is_whole == by_log.is_whole
        assert bool(by_ps.share) == bool(by_log.share)


def test_layers_that_are_called_offloaded_without_a_card_are_not() -> None:
    log = (
        f"{engine()}\nload_tensors: offloaded 41/41 layers to GPU\n"
        "x: CPU model buffer size = 45.01 MiB\nx: CPU KV buffer size = 32.00 MiB\n"
    )
    found = placement(log, BLOB, None)
    assert (found.share, found.layers) == (0.0, None)
    assert str(found) == "on the processor (the server's log)"


def test_the_log_of_another_model_is_not_this_ones() -> None:
    card = "x: CUDA0 model buffer size = 45.01 MiB\nx: CUDA0 KV buffer size = 32.00 MiB\n"
    offloaded = "load_tensors: offloaded 41/41 layers to GPU\n"
    mine = f"{engine()}\n{offloaded}{card}"
    log = f"{mine}{engine('sha256-other')}\nx: CPU KV buffer size = 1.00 MiB\n"
    assert placement(log, BLOB, None).is_whole
    assert placement(log, "sha256-other", None).share == 0
    assert placement(log, "sha256-third", None).share is None
    assert newest_load(log).buffers == {"CPU": {"KV": MIB}}


def test_what_nobody_tells_is_unknown() -> None:
    found = placement("", BLOB, None)
    assert found.share is None
    assert judge_placement(found, Host(), None)[0] is Status.UNKNOWN
    assert judge_placement(found, Host(), require_gpu=True)[0] is Status.FAIL


WHOLE = Placement(1.0, 17 * GIB, "the server's log", (41, 41))
PART = Placement(0.27, 4 * GIB, "the server's log", (10, 41))
NONE = Placement(0.0, 0, "/api/ps")


@pytest.mark.parametrize(
    ("found", "host", "require", "status"),
    [
        (WHOLE, HOST, None, Status.PASS),
        (WHOLE, Host(), True, Status.PASS),
        (PART, HOST, None, Status.FAIL),
        (PART, HOST, False, Status.PASS),
        (NONE, HOST, None, Status.FAIL),
        (NONE, HOST, False, Status.PASS),
        # A server elsewhere, of whose machine nothing is known.
        (NONE, Host(), None, Status.UNKNOWN),
        (NONE, Host(), True, Status.FAIL),
        # This machine, without a card.
        (NONE, Host(environment={"HOME": "/"}), None, Status.PASS),
        (NONE, Host(log=f"{START}\n{ON_CPU}"), None, Status.PASS),
        (NONE, Host(log=f"{START}\n{ON_CUDA}"), None, Status.FAIL),
    ],
)
def test_a_card_that_is_there_must_be_used(
    found: Placement, host: Host, require: bool | None, status: Status
) -> None:
    assert judge_placement(found, host, require)[0] is status


def test_it_is_said_as_people_say_it() -> None:
    _, saw, _ = judge_placement(WHOLE, HOST, None)
    assert saw == (
        "on the GPU, 41 of 41 layers, 17.0 GiB of 24.0 GiB (the server's log); "
        "NVIDIA GeForce RTX 4090"
    )
    assert str(PART) == "27% on the GPU, 10 of 41 layers, 4.0 GiB (the server's log)"


@pytest.mark.parametrize(
    ("host", "words"),
    [
        (replace(HOST, environment={"CUDA_VISIBLE_DEVICES": "-1"}), "CUDA_VISIBLE_DEVICES hides"),
        (replace(HOST, environment={"HIP_VISIBLE_DEVICES": ""}), "HIP_VISIBLE_DEVICES hides"),
        (replace(HOST, environment={"OLLAMA_LLM_LIBRARY": "cpu_avx2"}), "OLLAMA_LLM_LIBRARY"),
        (Host(driver=Driver(unbound="a card of NVIDIA")), "no driver for it is loaded"),
        (replace(HOST, driver=replace(DRIVER, nvidia=535)), "driver 535 is older than 550"),
        (
            replace(HOST, driver=Driver(nvidia=560, capability=(6, 1), uvm=True)),
            "compute capability 6.1 needs NVIDIA's driver 570",
        ),
        (replace(HOST, driver=replace(DRIVER, uvm=False)), "/dev/nvidia-uvm is missing"),
        (replace(HOST, log=f"{START}\n{ON_CPU}"), "found no card when it started"),
    ],
)
def test_why_a_card_is_not_used(host: Host, words: str) -> None:
    status, saw, fix = judge_placement(NONE, host, None)
    assert status is Status.FAIL
    assert words in saw
    assert fix


def test_why_a_model_is_only_partly_there() -> None:
    buffers = (
        "x: CUDA0 model buffer size = 300.00 MiB\nx: CPU_Mapped model buffer size = 900.00 MiB\n"
        "x: CUDA0 KV buffer size = 10.00 MiB\nx: CPU KV buffer size = 30.00 MiB\n"
        "load_tensors: offloaded 10/41 layers to GPU\n"
    )
    asked = placement(f"{engine(more=' -ngl 10')}\n{buffers}", BLOB, None)
    assert cause(asked, HOST)[0] == "num_gpu asks for 10 layers of it"
    fit = (
        "common_params_fit_impl: projected to use 15526 MiB of device memory vs. 11900 MiB of free "
        "device memory\n"
    )
    large = placement(f"{engine()}\n{fit}{buffers}", BLOB, None)
    why, fix = cause(large, HOST)
    assert why == "it needs 15.2 GiB of a card and 11.6 GiB were free"
    assert "devstral-ollama fit" in fix


def test_what_drivers_say_of_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 8.9\necho 6.1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    version = tmp_path / "proc/driver/nvidia/version"
    version.parent.mkdir(parents=True)
    # As an H100's driver says it, docs/reference/gpu.
    version.write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build\n"
    )
    assert driver(tmp_path) == Driver(nvidia=580, capability=(6, 1), uvm=False)


@pytest.mark.parametrize(
    ("vendor", "kind", "bound", "found"),
    [
        ("0x10de", "0x030000", False, "a card of NVIDIA"),
        ("0x10de", "0x030200", False, "a card of NVIDIA"),
        ("0x1002", "0x038000", False, "a card of AMD"),
        ("0x10de", "0x030000", True, ""),
        ("0x10de", "0x040300", False, ""),
        ("0x1234", "0x030000", False, ""),
    ],
)
def test_a_card_without_a_driver_hangs_on_the_bus(
    tmp_path: Path, vendor: str, kind: str, bound: bool, found: str
) -> None:
    device = tmp_path / "sys/bus/pci/devices/0000:01:00.0"
    device.mkdir(parents=True)
    (device / "vendor").write_text(f"{vendor}\n")
    (device / "class").write_text(f"{kind}\n")
    if bound:
        (device / "driver").mkdir()
    assert driver(tmp_path).unbound == found


@pytest.mark.parametrize(
    ("maker", "slot", "counts"),
    [
        ("0x1002", "0000:03:00.0", True),
        ("0x10de", "0000:01:00.0", True),
        ("0x8086", "0000:03:00.0", True),
        ("0x8086", "0000:00:02.0", False),
        ("0x1af4", "0000:00:01.0", False),
        (None, None, True),
    ],
    ids=["AMD", "NVIDIA", "Intel Arc", "Intel, of the processor", "virtio", "unknown"],
)
def test_a_render_node_alone_is_a_card_unless_it_is_a_display(
    tmp_path: Path, maker: str | None, slot: str | None, *, counts: bool
) -> None:
    """Makers as in sysfs of such machines; 00:02.0 is where Intel's processors have theirs."""
    (tmp_path / "dev/dri").mkdir(parents=True)
    (tmp_path / "dev/dri/renderD128").touch()
    (tmp_path / "dev/dri/card0").touch()
    if maker and slot:
        device = tmp_path / "sys/devices" / slot
        device.mkdir(parents=True)
        (device / "vendor").write_text(f"{maker}\n")
        place = tmp_path / "sys/class/drm/renderD128"
        place.mkdir(parents=True)
        (place / "device").symlink_to(device)
    assert device_files(tmp_path) == (["/dev/dri/renderD128"] if counts else [])
    (tmp_path / "dev/kfd").touch()
    assert "/dev/kfd" in device_files(tmp_path)
