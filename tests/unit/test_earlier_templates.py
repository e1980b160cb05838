"""Models with a template that this package wrote in an earlier version are still its own."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from ollama_tools.checks.result import Status
from ollama_tools.checks.vouching import judge_weights
from ollama_tools.devstral.carriers import (
    Carrier,
    earlier_jinja_templates,
    jinja_source,
    jinja_template,
)
from ollama_tools.devstral.catalog import TokenizerVersion
from ollama_tools.devstral.catalog_file import load_catalog
from ollama_tools.devstral.system_prompt import NO_SYSTEM
from ollama_tools.model.modelfile import differences
from ollama_tools.server.client import InstalledModel
from ollama_tools.server.shown import Shown
from ollama_tools.wanted.source import FileSource, ServerSource
from ollama_tools.wanted.spec import Spec, merge_parameters

# What once lay inside of files. A text that changes is a text that no server's model has.
DIGESTS = {
    TokenizerVersion.V13: [
        "3be50f33f0073d2551884461200672acc94d0148d27177aba5ec83abad293ea8",
        "1d80fe2b594a5a45861c9e519b2f3dd3563f76960db4cdca8451ebdad6038358",
        "b4798aebd5ec46ae2c6c38b6af6e1a7f4a5478f3f21b21061208826aebcb2e38",
    ],
    TokenizerVersion.V7: [
        "45453f55418e9d8db888ed8ba5cd1224ae4583f284cab91a38518a20e447e24e",
        "ec34276ee16bb63b586c266da7839e9ae7fd062620702736610c6f1482304bb5",
        "54ea59a93e1757e5c79d2c56d8198d473ec92be6d8e0723b646add386c303f8c",
    ],
}
NAME = "devstral-small-2507:mine"
BLOB = f"sha256:{'1' * 64}"
V13 = TokenizerVersion.V13


def shown(template: str, spec: Spec) -> Shown:
    parameters = "\n".join(
        f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in spec.parameters.items()
    )
    return Shown(
        NAME,
        {
            "modelfile": f"FROM /models/blobs/{BLOB.replace(':', '-')}\n",
            "template": template,
            "parameters": parameters,
            "details": {"parent_model": ""},
        },
    )


@pytest.fixture
def spec() -> Spec:
    release = load_catalog().release("2507")
    return Spec(
        name=NAME,
        release=release,
        source=FileSource(Path("x.gguf"), "2" * 64),
        carrier=Carrier.GGUF,
        system=NO_SYSTEM,
        parameters=merge_parameters(release, None, {}),
    )


@pytest.mark.parametrize("version", list(TokenizerVersion))
def test_no_text_that_ever_lay_in_a_file_changes(version: TokenizerVersion) -> None:
    *texts, readable = earlier_jinja_templates(version)
    assert readable == jinja_source(version)
    assert [hashlib.sha256(each.encode()).hexdigest() for each in texts] == DIGESTS[version]
    assert jinja_template(version) not in (*texts, readable)


@pytest.mark.parametrize("version", list(TokenizerVersion))
def test_they_are_ours_and_said_to_be_earlier(version: TokenizerVersion, spec: Spec) -> None:
    for text in earlier_jinja_templates(version):
        found = shown(f"{text}\n", spec)
        assert (found.carrier, found.has_earlier_template) == ("gguf", True)
    now = shown(jinja_template(version), spec)
    assert (now.carrier, now.has_earlier_template) == ("gguf", False)
    other = shown(f"{jinja_template(version)} ", spec)
    assert (other.carrier, other.has_earlier_template) == ("hub", False)


@pytest.mark.parametrize("earlier", earlier_jinja_templates(V13))
def test_an_update_is_an_ordinary_change(earlier: str, spec: Spec) -> None:
    [difference] = differences(spec, shown(earlier, spec))
    assert difference.field == "template"
    assert "an earlier one of this package" in str(difference)


@pytest.mark.parametrize("earlier", earlier_jinja_templates(V13))
def test_the_name_of_a_build_with_one_still_vouches(earlier: str, spec: Spec) -> None:
    # A server says nothing of where the weights came from, so only the model itself can.
    made = replace(spec, source=ServerSource(NAME, (BLOB,)))
    digest = "3" * 64

    def status(mark: str) -> Status:
        models = [InstalledModel(each, digest, 1) for each in (NAME, f"{NAME}-{mark}")]
        return judge_weights(shown(earlier, spec), models, NAME)[0]

    assert status(made.mark((BLOB,), jinja=earlier)) is Status.PASS
    assert status(made.mark((BLOB,))) is not Status.PASS
