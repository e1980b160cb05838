"""The gateway on a host: clients reach it with a key, and nobody the server past it."""

from __future__ import annotations

import hashlib
import io
import re
import socket
import ssl
import tarfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
import pytest

from ollama_tools import smoke
from ollama_tools.lint import cases
from tests.fleet.fleet import MODEL, QUANT, Fleet, Run
from tests.fleet.test_scenarios import status
from tests.fleet.test_upgrades import EXITS, broken, carrier
from tests.testbed.build import NEWEST, OLDEST
from tests.testbed.certificates import Pair, PrivateAuthority
from tests.testbed.hosts import Host, ollama_archive

UNIT = "/etc/systemd/system/devstral-gateway.service"
KEYS = "/etc/devstral-gateway-keys.json"
CERTIFICATE, TLS_KEY = "/etc/ssl/gateway.pem", "/etc/ssl/gateway.key"
PORT = 11435
TOOLS = "/opt/devstral-ollama/bin/devstral-ollama"
KEY, OTHER = "k" * 32, "do-another-key-that-only-bob-has"
DIGEST = hashlib.sha256(OTHER.encode()).hexdigest()
# One of Debian 12, one of 13: their systemd hands files to a service in two ways.
NAMES = ("gpu1", "gpu3")
ONLY = ("--limit", ",".join(NAMES))
# What the rest of a run does with hosts that have all of it is for other tests.
PART = (*ONLY, "--tags", "gateway,tools")
SETTINGS = {"listen": f"0.0.0.0:{PORT}", "at_a_time": 2}
TLS = {"tls_certificate": CERTIFICATE, "tls_key": TLS_KEY}
BODY = {"model": MODEL, "messages": cases.QUESTION, "tools": cases.TOOLS, "stream": False}

pytestmark = pytest.mark.xdist_group("fleet")


@dataclass(frozen=True)
class Clients:
    """What asks a host's gateway from elsewhere.

    Attributes:
        host: The host.
        authority: Whose certificate it has to show; None where it is asked in the open.
    """

    host: Host
    authority: Path | None = None

    @property
    def url(self) -> str:
        """Where the gateway is."""
        return f"http{'s' if self.authority else ''}://{self.host.address}:{PORT}"

    def ask(self, path: str, key: str | None, body: Any = None) -> httpx.Response:
        """What a client gets."""
        headers = {"authorization": f"Bearer {key}"} if key else {}
        trusted = ssl.create_default_context(cafile=self.authority) if self.authority else True
        with httpx.Client(base_url=self.url, verify=trusted, trust_env=False) as client:
            if body is None:
                return client.get(path, headers=headers)
            return client.post(path, headers=headers, json=body, timeout=60)

    def shown(self) -> str:
        """The serial number of the certificate that it shows."""
        context = ssl.create_default_context(cafile=self.authority)
        place = (self.host.address, PORT)
        with (
            socket.create_connection(place, timeout=10) as plain,
            context.wrap_socket(plain, server_hostname=self.host.address) as secure,
        ):
            return str(dict(secure.getpeercert() or {})["serialNumber"])


def verify(clients: Clients) -> None:
    """That clients have what they should have, and no more."""
    host = clients.host
    for key in (KEY, OTHER):
        answer = clients.ask("/v1/chat/completions", key, BODY)
        assert answer.status_code == 200, answer.text
        [call] = answer.json()["choices"][0]["message"]["tool_calls"]
        assert call["function"]["name"] == cases.TOOL
    counted = 'client="python-httpx",outcome="answered",surface="/v1/chat/completions"'
    assert counted in clients.ask("/metrics", KEY).text
    assert clients.ask("/api/version", None).status_code == 401
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


def untouched(clients: Clients) -> float:
    """How many requests its gateway did not keep whole since it started."""
    text = clients.ask("/metrics", KEY).text
    return sum(map(float, re.findall(r"(?m)^devstral_gateway_untouched_total\{.*\} (\S+)$", text)))


def install(host: Host, pair: Pair, *, key: Pair | None = None) -> None:
    """Put a certificate and its key, or that of another pair, where the gateway's are."""
    for path, source, mode in (
        (CERTIFICATE, pair.certificate, "644"),
        (TLS_KEY, (key or pair).key, "600"),
    ):
        # As with what copies a file together with its time: it is not newer than the gateway.
        command = f"rm -f {path}; cat >{path}; chmod {mode} {path}; touch -d 2020-01-01 {path}"
        host.run(command, stdin=source.read_text())


def assert_nothing_told(run: Run) -> None:
    """That neither keys nor digests of them are logged."""
    for secret in (KEY, OTHER, DIGEST, hashlib.sha256(KEY.encode()).hexdigest()):
        assert secret not in run.output


