"""One step on a terminal: a spinner, and a bar as soon as bytes flow.

A module of its own, so that only who looks at a terminal waits for rich.
"""

from __future__ import annotations

from rich import progress
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from ollama_tools.progress import size_text


class _Bytes(progress.ProgressColumn):
    """Bytes done, of how many, and how fast, in the units of all other texts; rich has others."""

    def render(self, task: progress.Task) -> Text:
        """See rich's :class:`ProgressColumn`."""
        whole = "" if task.total is None else f" of {size_text(int(task.total))}"
        speed = task.finished_speed or task.speed
        pace = "" if speed is None else f", {size_text(int(speed))}/s"
        return Text(f"{size_text(int(task.completed))}{whole}{pace}", style="progress.download")


class Bar:
    """The step's line at the end of a terminal."""

    def __init__(self, console: Console, text: str) -> None:
        self._text = text
        self._bar = progress.Progress(
            progress.SpinnerColumn(finished_text=" "),
            progress.TextColumn("{task.description}"),
            console=console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._bar.add_task(escape(text), total=None)
        self._bar.start()
        self._moved = False

    def show(self, label: str, done: int, total: int | None) -> None:
        """Move the bar."""
        if done and not self._moved:
            self._moved = True
            self._bar.columns = (
                *self._bar.columns,
                progress.BarColumn(bar_width=30),
                _Bytes(),
                progress.TimeRemainingColumn(compact=True),
            )
            self._bar.reset(self._task, total=total)
        self._bar.update(self._task, description=escape(label), completed=done, total=total)

    def clear(self) -> None:
        """Make room for a line."""
        self._bar.stop()

    def redraw(self) -> None:
        """Show the bar again below the line."""
        self._bar.start()

    def close(self, *, finished: bool) -> None:
        """Take the bar off the terminal; a finished step leaves its text."""
        self._bar.stop()
        if finished:
            self._bar.console.print(f"  {escape(self._text)}", style="dim")
