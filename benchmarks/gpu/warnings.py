"""The lines of a server's log that warn of something."""

from __future__ import annotations

import re

_LINE = 300
"""What a line of the log may cost a report."""


def warnings(log: str, limit: int = 20) -> list[str]:
    """The newest lines in which server or engine warn of something or fail."""
    lines = [
        line[:_LINE]
        for line in log.splitlines()
        if re.search(r"level=(WARN|ERROR)|\berror\b|failed to|out of memory", line, re.IGNORECASE)
    ]
    return lines[-limit:]
