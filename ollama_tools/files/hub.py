"""The Hugging Face hub: what a file is, and bringing it here."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ollama_tools.errors import MALFORMED, DevstralError, HubError

Advance = Callable[[int, int | None], None]
"""Called with the bytes brought so far, and the bytes of the whole where they are known."""


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a repository; ``revision`` None is the default branch."""

    repository: str
    filename: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"{self.repository}/{self.filename}"


@dataclass(frozen=True, slots=True)
class HubFileFacts:
    """What the hub says of a file without sending it.

    Attributes:
        commit: The commit that the revision stands for.
        sha256: Hex digest of the content; None for small files that are not kept as LFS objects.
        bytes: Size.
    """

    commit: str | None
    sha256: str | None
    bytes: int | None


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

    Raises:
        HubError: The hub refuses or does not answer.
    """
    import huggingface_hub

    with _explained(file):
        url = huggingface_hub.hf_hub_url(
            file.repository, file.filename, revision=file.revision, endpoint=None
        )
        found = huggingface_hub.get_hf_file_metadata(url)
    etag = found.etag or ""
    sha256 = etag if re.fullmatch(r"[0-9a-f]{64}", etag) else None
    return HubFileFacts(commit=found.commit_hash, sha256=sha256, bytes=found.size)


def last_change(file: HubFile) -> tuple[str | None, datetime | None]:
    """The commit that last changed a file, and when that was.

    Raises:
        HubError: The hub refuses or does not answer.
    """
    import huggingface_hub

    with _explained(file):
        found = huggingface_hub.HfApi().get_paths_info(
            file.repository, [file.filename], expand=True, revision=file.revision
        )
        commit = found[0].last_commit if found else None
    return (commit.oid, commit.date) if commit else (None, None)


def gguf_files(repository: str, revision: str | None) -> list[str]:
    """The names of the GGUF files of a repository.

    Raises:
        HubError: The hub refuses or does not answer.
    """
    import huggingface_hub

    with _explained(HubFile(repository, "", revision)):
        names = huggingface_hub.HfApi().list_repo_files(repository, revision=revision)
    return [name for name in names if name.lower().endswith(".gguf")]


def cached(file: HubFile) -> Path | None:
    """A file in huggingface_hub's cache as it last was on the hub; asks nobody."""
    import huggingface_hub

    with _explained(file):
        path = huggingface_hub.try_to_load_from_cache(
            file.repository, file.filename, revision=file.revision
        )
    return Path(path) if isinstance(path, str) else None


def broken_downloads() -> list[Path]:
    """Files in huggingface_hub's cache of Devstral repositories that never became whole."""
    from huggingface_hub import constants

    found = Path(constants.HF_HUB_CACHE).glob("models--*/blobs/*.incomplete")
    return sorted(each for each in found if "devstral" in each.parent.parent.name.casefold())


def download(file: HubFile, advance: Advance | None = None) -> Path:
    """Bring a file into huggingface_hub's cache; what is there already is not fetched again.

    Whether an interrupted download goes on where it stopped is huggingface_hub's affair: what comes
    through its chunk cache does, a plain download starts over (seen with 2.4.0).

    Raises:
        HubError: The hub refuses, does not answer, or breaks off.
    """
    import huggingface_hub

    with _explained(file):
        return Path(
            huggingface_hub.hf_hub_download(
                file.repository,
                file.filename,
                revision=file.revision,
                tqdm_class=_progress(advance),
            )
        )


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
    except DevstralError:
        raise
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
        raise HubError(
            f"cannot reach the hub for {file}", "check the network, HF_ENDPOINT and HF_HUB_OFFLINE"
        ) from error
    except errors.EntryNotFoundError as error:
        raise HubError(f"{file.repository} has no file {file.filename!r}") from error
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status == 429:
            raise HubError(
                "the hub answers 429: too many requests",
                "wait a few minutes, or log in: hf auth login",
            ) from error
        if status in (401, 403):
            raise HubError(f"the hub refuses {file} ({status})", "log in: hf auth login") from error
        raise HubError(f"the hub answers {status or 'with an error'} for {file}") from error
    except errors.HFValidationError as error:
        raise HubError(f"{file.repository!r} is not a repository's name") from error
    except MALFORMED as error:
        raise HubError(
            f"what answers for the hub does not speak as the hub does ({file})",
            "check HF_ENDPOINT, and the proxy in between",
        ) from error
    except OSError as error:
        raise HubError(
            f"cannot bring {file}: {error.strerror or error}",
            "check the disk and the network, then run the command again",
        ) from error
    except Exception as error:
        if type(error).__module__.split(".")[0] not in ("httpx", "httpx2", "httpcore2"):
            raise
        if type(error).__name__ in ("ConnectError", "ConnectTimeout"):
            raise HubError(
                f"cannot reach the hub for {file}",
                "check the network, HF_ENDPOINT and HF_HUB_OFFLINE",
            ) from error
        raise HubError(
            f"the connection to the hub broke while fetching {file}",
            "run the command again",
        ) from error
    finally:
        logger.setLevel(level)
