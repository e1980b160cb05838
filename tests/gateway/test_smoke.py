"""Smoke through a gateway proves what the gateway is for, and says what is in its way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ollama_tools import Report, Status, smoke
from ollama_tools.checks.doctor import doctor
from ollama_tools.checks.gateway_smoke import _CHECKS, _Subject, gateway_address
from ollama_tools.checks.picture import WITH_PICTURE
from ollama_tools.checks.surfaces import SURFACES, SURFACES_OF_IMAGES, ollama_message
from ollama_tools.checks.talk import Advice, asks_on, model_checks, picture_checks
from ollama_tools.devstral.carriers import Carrier, jinja_template
from ollama_tools.devstral.catalog import TokenizerVersion
from ollama_tools.devstral.miniature import write_miniature
from ollama_tools.errors import ExitCode, ServerUnreachable
from ollama_tools.files.remembered import file_sha256
from ollama_tools.progress import Silence
from ollama_tools.server.client import Server
from tests.gateway.test_gateway import ENDLESS, MODEL, gateway, reading, upstream
from tests.live.test_create import Heard, run_here
from tests.parity.places import Place
from tests.testbed.gateway import GatewayServer, gateway_in_thread
from tests.testbed.projector import write_projector

__all__ = ["gateway", "reading", "upstream"]

PATHS = [each.path for each in SURFACES]
HUB = Place(Carrier.HUB, TokenizerVersion.V13).model


def by_status(report: Report, status: Status) -> dict[str, str]:
    assert all(each.fix for each in report.failures)
    return {each.id: each.saw for each in report.checks if each.status is status}


@pytest.mark.parametrize(
    ("version", "reads_calls"),
    [(TokenizerVersion.V13, False), (TokenizerVersion.V7, False), (TokenizerVersion.V13, True)],
)
def test_a_gateway_passes_every_check(
    gateway: GatewayServer, reading: GatewayServer, version: TokenizerVersion, reads_calls: bool
) -> None:
    url = (reading if reads_calls else gateway).url
    report = smoke(Place(Carrier.GGUF, version).model, gateway=url)
    assert not by_status(report, Status.FAIL)
    # The miniature says too little for anybody to go away meanwhile.
    assert by_status(report, Status.UNKNOWN).keys() == {"gone-client"}
    passed = by_status(report, Status.PASS)
    assert {"gateway", "template", "forged-mark"} < passed.keys()
    for path in PATHS:
        assert f"prompt {path}" in passed
        assert passed[f"too-long {path}"].startswith("a session that does not fit is refused: ")
    for path in PATHS[1:]:
        assert passed[f"prompt {path}"].startswith("the same ")
    for path in PATHS[1:3]:
        assert f"temperature {path}" in passed


def test_a_client_that_goes_away_is_tried_where_an_answer_takes_long(
    gateway: GatewayServer,
) -> None:
    with Server(gateway.url) as server:
        subject = _Subject(server, "ages", TokenizerVersion.V13)
        (found,) = model_checks([_CHECKS[-1]], subject, Advice("", ()), Silence())
    assert (found.id, found.status) == ("gone-client", Status.PASS)


def test_a_server_is_no_gateway(upstream: Server) -> None:
    report = smoke(MODEL, gateway=upstream.url)
    assert by_status(report, Status.FAIL) == {
        "gateway": f"what answers at {upstream.url} is no gateway"
    }
    assert len(report.checks) == 1
    assert "devstral-ollama gateway" in report.failures[0].fix


def test_what_a_server_does_without_a_gateway_fails(upstream: Server) -> None:
    subject = _Subject(upstream, ENDLESS, TokenizerVersion.V13)
    # Whoever leaves a server of itself may find it waiting for ever (Ollama 0.34.4).
    stays = [each for each in _CHECKS if each[0] != "gone-client"]
    checks = model_checks(stays, subject, Advice("", ()), Silence())
    found = {each.id: each for each in checks if each.status is Status.FAIL}
    # Two surfaces lose the same of it: with the first of them this one is no proof.
    assert found.keys() == dict(stays).keys() - {"prompt /v1/chat/completions"}
    assert "expected" in found["prompt /api/chat"].saw
    for path in PATHS[2:]:
        assert "in the same session's prompt" in found[f"prompt {path}"].saw
    for path in PATHS:
        assert "its first messages were dropped" in found[f"too-long {path}"].saw


def test_a_model_of_others_is_told(gateway: GatewayServer) -> None:
    report = smoke(HUB, gateway=gateway.url, release="2507")
    assert by_status(report, Status.FAIL).keys() == {"template"}
    assert "devstral-ollama create" in report.failures[0].fix


def test_what_a_gateway_leaves_out_is_found(upstream: Server) -> None:
    with gateway_in_thread(upstream.url, [], without=("temperature",)) as url:
        report = smoke(MODEL, gateway=url)
    found = by_status(report, Status.FAIL)
    assert found.keys() == {f"temperature {path}" for path in PATHS[1:3]}


def test_the_doctor_sees_the_gateway_before_a_server(
    gateway: GatewayServer, upstream: Server
) -> None:
    (seen,) = (each for each in doctor(upstream).checks if each.id == "gateway")
    there = f"a gateway at {gateway.host} stands before this server"
    assert (seen.status, seen.saw) == (
        Status.PASS,
        f"{there}, and no other machine gets past it",
    )


def test_nobody_at_the_address_is_said_of_a_gateway() -> None:
    with pytest.raises(ServerUnreachable, match="no gateway answers at") as error:
        smoke(MODEL, gateway="127.0.0.1:9")
    assert "devstral-ollama gateway" in error.value.fix


def test_the_command_ends_as_every_smoke_does(upstream: Server) -> None:
    said = ("smoke", MODEL, "--gateway", upstream.url)
    done = run_here(*said, "--json", server="127.0.0.1:9")
    assert done.returncode == ExitCode.CHECK_FAILED
    found = json.loads(done.stdout)
    assert (found["passed"], found["checks"][0]["id"]) == (False, "gateway")
    done = run_here(*said, "--log", "ollama.log", server="127.0.0.1:9")
    assert done.returncode == ExitCode.USAGE
    assert "leave out" in done.stderr


@pytest.mark.parametrize("address", ["gpu1", "gpu1/", "gpu1/v1"])
def test_a_gateway_has_a_port_of_its_own(address: str) -> None:
    assert gateway_address(address) == "gpu1:11435"
    assert gateway_address("http://gpu1/a") == "http://gpu1/a"


def test_a_picture_arrives_on_every_surface(
    gateway: GatewayServer, upstream: Server, tmp_path: Path
) -> None:
    files = {}
    write_miniature(
        tmp_path / "seeing.gguf",
        layers=1,
        heads=1,
        kv_heads=1,
        chat_template=jinja_template(TokenizerVersion.V13),
        name="seeing",
    )
    write_projector(tmp_path / "mmproj.gguf")
    for path in tmp_path.iterdir():
        files[path.name] = f"sha256:{file_sha256(path, Heard())}"
        upstream.upload(path, files[path.name], lambda *_: None)
    request = {"model": "seeing", "files": files, "parameters": {"num_ctx": 4096}}
    upstream.create(request, lambda *_: None)
    with Server(gateway.url) as through:
        asks = asks_on(SURFACES_OF_IMAGES, through, "seeing")
        for check in picture_checks(asks, Advice("", ()), Silence()):
            assert check.status is Status.PASS, check
        asked = {
            "model": "seeing",
            "messages": [ollama_message(each) for each in WITH_PICTURE],
            "options": {"num_predict": 1},
        }
        tokens = [each.chat(asked)["prompt_eval_count"] for each in (upstream, through)]
    assert tokens[0] == tokens[1]
    report = smoke("seeing", gateway=gateway.url)
    assert not report.failures
    images = {f"image {each.path}" for each in SURFACES_OF_IMAGES}
    assert images <= by_status(report, Status.PASS).keys()
