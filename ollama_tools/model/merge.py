"""A LoRA adapter merged into the model that it was trained on, by llama.cpp's own program."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, TypedDict

from ollama_tools.devstral.catalog import Catalog
from ollama_tools.devstral.header import require_model
from ollama_tools.devstral.reference import FileReference, parse_reference
from ollama_tools.errors import FileProblem, UsageError
from ollama_tools.files.adapter import Adapter, merged_bytes, read_adapter, require_belonging
from ollama_tools.files.gguf import GgufLayout, read_header, read_layout
from ollama_tools.files.gguf_rewrite import parts
from ollama_tools.interrupts import one_interrupt_later
from ollama_tools.model.download import download
from ollama_tools.model.refusals import SPARE
from ollama_tools.progress import Progress, size_text
from ollama_tools.settings.llama_programs import LlamaProgram, find_llama_program
from ollama_tools.wanted.wish import Wish

PROGRAM: Final = "llama-export-lora"
_FLAGS: Final = ("--model", "--lora", "--output")
_LOOK_SECONDS: Final = 0.2
_STOP_SECONDS: Final = 5.0
_SAID_BYTES: Final = 4096


class MergedJson(TypedDict):
    """A model with an adapter merged into it."""

    path: str
    bytes: int
    base: str
    adapter: str
    tensors: int
    program: str


@dataclass(frozen=True, slots=True)
class Merged:
    """A model with an adapter merged into it.

    Attributes:
        path: Where it lies.
        bytes: Its size.
        base: The model that the adapter was trained on.
        adapter: The adapter.
        tensors: How many tensors are others than the base's; they are F16, whatever they were.
        program: What merged them, with its version.
    """

    path: Path
    bytes: int
    base: Path
    adapter: Path
    tensors: int
    program: str

    def as_json(self) -> MergedJson:
        """See the class."""
        return MergedJson(
            path=str(self.path),
            bytes=self.bytes,
            base=str(self.base),
            adapter=str(self.adapter),
            tensors=self.tensors,
            program=self.program,
        )


def merge(
    base: str,
    adapter: Path,
    catalog: Catalog,
    progress: Progress,
    *,
    output: Path | None = None,
    program: str | None = None,
) -> Merged:
    """Merge a LoRA adapter into the model that it was trained on; no server is asked.

    What is refused is refused before a byte is downloaded or written. The file appears whole or not
    at all, also where the program fails or a person stops it.

    Args:
        base: The model: a file, or a quant, which is downloaded first.
        adapter: The adapter, as GGUF.
        catalog: The known releases.
        progress: Hears of steps and bytes.
        output: The file to write; None for one in the working directory, named by both.
        program: llama-export-lora, where it is not on PATH.

    Raises:
        UsageError: There is no such program, or it is too old.
        FileProblem: The two do not belong together, the output is there already or cannot be
            written, or the program fails.
        HubError: The base cannot be downloaded.
    """
    reference = parse_reference(base, catalog)
    here = reference.path if isinstance(reference, FileReference) else None
    path = here or Path(f"{reference.default_name.replace('/', '-').replace(':', '-')}.gguf")
    target = output or Path(f"{path.stem}-{adapter.stem}.gguf")
    if here is not None:
        layout, read = _read(here, adapter)
    else:
        release = reference.release
        wanted = release.architecture.name if release else catalog.default.architecture.name
        read = read_adapter(adapter, wanted)
    _require_free(target)
    found = _program(program, [path, adapter, target])
    if here is None:
        files = download(Wish(reference=base), catalog, progress).files
        path = files[0].path
        layout, read = _read(path, adapter)
    needed = merged_bytes(read, layout)
    _require_room(target, needed)
    progress.step(f"merging {adapter} into {path}, by {found.path}")
    # Others may merge into the same directory.
    partial = target.with_name(f"{target.name}.{os.getpid()}.incomplete")
    try:
        _run(found, [path, adapter, partial], needed, progress)
        _require_whole(partial, layout)
        _require_free(target)
        partial.replace(target)
    except OSError as error:
        raise FileProblem(
            f"cannot write {target}: {error.strerror}", "check the disk and the directory"
        ) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
    return Merged(
        target,
        target.stat().st_size,
        path,
        adapter,
        len(read.pairs),
        f"{found.path} {found.version}".strip(),
    )


def _read(base: Path, adapter: Path) -> tuple[GgufLayout, Adapter]:
    """The base and the adapter, which belong together.

    Raises:
        FileProblem: They do not, or the program could not read the base.
    """
    files = parts(base)
    header = read_header(files[0])
    require_model(header)
    if len(files) > 1:
        joined = f"{files[0].name.partition('-00001-of-')[0]}.gguf"
        raise FileProblem(
            f"{base} is split into {len(files)} files, which {PROGRAM} cannot read",
            f"join them: llama-gguf-split --merge {shlex.quote(str(files[0]))} {joined}",
        )
    layout = read_layout(base)
    read = read_adapter(adapter, header.architecture)
    require_belonging(read, layout)
    return layout, read


def _arguments(files: list[Path]) -> list[str]:
    return [word for flag, file in zip(_FLAGS, files, strict=True) for word in (flag, str(file))]


def _program(path: str | None, files: list[Path]) -> LlamaProgram:
    try:
        found = find_llama_program(PROGRAM, path)
    except UsageError as error:
        line = shlex.join([PROGRAM, *_arguments(files)])
        raise type(error)(error.what, f"{error.fix}; by hand it is: {line}") from error
    found.require(_FLAGS)
    return found


def _require_free(target: Path) -> None:
    if target.exists():
        raise FileProblem(f"{target} is there already", "name another file by --output")
    if not target.absolute().parent.is_dir():
        raise FileProblem(
            f"there is no directory {target.absolute().parent}", "make it, or name another --output"
        )


def _require_room(target: Path, needed: int) -> None:
    free = shutil.disk_usage(target.absolute().parent).free
    if free < needed + SPARE:
        raise FileProblem(
            f"the merged model takes up to {size_text(needed)}, and {size_text(free)} are free at "
            f"{target.absolute().parent}",
            "free space, or name a file on another disk by --output",
        )


def _run(program: LlamaProgram, files: list[Path], needed: int, progress: Progress) -> None:
    partial = files[-1]
    with tempfile.TemporaryFile() as said:
        running: subprocess.Popen[bytes] | None = None
        try:
            # In a session of its own, so that a Ctrl-C is ours alone to pass on.
            with one_interrupt_later():
                running = _started([program.path, *_arguments(files)], said)
            while True:
                with suppress(subprocess.TimeoutExpired):
                    running.wait(_LOOK_SECONDS)
                    break
                with suppress(OSError):
                    progress.transfer("merging", min(partial.stat().st_size, needed), needed)
        finally:
            if running is not None:
                _stop(running)
        if running.returncode != 0:
            raise FileProblem(
                f"{program.path} failed: {_last_line(said) or f'exit code {running.returncode}'}",
                "check that the adapter was trained on this model, and the room on the disk",
            )


def _started(command: list[str], said: IO[bytes]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise FileProblem(
            f"cannot run {command[0]}: {error.strerror}", "check --program PATH"
        ) from error


def _stop(running: subprocess.Popen[bytes]) -> None:
    if running.poll() is not None:
        return
    running.send_signal(signal.SIGTERM)
    try:
        running.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        running.kill()
        running.wait()


def _last_line(said: IO[bytes]) -> str:
    end = said.seek(0, os.SEEK_END)
    said.seek(max(0, end - _SAID_BYTES))
    lines = said.read().decode(errors="replace").strip().splitlines()
    return lines[-1].strip()[:200] if lines else ""


def _require_whole(partial: Path, base: GgufLayout) -> None:
    """Refuse what a program has left that ended well and did not write all of it."""
    try:
        made = read_layout(partial)
    except FileProblem as error:
        raise FileProblem(
            f"{PROGRAM} wrote no whole model: {error.what}", "run it again, or renew llama.cpp"
        ) from error
    if made.tensors.keys() != base.tensors.keys():
        raise FileProblem(
            f"{PROGRAM} wrote {made.tensor_count} of {base.tensor_count} tensors",
            "run it again, or renew llama.cpp",
        )
