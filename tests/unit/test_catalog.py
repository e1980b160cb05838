from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ollama_tools.devstral.catalog import Catalog, TokenizerVersion, suggest
from ollama_tools.devstral.catalog_file import CATALOG_VARIABLE, load_catalog
from ollama_tools.devstral.quant_sizes import weight_count
from ollama_tools.errors import CatalogError, ExitCode, UnknownReference
from ollama_tools.files.packaged import data_path
from ollama_tools.wanted.spec import merge_parameters

PACKAGED = data_path("catalog.yaml").read_text(encoding="utf-8")

MINIMAL = """\
default_release: Tiny
estimates:
  source: measured
  header: 500
  bits_per_weight: {UD-Q4: 4.5}
releases:
  Tiny:
    source: here
    aliases: ["1"]
    repository: me/Tiny-GGUF
    origin: me/Tiny
    tokenizer: v13
    minimum_server: 0.15.3
    default_context: 4096
    default_quant: Q8_0
    architecture:
      source: here
      name: llama
      layers: 1
      heads: 1
      kv_heads: 1
      head_dim: 32
      embedding: 32
      feed_forward: 64
      context: 4096
    parameters:
      source: here
      values: {temperature: 0.15, top_k: 64}
    system_prompt:
      source: here
      repository: me/Tiny
      filename: SYSTEM_PROMPT.txt
      bytes: 3
      sha256: ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad
    quants:
      source: there
      pattern: Tiny-{quant}.gguf
      known: {Q8_0: 1063}
      names: [UD-Q4, Q8_0]
"""

SHAPED = (
    MINIMAL.replace("head_dim: 32", "head_dim: 256")
    .replace("embedding: 32", "embedding: 256")
    .replace("feed_forward: 64", "feed_forward: 256")
    .replace("{Q8_0: 1063}", "{UD-Q4: 1063}")
)
"""A shape that llama.cpp's rules know, unlike the minimal one, whose rows are too short."""


@pytest.fixture
def catalog(monkeypatch: pytest.MonkeyPatch) -> Catalog:
    monkeypatch.delenv(CATALOG_VARIABLE, raising=False)
    return load_catalog()


def load_text(text: str | bytes, folder: Path) -> Catalog:
    path = folder / "catalog.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_catalog(path)


def line_of(text: str, part: str) -> int:
    return text[: text.index(part)].count("\n") + 1


# --- The packaged catalog ---


def test_the_default_is_the_2507_release(catalog: Catalog) -> None:
    assert catalog.default is catalog.release("2507")
    assert catalog.default.slug == "devstral-small-2507"


def test_all_four_releases_are_there_with_their_tokenizer(catalog: Catalog) -> None:
    assert {release.name: release.tokenizer for release in catalog.releases} == {
        "Devstral-Small-2507": TokenizerVersion.V13,
        "Devstral-Small-2505": TokenizerVersion.V7,
        "Devstral-Small-2-24B-Instruct-2512": TokenizerVersion.V13,
        "Devstral-2-123B-Instruct-2512": TokenizerVersion.V13,
    }


def test_recommended_parameters_keep_their_order_and_types(catalog: Catalog) -> None:
    for release in catalog.releases:
        assert list(release.parameters.items()) == [
            ("temperature", 0.15),
            ("min_p", 0.01),
            ("top_k", 64),
            ("top_p", 0.95),
            ("repeat_penalty", 1.0),
        ]
        assert isinstance(release.parameters["top_k"], int)
        assert release.default_context == 32768
        assert release.minimum_server == "0.15.3"


@pytest.mark.parametrize(
    ("quant", "size"),
    [
        ("Q4_K_S", 13549288672),
        ("Q4_K_M", 14333918432),
        ("UD-Q4_K_XL", 14548876512),
        ("Q5_K_M", 16763993312),
        ("UD-Q6_K_XL", 20788395232),
        ("Q8_0", 25054788576),
    ],
)
def test_sizes_are_those_of_the_published_files_and_estimates_come_close(
    catalog: Catalog, quant: str, size: int
) -> None:
    known = catalog.release("2507").quant(quant)
    assert (known.bytes, known.estimated) == (size, False)
    estimate = catalog.release("2505").quant(quant)
    assert estimate.estimated
    assert estimate.bytes == pytest.approx(size, rel=0.001)


