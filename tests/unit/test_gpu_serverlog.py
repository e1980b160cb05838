"""Lines as Ollama 0.34.4 wrote them: on a processor, and on llvmpipe, which is a Vulkan device."""

from __future__ import annotations

import pytest

from benchmarks.gpu.warnings import warnings
from ollama_tools.server.log import devices, is_gpu_buffer, newest_load

MIB = 1 << 20
START = 'time=2026-11-26T18:19:48.778Z level=INFO source=routes.go:2005 msg="server config" env="m"'
ON_CPU = (
    "time=2026-11-26T18:19:27.440Z level=INFO source=types.go:50 "
    'msg="inference compute" id=cpu library=cpu compute="" name=cpu description=cpu '
    'libdirs=ollama driver="" pci_id="" type="" total="23.6 GiB" available="22.9 GiB"'
)
ON_VULKAN = (
    "time=2026-11-26T18:19:48.851Z level=INFO source=types.go:32 "
    'msg="inference compute" id=0 filter_id=0 library=Vulkan compute=0.0 name=Vulkan0 '
    'description="llvmpipe (LLVM 15.0.6, 256 bits)" libdirs=ollama driver=0.0 pci_id="" '
    'type=discrete total="2.0 GiB" available="2.0 GiB"'
)
ENGINE = (
    "time=2026-11-26T18:19:49.455Z level=INFO source=llama_server.go:436 "
    'msg="starting llama-server" cmd="/opt/lib/ollama/llama-server --model /m/blobs/sha256-2301f '
    "--port 36279 --host 127.0.0.1 --no-webui --offline -c 4096 -np 1 --log-verbosity 4 "
    "--no-log-prefix --no-log-timestamps --cache-type-k q8_0 --cache-type-v q8_0 "
    '--flash-attn auto -b 512 -ub 512{more} --context-shift --keep 4"'
)
LOAD_ON_CPU = """\
common_params_fit_impl: getting device memory data for initial parameters:
common_params_fit_impl: projected to use 94 MiB of host memory vs. 24152 MiB of total host memory
common_fit_params: successfully fit params to free device memory
common_fit_params: fitting params to free memory took 0.21 seconds
load_tensors: offloading output layer to GPU
load_tensors: offloading 1 repeating layers to GPU
load_tensors: offloaded 3/3 layers to GPU
load_tensors:          CPU model buffer size =    45.01 MiB
load_tensors:   CPU_REPACK model buffer size =    49.92 MiB
llama_context: flash_attn            = auto
llama_context:        CPU  output buffer size =     0.50 MiB
llama_kv_cache:        CPU KV buffer size =    32.00 MiB
llama_kv_cache: size =   32.00 MiB (  4096 cells,   2 layers,  1/1 seqs), K (f16):   16.00 MiB, \
V (f16):   16.00 MiB
resolve_fused_ops: Flash Attention enabled
sched_reserve:        CPU compute buffer size =    17.01 MiB
"""
LOAD_ON_VULKAN = """\
common_params_fit_impl: projected to use 36 MiB of device memory vs. 2048 MiB of free device memory
load_tensors: offloaded 3/3 layers to GPU
load_tensors:   CPU_Mapped model buffer size =    45.00 MiB
load_tensors:   CPU_REPACK model buffer size =    45.00 MiB
load_tensors:      Vulkan0 model buffer size =     4.93 MiB
llama_init_from_model: enabling flash_attn since it is required for quantized V cache
llama_context: flash_attn            = enabled
llama_context: Vulkan_Host  output buffer size =     0.50 MiB
llama_kv_cache:    Vulkan0 KV buffer size =    17.00 MiB
llama_kv_cache: size =   17.00 MiB (  4096 cells,   2 layers,  1/1 seqs), K (q8_0):    8.50 MiB, \
V (q8_0):    8.50 MiB
sched_reserve:    Vulkan0 compute buffer size =    14.59 MiB
sched_reserve: Vulkan_Host compute buffer size =     6.59 MiB
sched_reserve: graph splits = 3
time=2026-11-26T18:20:09.812Z level=INFO source=llama_server.go:1374 \
msg="llama-server started in 20.35 seconds"
"""
LOAD_OF_ONE_LAYER = """\
load_tensors: offloaded 1/3 layers to GPU
load_tensors:   CPU_Mapped model buffer size =    94.93 MiB
load_tensors:      Vulkan0 model buffer size =     0.00 MiB
llama_kv_cache:        CPU KV buffer size =    17.00 MiB
sched_reserve:    Vulkan0 compute buffer size =    19.43 MiB
sched_reserve: graph splits = 23 (with bs=512), 3 (with bs=1)
"""


