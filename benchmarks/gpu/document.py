"""The report: one JSON document that is whole on the disk after every step."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FORMAT = 1
"""Number of the document's form; `schema.json` beside this module says what it is."""


class OutOfTime(BaseException):
    """A part's time is over."""


class NotPossible(Exception):
    """A part cannot be done here, for a reason that is no fault."""


@dataclass(slots=True)
class Document:
    """The report as far as it is done.

    Attributes:
        path: Where it is written.
        head: What stands before the parts: machine, versions, sizes.
        parts: Parts by name, each with ``status``, ``seconds`` and ``data``.
        began: When the run began, by the monotonic clock.
    """

    path: Path
    head: dict[str, Any]
    began: float
    parts: dict[str, dict[str, Any]] = field(default_factory=dict)
    ended: str | None = None

    def save(self) -> None:
        """Write what there is, at once or not at all."""
        document = {
            "format": FORMAT,
            **self.head,
            "ended": self.ended,
            "seconds": round(time.monotonic() - self.began, 1),
            "parts": self.parts,
        }
        # Beside, not inside: the folder of the results holds results alone.
        draft = self.path.with_name(f".{self.path.name}.draft")
        draft.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        os.replace(draft, self.path)  # noqa: PTH105 - the path's own method is the same call

    @contextmanager
    def part(self, name: str) -> Iterator[dict[str, Any]]:
        """Write a part's data, and how it ended; only an interruption leaves this early.

        Yields:
            The data, to be filled; what stands in it when something goes wrong is kept.
        """
        entry: dict[str, Any] = {"status": "failed", "seconds": 0.0, "data": {}}
        self.parts[name] = entry
        begin = time.monotonic()
        try:
            yield entry["data"]
            entry["status"] = "done"
        except OutOfTime:
            entry |= {"status": "unfinished", "why": "its time was over"}
        except NotPossible as reason:
            entry |= {"status": "skipped", "why": str(reason)}
        except Exception as error:
            entry["why"] = f"{type(error).__name__}: {error}"[:2000]
        except BaseException:
            entry |= {"status": "unfinished", "why": "interrupted"}
            raise
        finally:
            entry["seconds"] = round(time.monotonic() - begin, 1)
            self.save()

    def skip(self, name: str, why: str) -> None:
        """Say that a part was not begun, and why."""
        self.parts[name] = {"status": "skipped", "seconds": 0.0, "why": why, "data": {}}
        self.save()
