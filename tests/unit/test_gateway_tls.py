"""A gateway's certificate and key: what clients would not take is found before they see it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ollama_tools.errors import UsageError
from ollama_tools.gateway.serve import serve
from ollama_tools.gateway.settings import GatewaySettings
from ollama_tools.gateway.tls import certificate_fault, require_pair
from tests.testbed.certificates import Pair, PrivateAuthority


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> PrivateAuthority:
    return PrivateAuthority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def pair(authority: PrivateAuthority) -> Pair:
    return authority.pair("here", days=30)


def fault(certificate: Path, key: Path, days: str = "0") -> str:
    """With the folder taken out of it, and no secret in it."""
    found = certificate_fault(str(certificate), str(key), days)
    return found.replace(f"{certificate.parent}/", "")


def test_a_sound_pair_has_no_fault_also_with_what_leads_to_its_authority(
    authority: PrivateAuthority, pair: Pair, tmp_path: Path
) -> None:
    chain = tmp_path / "chain.pem"
    chain.write_bytes(pair.certificate.read_bytes() + authority.file.read_bytes())
    both = tmp_path / "both.pem"
    both.write_bytes(pair.key.read_bytes() + chain.read_bytes())
    for certificate, key in ((pair.certificate, pair.key), (chain, pair.key), (both, both)):
        assert fault(certificate, key, "20") == ""


def test_another_key_is_said_whatever_kind_it_is_of(
    authority: PrivateAuthority, pair: Pair, tmp_path: Path
) -> None:
    curve = tmp_path / "curve.key"
    made = ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(curve)]
    subprocess.run(made, check=True, capture_output=True)
    for key in (authority.pair("there").key, curve):
        said = fault(pair.certificate, key).replace(f"{tmp_path}/", "")
        assert said == (
            f"{key.name} is not the key of here.pem: give the two that were made together"
        )


@pytest.mark.parametrize(
    ("days", "usage", "words"),
    [
        (-1, "serverAuth", "no client takes a.pem: certificate has expired: have it renewed"),
        (9, "serverAuth", "a.pem expires on "),
        (30, "clientAuth", "no client takes a.pem: "),
    ],
)
def test_what_clients_would_not_take_for_long_is_said(
    authority: PrivateAuthority, days: int, usage: str, words: str
) -> None:
    made = authority.pair("a", days=days, usage=usage)
    assert fault(made.certificate, made.key, "10").startswith(words)


def test_a_key_with_a_password_is_refused_and_not_asked_for(
    authority: PrivateAuthority, pair: Pair
) -> None:
    secret = authority.with_password(pair, "hush-hush")
    assert fault(secret.certificate, secret.key).startswith("here.secret.key wants a password")


def test_files_that_hold_something_else_are_told_apart(pair: Pair, tmp_path: Path) -> None:
    junk = tmp_path / "junk"
    junk.write_text("junk")
    gone = tmp_path / "gone"
    for certificate, key, words in (
        (junk, pair.key, f"{junk} has no certificate in PEM: "),
        (pair.key, pair.key, f"{pair.key} has no certificate in PEM: "),
        (pair.certificate, junk, f"{junk} cannot serve: no private key in PEM: "),
        (pair.certificate, pair.certificate, "cannot serve: no private key in PEM: "),
        (gone, pair.key, f"cannot read {gone}: No such file or directory: "),
        (pair.certificate, tmp_path, f"cannot read {tmp_path}: Is a directory: "),
    ):
        assert words in certificate_fault(str(certificate), str(key))


def test_a_gateway_with_a_wrong_pair_does_not_begin_and_one_that_has_expired_does(
    authority: PrivateAuthority, pair: Pair
) -> None:
    settings = GatewaySettings(
        listen="127.0.0.1:1", tls_certificate=pair.certificate, tls_key=authority.pair("b").key
    )
    # By this exit code its service knows that starting it again is of no use.
    with pytest.raises(UsageError, match="is not the key of") as refused:
        serve(settings)
    assert refused.value.exit_code == 2
    # Its clock may be wrong, and clients see for themselves.
    late = authority.pair("late", days=-1)
    require_pair(late.certificate, late.key)
