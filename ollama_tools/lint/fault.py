"""Why a template cannot be used, and why nobody could find out."""

from __future__ import annotations


class TemplateFault(Exception):
    """A template that cannot be parsed or run.

    Attributes:
        line: Line of the template, from 1; None where none is known.
        message: What is wrong, one line.
    """

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.line = line


class TooCostly(TemplateFault):
    """A template that does not come to an end, or to none that anybody could wait for."""


class WorkerCrash(Exception):
    """The process that tries a template broke down, which says nothing of the template.

    Attributes:
        message: How it ended, one line.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
