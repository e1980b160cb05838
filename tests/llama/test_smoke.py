"""Smoke on llama-server: what is right passes, and what is wrong is named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ollama_tools import smoke
from ollama_tools.__main__ import run
from ollama_tools.checks.result import Report, Status
from ollama_tools.devstral.carriers import complete_jinja
from ollama_tools.devstral.catalog import TokenizerVersion
from ollama_tools.devstral.miniature import CallForm, Script, write_miniature
from ollama_tools.errors import ModelNotFound, ServerError, ServerUnreachable, UsageError
from ollama_tools.files.packaged import data_path
from tests.testbed.build import ollama_build
from tests.testbed.projector import write_projector
from tests.testbed.server import LlamaServer

V13, V7 = TokenizerVersion.V13, TokenizerVersion.V7
TOKENS = 300


@contextmanager
def served(
    directory: Path,
    *more: str,
    template: Path | None = None,
    form: CallForm = "v13",
    name: str = "devstral-2507",
) -> Iterator[LlamaServer]:
    model = directory / f"{name}.gguf"
    write_miniature(model, layers=1, heads=1, kv_heads=1, name=name, script=Script(form=form))
    jinja = template or complete_jinja(TokenizerVersion(form))
    program = ollama_build().llama_server
    assert program is not None
    arguments = ("-m", model, "-c", "8192", "-np", "1", "--jinja", "--chat-template-file", jinja)
    log = directory / "llama-server.log"
    with LlamaServer(program, (*arguments, *more), log_path=log) as bed:
        yield bed


def failed(report: Report) -> set[str]:
    return {each.id for each in report.failures}


@pytest.mark.parametrize(("form", "name"), [("v13", "devstral-2507"), ("v7", "devstral-2505")])
def test_what_render_prints_passes_every_check(tmp_path: Path, form: CallForm, name: str) -> None:
    sees = form == "v13"
    write_projector(tmp_path / "mmproj.gguf")
    more = ("--cache-type-k", "q8_0", "--log-verbosity", "4")
    eyes = ("--mmproj", str(tmp_path / "mmproj.gguf")) if sees else ()
    with served(tmp_path, *more, *eyes, form=form, name=name) as bed:
        report = smoke(llama_server=bed.url, prompt_tokens=TOKENS, log=bed.log_path)
    assert failed(report) == set()
    status = {each.id: each.status for each in report.checks}
    assert set(status.values()) == {Status.PASS}
    assert report.version.endswith("7e4c0a9")
    kv = next(each for each in report.checks if each.id == "kv-cache")
    assert kv.saw.startswith("q8_0 (log: ")
    gpu = next(each for each in report.checks if each.id == "gpu")
    assert gpu.saw.startswith("on the processor (the server's log)")
    surfaces = {each.split()[1] for each in status if each.startswith("tool-call")}
    assert surfaces == {"/v1/chat/completions", "/v1/responses", "/v1/messages"}
    assert {each.split()[1] for each in status if each.startswith("image")} == (
        surfaces if sees else set()
    )
    vision = next(each for each in report.checks if each.id == "vision")
    assert vision.saw.startswith("sees images: " if sees else "sees no images: it has no projector")


def test_the_form_for_ollama_and_a_missing_card_are_found_out(tmp_path: Path) -> None:
    ours = data_path("templates", "v13.jinja")
    with served(tmp_path, "--log-verbosity", "4", template=ours) as bed:
        report = smoke(
            llama_server=bed.url, prompt_tokens=TOKENS, log=bed.log_path, require_gpu=True
        )
    assert failed(report) == {"tool-schema", "gpu"}
    [check] = [each for each in report.failures if each.id == "tool-schema"]
    assert "--target llama-server" in check.fix


def test_another_template_is_found_out(tmp_path: Path) -> None:
    with served(tmp_path, template=complete_jinja(V7)) as bed:
        report = smoke(llama_server=bed.url, prompt_tokens=TOKENS)
    assert "prompt" in failed(report)


def test_a_small_context_and_several_slots_are_said(tmp_path: Path) -> None:
    with served(tmp_path, "-np", "4") as bed:
        report = smoke(llama_server=bed.url)
    assert {"context", "long-prompt"} <= failed(report)
    slots = next(each for each in report.checks if each.id == "slots")
    assert (slots.status, slots.fix) == (Status.WARN, "start it with --parallel 1")


def test_the_command_prints_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("--prompt-tokens", str(TOKENS), "--json")
    with served(tmp_path, "--alias", "mine", name="x") as bed:
        # People have an agent's address at hand, and OLLAMA_HOST set.
        command = ["smoke", "--llama-server", f"{bed.url}/v1", *asked]
        assert run(command) == 2
        assert "name it by --release" in json.loads(capsys.readouterr().out)["fix"]
        assert run([*command, "--release", "2507"]) == 0
        document = json.loads(capsys.readouterr().out)
        assert (document["subject"], document["server"]) == ("mine", bed.url)
        assert run(["smoke", "other", "--llama-server", bed.url, *asked]) == 1
        assert "it serves mine" in json.loads(capsys.readouterr().out)["fix"]


def test_a_key_is_sent(tmp_path: Path) -> None:
    with served(tmp_path, "--api-key", "sesame") as bed:
        with pytest.raises(ServerError, match="401") as caught:
            smoke(llama_server=bed.url)
        assert "sesame" not in str(caught.value)
        report = smoke(llama_server=bed.url, api_key="sesame", prompt_tokens=TOKENS)
    assert failed(report) == set()


def test_where_none_listens_it_is_said_of_llama_server() -> None:
    with pytest.raises(ServerUnreachable, match="no llama-server answers") as caught:
        smoke(llama_server="127.0.0.1:9")
    assert "llama-server" in caught.value.fix


def test_two_servers_or_none_are_refused() -> None:
    with pytest.raises(UsageError, match="names one server, and there is another"):
        smoke(host="gpu1", llama_server="gpu1:8080")
    with pytest.raises(UsageError, match="names one server, and there is another"):
        smoke(gateway="gpu1:11435", llama_server="gpu1:8080")
    with pytest.raises(UsageError, match="needs the name"):
        smoke()


def test_an_ollama_server_is_no_llama_server(tmp_path: Path) -> None:
    from tests.testbed.server import OllamaServer

    log = tmp_path / "ollama.log"
    with OllamaServer(ollama_build(), models_dir=tmp_path / "models", log_path=log) as bed:
        with pytest.raises((ServerError, UsageError)) as caught:
            smoke(llama_server=bed.url)
        assert not isinstance(caught.value, ModelNotFound)
        assert caught.value.fix
