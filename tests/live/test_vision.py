"""Vision on a real server: one command, one model, whatever way its bytes came."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ollama_tools import Outcome, Status, ensure_model, smoke
from ollama_tools.checks.picture import WITH_PICTURE
from ollama_tools.checks.result import Report
from ollama_tools.checks.smoke import _check_vision, _Subject
from ollama_tools.checks.surfaces import SURFACES_OF_IMAGES
from ollama_tools.checks.talk import Advice, asks_on, picture_checks
from ollama_tools.devstral.catalog import TokenizerVersion
from ollama_tools.devstral.miniature import write_miniature
from ollama_tools.errors import HubError, ServerError, UsageError
from ollama_tools.lint import cases
from ollama_tools.model.ensure import plan_for
from ollama_tools.model.listing import list_models
from ollama_tools.model.status import model_status
from ollama_tools.model.steps import Policy
from ollama_tools.progress import Silence
from ollama_tools.server.client import Server
from ollama_tools.wanted.draft import RegistryAddress
from ollama_tools.wanted.wish import Wish
from tests.live.test_create import NAME, QUANT, REPOSITORY, Heard, Requests, hub, unloaded
from tests.testbed.build import OLDEST, ollama_build
from tests.testbed.hub import Hub
from tests.testbed.models import PROJECTOR, TEMPLATES
from tests.testbed.projector import write_projector
from tests.testbed.server import OllamaServer

__all__ = ["hub", "unloaded"]

IMAGE_CHECKS = {f"image {each.path}" for each in SURFACES_OF_IMAGES}
SMALL_2512 = "unsloth/Devstral-Small-2-24B-Instruct-2512-GGUF"
PLAIN = {"context": 4096, "system": "bundled", "prompt_tokens": 300}

Create = Callable[..., Outcome]


@pytest.fixture
def eyes(hub: Hub) -> str:
    """Puts a projector into the registry's manifests, and says its digest."""
    repository = hub.newest(REPOSITORY).repository
    hub.publish(replace(repository, projector=PROJECTOR))
    return repository.files[PROJECTOR].digest


@pytest.fixture
def create(bed: OllamaServer, hub: Hub) -> Create:
    def made(reference: str = QUANT, **said: Any) -> Outcome:
        return ensure_model(reference, **{"host": bed.url, "check": False, **PLAIN, **said})

    return made


def seen(report: Report) -> set[str]:
    """The checks of a report that were made with a picture, all of which have to pass."""
    assert report.passed
    (vision,) = (each for each in report.checks if each.id == "vision")
    assert vision.saw.startswith("sees images: a small one counts ")
    return {each.id for each in report.checks if each.id.startswith("image ")}


def sees_on_every_surface(server: Server) -> None:
    asks = asks_on(SURFACES_OF_IMAGES, server, NAME)
    for each in picture_checks(asks, Advice("", ()), Silence()):
        talks = each.id == "image /api/generate"
        saw = repr("Hello from the miniature.") if talks else f"a call of {cases.TOOL}"
        assert (each.status, each.saw) == (Status.PASS, saw)


@pytest.mark.parametrize("carrier", ["gguf", "hub", "modelfile"])
def test_every_carrier_sees_images_on_every_surface_whatever_way_it_came(
    create: Create, server: Server, hub: Hub, eyes: str, carrier: str
) -> None:
    made = create(vision=True, carrier=carrier)
    sees_on_every_surface(server)
    shown = server.show(NAME)
    assert (made.vision, shown.sees_images, shown.projectors) == (True, True, (eyes,))
    assert made.origin is not None
    assert made.origin.repository == REPOSITORY
    if carrier == "gguf":
        return
    # By the server's own pull it is the same build to the bit, so there is nothing left to do.
    pulled = {"via": "server", "registry": hub.registry}
    again = create(vision=True, carrier=carrier, **pulled)
    assert (again.changed, again.build) == (False, made.build)
    server.delete(NAME)
    for each in server.models():
        server.delete(each.name)
    anew = create(vision=True, carrier=carrier, **pulled)
    assert (anew.changed, anew.build, anew.vision) == (True, made.build, True)
    assert server.show(NAME).projectors == (eyes,)


