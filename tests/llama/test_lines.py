"""Every printed command line on today's programs: it runs, means what it should, and ends."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from ollama_tools.devstral.carriers import complete_jinja
from ollama_tools.devstral.catalog import TokenizerVersion
from ollama_tools.devstral.miniature import write_miniature
from ollama_tools.devstral.system_prompt import bundled
from ollama_tools.settings.llama_programs import LlamaTarget, find_llama_program
from tests.llama.conftest import SECONDS, Shell
from tests.parity.conversation import from_openai
from tests.parity.reference import reference
from tests.testbed.hub import Hub
from tests.testbed.projector import write_projector
from tests.testbed.server import LlamaServer, Served

ANSWER = "Hello from the miniature."
RELEASES = {"UD-Q4_K_XL": TokenizerVersion.V13, "2505:Q4_K_M": TokenizerVersion.V7}
# What a shell, Jinja, llama.cpp's escapes and its own templates could each make something else of.
PROMPT = "Print '\\n' and \"$HOME\",\nthen {{ this }} ü."


def prompt_of(version: TokenizerVersion, system: str, said: str = PROMPT) -> str:
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": said})
    return reference(version, from_openai({"messages": messages})).text


@pytest.mark.parametrize("asked", RELEASES)
def test_llama_cli_answers_one_prompt_and_ends(shell: Shell, asked: str) -> None:
    logs = shell.directory / "prompts"
    more = ("--", "--log-prompts-dir", str(logs))
    done = shell.run(shell.printed(asked, "--target", "llama-cli", "--prompt", PROMPT, *more))
    assert done.returncode == 0, done.stderr
    assert ANSWER in done.stdout
    [log] = logs.iterdir()
    assert log.read_text() == prompt_of(RELEASES[asked], bundled().text or "")
    model, *_ = re.findall(r"modalities : (.*)", done.stdout)
    assert model == "text"


def test_llama_cli_talks_until_it_is_told_to_go(shell: Shell) -> None:
    logs = shell.directory / "prompts"
    more = ("--", "--log-prompts-dir", str(logs))
    line = shell.printed("UD-Q4_K_XL", "--target", "llama-cli", "--no-system", *more)
    done = shell.run(line, "Hi\nAgain\n/exit\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(ANSWER) == 2
    asked = [{"role": "user", "content": "Hi"}]
    again = [
        *asked,
        {"role": "assistant", "content": ANSWER},
        {"role": "user", "content": "Again"},
    ]
    assert sorted((each.read_text() for each in logs.iterdir()), key=len) == [
        reference(TokenizerVersion.V13, from_openai({"messages": each})).text
        for each in (asked, again)
    ]


@pytest.mark.parametrize("asked", RELEASES)
def test_llama_completion_goes_on_with_the_raw_prompt(shell: Shell, asked: str) -> None:
    line = shell.printed(asked, "--target", "llama-completion", "--prompt", PROMPT, "--no-system")
    done = shell.run(f"{line.rstrip()} --verbose-prompt")
    assert done.returncode == 0, done.stderr
    assert ANSWER in done.stdout
    wanted = prompt_of(RELEASES[asked], "")
    assert shell.printed(asked, "--prompt", PROMPT, "--no-system") == f"{wanted}\n"
    assert f"prompt: '{wanted}'" in done.stderr
    ids = [int(each) for each in re.findall(r" I +(\d+) -> '", done.stderr)]
    assert (ids[:2], ids.count(1), ids[-1]) == ([1, 3], 1, 4)


def test_llama_mtmd_cli_answers_about_an_image(shell: Shell, image: Path) -> None:
    what = ("UD-Q4_K_XL", "--target", "llama-mtmd-cli", "--no-system", "--prompt", "What is this?")
    done = shell.run(shell.printed(*what, "--", "--image", str(image), "--verbose"))
    assert done.returncode == 0, done.stderr
    assert ANSWER in done.stdout
    assert "formatted_chat.prompt: [INST]<__media__>What is this?[/INST]\n" in done.stderr
    # Embeddings of 8 by 6 patches of 14 pixels, two and two merged, with a break after each row.
    assert "output embedding shape [32, 14, 1]" in done.stderr


def test_llama_cli_sees_an_image_too(shell: Shell, image: Path) -> None:
    what = ("UD-Q4_K_XL", "--target", "llama-cli", "--no-system", "--prompt", "What is this?")
    done = shell.run(shell.printed(*what, "--", "--image", str(image)))
    assert done.returncode == 0, done.stderr
    assert f"Loaded media from '{image}'" in done.stdout
    assert ANSWER in done.stdout


def test_llama_mtmd_cli_has_the_system_prompt_too(shell: Shell, image: Path) -> None:
    model, projector = shell.directory / "my-devstral-2507.gguf", shell.directory / "mmproj.gguf"
    write_miniature(model, layers=1, heads=1, kv_heads=1)
    write_projector(projector)
    said = ("--target", "llama-mtmd-cli", "--prompt", "What?", "--", "--verbose")
    # The projector lies beside the model.
    done = shell.run(shell.printed(f"./{model.name}", *said, "--image", str(image)))
    assert done.returncode == 0, done.stderr
    assert f"add_text: [SYSTEM_PROMPT]{bundled().text}[/SYSTEM_PROMPT]\n" in done.stderr


def test_a_file_of_ones_own_is_run_as_it_is(shell: Shell) -> None:
    model = shell.directory / "my devstral-2507.gguf"
    write_miniature(model, layers=1, heads=1, kv_heads=1)
    what = (f"./{model.name}", "--target", "llama-cli", "--prompt", "Hi")
    done = shell.run(shell.printed(*what, "--kv-cache-type", "q4_0"))
    assert done.returncode == 0, done.stderr
    assert ANSWER in done.stdout


def test_only_what_is_for_images_fetches_the_projector(shell: Shell, session_hub: Hub) -> None:
    def fetched() -> set[str]:
        paths = {each.path.rpartition("/")[2] for each in session_hub.requests}
        return {each for each in paths if each.endswith(".gguf")}

    shell.run(shell.printed("UD-Q4_K_XL", "--target", "llama-cli", "--prompt", "Hi"))
    assert fetched() == {"Devstral-Small-2507-UD-Q4_K_XL.gguf"}
    shell.run(shell.printed("UD-Q4_K_XL", "--target", "llama-completion", "--prompt", "Hi"))
    assert fetched() == {"Devstral-Small-2507-UD-Q4_K_XL.gguf"}


class Pasted(Served):
    """A llama-server that a printed line starts."""

    HEALTH = LlamaServer.HEALTH
    TAKEN = LlamaServer.TAKEN

    def __init__(self, shell: Shell, line: str) -> None:
        super().__init__(line, log_path=shell.directory / "server.log", env=shell.env)

    def _command(self) -> list[str | Path]:
        line = re.sub(r"--port \d+", f"--port {self.port}", self.label)
        return ["/bin/sh", "-c", f"exec {line}"]


@contextmanager
def started(shell: Shell, line: str) -> Iterator[httpx.Client]:
    # A router closes connections on which it has said that it keeps them.
    headers = {"Connection": "close"}
    with (
        Pasted(shell, line) as bed,
        httpx.Client(base_url=bed.url, timeout=SECONDS, headers=headers) as client,
    ):
        yield client


@pytest.mark.parametrize("asked", RELEASES)
def test_llama_server_serves_by_our_template(shell: Shell, asked: str) -> None:
    version = RELEASES[asked]
    with started(shell, shell.printed(asked, "--target", "llama-server")) as client:
        props = client.get("/props").json()
        assert props["total_slots"] == 1
        assert props["default_generation_settings"]["n_ctx"] == 131072
        template = complete_jinja(version).read_text(encoding="utf-8")
        assert props["chat_template"].rstrip("\n") == template.rstrip("\n")
        params = props["default_generation_settings"]["params"]
        assert (params["top_k"], params["seed"]) == (64, 3407)
        [model] = client.get("/v1/models").json()["data"]
        assert model["id"].startswith("devstral-small-")
        body = {"model": model["id"], "messages": [{"role": "user", "content": "Hi"}]}
        answer = client.post("/v1/chat/completions", json=body).json()
        assert answer["choices"][0]["message"]["content"] == ANSWER


def test_a_router_serves_the_preset_under_the_public_name(shell: Shell) -> None:
    preset = shell.directory / "devstral.ini"
    preset.write_text(shell.printed("UD-Q4_K_XL", "--target", "llama-server-preset"))
    # The preset's own first line says how it is used.
    line = preset.read_text().splitlines()[0].partition(", for: ")[2]
    line = line.replace("FILE", shlex.quote(str(preset)))
    with started(shell, f"{line} --port 8080") as client:
        name = "devstral-small-2507:UD-Q4_K_XL"
        models = client.get("/v1/models").json()["data"]
        assert [each["aliases"] for each in models if each["aliases"]] == [[name]]
        body = {"model": name, "messages": [{"role": "user", "content": "Hi"}]}
        answer = client.post("/v1/chat/completions", json=body).json()
        assert answer["choices"][0]["message"]["content"] == ANSWER
        props = client.get("/props", params={"model": "devstral-small-2507:Q4_K_XL"}).json()
        assert props["total_slots"] == 1
        assert "The complete form" in props["chat_template"]


def test_run_starts_the_program_and_its_end_is_ours(shell: Shell) -> None:
    command = f"{shlex.quote(sys.executable)} -m ollama_tools render UD-Q4_K_XL --target llama-cli"
    root = Path(__file__).parents[2]
    done = shell.run(f"PYTHONPATH={shlex.quote(str(root))} {command} --run --prompt Hi")
    assert done.returncode == 0, done.stderr
    assert ANSWER in done.stdout
    missing = shell.run(f"PYTHONPATH={shlex.quote(str(root))} {command} --run -- --nosuch")
    assert missing.returncode != 0
    assert "--nosuch" in missing.stderr


@pytest.mark.parametrize("name", sorted({each.program for each in LlamaTarget}))
def test_todays_programs_know_every_option(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("PATH", shell.env["PATH"])
    program = find_llama_program(name)
    assert "7e4c0a9" in program.version
    assert program.flags["--flash-attn"] is True
    assert len(program.flags) > 150
