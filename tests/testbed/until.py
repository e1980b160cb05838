"""Beds that stand until somebody ends them."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import wait


def until_interrupted(serve: Callable[[], None]) -> None:
    """Runs ``serve``, which ends in order on SIGINT, SIGTERM or SIGHUP.

    A script's background jobs inherit SIGINT as ignored, and Python leaves it so; a bed that only
    a kill could end would leave servers and hosts behind.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        serve()


def end_with_parent() -> None:
    """Lets this process of :mod:`multiprocessing` end as soon as the one that started it is gone.

    ``daemon`` does so only where the parent ends in order, and not where it is killed.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
