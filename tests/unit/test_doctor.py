"""What the doctor finds; what a real server shows easily is tested on real servers."""

from __future__ import annotations

import json
import os
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from ollama_tools.checks import doctor as module
from ollama_tools.checks.doctor import doctor
from ollama_tools.checks.result import Report, Status
from ollama_tools.devstral.carriers import go_template, jinja_template
from ollama_tools.devstral.catalog import TokenizerVersion
from ollama_tools.errors import ServerError, ServerUnreachable
from ollama_tools.lint import lint_model, lint_models
from ollama_tools.server import process as processes
from ollama_tools.server.client import Server
from ollama_tools.server.process import GatewayProcess, ServerProcess, _configured, find_gateways
from ollama_tools.settings.environment import TEMPLATE_FILE

BLOB = "8e7873fd71bad62c620164d56709de41fd5aed202fe45f57739be85a46db8435"
OTHER_BLOB = BLOB[::-1]
LABEL = "Devstral-Small-2507"
SAMPLING = "temperature 0.15\nmin_p 0.01\ntop_k 64"
GOOD = f"num_ctx 32768\nrepeat_penalty 1\n{SAMPLING}"

_Usage = namedtuple("_Usage", "total used free")


class Fake:
    """A server that says of itself what a test wants."""

    def __init__(self, http: HTTPServer, version: str = "0.34.4") -> None:
        self.url = http.url_for("").rstrip("/")
        self.shown: dict[str, dict[str, Any]] = {}
        http.expect_request("/api/version").respond_with_json({"version": version})
        http.expect_request("/api/tags").respond_with_handler(self._tags)
        http.expect_request("/api/show").respond_with_handler(self._show)
        http.expect_request("/api/ps").respond_with_json({"models": []})

    def add(
        self,
        name: str,
        *,
        parser: str = "",
        template: str = go_template(TokenizerVersion.V13),
        parameters: str = GOOD,
        blob: str = BLOB,
        tools: bool = True,
        label: str = LABEL,
    ) -> None:
        lines = [f"FROM /models/blobs/sha256-{blob}", f'TEMPLATE """{template}"""']
        self.shown[name] = {
            "modelfile": "\n".join([*lines, *([f"PARSER {parser}"] if parser else [])]),
            "template": template,
            "parameters": parameters,
            "capabilities": ["completion", "tools"] if tools else ["completion"],
            "model_info": {"general.name": label},
        }

    def _tags(self, _: Request) -> Response:
        models = [
            {"name": name, "digest": f"{place:064x}", "size": 1}
            for place, name in enumerate(self.shown)
        ]
        return Response(json.dumps({"models": models}), content_type="application/json")

    def _show(self, request: Request) -> Response:
        return Response(
            json.dumps(self.shown[request.get_json()["model"]]), content_type="application/json"
        )

    def examine(self) -> Report:
        with Server(self.url) as server:
            return doctor(server)


@pytest.fixture
def process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of the server's process, for a test to fill."""
    engine = tmp_path / "usr/lib/ollama/llama-server"
    engine.parent.mkdir(parents=True)
    engine.touch(mode=0o755)
    environment: dict[str, str] = {"OLLAMA_MODELS": "/models"}
    seen = ServerProcess(
        pid=1,
        root=tmp_path,
        executable=Path("/usr/bin/ollama"),
        environment=environment,
        log=None,
        runners=(),
    )
    monkeypatch.setattr(module, "find_server_process", lambda _: seen)
    return environment


def found(report: Report, check: str) -> tuple[Status, str]:
    [result] = [each for each in report.checks if each.id == check]
    assert bool(result.fix) is (result.status is not Status.PASS)
    return result.status, f"{result.saw} | {result.fix}"


