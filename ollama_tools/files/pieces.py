"""A large file, piece by piece."""

from __future__ import annotations

import io
from collections.abc import Generator

_BYTES = 4 << 20


def each_piece(file: io.FileIO, count: int) -> Generator[memoryview, None, None]:
    """The next bytes of a file; while one piece is looked at, the next is read.

    So what is hashed waits for the disk or the page cache once, and not for each piece.

    Args:
        file: The file, where reading begins.
        count: How many bytes.

    Yields:
        Pieces of at most 4 MiB, each good until the next is asked for. They end early where the
        file does.

    Raises:
        OSError: The file cannot be read.
    """
    from concurrent.futures import ThreadPoolExecutor

    free, other = (memoryview(bytearray(min(count, _BYTES))) for _ in range(2))
    with ThreadPoolExecutor(1) as ahead:
        coming = ahead.submit(file.readinto, free[:count])
        while got := coming.result():
            count -= got
            piece = free[:got]
            free, other = other, free
            coming = ahead.submit(file.readinto, free[:count])
            yield piece
