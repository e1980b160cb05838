"""The parts about memory: loads of the true shape, the KV cache by type, and work off the card."""

from __future__ import annotations

import hashlib
import os
import time
from typing import Any

from benchmarks.gpu import card
from benchmarks.gpu.bench import CHECKED, MINIATURE, ZEROS, Bench, Running
from benchmarks.gpu.document import NotPossible
from benchmarks.gpu.true_shape import ZeroModel, zero_model
from benchmarks.gpu.warnings import warnings
from ollama_tools.devstral.carriers import jinja_template
from ollama_tools.devstral.catalog import TokenizerVersion
from ollama_tools.devstral.memory import KvType, kv_cache_bytes
from ollama_tools.errors import DevstralError
from ollama_tools.server.log import newest_load

_TYPES = (KvType.Q8_0, KvType.F16, KvType.Q4_0)
# The log has two decimals of a MiB, and rounds half of one to even.
_LOGGED_TO = 0.00501 * (1 << 20)
# Tokens with room for a prompt and an agent's first answer.
_LEAST = 2560
_NOWHERE = "/nonexistent/no-driver.json"


def true_shape(bench: Bench, data: dict[str, Any]) -> None:
    """The file of zeros and the miniature: made, loaded, and asked for a few tokens."""
    model = zero_model(
        bench.sizes.shape, chat_template=jinja_template(TokenizerVersion.V13), name="zeros"
    )
    with bench.server() as running:
        _bring_zeros(running, model, data)
        _bring_miniature(running, data)
        data["zeros"] = running.load(ZEROS, bench.sizes.load_context)
        data["zeros"]["weights_bytes"] = model.weights
        bench.document.save()
        data["first_answer"] = _few_tokens(running)
        data["miniature"] = running.load(MINIATURE, bench.sizes.load_context)


def kv_cache(bench: Bench, data: dict[str, Any]) -> None:
    """The KV cache's types by contexts, against the formula; then without flash attention."""
    cells: list[dict[str, Any]] = []
    data["cells"] = cells
    for kind in _TYPES:
        with bench.server(OLLAMA_KV_CACHE_TYPE=kind.value) as running:
            for context in bench.sizes.contexts:
                cells.append(_kv_cell(running, kind, context))
                bench.document.save()
    data["flash_attention"] = {}
    for label, value in {"unset": None, "off": "0"}.items():
        variables = {"OLLAMA_KV_CACHE_TYPE": "f16", "OLLAMA_FLASH_ATTENTION": value}
        with bench.server(**variables) as running:
            cell = _kv_cell(running, KvType.F16, bench.sizes.contexts[0])
        data["flash_attention"][label] = cell
        bench.document.save()


def slots(bench: Bench, data: dict[str, Any]) -> None:
    """Loads with several slots, whose compute buffers are not those of one large slot."""
    data["cells"] = cells = []
    for context, kind, count in bench.sizes.slots:
        variables = {"OLLAMA_KV_CACHE_TYPE": kind.value, "OLLAMA_NUM_PARALLEL": str(count)}
        with bench.server(**variables) as running:
            cells.append({"slots": count, **_kv_cell(running, kind, context, count)})
        bench.document.save()


def checks(bench: Bench, data: dict[str, Any]) -> None:
    """The package's commands as they are, on a server that sees the card."""
    file = str(bench.home / "models" / bench.sizes.miniature)
    context, prompt = str(bench.sizes.check_context), str(bench.sizes.check_prompt)
    parameters = [f"--parameter={key}={value}" for key, value in bench.sizes.options.items()]
    preflight_context = str(max(_LEAST, bench.sizes.load_context))
    with bench.server() as running:
        data["fit"] = _fit(running)
        data["preflight"] = running.command(
            *("preflight", "--release", "2507", "--context", preflight_context),
            *("--kv-cache-type", KvType.Q8_0.value, "--force"),
        )
        bench.document.save()
        data["create"] = running.command(
            *("create", file, "--name", CHECKED, "--release", "2507", "--system", "bundled"),
            *("--context", context, "--prompt-tokens", prompt, *parameters),
        )
        bench.document.save()
        data["smoke"] = running.command(
            *("smoke", CHECKED, "--release", "2507", "--prompt-tokens", prompt)
        )
        data["ps"] = running.ps()
        data["load"] = newest_load(running.log).as_json()
        data["doctor"] = running.command("doctor")


