"""What the stand-in's registry makes of a repository: a manifest for each tag, and blobs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from tests.testbed.repository import Content, Repository

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.ollama.image."


@dataclass(frozen=True)
class Image:
    """All that a registry serves of one commit.

    Attributes:
        manifests: By tag.
        blobs: By digest, ``sha256:`` before it.
    """

    manifests: Mapping[str, Content]
    blobs: Mapping[str, Content]

    @classmethod
    def of(cls, repository: Repository) -> Self:
        """Makes the manifests; a tag whose file is not there has none."""
        manifests: dict[str, Content] = {}
        blobs: dict[str, Content] = {}
        for tag, path in repository.tags.items():
            if path in repository.files:
                config, layers = _parts(repository, tag)
                manifests[tag] = _manifest(config, layers)
                blobs |= {each.digest: each for each in (config, *layers.values())}
        return cls(manifests, blobs)


def _parts(repository: Repository, tag: str) -> tuple[Content, dict[str, Content]]:
    """The configuration, and the layers by kind."""
    layers = {"model": repository.files[repository.tags[tag]]}
    if repository.projector is not None:
        layers["projector"] = repository.files[repository.projector]
    if repository.go_template is not None:
        layers["template"] = Content.of(repository.go_template.encode())
    if repository.params is not None:
        layers["params"] = Content.of(repository.params.encode())
    if repository.license is not None:
        layers["license"] = Content.of(repository.license.encode())
    config = {
        "model_format": "gguf",
        "model_family": repository.family,
        "model_families": [repository.family],
        "model_type": "23.6B",
        "file_type": tag,
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [item.digest for item in layers.values()]},
    }
    return Content.of(json.dumps(config).encode()), layers


def _manifest(config: Content, layers: Mapping[str, Content]) -> Content:
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"digest": config.digest, "mediaType": _CONFIG, "size": config.size},
        "layers": [
            {"digest": item.digest, "mediaType": _LAYER + kind, "size": item.size}
            for kind, item in layers.items()
        ],
    }
    return Content.of(json.dumps(manifest).encode())
