"""A cache of things that are slow to make, shared by parallel test processes."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import filelock
import platformdirs

CACHE_VARIABLE = "DEVSTRAL_TESTBED_CACHE"


def cache_root() -> Path:
    """Directory of the cache: ``$DEVSTRAL_TESTBED_CACHE``, else one of the user's cache."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen).expanduser().absolute()
    return platformdirs.user_cache_path("devstral-ollama") / "testbed"


def cached(name: str, make: Callable[[Path], None]) -> Path:
    """Returns the directory ``name`` of the cache, made by ``make`` when it is not there.

    The directory appears whole or not at all: it is filled under another name and renamed. Of
    several processes that want it one makes it and the others wait.

    Args:
        name: Relative path that names content and version, ``ollama-0.34.4`` for example.
        make: Fills the empty directory it is given; may raise, and then nothing is kept.
    """
    final = cache_root() / name
    if final.is_dir():
        return final
    final.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(final.with_name(f"{final.name}.lock")):
        if not final.is_dir():
            # What an interrupted process left behind; the lock says that nobody is at it.
            for left in final.parent.glob(f"{final.name}.making-*"):
                shutil.rmtree(left, ignore_errors=True)
            making = Path(tempfile.mkdtemp(prefix=f"{final.name}.making-", dir=final.parent))
            try:
                make(making)
                making.chmod(0o755)
                making.rename(final)
            except BaseException:
                shutil.rmtree(making, ignore_errors=True)
                raise
    return final
