import random
import threading
from pathlib import Path

import pytest

from ollama_tools.files import pieces
from ollama_tools.files.pieces import each_piece


@pytest.fixture
def content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, bytes]:
    monkeypatch.setattr(pieces, "_BYTES", 1000)
    content = random.Random(1).randbytes(10_500)
    path = tmp_path / "file"
    path.write_bytes(content)
    return path, content


@pytest.mark.parametrize(("start", "count"), [(0, 10_500), (0, 3000), (700, 9800), (0, 1), (5, 0)])
def test_all_bytes_come_in_their_order_and_no_more(
    content: tuple[Path, bytes], start: int, count: int
) -> None:
    path, whole = content
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        found = [bytes(piece) for piece in each_piece(file, count)]
    assert b"".join(found) == whole[start : start + count]
    assert all(len(piece) <= 1000 for piece in found)


def test_a_file_that_is_shorter_ends_early(content: tuple[Path, bytes]) -> None:
    path, whole = content
    with path.open("rb", buffering=0) as file:
        assert b"".join(map(bytes, each_piece(file, 99_999))) == whole


def test_who_stops_in_the_middle_leaves_no_thread(content: tuple[Path, bytes]) -> None:
    before = threading.active_count()
    with content[0].open("rb", buffering=0) as file:
        coming = each_piece(file, 10_500)
        next(coming)
        coming.close()
    assert threading.active_count() == before


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    with (
        (tmp_path / "only-written").open("wb", buffering=0) as file,
        pytest.raises(OSError, match="not open for reading"),
    ):
        list(each_piece(file, 5))
