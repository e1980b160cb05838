"""What is to be done, from what a server has and what is wanted."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from ollama_tools.devstral.carriers import Carrier
from ollama_tools.devstral.catalog_file import load_catalog
from ollama_tools.devstral.system_prompt import SystemOrigin, bundled, system_prompt
from ollama_tools.errors import UsageError
from ollama_tools.files.packaged import data_path
from ollama_tools.model.bring import Way, way_of
from ollama_tools.model.modelfile import Difference
from ollama_tools.model.plan import Plan, compare, make_plan
from ollama_tools.model.published import Hub
from ollama_tools.model.steps import Policy
from ollama_tools.progress import Silence
from ollama_tools.server.client import InstalledModel, RunningModel, Server
from ollama_tools.server.origin import Origin
from ollama_tools.server.shown import Shown
from ollama_tools.server.versions import TESTED_SERVER, Version
from ollama_tools.wanted.draft import RegistryAddress, parse_registry, parse_via
from ollama_tools.wanted.source import FileSource, HubSource, ServerSource, Source
from ollama_tools.wanted.spec import Spec, merge_parameters
from ollama_tools.wanted.wish import Via
from tests.testbed.tunes import write_header

RELEASE = load_catalog(data_path("catalog.yaml")).default
NAME = "devstral-small-2507:Q4_K_M"
HUB = Spec(
    name=NAME,
    release=RELEASE,
    source=HubSource(RELEASE.repository, "Q4_K_M", bytes=14 * 1024**3),
    carrier=Carrier.HUB,
    system=bundled(),
    parameters=merge_parameters(RELEASE, None, {}),
)
MODELFILE = replace(HUB, carrier=Carrier.MODELFILE)
BLOB = f"/blobs/sha256-{'0' * 64}"
BLOBS = (f"sha256:{'0' * 64}",)


def shown(spec: Spec, **changes: Any) -> dict[str, Any]:
    """What a server shows of a model that is as a spec wants it."""
    parser = f"PARSER {spec.layers.parser}\n" if spec.layers.parser else ""
    return {
        "system": spec.system.text,
        "template": spec.layers.template or "{{ .Prompt }}",
        "modelfile": f"FROM /blobs/sha256-{'0' * 64}\n{parser}",
        "parameters": "\n".join(
            f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}"
            for key, value in spec.parameters.items()
        ),
        **changes,
    }


class Fake:
    """A server that has models; it can only be looked at."""

    def __init__(self, models: dict[str, str], answer: dict[str, Any] | None = None) -> None:
        self.listed = [InstalledModel(name, digest, 1) for name, digest in models.items()]
        self._answer = answer
        self.asked: list[str] = []

    url = "http://fake"
    now = datetime(2026, 11, 26, tzinfo=UTC)

    def running(self) -> list[RunningModel]:
        return []

    def has_blob(self, _digest: str) -> bool:
        return True

    def show(self, name: str, *, anew: bool = False) -> Shown:
        del anew
        self.asked.append(name)
        assert self._answer is not None
        return Shown(name, self._answer)


def plan_on(
    fake: Fake,
    *candidates: Spec,
    via: Via = Via.SERVER,
    check: bool = True,
    force: bool = False,
    keep: int | None = None,
) -> Plan:
    policy = Policy(check=check, force=force, keep=keep)
    server = cast("Server", fake)
    compared = compare(
        server, fake.listed, candidates, policy, Hub(Silence()), Silence(), TESTED_SERVER
    )
    return make_plan(
        compared,
        server,
        TESTED_SERVER,
        policy,
        via=via,
        registry=RegistryAddress(),
        publisher=Hub(Silence()),
        progress=Silence(),
    )


def steps(plan: Plan) -> list[str]:
    return [f"{each.sign} {each.kind.value}" for each in plan.steps]


def test_every_kind_of_source_has_a_way_of_its_own() -> None:
    made: list[Source] = [
        HubSource("me/x", "Q8_0"),
        FileSource(Path("x.gguf")),
        ServerSource("x", BLOBS),
    ]
    # Slots make a class anew, and the first may still be there.
    names = {each.__name__ for each in Source.__subclasses__()}
    assert {type(each).__name__ for each in made} == names
    assert {type(way_of(each)) for each in made} == set(Way.__subclasses__())


def test_an_empty_server_gets_everything() -> None:
    plan = plan_on(Fake({}), HUB, MODELFILE)
    assert plan.compared.reason == "it is not on the server"
    assert steps(plan) == [
        "+ bring",
        "+ build",
        "? compare",
        "? check",
        "+ keep",
        "+ switch",
        "- remove",
    ]
    assert ", 14.0 GiB" in plan.steps[0].text
    assert plan.steps[2].text.endswith("if it is another, try modelfile")


def test_a_size_that_is_not_known_to_the_byte_is_said_to_be_about_it() -> None:
    assert isinstance(HUB.source, HubSource)
    guessed = replace(HUB, source=replace(HUB.source, estimated=True))
    assert ", about 14.0 GiB" in plan_on(Fake({}), guessed).steps[0].text


@pytest.mark.parametrize("spec", [HUB, MODELFILE])
def test_any_candidate_that_is_served_as_it_should_be_is_left_alone(spec: Spec) -> None:
    fake = Fake({NAME: "d", spec.build(BLOBS): "d"}, shown(spec))
    plan = plan_on(fake, HUB, MODELFILE)
    assert plan.compared.unchanged == spec
    assert plan.steps == ()
    assert fake.asked == [NAME]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"system": "Be rude."}, "system prompt: sha256:"),
        ({"system": ""}, "system prompt: none instead of sha256:"),
        ({"template": "{{ .Prompt }}"}, "template: sha256:"),
        ({"modelfile": f"FROM {BLOB}\n"}, "parser: none instead of ministral"),
        (
            {"modelfile": f'FROM {BLOB}\nTEMPLATE """\nPARSER ministral\n"""'},
            "parser: none instead",
        ),
        ({"modelfile": f"FROM /blobs/sha256-{'1' * 64}\nPARSER ministral\n"}, "weights: sha256:1"),
        ({"parameters": ""}, "parameter temperature: none instead of 0.15; parameter"),
        ({"parameters": "num_ctx 4096"}, "parameter num_ctx: 4096 instead of 32768"),
    ],
)
def test_a_build_that_was_changed_itself_is_found(changes: dict[str, str], reason: str) -> None:
    fake = Fake({NAME: "d", MODELFILE.build(BLOBS): "d"}, shown(MODELFILE, **changes))
    plan = plan_on(fake, MODELFILE)
    assert plan.compared.unchanged is None
    assert reason in plan.compared.reason


def test_more_parameters_than_wanted_are_no_difference() -> None:
    more = shown(MODELFILE)["parameters"] + '\nstop "</s>"\nseed 7'
    fake = Fake({NAME: "d", MODELFILE.build(BLOBS): "d"}, shown(MODELFILE, parameters=more))
    assert plan_on(fake, MODELFILE).compared.unchanged == MODELFILE


def test_a_name_that_stands_for_no_build_is_switched() -> None:
    plan = plan_on(Fake({NAME: "other", HUB.build(BLOBS): "d"}, shown(HUB)), HUB)
    assert plan.compared.differences == (Difference("build", None, HUB.build(BLOBS)),)
    assert plan.compared.reason == f"build: none instead of {HUB.build(BLOBS)}"
    assert steps(plan) == ["= build", "? check", "~ switch"]


def test_the_nearest_candidate_says_what_differs() -> None:
    other = replace(HUB, system=system_prompt("Be brief.", SystemOrigin.FILE, "x"))
    fake = Fake({NAME: "d", other.build(BLOBS): "d"}, shown(other))
    plan = plan_on(fake, MODELFILE, HUB)
    assert [each.field for each in plan.compared.differences] == ["system prompt", "build"]
    assert plan.compared.differences[1].found == other.build(BLOBS)


def test_force_finds_work_where_nothing_differs() -> None:
    base = HUB.source.pulled_from("hf.co")
    assert base == "hf.co/unsloth/Devstral-Small-2507-GGUF:Q4_K_M"
    fake = Fake({NAME: "d", HUB.build(BLOBS): "d", base: "b"}, shown(HUB))
    plan = plan_on(fake, HUB, force=True)
    assert plan.compared.unchanged is None
    assert "--force" in plan.compared.reason
    assert steps(plan)[:2] == ["+ bring", "+ build"]
    assert fake.asked == []


def test_a_base_that_is_there_is_not_pulled() -> None:
    base = HUB.source.pulled_from("hf.co")
    assert base is not None
    assert steps(plan_on(Fake({base: "b"}), HUB))[0] == "= bring"


@pytest.mark.parametrize(
    ("options", "absent"),
    [
        ({"check": False}, {"? check"}),
    ],
)
def test_steps_that_are_not_taken_are_not_shown(options: dict[str, Any], absent: set[str]) -> None:
    assert not absent & set(steps(plan_on(Fake({}), HUB, **options)))


def test_weights_on_the_server_are_not_brought() -> None:
    spec = replace(HUB, source=ServerSource("plain", ("sha256:0",)))
    fake = Fake(
        {"plain:latest": "p"}, {**shown(HUB), "model_info": {"general.architecture": "llama"}}
    )
    found = ["= bring", "+ build", "? check", "+ keep", "+ switch"]
    assert steps(plan_on(fake, spec)) == found
    assert spec.source.pulled_from("hf.co") is None


# A file of this machine


def file_and_answer(tmp_path: Path, origin: Origin | None = None) -> tuple[Spec, dict[str, Any]]:
    """A file's spec, and what a server shows that has its bytes."""
    path = write_header(tmp_path / "mine.gguf")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    spec = replace(MODELFILE, source=FileSource(path))
    answer = shown(spec, license=origin.license_line if origin else "")
    answer["modelfile"] = answer["modelfile"].replace("0" * 64, sha256)
    return spec, answer


