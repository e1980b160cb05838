"""What the stand-in for the hub holds: repositories of files, each known by its digest."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import BinaryIO


@dataclass(frozen=True)
class Content:
    """Bytes in memory or in a file, with size and digest.

    Attributes:
        source: The bytes, or the file that has them.
        size: In bytes.
        sha256: In hexadecimal, without ``sha256:`` before it.
    """

    source: bytes | Path
    size: int
    sha256: str

    @classmethod
    def of(cls, source: bytes | Path) -> Content:
        """Takes size and digest from the bytes themselves."""
        if isinstance(source, bytes):
            return cls(source, len(source), hashlib.sha256(source).hexdigest())
        with source.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return cls(source, source.stat().st_size, digest)

    @property
    def digest(self) -> str:
        """``sha256:`` and the digest, as registries write it."""
        return f"sha256:{self.sha256}"

    def open(self) -> BinaryIO:
        """Opens the bytes for reading."""
        return io.BytesIO(self.source) if isinstance(self.source, bytes) else self.source.open("rb")


@dataclass(frozen=True)
class Repository:
    """One repository of the hub.

    Attributes:
        name: ``OWNER/NAME``.
        files: Contents by path; those that end in ``.gguf`` count as large files (LFS).
        tags: For the registry: file name by tag, case-sensitive.
        family: ``model_family`` in the registry's configuration, the GGUF architecture.
        go_template: Go template that the registry puts beside a model, or None.
        params: Parameters that the registry puts beside a model, as JSON text, or None.
        license: License that the registry puts beside a model, or None.
        projector: Name of the file that the registry puts beside a model as its projector, or None.
    """

    name: str
    files: Mapping[str, Content]
    tags: Mapping[str, str] = field(default_factory=dict)
    family: str = "llama"
    go_template: str | None = None
    params: str | None = None
    license: str | None = None
    projector: str | None = None

    @cached_property
    def commit(self) -> str:
        """Forty hexadecimal digits that change with any file."""
        state = "".join(f"{path}={item.sha256}\n" for path, item in sorted(self.files.items()))
        return hashlib.sha1(f"{self.name}\n{state}".encode()).hexdigest()
