"""Files that want more memory or time of whoever reads them than anybody should give."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

_ARRAY, _STRING = 9, 8
_NESTED = 16_000_000
_GO = '{{{{ $x := "aaaaaa<\\"" }}}}{{{{ range 40 }}}}{{{{ $x = {step} }}}}{{{{ end }}}}'
_SHOWN = "{{ range 200 }}{{ $x }}{{ end }}{{ .Messages }}"


@dataclass(frozen=True)
class Doubling:
    """A Go template that makes its text twice as long, forty times.

    Attributes:
        step: The expression that does so, once.
    """

    step: str

    def __call__(self, path: Path) -> None:
        """Write it."""
        path.write_text(_GO.format(step=self.step) + _SHOWN)


def long_template(path: Path) -> None:
    """A Go template of 14 MB."""
    path.write_text("{{ .Messages }}" + "{{ if .Tools }}a{{ end }}" * 560_000)


def repeating(path: Path) -> None:
    """A Jinja template that makes a text of 10 GB."""
    path.write_text("{{ 'a' * 10000000000 }}")


def nested_arrays(path: Path) -> None:
    """A GGUF of 16 million empty arrays inside one, which lie in a hole of the file."""
    head = b"GGUF" + struct.pack("<IQQ", 3, 0, 2)
    head += _text("general.architecture") + struct.pack("<I", _STRING) + _text("llama")
    head += _text("k") + struct.pack("<IIQ", _ARRAY, _ARRAY, _NESTED)
    with path.open("wb") as file:
        file.write(head)
        # Zeros: of each the type of its elements, and their number.
        file.truncate(len(head) + 12 * _NESTED)


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()