def blobs(answer: dict[str, Any]) -> tuple[str, ...]:
    return Shown(NAME, answer).blobs


def test_a_file_whose_bytes_serve_is_what_is_wanted_and_any_other_is_not(tmp_path: Path) -> None:
    spec, answer = file_and_answer(tmp_path)
    fake = Fake({NAME: "d", spec.build(blobs(answer)): "d"}, answer)
    assert plan_on(fake, spec, via=Via.UPLOAD).compared.unchanged == spec
    write_header(tmp_path / "mine.gguf", **{"general.name": "another"})
    compared = compare(
        cast("Server", fake),
        fake.listed,
        [spec],
        Policy(),
        Hub(Silence()),
        Silence(),
        TESTED_SERVER,
    )
    assert compared.unchanged is None
    assert [each.field for each in compared.differences] == ["weights"]


def test_the_eldest_name_of_a_file_is_told_by_the_file_itself(tmp_path: Path) -> None:
    spec, answer = file_and_answer(tmp_path)
    own = hashlib.sha256((tmp_path / "mine.gguf").read_bytes()).hexdigest()
    named = replace(spec, source=FileSource(Path("elsewhere.gguf"), own))
    eldest, *_ = named.earlier_builds(blobs(answer))
    plan = plan_on(Fake({NAME: "d", eldest: "d"}, answer), spec, via=Via.UPLOAD)
    assert [str(each) for each in plan.steps] == [
        f"~ rename the build {eldest} to {spec.build(blobs(answer))}; no bytes move"
    ]


