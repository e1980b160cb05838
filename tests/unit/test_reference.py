from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_tools.devstral.catalog import Catalog
from ollama_tools.devstral.catalog_file import load_catalog
from ollama_tools.devstral.reference import (
    FileReference,
    HubReference,
    QuantReference,
    ServerReference,
    explain_library_name,
    guess_release,
    parse_reference,
)
from ollama_tools.errors import ExitCode, UnknownReference
from ollama_tools.files.packaged import data_path
from ollama_tools.server.names import public_name

CATALOG = load_catalog(data_path("catalog.yaml"))


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return CATALOG


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("UD-Q4_K_XL", "devstral-small-2507:UD-Q4_K_XL"),
        ("  ud-q4_k_xl\n", "devstral-small-2507:UD-Q4_K_XL"),
        ("bf16", "devstral-small-2507:BF16"),
        ("2505:Q4_K_M", "devstral-small-2505:Q4_K_M"),
        ("Devstral-Small-2505:q4_k_m", "devstral-small-2505:Q4_K_M"),
        ("devstral-small-2507:UD-Q4_K_XL", "devstral-small-2507:UD-Q4_K_XL"),
        ("2505", "devstral-small-2505:UD-Q4_K_XL"),
        ("1.1", "devstral-small-2507:UD-Q4_K_XL"),
        ("devstral-small-2507", "devstral-small-2507:UD-Q4_K_XL"),
        ("123b:Q2_K", "devstral-2-123b-instruct-2512:Q2_K"),
        ("hf.co/unsloth/Devstral-Small-2507-GGUF:Q8_0", "devstral-small-2507:Q8_0"),
        ("HF.co/Unsloth/devstral-small-2507-gguf:q8_0", "devstral-small-2507:Q8_0"),
        ("hf.co/unsloth/Devstral-Small-2505-GGUF", "devstral-small-2505:UD-Q4_K_XL"),
        ("unsloth/Devstral-Small-2507-GGUF:Q8_0", "devstral-small-2507:Q8_0"),
        ("unsloth/Devstral-Small-2507-GGUF@main:Q8_0", "devstral-small-2507:Q8_0"),
        (
            "unsloth/Devstral-Small-2507-GGUF:Devstral-Small-2507-Q8_0.gguf",
            "devstral-small-2507:Q8_0",
        ),
        (
            "https://huggingface.co/unsloth/Devstral-Small-2507-GGUF",
            "devstral-small-2507:UD-Q4_K_XL",
        ),
        (
            "https://huggingface.co/unsloth/Devstral-Small-2507-GGUF/tree/main",
            "devstral-small-2507:UD-Q4_K_XL",
        ),
        (
            "https://huggingface.co/unsloth/Devstral-Small-2507-GGUF/resolve/main/"
            "Devstral-Small-2507-Q5_K_M.gguf?download=true",
            "devstral-small-2507:Q5_K_M",
        ),
        (
            "https://huggingface.co/unsloth/Devstral-Small-2507-GGUF"
            "?show_file_info=Devstral-Small-2507-UD-Q3_K_XL.gguf",
            "devstral-small-2507:UD-Q3_K_XL",
        ),
        (
            "huggingface.co/unsloth/Devstral-2-123B-Instruct-2512-GGUF/blob/main/Q4_K_M/"
            "Devstral-2-123B-Instruct-2512-Q4_K_M-00001-of-00002.gguf",
            "devstral-2-123b-instruct-2512:Q4_K_M",
        ),
    ],
)
def test_a_quant_of_a_known_release_is_recognised(
    catalog: Catalog, text: str, expected: str
) -> None:
    found = parse_reference(text, catalog)
    assert isinstance(found, QuantReference)
    assert str(found) == expected


def test_every_quant_is_recognised_in_each_of_its_forms(catalog: Catalog) -> None:
    for release in catalog.releases:
        for quant in release.quants:
            expected = QuantReference(release, quant)
            for head in (*release.names, release.slug, release.repository):
                assert parse_reference(f"{head}:{quant.name.lower()}", catalog) == expected
            assert parse_reference(expected.pull_name, catalog) == expected
            assert parse_reference(str(expected), catalog) == expected


