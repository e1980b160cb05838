#!/usr/bin/python
"""The module devstral_model_info."""

from __future__ import annotations

DOCUMENTATION = r"""
module: devstral_model_info
short_description: What an Ollama server has of Devstral, and where that differs from what it should
version_added: 0.1.0
description:
  - Reads the models with their builds, the server's version, and the settings of its running
    process. Nothing is changed and nothing is loaded.
  - With O(reference) the model is compared with what P(devstral.ollama.devstral_model#module) with
    the same options would make; with O(settings) the running process is compared with them.
options:
  settings:
    description:
      - Settings that the running process should have, as the role
        P(devstral.ollama.ollama_server#role) takes them. An empty dict means the recommended ones.
      - The process shows on its own machine only, to its own user or to root.
    type: dict
  require_gpu:
    description:
      - Whether the model of O(reference), where it is loaded, must be wholly on graphics cards.
      - Without it that is asked where a graphics card is seen on the host.
    type: bool
  templates:
    description: Where the templates for a dedicated server lie on the host.
    type: path
    default: /etc/ollama/templates
  absent:
    description: Names that should be gone, with all that was made for them.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    support: full
    description: Never changes anything.
  diff_mode:
    support: none
    description: RV(differences) and RV(settings_differences) say it.
  platform:
    support: full
    platforms: posix
    description: Where Python 3.11 and the package run.
  facts:
    support: none
    description: Registers nothing by itself.
extends_documentation_fragment:
  - devstral.ollama.model
  - devstral.ollama.model.hub
  - devstral.ollama.wish
author:
  - devstral-ollama (@devstral-ollama)
"""

EXAMPLES = r"""
- name: Look at a server
  devstral.ollama.devstral_model_info:
  vars:
    ansible_python_interpreter: /opt/devstral-ollama/bin/python
  register: devstral_seen

- name: Compare it with what it should be
  devstral.ollama.devstral_model_info:
    reference: UD-Q4_K_XL
    context: 65536
    settings:
      kv_cache_type: q8_0
  become: true
  register: devstral_seen
  failed_when: devstral_seen.drifted
"""

RETURN = r"""
server:
  description: The server's URL.
  returned: success
  type: str
version:
  description: The server's version.
  returned: success
  type: str
models:
  description: The Devstrals on it, as C(devstral-ollama list --json) prints them.
  returned: success
  type: list
  elements: dict
findings:
  description:
    - What the rules of C(devstral-ollama lint) find about the Devstrals on the server, each with
      C(code), C(name), C(severity), C(message), C(fix), and the model as C(file). Not drift.
  returned: success
  type: list
  elements: dict
environment:
  description: What the running process has in its environment; null where it is not seen.
  returned: success
  type: dict
asked:
  description:
    - The options that say which model is wanted, the context as the number of tokens that it comes
      to. Two servers of one RV(version) of which the same is asked should have the same RV(build),
      which vouches for RV(weights), too.
  returned: when O(reference) is given
  type: dict
build:
  description:
    - The build that the name of O(reference) stands for; null where there is no such model.
    - A model that somebody made by hand has the name by which it would be kept.
  returned: when O(reference) is given
  type: str
weights:
  description: C(sha256:…) of the blob that holds its weights; null where there is no such model.
  returned: when O(reference) is given
  type: str
origin:
  description:
    - Where its weights came from, each of C(repository), C(file), C(commit) and C(sha256) as far as
      it is known; null where the server does not say.
  returned: when O(reference) is given
  type: dict
differences:
  description: What that model has otherwise than it should, each C(field), C(found), C(wanted).
  returned: success
  type: list
  elements: dict
placement:
  description:
    - Where that model runs, as a check of RV(devstral.ollama.devstral_smoke#module:report) with
      C(status), C(saw) and C(fix); null where it is not loaded.
  returned: when O(reference) is given
  type: dict
names_differences:
  description:
    - What the other names that have builds have otherwise than these vouch for, each C(field), the
      name, C(found) and C(wanted), the build; none where the name is one of O(absent).
  returned: success
  type: list
  elements: dict
settings_differences:
  description: What the process has otherwise than it should, each C(field), C(found), C(wanted).
  returned: success
  type: list
  elements: dict
drifted:
  description: Whether anything differs, or the model is not on the card that it should be on.
  returned: success
  type: bool
"""

from ansible_collections.devstral.ollama.plugins.module_utils.access import ACCESS
from ansible_collections.devstral.ollama.plugins.module_utils.core import (
    HUB_TOKEN,
    Log,
    answering,
    make_module,
    wish_of,
)
from ansible_collections.devstral.ollama.plugins.module_utils.wish import WISH

ARGUMENTS = {
    **ACCESS,
    **HUB_TOKEN,
    **WISH,
    "settings": {"type": "dict"},
    "require_gpu": {"type": "bool"},
    "templates": {"type": "path", "default": "/etc/ollama/templates"},
    "absent": {"type": "list", "elements": "str", "default": []},
}


def main():
    """Run the module."""
    module = make_module(argument_spec=ARGUMENTS, supports_check_mode=True)
    from pathlib import Path

    from ollama_tools.collection import (
        environment,
        find_server_process,
        from_mapping,
        lint_models,
        list_models,
        model_status,
        names_differences,
        remove_model,
        settings_differences,
    )

    given = module.params
    with answering(module) as server:
        wanted = None
        if given["settings"] is not None:
            wanted = environment(from_mapping(given["settings"]), Path(given["templates"]))
        process = find_server_process(server.url)
        result = {
            "server": server.url,
            "version": server.version(),
            "models": [each.as_json() for each in list_models(server).entries],
            "findings": [each.as_json() for each in lint_models(server)],
            "environment": None
            if process is None
            else {
                key: value
                for key, value in sorted(process.environment.items())
                if key.startswith(("OLLAMA_", "LLAMA_ARG_"))
            },
            "differences": [],
            "names_differences": [],
            "settings_differences": [],
        }
        asked = None
        if given["reference"]:
            status = model_status(
                server,
                wish_of(module),
                progress=Log(module),
                require_gpu=given["require_gpu"],
            )
            found, asked = status.as_json(), status.name
            told = ("build", "weights", "origin", "differences", "placement")
            result |= {key: found[key] for key in told}
            # How much memory there is decides nothing but the context.
            said = {key: given[key] for key in WISH if key != "vram"}
            result["asked"] = said | {"context": found["context"]}
        result["names_differences"] = [each.as_json() for each in names_differences(server, asked)]
        removals = [remove_model(server, each, dry_run=True) for each in given["absent"]]
        result["names_differences"] += [
            {"field": each.name, "found": ", ".join(each.names), "wanted": None}
            for each in removals
            if each.names
        ]
        if wanted is not None:
            different = settings_differences(server, wanted)
            result["settings_differences"] = [each.as_json() for each in different]
    drifted = any(result[f"{each}differences"] for each in ("", "names_", "settings_"))
    drifted |= (result.get("placement") or {}).get("status") == "fail"
    module.exit_json(changed=False, drifted=drifted, **result)


if __name__ == "__main__":
    main()
