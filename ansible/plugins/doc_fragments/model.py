"""Documentation that several modules share."""

from __future__ import annotations


class ModuleDocFragment:
    """Fragments: the server, and the hub's token."""

    DOCUMENTATION = r"""
options:
  host:
    description:
      - The Ollama server, as the ollama command line reads E(OLLAMA_HOST).
      - Without it E(OLLAMA_HOST) of the host counts, else V(127.0.0.1:11434).
    type: str
requirements:
  - devstral-ollama (the role P(devstral.ollama.devstral_tools#role) installs it on a host)
notes:
  - Let the module run with the Python of the package's virtual environment, by
    C(ansible_python_interpreter), or delegate it to the controller and name the server by O(host).
"""

    HUB = r"""
options:
  hub_token:
    description: Token for the Hugging Face hub; it is neither logged nor written to any file.
    type: str
"""
