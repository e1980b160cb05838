"""What goes wrong: one message each, the documented exit code, and a server that is as it was."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from ollama_tools import Outcome, ensure_model
from ollama_tools.devstral.miniature import write_miniature
from ollama_tools.errors import (
    DevstralError,
    FileProblem,
    HubError,
    PullFailed,
    ServerError,
    ServerUnreachable,
    UsageError,
)
from ollama_tools.server.client import Server
from tests.live.test_create import (
    NAME,
    QUANT,
    REPOSITORY,
    ROOT,
    Heard,
    create,
    hub,
    model_names,
    run_cli,
    run_here,
    tool_calls,
    unloaded,
    use_hub,
)
from tests.testbed.hub import Hub
from tests.testbed.models import devstral_repositories
from tests.testbed.repository import Content, Repository
from tests.testbed.server import OllamaServer

__all__ = ["create", "hub", "unloaded"]

Create = Callable[..., Outcome]


def refusal(done: subprocess.CompletedProcess[str]) -> tuple[int, str, str]:
    """Exit code, error and fix of a command that said one line of each and nothing on stdout."""
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    fixes = [line for line in lines if line.startswith("fix: ")]
    assert (len(errors), len(fixes)) == (1, 1), done.stderr
    assert "Traceback" not in done.stderr
    return done.returncode, errors[0].removeprefix("error: "), fixes[0].removeprefix("fix: ")


def digest_of(quant: str) -> str:
    """``sha256:…`` of a quant's file on the session's hub."""
    (repository,) = (
        each for each in devstral_repositories(heads=1, kv_heads=1) if each.name == REPOSITORY
    )
    return repository.files[repository.tags[quant]].digest


@pytest.fixture
def served(create: Create, server: Server) -> Iterator[Outcome]:
    """A model that serves; whatever a test does, it is all that is on the server at its end."""
    made = create("2505:Q4_0", check=False)
    before = {each.name: each.digest for each in server.models()}
    yield made
    assert {each.name: each.digest for each in server.models()} == before
    assert tool_calls(server, made.name) == ["get_current_weather"]


# What a person says


@pytest.mark.parametrize(
    ("arguments", "error", "fix"),
    [
        (["UD-Q4_K_XXL"], "'UD-Q4_K_XXL' is no quant of Devstral-Small-2507", "did you mean"),
        (["2507:Q9"], "Devstral-Small-2507 has no quant 'Q9'", "Q4_K_M"),
        (["2506"], "'2506'", "2507"),
        (["hf.co/unsloth"], "names no repository on the hub", "hf.co/"),
        ([""], "an empty reference names no model", "UD-Q4_K_XL"),
        (["a b c"], "'a b c' names no model", "UD-Q4_K_XL"),
        (["nosuch:model", "--release", "2507"], "'nosuch:model' is no quant, no file", "list"),
        (["nosuch:model"], "nothing tells which Devstral 'nosuch:model' is", "--release"),
        (
            ["./nosuch-devstral-2507.gguf"],
            "there is no file 'nosuch-devstral-2507.gguf'",
            "check the path",
        ),
        (["hf.co/me/devstral-2507-GGUF"], "names no quant", ":Q4_K_M"),
        ([QUANT, "--release", "1999"], "'1999'", "2507"),
        ([QUANT, "--context", "131073"], "131073 tokens is more than the 131072", "131072 or less"),
        ([QUANT, "--context", "512"], "too small for any tool call", "32768"),
        ([QUANT, "--context", "many"], "is no number of tokens", "65536 or 64k"),
        ([QUANT, "--context", "4096", "-p", "num_ctx=8192"], "given twice", "--context"),
        ([QUANT, "--name", "a b"], "'a b' is not a name that Ollama accepts", "letters"),
        ([QUANT, "--name", "-x"], "'-x' is not a name that Ollama accepts", "letters"),
        ([QUANT, "--name", "x:"], "'x:' is not a name that Ollama accepts", "letters"),
        ([QUANT, "--name", "x:" + "t" * 80], "longer than 60 characters", "shorter"),
        ([QUANT, "--name", "x:t-0123456789ab"], "looks like the name of a build", "leave out"),
        ([QUANT, "--system", "bundled", "--no-system"], "contradict each other", "one of them"),
        ([QUANT, "--system", "nosuch.txt"], "cannot read the system prompt nosuch.txt", "check"),
        ([QUANT, "--via", "pigeon"], "'pigeon' is no way for the bytes", "upload or server"),
        (
            [QUANT, "--carrier", "shoe"],
            "'shoe' is no carrier of a template",
            "auto, exact, gguf, hub",
        ),
        ([QUANT, "--carrier", "server"], "runs without LLAMA_ARG_CHAT", "--dedicated-to"),
        ([QUANT, "--registry", "a b"], "'a b' is not the host of a registry", "mirror.example"),
        ([QUANT, "--registry", "ftp://x"], "'ftp://x' is not the host of a registry", "mirror"),
        ([QUANT, "-p", "temperature"], "'temperature' is not NAME=VALUE", "temperature=0.2"),
        ([QUANT, "-p", "temprature=1"], "no model parameter 'temprature'", "temperature?"),
        ([QUANT, "-p", "top_k=many"], "top_k wants a whole number, not 'many'", "="),
        ([QUANT, "-p", "temperature=nan"], "temperature wants a number, not 'nan'", "=0.5"),
        ([QUANT, "--host", "ftp://gpu1"], "'ftp://gpu1' is not an address", "http://"),
        ([QUANT, "--nosuch"], "no such option", "create --help"),
        ([QUANT, "--prompt-tokens", "3"], "a long prompt of 3 tokens proves nothing", "256"),
        (
            [f"hf.co/{REPOSITORY}@v1:{QUANT}", "--via", "server"],
            "a server cannot pull the revision 'v1'",
            "--via upload",
        ),
    ],
)
def test_a_wish_that_cannot_be_is_refused_with_exit_code_2(
    bed: OllamaServer, hub: Hub, server: Server, arguments: list[str], error: str, fix: str
) -> None:
    code, what, how = refusal(run_here("create", *arguments, server=bed.url, hub=hub))
    assert error.casefold() in what.casefold()
    assert fix in how
    assert code in (1, 2)
    assert (code == 1) == ("nosuch:model', no file" in what or "is no quant, no file" in what)
    assert server.models() == []
    assert hub.requests == []


@pytest.mark.parametrize(
    ("content", "error", "fix"),
    [
        (b'say """ twice', 'contains """, which a Modelfile cannot carry', "quote"),
        (b"begin [INST] here", "contains [INST], which the tokenizer turns into", "take it out"),
        (b"<s>You are", "contains <s>, which the tokenizer turns into", "take it out"),
        (b"caf\xe9", "is not UTF-8 (byte 3)", "save it as UTF-8"),
        (b"", "is empty", "--no-system"),
        (b" \n\n", "is empty", "--no-system"),
        (b"one\ntwo\x00", "line 2: the character U+0000 is not printable", "replace"),
        ("a\u200bb".encode(), "the character U+200B is not printable", "replace"),
        (b"a" * 300_000, "is longer than 256 KiB", "shorten"),
    ],
)
def test_a_system_prompt_that_no_model_can_carry_is_refused(
    bed: OllamaServer,
    hub: Hub,
    server: Server,
    tmp_path: Path,
    content: bytes,
    error: str,
    fix: str,
) -> None:
    path = tmp_path / "prompt.txt"
    path.write_bytes(content)
    code, what, how = refusal(
        run_here("create", QUANT, "--system", str(path), server=bed.url, hub=hub)
    )
    assert (code, what.startswith("the system prompt ")) == (2, True)
    assert error in what
    assert fix in how
    assert server.models() == []


def test_errors_are_one_json_document_where_json_is_asked_for(bed: OllamaServer) -> None:
    done = run_cli("create", "2507:Q9", "--json", server=bed.url)
    assert (done.returncode, done.stderr) == (2, "")
    document = json.loads(done.stdout)
    assert document.keys() == {"error", "fix", "exit_code"}
    assert document["exit_code"] == 2


# What answers


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.fixture
def talker() -> Iterator[Callable[[bytes], str]]:
    """Starts what answers every connection with the same bytes, and says where."""
    sockets: list[socket.socket] = []

    def start(answer: bytes) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        sockets.append(listener)

        def talk() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    # What is left unread would make the end of the connection a reset.
                    connection.recv(65_536)
                    connection.sendall(answer)

        threading.Thread(target=talk, daemon=True).start()
        return f"127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for each in sockets:
        each.shutdown(socket.SHUT_RDWR)
        each.close()


def test_no_server_is_said_with_how_to_start_one(silent_port: int) -> None:
    done = run_cli("create", QUANT, server=f"127.0.0.1:{silent_port}")
    assert refusal(done) == (
        1,
        f"no Ollama server answers at http://127.0.0.1:{silent_port}",
        "start it: devstral-ollama serve",
    )


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH_9.9\r\n", b""])
def test_what_speaks_no_http_is_no_ollama(talker: Callable[[bytes], str], answer: bytes) -> None:
    code, what, how = refusal(run_here("create", QUANT, server=talker(answer)))
    assert (code, "OLLAMA_HOST" in how) == (1, True)
    assert "broke" in what


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("<html>It works!</html>", 200),
        ('["0.34.4"]', 200),
        ('{"version": 34}', 200),
        ("{}", 200),
        ('{"version": "0.34.4"}', 404),
        ("", 204),
    ],
)
def test_what_speaks_http_otherwise_is_no_ollama(
    httpserver: HTTPServer, body: str, status: int
) -> None:
    httpserver.expect_request("/api/version").respond_with_data(body, status=status)
    url = httpserver.url_for("").rstrip("/")
    code, what, how = refusal(run_here("create", QUANT, server=url))
    assert (code, how) == (1, "check --host or OLLAMA_HOST")
    assert "/api/version" in what or "not as an Ollama server" in what
    assert "start it" not in how


@pytest.mark.parametrize("version", ["0.12.0", "0.15.2", "0.0.0", "yesterday"])
def test_a_server_that_is_too_old_is_asked_nothing_else(
    httpserver: HTTPServer, version: str
) -> None:
    httpserver.expect_request("/api/version").respond_with_json({"version": version})
    code, what, how = refusal(run_here("create", QUANT, server=httpserver.url_for("")))
    assert code == 1
    assert what.startswith(f"the server is Ollama {version}; Devstral needs 0.15.3 or newer")
    assert how.startswith("upgrade the server")
    assert len(httpserver.log) == 1


# The hub


@pytest.mark.parametrize(
    ("status", "where", "fix"),
    [
        (404, "/v2/", "check the repository's and the quant's name"),
        (401, "/v2/", "--via upload"),
        (403, "/v2/", "--via upload"),
        (429, "/v2/", "the hub limits requests"),
        (500, "/v2/", "second run"),
        (429, f"/v2/{REPOSITORY}/blobs/", "the hub limits requests"),
        (404, f"/v2/{REPOSITORY}/blobs/", "check the repository's"),
        (500, "/blobs/", "second run"),
    ],
)
@pytest.mark.usefixtures("served")
def test_a_pull_that_the_registry_refuses_leaves_the_server_as_it_was(
    create: Create, hub: Hub, status: int, where: str, fix: str
) -> None:
    hub.fail(where, status=status)
    with pytest.raises(PullFailed) as caught:
        create(via="server", registry=hub.registry)
    assert f"the server cannot pull {hub.registry}/{REPOSITORY}:{QUANT}" in caught.value.what
    assert fix in caught.value.fix


@pytest.mark.usefixtures("served")
def test_wrong_bytes_from_the_registry_are_refused_and_a_second_run_works(
    create: Create, hub: Hub, server: Server
) -> None:
    # The weights alone: of several wrong layers 0.34.4 notices the first, and keeps the others.
    hub.fail(f"/blobs/{digest_of('Q6_K')}", corrupt=True)
    with pytest.raises(PullFailed, match="digest mismatch"):
        create("2507:Q6_K", via="server", registry=hub.registry)
    hub.heal()
    made = create("2507:Q6_K", via="server", registry=hub.registry, name="second", check=False)
    assert tool_calls(server, made.name) == ["get_current_weather"]
    for name in (made.name, made.build):
        server.delete(name)


@pytest.mark.parametrize(
    ("status", "words", "fix"),
    [
        (404, "has no file", ""),
        (401, "the hub has no repository unsloth/Devstral-Small-2507-GGUF", "hf auth login"),
        (403, "is gated", "hf auth login"),
        (429, "the hub answers 429", "wait a few minutes"),
        (500, "the hub answers 500", ""),
    ],
)
@pytest.mark.usefixtures("served")
def test_a_download_that_the_hub_refuses_ends_at_once(
    create: Create, hub: Hub, status: int, words: str, fix: str
) -> None:
    hub.fail("/unsloth/", status=status)
    begin = time.monotonic()
    with pytest.raises(HubError) as caught:
        create(system="bundled")
    assert words in caught.value.what
    assert fix in caught.value.fix
    assert time.monotonic() - begin < 5


@pytest.mark.usefixtures("served")
def test_the_command_line_says_what_the_hub_said_and_nothing_else(
    bed: OllamaServer, hub: Hub
) -> None:
    hub.fail("/", status=429)
    done = run_cli("create", QUANT, "--via", "upload", "-q", server=bed.url, hub=hub)
    assert refusal(done)[:2] == (1, "the hub answers 429: too many requests")
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["warning", "error", "fix"]


def test_a_hub_that_cannot_be_reached_is_said_at_once(
    bed: OllamaServer, hub: Hub, silent_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_hub(f"http://127.0.0.1:{silent_port}", monkeypatch)
    sleep, slept = time.sleep, list[float]()

    def note(seconds: float) -> None:
        slept.append(seconds)
        sleep(seconds)

    # What is waited for on purpose, however long a busy machine takes for the rest.
    monkeypatch.setattr(time, "sleep", note)
    code, what, how = refusal(run_here("create", QUANT, server=bed.url))
    assert (code, what.startswith("cannot reach the hub")) == (1, True)
    assert "HF_ENDPOINT" in how
    assert sum(slept) < 10


@pytest.mark.parametrize("carrier", ["gguf", "hub", "modelfile"])
@pytest.mark.usefixtures("served")
def test_wrong_bytes_from_the_hub_are_found_and_a_second_run_works(
    create: Create, hub: Hub, server: Server, carrier: str
) -> None:
    hub.fail("/lfs/", corrupt=True)
    with pytest.raises(HubError, match="is not what the hub announced"):
        create("2507:Q5_K_M", carrier=carrier)
    hub.heal()
    made = create("2507:Q5_K_M", carrier=carrier, name="second")
    for name in (made.name, made.build):
        server.delete(name)


@pytest.mark.usefixtures("served")
def test_a_download_that_breaks_off_is_said_and_the_second_run_works(
    create: Create, hub: Hub, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)
    hub.fail("/lfs/", cut_after=1_000)
    with pytest.raises(HubError) as caught:
        create("2507:Q3_K_M", system="bundled")
    assert "Devstral-Small-2507-Q3_K_M.gguf" in caught.value.what
    assert "run the command again" in caught.value.fix
    hub.heal()
    made = create("2507:Q3_K_M", name="second", check=False)
    for name in (made.name, made.build):
        server.delete(name)


# Files


@pytest.fixture
def tune(tmp_path: Path) -> Path:
    path = tmp_path / "devstral-2507-tune.gguf"
    write_miniature(path, layers=1, heads=1, kv_heads=1)
    return path


@pytest.mark.usefixtures("served")
def test_a_file_of_another_architecture_is_refused_before_it_is_sent(
    create: Create, tmp_path: Path
) -> None:
    path = tmp_path / "devstral-2507-not.gguf"
    write_miniature(path, layers=1, heads=1, kv_heads=1, architecture="qwen2")
    heard = Heard()
    with pytest.raises(UsageError, match=r"has the architecture 'qwen2'.*has 'llama'"):
        create(str(path), progress=heard)
    assert [each for each in heard.steps if each.startswith("uploading")] == []


@pytest.fixture(scope="module")
def foreign_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A hub where a Devstral's name stands for something else."""
    path = tmp_path_factory.mktemp("foreign") / "devstral-2507-Q4_K_M.gguf"
    write_miniature(path, layers=1, heads=1, kv_heads=1, architecture="qwen2")
    files = {path.name: Content.of(path)}
    with Hub([Repository("me/devstral-2507-GGUF", files, {"Q4_K_M": path.name}, "qwen2")]) as hub:
        yield hub