@pytest.mark.parametrize(
    ("text", "expected", "release"),
    [
        (
            "hf.co/me/my-devstral-2505-GGUF:Q4_K_M",
            HubReference("me/my-devstral-2505-GGUF", "Q4_K_M", None, None),
            "2505",
        ),
        ("huggingface.co/me/tune", HubReference("me/tune", None, None, None), None),
        ("https://hf.co/me/tune/", HubReference("me/tune", None, None, None), None),
        (
            "hf.co/me/tune@0123abc:My-Own-Quant",
            HubReference("me/tune", "My-Own-Quant", "0123abc", None),
            None,
        ),
        (
            "https://www.huggingface.co/me/tune/blob/v2/devstral-2507-q4.gguf",
            HubReference("me/tune", "devstral-2507-q4.gguf", "v2", None),
            "2507",
        ),
        (
            "hf.co/unsloth/devstral-small-2507-gguf@0123abc:q8_0",
            HubReference("unsloth/Devstral-Small-2507-GGUF", "Q8_0", "0123abc", None),
            "2507",
        ),
    ],
)
def test_other_hub_repositories_keep_what_was_typed(
    catalog: Catalog, text: str, expected: HubReference, release: str | None
) -> None:
    found = parse_reference(text, catalog)
    assert isinstance(found, HubReference)
    assert (found.repository, found.tag, found.revision) == (
        expected.repository,
        expected.tag,
        expected.revision,
    )
    assert found.release == (catalog.release(release) if release else None)


@pytest.mark.parametrize(
    "text", ["hf.co/me/tune", "hf.co/me/tune:Q4_0", "hf.co/me/tune@0123abc:Q4_0"]
)
def test_a_hub_reference_prints_as_it_is_typed(catalog: Catalog, text: str) -> None:
    assert str(parse_reference(text, catalog)) == text


def test_the_pull_name_leaves_out_the_revision(catalog: Catalog) -> None:
    found = parse_reference("hf.co/me/tune@0123abc:Q4_0", catalog)
    assert isinstance(found, HubReference)
    assert found.pull_name == "hf.co/me/tune:Q4_0"


@pytest.mark.parametrize(
    "text",
    ["./x.gguf", "../x.gguf", "/models/my tune.gguf", "x.gguf", "UD-Q4_K_XL.gguf", "a/B.GGUF"],
)
def test_a_gguf_path_is_a_file(catalog: Catalog, text: str) -> None:
    assert parse_reference(text, catalog) == FileReference(Path(text))


def test_the_home_folder_is_filled_in(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    assert parse_reference("~/x.gguf", catalog) == FileReference(Path("/home/ann/x.gguf"))


@pytest.mark.parametrize(
    "text",
    [
        "my-devstral",
        "my-devstral:latest",
        "devstral",
        "devstral:24b",
        "devstral-small-2:24b",
        "devstral-2:123b-cloud",
        "devstral-small-2507-mine:v2",
        "me:Q4_K_M",
        "me/model:Q4_K_M",
        "registry.local/team/model:q4",
        "127.0.0.1:5000/me/model:tag",
        "llama3.2",
        "gpt-oss:20b",
        "qwen3",
    ],
)
def test_any_other_well_formed_name_is_a_model_on_the_server(catalog: Catalog, text: str) -> None:
    assert parse_reference(text, catalog) == ServerReference(text)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("Q4_K_XL", "UD-Q4_K_XL"),
        ("UD-Q4_K_X", "UD-Q4_K_XL"),
        ("UD_Q4_K_XL", "UD-Q4_K_XL"),
        ("4_K_M", "Q4_K_M"),
        ("q4km", "Q4_K_M"),
        ("Q5_0", "Q4_0"),
        ("f16", "BF16"),
        ("MXFP4", ""),
        ("2505:Q4_K_X", "Q4_K_S"),
        ("2507:latest", ""),
        ("unsloth/Devstral-Small-2507-GGUF:Q8", "Q8_0"),
        ("hf.co/unsloth/Devstral-Small-2507-GGUF:Q4-K-M", "Q4_K_M"),
    ],
)
def test_a_mistyped_quant_is_never_a_model_on_the_server(
    catalog: Catalog, text: str, meant: str
) -> None:
    with pytest.raises(UnknownReference) as caught:
        parse_reference(text, catalog)
    assert meant in caught.value.fix
    assert caught.value.exit_code is ExitCode.USAGE


