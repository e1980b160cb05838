#!/usr/bin/python
"""The module devstral_model."""

from __future__ import annotations

DOCUMENTATION = r"""
module: devstral_model
short_description: See to it that an Ollama server serves a Devstral as it should be
version_added: 0.1.0
description:
  - Compares what the server has with what is wanted, and does nothing where they are the same.
  - A new build gets a name of its own, is checked on the live server, and only then the public name
    is switched to it. Whatever fails, what served before goes on serving.
options:
  state:
    description:
      - V(present) makes the model or leaves it alone.
      - V(absent) removes the public name and all its builds; O(name) is needed.
    type: str
    choices: [present, absent]
    default: present
  check:
    description: Whether a new build must pass the smoke checks before the name is switched to it.
    type: bool
    default: true
  prompt_tokens:
    description: Tokens of the long prompt of the checks; the default is an agent's first prompt.
    type: int
    default: 18500
  force:
    description: Pull and build again even where nothing differs.
    type: bool
    default: false
  keep:
    description: Then remove all builds of the name but the newest so many; without it all are kept.
    type: int
attributes:
  check_mode:
    support: full
    description: Says what would be done, in order, from the live server; nothing is fetched.
  diff_mode:
    support: full
    description: Shows the fields in which the model differs.
  platform:
    support: full
    platforms: posix
    description: Where Python 3.11 and the package run.
extends_documentation_fragment:
  - devstral.ollama.model
  - devstral.ollama.model.wish
author:
  - devstral-ollama (@devstral-ollama)
seealso:
  - module: devstral.ollama.devstral_rollback
  - module: devstral.ollama.devstral_smoke
"""

EXAMPLES = r"""
- name: Serve a Devstral with a context of 65536 tokens
  devstral.ollama.devstral_model:
    reference: UD-Q4_K_XL
    context: 65536
    keep: 2
  vars:
    ansible_python_interpreter: /opt/devstral-ollama/bin/python

- name: Pull from a mirror inside the network
  devstral.ollama.devstral_model:
    reference: Q8_0
    registry: mirror.example:5000

- name: The same from the controller
  devstral.ollama.devstral_model:
    reference: UD-Q4_K_XL
    host: "http://{{ inventory_hostname }}:11434"
  delegate_to: localhost

- name: Remove a model with all its builds
  devstral.ollama.devstral_model:
    name: devstral-small-2507:UD-Q4_K_XL
    state: absent
"""

RETURN = r"""
name:
  description: The public name, to be used in requests.
  returned: success
  type: str
build:
  description: The build that the name stands for.
  returned: when O(state=present) and not in check mode
  type: str
previous:
  description: The build that the name stood for before; null where there was none.
  returned: success
  type: str
digest:
  description: Hex digest of the model's manifest.
  returned: when O(state=present) and not in check mode
  type: str
carrier:
  description: Where the chat template lives.
  returned: when O(state=present) and not in check mode
  type: str
context:
  description: The context in tokens.
  returned: when O(state=present) and not in check mode
  type: int
version:
  description: The server's version.
  returned: success
  type: str
reason:
  description: Why something had to be done; empty where nothing had.
  returned: when O(state=present)
  type: str
steps:
  description: What is done, in order, as C(devstral-ollama create --dry-run) shows it.
  returned: when O(state=present)
  type: list
  elements: str
differences:
  description: What the model had otherwise than it should.
  returned: when O(state=present)
  type: list
  elements: dict
removed:
  description: Builds that were removed, or in check mode would be.
  returned: success
  type: list
  elements: str
report:
  description: The answers of the checks; null where none were asked.
  returned: when O(state=present) and not in check mode
  type: dict
"""

from ansible_collections.devstral.ollama.plugins.module_utils.core import (
    HOST,
    WISH,
    Log,
    answering,
    as_diff,
    make_module,
    serving_build,
    wish_of,
)

ARGUMENTS = {
    **HOST,
    **WISH,
    "state": {"type": "str", "default": "present", "choices": ["present", "absent"]},
    "check": {"type": "bool", "default": True},
    # Said so that nobody takes tokens of a prompt for a secret.
    "prompt_tokens": {"type": "int", "default": 18500, "no_log": False},
    "force": {"type": "bool", "default": False},
    "keep": {"type": "int"},
}


def present(module, server):
    """See to it that the model is there."""
    from ollama_tools.builds import check_keep, prune
    from ollama_tools.ensure import carry_out, plan_for
    from ollama_tools.modelfile import Difference

    given = module.params
    log = Log(module)
    if given["keep"] is not None:
        check_keep(given["keep"])
    options = {"check": given["check"], "force": given["force"], "progress": log}
    plan, version = plan_for(server, wish_of(module), **options)
    different = plan.differences
    if plan.current is None:
        different = (Difference("model", None, plan.name),)
    result = {
        "changed": plan.unchanged is None,
        "name": plan.name,
        "version": str(version),
        "previous": serving_build(server, plan.name),
        "reason": plan.reason,
        "steps": [f"{each.sign} {each.text}" for each in plan.steps],
        "differences": [each.as_json() for each in different],
        "removed": [],
        "diff": as_diff(different, plan.name),
    }
    if not module.check_mode:
        ensured = carry_out(
            server, plan, version, prompt_tokens=given["prompt_tokens"], **options
        ).as_json()
        result |= {key: ensured[key] for key in ("build", "digest", "carrier", "context", "report")}
    if given["keep"] is not None and plan.current is not None:
        removed, _kept = prune(server, plan.name, given["keep"], dry_run=module.check_mode)
        result["removed"] = [each.name for each in removed]
        result["changed"] = result["changed"] or bool(removed)
    return result


def absent(module, server):
    """See to it that neither the name nor a build of it is there."""
    from ollama_tools.builds import builds_of
    from ollama_tools.names import public_name
    from ollama_tools.server import find_model

    name = public_name(module.params["name"])
    models = server.models()
    found = find_model(models, name)
    previous = serving_build(server, name)
    doomed = [each.name for each in builds_of(models, name)]
    if found is not None:
        doomed.insert(0, found.name)
    if not module.check_mode:
        for each in doomed:
            server.delete(each)
    return {
        "changed": bool(doomed),
        "name": name,
        "version": server.version(),
        "previous": previous,
        "removed": doomed,
        "diff": {"before": "\n".join(doomed), "after": ""},
    }


def main():
    """Run the module."""
    module = make_module(
        argument_spec=ARGUMENTS,
        required_if=[("state", "present", ["reference"]), ("state", "absent", ["name"])],
        supports_check_mode=True,
    )
    with answering(module) as server:
        result = (present if module.params["state"] == "present" else absent)(module, server)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
