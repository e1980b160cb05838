"""The way to a server and the hub: TLS with a private authority, and a SOCKS proxy."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from ollama_tools.errors import DevstralError, ExitCode
from ollama_tools.server.client import Server
from tests.live.test_create import NAME, QUANT, ROOT, run_cli
from tests.testbed.hub import Hub
from tests.testbed.relays import Authority, new_authority, socks_proxy, tls_before
from tests.testbed.server import OllamaServer

SECRET = "pass-9f3c"
CREATE = ("create", QUANT, "--via", "upload", "--context", "4096", "--no-check", "--json")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return new_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def secure(bed: OllamaServer, authority: Authority) -> Iterator[str]:
    """The server's address behind TLS."""
    with tls_before(port_of(bed.url), authority) as port:
        yield f"https://127.0.0.1:{port}"


def cli(*arguments: str, server: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return run_cli(*arguments, server=server, hub=None, cwd=ROOT, **environment)


def port_of(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port


def test_a_private_authority_holds_for_the_server_and_the_hub(
    secure: str, hub: Hub, authority: Authority, bed: OllamaServer, tmp_path: Path
) -> None:
    with tls_before(port_of(hub.endpoint), authority) as port:
        mine = {"HF_ENDPOINT": f"https://localhost:{port}", "SSL_CERT_FILE": str(authority.file)}
        done = cli(*CREATE, server=secure, **mine)
        assert done.returncode == ExitCode.OK, done.stderr
        assert json.loads(done.stdout)["name"] == NAME
        with Server(bed.url) as server:
            assert server.model(NAME) is not None

        bare = {"HF_ENDPOINT": mine["HF_ENDPOINT"], "HF_HOME": str(tmp_path / "empty")}
        untrusted = cli(*CREATE, "--force", server=bed.url, **bare)
        assert untrusted.returncode == ExitCode.FAILED
        assert "the certificate of the hub is not trusted" in untrusted.stdout
        assert "SSL_CERT_FILE" in untrusted.stdout


def test_a_directory_of_authorities_holds_as_well(
    secure: str, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_DIR", str(authority.directory))
    with Server(secure) as server:
        assert server.version()


@pytest.mark.parametrize(
    ("variable", "value", "what", "fix"),
    [
        (None, "", "is not trusted: unable to get local issuer", "SSL_CERT_FILE"),
        ("SSL_CERT_FILE", "/no/such", "cannot be read: No such file", "SSL_CERT_FILE"),
        ("SSL_CERT_FILE", __file__, "cannot be read: there is none in it", "SSL_CERT_FILE"),
        ("SSL_CERT_DIR", "/no/such", "cannot be read: SSL_CERT_DIR is no directory", "SSL_CERT"),
        ("SSL_CERT_DIR", str(Path(__file__).parent), "is not trusted", "SSL_CERT_FILE"),
    ],
)
def test_a_certificate_that_nobody_vouches_for_is_said(
    secure: str,
    monkeypatch: pytest.MonkeyPatch,
    variable: str | None,
    value: str,
    what: str,
    fix: str,
) -> None:
    if variable is not None:
        monkeypatch.setenv(variable, value)
    with Server(secure) as server, pytest.raises(DevstralError) as caught:
        server.version()
    assert what in caught.value.what
    assert fix in caught.value.fix
    assert "serve" not in caught.value.fix


def test_tls_on_a_plain_port_and_the_reverse_are_said(bed: OllamaServer, secure: str) -> None:
    plain = bed.url.replace("http:", "https:")
    with Server(plain) as server, pytest.raises(DevstralError, match="speaks no TLS") as caught:
        server.version()
    assert bed.url in caught.value.fix
    with (
        Server(secure.replace("https:", "http:")) as server,
        pytest.raises(DevstralError) as caught,
    ):
        server.version()
    assert "https://" in caught.value.fix


def test_a_socks_proxy_leads_to_the_server_and_the_hub(bed: OllamaServer, hub: Hub) -> None:
    ports = {"gpu1.internal": port_of(bed.url), "hub.invalid": port_of(hub.endpoint)}
    with socks_proxy(ports, ("me", SECRET)) as (port, asked):
        mine = {
            "ALL_PROXY": f"socks5://me:{SECRET}@127.0.0.1:{port}",
            "HF_ENDPOINT": "http://hub.invalid",
        }
        done = cli(*CREATE, server="http://gpu1.internal:11434", **mine)
        assert done.returncode == ExitCode.OK, done.stdout + done.stderr
        # Whatever is on this machine is reached without it.
        assert set(asked) == set(ports)
        nowhere = cli("list", "--json", server="http://gpu2.internal", **mine)
        direct = cli("list", "--json", server=bed.url, **mine)
    assert nowhere.returncode == ExitCode.FAILED
    assert f"the proxy socks5://127.0.0.1:{port} does not lead to" in nowhere.stdout
    assert [each["name"] for each in json.loads(direct.stdout)["models"]] == [NAME]
    for each in (done, nowhere, direct):
        assert SECRET not in each.stdout + each.stderr


def test_a_server_that_is_asked_by_a_name_that_is_not_its_own_is_explained(
    bed: OllamaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socks_proxy({"gpu1.example": port_of(bed.url)}) as (port, _):
        monkeypatch.setenv("ALL_PROXY", f"socks5h://127.0.0.1:{port}")
        with Server("http://gpu1.example") as server, pytest.raises(DevstralError) as caught:
            server.version()
    assert "does not know itself as gpu1.example" in caught.value.what
    assert "Host: localhost" in caught.value.fix
