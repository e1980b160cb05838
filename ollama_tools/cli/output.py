"""What a command says, and where: data to stdout, everything else to stderr."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from ollama_tools.safe_text import printable, printable_json, without_secrets

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import Console
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

_LINE_SECONDS = 10.0
_LINE_SHARE = 0.1
_UNITS = ("B", "kB", "MB", "GB", "TB")


def size_text(count: int) -> str:
    """Bytes as a person reads them: ``14.3 GB``, in powers of 1000 as the hub shows them."""
    size, unit = float(count), _UNITS[0]
    for unit in _UNITS:
        if size < 999.5 or unit == _UNITS[-1]:
            break
        size /= 1000
    return f"{size:.0f} {unit}" if size >= 99.95 or unit == "B" else f"{size:.1f} {unit}"


def is_terminal(stream: TextIO) -> bool:
    """Whether a stream is a terminal that can move its cursor."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def _shown(text: str) -> str:
    """One line beside the result: of strange hands, perhaps with an address in it."""
    return printable(without_secrets(text))


class Output:
    """What one command says; it is a :class:`ollama_tools.progress.Progress`.

    Attributes:
        json: Whether the result is one JSON document.
        quiet: Whether the result is names only, and progress is not shown.
    """

    def __init__(self, *, json: bool = False, quiet: bool = False, color: bool = True) -> None:
        self.json = json
        self.quiet = quiet
        self._color = color and not os.environ.get("NO_COLOR")
        self._bar: _Bar | None = None
        self._lines = _Lines()

    def __enter__(self) -> Output:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close_bar(finished=error is None)

    # The result

    def result(
        self,
        json: Mapping[str, Any],
        human: Callable[[], None] | str,
        quiet: str | Iterable[str] = (),
    ) -> None:
        """Give the command's result, in the form that was asked for.

        Args:
            json: The document for ``--json``.
            human: A text, or what writes it with :meth:`write`, :meth:`table` and :attr:`console`.
            quiet: The line or lines for ``--quiet``.
        """
        self._close_bar(finished=True)
        if self.json:
            import json as codec

            document = codec.dumps(json, indent=2, ensure_ascii=False)
            sys.stdout.write(f"{printable_json(document)}\n")
        elif self.quiet:
            # A text stands for itself, as a Modelfile; of several each is one line.
            for line in [quiet] if isinstance(quiet, str) else map(printable, quiet):
                self.write(line)
        elif isinstance(human, str):
            self.write(human)
        else:
            human()

    def write(self, text: str) -> None:
        """Write a text of any number of lines, and a line end, to stdout."""
        sys.stdout.write(printable(text, but="\n\t") + "\n")

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Write a table to stdout: as wide as the terminal, or whole where there is none."""
        from ollama_tools.cli.table import aligned, rich_table

        if self.on_terminal:
            self.console.print(rich_table(header, rows))
        else:
            self.write(aligned([header, *rows]))

    @property
    def on_terminal(self) -> bool:
        """Whether a person looks at the result."""
        return is_terminal(sys.stdout)

    @property
    def console(self) -> Console:
        """Rich's console on stdout, for a result that is more than text."""
        return self._console(sys.stdout)

    # Progress, on stderr

    def step(self, text: str) -> None:
        """Say that a new step begins."""
        self._close_bar(finished=True)
        if self.quiet:
            return
        text = _shown(text)
        if is_terminal(sys.stderr):
            self._bar = _Bar(self._console(sys.stderr), text)
        else:
            self._lines.begin()
            self._say(text)

    def transfer(self, label: str, done: int, total: int | None) -> None:
        """Show how far a transfer is: a moving bar, or now and then a line."""
        if self.quiet:
            return
        label = _shown(label)
        if is_terminal(sys.stderr):
            if self._bar is None:
                self._bar = _Bar(self._console(sys.stderr), label)
            self._bar.show(label, done, total)
        elif line := self._lines.due(label, done, total):
            self._say(line)

    def warn(self, text: str) -> None:
        """Say what a person should know, in every mode."""
        self._say(text, mark="warning", color="33")

    def note(self, text: str) -> None:
        """Say something beside the result; not in quiet mode."""
        if not self.quiet:
            self._say(text)

    def hint(self, text: str) -> None:
        """Say what could be done next; not in quiet mode."""
        if not self.quiet:
            self._say(text, mark="hint", color="36")

    def _say(self, text: str, mark: str = "", color: str = "") -> None:
        if mark and self._color and is_terminal(sys.stderr):
            mark = f"\x1b[{color}m{mark}:\x1b[0m "
        elif mark:
            mark = f"{mark}: "
        if self._bar is not None:
            self._bar.clear()
        sys.stderr.write(f"{mark}{_shown(text)}\n")
        if self._bar is not None:
            self._bar.redraw()

    def _close_bar(self, *, finished: bool) -> None:
        bar, self._bar = self._bar, None
        if bar is not None:
            bar.close(finished=finished)

    def _console(self, stream: TextIO) -> Console:
        from rich.console import Console

        return Console(file=stream, no_color=not self._color, highlight=False)


class _Lines:
    """Decides when a transfer is worth a line of a log."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """A new step begins."""
        self._done = 0
        self._when = time.monotonic()

    def due(self, label: str, done: int, total: int | None) -> str:
        """The line for this point of a transfer, or nothing."""
        if done < self._done:
            self.begin()
        gained = done - self._done
        if gained <= 0:
            return ""
        share = gained / total if total else 0.0
        late = time.monotonic() - self._when >= _LINE_SECONDS
        if not (late or share >= _LINE_SHARE or done == total):
            return ""
        self._done, self._when = done, time.monotonic()
        whole = f" of {size_text(total)}, {done / total:.0%}" if total else ""
        return f"  {label}: {size_text(done)}{whole}"


class _Bar:
    """One step on a terminal: a spinner, and a bar as soon as bytes flow."""

    def __init__(self, console: Console, text: str) -> None:
        from rich import progress
        from rich.markup import escape

        self._escape = escape
        self._text = text
        self._columns = (
            progress.BarColumn(bar_width=30),
            progress.DownloadColumn(),
            progress.TransferSpeedColumn(),
            progress.TimeRemainingColumn(compact=True),
        )
        self._bar: Bar = progress.Progress(
            progress.SpinnerColumn(finished_text=" "),
            progress.TextColumn("{task.description}"),
            console=console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task: TaskID = self._bar.add_task(escape(text), total=None)
        self._bar.start()
        self._moved = False

    def show(self, label: str, done: int, total: int | None) -> None:
        """Move the bar."""
        if done and not self._moved:
            self._moved = True
            self._bar.columns = (*self._bar.columns, *self._columns)
            self._bar.reset(self._task, total=total)
        self._bar.update(self._task, description=self._escape(label), completed=done, total=total)

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
            self._bar.console.print(f"  {self._escape(self._text)}", style="dim")
