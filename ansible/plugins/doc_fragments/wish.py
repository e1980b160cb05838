"""Documentation of the model that is wanted.

Written by make docs out of the package's Wish; a test holds it to that.
"""

# ruff: noqa: E501 - a reference is not broken

from __future__ import annotations


class ModuleDocFragment:
    """The fragment."""

    DOCUMENTATION = r"""
options:
  reference:
    description:
      - 'What names the weights: UD-Q4_K_XL · 2505:Q4_K_M · hf.co/unsloth/Devstral-Small-2507-GGUF:Q8_0
        · ./my-tune.gguf · the name of a model on the server.'
      - UD-Q4_K_XL@sha256:… pins the file by the digest it was published with.
    type: str
  name:
    description:
      - The model's name; else <release>:<quant>.
    type: str
  release:
    description:
      - 'The Devstral whose format holds, where the reference does not tell: 2507, 2505 …'
    type: str
  context:
    description:
      - Context in tokens, as 65536 or 64k; 32768 if absent; auto for what fits.
      - auto is the largest that fits on the server's cards, from 32768 to 65536, and stays
        as it is as long as it fits.
    type: str
  vram:
    description:
      - Memory of the server's cards, as 24GiB or 24GiB,24GiB; what is seen if absent.
      - A server does not say it, so of one on another machine a person has to.
    type: str
  parameters:
    description:
      - A model parameter over the recommended one, as temperature=0.3.
      - 'A number may be quoted: 1, 1.0 and ''1'' are the same. stop may be a list.'
    type: dict
  system:
    description:
      - 'The system prompt: the hub''s, this package''s, or a file''s.'
      - An empty text means no system prompt; where nothing is said, the hub's is taken where
        it can be had, else this package's.
    type: str
  carrier:
    description:
      - 'Where the chat template lives: auto, gguf, hub, modelfile, or server, which has to
        run with --dedicated-to.'
      - 'exact is auto without hub: a template that the gateway keeps requests whole for.'
    type: str
    choices:
      - auto
      - exact
      - gguf
      - hub
      - modelfile
      - server
  keep_template:
    description:
      - Whether a tune's own chat template stays; asked for where that is another family's,
        else Devstral's takes its place.
      - It needs Ollama 0.30, and the carrier hub.
    type: bool
  vision:
    description:
      - Whether the model sees images, by the projector of its repository, or beside its file;
        if absent, no for 2505 and 2507, yes for the Small of 2512.
      - A projector takes 0.9 GB more of disk and memory, and is part of what a build is.
      - What comes with a pull and is not wanted is left out.
    type: bool
  projector:
    description:
      - The projector with which the model sees images, a GGUF on this machine; it implies --vision.
    type: str
  via:
    description:
      - 'upload: download here, then upload; server: the server pulls. upload if absent and
        the server is on this machine, else server.'
    type: str
    choices:
      - server
      - upload
  registry:
    description:
      - Mirror that the server pulls from instead of hf.co; http://HOST for plain HTTP.
    type: str
  revision:
    description:
      - Commit, branch or tag of the repository on the hub; a commit pins the weights.
      - A server can pull neither a branch nor a tag; by upload both can be had.
      - 'No mirror can say which file a commit has: pin the digest there, as UD-Q4_K_XL@sha256:….'
    type: str
"""