@pytest.mark.parametrize(
    ("version", "kind", "flash", "status", "word"),
    [
        ("0.34.4", "q8_0", None, Status.PASS, "q8_0"),
        ("0.34.4", "Q8_0", "1", Status.PASS, "q8_0"),
        ("0.34.4", "q8_0", "0", Status.FAIL, "every load answers 500"),
        ("0.34.4", "q9_9", None, Status.FAIL, "every load answers 500"),
        ("0.34.4", "q5_1", None, Status.PASS, "q5_1"),
        ("0.34.4", "", None, Status.WARN, "twice the memory"),
        ("0.24.0", "q8_0", None, Status.FAIL, "silently uses f16"),
        ("0.24.0", "q8_0", "false", Status.FAIL, "silently uses f16"),
        ("0.24.0", "q8_0", "true", Status.PASS, "q8_0"),
        ("0.24.0", "q5_1", "1", Status.FAIL, "unknown before Ollama 0.30"),
        ("0.24.0", "q9_9", "1", Status.FAIL, "silently uses f16"),
    ],
)
def test_the_kv_cache_type(
    httpserver: HTTPServer,
    process: dict[str, str],
    version: str,
    kind: str,
    flash: str | None,
    status: Status,
    word: str,
) -> None:
    process["OLLAMA_KV_CACHE_TYPE"] = kind
    if flash is not None:
        process["OLLAMA_FLASH_ATTENTION"] = flash
    seen = found(Fake(httpserver, version).examine(), "kv-cache")
    assert seen[0] is status
    assert word in seen[1]


def test_what_only_the_process_knows_is_unknown_where_it_cannot_be_seen(
    httpserver: HTTPServer,
) -> None:
    # This test's own process listens there, and it is no Ollama.
    report = Fake(httpserver).examine()
    for check in ("kv-cache", "default-context", "engine", "disk"):
        assert found(report, check)[0] is Status.UNKNOWN
    assert report.passed


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("", Status.PASS),
        ("127.0.0.1", Status.PASS),
        ("127.0.0.2:8080", Status.PASS),
        ("localhost:11434", Status.PASS),
        ("http://localhost", Status.PASS),
        ("[::1]:11434", Status.PASS),
        ("::1", Status.PASS),
        ("0.0.0.0", Status.WARN),
        ("0.0.0.0:11434", Status.WARN),
        (":11434", Status.WARN),
        ("::", Status.WARN),
        ("[::]:11434", Status.WARN),
        ("http://192.168.1.7:11434", Status.WARN),
        ("gpu1", Status.WARN),
    ],
)
def test_who_can_reach_the_server(
    httpserver: HTTPServer, process: dict[str, str], host: str, status: Status
) -> None:
    process["OLLAMA_HOST"] = host
    assert found(Fake(httpserver).examine(), "reach")[0] is status


@pytest.mark.parametrize(
    ("listens", "named", "status", "said"),
    [
        ("127.0.0.1:11434", "", Status.PASS, "no other machine gets past it"),
        ("127.0.0.1:11434", "127.0.0.1:11435", Status.PASS, "no other machine gets past it"),
        ("127.0.0.1:11434", "no address:x", Status.PASS, "no other machine gets past it"),
        ("0.0.0.0:11434", "", Status.WARN, "other machines reach the server past it"),
        ("127.0.0.1:11434", "me:secret@127.0.0.1", Status.WARN, "OLLAMA_HOST leads"),
    ],
)
def test_who_gets_past_a_gateway_is_told(
    httpserver: HTTPServer,
    process: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    listens: str,
    named: str,
    status: Status,
    said: str,
) -> None:
    fake = Fake(httpserver)
    other = GatewayProcess(1, "127.0.0.1:1", "127.0.0.1:2")
    gateway = GatewayProcess(2, "127.0.0.1:11435", fake.url)
    monkeypatch.setattr(module, "find_gateways", lambda: iter([other]))
    assert "gateway" not in {each.id for each in fake.examine().checks}
    monkeypatch.setattr(module, "find_gateways", lambda: iter([other, gateway]))
    process["OLLAMA_HOST"] = listens
    # The one in front listens at another port than the double.
    monkeypatch.setenv("OLLAMA_HOST", f"{named}:{httpserver.port}" if "@" in named else named)
    (check,) = (each for each in fake.examine().checks if each.id == "gateway")
    assert check.status is status
    assert said in check.saw
    assert "secret" not in check.saw + check.fix
    assert bool(check.fix) == (status is Status.WARN)


