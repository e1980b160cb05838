"""The command lines of llama.cpp's programs, and what they are made of."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from docs.templates import complete, complete_templates
from ollama_tools.__main__ import run
from ollama_tools.devstral.carriers import CONTROL_TOKENS, complete_jinja, jinja_source
from ollama_tools.devstral.catalog import TokenizerVersion
from ollama_tools.devstral.catalog_file import load_catalog
from ollama_tools.devstral.system_prompt import BUNDLED, bundled
from ollama_tools.errors import DevstralError, UsageError
from ollama_tools.model.llama_cpp import CommandLine, command_line, raw_prompt
from ollama_tools.settings.llama_programs import LlamaTarget, find_llama_program, parse_help
from ollama_tools.wanted.wish import Wish
from tests.parity.conversation import Conversation, Message
from tests.parity.reference import reference

REFERENCE = "UD-Q4_K_XL"
TALKING = (LlamaTarget.CLI, LlamaTarget.COMPLETION, LlamaTarget.MTMD)
# What a llama-cli of May 2025 says of the options that matter here, as its README has them.
OLD_HELP = """\
----- common params -----

-h,    --help, --usage                  print usage and exit
--version                               show version and build info
-t,    --threads N                      number of threads to use during generation (default: -1)
--prio N                                set process/thread priority : 0-normal, 1-medium, 2-high,
                                        3-realtime (default: 0)
-c,    --ctx-size N                     size of the prompt context (default: 4096)
-fa,   --flash-attn                     enable Flash Attention (default: disabled)
                                        (env: LLAMA_ARG_FLASH_ATTN)