def test_only_what_is_known_to_the_byte_has_a_size_without_about(catalog: Catalog) -> None:
    exact = {each.name for each in catalog.default.quants if not each.estimated}
    assert exact == {
        *("Q2_K", "Q3_K_S", "Q3_K_M", "Q4_1", "Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M", "Q6_K"),
        *("Q8_0", "UD-Q4_K_XL", "UD-Q6_K_XL"),
    }
    assert catalog.default.quant("Q4_K_M").size_text == "13.3 GiB"
    assert catalog.default.quant("IQ4_XS").size_text == "about 11.9 GiB"
    assert all(each.estimated for each in catalog.release("2505").quants)


def test_every_release_has_all_published_quants_smallest_first(catalog: Catalog) -> None:
    names = {quant.name for quant in catalog.default.quants}
    assert len(names) == 26
    for release in catalog.releases:
        assert {quant.name for quant in release.quants} == names
        sizes = [quant.bytes for quant in release.quants]
        assert sizes == sorted(sizes)
        assert release.quant().name == "UD-Q4_K_XL"


def test_files_are_named_as_published(catalog: Catalog) -> None:
    assert catalog.default.quant("Q8_0").filename == "Devstral-Small-2507-Q8_0.gguf"
    large = catalog.release("123b")
    assert large.quant("UD-IQ2_M").filename == "Devstral-2-123B-Instruct-2512-UD-IQ2_M.gguf"
    split = large.quant()
    assert split.split
    assert split.filename == "UD-Q4_K_XL/Devstral-2-123B-Instruct-2512-UD-Q4_K_XL-*.gguf"


@pytest.mark.parametrize(
    ("release", "weights"), [("2507", 23_572_403_200), ("123b", 125_025_988_608)]
)
def test_the_shape_gives_the_number_of_weights(
    catalog: Catalog, release: str, weights: int
) -> None:
    assert weight_count(catalog.release(release).architecture) == weights


def test_the_published_system_prompt_is_on_record_for_2507(catalog: Catalog) -> None:
    prompt = catalog.default.system_prompt
    assert prompt is not None
    assert (prompt.filename, prompt.bytes) == ("SYSTEM_PROMPT.txt", 5651)
    assert catalog.release("2505").system_prompt is None


def test_every_fact_has_a_source(catalog: Catalog) -> None:
    for release in catalog.releases:
        assert release.source
        assert release.architecture.source
        assert release.parameters_source
        assert all(quant.source for quant in release.quants)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("1.1", "Devstral-Small-2507"),
        ("DEVSTRAL-SMALL-2505", "Devstral-Small-2505"),
        ("2512", "Devstral-Small-2-24B-Instruct-2512"),
        ("small-2", "Devstral-Small-2-24B-Instruct-2512"),
        ("123B", "Devstral-2-123B-Instruct-2512"),
    ],
)
def test_releases_are_found_by_name_and_alias_in_any_case(
    catalog: Catalog, name: str, expected: str
) -> None:
    assert catalog.release(name).name == expected


def test_a_release_is_found_by_its_repository(catalog: Catalog) -> None:
    assert catalog.find_by_repository("Unsloth/devstral-small-2507-gguf") is catalog.default
    assert catalog.find_by_repository("me/other") is None


def test_an_unknown_release_is_refused_with_the_closest(catalog: Catalog) -> None:
    with pytest.raises(UnknownReference) as caught:
        catalog.release("devstral-small-2506")
    assert "Devstral-Small-2505" in caught.value.fix
    assert caught.value.exit_code is ExitCode.USAGE


def test_quants_are_found_in_any_case(catalog: Catalog) -> None:
    assert catalog.default.quant("ud-q4_k_xl") is catalog.default.quant()


def test_an_unknown_quant_is_refused_with_the_closest(catalog: Catalog) -> None:
    with pytest.raises(UnknownReference, match="no quant 'Q4_K_XL'") as caught:
        catalog.default.quant("Q4_K_XL")
    assert caught.value.fix.startswith("did you mean UD-Q4_K_XL")


def test_a_word_like_nothing_known_gets_the_whole_list() -> None:
    assert suggest("zzz", ["Q8_0", "BF16"]) == "known are Q8_0, BF16"


def test_values_of_the_catalog_can_be_hashed(catalog: Catalog) -> None:
    assert len({catalog.default, *catalog.releases}) == 4