def starts(host: Host) -> str:
    """What changes with every start."""
    return host.run("systemctl show -P InvocationID devstral-gateway").stdout.strip()


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> PrivateAuthority:
    """Whom clients trust."""
    return PrivateAuthority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def wanted(converged: Fleet) -> Fleet:
    """A fleet that is to have gateways."""
    converged.variables |= {
        "devstral_gateway_enabled": True,
        "devstral_gateway_settings": SETTINGS,
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
            "the running gateway runs with other tools than /opt/devstral-ollama.*, "
            f"was handed another {CERTIFICATE} and another {TLS_KEY}",
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


def test_a_gateway_is_promised_made_found_mended_and_removed(
    wanted: Fleet, authority: PrivateAuthority
) -> None:
    fleet, hosts = wanted, [wanted.hosts[name] for name in NAMES]
    secure, plain = Clients(hosts[0], authority.file), Clients(hosts[1])
    first, second = (
        authority.pair(name, san=f"IP:{hosts[0].address}") for name in ("first", "second")
    )
    install(hosts[0], first)
    fleet.of_host["gpu1"] = {"devstral_gateway_settings": SETTINGS | TLS}
    # Who says where the template lives gets it there; else it is one that the gateway understands.
    published = fleet.variables["devstral_model"] | {"carrier": "hub"}
    fleet.of_host["gpu3"] = {"devstral_model": published}
    done = fleet.converge(*ONLY)
    for clients in (secure, plain):
        verify(clients)
    assert_nothing_told(done)
    assert "devstral.ollama.devstral_model : Make the model" in done.changed("gpu1")
    assert done.output.count("requests for it pass the gateway as they are") == 1
    assert (untouched(secure), untouched(plain) > 0) == (0, True)
    assert fleet.play("drift", *ONLY).code == 0

    # Clients wait while the server is started again.
    before = starts(hosts[0])
    hosts[0].run("systemctl restart ollama")
    verify(secure)
    assert starts(hosts[0]) == before

    for name, (command, _) in EDITS.items():
        fleet.hosts[name].run(command)
    install(hosts[0], second)
    drift = fleet.play("drift", *ONLY)
    for name, (_, told) in EDITS.items():
        found = drift.failures()[name].split("; ")
        for each in told:
            assert any(re.fullmatch(each, one) for one in found), (each, found)
    served = secure.shown()
    mended = fleet.play("site", *PART, "-vvv", "--diff")
    assert_nothing_told(drift)
    assert_nothing_told(mended)
    for line in second.key.read_text().splitlines()[1:-1]:
        assert line not in mended.output
    assert mended.code == 0, mended.output
    for clients in (secure, plain):
        verify(clients)
    assert secure.shown() != served
    assert "mallory" not in hosts[1].run(f"cat {KEYS}").stdout

    # The model goes back, and the gateway with it: the one before is its publisher's.
    back = fleet.play("rollback", "--limit", "gpu1")
    assert back.code == 0, back.output
    assert "requests for it pass the gateway as they are" in back.output
    verify(secure)
    assert untouched(secure) > 0

    goes_back(fleet, secure)
    is_removed(fleet, secure, plain)
    hosts[1].run(f"rm -r {UNIT}.d")


def goes_back(fleet: Fleet, clients: Clients) -> None:
    """What does not answer goes back, and clients have what they had."""
    host = clients.host
    fleet.of_host[host.name] = {"devstral_gateway_settings": TLS | {"listen": "0.0.0.0:22"}}
    failed = fleet.play("site", *PART, "--limit", host.name)
    said = failed.failures()[host.name]
    assert said.startswith(f"{host.name} went back to the gateway that it had: "), said
    assert "Address already in use" in said
    host.run(
        f"until python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", {PORT}))'; "
        "do sleep 0.5; done 2>/dev/null"
    )
    verify(clients)


def is_removed(fleet: Fleet, *all_clients: Clients) -> None:
    """Where none is wanted any more, nothing of it stays."""
    fleet.variables["devstral_gateway_enabled"] = False
    gone = fleet.converge(*PART)
    for clients in all_clients:
        assert [each for each in gone.changed(clients.host.name) if "gateway" in each]
        left = clients.host.run(
            f"ls {KEYS} {UNIT} 2>/dev/null; systemctl is-active devstral-gateway", check=False
        )
        assert left.stdout.split() == ["inactive"]
        with pytest.raises(httpx.ConnectError):
            clients.ask("/ready", KEY)


def made_of(host: Host) -> str:
    """All that a run writes of a gateway and a model, and which gateway runs."""
    files = host.run(f"sha256sum {UNIT} {KEYS}").stdout
    # A server lists names of the same time in any order.
    return files + str(sorted(status(host).items())) + starts(host)


