"""What a tune's header says, what is mended in it, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ollama_tools.devstral.carriers import jinja_template
from ollama_tools.devstral.catalog import TokenizerVersion
from ollama_tools.devstral.catalog_file import load_catalog
from ollama_tools.devstral.header import (
    SETTINGS,
    faults_of,
    header_faults,
    rewriting,
    template_family,
    told_release,
)
from ollama_tools.devstral.miniature import write_miniature
from ollama_tools.devstral.reference import parse_reference
from ollama_tools.devstral.vocabulary import base_tokens
from ollama_tools.errors import FileProblem, UsageError
from ollama_tools.files.gguf import read_header
from ollama_tools.files.gguf_rewrite import Setting, rewrite
from ollama_tools.files.gguf_writer import Value
from ollama_tools.files.packaged import data_path
from ollama_tools.model.llama_cpp import command_line
from ollama_tools.model.render import render
from ollama_tools.settings.llama_programs import LlamaTarget
from ollama_tools.wanted.draft import offline_facts
from ollama_tools.wanted.wish import Wish
from tests.testbed.models import TEMPLATES
from tests.testbed.tunes import CHATML, SHAPE, SOUND, spoil, write_header
from tests.tune_faults import TUNES, Tune, rows

CATALOG = load_catalog(data_path("catalog.yaml"))
RELEASE = CATALOG.release("2507")
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "fine-tune.md"
OURS = jinja_template(TokenizerVersion.V13)


def test_the_table_of_faults_in_the_page_is_what_becomes_of_them(tmp_path: Path) -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert "\n".join(rows(tmp_path)) in text, "python -m tests.tune_faults prints it"


@pytest.mark.parametrize("keep", [None, True])
@pytest.mark.parametrize("tune", TUNES, ids=lambda tune: tune.what)
def test_what_is_said_to_be_mended_is_sound_afterwards(
    tune: Tune, tmp_path: Path, *, keep: bool | None
) -> None:
    outcome = tune.outcome(tmp_path, keep=keep)
    path = tune.write(tmp_path)
    if "refused" in outcome:
        with pytest.raises(UsageError):
            offline_facts(
                parse_reference(str(path), CATALOG),
                Wish(reference=str(path), release="2507", keep_template=keep),
                CATALOG,
            )
        return
    asked = rewriting(None if keep else OURS, keeps_template=bool(keep))
    mended = tmp_path / "mended.gguf"
    mended.write_bytes(b"".join(rewrite(path, asked).chunks()))
    header = read_header(mended)
    assert faults_of(header, RELEASE, keeps_template=bool(keep)) == []
    assert ("mended" in outcome) == (
        faults_of(read_header(path), RELEASE, keeps_template=bool(keep)) != []
    )
    own = read_header(path).chat_template
    assert header.chat_template == (own if keep else OURS)
    assert rewrite(mended, asked).is_unchanged


def test_a_sound_header_stays_byte_for_byte_whatever_stands_behind_it(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    write_miniature(path, layers=1, heads=1, kv_heads=1, chat_template=CHATML, filler=77)
    rewritten = rewrite(path, rewriting(None))
    assert rewritten.is_unchanged
    assert b"".join(rewritten.chunks()) == path.read_bytes()


def test_another_value_is_written_in_its_place_and_all_else_stays(tmp_path: Path) -> None:
    path, target = tmp_path / "x.gguf", tmp_path / "y.gguf"
    write_miniature(path, layers=1, heads=1, kv_heads=1, chat_template=CHATML)
    wrong = Setting("tokenizer.ggml.eos_token_id", 11), Setting("tokenizer.ggml.pre", "default")
    assert read_header(spoil(path, target, *wrong)).metadata["tokenizer.ggml.eos_token_id"] == 11
    rewritten = rewrite(target, rewriting(None))
    assert not rewritten.is_unchanged
    assert b"".join(rewritten.chunks()) == path.read_bytes()


def test_what_a_server_does_not_tell_is_no_fault() -> None:
    assert header_faults({"general.architecture": "llama"}, TokenizerVersion.V13) == []


# Which Devstral it is


@pytest.mark.parametrize(
    ("name", "changes", "release", "by"),
    [
        ("unsloth.Q4_K_M.gguf", {"general.name": "Devstral Small 2505"}, "2505", "general.name"),
        (
            "devstral-small-2507.Q8_0.gguf",
            {"general.base_model.0.name": "Devstral Small 2505"},
            "2505",
            "general.base_model.0.name",
        ),
        (
            "model.gguf",
            {
                "general.base_model.0.repo_url": "https://huggingface.co/mistralai/Devstral-Small-2507"
            },
            "2507",
            "general.base_model.0.repo_url",
        ),
        ("my-devstral-2505-tune.gguf", {}, "2505", "its name"),
        ("unsloth.Q4_K_M.gguf", SHAPE, "2507", "its shape and vocabulary"),
        (
            "unsloth.Q4_K_M.gguf",
            {
                **SHAPE,
                "tokenizer.ggml.tokens": [
                    each if each != "[ARGS]" else "<SPECIAL_32>" for each in base_tokens()
                ],
            },
            "2505",
            "its shape and vocabulary",
        ),
    ],
)
def test_the_header_tells_which_devstral_a_file_is(
    tmp_path: Path, name: str, changes: dict[str, Any], release: str, by: str
) -> None:
    path = write_header(tmp_path / name, **changes)
    told = told_release(read_header(path), Path(name), CATALOG)
    assert told is not None
    assert told.release == CATALOG.release(release)
    assert told.by.startswith(by)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {**SHAPE, "llama.block_count": 32},
        {**SHAPE, "tokenizer.ggml.tokens": ["a", "b", "c", "d", "e"]},
        {"general.name": "Mistral Small 2507"},
    ],
)
def test_what_nothing_tells_is_asked_for(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = write_header(tmp_path / "unsloth.Q4_K_M.gguf", **changes)
    assert told_release(read_header(path), Path(path.name), CATALOG) is None
    with pytest.raises(UsageError, match="nothing tells which Devstral"):
        offline_facts(parse_reference(str(path), CATALOG), Wish(reference=str(path)), CATALOG)


def test_a_person_knows_better_than_the_header(tmp_path: Path) -> None:
    path = write_header(tmp_path / "x.gguf", **{"general.name": "Devstral Small 2507"})
    wish = Wish(reference=str(path), release="2505")
    assert offline_facts(parse_reference(str(path), CATALOG), wish, CATALOG).release.tokenizer is (
        TokenizerVersion.V7
    )


# Whose template it is


@pytest.mark.parametrize("path", sorted(TEMPLATES.glob("*.jinja")), ids=lambda path: path.name)
def test_published_templates_are_of_no_other_family(path: Path) -> None:
    assert template_family(path.read_text(encoding="utf-8")) is None


@pytest.mark.parametrize("tokenizer", TokenizerVersion)
def test_our_templates_are_of_no_other_family(tokenizer: TokenizerVersion) -> None:
    assert template_family(jinja_template(tokenizer)) is None


@pytest.mark.parametrize(
    ("template", "family"),
    [
        ("<|im_start|>user", "ChatML"),
        ("<|start_header_id|>user", "Llama 3"),
        ("[INST] <<SYS>>", "Llama 2"),
        ("<start_of_turn>user", "Gemma"),
        ("### Instruction:\n", "Alpaca"),
        ("[SYSTEM_PROMPT]### Instruction: be good[/SYSTEM_PROMPT][INST]", None),
        ("{% if %}", None),
        ("", None),
    ],
)
def test_a_familys_template_is_told_by_its_marks(template: str, family: str | None) -> None:
    assert template_family(template) == family


def test_another_familys_template_is_a_question(tmp_path: Path) -> None:
    path = write_header(tmp_path / "devstral-2507-tune.gguf", **{"tokenizer.chat_template": CHATML})
    reference = parse_reference(str(path), CATALOG)
    with pytest.raises(UsageError, match="ChatML") as caught:
        offline_facts(reference, Wish(reference=str(path)), CATALOG)
    assert "--keep-template" in caught.value.fix
    assert "--no-keep-template" in caught.value.fix
    for answer in (True, False):
        wish = Wish(reference=str(path), keep_template=answer)
        assert offline_facts(reference, wish, CATALOG).release == RELEASE


# Where nothing can be written into a header


def test_a_modelfile_of_a_file_that_has_to_be_mended_is_refused(tmp_path: Path) -> None:
    path = write_header(tmp_path / "devstral-2507.gguf", **{"tokenizer.ggml.add_eos_token": True})
    with pytest.raises(UsageError, match="add_eos_token is true") as caught:
        render(str(path))
    assert caught.value.fix == f"use create: devstral-ollama create {path}"
    write_header(path)
    assert f"FROM {path}" in render(str(path))


def test_a_modelfile_can_leave_a_tune_its_own_template(tmp_path: Path) -> None:
    path = write_header(tmp_path / "devstral-2507.gguf", **{"tokenizer.chat_template": CHATML})
    text = render(str(path), keep_template=True)
    assert "TEMPLATE" not in text
    assert "PARSER" not in text


def test_llama_cpp_is_told_what_the_header_should_say(tmp_path: Path) -> None:
    wrong: dict[str, Value] = {
        "tokenizer.ggml.add_eos_token": True,
        "tokenizer.ggml.eos_token_id": 11,
        "tokenizer.ggml.pre": "default",
    }
    path = write_header(tmp_path / "devstral-2507.gguf", **wrong)
    line = command_line(Wish(reference=str(path)), LlamaTarget.SERVER, {})
    assert [each.value for each in line.options if each.flag == "--override-kv"] == [
        "tokenizer.ggml.eos_token_id=int:2",
        "tokenizer.ggml.add_eos_token=bool:false",
        "tokenizer.ggml.pre=str:tekken",
    ]


def test_llama_cpp_leaves_a_tune_its_own_template(tmp_path: Path) -> None:
    path = write_header(tmp_path / "devstral-2507.gguf", **{"tokenizer.chat_template": CHATML})
    wish = Wish(reference=str(path), keep_template=True)
    flags = [each.flag for each in command_line(wish, LlamaTarget.SERVER, {}).options]
    assert "--jinja" in flags
    assert "--chat-template-file" not in flags


@pytest.mark.parametrize("kind", ["adapter", "mmproj", "imatrix"])
def test_what_is_no_model_is_refused_for_what_it_is(tmp_path: Path, kind: str) -> None:
    path = write_header(tmp_path / "devstral-2507.gguf", **{"general.type": kind})
    with pytest.raises(FileProblem, match="and no model") as caught:
        command_line(Wish(reference=str(path)), LlamaTarget.SERVER, {})
    assert ("devstral-ollama merge" in caught.value.fix) == (kind == "adapter")


def test_every_setting_is_held_to_a_sound_header() -> None:
    said = {each.key: each.value for each in SETTINGS}
    assert {key: SOUND[key] for key in said if key in SOUND} == {
        key: value for key, value in said.items() if key in SOUND
    }