def test_a_processor_is_no_gpu() -> None:
    (device,) = devices(f"{START}\n{ON_CPU}\n")
    assert (device.library, device.total, device.is_gpu) == ("cpu", "23.6 GiB", False)


def test_a_device_keeps_its_description_whole() -> None:
    (device,) = devices(f"{START}\n{ON_VULKAN}\n")
    assert device.is_gpu
    assert device.name == "Vulkan0"
    assert device.description == "llvmpipe (LLVM 15.0.6, 256 bits)"
    assert device.kind == "discrete"


def test_only_the_newest_start_of_a_server_counts() -> None:
    assert devices(f"{START}\n{ON_VULKAN}\n{START}\n") == []
    assert [each.library for each in devices(f"{START}\n{ON_VULKAN}\n{START}\n{ON_CPU}")] == ["cpu"]


def test_a_load_on_a_processor_counts_its_layers_as_offloaded_and_has_nothing_on_a_card() -> None:
    load = newest_load(f"{ENGINE.format(more='')}\n{LOAD_ON_CPU}")
    assert (load.layers_offloaded, load.layers) == (3, 3)
    assert load.gpu_bytes == 0
    assert load.flash_attention == "enabled"
    assert load.kv_bytes == 32 * MIB
    assert load.kv_types == ("f16", "f16")
    assert load.fit == (
        "projected to use 94 MiB of host memory vs. 24152 MiB of total host memory",
        "successfully fit params to free device memory",
    )


def test_a_load_on_a_card_says_what_lies_there() -> None:
    load = newest_load(f"{ENGINE.format(more='')}\n{LOAD_ON_VULKAN}")
    assert load.on_gpu("KV") == 17 * MIB
    assert load.on_gpu("compute") == round(14.59 * MIB)
    assert load.gpu_bytes == sum(load.buffers["Vulkan0"].values())
    assert load.engine_seconds == 20.35
    assert load.command == {
        "cells": "4096",
        "slots": "1",
        "kv_type": "q8_0",
        "flash_attention": "auto",
        "batch": "512",
    }


def test_the_newest_load_counts() -> None:
    first = f"{ENGINE.format(more='')}\n{LOAD_ON_VULKAN}"
    load = newest_load(f"{first}\n{ENGINE.format(more=' -ngl 1')}\n{LOAD_OF_ONE_LAYER}")
    assert (load.layers_offloaded, load.layers) == (1, 3)
    assert load.command["gpu_layers"] == "1"
    assert load.on_gpu("KV") == 0
    assert load.graph_splits == 23
    assert load.engine_seconds is None


def test_a_log_without_a_load_says_nothing() -> None:
    load = newest_load(f"{START}\n{ON_CPU}\n")
    assert load.layers is None
    assert load.kv_bytes is None
    assert load.buffers == {}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Vulkan0", True),
        ("CUDA0", True),
        ("Vulkan_Host", False),
        ("CPU", False),
        ("CPU_Mapped", False),
        ("CPU_REPACK", False),
    ],
)
def test_which_buffers_lie_on_a_card(name: str, *, expected: bool) -> None:
    assert is_gpu_buffer(name) is expected


def test_warnings_are_the_newest_and_short() -> None:
    line = 'level=WARN source=runner.go:722 msg="user overrode visible devices"'
    log = "\n".join([START, *(f"{line} {number} {'x' * 400}" for number in range(30))])
    found = warnings(log)
    assert len(found) == 20
    assert all(len(each) == 300 for each in found)
    assert f"{line} 29" in found[-1]
