"""Requests that come compressed, as Codex sends them."""

from __future__ import annotations

from ollama_tools.gateway.asked import Problem


def decoded(content: bytes, encoding: str, limit: int) -> bytes:
    """What a request says.

    Args:
        content: Its body.
        encoding: Its ``Content-Encoding``; of those that are not zstd Ollama takes no notice.
        limit: The most bytes that it may be.

    Raises:
        Problem: It cannot be unpacked, or is larger than the limit.
    """
    if encoding.strip().lower() != "zstd":
        return content
    import zstandard

    try:
        with zstandard.ZstdDecompressor().stream_reader(content, read_across_frames=True) as reader:
            found = reader.read(limit + 1)
    except zstandard.ZstdError as error:
        raise Problem("the request is no zstd, as its header says") from error
    if len(found) > limit:
        raise Problem(f"the request is larger than {limit} bytes")
    return bytes(found)
