"""The certificate and the key of a gateway, tried on each other before clients try them."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NoReturn

from ollama_tools.errors import UsageError

# Of another pair, and of another kind of key, in which OpenSSL forgets the certificate.
_OF_ANOTHER: Final = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")
# X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED of OpenSSL
_OF_ITS_TIME: Final = (9, 10)


def require_pair(certificate: Path, key: Path) -> ssl.SSLContext:
    """What serves with a certificate and its key.

    Args:
        certificate: A PEM file, with what leads to its authority behind it.
        key: A PEM file, without a password.

    Raises:
        UsageError: One of them cannot be read, or they do not belong together.
    """
    for path in (certificate, key):
        try:
            path.open("rb").close()
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror}", "check its name") from error
    _trusting(certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

    def ask() -> NoReturn:
        raise UsageError(
            f"{key} wants a password, and a service has nobody to ask",
            "write it without one, as openssl pkey does, for root alone",
        )

    try:
        context.load_cert_chain(certificate, key, ask)
    except ssl.SSLError as error:
        if error.reason in _OF_ANOTHER:
            raise UsageError(
                f"{key} is not the key of {certificate}", "give the two that were made together"
            ) from error
        raise UsageError(
            f"{certificate} and {key} cannot serve: {_reason(error, 'no private key in PEM')}",
            "give a certificate and its key, both in PEM",
        ) from error
    return context


def expiry(certificate: Path, key: Path) -> datetime:
    """When clients stop to take a certificate.

    They are asked: a handshake in memory, by a client that trusts this certificate and its time,
    and asks for no name.

    Args:
        certificate: See :func:`require_pair`.
        key: Likewise.

    Raises:
        UsageError: No client takes it, whichever authority it trusts.
    """
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = require_pair(certificate, key).wrap_bio(to_server, to_client, server_side=True)
    client = _trusting(certificate).wrap_bio(to_client, to_server)
    try:
        for side in (client, server, client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    except ssl.SSLCertVerificationError as error:
        is_late = error.verify_code in _OF_ITS_TIME
        raise UsageError(
            f"no client takes {certificate}: {error.verify_message}",
            "have it renewed, or set the clock" if is_late else "have one made for a server",
        ) from error
    except ssl.SSLError as error:
        raise UsageError(
            f"no client takes {certificate}: {_reason(error, 'no handshake')}", "make another"
        ) from error
    found: Any = client.getpeercert()
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(found["notAfter"]), UTC)


def certificate_fault(certificate: str, key: str, days: str = "0") -> str:
    """What is wrong with a certificate and its key, in one line; empty where nothing is.

    Args:
        certificate: See :func:`require_pair`.
        key: Likewise.
        days: How many days it has to last.
    """
    try:
        until = expiry(Path(certificate), Path(key))
    except UsageError as error:
        return f"{error.what}: {error.fix}"
    left = until - datetime.now(UTC)
    if left < timedelta(days=int(days)):
        return f"{certificate} expires on {until:%d %B %Y}, in {left.days} days: have it renewed"
    return ""


def _trusting(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    # Whoever signed it is known to its clients alone.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(certificate)
    except ssl.SSLError as error:
        raise UsageError(
            f"{certificate} has no certificate in PEM", "give the one that clients are to see"
        ) from error
    return context


def _reason(error: ssl.SSLError, otherwise: str) -> str:
    """OpenSSL's word for it, which for some is that of the library alone."""
    word = (error.reason or "").replace("_", " ").lower()
    return otherwise if word in ("", "lib", "pem lib") else word
