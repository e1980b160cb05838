"""What the stand-in for the hub answers to which path, faults and ranges aside."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote

from tests.testbed.repository import Content, Repository

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.ollama.image."
_ERROR_CODES = {401: "RepoNotFound", 403: "GatedRepo", 404: "EntryNotFound"}


class NotFoundError(Exception):
    """There is no such thing; ``code`` is the hub's ``X-Error-Code``."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Reply:
    """An answer before ranges are cut out of it."""

    status: int
    content: Content
    headers: Mapping[str, str] = field(default_factory=dict)
    ranges: bool = False

    @classmethod
    def document(cls, value: object, kind: str = "application/json") -> Reply:
        """A JSON document."""
        return cls(200, Content.of(json.dumps(value).encode()), {"Content-Type": kind})

    @classmethod
    def failure(cls, status: int, headers: Mapping[str, str] | None = None) -> Reply:
        """An error with the hub's headers for that status."""
        code = _ERROR_CODES.get(status)
        extra = {"X-Error-Code": code} if code else {}
        kind = {"Content-Type": "application/json"}
        body = json.dumps({"error": f"test bed says {status}"}).encode()
        return cls(status, Content.of(body), {**kind, **extra, **(headers or {})})

    @classmethod
    def redirect(cls, status: int, location: str, headers: Mapping[str, str]) -> Reply:
        """A redirect without a body."""
        return cls(status, Content.of(b""), {"Location": location, **headers})


class Router:
    """Finds the answer to a path.

    Args:
        repositories: By name, ``OWNER/NAME``.
    """

    def __init__(self, repositories: Mapping[str, Repository]) -> None:
        self._repositories = repositories
        self._blobs: dict[str, Content] = {}
        self._manifests: dict[tuple[str, str], Content] = {}

    def route(
        self, path: str, query: str, body: bytes, content_type: str, *, bytes_host: str
    ) -> Reply:
        """Answers one request.

        Args:
            path: Path of the request.
            query: Its query.
            body: Its body.
            content_type: Type of the body.
            bytes_host: ``HOST:PORT`` that redirects name.

        Raises:
            NotFoundError: When nothing is there.
        """
        parts = [unquote(part) for part in path.strip("/").split("/")]
        match parts:
            case ["v2", *rest]:
                return self._registry(rest, bytes_host)
            case ["blobs", digest] if digest in self._blobs:
                kind = {"Content-Type": "application/octet-stream"}
                return Reply(200, self._blobs[digest], kind, ranges=True)
            case ["lfs", owner, name, *inside]:
                content = self._file(self._repository(owner, name), "/".join(inside))
                kind = {"Content-Type": "application/octet-stream"}
                return Reply(200, content, {**kind, "ETag": f'"{content.sha256}"'}, ranges=True)
            case ["api", "whoami-v2"]:
                return Reply.document({"type": "user", "name": "testbed", "orgs": []})
            case ["api", "models", owner, name, *rest]:
                repository = self._repository(owner, name)
                return self._models_api(repository, rest, query, body, content_type)
            case [owner, name, "resolve", revision, *inside]:
                repository = self._repository(owner, name)
                _check_revision(repository, revision)
                return self._resolve(repository, "/".join(inside), bytes_host)
            case _:
                raise NotFoundError("EntryNotFound", f"nothing at {path}")

    def _registry(self, parts: list[str], bytes_host: str) -> Reply:
        match parts:
            case [] | [""]:
                return Reply.document({})
            case [owner, name, "manifests", tag]:
                content = self._manifest(self._repository(owner, name), tag)
                headers = {"Content-Type": _MANIFEST, "Docker-Content-Digest": content.digest}
                return Reply(200, content, headers)
            case [owner, name, "blobs", digest]:
                if digest not in self._blobs:
                    # After a restart a client may still know digests from an earlier manifest.
                    repository = self._repository(owner, name)
                    for known in repository.tags:
                        self._manifest(repository, known)
                if digest not in self._blobs:
                    raise NotFoundError("EntryNotFound", f"no blob {digest}")
                return self._blob_redirect(digest, bytes_host)
            case _:
                raise NotFoundError("EntryNotFound", "no such route in the registry")

    def _blob_redirect(self, digest: str, bytes_host: str) -> Reply:
        return Reply.redirect(307, f"http://{bytes_host}/blobs/{digest}", {})

    def _manifest(self, repository: Repository, tag: str) -> Content:
        key = (repository.name, tag)
        if key not in self._manifests:
            if tag not in repository.tags:
                raise NotFoundError("EntryNotFound", f"{repository.name} has no tag {tag}")
            self._manifests[key] = self._build_manifest(repository, tag)
        return self._manifests[key]

    def _build_manifest(self, repository: Repository, tag: str) -> Content:
        layers = [("model", self._file(repository, repository.tags[tag]))]
        if repository.go_template is not None:
            layers.append(("template", Content.of(repository.go_template.encode())))
        if repository.params is not None:
            layers.append(("params", Content.of(repository.params.encode())))
        config = Content.of(
            json.dumps(
                {
                    "model_format": "gguf",
                    "model_family": repository.family,
                    "model_families": [repository.family],
                    "model_type": "23.6B",
                    "file_type": tag,
                    "architecture": "amd64",
                    "os": "linux",
                    "rootfs": {"type": "layers", "diff_ids": [item.digest for _, item in layers]},
                }
            ).encode()
        )
        for content in (config, *(item for _, item in layers)):
            self._blobs[content.digest] = content
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": {"digest": config.digest, "mediaType": _CONFIG, "size": config.size},
            "layers": [
                {"digest": item.digest, "mediaType": _LAYER + kind, "size": item.size}
                for kind, item in layers
            ],
        }
        return Content.of(json.dumps(manifest).encode())

    def _models_api(
        self, repository: Repository, parts: list[str], query: str, body: bytes, kind: str
    ) -> Reply:
        match parts:
            case []:
                return Reply.document(_model_info(repository, query))
            case ["revision", revision]:
                _check_revision(repository, revision)
                return Reply.document(_model_info(repository, query))
            case ["tree", revision, *_]:
                _check_revision(repository, revision)
                files = sorted(repository.files.items())
                return Reply.document([_tree_entry(path, content) for path, content in files])
            case ["paths-info", revision]:
                _check_revision(repository, revision)
                wanted = [path for path in _paths(body, kind) if path in repository.files]
                return Reply.document([_tree_entry(p, repository.files[p]) for p in wanted])
            case _:
                raise NotFoundError("EntryNotFound", "no such route in the hub's API")

    def _resolve(self, repository: Repository, path: str, bytes_host: str) -> Reply:
        content = self._file(repository, path)
        headers = {"X-Repo-Commit": repository.commit}
        if not _is_large(path):
            headers |= {"ETag": f'"{_git_oid(content)}"', "Content-Type": "text/plain"}
            return Reply(200, content, headers, ranges=True)
        headers |= {
            "X-Linked-Size": str(content.size),
            "X-Linked-ETag": f'"{content.sha256}"',
            "ETag": f'"{content.sha256}"',
        }
        return Reply.redirect(302, f"http://{bytes_host}/lfs/{repository.name}/{path}", headers)

    def _repository(self, owner: str, name: str) -> Repository:
        repository = self._repositories.get(f"{owner}/{name}")
        if repository is None:
            raise NotFoundError("RepoNotFound", f"no repository {owner}/{name}")
        return repository

    def _file(self, repository: Repository, path: str) -> Content:
        content = repository.files.get(path)
        if content is None:
            raise NotFoundError("EntryNotFound", f"{repository.name} has no {path}")
        return content


