"""A picture to ask about: plain red, so that a model that sees it has one word to say of it."""

from __future__ import annotations

import base64
import struct
import zlib

from ollama_tools.lint.cases import Message

_SIDE = 112
_RED = b"\xd0\x10\x10"


def _png() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", _SIDE, _SIDE, 8, 2, 0, 0, 0)
    rows = (b"\0" + _RED * _SIDE) * _SIDE
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows, 9))
        + chunk(b"IEND", b"")
    )


_TEXT = "Which colour is this picture? Answer with one word, and call no tool."

WITHOUT_PICTURE: list[Message] = [{"role": "user", "content": _TEXT}]
"""The question alone, whose tokens are subtracted from those with the picture."""

WITH_PICTURE: list[Message] = [
    {
        "role": "user",
        "content": [
            {"type": "text", "text": _TEXT},
            {
                "type": "image_url",
                "image_url": {"url": f"data:image/png;base64,{base64.b64encode(_png()).decode()}"},
            },
        ],
    }
]
"""The question with the picture, in the form of the OpenAI chat API."""
