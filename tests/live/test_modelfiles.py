"""Modelfiles for people: each makes, by the real ``ollama create -f``, what the API makes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from ollama_tools import render
from ollama_tools.devstral.carriers import Carrier
from ollama_tools.devstral.catalog import Release
from ollama_tools.devstral.catalog_file import load_catalog
from ollama_tools.devstral.system_prompt import SystemPrompt, bundled, from_file
from ollama_tools.errors import UsageError
from ollama_tools.files.packaged import data_path
from ollama_tools.model.modelfile import create_request
from ollama_tools.model.render import every_modelfile, write_modelfiles
from ollama_tools.server.client import Server
from ollama_tools.wanted.source import FileSource, HubSource
from ollama_tools.wanted.spec import Spec, merge_parameters
from ollama_tools.wanted.wish import Parameters
from tests.live.test_create import ROOT, run_cli, run_here
from tests.testbed.build import Build
from tests.testbed.hub import Hub
from tests.testbed.server import OllamaServer

CATALOG = load_catalog(data_path("catalog.yaml"))
GOLDEN = ROOT / "modelfiles"
BASE = "base:latest"


@pytest.fixture
def base(bed: OllamaServer, hub: Hub, server: Server) -> str:
    """A small model on the server; under a hub name it stands in for what would be pulled."""
    pulled = f"{hub.registry}/unsloth/Devstral-Small-2507-GGUF:Q8_0"
    server.pull(pulled, insecure=True, advance=lambda *_: None)
    server.copy(pulled, BASE)
    server.delete(pulled)
    return BASE


def create_from_file(build: Build, bed: OllamaServer, name: str, modelfile: Path) -> None:
    done = subprocess.run(
        [build.binary, "create", name, "-f", modelfile],
        env={"OLLAMA_HOST": bed.url, "HOME": str(bed.log_path.parent)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, f"{modelfile}: {done.stderr}"


def spec_of(
    release: Release,
    quant: str,
    *,
    carrier: Carrier = Carrier.MODELFILE,
    system: SystemPrompt | None = None,
    context: int | None = None,
    parameters: Parameters | None = None,
) -> Spec:
    return Spec(
        name=f"{release.slug}:{quant}",
        release=release,
        source=HubSource(release.repository, quant),
        carrier=carrier,
        system=system or bundled(),
        parameters=merge_parameters(release, context, parameters or {}),
    )


def digest(server: Server, name: str) -> str:
    model = server.model(name)
    assert model is not None
    return model.digest


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every Modelfile of the catalog, in a directory."""
    directory = tmp_path_factory.mktemp("rendered")
    assert len(write_modelfiles(directory, every_modelfile(CATALOG))) == 104
    return directory


@pytest.mark.parametrize("release", CATALOG.releases, ids=lambda each: each.slug)
@pytest.mark.usefixtures("base")
def test_every_modelfile_makes_the_manifest_that_the_api_makes(
    newest_build: Build, bed: OllamaServer, server: Server, rendered: Path, release: Release
) -> None:
    files = {each.stem: each for each in (rendered / release.slug).glob("*.Modelfile")}
    assert set(files) == {each.name for each in release.quants}
    golden = GOLDEN / f"{release.slug}.Modelfile"
    for quant, file in [*files.items(), (release.default_quant, golden)]:
        spec = spec_of(release, quant)
        assert isinstance(spec.source, HubSource)
        weights = spec.source.pulled_from("hf.co")
        server.copy(BASE, weights)
        create_from_file(newest_build, bed, "from-text", file)
        server.create(create_request(spec, "from-api", weights), lambda *_: None)
        assert digest(server, "from-text") == digest(server, "from-api"), file
        assert digest(server, "from-text") != digest(server, BASE)


