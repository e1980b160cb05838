"""A registry that servers pull from: what it has under a name, asked without fetching weights.

What is asked is what a server asks when it pulls, and no more, so that whatever serves a server
answers here too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ollama_tools.errors import MALFORMED, HubError
from ollama_tools.json_text import parse_json
from ollama_tools.network.deadline import Deadline, Sockets
from ollama_tools.network.ways import transport_for_all

if TYPE_CHECKING:
    import httpx

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_LAYER = "application/vnd.ollama.image."
# In the order in which a server shows the files of a model.
_WEIGHTS = ("model", "adapter")
_LONGEST = 1024 * 1024
_SECONDS = 10.0
_WHOLE_SECONDS = 30.0


class NotInRegistry(HubError):
    """The registry has nothing of that name."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a registry has under a name.

    Attributes:
        weights: ``sha256:…`` of the GGUF files of the weights: the model's, then adapters.
        projectors: ``sha256:…`` of those with which it sees images.
        licenses: ``sha256:…`` of the license texts.
        bytes: Size of the GGUF files; 0 where the registry does not say it.
    """

    weights: tuple[str, ...]
    projectors: tuple[str, ...]
    licenses: tuple[str, ...]
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Registry:
    """A registry, reached over HTTP.

    Attributes:
        url: Its base URL.
        headers: What is sent with each request; it may be a token.
    """

    url: str
    headers: Mapping[str, str] | None = None

    @property
    def _label(self) -> str:
        return f"the registry {urlsplit(self.url).netloc}"

    def manifest(self, repository: str, tag: str) -> Manifest:
        """What a server would pull as ``repository:tag``.

        Raises:
            NotInRegistry: There is nothing of that name.
            HubError: The registry refuses or does not answer.
        """
        text = self._get(f"{repository}/manifests/{tag}", f"{repository}:{tag}")
        try:
            found = parse_json(text)["layers"]
            layers = [(each["mediaType"], each["digest"]) for each in found]
            size = sum(
                int(each.get("size") or 0)
                for each in found
                if each["mediaType"].removeprefix(_LAYER) in (*_WEIGHTS, "projector")
            )
            if not all(isinstance(digest, str) for _, digest in layers):
                raise TypeError
        except MALFORMED as error:
            raise HubError(
                f"what {self._label} has as {repository}:{tag} is no manifest",
                "check that servers can pull from it",
            ) from error

        def of_kind(*kinds: str) -> tuple[str, ...]:
            return tuple(
                digest for kind in kinds for media, digest in layers if media == f"{_LAYER}{kind}"
            )

        return Manifest(of_kind(*_WEIGHTS), of_kind("projector"), of_kind("license"), size)

    def text(self, repository: str, digest: str) -> str:
        """A small text among the blobs of a repository.

        Raises:
            HubError: The registry refuses, does not answer, or has another text.
        """
        import hashlib

        label = f"a text of {repository}"
        found = self._get(f"{repository}/blobs/{digest}", label)
        if f"sha256:{hashlib.sha256(found).hexdigest()}" != digest:
            raise HubError(f"{self._label} gives another text than it names for {repository}")
        return found.decode(errors="replace")

    def _get(self, path: str, label: str) -> bytes:
        import httpx

        sockets = Sockets()
        try:
            with (
                Deadline(_WHOLE_SECONDS, sockets.cut) as deadline,
                httpx.Client(
                    headers={"Accept": _MANIFEST, **(self.headers or {})},
                    timeout=_SECONDS,
                    follow_redirects=True,
                    transport=transport_for_all(httpx),
                    trust_env=False,
                ) as client,
                client.stream(
                    "GET", f"{self.url}/v2/{path}", extensions={"trace": sockets.trace}
                ) as response,
            ):
                self._raise_for_status(response, label)
                found = bytearray()
                for piece in response.iter_bytes():
                    found += piece
                    if len(found) > _LONGEST:
                        raise HubError(f"{self._label} sends more than a text for {label}")
                return bytes(found)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError) as error:
            reason = "its answer does not end" if deadline.passed else _reason(error)
            raise HubError(
                f"cannot reach {self._label} from here: {reason}",
                "ask where it can be reached, as its servers reach it",
            ) from error

    def _raise_for_status(self, response: httpx.Response, label: str) -> None:
        if response.status_code == 404:
            raise NotInRegistry(
                f"{self._label} has no {label}", "check the repository's and the quant's name"
            )
        if response.status_code in (401, 403):
            raise HubError(
                f"{self._label} refuses {label} ({response.status_code})",
                "a server logs in with its own key when it pulls; here nobody can",
            )
        if response.status_code != 200:
            raise HubError(f"{self._label} answers {response.status_code} for {label}")


def _reason(error: Any) -> str:
    return str(error) or type(error).__name__
