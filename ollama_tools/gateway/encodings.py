"""Requests that come compressed, as Codex sends them."""

from __future__ import annotations

from ollama_tools.gateway.asked import NotUnderstood, Problem


def decoded(content: bytes, encoding: str, limit: int) -> bytes:
    """What a request says.

    Args:
        content: Its body.
        encoding: Its ``Content-Encoding``.
        limit: The most bytes that it may be.

    Raises:
        Problem: It cannot be unpacked, or is larger than the limit.
        NotUnderstood: It is packed in another way than zstd, the one that Ollama takes.
    """
    if not encoding:
        return content
    if encoding.strip().lower() != "zstd":
        raise NotUnderstood("encoding")
    import zstandard

    try:
        with zstandard.ZstdDecompressor().stream_reader(content) as reader:
            found = reader.read(limit + 1)
    except zstandard.ZstdError as error:
        raise Problem("the request is no zstd, as its header says") from error
    if len(found) > limit:
        raise Problem(f"the request is larger than {limit} bytes")
    return bytes(found)
