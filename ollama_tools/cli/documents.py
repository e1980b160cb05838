"""What commands print with ``--json`` where it is more than the result of one function."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypedDict

if TYPE_CHECKING:
    # Commands that need none of these start without them.
    from ollama_tools.devstral.catalog import QuantJson
    from ollama_tools.lint.finding import FindingJson
    from ollama_tools.model.builds import BuildJson
    from ollama_tools.model.leftovers import LeftoverJson
    from ollama_tools.model.listing import EntryJson


class ErrorJson(TypedDict):
    """What any command prints where it cannot do its work."""

    error: Annotated[str, "What happened."]
    fix: Annotated[str, "What to do; empty where nothing is known to help."]
    exit_code: Annotated[int, "The exit code."]


class HistoryJson(TypedDict):
    """The builds that are kept of a model, the one that began to serve last first."""

    name: Annotated[str, "The public name, as it was said."]
    builds: list[BuildJson]


class PrunedJson(TypedDict):
    """What was removed of old builds, or would be."""

    removed: Annotated[list[BuildJson], "Builds that are gone."]
    kept: Annotated[list[BuildJson], "Builds that stay."]
    leftovers: Annotated[list[LeftoverJson], "What else is gone."]
    dry_run: Annotated[bool, "Whether all of it is still there."]


class RemovedJson(TypedDict):
    """What was removed of a model, or would be."""

    name: Annotated[str, "The public name."]
    previous: Annotated[str | None, "The build that it stood for; null where it stood for none."]
    removed: Annotated[list[str], "Every name that is gone: the public one, builds, leftovers."]
    dry_run: Annotated[bool, "Whether all of it is still there."]


class ListJson(TypedDict):
    """The Devstral models of a server."""

    server: Annotated[str, "The server's URL."]
    models: list[EntryJson]
    leftovers: Annotated[list[LeftoverJson], "What runs that were stopped or failed have left."]


class LintJson(TypedDict):
    """What is wrong with a subject, with tools, or both."""

    subject: Annotated[str | None, "What was linted, as it was named; null for tools alone."]
    tools: Annotated[str | None, "The file of the tools; null where there is none."]
    passed: Annotated[bool, "Whether nothing was found that ends in exit code 4."]
    findings: list[FindingJson]


class QuantsJson(TypedDict):
    """The quants of a release, the smallest first."""

    release: Annotated[str, "The release's name as published."]
    repository: Annotated[str, "``owner/name`` on the hub."]
    default: Annotated[str, "The quant where none is asked for."]
    quants: list[QuantJson]


class EnvJson(TypedDict):
    """The environment that a server should have."""

    environment: Annotated[dict[str, str], "The value of each variable."]
    reasons: Annotated[dict[str, str], "Why, for each of them."]


class ServeJson(TypedDict):
    """What would run."""

    command: Annotated[list[str], "The program and its arguments."]
    environment: Annotated[dict[str, str], "The variables that it would get beside your own."]
    gateway: Annotated[str | None, "Where the gateway before it would listen; null for none."]


class RenderJson(TypedDict):
    """A Modelfile."""

    modelfile: Annotated[str, "Its text."]


class RenderAllJson(TypedDict):
    """The Modelfiles of all quants."""

    directory: Annotated[str, "Where they lie."]
    changed: Annotated[list[str], "The paths that were written or removed."]


class RenderCheckJson(TypedDict):
    """Whether Modelfiles are as the catalog says."""

    directory: Annotated[str, "Where they lie."]
    stale: Annotated[int, "How many are not."]
    diffs: Annotated[list[str], "For each of those, what would change."]


class RenderTargetJson(TypedDict):
    """A server's settings, for what starts it; or how a program of llama.cpp runs a model."""

    target: Annotated[str, "What starts it, or runs it: the word of ``--target``."]
    environment: Annotated[dict[str, str], "The value of each variable; none for llama.cpp."]
    command: Annotated[list[str], "The program and its arguments; empty for settings."]
    text: Annotated[str, "The file's text, or the command line's for a shell."]
    files: Annotated[dict[str, str], "With a gateway: each file's text by where it belongs."]


class RenderPromptJson(TypedDict):
    """A raw prompt."""

    prompt: Annotated[str, "Its text, without the BOS token, which llama.cpp writes itself."]


class KeyJson(TypedDict):
    """A key that was made for a gateway."""

    name: Annotated[str, "Whose it is."]
    key: Annotated[str, "The key, which is kept nowhere."]


class KeyNameJson(TypedDict):
    """A key, as its file knows it."""

    name: Annotated[str, "Whose it is."]
    created: Annotated[str, "When it was made, ISO 8601 in UTC."]


class KeysJson(TypedDict):
    """The keys of a gateway."""

    file: Annotated[str, "Where they are kept."]
    keys: list[KeyNameJson]


class KeyRevokedJson(TypedDict):
    """A key that was taken away."""

    name: Annotated[str, "Whose it was."]
