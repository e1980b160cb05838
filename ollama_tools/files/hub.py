"""The Hugging Face hub: what a file is, and bringing it here."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import re
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from ollama_tools.errors import MALFORMED, DevstralError, HubAway, HubError
from ollama_tools.files.hub_answers import (
    Unanswered,
    Unavailable,
    ask,
    guarded,
    is_safe_path,
    redirected,
)
from ollama_tools.network.proxies import proxy_for
from ollama_tools.network.ways import causes

_T = TypeVar("_T")
_MAIN = "main"
_PARTIAL = 206
_SECONDS = 30.0
_SHA256 = re.compile(r"[0-9a-f]{64}")
_UNFINISHED = ".partial.incomplete"
"""What ends the name of a file that the next run goes on with."""

Advance = Callable[[int, int | None], None]
"""Called with the bytes brought so far, and the bytes of the whole where they are known."""


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a repository.

    Attributes:
        repository: ``owner/name``.
        filename: Its path in there.
        revision: Commit, branch or tag; None is the default branch.
        named: The branch or tag that the hub said to stand for the commit in ``revision``.
    """

    repository: str
    filename: str
    revision: str | None = None
    named: str | None = None

    def __str__(self) -> str:
        return f"{self.repository}/{self.filename}".rstrip("/")


@dataclass(frozen=True, slots=True)
class HubFileFacts:
    """What the hub says of a file without sending it.

    Attributes:
        commit: The commit that the revision stands for.
        sha256: Hex digest of the content; None for small files that are not kept as LFS objects.
        bytes: Size.
        away: Why it was the cache on this machine that said so; empty where the hub did.
    """

    commit: str | None
    sha256: str | None
    bytes: int | None
    away: str = ""


def endpoint() -> str:
    """The hub's base URL."""
    from huggingface_hub import constants

    return constants.ENDPOINT


def headers() -> dict[str, str]:
    """What tells the hub who asks; empty for a person who has not logged in."""
    from huggingface_hub import get_token

    token = get_token()
    return {"Authorization": f"Bearer {token}"} if token else {}


def facts(file: HubFile) -> HubFileFacts:
    """Ask the hub for a file's digest and size (one HEAD request).

    Where the hub is away, its cache on this machine answers as far as it can.

    Raises:
        HubError: The hub refuses or does not answer.
    """
    import huggingface_hub

    def question() -> huggingface_hub.HfFileMetadata:
        url = huggingface_hub.hf_hub_url(
            file.repository, file.filename, revision=file.revision, endpoint=None
        )
        found = huggingface_hub.get_hf_file_metadata(url)
        if not (found.etag or found.commit_hash):
            # A page, or a gate before the hub: a digest that is not said is none that is unknown.
            raise _foreign(file)
        return found

    try:
        found = _asked(file, question)
    except HubAway as error:
        if (known := _cached_facts(file)) is not None:
            return replace(known, away=_why_away(error))
        raise
    etag = found.etag or ""
    sha256 = etag if re.fullmatch(r"[0-9a-f]{64}", etag) else None
    return HubFileFacts(commit=found.commit_hash, sha256=sha256, bytes=found.size)


def _cached_facts(file: HubFile) -> HubFileFacts | None:
    """What the names in huggingface_hub's cache tell of a file; None where it is not there."""
    path = cached(file)
    if path is None:
        return None
    try:
        blob = path.resolve()
        size = blob.stat().st_size
    except OSError:
        return None
    commit = path.parents[file.filename.count("/")].name
    sha256 = blob.name if _SHA256.fullmatch(blob.name) else None
    return HubFileFacts(commit, sha256, size)


def _cached_gguf_files(repository: str, revision: str | None) -> list[str]:
    folder = _cache_folder(repository)
    commit = revision or _MAIN
    with contextlib.suppress(OSError, ValueError):
        commit = (folder / "refs" / commit).read_text(encoding="utf-8").strip()
    snapshot = folder / "snapshots" / commit
    if not is_safe_path(commit) or not snapshot.is_dir():
        return []
    files = sorted(each for each in snapshot.rglob("*") if each.suffix.lower() == ".gguf")
    return [each.relative_to(snapshot).as_posix() for each in files]


