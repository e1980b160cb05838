#!/usr/bin/python
"""The module devstral_smoke."""

from __future__ import annotations

DOCUMENTATION = r"""
module: devstral_smoke
short_description: Check a Devstral on a live Ollama server
version_added: 0.1.0
description:
  - Asks the model for its prompt, context, KV cache type, and tool calls on every API of the
    server, plain and streamed. The model is loaded for that; nothing is changed.
  - Fails where a check fails.
options:
  name:
    description: The model's name on the server, or a reference as V(UD-Q4_K_XL).
    type: str
    required: true
  release:
    description: The Devstral whose format holds, for names that do not tell.
    type: str
  prompt_tokens:
    description: Tokens of the long prompt; the default is an agent's first prompt.
    type: int
    default: 18500
  log:
    description: The server's log file on the host, as evidence of the KV cache type.
    type: path
  require_gpu:
    description:
      - Whether the model must be wholly on graphics cards to pass the checks.
      - Without it that is asked where a graphics card is seen on the host.
    type: bool
  keep_template:
    description: Whether its own template is meant, as with M(devstral.ollama.devstral_model).
    type: bool
    default: false
  fail:
    description: Whether the task fails where a check fails; else only RV(report.passed) tells.
    type: bool
    default: true
attributes:
  check_mode:
    support: none
    description: Nothing is asked in check mode, since the model may not be there yet.
  diff_mode:
    support: none
    description: There is nothing to compare.
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
- name: Check what serves
  devstral.ollama.devstral_smoke:
    name: UD-Q4_K_XL
  vars:
    ansible_python_interpreter: /opt/devstral-ollama/bin/python
  register: devstral_smoked
"""

RETURN = r"""
report:
  description: The answers, as C(devstral-ollama smoke --json) prints them.
  returned: when the model could be asked
  type: dict
  contains:
    passed:
      description: Whether no check failed.
      type: bool
    checks:
      description: The checks, each with C(id), C(status), C(saw), C(fix) and C(seconds).
      type: list
      elements: dict
"""

from ansible_collections.devstral.ollama.plugins.module_utils.access import ACCESS
from ansible_collections.devstral.ollama.plugins.module_utils.core import (
    Log,
    access_of,
    answering,
    make_module,
)

ARGUMENTS = {
    **ACCESS,
    "name": {"type": "str", "required": True},
    "release": {"type": "str"},
    # Said so that nobody takes tokens of a prompt for a secret.
    "prompt_tokens": {"type": "int", "default": 18500, "no_log": False},
    "log": {"type": "path"},
    "require_gpu": {"type": "bool"},
    "keep_template": {"type": "bool", "default": False},
    "fail": {"type": "bool", "default": True},
}


def main():
    """Run the module."""
    module = make_module(argument_spec=ARGUMENTS, supports_check_mode=False)
    from pathlib import Path

    from ollama_tools.collection import smoke

    given = module.params
    with answering(module):
        report = smoke(
            given["name"],
            **access_of(module),
            release=given["release"],
            prompt_tokens=given["prompt_tokens"],
            log=Path(given["log"]) if given["log"] else None,
            require_gpu=given["require_gpu"],
            keep_template=given["keep_template"],
            progress=Log(module),
        )
    if report.failures and given["fail"]:
        first = report.failures[0]
        module.fail_json(
            msg=f"{report.subject} fails {len(report.failures)} of {len(report.checks)} checks, "
            f"first {first.id}: {first.saw} ({first.fix})",
            report=report.as_json(),
        )
    module.exit_json(changed=False, report=report.as_json())


if __name__ == "__main__":
    main()