def _process(root: Path, pid: int, words: str, host: str = "", parent: int = 1) -> None:
    folder = root / str(pid)
    folder.mkdir()
    (folder / "cmdline").write_bytes("\0".join([*words.split(), ""]).encode())
    (folder / "environ").write_bytes(f"PATH=/bin\0OLLAMA_HOST={host}\0".encode())
    (folder / "stat").write_text(f"{pid} (a program) S {parent} 0 0")


@pytest.mark.parametrize(
    ("words", "listen", "upstream"),
    [
        ("/opt/x/devstral-ollama gateway", "127.0.0.1:11435", "127.0.0.1:11434"),
        ("python -m ollama_tools gateway --listen :9", ":9", "127.0.0.1:11434"),
        ("devstral-ollama gateway --upstream=gpu1 --listen :9 --wait 3", ":9", "gpu1"),
        ("devstral-ollama serve --gateway", "0.0.0.0:7", "127.0.0.1:8"),
        ("devstral-ollama serve --host :6 --gateway", ":6", "127.0.0.1:8"),
    ],
)
def test_a_gateway_is_known_by_its_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, listen: str, upstream: str
) -> None:
    monkeypatch.setattr(processes, "_PROC", tmp_path)
    _process(tmp_path, 12, words, "0.0.0.0:7")
    _process(tmp_path, 13, "/usr/bin/ollama serve", "127.0.0.1:8", parent=12)
    assert list(find_gateways()) == [GatewayProcess(12, listen, upstream)]


@pytest.mark.parametrize(
    "words",
    [
        "devstral-ollama gateway key list",
        "devstral-ollama doctor",
        "devstral-ollama serve",
        "devstral-ollama",
        "ollama_tools gateway",
        "vi gateway",
        "",
    ],
)
def test_no_other_command_is_taken_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    monkeypatch.setattr(processes, "_PROC", tmp_path)
    _process(tmp_path, 12, words)
    assert list(find_gateways()) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("upstream: 127.0.0.1:9\nwait: 3", {"upstream": "127.0.0.1:9"}),
        ("- a", {}),
        ("a: [", {}),
        (None, {}),
    ],
)
def test_a_file_of_its_settings_tells_its_server(
    tmp_path: Path, text: str | None, said: dict[str, str]
) -> None:
    path = tmp_path / "gateway.yml"
    if text is not None:
        path.write_text(text)
    assert _configured(path) == said


@pytest.mark.parametrize(
    ("value", "status"),
    [("", Status.WARN), ("4096", Status.WARN), ("many", Status.WARN), ("32768", Status.PASS)],
)
def test_the_default_context(
    httpserver: HTTPServer, process: dict[str, str], value: str, status: Status
) -> None:
    process["OLLAMA_CONTEXT_LENGTH"] = value
    assert found(Fake(httpserver).examine(), "default-context")[0] is status


def test_an_engine_that_is_missing_or_cannot_run(
    httpserver: HTTPServer, process: dict[str, str], tmp_path: Path
) -> None:
    engine = tmp_path / "usr/lib/ollama/llama-server"
    fake = Fake(httpserver)
    assert found(fake.examine(), "engine")[0] is Status.PASS
    engine.chmod(0o644)
    if os.geteuid() or not os.access(engine, os.X_OK):
        assert found(fake.examine(), "engine")[0] is Status.FAIL
    engine.unlink()
    status, text = found(fake.examine(), "engine")
    assert status is Status.FAIL
    assert "/usr/lib/ollama" in text


@pytest.mark.parametrize(
    ("free", "status"),
    [(200 * 1024**3, Status.PASS), (15 * 1024**3, Status.WARN), (1024**2, Status.FAIL)],
)
def test_free_space(
    httpserver: HTTPServer,
    process: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    free: int,
    status: Status,
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: _Usage(0, 0, free))
    assert found(Fake(httpserver).examine(), "disk")[0] is status


@pytest.mark.parametrize("version", ["0.15.2", "0.0.0", "unknown"])
def test_a_server_that_is_too_old_fails(httpserver: HTTPServer, version: str) -> None:
    report = Fake(httpserver, version).examine()
    assert found(report, "server-version")[0] is Status.FAIL