@pytest.mark.parametrize("text", ["2508", "2508:Q4_K_M", "devstral-small-2506", "small-2506:Q8_0"])
def test_a_mistyped_release_is_refused(catalog: Catalog, text: str) -> None:
    with pytest.raises(UnknownReference, match="there is no release"):
        parse_reference(text, catalog)


def test_the_original_repository_points_to_its_release(catalog: Catalog) -> None:
    with pytest.raises(UnknownReference) as caught:
        parse_reference("hf.co/mistralai/Devstral-Small-2507", catalog)
    assert caught.value.fix == "use devstral-small-2507, from unsloth/Devstral-Small-2507-GGUF"


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n\t",
        "a\x00b",
        "x\x1b[31m.gguf",
        "two words",
        "hf.co/x",
        "hf.co/",
        "hf.co",
        "hf.co/a/b/c",
        "hf.co/me/../x",
        "hf.co/me/x:y:z",
        "hf.co/me/x y",
        "https://example.org/me/model",
        "a:b:c",
        "a:b:c:d",
        "me/../model",
        "../model",
        "/models/devstral",
        "~",
        "~no-such-user/x.gguf",
        ":tag",
        "2507:",
        "model:",
        "m" * 301,
        "модель",
    ],
)
def test_a_malformed_reference_is_refused_with_the_forms(catalog: Catalog, text: str) -> None:
    with pytest.raises(UnknownReference) as caught:
        parse_reference(text, catalog)
    assert "UD-Q4_K_XL" in caught.value.fix
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code is ExitCode.USAGE


@given(st.text(max_size=310) | st.from_regex(r"[a-zA-Z0-9:/@._~?#-]{1,40}", fullmatch=True))
def test_any_text_is_a_reference_or_refused(text: str) -> None:
    try:
        found = parse_reference(text, CATALOG)
    except UnknownReference:
        return
    assert str(found)


def test_every_form_that_a_refusal_shows_is_one_that_parses(catalog: Catalog) -> None:
    with pytest.raises(UnknownReference) as caught:
        parse_reference("", catalog)
    examples = caught.value.fix.partition(": ")[2].split(", ")
    kinds = {type(parse_reference(each, catalog)) for each in examples}
    assert kinds == {QuantReference, FileReference, ServerReference}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("me/my-devstral-2505-GGUF", "2505"),
        ("Devstral_Small_2507.Q4_K_M.gguf", "2507"),
        ("bartowski/mistralai_Devstral-Small-2-24B-Instruct-2512-GGUF", "2512"),
        ("devstral-small-2-tuned.gguf", "2512"),
        ("Devstral-2-123B-Instruct-2512-UD-Q4_K_XL-00001-of-00002.gguf", "123b"),
        ("devstral-2512-123B", "123b"),
        ("Devstral-Small-1.1", "2507"),
        ("devstral-tune-v1.1", None),
        ("devstral", None),
        ("Devstral-25051", None),
        ("Qwen3-30B-A3B-Instruct-2507-GGUF", None),
    ],
)
def test_the_release_is_guessed_from_whole_words(
    catalog: Catalog, text: str, expected: str | None
) -> None:
    assert guess_release(text, catalog) == (catalog.release(expected) if expected else None)


OTHERS = "bartowski/mistralai_Devstral-Small-2507-GGUF"


