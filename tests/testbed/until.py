"""Beds that stand until somebody ends them."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable


def until_interrupted(serve: Callable[[], None]) -> None:
    """Runs ``serve``, which ends in order on SIGINT, SIGTERM or SIGHUP.

    A script's background jobs inherit SIGINT as ignored, and Python leaves it so; a bed that only
    a kill could end would leave servers and hosts behind.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        serve()