def _check_revision(repository: Repository, revision: str) -> None:
    if revision not in {"main", repository.commit}:
        raise NotFoundError("RevisionNotFound", f"{repository.name} has no revision {revision}")


def _is_large(path: str) -> bool:
    return path.endswith(".gguf")


def _git_oid(content: Content) -> str:
    """Git's own id of a blob, the hub's ETag for files that are not large."""
    with content.open() as source:
        return hashlib.sha1(b"blob %d\0" % content.size + source.read()).hexdigest()


def _large_file(content: Content) -> dict[str, Any]:
    return {"oid": content.sha256, "size": content.size, "pointerSize": 135}


def _tree_entry(path: str, content: Content) -> dict[str, Any]:
    if not _is_large(path):
        return {"type": "file", "oid": _git_oid(content), "size": content.size, "path": path}
    entry = {"type": "file", "oid": content.sha256[:40], "size": content.size, "path": path}
    return {**entry, "lfs": _large_file(content)}


def _model_info(repository: Repository, query: str) -> dict[str, Any]:
    siblings: list[dict[str, Any]] = []
    for path, content in sorted(repository.files.items()):
        sibling: dict[str, Any] = {"rfilename": path}
        if "blobs" in parse_qs(query):
            sibling["size"] = content.size
            if _is_large(path):
                lfs = {"sha256": content.sha256, "size": content.size, "pointerSize": 135}
                sibling |= {"blobId": content.sha256[:40], "lfs": lfs}
        siblings.append(sibling)
    return {
        "_id": repository.commit[:24],
        "id": repository.name,
        "modelId": repository.name,
        "sha": repository.commit,
        "private": False,
        "gated": False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": ["gguf"],
        "siblings": siblings,
    }


def _paths(body: bytes, kind: str) -> list[str]:
    if kind.startswith("application/json"):
        paths = json.loads(body)["paths"]
        return [paths] if isinstance(paths, str) else list(paths)
    return parse_qs(body.decode()).get("paths", [])