def cache_directory() -> Path:
    """Where huggingface_hub keeps what it brings."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _cache_folder(repository: str) -> Path:
    return cache_directory() / f"models--{repository.replace('/', '--')}"


def beginning(file: HubFile, count: int) -> tuple[bytes, int]:
    """The first bytes of a file, and the size of the whole (one request, and where it leads).

    Args:
        file: The file.
        count: How many bytes at most.

    Raises:
        HubError: The hub refuses, does not answer, or does not say how large the file is.
    """
    import huggingface_hub

    def question() -> tuple[bytes, int]:
        url = huggingface_hub.hf_hub_url(file.repository, file.filename, revision=file.revision)
        asked = headers() | {
            "Range": f"bytes=0-{count - 1}",
            "Accept-Encoding": "identity",
        }
        with huggingface_hub.get_session().stream(
            "GET", url, headers=asked, follow_redirects=True, timeout=_SECONDS
        ) as response:
            huggingface_hub.hf_raise_for_status(response)
            whole = response.headers.get("Content-Range", "").rpartition("/")[2]
            size = whole if response.status_code == _PARTIAL else response.headers["Content-Length"]
            content = b""
            for piece in response.iter_raw(count):
                content += piece
                # Who does not know of ranges sends the whole.
                if len(content) >= count:
                    break
            if not content:
                raise ValueError("nothing")
            return content[:count], int(size)

    try:
        return _asked(file, question)
    except (KeyError, ValueError) as error:
        raise _foreign(file) from error


def last_change(file: HubFile) -> tuple[str | None, datetime | None]:
    """The commit that last changed a file, and when that was.

    Raises:
        HubError: The hub refuses or does not answer.
    """
    import huggingface_hub

    def question() -> tuple[str | None, datetime | None]:
        found = huggingface_hub.HfApi().get_paths_info(
            file.repository, [file.filename], expand=True, revision=file.revision
        )
        commit = found[0].last_commit if found else None
        return (commit.oid, commit.date) if commit else (None, None)

    try:
        return _asked(file, question)
    except HubAway as error:
        fix = "unset it" if _is_offline() else error.fix
        what = f"{_why_away(error)}, and no cache knows what has changed on the hub"
        raise HubAway(what, fix) from error


def gguf_files(repository: str, revision: str | None) -> list[str]:
    """The names of the GGUF files of a repository.

    Raises:
        HubError: The hub refuses or does not answer.
    """
    import huggingface_hub

    def question() -> list[str]:
        names = huggingface_hub.HfApi().list_repo_files(repository, revision=revision)
        return [each for each in names if each.lower().endswith(".gguf") and is_safe_path(each)]

    try:
        return _asked(HubFile(repository, "", revision), question)
    except HubAway:
        if names := _cached_gguf_files(repository, revision):
            return names
        raise


def cached(file: HubFile) -> Path | None:
    """A file in huggingface_hub's cache as it last was on the hub; asks nobody."""
    import huggingface_hub

    with _explained(file):
        path = huggingface_hub.try_to_load_from_cache(
            file.repository, file.filename, revision=file.revision
        )
    return Path(path) if isinstance(path, str) else None


def broken_downloads() -> list[Path]:
    """Files in huggingface_hub's cache of Devstral repositories that are not whole yet."""
    found = cache_directory().glob("models--*/blobs/*.incomplete")
    return sorted(each for each in found if "devstral" in each.parent.parent.name.casefold())


def download(
    file: HubFile, advance: Advance | None = None, *, directory: Path | None = None
) -> Path:
    """Bring a file into huggingface_hub's cache; what is there already is not fetched again.

    What comes by plain HTTP goes on where an earlier run stopped. What comes through Xet does so as
    far as hf-xet has kept chunks of it (``HF_XET_CHUNK_CACHE_SIZE_BYTES``), which was not tried.

    Args:
        file: The file.
        advance: Hears of the bytes.
        directory: Where it is put instead; it must not be there yet.

    Raises:
        HubError: The hub refuses, does not answer, or breaks off.
    """
    import huggingface_hub

    def question() -> Path:
        with guarded(str(file), is_download=True), _explained(file):
            found = _fetched(file, advance, directory) if cached(file) is None else None
            if found is not None and directory is not None:
                return found
            return Path(
                huggingface_hub.hf_hub_download(
                    file.repository,
                    file.filename,
                    revision=file.revision,
                    local_dir=directory,
                    tqdm_class=_progress(advance),
                )
            )

    if directory is None:
        _remove_rests(file)
    path = ask(question)
    if directory is None:
        _note_revision(file)
    return path


def partial_bytes(file: HubFile, sha256: str | None, directory: Path | None = None) -> int:
    """How much of a file an earlier run has brought, which the next one need not fetch."""
    if sha256 is None:
        return 0
    try:
        return _places(file, sha256, directory)[1].stat().st_size
    except OSError:
        return 0


def _places(file: HubFile, sha256: str, directory: Path | None) -> tuple[Path, Path]:
    """Where a file comes to lie, and where what there is of it lies meanwhile."""
    if directory is not None:
        whole = directory / file.filename
        return whole, whole.with_name(f"{whole.name}.{sha256[:16]}{_UNFINISHED}")
    whole = _cache_folder(file.repository) / "blobs" / sha256
    return whole, whole.with_name(f"{sha256}{_UNFINISHED}")


