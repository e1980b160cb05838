"""What this machine remembers between runs; losing it costs time, never correctness."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from ollama_tools.errors import FileProblem
from ollama_tools.json_text import MalformedJson, parse_json
from ollama_tools.progress import Progress

_APP = "devstral-ollama"


def _read(path: Path) -> dict[str, Any]:
    try:
        found = parse_json(path.read_bytes())
    except (OSError, MalformedJson):
        return {}
    return found if isinstance(found, dict) else {}


def _write(path: Path, content: dict[str, Any]) -> None:
    """Replace a file whole, so that an interrupted run leaves the old one or the new one."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(content, file, indent=1)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError:
        return


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
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
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
    entry = _read(_digests()).get(key)
    return str(entry["sha256"]) if isinstance(entry, dict) and entry.get("mark") == mark else None


def remember_digest(key: str, mark: list[Any], sha256: str) -> None:
    """Remember a hex SHA-256; see :func:`remembered_digest`."""
    content = _read(_digests())
    content[key] = {"mark": mark, "sha256": sha256}
    _write(_digests(), content)


def note_base(url: str, name: str, public: str) -> None:
    """Remember that a base name on a server is there because this package is pulling it.

    Args:
        url: The server.
        name: The base name.
        public: The public name that it is pulled for.
    """
    content = _read(_bases())
    content[url] = noted_bases(url) | {name: public}
    _write(_bases(), content)


def noted_bases(url: str) -> dict[str, str]:
    """The base names that this package pulled to a server, each with its public name."""
    found = _read(_bases()).get(url)
    if isinstance(found, list):
        # As versions before 0.2 wrote it.
        return {str(each): "" for each in found}
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}


def forget_base(url: str, name: str) -> None:
    """The base name is gone."""
    bases = noted_bases(url)
    if name in bases:
        del bases[name]
        _write(_bases(), _read(_bases()) | {url: bases})


def unfinished_files(seconds: float) -> list[Path]:
    """Files that :func:`_write` began and did not finish, older than that."""
    found = []
    for target in (_digests(), _bases()):
        for path in target.parent.glob(f"{target.name}?*"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > seconds:
                    found.append(path)
    return found
