"""The KV cache as it is reckoned beside what an engine logs, over contexts, types and slots.

Loaded are miniatures with Devstral's own KV cache: all 40 layers as long as it is within
``--most``, else two of them. With ``--compute`` it is two layers of Devstral's true shape, filled
with zeros, whose compute buffer is Devstral's, and is judged as well (Ollama 0.30 and newer).

Printed are MiB. The exit code is 1 where a cache is off by more than the log's last digit, or a
compute buffer by more than 10 %.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from benchmarks.gpu.true_shape import zero_model
from ollama_tools.devstral.carriers import jinja_template
from ollama_tools.devstral.catalog import TokenizerVersion
from ollama_tools.devstral.catalog_file import load_catalog
from ollama_tools.devstral.memory import KvType, batch_tokens, compute_bytes, kv_cache_bytes
from ollama_tools.devstral.miniature import write_miniature
from ollama_tools.files.architecture import Architecture
from ollama_tools.files.gguf import read_header
from ollama_tools.hardware.memory import main_memory
from ollama_tools.progress import parse_size
from ollama_tools.server.client import Server
from ollama_tools.server.log import Load, newest_load
from tests.testbed.build import NEWEST, ollama_build
from tests.testbed.server import OllamaServer

CONTEXTS = (4096, 8192, 16384, 32768, 65536, 131072)
TYPES = (KvType.F16, KvType.Q8_0, KvType.Q4_0)
SLOTS = (1, 2, 4)
VERSIONS = (NEWEST, "0.24.0")

_MIB = 1 << 20
# The log has two decimals of a MiB.
_LOGGED_TO = 0.0051 * _MIB
_NEAR = 0.1
_WHOLE, _FEW = 40, 2


def main() -> int:
    """Load all of it, and print a line for each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kv_grid", description=__doc__)
    parser.add_argument("--most", default="16GiB", help="the largest cache of all 40 layers")
    parser.add_argument("--compute", action="store_true", help="compute buffers too")
    parser.add_argument("--ollama", action="append", help="this release alone; repeatable")
    options = parser.parse_args()
    most = parse_size(options.most)
    print(f"{'ollama':7} {'type':5} {'slots':>5} {'context':>7} {'layers':>6}", end=" ")
    head = f"{'reckoned':>9} {'logged':>9} {'off':>6}"
    print(f"{head}  {'compute':>8} {'logged':>8} {'by':>6}" if options.compute else head)
    wrong = loads = 0
    for version in options.ollama or VERSIONS:
        for kind in TYPES:
            for slots in SLOTS:
                found = _grid(version, kind, slots, most, compute=options.compute)
                loads, wrong = loads + len(found), wrong + found.count(False)
    print(f"{loads} loads, {wrong} off")
    return 1 if wrong else 0


def _grid(version: str, kind: KvType, slots: int, most: int, *, compute: bool) -> list[bool]:
    """Whether each load of a server is as it was reckoned."""
    environment = {
        "OLLAMA_KV_CACHE_TYPE": kind.value,
        "OLLAMA_NUM_PARALLEL": str(slots),
        "OLLAMA_FLASH_ATTENTION": "1",
    }
    with tempfile.TemporaryDirectory(prefix="devstral-kv-") as temporary:
        root, found = Path(temporary), []
        log = root / "ollama.log"
        build = ollama_build(version)
        with (
            OllamaServer(build, models_dir=root / "m", log_path=log, env=environment) as bed,
            Server(bed.url) as server,
        ):
            put = _put_true_shape if compute else _put
            shapes = {layers: put(server, root, layers) for layers in (_WHOLE, _FEW)}
            for context in CONTEXTS:
                whole = kv_cache_bytes(shapes[_WHOLE][0], context, kind, slots)
                layers = _WHOLE if whole <= most and not compute else _FEW
                shape, size = shapes[layers]
                cache = kv_cache_bytes(shape, context, kind, slots)
                head = f"{version:7} {kind.value:5} {slots:5} {context:7} {layers:6}"
                memory = main_memory()
                if memory is not None and cache > memory.available * 0.7:
                    print(f"{head} left out: {cache >> 20} MiB, {memory.available >> 20} are free")
                    continue
                seen = log.stat().st_size
                options = {"num_ctx": context, "num_predict": 1}
                request = {"model": f"m{layers}", "prompt": "a", "stream": False}
                server.post("/api/generate", {**request, "options": options})
                load = newest_load(log.read_bytes()[seen:].decode(errors="replace"))
                server.unload(f"m{layers}")
                line, fits = _line(load, cache)
                if compute and fits:
                    more, fits = _compute(load, shape, context, slots, size)
                    line += more
                print(f"{head} {line}", flush=True)
                found.append(fits)
        return found


def _put(server: Server, root: Path, layers: int) -> tuple[Architecture, int]:
    """Put a model on the server; its shape, and bytes of its file."""
    path = root / f"m{layers}.gguf"
    write_miniature(path, layers=layers, heads=8, name=f"grid {layers}")
    digest = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    server.upload(path, digest, lambda *_: None)
    request = {"model": f"m{layers}", "files": {path.name: digest}}
    server.create(request, lambda *_: None)
    return read_header(path).shape(), path.stat().st_size


def _put_true_shape(server: Server, root: Path, layers: int) -> tuple[Architecture, int]:
    """The same with Devstral's true shape, but for the number of layers."""
    shape = replace(load_catalog().release("2507").architecture, layers=layers)
    if layers != _FEW:
        # Its cache alone is asked for.
        return shape, 0
    template = jinja_template(TokenizerVersion.V13)
    model = zero_model(shape, chat_template=template, name=f"grid {layers}")
    digest = model.sha256()
    # Where an upload would end, too.
    model.write(root / "m" / "blobs" / f"sha256-{digest}")
    request = {"model": f"m{layers}", "files": {f"m{layers}.gguf": f"sha256:{digest}"}}
    server.create(request, lambda *_: None)
    return shape, model.size


def _line(load: Load, cache: int) -> tuple[str, bool]:
    """What is printed of a load's cache, and whether it is as it was reckoned."""
    if load.kv_bytes is None:
        return f"{cache / _MIB:9.2f}  the log does not say it", False
    off = load.kv_bytes - cache
    return f"{cache / _MIB:9.2f} {load.kv_bytes / _MIB:9.2f} {off / _MIB:6.2f}", (
        abs(off) <= _LOGGED_TO
    )


def _compute(
    load: Load, shape: Architecture, context: int, slots: int, size: int
) -> tuple[str, bool]:
    """What is printed of a load's compute buffer, and whether it is near what was reckoned."""
    logged = sum(each.get("compute", 0) for each in load.buffers.values())
    # Which batch a server chooses follows its guess of memory, and stands in the log.
    batch = int(load.command["batch"])
    reckoned = compute_bytes(shape, context, batch, on_card=False)
    by = reckoned / logged - 1
    told = "" if batch == batch_tokens(shape, context * slots, size) else f", a batch of {batch}"
    return f"  {reckoned / _MIB:8.1f} {logged / _MIB:8.1f} {by:+6.1%}{told}", abs(by) <= _NEAR


if __name__ == "__main__":
    sys.exit(main())
