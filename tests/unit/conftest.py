"""What holds for every test without a real server."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked for again is asked for at once: nobody is being started meanwhile."""
    monkeypatch.setattr("ollama_tools.server.transport._PAUSES", (0.01,) * 3)