def test_known_faults_are_named_with_the_version_that_mends_them_all(
    httpserver: HTTPServer,
) -> None:
    status, text = found(Fake(httpserver, "0.30.0").examine(), "security")
    assert status is Status.WARN
    assert "CVE-2026-86289" in text
    assert "CVE-2026-85180" in text
    assert "0.33.3" in text


def test_a_good_model_passes_everything(httpserver: HTTPServer) -> None:
    fake = Fake(httpserver)
    fake.add("devstral:latest", parser="ministral")
    fake.add("devstral:other", parser="ministral", blob=OTHER_BLOB)
    report = fake.examine()
    assert report.passed
    assert found(report, "rules devstral:latest")[0] is Status.PASS
    assert found(report, "rules devstral:other")[0] is Status.PASS


@pytest.mark.parametrize(
    ("bad", "code", "status"),
    [
        ({"tools": False}, "DV209", Status.FAIL),
        ({"template": f"<s>{go_template(TokenizerVersion.V13)}"}, "DV103", Status.FAIL),
        ({"template": "{{ .Prompt }}"}, "DV104", Status.FAIL),
        ({"parser": "nosuch"}, "DV201", Status.FAIL),
        ({"parser": "qwen3"}, "DV201", Status.FAIL),
        ({"parser": ""}, "DV202", Status.WARN),
        ({"label": "Devstral Small 2505"}, "DV203", Status.FAIL),
        ({"parameters": f"repeat_penalty 1\n{SAMPLING}"}, "DV302", Status.WARN),
        ({"parameters": f"num_ctx 8192\nrepeat_penalty 1\n{SAMPLING}"}, "DV303", Status.WARN),
        ({"parameters": f"num_ctx 32768\n{SAMPLING}"}, "DV301", Status.WARN),
        ({"parameters": "num_ctx 32768\nrepeat_penalty 1\ntemperature 0"}, "DV306", Status.WARN),
    ],
)
def test_what_is_wrong_with_a_model_is_said_as_lint_says_it(
    httpserver: HTTPServer, bad: dict[str, Any], code: str, status: Status
) -> None:
    fake = Fake(httpserver)
    fake.add("devstral:latest", **{"parser": "ministral", **bad})
    report = fake.examine()
    assert found(report, f"{code} devstral:latest")[0] is status
    said = {
        (each.id.split()[0], each.saw, each.fix) for each in report.checks if each.id[:2] == "DV"
    }
    findings = lint_model("devstral:latest", host=fake.url)
    assert said == {(each.code, each.message, each.fix) for each in findings}
    with Server(fake.url) as server:
        assert lint_models(server) == findings


def test_an_old_server_is_said_once(httpserver: HTTPServer) -> None:
    fake = Fake(httpserver, "0.15.2")
    fake.add("devstral:one", parser="ministral")
    fake.add("devstral:two", parser="ministral", blob=OTHER_BLOB)
    assert [each.id for each in fake.examine().failures] == ["server-version"]
    assert {each.code for each in lint_model("devstral:one", host=fake.url)} == {"DV210"}


