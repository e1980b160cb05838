"""The results of the last run, kept beside the tests so that a new server's changes show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.conformance.bed import LLAMA_SERVER, Cells
from tests.testbed.build import NEWEST, OLDEST

VERSIONS = (NEWEST, OLDEST, LLAMA_SERVER)
_RESULTS = Path(__file__).with_name("results")


def results_path(version: str) -> Path:
    """Where the results of a server's version are kept."""
    return _RESULTS / f"{version}.json"


def load(version: str) -> Cells:
    """The stored results of a server."""
    stored: Any = json.loads(results_path(version).read_text(encoding="utf-8"))
    return {
        case: {carrier: _expand(ways) for carrier, ways in carriers.items()}
        for case, carriers in stored.items()
    }


def save(version: str, cells: Cells) -> None:
    """Store the results of a server; ways with one outcome stand on one line."""
    stored = {
        case: {carrier: _fold(ways) for carrier, ways in carriers.items()}
        for case, carriers in cells.items()
    }
    text = json.dumps(stored, ensure_ascii=False, indent=1)
    results_path(version).write_text(text + "\n", encoding="utf-8")


def _fold(ways: dict[str, str]) -> dict[str, str]:
    """The ways to each outcome instead of the outcome of each way."""
    folded: dict[str, str] = {}
    for way, outcome in ways.items():
        folded[outcome] = f"{folded[outcome]}, {way}" if outcome in folded else way
    return folded


def _expand(folded: dict[str, str]) -> dict[str, str]:
    return {way: outcome for outcome, ways in folded.items() for way in ways.split(", ")}
