"""What this machine remembers: losing it costs time, never a crash and never a wrong answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import pytest

from ollama_tools import __main__ as entry
from ollama_tools.files import remembered as state
from ollama_tools.progress import Silence

SHA256 = "5f" * 32
URL = "http://gpu1:11434"

CONTENTS = [
    "",
    "{",
    "[]",
    "null",
    "7",
    '"text"',
    "[" * 100_000,
    '{"KEY": ' * 900 + "1" + "}" * 900,
    '{"KEY": {"mark": ' + "[" * 900 + "]" * 900 + f', "sha256": "{SHA256}"' + "}}",
    '{"KEY": null}',
    '{"KEY": 7}',
    '{"KEY": "text"}',
    '{"KEY": []}',
    '{"KEY": [7, null, {}]}',
    '{"KEY": {}}',
    '{"KEY": {"mark": [1]}}',
    '{"KEY": {"mark": [1], "sha256": null}}',
    '{"KEY": {"mark": [1], "sha256": "short"}}',
    '{"KEY": {"mark": [1], "sha256": ["a"]}}',
    '{"KEY": {"mark": {"size": 1}, "sha256": "' + SHA256 + '"}}',
    '{"KEY": {"a": 7, "b": null, "c": {"d": 1}}}',
    '{"version": 9, "entries": {"KEY": {"digest": "x"}}}',
    '{"KEY": NaN, "other": Infinity}',
    "\x00\x00\x00",
    "\ufeff{}",
    "\udcff",
    "x" * 9_000_000,
]


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "_warned", set())


def paths(root: Path) -> list[Path]:
    return [
        root / "cache" / "devstral-ollama" / "digests.json",
        root / "state" / "devstral-ollama" / "bases.json",
    ]


def use(key: str) -> None:
    """Everything that is asked of the files, with the answers that a loss gives."""
    assert state.remembered_digest(key, [1]) is None
    assert all(isinstance(each, str) for pair in state.noted_bases(key).items() for each in pair)
    state.forget_base(key, "nosuch")
    state.remember_digest(key, [2], SHA256)
    state.note_base(key, "base", "public")
    assert state.unfinished_files(0) == []


@pytest.mark.parametrize("content", CONTENTS, ids=range(len(CONTENTS)))
def test_any_content_is_as_if_nothing_were_remembered(tmp_path: Path, content: str) -> None:
    for path in paths(tmp_path):
        path.parent.mkdir(parents=True)
        path.write_text(content.replace("KEY", URL), encoding="utf-8", errors="surrogateescape")
    use(URL)
    assert state.remembered_digest(URL, [2]) == SHA256
    assert state.noted_bases(URL)["base"] == "public"
    for path in paths(tmp_path):
        assert isinstance(json.loads(path.read_text()), dict)


@pytest.mark.parametrize("cut", range(0, 130, 7))
def test_a_file_that_was_cut_is_as_if_nothing_were_remembered(tmp_path: Path, cut: int) -> None:
    state.remember_digest(URL, [1], SHA256)
    state.note_base(URL, "base", "public")
    for path in paths(tmp_path):
        path.write_bytes(path.read_bytes()[:cut])
    if cut < 60:
        use(URL)
    assert state.remembered_digest(URL, [1]) in (None, SHA256)


def test_what_is_whole_is_kept_beside_what_is_not(tmp_path: Path) -> None:
    digests, bases = paths(tmp_path)
    state.remember_digest("good", [1, "a"], SHA256)
    state.note_base(URL, "base", "public")
    for path in (digests, bases):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"bad": 7}))
    state.remember_digest("new", [1], SHA256)
    state.note_base("http://gpu2:11434", "base", "public")
    assert state.remembered_digest("good", [1, "a"]) == SHA256
    assert state.noted_bases(URL) == {"base": "public"}


def test_the_list_of_earlier_versions_is_read(tmp_path: Path) -> None:
    bases = paths(tmp_path)[1]
    bases.parent.mkdir(parents=True)
    bases.write_text(json.dumps({URL: ["one", "two"]}))
    state.note_base(URL, "three", "public")
    assert state.noted_bases(URL) == {"one": "", "two": "", "three": "public"}


@pytest.mark.parametrize("kind", ["directory", "pipe", "loop", "nowhere", "device"])
def test_what_is_no_file_costs_time_only(tmp_path: Path, kind: str) -> None:
    for path in paths(tmp_path):
        path.parent.mkdir(parents=True)
        match kind:
            case "directory":
                path.mkdir()
            case "pipe":
                os.mkfifo(path)
            case "loop":
                path.symlink_to(path)
            case "nowhere":
                path.symlink_to(tmp_path / "no" / "such")
            case "device":
                path.symlink_to("/dev/zero")
    begun = time.monotonic()
    if kind == "directory":
        with pytest.warns(state.StateWarning):
            use(URL)
    else:
        use(URL)
    assert time.monotonic() - begun < 5
    for path in paths(tmp_path):
        assert [each.name for each in path.parent.glob(f"{path.name}?*")] == [f"{path.name}.lock"]


@pytest.mark.parametrize("lock", ["directory", "pipe"])
def test_a_lock_that_is_none_costs_time_only(tmp_path: Path, lock: str) -> None:
    for path in paths(tmp_path):
        path.parent.mkdir(parents=True)
        beside = path.with_name(f"{path.name}.lock")
        beside.mkdir() if lock == "directory" else os.mkfifo(beside)
    if lock == "directory":
        with pytest.warns(state.StateWarning):
            use(URL)
    else:
        use(URL)


def test_unwritable_state_is_one_warning_with_its_consequence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "plain").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "plain"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "plain"))

    def work(_: list[str]) -> int:
        for number in range(3):
            state.remember_digest(f"file {number}", [1], SHA256)
            state.note_base(URL, f"base {number}", "public")
        return 0

    monkeypatch.setattr(entry, "_run", work)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert entry.run([]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert [line.startswith("warning: cannot write ") for line in lines] == [True, True]
    assert "hashes its files again" in lines[0]
    assert "prune will not find it" in lines[1]


def test_thirty_notes_by_three_processes_all_survive(tmp_path: Path) -> None:
    code = (
        "import sys; from ollama_tools.files import remembered as state\n"
        "for each in range(10):\n"
        f"    state.note_base({URL!r}, f'{{sys.argv[1]}}-{{each}}', 'public')\n"
        f"    state.remember_digest(f'{{sys.argv[1]}}-{{each}}', [1], {SHA256!r})\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, name]) for name in "abc"]
    assert [each.wait(60) for each in writers] == [0, 0, 0]
    names = {f"{name}-{each}" for name in "abc" for each in range(10)}
    assert set(state.noted_bases(URL)) == names
    assert all(state.remembered_digest(name, [1]) == SHA256 for name in names)


def test_threads_of_one_process_do_not_lose_notes_either() -> None:
    def work(name: str) -> None:
        for each in range(10):
            state.note_base(URL, f"{name}-{each}", "public")

    threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(state.noted_bases(URL)) == 30


def test_a_lock_that_nobody_gives_back_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    monkeypatch.setattr(state, "_LOCK_SECONDS", 0.2)
    state.note_base(URL, "one", "public")
    with paths(tmp_path)[1].with_name("bases.json.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        state.note_base(URL, "two", "public")
    assert set(state.noted_bases(URL)) == {"one", "two"}


def test_what_a_killed_run_left_is_removed_by_a_later_one(tmp_path: Path) -> None:
    digests = paths(tmp_path)[0]
    state.remember_digest("a", [1], SHA256)
    old, young = digests.with_name("digests.jsonold"), digests.with_name("digests.jsonyoung")
    old.write_text("{")
    young.write_text("{")
    os.utime(old, (0, 0))
    state.remember_digest("b", [1], SHA256)
    assert (old.exists(), young.exists()) == (False, True)


def test_what_is_remembered_does_not_grow_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "_MOST_ENTRIES", 5)
    for each in range(9):
        state.remember_digest(str(each), [1], SHA256)
    kept = [each for each in range(9) if state.remembered_digest(str(each), [1])]
    assert kept == [4, 5, 6, 7, 8]


def test_a_digest_is_forgotten_when_its_file_changes(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(b"one")
    first = state.file_sha256(path, Silence())
    assert state.known_sha256(path) == first
    path.write_bytes(b"other")
    assert state.known_sha256(path) is None