def test_a_template_that_could_not_be_tried_is_unknown(
    httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("ollama_tools.lint.bounded._WORKER", tmp_path / "nowhere.py")
    fake = Fake(httpserver)
    template = f"{{{{/* not tried before */}}}}{go_template(TokenizerVersion.V13)}"
    fake.add("devstral:latest", parser="ministral", template=template)
    report = fake.examine()
    assert found(report, "DV123 devstral:latest")[0] is Status.UNKNOWN
    assert report.passed


def test_a_template_that_only_looks_like_directives_is_none(httpserver: HTTPServer) -> None:
    fake = Fake(httpserver)
    fake.add("devstral:latest", template="{{ .Prompt }}\nPARSER qwen3\nFROM nowhere")
    assert "DV201" not in {each.id.split()[0] for each in fake.examine().checks}


def test_a_model_is_a_devstral_by_its_own_words(httpserver: HTTPServer) -> None:
    fake = Fake(httpserver)
    fake.add("agent:latest", parser="ministral", tools=False)
    fake.add(
        "llama:latest", template="{{ .Prompt }}", parser="ministral", tools=False, label="llama"
    )
    assert [each.id for each in fake.examine().failures] == ["DV209 agent:latest"]


JINJA = "{%- for message in messages -%}{%- endfor -%}"


@pytest.mark.parametrize(
    ("version", "blob", "fails"),
    [("0.34.4", BLOB, True), ("0.34.4", OTHER_BLOB, False), ("0.24.0", BLOB, False)],
)
def test_one_blob_with_two_ways_of_templating(
    httpserver: HTTPServer, version: str, blob: str, fails: bool
) -> None:
    base = "hf.co/unsloth/Devstral-Small-2507-GGUF:UD-Q4_K_XL"
    fake = Fake(httpserver, version)
    fake.add(base, template=JINJA, blob=blob)
    fake.add("devstral:latest", parser="ministral")
    failures = {each.id: each for each in fake.examine().failures if each.id.startswith("DV207")}
    assert set(failures) == ({"DV207 devstral:latest", f"DV207 {base}"} if fails else set())
    assert all(f"ollama rm {base}" in each.fix for each in failures.values())


@pytest.mark.parametrize(
    ("stranger", "template", "status"),
    [
        ("mine:latest", go_template(TokenizerVersion.V13), Status.PASS),
        ("qwen3:8b", "{{ .Prompt }}", Status.PASS),
        ("qwen3:8b", "{% for m in messages %}{% endfor %}", Status.FAIL),
        ("devstral-2505:q4", "{% for m in messages %}{% endfor %}", Status.FAIL),
        ("devstral-2507:q8", "{% for m in messages %}{% endfor %}", Status.PASS),
    ],
)
def test_a_dedicated_server_that_has_models_of_another_family(
    httpserver: HTTPServer,
    process: dict[str, str],
    tmp_path: Path,
    stranger: str,
    template: str,
    status: Status,
) -> None:
    (tmp_path / "v13.jinja").write_text(jinja_template(TokenizerVersion.V13) + "\n")
    process[TEMPLATE_FILE] = "/v13.jinja"
    fake = Fake(httpserver)
    fake.add("devstral:one")
    fake.add(stranger, template=template, label="")
    seen, text = found(fake.examine(), "dedicated")
    assert seen is status
    assert (stranger in text) is (status is Status.FAIL)


def test_a_dedicated_server_whose_template_is_not_ours(
    httpserver: HTTPServer, process: dict[str, str]
) -> None:
    process[TEMPLATE_FILE] = "/nowhere.jinja"
    fake = Fake(httpserver)
    fake.add("devstral:one")
    seen, text = found(fake.examine(), "dedicated")
    assert seen is Status.FAIL
    assert "/nowhere.jinja" in text


def test_no_devstral_at_all_is_worth_a_word(httpserver: HTTPServer) -> None:
    assert found(Fake(httpserver).examine(), "models")[0] is Status.WARN


def test_a_model_that_is_removed_meanwhile_is_left_out(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/api/version").respond_with_json({"version": "0.34.4"})
    gone = {"name": "devstral:latest", "digest": "0" * 64, "size": 1}
    httpserver.expect_request("/api/tags").respond_with_json({"models": [gone]})
    httpserver.expect_request("/api/ps").respond_with_json({"models": []})
    httpserver.expect_request("/api/show").respond_with_json(
        {"error": "model 'devstral' not found"}, status=404
    )
    with Server(httpserver.url_for("").rstrip("/")) as server:
        assert found(doctor(server), "models")[0] is Status.WARN


def test_a_server_that_breaks_in_the_middle_raises(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/api/version").respond_with_json({"version": "0.34.4"})
    httpserver.expect_request("/api/tags").respond_with_json({"error": "disk"}, status=500)
    with Server(httpserver.url_for("").rstrip("/")) as server, pytest.raises(ServerError):
        doctor(server)


def test_a_server_that_is_not_there_raises() -> None:
    with Server("127.0.0.1:1") as server, pytest.raises(ServerUnreachable):
        doctor(server)
