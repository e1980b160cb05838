"""What the modules have in common: arguments become a wish, and errors become answers.

The package that does the work is installed on the host by the role devstral_tools.
"""

from __future__ import annotations

import os
import traceback
from contextlib import contextmanager

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.devstral.ollama.plugins.module_utils.access import ACCESS
from ansible_collections.devstral.ollama.plugins.module_utils.wish import WISH

try:
    from ollama_tools.collection import DevstralError, Server, Wish

    MISSING = None
except ImportError:
    MISSING = traceback.format_exc()

HUB_TOKEN = {"hub_token": {"type": "str", "no_log": True}}
"""The argument that opens private repositories; no wish, since it says nothing of the model."""


class Log:
    """Long work tells its steps to the host's log, since a module's output is its answer."""

    def __init__(self, module: AnsibleModule) -> None:
        self._module = module

    def step(self, text: str) -> None:
        """A new step begins."""
        self._module.log(text)

    def transfer(self, label: str, done: int, total: int | None) -> None:
        """Bytes are of no interest in a log."""

    def warn(self, text: str) -> None:
        """Something a person should know, though the work goes on."""
        self._module.warn(text)


def make_module(**options: object) -> AnsibleModule:
    """A module, or an answer that says what is missing on the host."""
    module = AnsibleModule(**options)
    if MISSING is not None:
        module.fail_json(
            msg=missing_required_lib("devstral-ollama", reason="(the role devstral_tools has it)"),
            exception=MISSING,
        )
    return module


@contextmanager
def answering(module: AnsibleModule):
    """A server, and every error of the package as an answer with its fix."""
    if token := module.params.get("hub_token"):
        # The process ends with the module; no file and no command line ever holds it.
        os.environ["HF_TOKEN"] = token
    try:
        with Server(**access_of(module)) as server:
            yield server
    except DevstralError as error:
        module.fail_json(
            msg=str(error),
            fix=error.fix,
            exit_code=int(error.exit_code),
            switched=error.switched,
        )


def access_of(module: AnsibleModule) -> dict[str, object]:
    """How the server is reached, as the arguments say."""
    return {key: module.params[key] for key in ACCESS}


def wish_of(module: AnsibleModule) -> Wish:
    """The model that the arguments ask for."""
    said = {key: module.params[key] for key in WISH}
    return Wish(**{key: value for key, value in said.items() if value is not None})


def is_verbatim(server: Server, name: str) -> bool | None:
    """Whether requests reach a model whole through a gateway; None where nobody can tell."""
    try:
        from ollama_tools.collection import understands

        return understands(server.show(name).template)
    except (DevstralError, ImportError):
        return None


def as_diff(differences, name: str) -> dict[str, object]:
    """Differences as Ansible shows them, field by field."""
    return {
        "before_header": name,
        "after_header": name,
        "before": {each.field: each.found for each in differences if each.found is not None},
        "after": {each.field: each.wanted for each in differences if each.wanted is not None},
    }
