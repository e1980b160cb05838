"""Keys of a gateway: who may ask, by name. The file holds digests, never a key."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ollama_tools.errors import MALFORMED, FileProblem, UsageError
from ollama_tools.json_text import MalformedJson, parse_json

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_BYTES = 32
# Of a shorter one that a person has thought of, the digest would tell too much.
_SHORTEST = 32
_WAIT_SECONDS = 10.0


@dataclass(frozen=True)
class Key:
    """A key, as its file knows it.

    Attributes:
        name: Whose it is.
        sha256: Digest of the key. A key is 32 random bytes, so that no slow hash is needed.
        created: When it was made, ISO 8601 in UTC.
    """

    name: str
    sha256: str
    created: str


def default_file() -> Path:
    """Where keys are kept where nobody says another place."""
    import platformdirs

    return Path(platformdirs.user_config_dir("devstral-ollama")) / "gateway-keys.json"


def read_keys(path: Path) -> list[Key]:
    """The keys of a file; none where there is no file.

    Raises:
        FileProblem: It cannot be read, others can read it, or it is no file of keys.
    """
    try:
        # Others than files may never end, or be there once.
        if not stat.S_ISREG(path.stat().st_mode):
            raise FileProblem(f"{path} is no file of keys", "give another place by --keys FILE")
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & _open_to_others(path):
                raise FileProblem(f"others can read {path}", f"chmod 600 {path}")
            content = file.read()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise FileProblem(f"cannot read {path}: {error.strerror}", "check its owner") from error
    try:
        return [
            Key(str(each["name"]), str(each["sha256"]), str(each["created"]))
            for each in parse_json(content)["keys"]
        ]
    except (MalformedJson, *MALFORMED) as error:
        raise FileProblem(
            f"{path} is no file of keys", "devstral-ollama gateway key add NAME makes one"
        ) from error


def _open_to_others(path: Path) -> int:
    """The bits of a file's mode by which others than its owner can read it.

    What systemd hands to a service is root's, with an entry for the service's account alone, which
    shows as the group's right (``LoadCredential=`` of systemd.exec(5)).
    """
    is_handed = path.parent == Path(os.environ.get("CREDENTIALS_DIRECTORY", "/dev/null"))
    return 0o007 if is_handed else 0o077


def add_key(path: Path, name: str) -> str:
    """Make a key; what is returned is kept nowhere.

    Raises:
        UsageError: The name is none, or taken.
        FileProblem: The file cannot be written.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no name of a key", "use letters, digits and . _ @ -")
    with _alone(path):
        keys = read_keys(path)
        if any(each.name == name for each in keys):
            raise UsageError(
                f"there is a key named {name}",
                f"devstral-ollama gateway key revoke {name} takes it",
            )
        key = f"do-{secrets.token_urlsafe(_BYTES)}"
        created = datetime.now(UTC).isoformat(timespec="seconds")
        _write(path, [*keys, Key(name, digest(key), created)])
    return key


def revoke_key(path: Path, name: str) -> None:
    """Take a key away; a gateway that runs knows it with the next request.

    Raises:
        UsageError: There is none of that name.
        FileProblem: The file cannot be written.
    """
    none = UsageError(f"there is no key named {name}", "devstral-ollama gateway key list shows all")
    if not path.exists():
        raise none
    with _alone(path):
        keys = read_keys(path)
        left = [each for each in keys if each.name != name]
        if len(left) == len(keys):
            raise none
        _write(path, left)


def parse_keys(given: Sequence[Mapping[str, str]]) -> list[Key]:
    """Keys as an inventory has them: ``name``, with ``sha256`` or the ``key`` itself.

    Raises:
        UsageError: One is none; what was given for a key is not said.
    """
    found: list[Key] = []
    for each in given:
        name = each.get("name", "")
        if not _NAME.fullmatch(name):
            raise UsageError(f"{name!r} is no name of a key", "use letters, digits and . _ @ -")
        if set(each) - {"name", "key", "sha256", "created"} or ("key" in each) == (
            "sha256" in each
        ):
            raise UsageError(
                f"the key of {name} is no name with one of key and sha256",
                "as in {name: alice, sha256: …}",
            )
        if "key" in each and len(each["key"]) < _SHORTEST:
            raise UsageError(
                f"the key of {name} has less than {_SHORTEST} characters",
                "openssl rand -hex 32 makes one",
            )
        known = digest(each["key"]) if "key" in each else each["sha256"].lower()
        if not _DIGEST.fullmatch(known):
            raise UsageError(
                f"the sha256 of {name} is no 64 hexadecimal digits",
                "printf %s KEY | sha256sum prints that of a key",
            )
        if any(name == other.name or known == other.sha256 for other in found):
            raise UsageError(f"the key of {name} is there twice", "leave one of them out")
        found.append(Key(name, known, each.get("created", "")))
    return found


def digest(key: str) -> str:
    """What a file knows of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


class Keyring:
    """The keys of a gateway that runs; a file that changes is read anew."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self._names: dict[str, str] = {}

    @property
    def is_asked_for(self) -> bool:
        """Whether a request needs a key."""
        return self._path is not None

    def owner(self, headers: Mapping[str, str]) -> str | None:
        """Whose key a request has; None where it has none that is known.

        Raises:
            FileProblem: The file cannot be read.
        """
        scheme, _, token = headers.get("authorization", "").partition(" ")
        key = token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        self._refresh()
        # What is looked up is a digest, so that the time it takes tells nothing of a key.
        return self._names.get(digest(key)) if key else None

    def _refresh(self) -> None:
        if self._path is None:
            return
        try:
            found = self._path.stat()
            stamp = (found.st_mtime_ns, found.st_ino)
        except OSError:
            stamp = None
        if stamp != self._stamp or stamp is None:
            self._names = {each.sha256: each.name for each in read_keys(self._path)}
            self._stamp = stamp


def keys_text(keys: Sequence[Key]) -> str:
    """What stands in a file of keys."""
    return json.dumps({"keys": [vars(each) for each in keys]}, indent=2) + "\n"


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other commands from a file that is read, changed and written.

    Raises:
        FileProblem: Nothing can be written beside it, or another command does not end.
    """
    import filelock

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(path.with_name(f".{path.name}.lock"), timeout=_WAIT_SECONDS)
        lock.acquire()
    except filelock.Timeout as error:
        raise FileProblem(
            f"another command has been changing {path} for {_WAIT_SECONDS:.0f} seconds",
            "wait for its end, or end it",
        ) from error
    except OSError as error:
        raise _not_written(path, error) from error
    try:
        yield
    finally:
        lock.release()


def _not_written(path: Path, error: OSError) -> FileProblem:
    return FileProblem(f"cannot write {path}: {error.strerror}", "check its owner")


def _write(path: Path, keys: list[Key]) -> None:
    other = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(other, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(keys_text(keys))
            file.flush()
            os.fsync(file.fileno())
        other.replace(path)
    except OSError as error:
        other.unlink(missing_ok=True)
        raise _not_written(path, error) from error