def test_importing_the_catalog_pulls_in_nothing_heavy() -> None:
    code = (
        "import sys, ollama_tools.devstral.catalog, ollama_tools.devstral.reference\n"
        "print(*{'yaml', 'json', 'httpx', 'pydantic', 'asyncio', 'difflib'} & set(sys.modules))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == ""


# --- Where the catalog is read from ---


def test_the_environment_names_another_catalog(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(MINIMAL)
    monkeypatch.setenv(CATALOG_VARIABLE, str(path))
    assert load_catalog().default.name == "Tiny"


def test_an_empty_variable_means_the_packaged_catalog(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CATALOG_VARIABLE, "")
    assert load_catalog().default.name == "Devstral-Small-2507"


def test_the_packaged_catalog_is_read_once(catalog: Catalog) -> None:
    assert load_catalog() is catalog


def test_a_catalog_of_ones_own_is_read_each_time(tmp_path: Path) -> None:
    assert load_text(MINIMAL, tmp_path).default.quant().bytes == 1063
    assert load_text(MINIMAL.replace("1063", "1064"), tmp_path).default.quant().bytes == 1064


def test_estimates_follow_weights_and_bits(tmp_path: Path) -> None:
    quant = load_text(MINIMAL, tmp_path).default.quant("UD-Q4")
    # The vocabulary twice, a block, and three norms.
    weights = 2 * 131072 * 32 + 4 * 32 * 32 + 3 * 32 * 64 + 3 * 32
    assert (quant.bytes, quant.estimated, quant.source) == (weights * 9 // 16, True, "measured")


def test_a_header_makes_a_size_exact_where_a_rule_tells_the_tensors(tmp_path: Path) -> None:
    text = SHAPED.replace("UD-Q4, Q8_0", "UD-Q4, Q8_0, Q6_K, Q4_0")
    release = load_text(text, tmp_path).default
    with_header = load_text(text.replace("known:", "header: 700\n      known:"), tmp_path).default
    for name in ("Q8_0", "Q6_K", "Q4_0"):
        assert release.quant(name).estimated
        assert with_header.quant(name).bytes == release.quant(name).bytes + 200
        assert "llama-quant.cpp" in with_header.quant(name).source
    assert {each.name for each in with_header.quants if not each.estimated} == {"UD-Q4", "Q6_K"}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("embedding: 256", "embedding: 320"),
        ("feed_forward: 256", "feed_forward: 320"),
        ("layers: 1", "layers: 80"),
    ],
)
def test_a_shape_with_rules_of_its_own_has_no_computed_size(
    tmp_path: Path, old: str, new: str
) -> None:
    with pytest.raises(CatalogError, match="bits_per_weight says nothing about 'Q8_0'"):
        load_text(SHAPED.replace(old, new), tmp_path)


# --- Broken catalogs ---


@pytest.mark.parametrize(
    ("good", "bad", "reason"),
    [
        ("layers: 1", "layers: 1\n      lairs: 1", "unknown key 'lairs'"),
        ("tokenizer: v13", "tokenizer: v99", "tokenizer: expected one of v7, v13, found 'v99'"),
        ("layers: 1", "layers: many", "layers: expected a whole number above 0, found 'many'"),
        ("layers: 1", "layers: 0", "layers: expected a whole number above 0"),
        ("layers: 1", "layers: [1]", "layers: expected a whole number above 0, found a list"),
        ("{Q8_0: 1063}", "{Q8_0: -1}", "Q8_0: expected a whole number above 0, found '-1'"),
        ("{Q8_0: 1063}", "{Q8_0: 0x10}", "Q8_0: expected a whole number above 0"),
        ('["1"]', "[1]", "aliases: expected text, found '1'; put it in quotes"),
        ('["1"]', "one", "aliases: expected a list, found 'one'"),
        ('["1"]', '["1", tiny]', "'tiny' stands here twice"),
        ("[UD-Q4, ", "[UD-Q4, ud-q4, ", "the quant 'ud-q4' stands here twice"),
        ("[UD-Q4, ", "[Q9_9, ", "bits_per_weight says nothing about 'Q9_9'"),
        ("[UD-Q4, Q8_0]", "[UD-Q4]", "'Q8_0' is not among the names"),
        ("bytes: 3", "bytes: 3\n      bytes: 4", "duplicate key 'bytes'"),
        ("sha256: ba78", "sha256: ba7", "sha256: expected a sha256"),
        ("repository: me/Tiny-GGUF", "repository: Tiny", "repository: expected a repository"),
        ("minimum_server: 0.15.3", "minimum_server: 0.15", "expected text, found '0.15'"),
        ("Tiny-{quant}.gguf", "Tiny.gguf", "pattern: expected a file name with {quant}"),
        ("temperature: 0.15", "temperature: .nan", "temperature: expected a number"),
        ("temperature: 0.15", "temperature: -0.1", "temperature: expected a number"),
        ("temperature: 0.15", "temperature: hot", "temperature: expected a number"),
        ("default_quant: Q8_0", "default_quant: Q5_0", "default_quant names 'Q5_0'"),
        ("name: llama", 'name: " "', "name: expected some text"),
        ("name: llama", "1: llama", "expected a key that is text, found '1'"),
        ("{UD-Q4: 4.5}", "[4.5]", "expected a table of keys and values, found a list"),
        ("{UD-Q4: 4.5}", "{UD-Q4: 4.5", "not valid YAML"),
        ("{UD-Q4: 4.5}", "*nowhere", "not valid YAML: found undefined alias"),
        ("[UD-Q4, Q8_0]", "&loop [*loop]", "names: expected text, found a list"),
        ("[UD-Q4, Q8_0]", "[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]", "nested too deeply"),
    ],
)
def test_a_broken_catalog_is_refused_by_file_line_and_reason(
    tmp_path: Path, good: str, bad: str, reason: str
) -> None:
    assert good in MINIMAL
    with pytest.raises(CatalogError) as caught:
        load_text(MINIMAL.replace(good, bad, 1), tmp_path)
    file, line, message = caught.value.what.split(":", 2)
    assert file == str(tmp_path / "catalog.yaml")
    assert reason in message
    assert 1 <= int(line) <= MINIMAL.count("\n") + 2


@pytest.mark.parametrize("bad", ["v99", "[v13]", "1.5"])
def test_the_line_is_that_of_the_mistake(tmp_path: Path, bad: str) -> None:
    with pytest.raises(CatalogError) as caught:
        load_text(MINIMAL.replace("tokenizer: v13", f"tokenizer: {bad}"), tmp_path)
    assert f"catalog.yaml:{line_of(MINIMAL, 'tokenizer')}:" in caught.value.what


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    for key in ("default_release", "origin", "layers", "values", "filename", "pattern"):
        kept = [line for line in MINIMAL.splitlines() if line.strip().split(":")[0] != key]
        with pytest.raises(CatalogError, match=f"missing key '{key}'"):
            load_text("\n".join(kept), tmp_path)


def test_two_releases_cannot_share_a_repository(tmp_path: Path) -> None:
    again = MINIMAL.split("releases:\n")[1].replace("Tiny:", "Other:").replace('"1"', '"2"')
    with pytest.raises(CatalogError, match="the repository 'me/Tiny-GGUF' stands here twice"):
        load_text(MINIMAL + again, tmp_path)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ("{top_k: 64,\n        temperatur: 0.15}", "Ollama has no model parameter 'temperatur'"),
        (
            "{temperature: 0.15,\n        top_k: 1.5}",
            "the parameter top_k has the impossible value",
        ),
    ],
)
def test_a_parameter_that_ollama_does_not_take_is_refused_with_its_line(
    values: str, reason: str, tmp_path: Path
) -> None:
    text = MINIMAL.replace("{temperature: 0.15, top_k: 64}", values)
    release = load_text(text, tmp_path).default
    with pytest.raises(CatalogError) as caught:
        merge_parameters(release, None, {})
    second = line_of(text, values) + 1
    assert caught.value.what.startswith(f"{tmp_path}/catalog.yaml:{second}: ")
    assert reason in caught.value.what


