"""Certificates of a private authority, made by the program ``openssl``."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_NEW_KEY: Final = ("-newkey", "rsa:2048", "-nodes")


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, both in PEM."""

    certificate: Path
    key: Path


class PrivateAuthority:
    """An authority that nobody knows.

    Args:
        folder: A directory for its files.

    Attributes:
        file: Its own certificate.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._own = Pair(folder / "ca.pem", folder / "ca.key")
        self.file = self._own.certificate
        self._openssl(
            *("req", "-x509", *_NEW_KEY, "-days", "3650", "-subj", "/CN=Private"),
            *("-keyout", self._own.key, "-out", self.file),
        )

    def pair(self, name: str, *, days: int = 365, usage: str = "serverAuth", san: str = "") -> Pair:
        """Make a certificate and its key.

        Args:
            name: Whose they are, and how their files begin.
            days: How long it lasts from now on; below 0 it has expired.
            usage: What it may be used for.
            san: Its names, as ``IP:127.0.0.1``; the name itself where there are none.
        """
        begin = self._folder / name
        made = Pair(begin.with_suffix(".pem"), begin.with_suffix(".key"))
        request, more = begin.with_suffix(".csr"), begin.with_suffix(".ext")
        more.write_text(f"extendedKeyUsage={usage}\nsubjectAltName={san or f'DNS:{name}'}\n")
        self._openssl(
            *("req", "-new", *_NEW_KEY, "-subj", f"/CN={name}"),
            *("-keyout", made.key, "-out", request),
        )
        self._openssl(
            *("x509", "-req", "-in", request, "-days", str(days), "-extfile", more),
            *("-CA", self._own.certificate, "-CAkey", self._own.key, "-CAcreateserial"),
            *("-out", made.certificate),
        )
        return made

    def with_password(self, pair: Pair, password: str) -> Pair:
        """The same pair with a key that wants a password."""
        key = pair.key.with_suffix(".secret.key")
        self._openssl(
            "pkey", "-in", pair.key, "-aes256", "-passout", f"pass:{password}", "-out", key
        )
        return Pair(pair.certificate, key)

    def _openssl(self, *arguments: str | Path) -> None:
        subprocess.run(["openssl", *arguments], cwd=self._folder, check=True, capture_output=True)
