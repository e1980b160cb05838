"""Connections to other hosts, by the proxies and certificates that the environment names.

They are made for whatever HTTP library asks, since Ollama's client speaks through httpx and the
hub's through its successor httpx2, which differ in nothing that is used here.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ollama_tools.errors import DevstralError, UsageError
from ollama_tools.network.proxies import Way, proxy_for

if TYPE_CHECKING:
    import ssl


def transport_for(url: str, library: Any) -> Any:
    """What carries requests to one host, as a transport of an HTTP library.

    Args:
        url: The host's URL.
        library: ``httpx`` or ``httpx2``.

    Raises:
        UsageError: What the environment names makes it impossible.
    """
    proxy = proxy_for(url)
    with _surroundings_explained(proxy):
        return library.HTTPTransport(
            # Reading the certificates takes longer than all requests of an unchanged model.
            verify=_certificates() if url.startswith("https:") else False,
            trust_env=False,
            proxy=proxy.url if proxy else None,
        )


def transport_for_all(library: Any) -> Any:
    """What carries requests to whatever host they are for, as redirects may lead elsewhere."""
    made: dict[tuple[str, str | None], Any] = {}

    def handle(_: Any, request: Any) -> Any:
        url = str(request.url)
        proxy = proxy_for(url)
        key = (request.url.scheme, proxy.url if proxy else None)
        if key not in made:
            made[key] = transport_for(url, library)
        return made[key].handle_request(request)

    def close(_: Any) -> None:
        for each in made.values():
            each.close()

    # The library accepts nothing but its own kind.
    kind = type("All", (library.BaseTransport,), {"handle_request": handle, "close": close})
    return kind()


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and what it was raised for, down to the bottom."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


@contextmanager
def bare_environment() -> Iterator[None]:
    """Without what names proxies and certificates: some libraries read it upon import, and fail."""
    hidden = {
        name: os.environ.pop(name)
        for name in list(os.environ)
        if name.upper().endswith("_PROXY")
        or name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "OLLAMA_HOST")
    }
    try:
        yield
    finally:
        os.environ.update(hidden)


@contextmanager
def _surroundings_explained(proxy: Way | None) -> Iterator[None]:
    """Say which variable makes a way impossible, and nothing of its value (passwords)."""
    variable = proxy.variable if proxy else ""
    try:
        yield
    except DevstralError:
        raise
    except ImportError as error:
        raise UsageError(
            f"{variable} names a SOCKS proxy, which needs another package",
            f"pip install socksio, or unset {variable}",
        ) from error
    except OSError as error:
        import ssl

        # OpenSSL says it in words of its own, and where in its source.
        reason = "there is none in it" if isinstance(error, ssl.SSLError) else error.strerror
        raise UsageError(
            f"the certificates that the environment names cannot be read: {reason}",
            "check SSL_CERT_FILE and SSL_CERT_DIR",
        ) from error
    except Exception as error:
        # httpx has errors of many kinds for an address.
        raise UsageError(
            "the environment names a proxy that is no address", f"check {variable}"
        ) from error


def _certificates() -> ssl.SSLContext:
    """The certificates that hold: those that the environment names, else the system's and ours."""
    import ssl

    import certifi

    file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if file or folder:
        if folder and not Path(folder).is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "SSL_CERT_DIR is no directory")
        return ssl.create_default_context(cafile=file or None, capath=folder or None)
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context
