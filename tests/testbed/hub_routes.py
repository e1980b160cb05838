"""What the stand-in for the hub answers to which path, faults and ranges aside."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote

from tests.testbed.history import Commit, History, Line, last_change
from tests.testbed.registry import MANIFEST
from tests.testbed.repository import Content, Repository

_MAIN = "main"
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
        history: What there is; it may grow at any time.
    """

    def __init__(self, history: History) -> None:
        self._history = history

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
        options = parse_qs(query)
        match parts:
            case ["v2", *rest]:
                return self._registry(rest, bytes_host)
            case ["blobs", digest]:
                content = _blob(self._history.all_commits(), digest)
                kind = {"Content-Type": "application/octet-stream"}
                return Reply(200, content, kind, ranges=True)
            case ["lfs", owner, name, *inside]:
                line = self._line(owner, name, options.get("commit", [_MAIN])[0])
                content = _file(line[0].repository, "/".join(inside))
                kind = {"Content-Type": "application/octet-stream"}
                return Reply(200, content, {**kind, "ETag": f'"{content.sha256}"'}, ranges=True)
            case ["api", "whoami-v2"]:
                return Reply.document({"type": "user", "name": "testbed", "orgs": []})
            case ["api", "models", owner, name]:
                return Reply.document(_model_info(self._line(owner, name)[0], options))
            case ["api", "models", owner, name, "refs"]:
                # What llama.cpp asks first, to know which commit main is.
                return Reply.document(_refs(self._line(owner, name)[0]))
            case ["api", "models", owner, name, "revision", revision]:
                return Reply.document(_model_info(self._line(owner, name, revision)[0], options))
            case ["api", "models", owner, name, "tree", revision, *_]:
                line = self._line(owner, name, revision)
                return _files_info(line, sorted(line[0].repository.files), options)
            case ["api", "models", owner, name, "paths-info", revision]:
                line = self._line(owner, name, revision)
                wanted = _form(body, content_type)
                known = [path for path in wanted["paths"] if path in line[0].repository.files]
                return _files_info(line, known, wanted)
            case ["api", "models", owner, name, "commits", revision]:
                line = self._line(owner, name, revision)
                return Reply.document([_commit_info(commit) for commit in line])
            case [owner, name, "resolve", revision, *inside]:
                line = self._line(owner, name, revision)
                return self._resolve(line[0], "/".join(inside), bytes_host)
            case _:
                raise NotFoundError("EntryNotFound", f"nothing at {path}")

    def _registry(self, parts: list[str], bytes_host: str) -> Reply:
        match parts:
            case [] | [""]:
                return Reply.document({})
            case [owner, name, "manifests", tag]:
                content = self._line(owner, name)[0].image.manifests.get(tag)
                if content is None:
                    raise NotFoundError("EntryNotFound", f"{owner}/{name} has no tag {tag}")
                headers = {"Content-Type": MANIFEST, "Docker-Content-Digest": content.digest}
                return Reply(200, content, headers)
            case [owner, name, "blobs", digest]:
                # A client may still know digests from an earlier manifest.
                _blob(self._line(owner, name), digest)
                return Reply.redirect(307, f"http://{bytes_host}/blobs/{digest}", {})
            case _:
                raise NotFoundError("EntryNotFound", "no such route in the registry")

    def _resolve(self, commit: Commit, path: str, bytes_host: str) -> Reply:
        content = _file(commit.repository, path)
        headers = {"X-Repo-Commit": commit.id}
        if not _is_large(path):
            headers |= {"ETag": f'"{_git_oid(content)}"', "Content-Type": "text/plain"}
            return Reply(200, content, headers, ranges=True)
        headers |= {
            "X-Linked-Size": str(content.size),
            "X-Linked-ETag": f'"{content.sha256}"',
            "ETag": f'"{content.sha256}"',
        }
        where = f"http://{bytes_host}/lfs/{commit.repository.name}/{path}?commit={commit.id}"
        return Reply.redirect(302, where, headers)

    def _line(self, owner: str, name: str, revision: str = _MAIN) -> Line:
        """The commit that a revision names and those before it, newest first."""
        line = self._history.line(f"{owner}/{name}")
        if not line:
            raise NotFoundError("RepoNotFound", f"no repository {owner}/{name}")
        for age, commit in enumerate(line):
            if revision in {_MAIN, commit.id}:
                return line[age:]
        raise NotFoundError("RevisionNotFound", f"Invalid rev id: {revision}")


