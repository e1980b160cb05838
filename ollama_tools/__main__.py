"""The entry point: what ends how, and with which exit code."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType
    from typing import NoReturn

_LONGEST_LINE = 2000
_DEBUG_VARIABLE = "DEVSTRAL_OLLAMA_DEBUG"


def main() -> NoReturn:
    """Run the command line and end the process."""
    # Scripts ask for the version often, and typer alone takes longer than all the rest of this.
    if sys.argv[1:] == ["--version"]:
        from ollama_tools import __version__
        from ollama_tools.cli import PROGRAM

        sys.stdout.write(f"{PROGRAM} {__version__}\n")
        sys.exit(0)

    import signal

    _hasten()
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        code = run(sys.argv[1:])
        # What is done is done and said.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
    except KeyboardInterrupt as interrupt:
        code = _report_interrupt(interrupt)
    _end(code)


def _end(code: int) -> NoReturn:
    """End at once: all that is open is closed by now.

    To take the interpreter apart is a tenth of a second for nothing; and where an interrupt met
    an import, ``python -m`` ends itself by the signal once more (seen on CPython 3.11.7), whatever
    code it is to end with.
    """
    import contextlib
    import os

    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(code)


def _hasten() -> None:
    """Leave out what would take a quarter of a command that has nothing to do."""
    import gc

    # Modules are no garbage, and whoever looks for some finds them again and again.
    gc.set_threshold(100_000)
    # The command line of httpx, which nobody asks for here, brings rich and pygments with it.
    sys.modules["httpx._main"] = None  # type: ignore[assignment] # as importlib has it


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    """SIGTERM ends the work as Ctrl-C does, so that whatever is half done is put away."""
    raise KeyboardInterrupt


def run(arguments: list[str]) -> int:
    """Run the command line.

    Args:
        arguments: What stands after the program's name.

    Returns:
        The exit code.
    """
    for stream in (sys.stdout, sys.stderr):
        # A name that the terminal cannot show must not end a command.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    import warnings

    warnings.showwarning = _show_warning
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        _forget_stdout()
        return 1
    except KeyboardInterrupt as interrupt:
        return _report_interrupt(interrupt)
    except Exception as error:
        _show_traceback(arguments)
        try:
            return _report(error, as_json=_has(arguments, "--json"))
        except BrokenPipeError:
            _forget_stdout()
            return 1
    return code


def _run(arguments: list[str]) -> int:
    """Run the app without its own handling of exceptions, which hides what an error says."""
    import os

    import typer

    from ollama_tools.cli import PROGRAM
    from ollama_tools.cli.app import app

    root = typer.main.get_command(app)
    if f"_{PROGRAM.replace('-', '_')}_COMPLETE".upper() in os.environ:
        root.main(args=arguments, prog_name=PROGRAM)
    try:
        with root.make_context(PROGRAM, list(arguments)) as context:
            return int(root.invoke(context) or 0)
    except typer.Exit as end:
        return end.exit_code


def _has(arguments: list[str], flag: str) -> bool:
    """Whether a flag was given; it must be known even where the arguments cannot be parsed."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    return flag in arguments[:end]


def _report(error: Exception, *, as_json: bool) -> int:
    """Say what went wrong and how to mend it."""
    what, fix, code = _explain(error)
    if as_json:
        import json

        from ollama_tools.safe_text import printable_json

        document = {"error": what, "fix": fix, "exit_code": code}
        text = json.dumps(document, indent=2, ensure_ascii=False)
        sys.stdout.write(f"{printable_json(text)}\n")
        sys.stdout.flush()
    else:
        sys.stderr.write(f"error: {what}\n" + (f"fix: {fix}\n" if fix else ""))
        sys.stderr.writelines(f"{_line(note)}\n" for note in getattr(error, "__notes__", ()))
    return code


def _explain(error: Exception) -> tuple[str, str, int]:
    """What happened, what to do, exit code; each text one line."""
    from ollama_tools.errors import DevstralError, ExitCode

    if isinstance(error, DevstralError):
        return _line(error.what), _line(error.fix), int(error.exit_code)
    # Typer raises its own copy of click's exceptions or click's, after its version.
    if callable(describe := getattr(error, "format_message", None)):
        from ollama_tools.cli import PROGRAM

        context = getattr(error, "ctx", None)
        path = context.command_path if context is not None else PROGRAM
        message = _line(str(describe())).replace("Value error, ", "")
        return message[:1].lower() + message[1:].rstrip("."), f"see: {path} --help", ExitCode.USAGE
    detail = _line(str(error))
    name = type(error).__name__
    what = f"unexpected {name}{f' ({detail})' if detail else ''}: please report"
    return what, "", int(ExitCode.FAILED)


def _line(text: str) -> str:
    from ollama_tools.safe_text import shown

    line = shown(" ".join(text.split()))
    return line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]}…"


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    """A warning as a person reads it, without the line of code that gave it."""
    sys.stderr.write(f"warning: {_line(str(message))}\n")


def _report_interrupt(interrupt: KeyboardInterrupt) -> int:
    from ollama_tools.errors import ExitCode

    lines = ["interrupted", *getattr(interrupt, "__notes__", ())]
    sys.stderr.writelines(f"{_line(line)}\n" for line in lines)
    return int(ExitCode.INTERRUPTED)


def _show_traceback(arguments: list[str]) -> None:
    import os

    if _has(arguments, "--debug") or os.environ.get(_DEBUG_VARIABLE):
        import traceback

        from ollama_tools.safe_text import shown

        sys.stderr.write(shown(traceback.format_exc(), but="\n"))


def _forget_stdout() -> None:
    """Nobody reads stdout any more; the interpreter must not fail when it flushes it at the end."""
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