def _fetched(file: HubFile, advance: Advance | None, directory: Path | None) -> Path | None:
    """Fetch a file by plain HTTP, from where an earlier run stopped; None where that cannot be.

    huggingface_hub begins a file of a random name with every run.
    """
    import filelock
    import huggingface_hub
    from huggingface_hub.file_download import http_get

    url = huggingface_hub.hf_hub_url(file.repository, file.filename, revision=file.revision)
    about = huggingface_hub.get_hf_file_metadata(url)
    sha256, size = about.etag or "", about.size
    by_xet = about.xet_file_data is not None and _has_xet()
    if by_xet or size is None or not _SHA256.fullmatch(sha256) or about.commit_hash is None:
        return None
    whole, partial = _places(file, sha256, directory)
    folder = _cache_folder(file.repository)
    # Where huggingface_hub looks as well, so that no two bring one file.
    lock = cache_directory() / ".locks" / folder.name / f"{sha256}.lock"
    for each in (whole, lock):
        each.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(lock):
        if whole.exists():
            return whole
        if partial_bytes(file, sha256, directory) > size:
            partial.unlink()
        try:
            with partial.open("ab") as out:
                # Where the hub sends us, so that a silence there is not broken by its redirect.
                http_get(
                    about.location,
                    out,
                    resume_size=out.tell(),
                    headers=headers(),
                    expected_size=size,
                    tqdm_class=_progress(advance),
                )
            partial.replace(whole)
        except BaseException as error:
            if not _may_go_on(error) or not partial_bytes(file, sha256, directory):
                partial.unlink(missing_ok=True)
            raise
    return whole


def _has_xet() -> bool:
    from huggingface_hub import constants

    return not constants.HF_HUB_DISABLE_XET and importlib.util.find_spec("hf_xet") is not None


def _may_go_on(error: BaseException) -> bool:
    """Whether what came before an error is good: the way broke, and not what was sent."""
    from huggingface_hub import errors

    if isinstance(error, HubAway | errors.HfHubHTTPError) or not isinstance(error, Exception):
        return True
    return _is_of_http(error)


def _is_of_http(error: Exception) -> bool:
    """Whether an error is one of the HTTP library, of whichever name the library is."""
    return type(error).__module__.split(".")[0] in ("httpx", "httpx2", "httpcore2")


def _remove_rests(file: HubFile) -> None:
    """Remove what huggingface_hub's killed downloads left, which it never takes up again.

    A download that is under way holds the lock of its blob.
    """
    import filelock

    folder = _cache_folder(file.repository)
    locks = folder.parent / ".locks" / folder.name
    for rest in folder.glob("blobs/*.incomplete"):
        if rest.name.endswith(_UNFINISHED):
            continue
        lock = locks / f"{rest.name.partition('.')[0]}.lock"
        with contextlib.suppress(OSError, filelock.Timeout):
            if lock.exists():
                with filelock.FileLock(lock, timeout=0):
                    rest.unlink(missing_ok=True)


def _note_revision(file: HubFile) -> None:
    """Leave the branch's commit in the cache, by which others find the file without the hub."""
    if file.named is None or file.revision is None or not is_safe_path(file.named):
        return
    ref = _cache_folder(file.repository) / "refs" / file.named
    # It is found out again; the download is there in any case.
    with contextlib.suppress(OSError):
        ref.parent.mkdir(parents=True, exist_ok=True)
        written = ref.with_name(f"{ref.name}.{os.getpid()}")
        written.write_text(file.revision, encoding="utf-8")
        written.replace(ref)


def _asked(file: HubFile, question: Callable[[], _T]) -> _T:
    """Ask the hub for what is no file: held to bounds, in time, and more than once."""

    def once() -> _T:
        with guarded(str(file)), _explained(file):
            return question()

    return ask(once)


def _progress(advance: Advance | None) -> Any:
    """A tqdm class that reports to ``advance`` and prints nothing itself."""
    from tqdm.std import tqdm

    class Quiet(tqdm):  # type: ignore[type-arg] # generic in its stubs only
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.pop("name", None)
            kwargs["disable"] = False
            kwargs["gui"] = True  # keeps tqdm from writing to the terminal
            super().__init__(*args, **kwargs)

        def display(self, *_: Any, **__: Any) -> None:
            return

        def update(self, n: float | None = 1) -> bool | None:
            self.n += n or 0
            if advance is not None:
                advance(int(self.n), int(self.total) if self.total else None)
            return True

        def close(self) -> None:
            self.disable = True

    return Quiet


