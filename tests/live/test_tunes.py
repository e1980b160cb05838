"""Tunes on a real server: what is mended on the way serves, what is kept is kept, all is said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ollama_tools import Outcome, Status, smoke
from ollama_tools.devstral.miniature import write_miniature
from ollama_tools.errors import CheckFailed, FileProblem, UsageError
from ollama_tools.files import remembered
from ollama_tools.files.gguf_rewrite import Setting
from ollama_tools.model.apply import apply
from ollama_tools.model.ensure import plan_for
from ollama_tools.model.steps import Policy
from ollama_tools.progress import Silence
from ollama_tools.server.client import Server
from ollama_tools.wanted.wish import Wish
from tests.live.test_create import model_names, unloaded, use_hub
from tests.testbed.hub import Hub
from tests.testbed.models import TEMPLATES
from tests.testbed.repository import Content, Repository
from tests.testbed.server import OllamaServer
from tests.testbed.tunes import CHATML, spoil

__all__ = ["unloaded"]

NAME = "devstral-2507-tune:latest"
PUBLISHED = (TEMPLATES / "published.jinja").read_text(encoding="utf-8")
WRONG = (
    Setting("tokenizer.ggml.add_eos_token", value=True),
    Setting("tokenizer.ggml.add_bos_token", value=False),
    Setting("tokenizer.ggml.eos_token_id", 11),
    Setting("tokenizer.ggml.pre", "default"),
)
CHANGES = (
    "eos_token_id 11 → 2, add_bos_token false → true, add_eos_token true → false, "
    "pre default → tekken"
)


STRANGE = "".join(
    f"{{#- {number}: a remark that no template of Ollama's has -#}}" for number in range(20)
) + (
    "{% for m in messages %}{% if m.role == 'system' %}RULES {% elif m.role == 'user' %}ASKED "
    "{% else %}SAID {% endif %}{{ m.content }} OVER {% endfor %}SAID "
)
"""Like no template that Ollama knows."""

Make = Callable[..., Outcome]


class Heard(Silence):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    def step(self, text: str) -> None:
        self.steps.append(text)


class Warned(Silence):
    """Keeps what it is warned of."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def make(server: Server, heard: Heard) -> Make:
    def made(path: Path, *, check: bool = True, **wish: Any) -> Outcome:
        options = {"context": 4096, "system": "bundled", "via": "upload", **wish}
        policy = Policy(check=check, prompt_tokens=300)
        wanted = Wish(reference=str(path), **options)
        return apply(plan_for(server, wanted, policy, heard), server, heard)

    return made


def tune(directory: Path, template: str | None, *wrong: Setting) -> Path:
    """A miniature whose header is spoilt."""
    sound = directory / "sound.gguf"
    write_miniature(
        sound, layers=1, heads=1, kv_heads=1, chat_template=template, name=repr((template, wrong))
    )
    return spoil(sound, directory / "devstral-2507-tune.gguf", *wrong)


def statuses(report: Any) -> dict[str, Status]:
    return {each.id: each.status for each in report.checks}


@pytest.mark.parametrize("carrier", ["gguf", "modelfile"])
def test_a_header_is_mended_on_its_way_whatever_the_carrier(
    make: Make, heard: Heard, bed: OllamaServer, tmp_path: Path, carrier: str
) -> None:
    path = tune(tmp_path, PUBLISHED, *WRONG)
    before = path.read_bytes()
    made = make(path, carrier=carrier)
    assert made.report is not None
    assert made.report.passed
    assert statuses(made.report)["tokenizer"] is Status.PASS
    assert statuses(made.report)["bos"] is Status.PASS
    assert any(f"mended: {CHANGES}" in each for each in heard.steps)
    assert path.read_bytes() == before
    assert not make(path, carrier=carrier).changed
    # What was mended is nothing that a forgetful machine would do again.
    remembered._digests().unlink()
    assert not make(path, carrier=carrier).changed


def test_what_a_server_has_with_a_faulty_header_is_found_and_named(
    server: Server, bed: OllamaServer, tmp_path: Path
) -> None:
    import hashlib

    path = tune(tmp_path, PUBLISHED, *WRONG)
    digest = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    server.upload(path, digest, lambda *_: None)
    server.create(
        {"model": NAME, "files": {path.name: digest}, "parameters": {"num_ctx": 4096}},
        lambda *_: None,
    )
    report = smoke(NAME, host=bed.url, release="2507", prompt_tokens=300)
    found = {each.id: each for each in report.checks}
    assert found["tokenizer"].status is Status.FAIL
    for words in ("add_eos_token is true", "pre is default", "eos_token_id is 11"):
        assert words in found["tokenizer"].saw
    assert found["bos"].status is Status.FAIL
    assert "add_bos_token is false" in found["bos"].saw
    assert "./FILE.gguf" in found["bos"].fix
    # From there nothing passes through this machine, so nothing mends it.
    wish = Wish(reference=NAME, release="2507", context=4096, system="bundled", name="other")
    with pytest.raises(UsageError, match="nothing mends it on this way"):
        plan_for(server, wish, Policy(check=False), Silence())
    assert model_names(server) == [NAME]


