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
      - V(absent) removes the public name, all its builds, and what interrupted runs left of it;
        O(name) is needed.
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
  require_gpu:
    description:
      - Whether the model must be wholly on graphics cards to pass the checks.
      - Without it that is asked where a graphics card is seen on the host.
    type: bool
  preflight:
    description:
      - Whether a miniature tries the server before more than 1 GB is brought, so that a broken one
        costs no download. A model that serves stays loaded.
    type: bool
    default: true
  force:
    description:
      - Pull and build again even where nothing differs, and though the model cannot fit on the
        server's cards.
    type: bool
    default: false
  upgrade:
    description:
      - Take what the hub has now, where what serves is an older file of the same name.
      - Without it what serves stays, whatever is published; the hub is not even asked.
    type: bool
    default: false
  keep:
    description: Then remove all builds of the name but the newest so many; without it all are kept.
    type: int
attributes:
  check_mode:
    support: full
    description:
      - Says from the live server what would be done, in order; no weights are fetched. It is the
        list of steps that the run itself takes.
      - The run goes on with another step than promised only where the server shows that a template
        is not right, which nobody can know before.
  diff_mode:
    support: full
    description: Shows the fields in which the model differs.
  platform:
    support: full
    platforms: posix
    description: Where Python 3.11 and the package run.
extends_documentation_fragment:
  - devstral.ollama.model
  - devstral.ollama.model.hub
  - devstral.ollama.wish
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

- name: Pin the weights by the commit that published them
  devstral.ollama.devstral_model:
    reference: UD-Q4_K_XL
    revision: 0123456789abcdef0123456789abcdef01234567
    via: upload

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
  description:
    - The build that the name stood for before; null where there was none.
    - A model that somebody made by hand is kept by a copy, whose name this is then.
  returned: success
  type: str
digest:
  description:
    - Hex digest of the model's manifest, which differs between versions of the server.
    - RV(build) and RV(weights) tell whether two servers serve the same.
  returned: when O(state=present) and not in check mode
  type: str
weights:
  description: C(sha256:…) of the blob that holds the weights.
  returned: when O(state=present) and not in check mode
  type: str
origin:
  description:
    - Where the weights came from, each of C(repository), C(file), C(commit) and C(sha256) as far as
      it is known; null where the server does not say.
  returned: when O(state=present) and not in check mode
  type: dict
carrier:
  description: Where the chat template lives.
  returned: when O(state=present) and not in check mode
  type: str
verbatim:
  description:
    - Whether its template has the gateway's mark, so that requests through a gateway reach it
      whole; null where the server does not tell.
  returned: when O(state=present) and not in check mode
  type: bool
context:
  description: The context in tokens, which with V(auto) is the one that fits.
  returned: when O(state=present)
  type: int
vision:
  description: Whether it sees images.
  returned: when O(state=present) and not in check mode
  type: bool
version:
  description: The server's version.
  returned: success
  type: str
reason:
  description: Why something had to be done; empty where nothing had.
  returned: when O(state=present)
  type: str
steps:
  description:
    - What was done, or in check mode would be, in order, as C(devstral-ollama create --dry-run)
      shows it.
  returned: when O(state=present)
  type: list
  elements: str
differences:
  description: What the model had otherwise than it should.
  returned: when O(state=present)
  type: list
  elements: dict
removed:
  description:
    - Names that were removed, or in check mode would be.
    - Where nobody can know the weights before they were pulled, check mode names those that are
      removed at most, and the step says so.
  returned: success
  type: list
  elements: str
report:
  description: The answers of the checks; null where none were asked.
  returned: when O(state=present) and not in check mode
  type: dict
exit_code:
  description: As the command line ends; V(5) where another run switched the name meanwhile.
  returned: failure
  type: int
switched:
  description: Whether the name stands for the new build already, though something failed.
  returned: failure
  type: bool
"""

from ansible_collections.devstral.ollama.plugins.module_utils.access import ACCESS
from ansible_collections.devstral.ollama.plugins.module_utils.core import (
    HUB_TOKEN,
    Log,
    answering,
    as_diff,
    is_verbatim,
    make_module,
    wish_of,
)
from ansible_collections.devstral.ollama.plugins.module_utils.wish import WISH

ARGUMENTS = {
    **ACCESS,
    **HUB_TOKEN,
    **WISH,
    "state": {"type": "str", "default": "present", "choices": ["present", "absent"]},
    "check": {"type": "bool", "default": True},
    # Said so that nobody takes tokens of a prompt for a secret.
    "prompt_tokens": {"type": "int", "default": 18500, "no_log": False},
    "require_gpu": {"type": "bool"},
    "preflight": {"type": "bool", "default": True},
    "force": {"type": "bool", "default": False},
    "upgrade": {"type": "bool", "default": False},
    "keep": {"type": "int"},
}

# What check mode says beforehand and a run afterwards, besides the steps.
PROMISED = ("name", "changed", "context", "previous", "removed")
KNOWN_AFTERWARDS = ("build", "digest", "weights", "origin", "carrier", "vision", "report")


def present(module, server):
    """See to it that the model is there."""
    from ollama_tools.collection import Policy, apply, plan_for

    given = module.params
    log = Log(module)
    policy = Policy(
        check=given["check"],
        prompt_tokens=given["prompt_tokens"],
        force=given["force"],
        upgrade=given["upgrade"],
        keep=given["keep"],
        require_gpu=given["require_gpu"],
        preflight=given["preflight"],
    )
    plan = plan_for(server, wish_of(module), policy, log)
    planned = plan.as_json()
    result = {
        "version": str(plan.version),
        "reason": planned["reason"],
        "differences": planned["differences"],
        "diff": as_diff(plan.compared.differences, plan.name),
    }
    if module.check_mode:
        steps = {"steps": [str(each) for each in plan.steps]}
        return result | {key: planned[key] for key in PROMISED} | steps
    outcome = apply(plan, server, log).as_json()
    result["verbatim"] = is_verbatim(server, plan.name)
    return result | {key: outcome[key] for key in (*PROMISED, "steps", *KNOWN_AFTERWARDS)}


def absent(module, server):
    """See to it that neither the name nor anything that was made for it is there."""
    from ollama_tools.collection import remove_model

    removal = remove_model(server, module.params["name"], dry_run=module.check_mode)
    return {
        "changed": bool(removal.names),
        "name": removal.name,
        "version": server.version(),
        "previous": removal.previous,
        "removed": list(removal.names),
        "diff": {"before": "\n".join(removal.names), "after": ""},
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