@pytest.mark.parametrize("via", ["server", "upload"])
@pytest.mark.usefixtures("served")
def test_a_hub_file_of_another_architecture_leaves_nothing_on_the_server(
    create: Create, foreign_hub: Hub, monkeypatch: pytest.MonkeyPatch, via: str
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", foreign_hub.endpoint)
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
        f"{foreign_hub.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
    )
    with pytest.raises(UsageError, match="has the architecture 'qwen2'"):
        create(
            "hf.co/me/devstral-2507-GGUF:Q4_K_M",
            via=via,
            registry=foreign_hub.registry,
            system="bundled",
        )


@pytest.mark.parametrize("via", ["server", "upload"])
@pytest.mark.usefixtures("served")
def test_a_context_beyond_the_files_own_leaves_nothing_on_the_server(
    create: Create, hub: Hub, via: str
) -> None:
    # The catalog has more for this release than the miniature's header says.
    with pytest.raises(UsageError, match="200000 tokens is more than the 131072 of"):
        create(
            "devstral-small-2-24b-instruct-2512:Q4_0",
            context=200_000,
            via=via,
            registry=hub.registry,
        )


@pytest.mark.parametrize("keep", [0, 3, 200, 2_000])
@pytest.mark.usefixtures("served")
def test_a_file_that_ends_inside_its_header_is_refused(
    create: Create, tune: Path, keep: int
) -> None:
    tune.write_bytes(tune.read_bytes()[:keep])
    with pytest.raises(FileProblem, match="not a GGUF file that can be used"):
        create(str(tune))


