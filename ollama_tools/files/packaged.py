"""Where the data files lie: beside the package in a checkout, inside it once installed."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parent.parent


def data_path(*parts: str) -> Path:
    """Locate a file or folder under `modelfiles/`.

    Args:
        *parts: Path components below `modelfiles/`, such as `"templates", "v13.jinja"`.

    Returns:
        The path; whether the file exists is for the reader to find out.
    """
    installed = _PACKAGE / "modelfiles"
    root = installed if installed.is_dir() else _PACKAGE.parent / "modelfiles"
    return root.joinpath(*parts)
