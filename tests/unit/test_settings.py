"""Settings become an environment, and impossible ones are refused with the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ollama_tools.devstral.memory import KvType
from ollama_tools.errors import UsageError
from ollama_tools.server.versions import Version
from ollama_tools.settings.environment import (
    ServerSettings,
    environment,
    environment_differences,
    explain,
    from_mapping,
    require_possible,
)
from ollama_tools.settings.serve import FROM_ENVIRONMENT, plan_server


def test_the_recommended_environment() -> None:
    assert environment(ServerSettings()) == {
        "OLLAMA_HOST": "127.0.0.1:11434",
        "OLLAMA_KV_CACHE_TYPE": "q8_0",
        "OLLAMA_FLASH_ATTENTION": "1",
        "OLLAMA_CONTEXT_LENGTH": "32768",
        "OLLAMA_NUM_PARALLEL": "1",
        "OLLAMA_KEEP_ALIVE": "30m",
        "OLLAMA_NO_CLOUD": "1",
    }


def test_every_setting_reaches_its_variable() -> None:
    settings = ServerSettings(
        host="0.0.0.0:8080",
        kv_cache_type=KvType.F16,
        flash_attention=False,
        context=65536,
        parallel=2,
        keep_alive="-1",
        max_loaded_models=1,
        max_queue=64,
        origins=("https://a", "https://b"),
        models=Path("/srv/models"),
        cloud=True,
        prune=True,
        cuda_devices=("0", "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"),
        rocr_devices=("1",),
        hip_devices=("0",),
        vulkan_devices=("-1",),
        hsa_override=("10.3.0", "1=11.0.0"),
        vulkan=True,
        integrated=False,
        spread=True,
        gpu_overhead=1 << 30,
        load_timeout="10m",
        llm_library="cuda_v12",
        log_level=1,
        dedicated_to="2505",
        llama_args=("LLAMA_ARG_THREADS=8", "LLAMA_ARG_X=a=b"),
        variables=("HTTPS_PROXY=http://proxy.example:3128", "NO_PROXY=.example,10.0.0.0/8"),
    )
    assert environment(settings, Path("/etc/ollama")) == {
        "OLLAMA_HOST": "0.0.0.0:8080",
        "OLLAMA_KV_CACHE_TYPE": "f16",
        "OLLAMA_FLASH_ATTENTION": "0",
        "OLLAMA_CONTEXT_LENGTH": "65536",
        "OLLAMA_NUM_PARALLEL": "2",
        "OLLAMA_KEEP_ALIVE": "-1",
        "OLLAMA_MAX_LOADED_MODELS": "1",
        "OLLAMA_MAX_QUEUE": "64",
        "OLLAMA_ORIGINS": "https://a,https://b",
        "OLLAMA_MODELS": "/srv/models",
        "OLLAMA_NO_CLOUD": "0",
        "OLLAMA_NOPRUNE": "0",
        "CUDA_VISIBLE_DEVICES": "0,GPU-8932f937-d72c-4106-c12f-20bd9faed9f6",
        "ROCR_VISIBLE_DEVICES": "1",
        "HIP_VISIBLE_DEVICES": "0",
        "GGML_VK_VISIBLE_DEVICES": "-1",
        "HSA_OVERRIDE_GFX_VERSION": "10.3.0",
        "HSA_OVERRIDE_GFX_VERSION_1": "11.0.0",
        "OLLAMA_VULKAN": "1",
        "OLLAMA_IGPU_ENABLE": "0",
        "OLLAMA_SCHED_SPREAD": "1",
        "OLLAMA_GPU_OVERHEAD": "1073741824",
        "OLLAMA_LOAD_TIMEOUT": "10m",
        "OLLAMA_LLM_LIBRARY": "cuda_v12",
        "OLLAMA_DEBUG": "1",
        "LLAMA_ARG_CHAT_TEMPLATE_FILE": "/etc/ollama/v7.jinja",
        "LLAMA_ARG_THREADS": "8",
        "LLAMA_ARG_X": "a=b",
        "HTTPS_PROXY": "http://proxy.example:3128",
        "NO_PROXY": ".example,10.0.0.0/8",
    }


def test_every_variable_has_a_reason_and_another_value_names_ours() -> None:
    reasons = {name: why for name, _, why in explain(ServerSettings(context=65536))}
    assert all(reasons.values())
    assert reasons["OLLAMA_CONTEXT_LENGTH"].startswith("instead of 32768: ")


def test_a_kv_type_may_come_as_text_in_any_case() -> None:
    text: Any = "Q4_0"
    assert ServerSettings(kv_cache_type=text).kv_cache_type is KvType.Q4_0


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"kv_cache_type": "q9_9"}, "q8_0"),
        ({"flash_attention": False}, "silently uses f16"),
        ({"context": 1023}, "too small"),
        ({"parallel": 0}, "parallel"),
        ({"max_loaded_models": 0}, "max loaded models"),
        ({"max_queue": 0}, "max queue"),
        ({"keep_alive": "half an hour"}, "duration"),
        ({"keep_alive": "30 m"}, "duration"),
        ({"keep_alive": ""}, "duration"),
        ({"host": "http://a b"}, "address"),
        ({"host": "gpu1:port"}, "address"),
        ({"models": Path("/a\nOLLAMA_HOST=0.0.0.0")}, "control"),
        ({"dedicated_to": "9999"}, "no release"),
        ({"llama_args": ("THREADS=8",)}, "no argument of llama-server"),
        ({"llama_args": ("LLAMA_ARG_THREADS",)}, "no argument of llama-server"),
        ({"llama_args": ("LLAMA_ARG_CTX_SIZE=8",)}, "Ollama sets it itself"),
        ({"llama_args": ("LLAMA_ARG_CHAT_TEMPLATE_FILE=/x",)}, "Ollama sets it itself"),
        ({"variables": ("NO_PROXY",)}, "without a name and a value: 'NO_PROXY'"),
        ({"variables": ("=x",)}, "without a name and a value"),
        ({"variables": ("NO PROXY=x",)}, "without a name and a value"),
        ({"variables": ("OLLAMA_HOST=0.0.0.0",)}, "has a setting of its own"),
        ({"variables": ("LLAMA_ARG_THREADS=8",)}, "is an argument of llama-server"),
        ({"variables": ("NO_PROXY=a", "NO_PROXY=b")}, "more than once"),
        ({"variables": ("HTTPS_PROXY=http://me:pw@proxy:3128",)}, "HTTPS_PROXY holds a password"),
        ({"variables": ("NO_PROXY=a\nb",)}, "control characters"),
        ({"variables": ("CUDA_VISIBLE_DEVICES=0",)}, "use cuda_devices"),
        ({"variables": ("HSA_OVERRIDE_GFX_VERSION_1=11.0.0",)}, "use hsa_override"),
        ({"cuda_devices": ("0,1",)}, "none of the cuda devices"),
        ({"cuda_devices": ("first",)}, "nvidia-smi -L"),
        ({"cuda_devices": ("-1", "0")}, "hide all cards, and name some"),
        ({"rocr_devices": ("0", "0")}, "name a card twice"),
        ({"hip_devices": ("GPU-8932f937",)}, "none of the hip devices"),
        ({"vulkan_devices": ("Vulkan0",)}, "none of the vulkan devices"),
        ({"hsa_override": ("gfx1030",)}, "no version of an AMD architecture"),
        ({"hsa_override": ("10.3.0", "11.0.0")}, "two versions of one card"),
        ({"gpu_overhead": "much"}, "no size"),
        ({"gpu_overhead": -1}, "negative"),
        ({"load_timeout": "long"}, "no duration"),
        ({"llm_library": "../lib"}, "no library"),
        ({"log_level": 3}, "log level cannot be 3"),
    ],
)
def test_the_impossible_is_refused_with_a_reason_and_a_fix(
    given: dict[str, Any], word: str
) -> None:
    with pytest.raises(UsageError) as caught:
        ServerSettings(**given)
    assert word in str(caught.value)
    assert caught.value.fix


@pytest.mark.parametrize("text", ["30m", "1h30m", "1.5h", "-1", "-1m", "0", "3600", "500ms"])
def test_durations_that_ollama_reads(text: str) -> None:
    assert ServerSettings(keep_alive=text).keep_alive == text


def test_the_environment_wins_over_a_default_and_a_wish_over_both(tmp_path: Path) -> None:
    program = tmp_path / "ollama"
    program.touch(mode=0o755)
    around = {"OLLAMA_KV_CACHE_TYPE": "f16", "OLLAMA_CONTEXT_LENGTH": "8192"}
    plan = plan_server({"kv_cache_type": KvType.Q8_0}, str(program), around)
    assert plan.arguments == (str(program), "serve")
    assert plan.changes["OLLAMA_KV_CACHE_TYPE"] == "q8_0"
    assert ("OLLAMA_CONTEXT_LENGTH", "8192", FROM_ENVIRONMENT) in plan.variables


def test_the_context_of_the_environment_is_handed_on_as_the_server_reads_it(
    tmp_path: Path,
) -> None:
    program = tmp_path / "ollama"
    program.touch(mode=0o755)
    for said in ("64k", "65536", '"65536"'):
        plan = plan_server({}, str(program), {"OLLAMA_CONTEXT_LENGTH": said})
        assert ("OLLAMA_CONTEXT_LENGTH", "65536", FROM_ENVIRONMENT) in plan.variables
    with pytest.raises(UsageError, match="the context 'much' is no number of tokens"):
        plan_server({}, str(program), {"OLLAMA_CONTEXT_LENGTH": "much"})
    assert plan_server({"context": 8192}, str(program), {"OLLAMA_CONTEXT_LENGTH": "much"})


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"kv_cache_type": "q5_1"}, "silently use f16"),
        ({"dedicated_to": "2507"}, "no llama-server"),
        ({"llama_args": ("LLAMA_ARG_THREADS=8",)}, "no llama-server"),
    ],
)
def test_what_the_older_generation_would_ignore_is_refused_for_it_alone(
    given: dict[str, Any], word: str
) -> None:
    settings = ServerSettings(**given)
    require_possible(settings, Version(0, 30, 0))
    with pytest.raises(UsageError, match=word) as caught:
        require_possible(settings, Version(0, 24, 0))
    assert caught.value.fix


def test_a_program_that_says_its_version_is_asked_for_nothing_it_cannot(tmp_path: Path) -> None:
    program = tmp_path / "ollama"
    program.write_text("#!/bin/sh\necho Warning: client version is 0.24.0\n")
    program.chmod(0o755)
    with pytest.raises(UsageError, match=r"0\.24\.0"):
        plan_server({"kv_cache_type": "q5_1"}, str(program), {})
    assert plan_server({"kv_cache_type": "q4_0"}, str(program), {}).arguments


def test_what_a_running_server_has_otherwise() -> None:
    wanted = environment(ServerSettings())
    assert environment_differences(wanted, wanted) == {}
    found = {**wanted, "OLLAMA_KV_CACHE_TYPE": "f16", "PATH": "/bin"}
    del found["OLLAMA_NO_CLOUD"]
    assert environment_differences(wanted, found) == {
        "OLLAMA_KV_CACHE_TYPE": ("f16", "q8_0"),
        "OLLAMA_NO_CLOUD": (None, "1"),
    }


def test_a_missing_program_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no program") as caught:
        plan_server({}, str(tmp_path / "ollama"), {})
    assert "--ollama" in caught.value.fix


@pytest.mark.parametrize(
    ("said", "bytes_"), [("1GiB", 1 << 30), ("512MiB", 1 << 29), ("536870912", 1 << 29), (7, 7)]
)
def test_what_is_left_of_a_card_is_a_size_or_bytes(said: Any, bytes_: int) -> None:
    assert ServerSettings(gpu_overhead=said).gpu_overhead == bytes_
    assert from_mapping({"gpu_overhead": said}).gpu_overhead == bytes_


def test_an_inventory_may_say_what_cards_need() -> None:
    given = {"cuda_devices": [0, 1], "hsa_override": ["1=11.0.0"], "spread": True, "log_level": 1}
    assert environment(from_mapping(given)).items() >= {
        ("CUDA_VISIBLE_DEVICES", "0,1"),
        ("HSA_OVERRIDE_GFX_VERSION_1", "11.0.0"),
        ("OLLAMA_SCHED_SPREAD", "1"),
        ("OLLAMA_DEBUG", "1"),
    }