def _blob(commits: Iterable[Commit], digest: str) -> Content:
    for commit in commits:
        if digest in commit.image.blobs:
            return commit.image.blobs[digest]
    raise NotFoundError("EntryNotFound", f"no blob {digest}")


def _file(repository: Repository, path: str) -> Content:
    content = repository.files.get(path)
    if content is None:
        raise NotFoundError("EntryNotFound", f"{repository.name} has no {path}")
    return content


def _is_large(path: str) -> bool:
    return path.endswith(".gguf")


def _git_oid(content: Content) -> str:
    """Git's own id of a blob, the hub's ETag for files that are not large."""
    with content.open() as source:
        return hashlib.sha1(b"blob %d\0" % content.size + source.read()).hexdigest()


def _large_file(content: Content) -> dict[str, Any]:
    return {"oid": content.sha256, "size": content.size, "pointerSize": 135}


def _files_info(line: Line, paths: Iterable[str], options: Mapping[str, list[str]]) -> Reply:
    expand = options.get("expand", [""])[0].lower() in {"true", "1"}
    entries = []
    for path in paths:
        entry = _tree_entry(path, line[0].repository.files[path])
        if expand:
            commit = _commit_info(last_change(line, path))
            entry["lastCommit"] = {key: commit[key] for key in ("id", "title", "date")}
        entries.append(entry)
    return Reply.document(entries)


def _tree_entry(path: str, content: Content) -> dict[str, Any]:
    if not _is_large(path):
        return {"type": "file", "oid": _git_oid(content), "size": content.size, "path": path}
    entry = {"type": "file", "oid": content.sha256[:40], "size": content.size, "path": path}
    return {**entry, "lfs": _large_file(content)}


def _commit_info(commit: Commit) -> dict[str, Any]:
    title, _, message = commit.message.partition("\n")
    date = commit.date.replace(tzinfo=None).isoformat(timespec="milliseconds")
    return {
        "id": commit.id,
        "title": title,
        "message": message.strip(),
        "authors": [{"user": commit.repository.name.partition("/")[0]}],
        # The only form that huggingface_hub reads.
        "date": f"{date}Z",
    }


def _refs(commit: Commit) -> dict[str, Any]:
    branch = {"name": _MAIN, "ref": f"refs/heads/{_MAIN}", "targetCommit": commit.id}
    return {"branches": [branch], "converts": [], "tags": []}


def _model_info(commit: Commit, options: Mapping[str, list[str]]) -> dict[str, Any]:
    repository = commit.repository
    siblings: list[dict[str, Any]] = []
    for path, content in sorted(repository.files.items()):
        sibling: dict[str, Any] = {"rfilename": path}
        if "blobs" in options:
            sibling["size"] = content.size
            if _is_large(path):
                lfs = {"sha256": content.sha256, "size": content.size, "pointerSize": 135}
                sibling |= {"blobId": content.sha256[:40], "lfs": lfs}
        siblings.append(sibling)
    return {
        "_id": hashlib.sha1(repository.name.encode()).hexdigest()[:24],
        "id": repository.name,
        "modelId": repository.name,
        "sha": commit.id,
        "private": False,
        "gated": False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": ["gguf"],
        "siblings": siblings,
    }


def _form(body: bytes, kind: str) -> dict[str, list[str]]:
    """The fields of a form or of a JSON object, as lists of texts; ``paths`` is always there."""
    if not kind.startswith("application/json"):
        return {"paths": [], **parse_qs(body.decode())}
    fields = json.loads(body).items()
    lists = {key: value if isinstance(value, list) else [value] for key, value in fields}
    return {"paths": [], **{key: [str(each) for each in value] for key, value in lists.items()}}
