"""Documentation that several modules share."""

from __future__ import annotations


class ModuleDocFragment:
    """Fragments: the server, and the model that is wanted."""

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

    WISH = r"""
options:
  reference:
    description:
      - What names the weights.
      - A quant (V(UD-Q4_K_XL), V(2505:Q4_K_M)), a quant in a repository
        (V(hf.co/unsloth/Devstral-Small-2507-GGUF:Q8_0)), a file on the host (V(/srv/tune.gguf)),
        or the name of a model on the server.
      - V(UD-Q4_K_XL@sha256:…) pins the file by the digest it was published with.
    type: str
  name:
    description: The public name; without it V(<release>:<quant>).
    type: str
  release:
    description: The Devstral whose format holds, for weights whose name does not tell.
    type: str
  context:
    description: Context in tokens; without it the release's default of 32768.
    type: int
  parameters:
    description:
      - Ollama's model parameters over the recommended ones; C(stop) may be a list.
      - A number may be quoted; V(1), V(1.0) and V("1") are the same.
    type: dict
    default: {}
  system:
    description:
      - V(bundled), V(hub), the path of a file on the host, or an empty text for no system prompt.
      - Without it the hub's where it can be had, else the bundled one.
    type: str
  carrier:
    description: Where the chat template lives.
    type: str
    choices: [auto, gguf, hub, modelfile, server]
    default: auto
  via:
    description:
      - How the bytes come. With V(upload) the host downloads and uploads them, with V(server) the
        server pulls.
      - Without it V(upload) for a server on the same machine, unless O(registry) is given.
    type: str
    choices: [upload, server]
  registry:
    description: Mirror that the server pulls from, as V(mirror:5000) or V(http://mirror:5000).
    type: str
  revision:
    description:
      - Commit, branch or tag of the repository on the hub. A commit pins the weights.
      - A server can pull neither a branch nor a tag; with O(via=upload) both can be had.
    type: str
  hub_token:
    description: Token for the Hugging Face hub; it is neither logged nor written to any file.
    type: str
"""