def _unreached(file: HubFile, error: Exception) -> HubAway:
    wrong = next((each for each in causes(error) if isinstance(each, ssl.SSLError)), None)
    if isinstance(wrong, ssl.SSLCertVerificationError):
        return HubAway(
            f"the certificate of the hub is not trusted: {wrong.verify_message}",
            "name the authority that signed it in SSL_CERT_FILE",
        )
    if wrong is not None:
        return HubAway(
            f"no secure connection to the hub: {wrong.reason or wrong.strerror}",
            "check HF_ENDPOINT, and the proxy in between",
        )
    if proxy := proxy_for(endpoint()):
        return HubAway(
            f"the proxy {proxy.name} does not lead to the hub for {file}",
            f"check {proxy.variable}, or name the hub in NO_PROXY",
        )
    return HubAway(
        f"cannot reach the hub{redirected()} for {file}",
        "check the network, HF_ENDPOINT and HF_HUB_OFFLINE",
    )


def _is_offline() -> bool:
    from huggingface_hub import constants

    return constants.is_offline_mode()


def _why_away(error: HubAway) -> str:
    return "HF_HUB_OFFLINE is set" if _is_offline() else error.what


def _offline(file: HubFile) -> HubAway:
    return HubAway(
        f"HF_HUB_OFFLINE is set, and the Hugging Face cache does not have {file}",
        f"unset it, or fill the cache where the hub can be reached: hf download {file.repository}",
    )


def _foreign(file: HubFile) -> HubError:
    return HubError(
        f"what answers for the hub{redirected()} does not speak as the hub does ({file})",
        "check HF_ENDPOINT, and the proxy in between",
    )


def _broke(file: HubFile, error: Exception) -> HubError:
    """What an error of the HTTP library means, of whichever name the library is."""
    later = "check the network, or try again later"
    kind = type(error).__name__
    if kind in ("ConnectError", "ConnectTimeout", "ProxyError"):
        return _unreached(file, error)
    if kind == "TooManyRedirects":
        return HubError(
            f"what answers for the hub redirects {file} in a circle",
            "check HF_ENDPOINT, and the proxy in between",
        )
    if "Timeout" in kind:
        # The wait was its chance.
        return HubAway(f"the hub fell silent while fetching {file}", later)
    return Unavailable(
        f"the connection to the hub broke while fetching {file}",
        "check the network and the proxy in between, then run the command again",
    )


@contextmanager
def _explained(file: HubFile) -> Iterator[None]:
    """Turn huggingface_hub's errors into one message that says what to do.

    What it logs meanwhile ("Retrying in 8s") would stand beside that message; it is held back.
    """
    from huggingface_hub import errors

    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    except Unanswered as error:
        raise _unreached(file, error) from error
    except DevstralError:
        raise
    except errors.OfflineModeIsEnabled as error:
        raise _offline(file) from error
    except errors.GatedRepoError as error:
        raise HubError(
            f"{file.repository} is gated",
            "accept its terms on the hub, then log in: hf auth login",
        ) from error
    except errors.RevisionNotFoundError as error:
        raise HubError(f"{file.repository} has no revision {file.revision!r}") from error
    except errors.RepositoryNotFoundError as error:
        raise HubError(
            f"the hub has no repository {file.repository}, or it is private",
            "check the name; for a private one log in: hf auth login",
        ) from error
    except errors.LocalEntryNotFoundError as error:
        if _is_offline():
            raise _offline(file) from error
        if isinstance(error.__cause__, errors.FileMetadataError):
            raise _foreign(file) from error
        raise _unreached(file, error) from error
    except errors.EntryNotFoundError as error:
        raise HubError(f"{file.repository} has no file {file.filename!r}") from error
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status == 407:
            raise HubError(
                "the proxy before the hub asks for credentials",
                "write user, colon, password and @ before the host in HTTPS_PROXY",
            ) from error
        if status in (401, 403):
            raise HubError(f"the hub refuses {file} ({status})", "log in: hf auth login") from error
        raise HubError(f"the hub answers {status or 'with an error'} for {file}") from error
    except errors.HFValidationError as error:
        raise HubError(f"{file.repository!r} is not a repository's name") from error
    except MALFORMED as error:
        raise _foreign(file) from error
    except errors.FileMetadataError as error:
        raise _foreign(file) from error
    except OSError as error:
        raise HubError(
            f"cannot bring {file}: {error.strerror or error}",
            "check the disk and the network, then run the command again",
        ) from error
    except Exception as error:
        if not _is_of_http(error):
            raise
        raise _broke(file, error) from error
    finally:
        logger.setLevel(level)