@pytest.mark.parametrize("carrier", [Carrier.MODELFILE, Carrier.HUB])
@pytest.mark.usefixtures("base")
def test_a_modelfile_with_every_option_makes_the_manifest_that_the_api_makes(
    newest_build: Build, bed: OllamaServer, server: Server, tmp_path: Path, carrier: Carrier
) -> None:
    prompt = tmp_path / "prompt.txt"
    prompt.write_text('Say "yes".\n\n# no comment\n\tFROM here — café <b>\n', encoding="utf-8")
    parameters: Parameters = {
        "stop": ("END", ' two "words" '),
        "temperature": 0.35,
        "top_k": 7,
        "seed": -1,
    }
    text = render(
        "2507:Q8_0",
        context=65_536,
        parameters=parameters,
        system=prompt,
        carrier=carrier.value,
        name="mine:agent",
    )
    file = tmp_path / "Modelfile"
    file.write_text(text, encoding="utf-8")
    release = CATALOG.default
    spec = spec_of(
        release,
        "Q8_0",
        carrier=carrier,
        system=from_file(prompt),
        context=65_536,
        parameters=parameters,
    )
    assert isinstance(spec.source, HubSource)
    server.copy(BASE, spec.source.pulled_from("hf.co"))
    create_from_file(newest_build, bed, "from-text", file)
    request = create_request(spec, "from-api", spec.source.pulled_from("hf.co"))
    server.create(request, lambda *_: None)
    assert digest(server, "from-text") == digest(server, "from-api")


def lines(text: str) -> list[str]:
    """The directives of a Modelfile without templates and prompts."""
    words = ("FROM ", "PARSER ", "PARAMETER ", "REQUIRES ", "SYSTEM ", "TEMPLATE ")
    return [line for line in text.splitlines() if line.startswith(words)]


def test_a_modelfile_says_all_that_the_spec_says() -> None:
    assert [line for line in lines(render("UD-Q4_K_XL")) if '"""' not in line] == [
        "FROM hf.co/unsloth/Devstral-Small-2507-GGUF:UD-Q4_K_XL",
        "REQUIRES 0.15.3",
        "PARSER ministral",
        "PARAMETER temperature 0.15",
        "PARAMETER min_p 0.01",
        "PARAMETER top_k 64",
        "PARAMETER top_p 0.95",
        "PARAMETER repeat_penalty 1",
        "PARAMETER num_ctx 32768",
    ]
    assert "<s>" not in "\n".join(
        line for line in render("UD-Q4_K_XL").splitlines() if not line.startswith("#")
    )


def test_2505_has_a_template_and_no_parser() -> None:
    text = render("2505:Q4_K_M")
    assert "\nPARSER" not in text
    assert '\nTEMPLATE """' in text