def not_on_the_card(bench: Bench, data: dict[str, Any]) -> None:
    """The card hidden from the server, then only a few layers on it: what tells of it?"""
    hidden = {"VK_DRIVER_FILES": _NOWHERE, "VK_ICD_FILENAMES": _NOWHERE}
    with bench.server(**hidden) as running:
        if running.client.model(CHECKED) is None:
            raise NotPossible(f"{CHECKED} is not there: the part before did not make it")
        data["hidden"] = {"devices": running.devices(), **_judged(running, CHECKED)}
        data["hidden"]["warnings"] = warnings(running.log)
    bench.document.save()
    few = bench.sizes.few_layers
    with bench.server() as running:
        model = f"{CHECKED}-few"
        running.client.create(
            {"model": model, "from": CHECKED, "parameters": {"num_gpu": few}}, lambda *_: None
        )
        data["few_layers"] = _judged(running, model)
        bench.document.save()
        # The last of these: what stays with the processor is repacked for it, which takes long.
        data["few_layers"]["zeros"] = running.load(ZEROS, bench.sizes.load_context, num_gpu=few)
        # A loaded model that is removed can no longer be unloaded, so not before this.
        running.client.delete(model)


def _fit(running: Running) -> dict[str, Any]:
    """What ``fit`` reckons of the model of zeros by its file, on this machine's own card."""
    bench = running.bench
    digest = bench.document.parts["true_shape"]["data"]["file"]["sha256"]
    path = bench.work / f"{ZEROS}.gguf"
    os.link(running.bed.models_dir / "blobs" / f"sha256-{digest}", path)
    has_card = any(each["total_bytes"] for each in card.cards())
    vram = () if has_card else ("--vram", "24GiB")
    return running.command(
        *("fit", str(path), "--context", str(bench.sizes.load_context)),
        *("--kv-cache-type", KvType.Q8_0.value, *vram),
    )


def _judged(running: Running, model: str) -> dict[str, Any]:
    """What ``smoke``, log, ``/api/ps`` and ``doctor`` say of a model's place, in that order."""
    # A processor would take minutes for an agent's prompt, and the prompt is not the question.
    smoke = running.command("smoke", model, "--release", "2507", "--prompt-tokens", "300")
    return {
        "smoke": smoke,
        "caught": "gpu" in _failed(smoke),
        "load": newest_load(running.log).as_json(),
        "ps": running.ps(),
        "doctor": running.command("doctor"),
    }


def _failed(report: dict[str, Any]) -> set[str]:
    """The checks of a command that failed."""
    checks = (report["answer"] or {}).get("checks", ())
    return {each["id"] for each in checks if each["status"] == "fail"}


def _bring_zeros(running: Running, model: ZeroModel, data: dict[str, Any]) -> None:
    begin = time.monotonic()
    digest = model.sha256()
    seconds = time.monotonic() - begin
    data["file"] = {
        "bytes": model.size,
        "weights_bytes": model.weights,
        "sha256": digest,
        "hash_seconds": round(seconds, 2),
    }
    # Where an upload would end, too; so nothing is sent, hashed again, or stored twice.
    model.write(running.bed.models_dir / "blobs" / f"sha256-{digest}")
    _create(running, ZEROS, digest)


def _bring_miniature(running: Running, data: dict[str, Any]) -> None:
    path = running.bench.home / "models" / running.bench.sizes.miniature
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    running.client.upload(path, f"sha256:{digest}", lambda *_: None)
    _create(running, MINIATURE, digest)
    data["miniature_file"] = {"bytes": path.stat().st_size, "sha256": digest}


def _create(running: Running, name: str, digest: str) -> None:
    request = {"model": name, "files": {f"{name}.gguf": f"sha256:{digest}"}}
    running.client.create(request, lambda *_: None)


def _few_tokens(running: Running) -> dict[str, Any]:
    request = {
        "model": ZEROS,
        "prompt": "first",
        "raw": True,
        "stream": False,
        "options": running.options(num_ctx=running.bench.sizes.load_context, num_predict=16),
    }
    begin = time.monotonic()
    answer = running.client.post("/api/generate", request)
    return {
        # The first tokens wait for the card's programs to be compiled.
        "seconds": round(time.monotonic() - begin, 2),
        "tokens": answer["eval_count"],
        "cards": card.cards(),
    }


def _kv_cell(running: Running, kind: KvType, context: int, slots: int = 1) -> dict[str, Any]:
    try:
        cell = running.load(ZEROS, context)
    except DevstralError as error:
        # What does not fit is a result too, and says nothing of the other cells.
        return {"kv_type": kind.value, "context": context, "failed": str(error)}
    expected = kv_cache_bytes(running.bench.sizes.shape, context, kind, slots)
    logged = cell["log"]["kv_bytes"]
    return {
        "kv_type": kind.value,
        "formula_bytes": expected,
        "logged_bytes": logged,
        "agrees": logged is not None and abs(logged - expected) <= _LOGGED_TO,
        **cell,
    }