def test_what_a_pull_brings_unasked_is_left_out_and_said(
    create: Create, server: Server, hub: Hub, bed: OllamaServer, eyes: str
) -> None:
    heard = Heard()
    blind = create(via="server", registry=hub.registry, carrier="hub", progress=heard)
    shown = server.show(NAME)
    assert (blind.vision, shown.sees_images, shown.projectors) == (False, False, ())
    assert [each for each in heard.warnings if "which is left out: --vision keeps it" in each]
    assert create(carrier="hub", via="upload").changed is False

    # A build's name says it, and so one goes back and forth without a byte moved.
    seeing = create(via="server", registry=hub.registry, carrier="hub", vision=True)
    assert (seeing.changed, seeing.vision) == (True, True)
    assert seeing.build != blind.build
    requests = Requests(bed)
    back = create(carrier="hub", via="upload")
    assert (back.build, back.vision) == (blind.build, False)
    assert not [each for each in requests.so_far() if "blobs" in each and "POST" in each]

    # What is pulled is known beforehand, so a plan knows what will be too much.
    pulled = {"context": 8192, "via": "server", "registry": hub.registry, "system": "bundled"}
    wish = Wish(reference=QUANT, carrier="hub", vision=True, **pulled)  # type: ignore[arg-type]
    plan = plan_for(server, wish, Policy(check=False, keep=1), Silence())
    assert (set(plan.removed), plan.at_most) == ({blind.build, seeing.build}, False)

    # Of its own name as of any other on the server, the projector is wanted or not.
    named = create(NAME, name="other", carrier="hub", release="2507")
    assert (named.vision, server.show("other").projectors) == (False, ())


def test_drift_of_vision_is_seen_and_named_everywhere(
    create: Create, server: Server, eyes: str
) -> None:
    create(vision=True)
    wish = {key: value for key, value in PLAIN.items() if key != "prompt_tokens"}
    found = model_status(server, Wish(reference=QUANT, **wish))  # type: ignore[arg-type]
    assert (found.drifted, found.vision) == (True, True)
    assert str(found.differences[0]) == "vision: images instead of none"
    assert not [each for each in found.differences if each.field == "weights"]
    right = model_status(server, Wish(reference=QUANT, vision=True, **wish))  # type: ignore[arg-type]
    assert not right.drifted
    # A name that stands for weights without it is drift the other way.
    server.create(
        {"model": NAME, "files": {"a.gguf": server.show(NAME).blobs[0]}, "stream": True},
        lambda *_: None,
    )
    lost = model_status(server, Wish(reference=QUANT, vision=True, **wish))  # type: ignore[arg-type]
    assert "vision: none instead of images" in map(str, lost.differences)
    (entry,) = list_models(server).entries
    assert (entry.vision, entry.rows().__next__()[5]) == (False, "no")


def test_without_a_projector_the_error_is_explained(
    create: Create, server: Server, bed: OllamaServer
) -> None:
    create(carrier="hub")
    for surface in SURFACES_OF_IMAGES:
        with pytest.raises(ServerError, match="image input is not supported"):
            surface.ask(server, NAME, WITH_PICTURE, [], stream=False)
    report = smoke(NAME, host=bed.url, prompt_tokens=300)
    (vision,) = (each for each in report.checks if each.id == "vision")
    assert (vision.status, vision.saw.endswith("ends in HTTP 500")) == (Status.PASS, True)
    assert not [each for each in report.checks if each.id.startswith("image ")]


def test_the_small_of_2512_sees_images_unasked(create: Create, server: Server, hub: Hub) -> None:
    name = "devstral-small-2-24b-instruct-2512:Q4_0"
    assert create("2512:Q4_0").vision
    assert server.show(name).sees_images
    assert create("2512:Q4_0", vision=False).vision is False
    # A mirror without a projector is no fault where nobody asked for one, and said.
    heard = Heard()
    pulled = create("2512:Q8_0", via="server", registry=hub.registry, progress=heard)
    assert pulled.vision is False
    assert [each for each in heard.warnings if "has no projector" in each]
    assert create("2512:Q8_0", via="server", registry=hub.registry).changed is False


def test_a_server_gets_the_hubs_projector_where_its_pull_brings_none(
    create: Create, server: Server, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="has no projector for") as caught:
        create(via="server", registry=hub.registry, vision=True)
    assert "--projector FILE" in caught.value.fix
    assert server.models() == []
    # The stand-in takes the hub's own place: whoever is no mirror may ask it.
    monkeypatch.setattr(RegistryAddress, "is_hub", property(lambda _: True))
    hub.fail("/api/models/", status=503)
    with pytest.raises(HubError, match=r"brought no projector, and .*503") as refused:
        create(via="server", registry=hub.registry, vision=True, carrier="hub")
    assert "--no-vision" in refused.value.fix
    hub.heal()
    made = create(via="server", registry=hub.registry, vision=True, carrier="hub")
    digest = hub.newest(REPOSITORY).repository.files[PROJECTOR].digest
    assert (made.vision, server.show(NAME).projectors) == (True, (digest,))
    assert create(via="upload", vision=True, carrier="hub").changed is False


