"""A file of settings for a gateway."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from types import UnionType
from typing import Any, Final, get_args, get_origin, get_type_hints

from ollama_tools.errors import FileProblem, UsageError
from ollama_tools.gateway.settings import GatewaySettings

_LONGEST: Final = 2**20
"""Characters, of a file that may be none and never end."""


def read_configuration(path: Path) -> dict[str, Any]:
    """The settings of a YAML file, named as the options are, with ``-`` or ``_``.

    Raises:
        FileProblem: It cannot be read, or is no YAML.
        UsageError: It says something that is no setting.
    """
    import yaml

    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_LONGEST + 1)
        found = yaml.safe_load(text) if len(text) <= _LONGEST else None
    except OSError as error:
        raise FileProblem(f"cannot read {path}: {error.strerror}", "check its name") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise FileProblem(f"{path} is no YAML{where}", "mend it") from error
    if len(text) > _LONGEST:
        raise FileProblem(f"{path} is too long for settings", "check its name")
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise UsageError(f"{path} is no list of settings", "write one a line, as in wait: 60")
    return parse_settings(found, str(path))


def parse_settings(found: Mapping[Any, Any], where: str) -> dict[str, Any]:
    """The settings of what a file of YAML holds.

    Args:
        found: Values by the names of their options, with ``-`` or ``_``.
        where: What an error names as their place.

    Raises:
        UsageError: It says something that is no setting.
    """
    hints = get_type_hints(GatewaySettings)
    known = {each.name for each in fields(GatewaySettings)}
    settings: dict[str, Any] = {}
    for key, value in found.items():
        name = str(key).replace("-", "_")
        if name not in known:
            raise UsageError(f"{where}: there is no setting {key!r}", f"one of {_names(known)}")
        settings[name] = _value(hints[name], value, f"{where}: {key}")
    return settings


def _value(hint: Any, value: Any, where: str) -> Any:
    kinds = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    if value is None and type(None) in kinds:
        return None
    for kind in kinds:
        if kind is Path and isinstance(value, str):
            return Path(value).expanduser()
        if get_origin(kind) is tuple and isinstance(value, list):
            return tuple(str(each) for each in value)
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        # Inventories quote as they like.
        if kind in (int, float) and isinstance(value, str) and value.isdecimal():
            return kind(value)
        if kind in (str, bool, int, float) and type(value) is kind:
            return value
    raise UsageError(f"{where} cannot be {value!r}", "see devstral-ollama gateway --help")


def _names(known: set[str]) -> str:
    return ", ".join(sorted(each.replace("_", "-") for each in known))