-p,    --prompt PROMPT                  prompt to start generation with
--no-escape                             do not process escape sequences
-ctk,  --cache-type-k TYPE              KV cache data type for K
-ctv,  --cache-type-v TYPE              KV cache data type for V
-ngl,  --gpu-layers, --n-gpu-layers N   number of layers to store in VRAM
-m,    --model FNAME                    model path (default: `models/$filename`
-hf,   -hfr, --hf-repo <user>/<model>[:quant]
                                        Hugging Face model repository
-s,    --seed SEED                      RNG seed (default: -1, use random seed for -1)
--temp N                                temperature (default: 0.8)
--top-k N                               top-k sampling (default: 40, 0 = disabled)
--top-p N                               top-p sampling (default: 0.9, 1.0 = disabled)
--min-p N                               min-p sampling (default: 0.1, 0.0 = disabled)
--repeat-penalty N                      penalize repeat sequence of tokens (default: 1.0)
-sysf, --system-prompt-file FNAME       a file containing the system prompt (default: none)
-st,   --single-turn                    run conversation for a single turn only
--jinja                                 use jinja template for chat (default: disabled)
--chat-template-file JINJA_TEMPLATE_FILE
                                        set custom jinja chat template file
"""


def line(target: LlamaTarget, **more: Any) -> CommandLine:
    wish = {key: more.pop(key) for key in list(more) if key in Wish.__dataclass_fields__}
    settings = more.pop("settings", {})
    return command_line(Wish(**{"reference": REFERENCE, **wish}), target, settings, **more)


def stand_in(directory: Path, name: str, said: str) -> str:
    """A program that says a help text; no old llama.cpp can be had that fast."""
    program = directory / name
    text = directory / "help.txt"
    text.write_text(said)
    program.write_text(
        f'#!/bin/sh\nif [ "$1" = --version ]; then echo "version: 5400 (c6a2c9e7)" >&2\n'
        f"else cat {shlex.quote(str(text))}\nfi\n"
    )
    program.chmod(0o755)
    return str(program)


# Templates


def test_the_complete_templates_are_what_their_source_says() -> None:
    for path, text in complete_templates().items():
        assert path.read_text(encoding="utf-8") == text, "run: make docs"
    files = {path.name for path in complete_jinja(TokenizerVersion.V13).parent.iterdir()}
    assert files == {path.name for path in complete_templates()}


@pytest.mark.parametrize("version", list(TokenizerVersion))
def test_they_differ_in_what_is_written_of_tools_alone(version: TokenizerVersion) -> None:
    ours = jinja_source(version).splitlines()
    full = complete_jinja(version).read_text(encoding="utf-8").splitlines()
    start = next(i for i, each in enumerate(ours) if "{#- available:" in each)
    begin = next(i for i, each in enumerate(full) if "{#- available:" in each)
    assert [each for each in full[:begin] if each not in ours] == [
        "    The complete form, for llama.cpp's own programs; written by `make docs`."
    ]
    rest = ours[ours.index("{%- endmacro -%}", start) :]
    assert full[full.index("{%- endmacro -%}", begin) :] == rest


def test_a_template_of_another_shape_is_not_made_complete_in_silence() -> None:
    for broken in ("", jinja_source(TokenizerVersion.V13).replace("available:", "tools:")):
        with pytest.raises(ValueError, match="another shape"):
            complete(broken)


# Command lines


def test_the_guides_line_for_a_conversation() -> None:
    assert line(LlamaTarget.CLI).shell.split(" \\\n    ") == [
        "llama-cli",
        "-hf unsloth/Devstral-Small-2507-GGUF:UD-Q4_K_XL",
        "--no-mmproj",
        "--threads -1",
        "--ctx-size 131072",
        "--cache-type-k q8_0",
        "--cache-type-v q8_0",
        "--n-gpu-layers 99",
        "--seed 3407",
        "--prio 2",
        "--temp 0.15",
        "--repeat-penalty 1",
        "--min-p 0.01",
        "--top-k 64",
        "--top-p 0.95",
        "--jinja",
        f"--chat-template-file {shlex.quote(str(complete_jinja(TokenizerVersion.V13)))}",
        f"--system-prompt-file {shlex.quote(str(BUNDLED))}",
    ]


def test_the_programs_drop_the_one_newline_at_the_end_of_the_bundled_prompt() -> None:
    assert BUNDLED.read_text(encoding="utf-8") == f"{bundled().text}\n"


def test_a_server_listens_on_loopback_with_one_slot_under_the_public_name() -> None:
    made = line(LlamaTarget.SERVER)
    assert made.arguments[made.arguments.index("--parallel") :] == [
        *("--parallel", "1", "--jinja"),
        *("--chat-template-file", str(complete_jinja(TokenizerVersion.V13))),
        *("--alias", "devstral-small-2507:UD-Q4_K_XL"),
        *("--host", "127.0.0.1", "--port", "8080"),
    ]
    assert "--system-prompt-file" not in made.arguments
    assert any("clients send theirs" in each for each in made.notes)


@pytest.mark.parametrize(
    ("host", "address", "port", "warned"),
    [
        ("localhost:9000", "localhost", "9000", False),
        ("gpu1", "gpu1", "8080", True),
        ("0.0.0.0", "0.0.0.0", "8080", True),
        ("0.0.0.0:80", "0.0.0.0", "80", True),
        (":8081", "0.0.0.0", "8081", True),
        ("[::1]:8080", "::1", "8080", False),
        ("[::]:8080", "::", "8080", True),
    ],
)
def test_where_it_listens(host: str, address: str, port: str, warned: bool) -> None:
    made = line(LlamaTarget.SERVER, settings={"host": host})
    assert made.arguments[-4:] == ["--host", address, "--port", port]
    assert any("--api-key-file" in each for each in made.notes) is warned


def test_what_a_person_says_wins_over_the_guide() -> None:
    made = line(
        LlamaTarget.CLI,
        context="64k",
        parameters={"temperature": 0.3, "seed": 1, "num_gpu": 20, "num_predict": 100},
        system="",
        settings={"kv_cache_type": "f16"},
    ).arguments
    for words in (
        ("--ctx-size", "65536"),
        ("--temp", "0.3"),
        ("--seed", "1"),
        ("--n-gpu-layers", "20"),
        ("--predict", "100"),
        ("--cache-type-k", "f16"),
        ("--cache-type-v", "f16"),
    ):
        assert made.count(words[0]) == 1
        assert made[made.index(words[0]) + 1] == words[1]
    assert "--system-prompt-file" not in made


@pytest.mark.parametrize(
    ("reference", "model"),
    [
        ("2505:Q4_K_M", ["-hf", "unsloth/Devstral-Small-2505-GGUF:Q4_K_M", "--no-mmproj"]),
        ("hf.co/me/devstral-2507-GGUF:Q8_0", ["-hf", "me/devstral-2507-GGUF:Q8_0", "--no-mmproj"]),
        (
            "hf.co/me/devstral-2507-GGUF:tune.gguf",
            ["-hf", "me/devstral-2507-GGUF", "-hff", "tune.gguf", "--no-mmproj"],
        ),
        ("./devstral-2507.gguf", ["-m", "devstral-2507.gguf"]),
    ],
)
def test_the_weights_come_from_where_the_reference_says(reference: str, model: list[str]) -> None:
    arguments = line(LlamaTarget.CLI, reference=reference).arguments[1:]
    assert arguments[: arguments.index("--threads")] == model
    v7 = "2505" in reference
    version = TokenizerVersion.V7 if v7 else TokenizerVersion.V13
    assert str(complete_jinja(version)) in arguments


@pytest.mark.parametrize("target", list(LlamaTarget))
def test_only_the_program_for_images_brings_a_projector_unasked(target: LlamaTarget) -> None:
    prompt = "Hi" if target is LlamaTarget.COMPLETION else None
    # llama-completion knows none, and no option against it.
    spared = target not in (LlamaTarget.MTMD, LlamaTarget.COMPLETION)
    assert ("--no-mmproj" in line(target, prompt=prompt).arguments) is spared


@pytest.mark.parametrize("more", [["--image", "a.png"], ["--mmproj", "p.gguf"]])
def test_who_shows_an_image_or_names_a_projector_gets_one(more: list[str]) -> None:
    assert "--no-mmproj" not in line(LlamaTarget.CLI, more=more).arguments


@pytest.mark.parametrize("target", TALKING)
def test_a_shell_gives_the_program_the_same_arguments(target: LlamaTarget, tmp_path: Path) -> None:
    system = tmp_path / 'it\'s a "prompt" $HOME.txt'
    system.write_text("Say `this`, $(that)\nand 'those'.\n")
    prompt = "a \\n b\n$HOME `id` \"x\" 'y' ü\t"
    made = line(target, system=system, prompt=prompt, more=["--image", "a b.png"])
    shell = f"show() {{ for each; do printf '%s\\0' \"$each\"; done; }}\nshow {made.shell}"
    done = subprocess.run(["/bin/sh", "-c", shell], capture_output=True, check=True)
    assert done.stdout.decode().split("\0")[:-1] == made.arguments


def test_a_file_that_no_program_would_read_as_we_do_is_said_by_its_text(tmp_path: Path) -> None:
    system = tmp_path / "system.txt"
    system.write_bytes(b"One\r\nTwo\r\n\r\n")
    made = line(LlamaTarget.CLI, system=system).arguments
    assert made[made.index("--system-prompt") + 1] == "One\nTwo"
    system.write_text("One\nTwo\n")
    made = line(LlamaTarget.CLI, system=system).arguments
    assert made[made.index("--system-prompt-file") + 1] == str(system)


@pytest.mark.parametrize("target", TALKING)
def test_backslashes_of_a_prompt_stay(target: LlamaTarget) -> None:
    made = line(target, prompt=r"print('\n')", more=["--image", "x"]).arguments
    assert "--no-escape" in made
    assert r"print('\n')" in made[made.index("--prompt") + 1]


@pytest.mark.parametrize(
    ("target", "more", "what"),
    [
        (LlamaTarget.CLI, {"reference": "my-own:model", "release": "2507"}, "on an Ollama server"),
        (
            LlamaTarget.CLI,
            {"reference": f"UD-Q4_K_XL@sha256:{'0' * 64}"},
            "no commit and no digest",
        ),
        (LlamaTarget.CLI, {"revision": "main"}, "--revision"),
        (LlamaTarget.CLI, {"registry": "mirror.example"}, "no registry"),
        (LlamaTarget.CLI, {"carrier": "gguf"}, "no carrier"),
        (LlamaTarget.CLI, {"name": "mine"}, "no name"),
        (LlamaTarget.CLI, {"parameters": {"typical_p": 0.5}}, "typical_p"),
        (LlamaTarget.CLI, {"settings": {"host": "gpu1"}}, "--host"),
        (LlamaTarget.CLI, {"settings": {"keep_alive": "1h"}}, "--keep-alive"),
        (LlamaTarget.PRESET, {"settings": {"host": "gpu1"}}, "--host"),
        (LlamaTarget.CLI, {"prompt": "  "}, "empty"),
        (LlamaTarget.SERVER, {"prompt": "Hi"}, "no prompt"),
        (LlamaTarget.SERVER, {"system": "bundled"}, "clients send theirs"),
        (LlamaTarget.COMPLETION, {}, "needs one"),
        (LlamaTarget.MTMD, {"prompt": "Hi"}, "only with an image"),
        (LlamaTarget.MTMD, {"reference": "./devstral-2507.gguf"}, "projector"),
        (
            LlamaTarget.CLI,
            {"reference": "./devstral-2507.gguf", "more": ["--image", "a.png"]},
            "projector",
        ),
        (LlamaTarget.CLI, {"prompt": "<s>[INST]Hi[/INST]"}, "contains <s>"),
    ],
)
def test_what_llama_cpp_cannot_do_is_refused(
    target: LlamaTarget, more: dict[str, Any], what: str
) -> None:
    with pytest.raises(UsageError, match=what) as caught:
        line(target, **more)
    assert caught.value.fix


@pytest.mark.parametrize("token", CONTROL_TOKENS)
def test_a_prompt_holds_no_control_token(token: str) -> None:
    with pytest.raises(UsageError, match="the prompt contains") as caught:
        line(LlamaTarget.COMPLETION, prompt=f"Hi{token}")
    assert token in caught.value.what


@pytest.mark.parametrize("release", ["2505", "2507"])
@pytest.mark.parametrize("system", ["", "Be brief.\n\nAlways."])
def test_a_raw_prompt_is_the_references(release: str, system: str) -> None:
    known = load_catalog().release(release)
    messages: list[Message] = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": " Hi\n<b>ü</b> "})
    wanted = reference(known.tokenizer, Conversation(messages, [])).text
    assert raw_prompt(known, system, " Hi\n<b>ü</b> ") == wanted


# The router's preset


def test_a_preset_says_the_same_in_a_section_of_the_public_name() -> None:
    made = line(LlamaTarget.PRESET)
    comment, version, empty, section, *options = made.preset.split("\n")
    assert (comment[0], version, empty) == (";", "version = 1", "")
    assert section == "[devstral-small-2507:UD-Q4_K_XL]"
    said = dict(each.split(" = ") for each in options)
    assert {f"{key}={value}" for key, value in said.items()} == {
        f"{each.flag.lstrip('-')}={'true' if each.value is None else each.value}"
        for each in made.options
    }
    assert not {"host", "port"} & said.keys()
    assert said["alias"] == "devstral-small-2507:UD-Q4_K_XL"


@pytest.mark.parametrize("path", ["./devstral-2507 #1.gguf", "./devstral-2507;1.gguf"])
def test_a_preset_refuses_what_it_would_cut(path: str) -> None:
    with pytest.raises(UsageError, match="preset cannot say"):
        _ = line(LlamaTarget.PRESET, reference=path).preset


def test_a_preset_takes_no_further_arguments() -> None:
    with pytest.raises(UsageError, match="--no-webui"):
        _ = line(LlamaTarget.PRESET, more=["--no-webui"]).preset


# Programs and their versions


def test_options_are_read_of_a_help_text_and_not_of_what_it_says_about_them() -> None:
    known = parse_help(f"{OLD_HELP}{' ' * 40}(unless --nosuch is set before this flag)\n")
    assert known["-fa"] is known["--flash-attn"] is False
    assert known["--hf-repo"] is known["-hf"] is known["--n-gpu-layers"] is True
    assert known["--jinja"] is False
    assert "--nosuch" not in known
    new = parse_help("-fa,   --flash-attn [on|off|auto]       set Flash Attention use")
    assert new == {"-fa": True, "--flash-attn": True}


def test_the_line_suits_an_older_version(tmp_path: Path) -> None:
    program = find_llama_program("llama-cli", stand_in(tmp_path, "llama-cli", OLD_HELP))
    assert program.version == "5400 (c6a2c9e7)"
    made = line(LlamaTarget.CLI).suited(program)
    assert made.arguments[:2] == [program.path, "--flash-attn"]
    assert "--no-mmproj" not in made.arguments
    plain = line(LlamaTarget.CLI, settings={"kv_cache_type": "f16"}).suited(program)
    assert "--flash-attn" not in plain.arguments


def test_a_version_without_an_option_is_too_old(tmp_path: Path) -> None:
    older = OLD_HELP.replace("--chat-template-file", "--chat-template")
    program = find_llama_program("llama-cli", stand_in(tmp_path, "llama-cli", older))
    with pytest.raises(UsageError, match=r"5400.* has no --chat-template-file") as caught:
        line(LlamaTarget.CLI).suited(program)
    assert "upgrade llama.cpp" in caught.value.fix


def test_a_program_that_is_not_there_is_said_with_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="no program 'llama-completion'") as caught:
        find_llama_program("llama-completion")
    assert "brew install llama.cpp" in caught.value.fix
    stand_in(tmp_path, "llama-cli", OLD_HELP)
    with pytest.raises(UsageError) as caught:
        find_llama_program("llama-completion")
    assert f"{tmp_path} has llama-cli but no llama-completion" in caught.value.fix


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("#!/bin/sh\necho hello\n", "no program of llama.cpp"),
        ("#!/nosuch/shell\n", "cannot run"),
    ],
)
def test_another_program_is_not_taken_for_one(tmp_path: Path, text: str, what: str) -> None:
    other = tmp_path / "llama-cli"
    other.write_text(text)
    other.chmod(0o755)
    with pytest.raises(DevstralError, match=what):
        find_llama_program("llama-cli", str(other))


# The command


def test_a_prompt_by_itself_is_printed_raw(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["render", "--prompt", "Hi", "--no-system"]) == 0
    assert capsys.readouterr().out == "[INST]Hi[/INST]\n"
    assert run(["render", "--prompt", "Hi", "--json"]) == 0
    prompt = json.loads(capsys.readouterr().out)["prompt"]
    assert prompt == f"[SYSTEM_PROMPT]{bundled().text}[/SYSTEM_PROMPT][INST]Hi[/INST]"


def test_run_becomes_the_program(tmp_path: Path) -> None:
    program = stand_in(tmp_path, "llama-cli", OLD_HELP)
    Path(program).write_text(
        f'#!/bin/sh\ncase "$1" in --version) echo "version: 1";; --help) cat {tmp_path}/help.txt;; '
        '*) printf "%s\\n" "$@";; esac\n'
    )
    command = ["render", REFERENCE, "--target", "llama-cli", "--run", "--program", program]
    done = subprocess.run(
        [sys.executable, "-m", "ollama_tools", *command, "--prompt", "Hi", "--", "--more", "x"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-5:] == ["--no-escape", "--prompt", "Hi", "--more", "x"]
    assert "--flash-attn \\\n" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--target", "llama-cli"], "llama-cli needs a model"),
        (["--target", "llama-clip", REFERENCE], "no target 'llama-clip'"),
        ([REFERENCE, "--run"], "for a program of llama.cpp"),
        ([REFERENCE, "--", "--more"], "for a program of llama.cpp"),
        (["--target", "systemd", "--program", "x"], "for a program of llama.cpp"),
        (["--target", "systemd", "--prompt", "Hi"], "--prompt is for itself"),
        (["--prompt", "Hi", "--context", "64k"], "not of context"),
        ([REFERENCE, "--target", "llama-server-preset", "--run"], "nothing that runs"),
        ([REFERENCE, "--target", "llama-cli", "--ollama-version", "0.34.4"], "--ollama-version"),
        ([REFERENCE, "--target", "llama-cli", "--run", "--program", "/nosuch"], "no program"),
    ],
)
def test_what_cannot_be_is_one_error_of_two_lines(
    arguments: list[str], what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["render", *arguments]) == 2
    error, fix = capsys.readouterr().err.splitlines()
    assert what in error
    assert fix.startswith("fix: ")