def test_the_default_release_must_exist(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="default_release names 'None'"):
        load_text(MINIMAL.replace("default_release: Tiny", "default_release: None"), tmp_path)


def test_a_catalog_without_releases_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="there is no release"):
        load_text(MINIMAL.partition("releases:\n")[0] + "releases: {}\n", tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "1: the file is empty"),
        (b"# nothing\n", "1: the file is empty"),
        (b"just words", "1: expected a table"),
        (b"a: 1\nb: \xff\n", "2: not UTF-8"),
        (b"a: \x00", "1: not valid YAML"),
        (b"a: 1\n---\nb: 2\n", "2: not valid YAML: expected a single document"),
        (b"#" * (1 << 20) + b"\n", "1: larger than 1 MiB"),
        (b"[" * 500_000, "1: nested too deeply"),
        (b"- " * 200_000, "1: nested too deeply"),
    ],
)
def test_a_file_that_is_no_catalog_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(CatalogError) as caught:
        load_text(content, tmp_path)
    assert f"catalog.yaml:{reason}" in caught.value.what


def test_a_catalog_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.yaml", tmp_path):
        with pytest.raises(CatalogError, match="cannot be read"):
            load_catalog(path)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs /dev/zero")
def test_an_endless_file_is_refused() -> None:
    with pytest.raises(CatalogError, match="larger than 1 MiB"):
        load_catalog(Path("/dev/zero"))


def test_cutting_the_catalog_anywhere_gives_a_catalog_error_or_a_catalog(tmp_path: Path) -> None:
    for end in range(0, len(PACKAGED), 61):
        try:
            load_text(PACKAGED[:end], tmp_path)
        except CatalogError:
            continue
