"""The arguments that say which model is wanted.

Written by make docs out of the package's Wish; a test holds it to that.
"""

from __future__ import annotations

WISH = {
    "reference": {"type": "str"},
    "name": {"type": "str"},
    "release": {"type": "str"},
    "context": {"type": "str"},
    "vram": {"type": "str"},
    "parameters": {"type": "dict"},
    "system": {"type": "str"},
    "carrier": {"type": "str", "choices": ["auto", "exact", "gguf", "hub", "modelfile", "server"]},
    "keep_template": {"type": "bool"},
    "vision": {"type": "bool"},
    "projector": {"type": "str"},
    "via": {"type": "str", "choices": ["server", "upload"]},
    "registry": {"type": "str"},
    "revision": {"type": "str"},
}