@pytest.mark.parametrize(
    ("text", "repository", "tag", "revision", "filename", "label"),
    [
        (f"hf.co/{OTHERS}:latest", OTHERS, None, None, None, None),
        (f"{OTHERS}:Q4_K_M", OTHERS, "Q4_K_M", None, None, "Q4_K_M"),
        (OTHERS, OTHERS, None, None, None, None),
        (f"{OTHERS}@0123abc:Q4_0", OTHERS, "Q4_0", "0123abc", None, "Q4_0"),
        (f"hf.co/{OTHERS}:x-Q5_K_M.gguf", OTHERS, "x-Q5_K_M.gguf", None, "x-Q5_K_M.gguf", "Q5_K_M"),
        (
            f"https://huggingface.co/{OTHERS}/blob/main/x.UD-Q4_K_XL.gguf",
            OTHERS,
            "x.UD-Q4_K_XL.gguf",
            None,
            "x.UD-Q4_K_XL.gguf",
            "UD-Q4_K_XL",
        ),
        (
            f"https://huggingface.co/{OTHERS}/resolve/main/sub/x-BF16.gguf?download=true",
            OTHERS,
            "sub/x-BF16.gguf",
            None,
            "sub/x-BF16.gguf",
            "BF16",
        ),
        (
            f"{OTHERS}/resolve/v2/my%20own%3Atune.gguf#top",
            OTHERS,
            "my own:tune.gguf",
            "v2",
            "my own:tune.gguf",
            "my own:tune",
        ),
        (f"hf.co/{OTHERS}/raw/main/x.GGUF", OTHERS, "x.GGUF", None, "x.GGUF", "x"),
        (f"hf.co/{OTHERS}/tree/main/sub", OTHERS, None, None, None, None),
        (
            "unsloth/Devstral-Small-2507-GGUF:IQ9_XXS",
            "unsloth/Devstral-Small-2507-GGUF",
            "IQ9_XXS",
            None,
            None,
            "IQ9_XXS",
        ),
        (
            "hf.co/unsloth/Devstral-Small-2507-GGUF:other-file.gguf",
            "unsloth/Devstral-Small-2507-GGUF",
            "other-file.gguf",
            None,
            "other-file.gguf",
            "other-file",
        ),
    ],
)
def test_what_people_paste_names_a_file_on_the_hub(
    catalog: Catalog,
    text: str,
    repository: str,
    tag: str | None,
    revision: str | None,
    filename: str | None,
    label: str | None,
) -> None:
    found = parse_reference(text, catalog)
    assert isinstance(found, HubReference)
    assert (found.repository, found.tag, found.revision) == (repository, tag, revision)
    assert (found.filename, found.label) == (filename, label)


def test_latest_of_a_known_repository_is_its_default(catalog: Catalog) -> None:
    found = parse_reference("hf.co/unsloth/Devstral-Small-2507-GGUF:latest", catalog)
    assert str(found) == "devstral-small-2507:UD-Q4_K_XL"


@pytest.mark.parametrize(
    ("text", "release"),
    [
        ("unsloth/Devstral-Small-2507-unsloth-bnb-4bit", "2507"),
        ("unsloth/Devstral-Small-2505-bnb-4bit", "2505"),
        ("hf.co/unsloth/Devstral-Small-2507", "2507"),
        ("unsloth/Devstral-Small-2505", "2505"),
        ("mistralai/Devstral-Small-2507", "2507"),
        ("https://huggingface.co/mistralai/Devstral-2-123B-Instruct-2512/tree/main", "123b"),
        ("hf.co/me/Devstral-Small-2507-AWQ", "2507"),
        ("hf.co/mlx-community/Devstral-Small-2505-4bit", "2505"),
        ("hf.co/me/Devstral-Small-2507-FP8", "2507"),
        ("hf.co/me/Devstral-Small-2507-exl2", "2507"),
    ],
)
def test_a_repository_without_gguf_is_said_at_once_with_one_that_has(
    catalog: Catalog, text: str, release: str
) -> None:
    with pytest.raises(UnknownReference, match="no GGUF") as caught:
        parse_reference(text, catalog)
    assert catalog.release(release).repository in caught.value.fix


@pytest.mark.parametrize(
    "text",
    [
        f"hf.co/{OTHERS}/blob/main/../../x.gguf",
        f"hf.co/{OTHERS}/blob/main/%2e%2e/x.gguf",
        f"hf.co/{OTHERS}/blob/main/x%1b[31m.gguf",
        f"hf.co/{OTHERS}?show_file_info=%2e%2e/x.gguf",
        f"hf.co/{OTHERS}?show_file_info=%0ax.gguf",
    ],
)
def test_an_address_that_leads_out_of_its_repository_is_refused(
    catalog: Catalog, text: str
) -> None:
    with pytest.raises(UnknownReference):
        parse_reference(text, catalog)


