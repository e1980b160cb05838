"""What this machine remembers between runs; losing it costs time, never correctness."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import stat
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ollama_tools.errors import FileProblem
from ollama_tools.files.pieces import each_piece
from ollama_tools.json_text import MalformedJson, parse_json
from ollama_tools.progress import Progress

_APP = "devstral-ollama"
_LOCK = ".lock"
_LOCK_SECONDS = 5.0
_STALE_SECONDS = 3600.0
_MOST_BYTES = 8 * 1024**2
_MOST_ENTRIES = 5000
_SHA256 = re.compile(r"[0-9a-f]{64}")


def _read(path: Path) -> dict[str, Any]:
    """What a file holds, as far as it has the form that this version gives it."""
    try:
        # Opening a pipe would wait for somebody to write.
        if not stat.S_ISREG(path.stat().st_mode):
            return {}
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES + 1)
        found = parse_json(text) if len(text) <= _MOST_BYTES else {}
    except (OSError, MalformedJson):
        return {}
    return found if isinstance(found, dict) else {}


@contextlib.contextmanager
def _changing(
    path: Path, whole: Callable[[Any], Any], consequence: str
) -> Iterator[dict[str, Any]]:
    """The content of a file to be changed, while other processes wait; it is written at the end.

    Args:
        path: The file.
        whole: Gives a value of the content as it is to be kept, or None for one that is not.
        consequence: What it means where it cannot be written.
    """
    with contextlib.ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(_locked(path.with_name(f"{path.name}{_LOCK}")))
        except OSError as error:
            _warn(path, error, consequence)
            yield {}
            return
        kept = {key: whole(value) for key, value in _read(path).items()}
        content = {key: value for key, value in kept.items() if value is not None}
        yield content
        try:
            _write(path, content)
        except OSError as error:
            _warn(path, error, consequence)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep other processes out, for as long as they can be expected to wait."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
    try:
        ends = time.monotonic() + _LOCK_SECONDS
        while not _try_lock(handle) and time.monotonic() < ends:
            time.sleep(0.01)
        yield
    finally:
        os.close(handle)


def _try_lock(handle: int) -> bool:
    try:
        import fcntl
    except ImportError:  # pragma: no cover - Windows, where a note may get lost
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        # Some network file systems have no locks; there a note may get lost.
        return True
    return True


def _write(path: Path, content: dict[str, Any]) -> None:
    """Replace a file whole, so that an interrupted run leaves the old one or the new one."""
    for each in _unfinished(path, _STALE_SECONDS):
        each.unlink(missing_ok=True)
    while len(content) > _MOST_ENTRIES:
        del content[next(iter(content))]
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=1)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


class StateWarning(UserWarning):
    """Something could not be remembered; the message says what that means."""


_warned: set[Path] = set()


def _warn(path: Path, error: OSError, consequence: str) -> None:
    if path not in _warned:
        _warned.add(path)
        reason = error.strerror or error
        text = f"cannot write {path} ({reason}): {consequence}"
        warnings.warn(text, StateWarning, stacklevel=2)


_HASHED_AGAIN = "every run hashes its files again; make that folder writable"
_NOT_KNOWN = (
    "a base name that an interrupted run leaves on a server is not known as ours, and prune will "
    "not find it; make that folder writable"
)


def _digests() -> Path:
    import platformdirs

    return Path(platformdirs.user_cache_dir(_APP)) / "digests.json"


def _bases() -> Path:
    import platformdirs

    return Path(platformdirs.user_state_dir(_APP)) / "bases.json"


def file_sha256(path: Path, progress: Progress) -> str:
    """Hex SHA-256 of a file, remembered until its size, time or inode changes.

    Raises:
        FileProblem: The file cannot be read, or changes while it is read.
    """
    try:
        before = path.stat()
        key = str(path.resolve())
        mark = [before.st_size, before.st_mtime_ns, before.st_ino]
        if (known := remembered_digest(key, mark)) is not None:
            return known
        progress.step(f"hashing {path}")
        found, done = hashlib.sha256(), 0
        with path.open("rb", buffering=0) as file:
            for piece in each_piece(file, before.st_size):
                found.update(piece)
                done += len(piece)
                progress.transfer("hashing", done, before.st_size)
        sha256 = found.hexdigest()
        after = path.stat()
    except OSError as error:
        raise FileProblem(f"cannot read {path}: {error.strerror}", "check the path") from error
    if [after.st_size, after.st_mtime_ns, after.st_ino] != mark:
        raise FileProblem(f"{path} changed while it was read", "wait until it is complete")
    remember_digest(key, mark, sha256)
    return sha256


def known_sha256(path: Path) -> str | None:
    """Hex SHA-256 of a file, where an earlier run found it out; nothing of the file is read.

    Raises:
        FileProblem: There is no such file, or nobody may look at it.
    """
    try:
        found = path.stat()
        key = str(path.resolve())
    except OSError as error:
        raise FileProblem(f"cannot read {path}: {error.strerror}", "check the path") from error
    return remembered_digest(key, [found.st_size, found.st_mtime_ns, found.st_ino])


def remembered_digest(key: str, mark: list[Any]) -> str | None:
    """A hex SHA-256 that was found out before; None where it was not, or where the mark differs.

    Args:
        key: What the digest is of.
        mark: What changes when the digest may.
    """
    entry = _whole_digest(_read(_digests()).get(key))
    return str(entry["sha256"]) if entry is not None and entry["mark"] == mark else None


def remember_digest(key: str, mark: list[Any], sha256: str) -> None:
    """Remember a hex SHA-256; see :func:`remembered_digest`."""
    with _changing(_digests(), _whole_digest, _HASHED_AGAIN) as content:
        content.pop(key, None)
        content[key] = {"mark": mark, "sha256": sha256}


def _whole_digest(entry: Any) -> dict[str, Any] | None:
    if not isinstance(entry, dict):
        return None
    mark, sha256 = entry.get("mark"), entry.get("sha256")
    if not isinstance(mark, list) or not all(isinstance(each, int | str) for each in mark):
        return None
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        return None
    return {"mark": mark, "sha256": sha256}


def task_folder(task: str, model: str) -> Path:
    """Where it is kept what came of a task that was put to a model.

    Args:
        task: The task's name.
        model: The model's name on its server.
    """
    import platformdirs

    name = re.sub(r"[^A-Za-z0-9._-]", "_", model).lstrip(".") or "_"
    return Path(platformdirs.user_cache_dir(_APP)) / "tasks" / task / name


def note_base(url: str, name: str, public: str) -> None:
    """Remember that a base name on a server is there because this package is pulling it.

    Args:
        url: The server.
        name: The base name.
        public: The public name that it is pulled for.
    """
    with _changing(_bases(), _whole_bases, _NOT_KNOWN) as content:
        content[url] = content.pop(url, {}) | {name: public}


def noted_bases(url: str) -> dict[str, str]:
    """The base names that this package pulled to a server, each with its public name."""
    return _whole_bases(_read(_bases()).get(url)) or {}


def _whole_bases(found: Any) -> dict[str, str] | None:
    if isinstance(found, list):
        # As versions before 0.2 wrote it.
        return {each: "" for each in found if isinstance(each, str)}
    if isinstance(found, dict):
        return {key: value for key, value in found.items() if isinstance(value, str)}
    return None


def forget_base(url: str, name: str) -> None:
    """The base name is gone."""
    if name in noted_bases(url):
        with _changing(_bases(), _whole_bases, _NOT_KNOWN) as content:
            content.get(url, {}).pop(name, None)


def unfinished_files(seconds: float) -> list[Path]:
    """Files that :func:`_write` began and did not finish, older than that."""
    return [each for target in (_digests(), _bases()) for each in _unfinished(target, seconds)]


def _unfinished(target: Path, seconds: float) -> list[Path]:
    found = []
    for path in target.parent.glob(f"{target.name}?*"):
        with contextlib.suppress(OSError):
            about = path.stat()
            is_old = time.time() - about.st_mtime > seconds
            if is_old and stat.S_ISREG(about.st_mode) and path.name != f"{target.name}{_LOCK}":
                found.append(path)
    return found
