"""The gateway on a host: clients reach it with a key, and nobody the server past it."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import httpx
import pytest

from ollama_tools.lint import cases
from tests.fleet.fleet import MODEL, Fleet, Run
from tests.testbed.hosts import Host

UNIT = "/etc/systemd/system/devstral-gateway.service"
KEYS = "/etc/devstral-gateway-keys.json"
PORT = 11435
TOOLS = "/opt/devstral-ollama/bin/devstral-ollama"
KEY, OTHER = "k" * 32, "do-another-key-that-only-bob-has"
DIGEST = hashlib.sha256(OTHER.encode()).hexdigest()
# One of Debian 12, one of 13: their systemd hands files to a service in two ways.
NAMES = ("gpu1", "gpu3")
ONLY = ("--limit", ",".join(NAMES))
# What the rest of a run does with hosts that have all of it is for other tests.
PART = (*ONLY, "--tags", "gateway,tools")

pytestmark = pytest.mark.xdist_group("fleet")


def asked(host: Host, path: str, key: str | None, body: Any = None) -> httpx.Response:
    """What a client elsewhere gets."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    with httpx.Client(base_url=f"http://{host.address}:{PORT}", trust_env=False) as client:
        if body is None:
            return client.get(path, headers=headers)
        return client.post(path, headers=headers, json=body, timeout=60)


def verify(host: Host) -> None:
    """That clients have what they should have, and no more."""
    body = {"model": MODEL, "messages": cases.QUESTION, "tools": cases.TOOLS, "stream": False}
    for key in (KEY, OTHER):
        answer = asked(host, "/v1/chat/completions", key, body)
        assert answer.status_code == 200, answer.text
        [call] = answer.json()["choices"][0]["message"]["tool_calls"]
        assert call["function"]["name"] == cases.TOOL
    counted = 'client="python-httpx",outcome="answered",surface="/v1/chat/completions"'
    assert counted in asked(host, "/metrics", KEY).text
    assert asked(host, "/api/version", None).status_code == 401
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://{host.address}:11434/api/version", trust_env=False)
    assert host.run(f"stat -c '%U %a' {KEYS} {UNIT}").stdout.split() == [
        *("root", "600"),
        *("root", "644"),
    ]
    shown = host.run("systemctl show devstral-gateway -P MainPID -P UnitFileState").stdout.split()
    assert shown[1] == "enabled"
    # An account that systemd has made for it (systemd.exec(5), DynamicUser=).
    assert 61184 <= int(host.run(f"stat -c %u /proc/{shown[0]}").stdout) <= 65519


def assert_nothing_told(run: Run) -> None:
    """That neither keys nor digests of them are logged."""
    for secret in (KEY, OTHER, DIGEST, hashlib.sha256(KEY.encode()).hexdigest()):
        assert secret not in run.output


def starts(host: Host) -> str:
    """What changes with every start."""
    return host.run("systemctl show -P InvocationID devstral-gateway").stdout.strip()


@pytest.fixture
def wanted(converged: Fleet) -> Fleet:
    """A fleet that is to have gateways."""
    converged.variables |= {
        "devstral_gateway_enabled": True,
        "devstral_gateway_settings": {"listen": f"0.0.0.0:{PORT}", "at_a_time": 2},
        "devstral_gateway_keys": [{"name": "alice", "key": KEY}, {"name": "bob", "sha256": DIGEST}],
        "devstral_gateway_health_timeout": 20,
    }
    return converged


EDITS = {
    "gpu1": (
        f"sed -i s/NoNewPrivileges=yes/NoNewPrivileges=no/ {UNIT} && systemctl disable -q "
        "devstral-gateway && cd /opt && ln -sfn devstral-ollama.d/$(readlink "
        "devstral-ollama.d/previous) devstral-ollama",
        (
            f"{UNIT} has NoNewPrivileges=no and lacks NoNewPrivileges=yes",
            "devstral-gateway.service is not started at every boot",
            "the running gateway runs with other tools than /opt/devstral-ollama.*",
        ),
    ),
    "gpu3": (
        f"{TOOLS} gateway key add mallory --keys {KEYS} && mkdir {UNIT}.d && "
        f"printf '[Service]\\nEnvironment=A=b\\n' >{UNIT}.d/a.conf && systemctl daemon-reload && "
        "systemctl stop devstral-gateway",
        (
            f"{KEYS} has other keys, another owner or another mode",
            "devstral-gateway.service does not run",
        ),
    ),
}


def test_a_gateway_is_promised_made_found_mended_and_removed(wanted: Fleet) -> None:
    fleet, hosts = wanted, [wanted.hosts[name] for name in NAMES]
    done = fleet.converge(*ONLY)
    for host in hosts:
        verify(host)
    assert_nothing_told(done)
    # The fleet's model is as its publisher made it.
    assert done.output.count("requests for it pass the gateway as they are") == len(hosts)
    assert fleet.play("drift", *ONLY).code == 0

    # Clients wait while the server is started again.
    before = starts(hosts[0])
    hosts[0].run("systemctl restart ollama")
    verify(hosts[0])
    assert starts(hosts[0]) == before

    for name, (command, _) in EDITS.items():
        fleet.hosts[name].run(command)
    drift = fleet.play("drift", *ONLY)
    for name, (_, told) in EDITS.items():
        found = drift.failures()[name].split("; ")
        for each in told:
            assert any(re.fullmatch(each, one) for one in found), (each, found)
    mended = fleet.play("site", *PART, "-vvv", "--diff")
    assert_nothing_told(drift)
    assert_nothing_told(mended)
    assert mended.code == 0, mended.output
    for host in hosts:
        verify(host)
    assert "mallory" not in hosts[1].run(f"cat {KEYS}").stdout

    # What does not answer goes back, and clients have what they had.
    fleet.variables["devstral_gateway_settings"] = {"listen": "0.0.0.0:22"}
    failed = fleet.play("site", *PART, "--limit", "gpu1")
    said = failed.failures()["gpu1"]
    assert said.startswith("gpu1 went back to the gateway that it had: "), said
    assert "Address already in use" in said
    hosts[0].run(
        f"until python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", {PORT}))'; "
        "do sleep 0.5; done 2>/dev/null"
    )
    verify(hosts[0])

    fleet.variables["devstral_gateway_enabled"] = False
    gone = fleet.converge(*PART)
    assert [each for each in gone.changed("gpu3") if "gateway" in each]
    for host in hosts:
        left = host.run(
            f"ls {KEYS} {UNIT} 2>/dev/null; systemctl is-active devstral-gateway", check=False
        )
        assert left.stdout.split() == ["inactive"]
        with pytest.raises(httpx.ConnectError):
            asked(host, "/ready", KEY)
    hosts[1].run(f"rm -r {UNIT}.d")
