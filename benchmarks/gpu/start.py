"""Unpacks the bundle that lies beside this file, and starts the probe in it.

Needs the standard library alone. `run`, beside this, finds an interpreter that is new enough.
"""

from __future__ import annotations

import os
import platform
import shutil
import signal
import sys
import tarfile
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_ARCHIVES = ("engine.tar.xz", "package.tar.xz")
# The engine's libraries were linked with this one.
_LIBC = (2, 34)
_UNFIT = 4


def main() -> int:
    """Unpack, run, and leave nothing but the results behind."""
    began = time.monotonic()
    name, version = platform.libc_ver()
    numbers = tuple(int(each) for each in version.split(".")[:2] if each.isdigit())
    if name != "glibc" or numbers < _LIBC or platform.machine() != "x86_64":
        needed = f"x86_64 with glibc {_LIBC[0]}.{_LIBC[1]} or newer is needed"
        print(
            f"gpu probe: {needed}; this is {platform.machine()} with {name or 'no glibc'} {version}"
        )
        return _UNFIT
    # So that whatever ends this early still removes what was unpacked.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    home = Path(tempfile.mkdtemp(prefix="devstral-gpu-"))
    try:
        with ThreadPoolExecutor(len(_ARCHIVES)) as pool:
            for done in [pool.submit(_unpack, _HERE / each, home) for each in _ARCHIVES]:
                done.result()
        minor = f"3.{sys.version_info.minor}"
        sys.path[:0] = [str(home), str(home / "site" / minor), str(home / "site" / "any")]
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        from benchmarks.gpu import probe

        return probe.main(sys.argv[1:], home=home, began=began)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _unpack(archive: Path, into: Path) -> None:
    with tarfile.open(archive) as tar:
        tar.extractall(into, filter="data")


if __name__ == "__main__":
    sys.exit(main())