@pytest.mark.parametrize(
    "name",
    ["a:b.gguf", "a\\b.gguf", "~a.gguf", ".a.gguf", "a b.gguf", "sha256-" + "5f" * 32, "noending"],
)
def test_a_file_that_is_there_is_a_file_whatever_it_is_called(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(b"GGUF")
    for text in (f"./{name}", str(tmp_path / name)):
        found = parse_reference(text, catalog)
        assert isinstance(found, FileReference)
        assert found.path.read_bytes() == b"GGUF"


def test_a_missing_blob_is_said_to_be_missing(catalog: Catalog) -> None:
    with pytest.raises(UnknownReference, match="there is no file"):
        parse_reference("/models/blobs/sha256-" + "5f" * 32, catalog)


@pytest.mark.parametrize(
    ("text", "said", "typed"),
    [
        ("devstral", "Devstral-Small-2507 or Devstral-Small-2505", "2507:Q4_K_M or 2505:Q4_K_M"),
        ("devstral:24b", "library", "2507:Q4_K_M or 2505:Q4_K_M"),
        ("library/devstral:latest", "library", "2507:Q4_K_M"),
        ("devstral:24b-small-2505-q8_0", "Devstral-Small-2505", "use 2505:Q8_0"),
        ("devstral-small-2:24b", "Devstral-Small-2-24B", "use 2512:Q4_K_M"),
        ("devstral-small-2:24b-instruct-2512-q8_0", "Devstral-Small-2-24B", "use 2512:Q8_0"),
        ("devstral-2:123b", "Devstral-2-123B", "use 123b:Q4_K_M"),
        ("devstral-2:123b-cloud", "own machines", "use 123b:Q4_K_M"),
    ],
)
def test_a_name_of_the_library_is_explained(
    catalog: Catalog, text: str, said: str, typed: str
) -> None:
    explained = explain_library_name(text, catalog)
    assert explained is not None
    assert said in explained[0]
    assert typed in explained[1]


@pytest.mark.parametrize("text", ["my-devstral", "me/devstral:24b", "devstral-small-2507:Q4_K_M"])
def test_other_names_are_none_of_the_library(catalog: Catalog, text: str) -> None:
    assert explain_library_name(text, catalog) is None


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("UD-Q4_K_XL", "devstral-small-2507:UD-Q4_K_XL"),
        ("hf.co/unsloth/Devstral-Small-2507-GGUF@0123abc:Q8_0", "devstral-small-2507:Q8_0"),
        (
            "hf.co/lmstudio-community/Devstral-Small-2507-GGUF:Q4_K_M",
            "lmstudio-community/devstral-small-2507:Q4_K_M",
        ),
        (
            "bartowski/mistralai_Devstral-Small-2507-GGUF:Q4_0",
            "bartowski/mistralai_devstral-small-2507:Q4_0",
        ),
        ("hf.co/My.Self/x-GGUF:a/b/My x-Q4_K_M.gguf", "my-self/x:Q4_K_M"),
        ("hf.co/me/x/blob/main/a%3Ab c.gguf", "me/x:a-b-c"),
        ("./My Tune:v2.gguf", "my-tune-v2"),
        ("./~.gguf", "devstral"),
        ("./модель.gguf", "devstral"),
    ],
)
def test_a_default_name_is_one_that_ollama_takes_and_nobody_else_gets(
    catalog: Catalog, text: str, name: str
) -> None:
    found = parse_reference(text, catalog).default_name
    assert found == name
    assert public_name(found)


@pytest.mark.parametrize(
    ("files", "message", "fix"),
    [
        (("model-00001-of-00010.safetensors", "config.json"), "safetensors", "convert_hf_to_gguf"),
        (("adapter_config.json", "adapter_model.safetensors"), "LoRA adapter", "merge"),
        (("README.md",), "not like one of a GGUF file", "write it like one of"),
    ],
)
def test_a_folder_that_training_leaves_is_told_for_what_it_is(
    tmp_path: Path, files: tuple[str, ...], message: str, fix: str
) -> None:
    for each in files:
        (tmp_path / each).write_bytes(b"x")
    with pytest.raises(UnknownReference, match=message) as caught:
        parse_reference(str(tmp_path), CATALOG)
    assert fix in caught.value.fix
