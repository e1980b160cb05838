"""What a command says, and where: data to stdout, everything else to stderr."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from ollama_tools.progress import size_text
from ollama_tools.safe_text import printable, printable_json, shown

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import Console

    from ollama_tools.cli.bar import Bar

_TAB = "\t"
_LINE_SECONDS = 10.0
_LINE_SHARE = 0.1


def is_terminal(stream: TextIO) -> bool:
    """Whether a stream is a terminal that can move its cursor."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


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
        self._bar: Bar | None = None
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
        json: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        human: Callable[[], None] | str | Iterable[str],
        quiet: str | Iterable[str] | None = (),
    ) -> None:
        """Give the command's result, in the form that was asked for.

        Args:
            json: The document for ``--json``.
            human: The same for people, or what writes it with :meth:`write`, :meth:`table` and
                :attr:`console`.
            quiet: The name or names for ``--quiet``; None for what people get.
        """
        self._close_bar(finished=True)
        if self.json:
            import json as codec

            document = codec.dumps(json, indent=2, ensure_ascii=False)
            sys.stdout.write(f"{printable_json(document)}\n")
        elif self.quiet and quiet is not None:
            self.write(*map(printable, [quiet] if isinstance(quiet, str) else quiet))
        elif callable(human):
            human()
        else:
            self.write(*([human] if isinstance(human, str) else human))

    def write(self, *lines: str) -> None:
        """Write lines to stdout; each stays one, whatever names are in it."""
        sys.stdout.writelines(f"{printable(line, but=_TAB)}\n" for line in lines)

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Write a table to stdout: as wide as the terminal, or whole where there is none."""
        from ollama_tools.cli.table import aligned, rich_table

        if self.on_terminal:
            self.console.print(rich_table(header, rows))
        else:
            self.write(*aligned([header, *rows]))

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
        text = shown(text)
        if is_terminal(sys.stderr):
            self._bar = self._new_bar(text)
        else:
            self._lines.begin()
            self._say(text)

    def transfer(self, label: str, done: int, total: int | None) -> None:
        """Show how far a transfer is: a moving bar, or now and then a line."""
        if self.quiet:
            return
        label = shown(label)
        if is_terminal(sys.stderr):
            if self._bar is None:
                self._bar = self._new_bar(label)
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
        sys.stderr.write(f"{mark}{shown(text)}\n")
        if self._bar is not None:
            self._bar.redraw()

    def _close_bar(self, *, finished: bool) -> None:
        bar, self._bar = self._bar, None
        if bar is not None:
            bar.close(finished=finished)

    def _new_bar(self, text: str) -> Bar:
        from ollama_tools.cli.bar import Bar

        return Bar(self._console(sys.stderr), text)

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