@pytest.mark.long
def test_what_clients_would_not_take_is_refused_before_anything_is_touched(
    wanted: Fleet, authority: PrivateAuthority
) -> None:
    fleet, host, only = wanted, wanted.hosts["gpu1"], ("--limit", "gpu1")
    name = f"IP:{host.address}"
    clients = Clients(host, authority.file)
    sound, soon = (
        authority.pair(each, days=days, san=name) for each, days in (("a", 90), ("b", 9))
    )
    install(host, soon)
    fleet.variables["devstral_gateway_settings"] = SETTINGS | TLS
    # It is taken while it lasts; who keeps watch is told before clients are.
    done = fleet.play("site", *only)
    assert done.code == 0, done.output
    verify(clients)
    watched = fleet.play("drift", *only)
    assert re.fullmatch(
        f"{CERTIFICATE} expires on .*, in 8 days: have it renewed", watched.failures()["gpu1"]
    )

    before = made_of(host)
    fleet.want(context=16384)
    late = authority.pair("late", days=-1, san=name)
    secret = authority.with_password(sound, "hush-hush")
    unsafe = f"chmod 646 {TLS_KEY}; chown 1 {TLS_KEY}"
    for pair, other, command, words in (
        (sound, sound, f"rm {TLS_KEY}", f"there is no {TLS_KEY}. "),
        (sound, soon, "true", f"{TLS_KEY} is not the key of {CERTIFICATE}: "),
        (late, late, "true", f"no client takes {CERTIFICATE}: certificate has expired: "),
        (secret, secret, "true", f"{TLS_KEY} wants a password, "),
        (
            sound,
            sound,
            unsafe,
            f"others than its owner can write {TLS_KEY}: chmod go-w {TLS_KEY}; ",
        ),
    ):
        install(host, pair, key=other)
        host.run(command)
        refused = fleet.play("site", *only)
        said = refused.failures()["gpu1"]
        assert said.startswith(words), said
        assert said.endswith("gpu1 keeps the gateway that it has")
        assert refused.changed() == []
        assert made_of(host) == before
        verify(clients)
    told = fleet.play("drift", *only).failures()["gpu1"]
    assert f"{TLS_KEY} belongs to daemon: chown root {TLS_KEY}; " in told
    assert f"everybody can read {TLS_KEY}: chmod 600 {TLS_KEY}; " in told
    assert f"the running gateway was handed another {CERTIFICATE} and another {TLS_KEY}" in told

    install(host, sound)
    served = clients.shown()
    mended = fleet.play("site", *only)
    assert mended.code == 0, mended.output
    assert "devstral.ollama.devstral_gateway : Restart the gateway" in mended.changed()
    verify(clients)
    assert clients.shown() != served
    assert fleet.play("drift", *only).code == 0


RENUMBERED = "0.34.9"
"""A release that is the newest but for its number."""


