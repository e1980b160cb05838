"""What people paste and have, on a live server with a hub."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ollama_tools import Outcome
from ollama_tools.errors import HubError, UsageError
from ollama_tools.server.client import Server
from tests.live.test_create import QUANT, REPOSITORY, create, hub, unloaded
from tests.testbed.hub import Hub
from tests.testbed.repository import Content, Repository

__all__ = ["create", "hub", "unloaded"]

Create = Callable[..., Outcome]
OTHERS = "somebody/Devstral-Small-2507-GGUF"


@pytest.fixture
def weights(hub: Hub) -> Content:
    """A file of the catalog's repository, which another owner publishes under other names."""
    original = hub.newest(REPOSITORY).repository
    content = original.files[original.tags[QUANT]]
    hub.publish(Repository(OTHERS, {"sub/my own-Q4_K_M.gguf": content, "x-Q5_K_M.gguf": content}))
    return content


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        (f"https://huggingface.co/{OTHERS}/blob/main/x-Q5_K_M.gguf", "Q5_K_M"),
        (
            f"https://huggingface.co/{OTHERS}/resolve/main/sub/my%20own-Q4_K_M.gguf?download=true",
            "Q4_K_M",
        ),
        (f"{OTHERS}:x-Q5_K_M.gguf", "Q5_K_M"),
        (f"{OTHERS}:Q5_K_M", "Q5_K_M"),
    ],
)
@pytest.mark.usefixtures("weights")
def test_a_file_of_another_owner_gets_a_name_of_its_own(
    create: Create, server: Server, reference: str, name: str
) -> None:
    made = create(reference, check=False)
    assert made.name == f"somebody/devstral-small-2507:{name}"
    assert create(reference, check=False).changed is False
    assert server.model(made.name) is not None


@pytest.mark.usefixtures("weights")
def test_a_quant_that_nobody_has_is_refused_with_what_there_is(create: Create) -> None:
    for repository in (OTHERS, REPOSITORY):
        with pytest.raises(UsageError, match="has no GGUF for 'IQ9_XXS'") as caught:
            create(f"{repository}:IQ9_XXS", check=False)
        assert "it has: " in caught.value.fix


@pytest.mark.parametrize("path", ["./nosuch.gguf", "~/nosuch", "/nosuch/sha256-" + "5f" * 32])
def test_a_local_file_that_is_not_there_is_said_to_be_missing(create: Create, path: str) -> None:
    with pytest.raises(UsageError, match="there is no file"):
        create(path, check=False)


@pytest.mark.usefixtures("weights")
def test_a_file_that_is_not_there_is_said_to_be_missing(create: Create) -> None:
    with pytest.raises(HubError, match=r"has no file 'nosuch-Q4_0\.gguf'"):
        create(f"{OTHERS}:nosuch-Q4_0.gguf", check=False)


@pytest.mark.parametrize(
    "name", ["a:b.gguf", "a\\b.gguf", "~a.gguf", ".a.gguf", "a b%2f.gguf", "sha256-" + "5f" * 32]
)
def test_a_local_file_may_be_called_anything(
    create: Create,
    weights: Content,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with weights.open() as source:
        (tmp_path / name).write_bytes(source.read())
    made = create(f"./{name}", name="my-tune", release="2507", check=False)
    assert made.changed
    assert create(f"./{name}", name="my-tune", release="2507", check=False).changed is False