@pytest.mark.parametrize(
    ("options", "present", "absent"),
    [
        (["--context", "65536"], "PARAMETER num_ctx 65536", "num_ctx 32768"),
        (["-p", "temperature=0.5"], "PARAMETER temperature 0.5", "temperature 0.15"),
        (["-p", "stop=END", "-p", "stop=FIN"], 'PARAMETER stop "FIN"', '"END FIN"'),
        (["--no-system"], "TEMPLATE", "SYSTEM "),
        (["--carrier", "hub"], "SYSTEM", "TEMPLATE"),
        (["--registry", "mirror.example:5000"], "FROM mirror.example:5000/unsloth/", "hf.co"),
        (["--name", "mine:agent"], "ollama create mine:agent -f agent.Modelfile", "small-2507:UD"),
    ],
)
def test_options_of_render_show_in_its_text(
    tmp_path: Path, options: list[str], present: str, absent: str
) -> None:
    done = run_here("render", "UD-Q4_K_XL", *options, server="", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert present in done.stdout
    assert absent not in done.stdout


def test_the_command_prints_what_the_function_returns(tmp_path: Path) -> None:
    done = run_cli("render", "2505", server="", cwd=tmp_path)
    assert done.stdout == render("2505").rstrip("\n") + "\n"


def test_a_file_is_named_by_its_path(tmp_path: Path) -> None:
    text = render(str(tmp_path / "devstral-2507.gguf"))
    assert f"\nFROM {tmp_path}/devstral-2507.gguf\n" in text


@pytest.mark.parametrize(
    "wish",
    [
        {"parameters": {"stop": ('a"""b',)}},
        {"parameters": {"stop": ("a\nb",)}},
        {"carrier": "nosuch"},
        {"system": "nosuch.txt"},
    ],
)
def test_what_a_modelfile_cannot_say_is_refused(wish: dict[str, object]) -> None:
    with pytest.raises(UsageError) as caught:
        render("UD-Q4_K_XL", **wish)  # type: ignore[arg-type]
    assert caught.value.what


@pytest.mark.parametrize(
    "reference",
    [
        "hf.co/unsloth/Devstral-Small-2507-GGUF@abc:Q8_0",
        f"UD-Q4_K_XL@sha256:{'0' * 64}",
        f"hf.co/me/devstral-2507-GGUF:Q8_0@sha256:{'0' * 64}",
        f"./devstral-2507.gguf@sha256:{'0' * 64}",
    ],
)
def test_which_file_of_a_name_is_meant_cannot_stand_in_a_modelfile(reference: str) -> None:
    with pytest.raises(UsageError, match="cannot stand in a Modelfile"):
        render(reference)


def test_the_releases_modelfiles_are_what_the_catalog_says() -> None:
    done = run_here("render", "--check", server="", cwd=ROOT)
    assert done.returncode == 0, done.stdout[:2_000]


def test_a_stale_modelfile_fails_the_check_with_a_diff_and_all_mends_it(tmp_path: Path) -> None:
    directory = tmp_path / "rendered"
    run_here("render", "--all", "--directory", str(directory), server="")
    stranger = directory / "mine" / "own.Modelfile"
    stranger.parent.mkdir()
    stranger.write_text("FROM scratch\n")
    changed = directory / "devstral-small-2507" / "Q8_0.Modelfile"
    changed.write_text(changed.read_text(encoding="utf-8").replace("num_ctx 32768", "num_ctx 4096"))
    gone = directory / "devstral-small-2505" / "Q8_0.Modelfile"
    gone.unlink()
    extra = directory / "devstral-small-2505" / "Q9.Modelfile"
    extra.write_text("FROM scratch\n")

    check = ("render", "--check", "--all", "--directory", str(directory))
    done = run_here(*check, server="")
    assert done.returncode == 1
    assert "\n-PARAMETER num_ctx 4096\n+PARAMETER num_ctx 32768\n" in done.stdout
    for path in (changed, gone, extra):
        assert f"--- {path}" in done.stdout
    assert done.stderr == f"hint: run: devstral-ollama render --all --directory {directory}\n"

    made = run_here("render", "--all", "--directory", str(directory), "-q", server="")
    assert sorted(made.stdout.split()) == sorted(map(str, (changed, gone, extra)))
    assert run_here(*check, server="").returncode == 0
    assert stranger.is_file(), "only what lies beside the catalog's own is held to it"


def test_a_release_whose_modelfile_is_stale_fails_the_check(tmp_path: Path) -> None:
    directory = tmp_path / "modelfiles"
    shutil.copytree(GOLDEN, directory)
    changed = directory / "devstral-small-2507.Modelfile"
    changed.write_text(changed.read_text(encoding="utf-8").replace("top_k 64", "top_k 40"))
    (directory / "devstral-small-2505.Modelfile").unlink()
    done = run_here("render", "--check", server="", cwd=tmp_path)
    assert done.returncode == 1
    assert "\n-PARAMETER top_k 40\n+PARAMETER top_k 64\n" in done.stdout
    assert "--- modelfiles/devstral-small-2505.Modelfile" in done.stdout
    assert "devstral-2-123b" not in done.stdout


def test_where_all_modelfiles_go_has_to_be_said(tmp_path: Path) -> None:
    done = run_here("render", "--all", server="", cwd=tmp_path)
    assert done.returncode == 2
    assert "--directory" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_file_that_a_spec_names_has_no_digest_in_its_modelfile() -> None:
    from ollama_tools.model import modelfile

    source = FileSource(Path("/models/mine.gguf"), "0" * 64)
    release = CATALOG.default
    spec = Spec(
        "mine:latest",
        release,
        source,
        Carrier.HUB,
        bundled(),
        merge_parameters(release, None, {}),
    )
    assert "0" * 64 not in modelfile.render(spec)