def renumbered(fleet: Fleet, place: Path) -> dict[str, Any]:
    """The variables that ask for it."""
    path = place / "ollama-renumbered.tgz"
    old, new = (f"{version}\0".encode() for version in (NEWEST, RENUMBERED))
    with (
        tarfile.open(ollama_archive(NEWEST).path) as given,
        tarfile.open(path, "w:gz", compresslevel=1) as made,
    ):
        for entry in given:
            file = given.extractfile(entry) if entry.isfile() else None
            if file is not None and Path(entry.name).name == "ollama":
                content = file.read()
                assert content.count(old) == 1
                file = io.BytesIO(content.replace(old, new))
            made.addfile(entry, file)
    return {
        "ollama_server_version": RENUMBERED,
        "ollama_server_archive": fleet.serve(path),
        "ollama_server_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }


def calls(answer: httpx.Response) -> bool:
    """Whether a model answers with the call that it is to make."""
    made = answer.json()["message"].get("tool_calls", [])
    return [each["function"]["name"] for each in made] == [cases.TOOL]


@contextmanager
def asking(clients: Clients) -> Iterator[list[str]]:
    """A client that asks again and again meanwhile, and what it was told but the call it wants."""
    wrong: list[str] = []
    end, asked = threading.Event(), threading.Event()

    def ask() -> None:
        while not end.is_set():
            answer = clients.ask("/api/chat", KEY, BODY)
            if answer.status_code != HTTPStatus.OK or not calls(answer):
                wrong.append(f"{answer.status_code}: {answer.text}")
            asked.set()
            end.wait(0.2)

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(ask)
        try:
            yield wrong
        finally:
            end.set()
            done.result()
    assert asked.is_set()


@pytest.mark.long
def test_clients_wait_while_the_server_is_upgraded_and_while_it_goes_back(
    wanted: Fleet, tmp_path: Path
) -> None:
    fleet, host, only = wanted, wanted.hosts["gpu1"], ("--limit", "gpu1")
    clients = Clients(host)
    fleet.variables["devstral_gateway_settings"] = SETTINGS | {"model": MODEL, "wait": 120}
    done = fleet.play("site", *only)
    assert done.code == 0, done.output
    verify(clients)
    before = made_of(host)
    newer = renumbered(fleet, tmp_path)

    # A server that does not serve, and one whose model fails: no context holds such a prompt.
    for asked in (
        broken(fleet, tmp_path, EXITS),
        newer | {"devstral_smoke_prompt_tokens": 60_000},
    ):
        with asking(clients) as wrong:
            failed = fleet.play("upgrade_server", *only, **asked)
        assert failed.failures()["gpu1"].startswith(f"gpu1 went back to Ollama {NEWEST}")
        assert wrong == []
        assert clients.ask("/ready", None).json() == {"ready": True}
        assert made_of(host) == before

    fleet.variables |= newer
    fleet.want(context=16384)
    with asking(clients) as wrong:
        done = fleet.play("upgrade_server", *only)
    assert done.code == 0, done.output
    assert wrong == []
    assert clients.ask("/api/version", KEY).json() == {"version": RENUMBERED}
    parts = ("ollama_server : Restart Ollama", "devstral_model : Make the model")
    order = [done.of("gpu1", f"devstral.ollama.{each}").at for each in parts]
    last = done.of("gpu1", "devstral.ollama.devstral_gateway : Look at the gateway").at
    assert order == sorted(order)
    assert last > order[-1]
    # Nothing of it has changed, and it knows the new model as it knew the one before.
    assert before.endswith(starts(host))
    assert untouched(clients) == 0
    report = smoke(MODEL, gateway=clients.url, api_key=KEY)
    assert report.passed, report

    # Its start brings the server up and waits for it, as long as was said; then it goes back.
    slow = "/run/systemd/system/ollama.service.d/slow.conf"

    def changed(wait: int, before: str) -> Run:
        fleet.variables["devstral_gateway_settings"] = SETTINGS | {"wait": wait}
        host.run(
            f"systemctl stop ollama; mkdir -p {Path(slow).parent}; "
            f"printf '[Service]\\nExecStartPre={before}\\n' >{slow}; systemctl daemon-reload"
        )
        return fleet.play("site", *only, "--tags", "gateway")

    done = changed(1, "/bin/sleep 12")
    assert done.code == 0, done.output
    verify(clients)
    failed = changed(2, "/bin/false")
    assert failed.failures()["gpu1"].startswith("gpu1 went back to the gateway that it had: ")
    host.run(
        f"rm {slow}; systemctl daemon-reload; systemctl reset-failed ollama; "
        "systemctl restart ollama"
    )
    verify(clients)


@pytest.mark.long
def test_clients_get_their_calls_while_a_host_leaves_the_older_generation(fleet: Fleet) -> None:
    host, only = fleet.hosts["gpu1"], ("--limit", "gpu1")
    host.reset()
    clients = Clients(host)
    newest, oldest = fleet.release(NEWEST), fleet.release(OLDEST)
    fleet.variables |= oldest | {
        "devstral_gateway_enabled": True,
        "devstral_gateway_settings": SETTINGS | {"model": MODEL, "wait": 120},
        "devstral_gateway_keys": [{"name": "alice", "key": KEY}],
        # Where the weights pass through the host, the newer server gets the better carrier.
        "devstral_environment": {"HF_ENDPOINT": fleet.hub.endpoint, "HF_HOME": "/var/tmp/hub"},
    }
    fleet.variables["devstral_model"] = {"reference": QUANT, "name": MODEL, "via": "upload"}

    def serves(version: str, template: str) -> None:
        assert clients.ask("/api/version", KEY).json() == {"version": version}
        assert carrier(host) == template
        assert untouched(clients) == 0
        report = smoke(MODEL, gateway=clients.url, api_key=KEY)
        assert report.passed, report

    done = fleet.play("site", *only)
    assert done.code == 0, done.output
    serves(OLDEST, "modelfile")
    before = status(host)[MODEL], starts(host)

    # The newer server serves, and its model fails: no context holds such a prompt.
    with asking(clients) as wrong:
        failed = fleet.play("upgrade_server", *only, **newest, devstral_smoke_prompt_tokens=60_000)
    said = failed.failures()["gpu1"]
    assert said.startswith(f"gpu1 went back to Ollama {OLDEST}, was put back to {MODEL}-"), said
    assert wrong == []
    assert (status(host)[MODEL], starts(host)) == before
    serves(OLDEST, "modelfile")

    fleet.variables |= newest
    with asking(clients) as wrong:
        done = fleet.play("upgrade_server", *only)
    assert done.code == 0, done.output
    assert wrong == []
    # The gateway goes on as it was, and knows the model in its new place.
    assert starts(host) == before[1]
    serves(NEWEST, "gguf")
    assert fleet.play("site", *only).changed() == []