def test_another_familys_template_is_kept_where_that_is_said_and_all_else_is_checked(
    make: Make, heard: Heard, bed: OllamaServer, server: Server, tmp_path: Path
) -> None:
    template = CHATML.replace(
        "{% for m in messages %}",
        "{% if tools %}<|im_start|>system\n{{ tools | tojson }}<|im_end|>\n{% endif %}"
        "{% for m in messages %}{% for c in m.tool_calls or [] %}<tool_call>"
        "{{ c | tojson }}</tool_call>{% endfor %}",
    )
    path = tune(tmp_path, template, Setting("tokenizer.ggml.pre", "default"))
    with pytest.raises(UsageError, match="the chat template of ChatML"):
        make(path)
    assert model_names(server) == []
    made = make(path, keep_template=True)
    assert made.carrier.value == "hub"
    assert any(
        each.endswith("with its own template, mended: pre default → tekken") for each in heard.steps
    )
    assert made.report is not None
    told = statuses(made.report)
    assert told["prompt"] is Status.PASS
    assert told["tokenizer"] is Status.PASS
    assert not made.report.failures
    assert "<|im_start|>" in server.rendered_prompt(
        {"model": NAME, "messages": [{"role": "user", "content": "a"}]}
    )
    assert not make(path, keep_template=True).changed
    later = smoke(NAME, host=bed.url, release="2507", prompt_tokens=300, keep_template=True)
    assert later.failures == ()
    # Asked as a Devstral, it is none.
    asked = smoke(NAME, host=bed.url, release="2507", prompt_tokens=300)
    (prompt,) = (each for each in asked.failures if each.id == "prompt")
    assert "smoke --keep-template" in prompt.fix

    replaced = make(path, keep_template=False)
    assert (replaced.changed, replaced.carrier.value) == (True, "gguf")
    assert any("in place of that of ChatML" in each for each in heard.steps)


@pytest.mark.parametrize(
    ("template", "saw"),
    [
        (CHATML, "the server uses its own template for what it recognised"),
        (STRANGE, "its own template knows no tools"),
    ],
)
def test_that_a_template_knows_no_tools_or_is_not_used_is_said(
    make: Make, tmp_path: Path, template: str, saw: str
) -> None:
    made = make(tune(tmp_path, template), keep_template=True)
    assert made.report is not None
    (prompt,) = (each for each in made.report.checks if each.id == "prompt")
    assert (prompt.status, prompt.saw[: len(saw)]) == (Status.WARN, saw)


def test_a_template_that_loses_what_is_said_is_not_taken(make: Make, tmp_path: Path) -> None:
    losing = STRANGE.replace("in messages", "in messages[-1:]")
    with pytest.raises(CheckFailed, match="loses the system prompt, the question, the answer"):
        make(tune(tmp_path, losing), keep_template=True)


def test_what_is_no_model_is_refused_before_a_byte_is_hashed(
    make: Make, heard: Heard, tmp_path: Path
) -> None:
    path = tune(tmp_path, PUBLISHED, Setting("general.type", "adapter"))
    with pytest.raises(FileProblem, match="is a LoRA adapter"):
        make(path)
    assert heard.steps == []


def test_a_tune_of_the_hub_is_asked_about_before_it_is_brought(
    server: Server, hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    use_hub(hub, monkeypatch)
    path = tune(tmp_path, CHATML, Setting("tokenizer.ggml.pre", "default"))
    name = "me/devstral-2507-tune-GGUF"
    files = {"tune-Q8_0.gguf": Content.of(path.read_bytes())}
    hub.publish(Repository(name, files, tags={"Q8_0": "tune-Q8_0.gguf"}))
    wish = Wish(reference=f"hf.co/{name}:Q8_0", context=4096, system="bundled", via="upload")
    with pytest.raises(UsageError, match="the chat template of ChatML"):
        plan_for(server, wish, Policy(check=False), Silence())
    ranges = {each.range for each in hub.requests if each.path.startswith(f"/{name}/resolve")}
    assert ranges <= {None, "bytes=0-16777215"}
    # Pulled by the server nothing can be mended, and nothing of it stays.
    pulled = replace(wish, via="server", registry=hub.registry, keep_template=False)
    with pytest.raises(UsageError, match=r"pre is default.*nothing mends it") as caught:
        apply(plan_for(server, pulled, Policy(check=False), Silence()), server, Silence())
    assert "--via upload" in caught.value.fix
    assert model_names(server) == []
    heard = Warned()
    said = replace(wish, keep_template=False)
    made = apply(plan_for(server, said, Policy(prompt_tokens=300), heard), server, heard)
    assert made.report is not None
    assert made.report.passed
    assert any("mended: pre default → tekken" in each for each in heard.warnings)
    # Its digest as it is sent is remembered, so that nothing is fetched or hashed again.
    again = plan_for(server, replace(said, name="other"), Policy(check=False), Silence())
    assert again.steps[0].sign == "="
