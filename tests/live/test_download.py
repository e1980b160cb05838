"""``download`` from the hub: whole, once, and so that nobody has to read it again."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from ollama_tools import __main__ as entry
from ollama_tools.devstral.catalog_file import load_catalog
from ollama_tools.errors import FileProblem, HubAway, HubError, UsageError
from ollama_tools.model.download import Downloaded
from ollama_tools.model.download import download as bring
from ollama_tools.server.client import Server
from ollama_tools.wanted.wish import Wish
from tests.live.test_create import QUANT, REPOSITORY, ROOT, Create, Heard, create, hub, run_cli
from tests.testbed.hub import Hub
from tests.testbed.models import PROJECTOR, devstral_repositories
from tests.testbed.repository import Content, Repository

__all__ = ["create", "hub"]

FILE = f"Devstral-Small-2507-{QUANT}.gguf"
NOWHERE = "http://127.0.0.1:9"
_Usage = namedtuple("_Usage", "total used free")


def download(reference: str = QUANT, revision: str | None = None, **how: Any) -> Downloaded:
    progress = how.pop("progress", Heard())
    return bring(Wish(reference=reference, revision=revision), load_catalog(), progress, **how)


def asked_bytes(hub: Hub) -> list[tuple[str, str | None]]:
    """The files whose bytes were asked for, with the range."""
    return [
        (each.path.rpartition("/")[2], each.range)
        for each in hub.requests
        if each.method == "GET" and each.path.startswith("/lfs/")
    ]


def content(hub: Hub, filename: str = FILE) -> Content:
    return hub.newest(REPOSITORY).repository.files[filename]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_quant_comes_into_the_cache_that_others_look_into_and_comes_once(hub: Hub) -> None:
    found = download()
    (file,) = found.files
    assert (file.sha256, file.brought) == (content(hub).sha256, True)
    assert sha256(file.path) == content(hub).sha256
    # As llama.cpp's -hf and huggingface_hub find it.
    assert huggingface_hub.try_to_load_from_cache(
        REPOSITORY, FILE, cache_dir=huggingface_hub.constants.HF_HUB_CACHE
    ) == str(file.path)
    assert found.commit == hub.newest(REPOSITORY).id
    hub.forget()
    heard = Heard()
    (again,) = download(progress=heard).files
    assert (again.path, again.sha256, again.brought) == (file.path, file.sha256, False)
    assert asked_bytes(hub) == []
    assert not [each for each in heard.steps if "hashing" in each]


def test_create_fetches_and_hashes_nothing_again(create: Create, hub: Hub, server: Server) -> None:
    download()
    hub.forget()
    heard = Heard()
    made = create(check=False, progress=heard)
    assert asked_bytes(hub) == []
    assert not [each for each in heard.steps if "hashing" in each]
    assert made.carrier == "gguf"


def test_create_hashes_nothing_of_a_file_in_a_directory(
    create: Create, hub: Hub, server: Server, tmp_path: Path
) -> None:
    (file,) = download(directory=tmp_path / "models").files
    assert file.path == tmp_path / "models" / FILE
    hub.forget()
    heard = Heard()
    create(str(file.path), check=False, progress=heard, system="bundled")
    assert asked_bytes(hub) == []
    assert not [each for each in heard.steps if "hashing" in each]


def test_the_files_of_the_guides_patterns_come_into_a_directory_and_nothing_beside_them(
    hub: Hub, tmp_path: Path
) -> None:
    place = tmp_path / "unsloth" / "Devstral-Small-2507-GGUF"
    found = download(directory=place, vision=True)
    assert [(each.file, each.kind.value, each.brought) for each in found.files] == [
        (FILE, "weights", True),
        (PROJECTOR, "projector", True),
    ]
    assert sorted(each.name for each in place.rglob("*")) == sorted([FILE, PROJECTOR])
    assert {sha256(each.path) for each in found.files} == {
        content(hub, name).sha256 for name in (FILE, PROJECTOR)
    }
    assert not [
        each.brought for each in download(directory=place, vision=True).files if each.brought
    ]


def test_what_the_cache_has_is_copied_and_not_fetched(hub: Hub, tmp_path: Path) -> None:
    download()
    hub.forget()
    (file,) = download(directory=tmp_path / "models").files
    assert (asked_bytes(hub), file.brought) == ([], True)
    assert sha256(file.path) == content(hub).sha256
    assert not file.path.is_symlink()


@pytest.fixture(scope="module")
def large_hub() -> Iterator[Hub]:
    """A hub whose files are longer than what huggingface_hub writes at once, which is 10 MB."""
    with Hub(devstral_repositories(heads=1, kv_heads=1, quants=[QUANT], filler=32 << 20)) as found:
        yield found


@pytest.mark.parametrize("where", ["cache", "directory"])
def test_a_killed_download_goes_on_where_it_was(large_hub: Hub, tmp_path: Path, where: str) -> None:
    hub = large_hub
    hub.reset()
    hub.fail("/lfs/", bytes_per_second=24 << 20)
    more = ["--dir", str(tmp_path / "models")] if where == "directory" else []
    home = tmp_path / "home"
    environment = {"HF_HOME": str(home), "HF_ENDPOINT": hub.endpoint, "PYTHONPATH": str(ROOT)}
    root = Path(more[1]) if more else home

    def partial() -> list[Path]:
        return [each for each in root.rglob("*.incomplete") if each.stat().st_size]

    with subprocess.Popen(
        [sys.executable, "-m", "ollama_tools", "download", QUANT, *more],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        deadline = time.monotonic() + 60
        while not partial():
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    (rest,) = partial()
    have = rest.stat().st_size
    assert 0 < have < content(hub).size
    hub.heal()
    hub.forget()
    done = run_cli("download", QUANT, *more, "--json", server=NOWHERE, hub=hub, HF_HOME=str(home))
    (file,) = json.loads(done.stdout)["files"]
    assert sha256(Path(file["path"])) == content(hub).sha256
    assert asked_bytes(hub) == [(FILE, f"bytes={have}-")]
    assert list(root.rglob("*.incomplete")) == []


def test_a_wrong_rest_is_found_by_its_digest_and_the_next_run_begins_anew(hub: Hub) -> None:
    hub.fail("/lfs/", corrupt=True)
    with pytest.raises(HubError, match="is not what the hub announced"):
        download()
    hub.heal()
    (file,) = download().files
    assert sha256(file.path) == content(hub).sha256


def test_without_room_no_byte_comes(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = content(hub).size
    monkeypatch.setattr(shutil, "disk_usage", lambda _: _Usage(size, 0, size))
    for directory in (None, tmp_path / "models"):
        with pytest.raises(FileProblem, match=r"are to come, and .* are free at") as caught:
            download(directory=directory)
        assert "free space" in caught.value.fix
    assert asked_bytes(hub) == []


def test_a_disk_that_fills_up_meanwhile_is_said_and_nothing_stays_on_it(
    hub: Hub, tmp_path: Path
) -> None:
    # A real disk of a few pages. What looks for room before would never let it begin.
    run = "import ollama_tools.model.download as d; d._require_room = lambda *_: None; "
    run += "import sys, ollama_tools.__main__ as m; raise SystemExit(m.run(sys.argv[1:]))"
    place = tmp_path / "disk"
    place.mkdir()
    line = 'mount -t tmpfs -o size=16k x "$1"; "$2" -c "$3" download "$4" --dir "$1"; ls -A "$1"'
    arguments = [str(place), sys.executable, run, QUANT]
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", line, "sh", *arguments],
        env={
            **os.environ,
            "HF_ENDPOINT": hub.endpoint,
            "HF_HOME": os.environ["XDG_CACHE_HOME"],
            "PYTHONPATH": str(ROOT),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert f"error: cannot bring {REPOSITORY}/{FILE}: No space left on device" in done.stderr
    assert "fix: check the disk" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "error", "fix"),
    [
        ([""], "an empty reference names no model", "UD-Q4_K_XL"),
        (["UD-Q4_K_XXL"], "is no quant of Devstral-Small-2507", "did you mean"),
        (["my-devstral:latest"], "is no quant, and no repository on the hub", "UD-Q4_K_XL"),
        (["devstral:24b"], "is a name of Ollama's library", "use 2507:"),
        (["./x.gguf"], "names a file on this machine", "devstral-ollama create x.gguf"),
        (["hf.co/me/devstral-2507-GGUF"], "names no quant", ":Q4_K_M"),
        (["hf.co/me/none-GGUF:Q4_K_M"], "has no repository me/none-GGUF", "hf auth login"),
        ([f"hf.co/{REPOSITORY}:Q9_K_M"], "has no GGUF for 'Q9_K_M'", "it has: "),
        (
            ["hf.co/unsloth/Devstral-Small-2507-unsloth-bnb-4bit"],
            "holds bnb-4bit weights",
            "use devstral-small-2507",
        ),
        ([QUANT, "--revision", "nosuch"], "has no revision 'nosuch'", ""),
        ([f"{QUANT}@sha256:{'0' * 64}"], "not the pinned 000000000000", "pin"),
        ([QUANT, "--dir", "/proc/no"], "cannot make the directory /proc/no", "another"),
        ([QUANT, "--dir", "/dev/null"], "cannot make the directory /dev/null", "another"),
        (["hf.co/mistralai/Devstral-Small-2507_gguf:x", "--vision"], "no repository", "login"),
    ],
)
def test_what_cannot_be_is_one_message(
    hub: Hub, capsys: pytest.CaptureFixture[str], arguments: list[str], error: str, fix: str
) -> None:
    assert entry.run(["download", *arguments, "--quiet"]) in (1, 2)
    said = capsys.readouterr()
    lines = said.err.splitlines()
    assert said.out == ""
    assert lines[0].startswith("error: ")
    assert error in lines[0]
    assert fix in "".join(lines[1:])
    assert len(lines) == (2 if fix else 1)
    assert asked_bytes(hub) == []


def test_another_file_of_the_name_stays(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"mine")
    with pytest.raises(FileProblem, match="is there, and is not what the hub has"):
        download(directory=tmp_path)
    assert (tmp_path / FILE).read_bytes() == b"mine"


def test_a_gated_repository_is_said_with_the_way_in(hub: Hub) -> None:
    hub.fail("/unsloth/", status=403)
    with pytest.raises(HubError, match="is gated") as caught:
        download()
    assert "hf auth login" in caught.value.fix


def test_with_the_hub_away_the_cache_answers_and_that_is_said(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    (file,) = download().files
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", NOWHERE)
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
        f"{NOWHERE}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
    )
    heard = Heard()
    (again,) = download(progress=heard).files
    assert (again.path, again.brought) == (file.path, False)
    assert "cannot reach the hub" in heard.warnings[0]
    with pytest.raises(HubAway):
        download("2507:Q8_0")


def test_all_parts_of_a_split_quant_come(hub: Hub, tmp_path: Path) -> None:
    name = "me/devstral-2507-GGUF"
    parts = {f"Q8_0/x-Q8_0-0000{n}-of-00002.gguf": Content.of(b"part %d" % n) for n in (1, 2)}
    hub.publish(Repository(name, {**parts, "x-Q4_K_M.gguf": Content.of(b"other")}))
    found = download(f"hf.co/{name}:Q8_0", directory=tmp_path)
    assert [each.path.relative_to(tmp_path).as_posix() for each in found.files] == sorted(parts)
    hub.publish(Repository(name, dict([*parts.items()][:1])))
    with pytest.raises(UsageError, match="has 1 of the 2 parts"):
        download(f"hf.co/{name}:Q8_0")


@pytest.mark.parametrize("given", ["--json", "--quiet"])
def test_programs_get_the_path(hub: Hub, given: str) -> None:
    # What the guide sets is told to be of no use by huggingface_hub itself.
    done = run_cli("download", QUANT, given, server=NOWHERE, hub=hub, HF_HUB_ENABLE_HF_TRANSFER="1")
    path = done.stdout.strip()
    if given == "--json":
        (file,) = json.loads(done.stdout)["files"]
        path = file["path"]
    assert sha256(Path(path)) == content(hub).sha256
    assert "HF_XET_HIGH_PERFORMANCE" in done.stderr
