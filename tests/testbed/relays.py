"""What stands between a client and a server: TLS with a private authority, and a SOCKS proxy."""

from __future__ import annotations

import select
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.testbed.certificates import PrivateAuthority
from tests.testbed.listening import each_client

_PIECE = 65536
Greet = Callable[[socket.socket], tuple[socket.socket, int]]
"""Makes of a new connection what its bytes are read from, and says to which port they go."""
_HTTPS = 443


@dataclass(frozen=True)
class Authority:
    """A private authority, and a certificate of it for this machine.

    Attributes:
        file: The authority's own certificate.
        directory: The same as a directory, as OpenSSL looks one up.
        context: For a server.
    """

    file: Path
    directory: Path
    context: ssl.SSLContext


def new_authority(folder: Path, *names: str) -> Authority:
    """Make one; the program ``openssl`` is needed, since Python itself makes no certificates.

    Args:
        folder: An empty directory for its files.
        *names: More names that the certificate is for.
    """
    names = ("IP:127.0.0.1", "DNS:localhost", *(f"DNS:{each}" for each in names))
    authority = PrivateAuthority(folder)
    own = authority.pair("own", san=",".join(names))
    directory = folder / "authorities"
    directory.mkdir()
    (directory / "ca.pem").write_bytes(authority.file.read_bytes())
    subprocess.run(["openssl", "rehash", str(directory)], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own.certificate, own.key)
    return Authority(authority.file, directory, context)


@contextmanager
def tls_before(port: int, authority: Authority) -> Iterator[int]:
    """A port of TLS before a plain one of this machine."""

    def greet(client: socket.socket) -> tuple[socket.socket, int]:
        return authority.context.wrap_socket(client, server_side=True), port

    with _relay(greet) as own:
        yield own


@contextmanager
def public_hosts(address: str, ports: Mapping[str, int], authority: Authority) -> Iterator[None]:
    """Stand for hosts of the internet at one address, which their names have to lead to.

    Args:
        address: An address of this machine, where its port of HTTPS is free.
        ports: For each name, the plain port at that address that answers in its place.
        authority: Whose certificate is for these names.
    """

    asked: dict[object, str] = {}
    authority.context.sni_callback = lambda near, name, _: asked.update({near: str(name)})

    def greet(client: socket.socket) -> tuple[socket.socket, int]:
        near = authority.context.wrap_socket(client, server_side=True)
        return near, ports[asked.pop(near)]

    with _relay(greet, (address, _HTTPS)):
        yield


@contextmanager
def socks_proxy(
    ports: Mapping[str, int], user: tuple[str, str] | None = None
) -> Iterator[tuple[int, list[str]]]:
    """A SOCKS5 proxy (RFC 1928) that knows a few hosts, each a port of this machine.

    Args:
        ports: The hosts.
        user: Name and password that it asks for (RFC 1929); None for nobody in particular.

    Yields:
        Its port, and the hosts that it was asked for so far.
    """
    asked: list[str] = []

    def greet(client: socket.socket) -> tuple[socket.socket, int]:
        methods = _read(client, _read(client, 2)[1])
        client.sendall(b"\x05\x02" if user else b"\x05\x00")
        if user:
            if 2 not in methods:
                raise OSError("nobody said who asks")
            name = _read(client, _read(client, 2)[1]).decode()
            if (name, _read(client, _read(client, 1)[0]).decode()) != user:
                raise OSError("somebody else asks")
            client.sendall(b"\x01\x00")
        kind = _read(client, 4)[3]
        if kind == 3:
            host = _read(client, _read(client, 1)[0]).decode()
        else:
            family, size = (socket.AF_INET, 4) if kind == 1 else (socket.AF_INET6, 16)
            host = socket.inet_ntop(family, _read(client, size))
        _read(client, 2)
        asked.append(host)
        client.sendall(bytes((5, 0 if host in ports else 4, 0, 1)) + bytes(6))
        return client, ports[host]

    with _relay(greet) as own:
        yield own, asked


def _read(client: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        piece = client.recv(count - len(found))
        if not piece:
            raise OSError("the client hung up")
        found += piece
    return found


@contextmanager
def _relay(greet: Greet, address: tuple[str, int] = ("127.0.0.1", 0)) -> Iterator[int]:
    def serve(client: socket.socket) -> None:
        with suppress(OSError, KeyError, ValueError), client:
            near, port = greet(client)
            with near, socket.create_connection((address[0], port)) as far:
                exchange(near, far)

    # In one thread: a socket of TLS that two threads use at once mixes up its records.
    def exchange(near: socket.socket, far: socket.socket) -> None:
        other = {near: far, far: near}
        while True:
            waiting = isinstance(near, ssl.SSLSocket) and near.pending()
            for source in [near] if waiting else select.select(list(other), [], [])[0]:
                piece = source.recv(_PIECE)
                if not piece:
                    return
                other[source].sendall(piece)

    with each_client(serve, address) as port:
        yield port