@pytest.mark.usefixtures("served")
def test_a_file_that_ends_inside_its_tensors_is_refused(create: Create, tune: Path) -> None:
    content = tune.read_bytes()
    tune.write_bytes(content[: len(content) // 2])
    with pytest.raises(DevstralError) as caught:
        create(str(tune))
    assert caught.value.what
    assert caught.value.fix


# Ends in the middle


class Saboteur(Heard):
    """Does something as soon as a step begins."""

    def __init__(self, step: str, act: Callable[[], None]) -> None:
        super().__init__()
        self._step = step
        self._act = act

    def step(self, text: str) -> None:
        super().step(text)
        if text.startswith(self._step):
            self._act()


@pytest.mark.parametrize(
    "step", ["download", "create ", "checking bos", "checking tool", "switch "]
)
def test_a_server_that_disappears_is_said_and_the_next_run_succeeds(
    create: Create, bed: OllamaServer, server: Server, step: str
) -> None:
    first = create(context=16_384, check=False)
    following = {"reference": "2507:Q5_K_S", "name": first.name}
    try:
        with pytest.raises(ServerError) as caught:
            create(**following, progress=Saboteur(step, bed.kill))
    finally:
        bed.start()
    assert isinstance(caught.value, ServerUnreachable) or "broke" in caught.value.what
    current = server.model(NAME)
    assert current is not None
    assert current.digest == first.digest

    second = create(**following)
    assert second.changed is True
    assert second.report is not None
    assert second.report.passed


@pytest.fixture(scope="module")
def large_hub() -> Iterator[Hub]:
    """A hub whose file comes in three parts of 100, 100 and 10 MB and a bit."""
    with Hub(devstral_repositories(heads=1, kv_heads=1, quants=[QUANT], filler=210_000_000)) as hub:
        yield hub


def test_a_server_killed_in_a_pull_goes_on_where_it_was_and_serves_as_before(
    create: Create, bed: OllamaServer, server: Server, large_hub: Hub
) -> None:
    old = create("2505:Q4_0", check=False)
    large_hub.fail("/blobs/", bytes_per_second=20_000_000)
    finished: dict[str, int] = {}

    def kill_after_the_last_part() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not finished:
            for path in (bed.models_dir / "blobs").glob("*-partial-2"):
                part = json.loads(path.read_text() or "{}")
                if part.get("Completed") == part.get("Size", -1):
                    finished.update(part)
            time.sleep(0.05)
        bed.kill()

    killer = threading.Thread(target=kill_after_the_last_part)
    killer.start()
    wish: dict[str, Any] = {"via": "server", "registry": large_hub.registry, "system": "bundled"}
    with pytest.raises(PullFailed, match="the server broke off while it pulled"):
        create(**wish)
    killer.join()
    bed.start()
    assert finished
    assert tool_calls(server, old.name) == ["get_current_weather"]
    assert model_names(server) == [old.name, old.build]

    large_hub.heal()
    large_hub.forget()
    made = create(**wish)
    assert made.report is not None
    assert made.report.passed
    starts = {
        int(each.range.removeprefix("bytes=").partition("-")[0])
        for each in large_hub.requests
        if each.range and each.path.startswith("/blobs/")
    }
    assert len(starts) == 2
    assert finished["Offset"] not in starts
    assert tool_calls(server, old.name) == ["get_current_weather"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("via", ["server", "upload"])
def test_an_interrupted_command_says_what_stands_and_the_next_goes_on(
    bed: OllamaServer,
    hub: Hub,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    via: str,
    number: int,
) -> None:
    monkeypatch.setenv("OLLAMA_HOST", bed.url)
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    command = ["create", QUANT, "--via", via, "--registry", hub.registry, "--no-check"]
    where = "/blobs/" if via == "server" else "/lfs/"
    hub.fail(where, bytes_per_second=50_000)
    process = subprocess.Popen(
        [sys.executable, "-m", "ollama_tools", *command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 30
    while not any(each.path.startswith(where) for each in hub.requests):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stdout) == (130, "")
    assert stderr.splitlines()[-3:] == [
        "interrupted",
        f"{NAME} is not on the server yet",
        "the same command goes on where this one stopped",
    ]
    assert server.models() == []

    hub.heal()
    done = run_cli(*command, server=bed.url, hub=hub)
    assert done.returncode == 0, done.stderr
    assert tool_calls(server, NAME) == ["get_current_weather"]


def test_an_interrupt_while_a_model_serves_says_that_it_serves_as_before(
    create: Create, server: Server
) -> None:
    first = create(check=False)

    def interrupt() -> None:
        raise KeyboardInterrupt

    for step in ("create ", "checking prompt", "switch "):
        with pytest.raises(KeyboardInterrupt) as caught:
            create(context=65_536, progress=Saboteur(step, interrupt))
        assert caught.value.__notes__[0] == f"{NAME} serves as before"
        current = server.model(NAME)
        assert current is not None
        assert current.digest == first.digest
        assert tool_calls(server, NAME) == ["get_current_weather"]
    assert create(context=65_536).changed is True


def test_the_library_raises_what_python_programs_catch(silent_port: int) -> None:
    with pytest.raises(ConnectionError):
        ensure_model(QUANT, host=f"127.0.0.1:{silent_port}")
    with pytest.raises(ValueError, match="has no quant"):
        ensure_model("2507:Q9")
