"""The gateway of a host, out of what an inventory says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ollama_tools.errors import UsageError
from ollama_tools.gateway.fleet import HostGateway, gateway_of_host
from ollama_tools.gateway.keys import Keyring
from ollama_tools.settings.environment import ServerSettings

KEY = "k" * 32
DIGEST = hashlib.sha256(KEY.encode()).hexdigest()


def made(
    given: Mapping[str, Any] | None = None,
    keys: tuple[Mapping[str, str], ...] = (),
    server: ServerSettings | None = None,
) -> HostGateway:
    return gateway_of_host(
        given or {},
        keys,
        server or ServerSettings(),
        program=Path("/opt/devstral-ollama/bin/devstral-ollama"),
        keys_file=Path("/etc/keys.json"),
    )


def test_both_forms_of_a_key_let_its_owner_in(tmp_path: Path) -> None:
    other = "another key, of which a digest is known alone"
    sha256 = hashlib.sha256(other.encode()).hexdigest().upper()
    found = made(
        {"listen": "0.0.0.0:443"},
        ({"name": "alice", "key": KEY}, {"name": "bob", "sha256": sha256}),
    )
    assert KEY not in found.keys + found.unit
    path = tmp_path / "keys.json"
    path.write_text(found.keys)
    path.chmod(0o600)
    keyring = Keyring(path)
    assert keyring.owner({"x-api-key": KEY}) == "alice"
    assert keyring.owner({"x-api-key": other}) == "bob"
    assert "LoadCredential=keys:/etc/keys.json" in found.unit


def test_what_is_said_as_inventories_say_it_is_what_runs() -> None:
    found = made(
        {
            "at_a_time": "2",
            "a-minute": 60,
            "wait": 5,
            "tls_certificate": "/c",
            "tls_key": "/k",
            "without": ["schema"],
        },
        ({"name": "alice", "sha256": DIGEST},),
        ServerSettings(host="127.0.0.1:9000"),
    )
    handed = "/run/credentials/devstral-gateway.service"
    assert found.arguments == [
        *("gateway", "--listen", "127.0.0.1:11435", "--upstream", "http://127.0.0.1:9000"),
        *("--at-a-time", "2", "--a-minute", "60", "--without", "schema", "--wait", "5.0"),
        *("--keys", f"{handed}/keys"),
        *("--tls-certificate", f"{handed}/tls_certificate", "--tls-key", f"{handed}/tls_key"),
    ]
    assert found.files == ["/c", "/k"]
    assert found.url == "https://127.0.0.1:11435"
    assert json.loads(found.keys)["keys"] == [{"name": "alice", "sha256": DIGEST, "created": ""}]
    assert made().keys == ""


@pytest.mark.parametrize(
    ("given", "keys", "host", "error"),
    [
        ({}, (), "0.0.0.0:11434", "others reach Ollama past the gateway"),
        ({}, (), "10.0.0.1", "others reach Ollama past the gateway"),
        ({"listen": "0.0.0.0:11435"}, (), None, "nobody is asked for a key"),
        ({"listen": "127.0.0.1:11434"}, (), None, "the server behind"),
        ({"upstream": "gpu2:11434"}, (), None, "devstral_gateway_settings has upstream"),
        ({"keys": "/etc/k"}, (), None, "devstral_gateway_settings has keys"),
        ({"listn": "x"}, (), None, "there is no setting 'listn'"),
        ({"at_a_time": "two"}, (), None, "at_a_time cannot be 'two'"),
        ({"tls_certificate": "c", "tls_key": "k"}, (), None, "would not find 'c'"),
        ({}, ({"name": "a b", "key": KEY},), None, "'a b' is no name"),
        ({}, ({"name": "alice"},), None, "one of key and sha256"),
        ({}, ({"name": "alice", "key": KEY, "sha256": DIGEST},), None, "one of key and sha256"),
        ({}, ({"name": "alice", "kye": KEY},), None, "one of key and sha256"),
        ({}, ({"name": "alice", "key": "hush"},), None, "less than 32 characters"),
        ({}, ({"name": "alice", "sha256": KEY},), None, "no 64 hexadecimal digits"),
        ({}, ({"name": "a", "key": KEY}, {"name": "a", "key": KEY * 2}), None, "there twice"),
        ({}, ({"name": "a", "key": KEY}, {"name": "b", "sha256": DIGEST}), None, "there twice"),
    ],
)
def test_what_cannot_be_is_refused_and_no_key_is_said(
    given: Mapping[str, Any], keys: tuple[Mapping[str, str], ...], host: str | None, error: str
) -> None:
    server = ServerSettings(host=host) if host else ServerSettings()
    with pytest.raises(UsageError, match=error) as caught:
        made(given, keys, server)
    assert KEY not in f"{caught.value} {caught.value.fix}"
    assert "hush" not in f"{caught.value} {caught.value.fix}"
