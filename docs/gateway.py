"""The reference of the gateway: its settings, what it does to requests, and its metrics."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import fields
from pathlib import Path

from ollama_tools.declared import choice
from ollama_tools.gateway.repairs import Repair, Unmet
from ollama_tools.gateway.settings import GatewaySettings
from ollama_tools.gateway.watch import Watch

TARGET = Path(__file__).parent / "reference" / "gateway.md"
_HEAD = """# The gateway

Written by `make docs` out of the gateway itself; a test holds it to that. How to use it is told in
[how-to/gateway.md](../how-to/gateway.md), its options in [commands.md](commands.md).

## Settings of a file

`devstral-ollama gateway --config FILE` reads YAML; what an option says holds before it.

| setting | default | meaning |
|---|---|---|
"""
_REPAIRS = """
## What it does to a request

Each repair that was made is counted, and named in the header `x-devstral-ollama-repairs` of the
answer. `--without NAME` leaves one out.

| name | what is done |
|---|---|
"""
_UNMET = """
## What it cannot do

What a client asks for and does not get is named in the header `x-devstral-ollama-unmet` of the
answer, and counted.

| name | what a client does not get |
|---|---|
"""
_METRICS = """
## Metrics

`GET /metrics`, in the form of Prometheus.

| metric | what it is |
|---|---|
"""
_HELP = re.compile(r"^# HELP (\S+) (.+)$", re.MULTILINE)


def markdown() -> str:
    """The page."""
    repairs, unmet = _told(Repair), _told(Unmet)
    return "".join((_HEAD, *_settings(), _REPAIRS, *repairs, _UNMET, *unmet, _METRICS, *_metrics()))


def _settings() -> Iterator[str]:
    for each in fields(GatewaySettings):
        told = choice(each)
        default = each.default
        written = "" if default in (None, ()) else f"`{str(default).lower()}`"
        meaning = " ".join((told.help, *told.more)).replace("|", "\\|")
        yield f"| `{each.name.replace('_', '-')}` | {written} | {meaning} |\n"


def _told(words: Iterable[Repair | Unmet]) -> Iterator[str]:
    for each in words:
        yield f"| `{each}` | {each.what} |\n"


def _metrics() -> Iterator[str]:
    for name, text in _HELP.findall(Watch().metrics().decode()):
        yield f"| `{name}` | {text} |\n"
