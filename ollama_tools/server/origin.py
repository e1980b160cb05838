"""Where a model's weights came from, kept in its manifest.

The key of a file in a create request comes back as ``details.parent_model`` in ``/api/tags`` and
``/api/show`` (measured on 0.34.4). Older servers put the path of the blob there (0.24.0), so that a
line of the license layer says it instead. It is neither in the weights' header nor in a build's
identity: a new commit of a README must not mean another model.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, TypedDict
from urllib.parse import quote, unquote

_UNKNOWN = "unknown"
_LICENSE = re.compile(r"^weights: (\S+)$", re.MULTILINE)
_OUR_LINE = re.compile(r"\n*^weights: \S+\Z", re.MULTILINE)
_HUB_KEY = re.compile(
    r"hf\.co/(?P<repository>[^/]+/[^/]+)/resolve/(?P<commit>[^/]+)/sha256-(?P<sha256>[^/]+)/"
    r"(?P<file>.+)"
)
_FILE_KEY = re.compile(r"file/sha256-(?P<sha256>[0-9a-f]{64}|unknown)/(?P<file>.+)")
_PULLED = re.compile(r"[^/]+/(?P<repository>[^/:]+/[^/:]+):(?P<tag>[^/:]+)")


class OriginJson(TypedDict):
    """Where weights came from."""

    repository: str | None
    file: Annotated[str | None, "The file's path in the repository, or its name; else the tag."]
    commit: str | None
    sha256: str | None


@dataclass(frozen=True, slots=True)
class Origin:
    """Where weights came from, as far as it is known.

    Attributes:
        repository: ``owner/name`` on the hub; None for a file of somebody's machine.
        file: The file's path in the repository, or its name; None where the server pulled a quant
            by its tag and nobody said which file that is.
        tag: The quant's tag by which a server pulled it; None for all else.
        commit: The commit of the repository; None where it is not known.
        sha256: Hex digest of the file as published; None where it is not known, as of a file of
            somebody's machine that was only ever hashed with our template in it.
    """

    repository: str | None = None
    file: str | None = None
    tag: str | None = None
    commit: str | None = None
    sha256: str | None = None

    def key(self, name: str | None = None) -> str:
        """The key of the file in a create request.

        It must be a relative path without colon or backslash (0.34.4), and end in the file's own
        name, by which the parts of a split model are told apart.

        Args:
            name: Name of a further part of a split model; None for the file itself.
        """
        file = quote(name or self.file or self.tag or "model.gguf", safe="/")
        commit, sha256 = self.commit or _UNKNOWN, self.sha256 or _UNKNOWN
        if self.repository is None:
            return f"file/sha256-{sha256}/{file}"
        return f"hf.co/{self.repository}/resolve/{commit}/sha256-{sha256}/{file}"

    @property
    def license_line(self) -> str:
        """The line of the license layer that tells it where the server loses the key."""
        return f"weights: {self.key()}"

    def as_json(self) -> OriginJson:
        """The origin as JSON has it."""
        return {
            "repository": self.repository,
            "file": self.file or self.tag,
            "commit": self.commit,
            "sha256": self.sha256,
        }

    def __str__(self) -> str:
        where = f"{self.repository}/" if self.repository else ""
        commit = f" at {self.commit[:12]}" if self.commit else ""
        return f"{where}{self.file or self.tag}{commit}"


def bare_license(text: str) -> str:
    """A license as it was published, without our line at its end."""
    return _OUR_LINE.sub("", text)


def parse_origin(parent: str, license_text: str = "") -> Origin | None:
    """The origin that ``details.parent_model`` tells; None where it tells none.

    Args:
        parent: A key of ours, or the name that a server pulled: ``hf.co/owner/name:tag``.
        license_text: The model's license; a line of ours counts more than the parent.
    """
    if line := _LICENSE.search(license_text):
        parent = line[1]
    if match := _HUB_KEY.fullmatch(parent):
        file = unquote(match["file"])
        # Nobody has said which file a tag was, where the name of none stands here.
        is_file = file.casefold().endswith(".gguf")
        return Origin(
            repository=match["repository"],
            file=file if is_file else None,
            tag=None if is_file else file,
            commit=_known(match["commit"]),
            sha256=_known(match["sha256"]),
        )
    if match := _FILE_KEY.fullmatch(parent):
        return Origin(file=unquote(match["file"]), sha256=_known(match["sha256"]))
    if match := _PULLED.fullmatch(parent):
        return Origin(repository=match["repository"], tag=match["tag"])
    return None


def _known(text: str) -> str | None:
    return None if text == _UNKNOWN else text