@pytest.mark.parametrize(
    ("said", "same"),
    [("its own", True), ("1" * 64, False), (None, False), ("nothing", False)],
)
def test_where_a_server_makes_files_of_its_own_the_manifest_tells_which_it_was_given(
    tmp_path: Path, said: str | None, *, same: bool
) -> None:
    own = hashlib.sha256(write_header(tmp_path / "mine.gguf").read_bytes()).hexdigest()
    sha256 = own if said == "its own" else said
    origin = None if said == "nothing" else Origin(file="mine.gguf", sha256=sha256)
    spec, answer = file_and_answer(tmp_path, origin)
    answer["modelfile"] = shown(spec)["modelfile"]
    fake = Fake({NAME: "d", spec.build(BLOBS): "d"}, answer)
    compared = compare(
        cast("Server", fake),
        fake.listed,
        [spec],
        Policy(),
        Hub(Silence()),
        Silence(),
        Version(0, 33, 0),
    )
    assert (compared.unchanged == spec) is same


def test_a_plan_as_json_says_all_that_a_program_wants() -> None:
    plan = plan_on(Fake({}), HUB, MODELFILE)
    document = plan.as_json()
    assert {key: document[key] for key in ("name", "changed", "via", "context", "carriers")} == {
        "name": NAME,
        "changed": True,
        "via": "server",
        "context": 32768,
        "carriers": ["hub", "modelfile"],
    }
    assert len(document["steps"]) == len(plan.steps)


@pytest.mark.parametrize(
    ("text", "registry"),
    [
        (None, RegistryAddress("hf.co", insecure=False)),
        ("mirror.example", RegistryAddress("mirror.example", insecure=False)),
        ("mirror.example:5000", RegistryAddress("mirror.example:5000", insecure=False)),
        ("http://mirror.example:5000/", RegistryAddress("mirror.example:5000", insecure=True)),
        ("https://127.0.0.1:5000", RegistryAddress("127.0.0.1:5000", insecure=False)),
        ("127.0.0.1:5000", RegistryAddress("127.0.0.1:5000", insecure=True)),
        ("localhost", RegistryAddress("localhost", insecure=True)),
        ("localhost.example", RegistryAddress("localhost.example", insecure=False)),
    ],
)
def test_a_registry_is_read_from_its_address(text: str | None, registry: RegistryAddress) -> None:
    assert parse_registry(text) == registry


@pytest.mark.parametrize("text", ["", "a b", "ftp://x", "x:port", "x/y", "http://", "x:123456"])
def test_what_is_no_registry_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not the host of a registry"):
        parse_registry(text)


def test_the_ways_for_the_bytes() -> None:
    assert [parse_via(each) for each in (None, "upload", "server")] == [
        None,
        Via.UPLOAD,
        Via.SERVER,
    ]
    with pytest.raises(UsageError):
        parse_via("Upload")
