#!/usr/bin/python
"""The module devstral_rollback."""

from __future__ import annotations

DOCUMENTATION = r"""
module: devstral_rollback
short_description: Let a model's name stand for the build that served before
version_added: 0.1.0
description:
  - Only metadata moves; nothing is fetched, and what the name stood for is kept.
  - Without O(to) every run changes something, as it goes back and forth. Name a build to be
    idempotent.
options:
  name:
    description: The public name.
    type: str
    required: true
  to:
    description: The build, by its name or the digits at its end; without it the one before.
    type: str
attributes:
  check_mode:
    support: full
    description: Says which build the name would stand for.
  diff_mode:
    support: full
    description: Shows the build before and after.
  platform:
    support: full
    platforms: posix
    description: Where Python 3.11 and the package run.
extends_documentation_fragment:
  - devstral.ollama.model
author:
  - devstral-ollama (@devstral-ollama)
"""

EXAMPLES = r"""
- name: Back to the build before
  devstral.ollama.devstral_rollback:
    name: devstral-small-2507:UD-Q4_K_XL
  vars:
    ansible_python_interpreter: /opt/devstral-ollama/bin/python

- name: Back to a certain build
  devstral.ollama.devstral_rollback:
    name: devstral-small-2507:UD-Q4_K_XL
    to: 2974355981a4
"""

RETURN = r"""
name:
  description: The public name.
  returned: success
  type: str
build:
  description: The build that it stands for now.
  returned: success
  type: str
previous:
  description: The build that it stood for before.
  returned: success
  type: str
verbatim:
  description:
    - Whether its template has the gateway's mark, so that requests through a gateway reach it
      whole; null where the server does not tell.
  returned: success
  type: bool
"""

from ansible_collections.devstral.ollama.plugins.module_utils.access import ACCESS
from ansible_collections.devstral.ollama.plugins.module_utils.core import (
    Log,
    answering,
    is_verbatim,
    make_module,
)

ARGUMENTS = {**ACCESS, "name": {"type": "str", "required": True}, "to": {"type": "str"}}


def main():
    """Run the module."""
    module = make_module(argument_spec=ARGUMENTS, supports_check_mode=True)
    from ollama_tools.collection import rollback

    with answering(module) as server:
        done = rollback(
            server,
            module.params["name"],
            module.params["to"],
            Log(module),
            dry_run=module.check_mode,
        )
        verbatim = is_verbatim(server, done.build)
    diff = {"before": f"{done.previous or ''}\n", "after": f"{done.build}\n"}
    module.exit_json(**done.as_json(), verbatim=verbatim, diff=diff)


if __name__ == "__main__":
    main()
