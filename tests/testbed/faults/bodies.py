"""What answers say that are not those of an Ollama server or of the hub."""

from __future__ import annotations

import json
from collections.abc import Iterator

CONTROL = "\x1b]0;taken over\x07\x1b[31m"
"""What a terminal would obey, in every text of these answers: none of it may reach one."""

DEPTH = 100_000
HUGE = 1_500_000_000
_PIECE = 1 << 20

WRONG_TYPES = {
    "version": 34,
    "models": 7,
    "status": ["success"],
    "details": "llama",
    "model_info": [1],
    "template": 4.5,
    "parameters": {"num_ctx": True},
    "message": 7,
    "choices": None,
    "output": {"a": 1},
    "content": [{}],
    "siblings": "none",
    "sha": 7,
    "size": "many",
}
WRONG_SHAPE = {"hello": "world", "nested": [{"a": [None]}], "error": None}


def page(title: str) -> bytes:
    """A page as proxies and captive portals write them."""
    text = (
        f"<!DOCTYPE html>\n<html><head><title>{title}</title>"
        f"<style>body {{ font: 1em sans-serif }}</style></head>\n"
        f"<body><center><h1>{title}</h1></center><hr><center>nginx{CONTROL}</center></body></html>\n"
    )
    # As long as real ones: what is printed of it has to be chosen.
    return (text + "<!-- padding to disable the friendly error page -->\n" * 20).encode()


def error(message: str) -> bytes:
    """An error as Ollama writes it."""
    return json.dumps({"error": message}).encode()


def deep() -> bytes:
    """JSON that is right, and deeper than most readers can go."""
    return b'{"models": ' + b"[" * DEPTH + b"]" * DEPTH + b"}"


def huge(size: int = HUGE) -> Iterator[bytes]:
    """JSON of a size that nobody should keep in memory; made while it is sent."""
    begin, end = b'{"padding": "', b'"}'
    left = size - len(begin) - len(end)
    yield begin
    piece = b"x" * _PIECE
    while left > 0:
        yield piece[:left]
        left -= _PIECE
    yield end


def endless(*, events: bool = False) -> Iterator[bytes]:
    """Lines of a stream that says something for ever and comes to nothing."""
    line = {
        "status": "pulling manifest",
        "message": {"role": "assistant", "content": "a"},
        "choices": [{"delta": {"content": "a"}}],
        "done": False,
    }
    text = f"data: {json.dumps(line)}\n\n" if events else f"{json.dumps(line)}\n"
    while True:
        yield text.encode()
