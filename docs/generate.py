"""``python -m docs.generate`` writes what follows from the code and the catalog.

That is the references, a Modelfile for each release, and the complete form of each template.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from docs import gateway, memory, outputs, templates
from ollama_tools.cli.app import app
from ollama_tools.devstral.catalog_file import load_catalog
from ollama_tools.errors import ExitCode
from ollama_tools.files.packaged import data_path
from ollama_tools.lint import RULES
from ollama_tools.model.render import default_modelfiles, write_modelfiles

_REFERENCE = Path(__file__).parent / "reference"
TARGET = _REFERENCE / "commands.md"
LINT_TARGET = _REFERENCE / "lint.md"
QUANTS_TARGET = _REFERENCE / "quants.md"
MODELFILES = Path(__file__).parents[1] / "modelfiles"
_GLOBAL = {"json", "quiet", "no_color", "debug"}


def _text(value: str | None) -> str:
    return " ".join((value or "").split()).replace("|", "\\|").replace("\\[", "[")


def _row(parameter: Any) -> str:
    names = ", ".join(f"`{each}`" for each in (*parameter.opts, *parameter.secondary_opts))
    metavar = getattr(parameter, "metavar", None)
    if parameter.param_type_name == "argument":
        names = f"`{metavar or parameter.name}`"
    elif metavar:
        names = f"{names} `{metavar}`".replace("|", "\\|")
    variable = f" (env: `{parameter.envvar}`)" if getattr(parameter, "envvar", None) else ""
    return f"| {names} | {_text(parameter.help)}{variable} |"


def _table(parameters: list[Any]) -> Iterator[str]:
    yield "| option | meaning |"
    yield "|---|---|"
    yield from (_row(each) for each in parameters)


def all_commands(group: Any) -> Iterator[tuple[str, Any]]:
    """Each command with all the words that it takes to name it."""
    for name, command in group.commands.items():
        if getattr(command, "invoke_without_command", True):
            yield name, command
        if hasattr(command, "commands"):
            yield from ((f"{name} {inner}", each) for inner, each in all_commands(command))


def markdown() -> str:
    """The reference of every command, as the command line describes itself."""
    group: Any = typer.main.get_command(app)
    lines = [
        "# Command line",
        "",
        "Written by `make docs` out of the commands themselves; a test holds it to them.",
        "",
        _text(group.help),
    ]
    shared: list[Any] = []
    for name, command in all_commands(group):
        shared = [each for each in command.params if each.name in _GLOBAL]
        own = [
            each
            for each in command.params
            if each.name not in _GLOBAL | {"help"} and not getattr(each, "hidden", False)
        ]
        lines += ["", f"## devstral-ollama {name}", "", _text(command.help), ""]
        lines += _table(sorted(own, key=lambda each: each.param_type_name != "argument"))
    lines += ["", "## Options of every command", "", *_table(shared)]
    lines += ["", "## Exit codes", "", "| code | meaning |", "|---|---|"]
    lines += [f"| {each} | {each.meaning} |" for each in ExitCode]
    lines += [""]
    return "\n".join(lines)


_LINT = """# What lint finds

Written by `make docs` out of the rules themselves; a test holds it to them.

```console
$ devstral-ollama lint ./Modelfile
$ devstral-ollama lint my-template.gotmpl --release 2507
$ devstral-ollama lint ./my-tune.gguf
$ devstral-ollama lint --live my-template.gotmpl --host gpu1
$ devstral-ollama lint devstral-small-2507:UD-Q4_K_XL --host gpu1
$ devstral-ollama lint --tools tools.json
```

What a template does is not guessed from its text: it is run on short conversations, Go templates
with the data that Ollama gives them, in a process of its own with limits on memory, processor time
and output, and the prompts are looked at. With `--live` a server renders them itself, and its
prompt of a whole session is compared with the reference, character by character; it loads the model
for that. A file is rendered by a temporary model with weights of a few hundred kilobytes, which are
gone from the server afterwards. What no name tells is held to tokenizer v13.

`doctor`, `status` and the Ansible module `devstral_model_info` report what the rules find about the
models of a server, in the same words.

An error ends in exit code 4, with `--strict` a warning too; what cannot be read ends in 2.

To ignore a finding: `--ignore DV306` (a beginning such as `DV3` will do, and `--select` is the
opposite), `# lint: ignore=DV306,DV305` in a comment anywhere in the file, or `noqa: DV306` in a
comment beside it. Ollama knows no comment behind a value, so in a Modelfile `# noqa: DV303` stands
on the line above an instruction and holds for all of it.
"""
_GROUPS = {
    "DV1": "Templates",
    "DV2": "Parser, engine and server",
    "DV3": "Parameters",
    "DV4": "Modelfile and system prompt",
    "DV5": "Tools (`--tools`)",
    "DV6": "Header of the weights",
}


def lint_markdown() -> str:
    """The table of every rule of ``lint``."""
    lines = [_LINT.rstrip()]
    for prefix, title in _GROUPS.items():
        lines += ["", f"## {title}", "", "| code | finds | why | fix |", "|---|---|---|---|"]
        for code, rule in sorted(RULES.items()):
            if code.startswith(prefix):
                name = f"`{code}` {rule.name}, {rule.severity}"
                why = f"{rule.why} ({rule.source})"
                lines.append(f"| {name} | {_text(rule.what)} | {_text(why)} | {_text(rule.fix)} |")
    return "\n".join([*lines, ""])


_QUANTS = """# Quants

Written by `make docs` out of [the catalog](../../modelfiles/catalog.yaml); a test holds it to that.
`devstral-ollama quants RELEASE` prints the same, `--json` with bytes.

A size without "about" is that of the file, to the byte: as published, or the sum that llama.cpp's
rules give for a model of this shape. What Unsloth mixes by its own rules (`UD-…`, `Q2_K_L`), what
depends on an importance matrix, and the files of releases of which no size is on record are
estimated, within about 5 %. Memory needs the context's KV cache beside the weights.
"""


def quants_markdown() -> str:
    """The table of every quant of every release."""
    lines = [_QUANTS.rstrip()]
    for release in load_catalog(data_path("catalog.yaml")).releases:
        lines += ["", f"## {release.name}", ""]
        lines += [f"[{release.repository}](https://huggingface.co/{release.repository})", ""]
        lines += ["| quant | size | file |", "|---|---|---|"]
        for quant in release.quants:
            name = f"`{quant.name}`"
            if quant.name == release.default_quant:
                name += ", the default"
            lines.append(f"| {name} | {quant.size_text} | `{quant.filename}` |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    outputs.TARGET.write_text(outputs.markdown(), encoding="utf-8")
    TARGET.write_text(markdown(), encoding="utf-8")
    LINT_TARGET.write_text(lint_markdown(), encoding="utf-8")
    QUANTS_TARGET.write_text(quants_markdown(), encoding="utf-8")
    gateway.TARGET.write_text(gateway.markdown(), encoding="utf-8")
    memory.TARGET.write_text(memory.markdown(), encoding="utf-8")
    templates.write_complete_templates()
    write_modelfiles(MODELFILES, default_modelfiles(load_catalog(data_path("catalog.yaml"))))
