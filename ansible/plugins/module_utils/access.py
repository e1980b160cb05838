"""The arguments that say how a server is reached.

Written by make docs out of the package's Access; a test holds it to that.
"""

from __future__ import annotations

ACCESS = {
    "host": {"type": "str"},
    "timeout": {"type": "float"},
    "api_key": {"type": "str", "no_log": True},
}
