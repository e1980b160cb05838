"""Documentation that several modules share."""

from __future__ import annotations


class ModuleDocFragment:
    """Fragments: the server, and the hub's token."""

    DOCUMENTATION = r"""
options:
  # From Access, by make docs: begin
  host:
    description:
      - The Ollama server, as in gpu1 or http://gpu1:11434; 127.0.0.1:11434 if absent.
      - Without it E(OLLAMA_HOST) of the host counts.
    type: str
  timeout:
    description:
      - Seconds without a byte or progress after which a wait for the server ends; what suits
        each request if absent.
      - Without it E(DEVSTRAL_OLLAMA_TIMEOUT) of the host counts.
    type: float
  api_key:
    description:
      - The key that the server, or a proxy before it, wants with every request.
      - Without it E(OLLAMA_API_KEY) of the host counts.
    type: str
  # From Access, by make docs: end
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