@pytest.fixture
def tune(tmp_path: Path) -> Path:
    path = tmp_path / "devstral-2507-tune.gguf"
    template = (TEMPLATES / "published.jinja").read_text(encoding="utf-8")
    write_miniature(path, chat_template=template, layers=1, heads=1, kv_heads=1, name="mine")
    return path


def test_a_file_takes_the_projector_beside_it_or_the_one_that_is_named(
    create: Create, server: Server, bed: OllamaServer, tune: Path, tmp_path: Path
) -> None:
    name = "devstral-2507-tune:latest"
    requests = Requests(bed)
    with pytest.raises(UsageError, match="there is no projector beside"):
        create(str(tune), vision=True)
    write_projector(tmp_path / "mmproj-F16.gguf", text_width=64)
    with pytest.raises(UsageError, match=r"is for models of width 64, .* has 32"):
        create(str(tune), vision=True)
    with pytest.raises(UsageError, match="is a projector, with which a model sees images, and no"):
        create(str(tmp_path / "mmproj-F16.gguf"), release="2507", name="devstral-x")
    assert not [each for each in requests.so_far() if each.startswith("POST /api/blobs")]

    write_projector(tmp_path / "mmproj-F16.gguf")
    assert create(str(tune)).vision is False
    beside = create(str(tune), vision=True, check=True)
    assert beside.report is not None
    assert seen(beside.report) == IMAGE_CHECKS
    assert create(str(tune), vision=True).changed is False
    (tmp_path / "own").mkdir()
    # Of the same name as the weights, in a folder of its own.
    own = tmp_path / "own" / tune.name
    write_projector(own, name="another")
    other = create(str(tune), projector=own)
    assert (other.changed, other.build != beside.build) == (True, True)
    digest = hashlib.sha256(own.read_bytes()).hexdigest()
    assert server.show(name).projectors == (f"sha256:{digest}",)
    assert create(str(tune), projector=own).changed is False


def test_upgrade_takes_a_projector_that_was_published_anew(
    create: Create, server: Server, hub: Hub, tmp_path: Path
) -> None:
    first = create(vision=True)
    write_projector(tmp_path / "new.gguf", name="new")
    repository = hub.newest(REPOSITORY).repository
    content = type(repository.files[PROJECTOR]).of(tmp_path / "new.gguf")
    hub.publish(replace(repository, files={**repository.files, PROJECTOR: content}))
    assert create(vision=True).changed is False
    hub.fail(f"/lfs/{REPOSITORY}/{PROJECTOR}", corrupt=True)
    with pytest.raises(HubError, match="is not what the hub announced"):
        create(vision=True, upgrade=True)
    assert server.show(NAME).projectors == (repository.files[PROJECTOR].digest,)
    hub.heal()
    newer = create(vision=True, upgrade=True)
    assert (newer.changed, newer.build != first.build) == (True, True)
    assert server.show(NAME).projectors == (content.digest,)


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OllamaServer]:
    root = tmp_path_factory.mktemp("old")
    with OllamaServer(
        ollama_build(OLDEST), models_dir=root / "models", log_path=root / "ollama.log"
    ) as server:
        yield server


def vision_of(server: Server, name: str) -> str:
    """What smoke says of a model's vision, without all that it asks besides."""
    subject = _Subject(server, name, TokenizerVersion.V13, 300, None, version=OLDEST)
    status, saw, _ = _check_vision(subject)
    assert status is Status.PASS
    return saw


@pytest.mark.old_server
def test_the_older_generation_sees_images_as_well(old: OllamaServer, hub: Hub, eyes: str) -> None:
    def create(**said: Any) -> Outcome:
        return ensure_model(QUANT, host=old.url, **{"check": False, **PLAIN, **said})

    made = create(vision=True)
    with Server(old.url) as server:
        sees_on_every_surface(server)
        assert vision_of(server, NAME).startswith("sees images: a small one counts ")
        pulled = {"via": "server", "registry": hub.registry, "name": "pulled"}
        again = create(vision=True, **pulled)
        assert again.build.rpartition("-")[2] == made.build.rpartition("-")[2]
        assert create(**pulled).vision is False
        assert server.show("pulled").projectors == ()
        assert server.show(NAME).projectors == (eyes,)
        # It does not say that it cannot.
        assert vision_of(server, "pulled").endswith("is answered as if there were none")
        for surface in SURFACES_OF_IMAGES:
            assert surface.ask(server, "pulled", WITH_PICTURE, [], stream=False).text
