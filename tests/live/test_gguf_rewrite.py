"""A rewritten GGUF is created by a real server, which then builds its prompts with our template."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import pytest

from ollama_tools.devstral.miniature import write_miniature
from ollama_tools.errors import FileProblem
from ollama_tools.files.gguf_rewrite import Rewriting, Rewritten, parts, rewrite
from ollama_tools.progress import Silence
from ollama_tools.server.client import Server

# Marked, so that nobody else's template can be taken for it.
OURS = """{{- bos_token -}}
{%- for m in messages -%}
{%- if m.role == 'user' -%}
{%- if tools and loop.first -%}[AVAILABLE_TOOLS]{{ tools | tojson }}[/AVAILABLE_TOOLS]{%- endif -%}
[INST]OURS {% if m.content is string %}{{ m.content }}{% else %}
{%- for c in m.content %}{{ c.text }}{% endfor %}{% endif %}[/INST]
{%- elif m.role == 'assistant' -%}
{%- for c in m.tool_calls or [] -%}
[TOOL_CALLS]{{ c.function.name }}[ARGS]{{ c.function.arguments | tojson }}
{%- endfor -%}{{ eos_token }}
{%- elif m.role == 'tool' -%}[TOOL_RESULTS]result[/TOOL_RESULTS]
{%- endif -%}
{%- endfor -%}
"""
THEIRS = OURS.replace("OURS", "THEIRS")
FOR_TOOLS = OURS.replace("OURS", "FOR TOOLS")

USER = {"role": "user", "content": "What is the weather in Paris?"}
TOOL = {
    "type": "function",
    "function": {
        "name": "get_current_weather",
        "description": "Weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "at": {"type": "string"}},
            "required": ["city", "at"],
        },
    },
}


def nothing(_status: str, _done: int, _total: int | None) -> None:
    pass


def send(server: Server, rewritten: Rewritten) -> str:
    digest = f"sha256:{rewritten.sha256(Silence())}"
    assert not server.has_blob(digest)
    server.upload_stream(
        rewritten.chunks, rewritten.size, digest, nothing, label=str(rewritten.source)
    )
    assert server.has_blob(digest)
    return digest


def create(server: Server, files: dict[str, str]) -> None:
    server.create({"model": "m", "files": files, "parameters": {"num_ctx": 2048}}, nothing)


def ask(server: Server, *, with_tools: bool) -> tuple[str, dict[str, Any]]:
    """The prompt that the server builds, and the message that the model answers."""
    request: dict[str, Any] = {"model": "m", "messages": [USER]}
    if with_tools:
        request["tools"] = [TOOL]
    message: dict[str, Any] = server.chat(request)["message"]
    return server.rendered_prompt(request), message


def check(server: Server) -> None:
    prompt, message = ask(server, with_tools=True)
    # llama.cpp takes off the BOS that the template writes, since it adds one itself.
    assert prompt.startswith("[AVAILABLE_TOOLS]")
    assert prompt.endswith("[INST]OURS What is the weather in Paris?[/INST]")
    (call,) = message["tool_calls"]
    assert call["function"]["name"] == "get_current_weather"
    assert call["function"]["arguments"] == {"city": "Paris", "at": "noon"}
    prompt, message = ask(server, with_tools=False)
    assert prompt == "[INST]OURS What is the weather in Paris?[/INST]"
    assert message["content"] == "Hello from the miniature."


@pytest.mark.parametrize("template", [None, THEIRS])
def test_a_server_takes_our_template_out_of_a_rewritten_file(
    server: Server, tmp_path: Path, template: str | None
) -> None:
    path = tmp_path / "model.gguf"
    # The name keeps the blob of one test from being there already in another.
    name = f"rewritten {template is None}"
    write_miniature(path, layers=1, heads=1, kv_heads=1, chat_template=template, name=name)
    create(server, {"model.gguf": send(server, rewrite(path, Rewriting(OURS)))})
    shown = server.post("/api/show", {"model": "m"})
    assert not shown.get("parser")
    assert "tools" in shown["capabilities"]
    check(server)


def test_a_template_for_tools_would_win_and_so_is_left_out(server: Server, bed_files: Path) -> None:
    path = bed_files / "model.gguf"
    copy_gguf(bed_files / "plain.gguf", path, {"tokenizer.chat_template.tool_use": FOR_TOOLS})
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    server.upload(path, f"sha256:{digest}", nothing)
    create(server, {"model.gguf": f"sha256:{digest}"})
    assert "[INST]FOR TOOLS" in ask(server, with_tools=True)[0]

    rewritten = rewrite(path, Rewriting(OURS))
    assert rewritten.removed == ("tokenizer.chat_template.tool_use",)
    create(server, {"model.gguf": send(server, rewritten)})
    check(server)


@pytest.mark.parametrize("first_has_tensors", [True, False])
def test_a_split_model_is_rewritten_in_its_first_part(
    server: Server, bed_files: Path, first_has_tensors: bool
) -> None:
    split_gguf(bed_files / "plain.gguf", bed_files, 3, first_has_tensors)
    first, *others = parts(bed_files / "model-00002-of-00003.gguf")
    files = {first.name: send(server, rewrite(first, Rewriting(OURS)))}
    for other in others:
        files[other.name] = f"sha256:{hashlib.sha256(other.read_bytes()).hexdigest()}"
        server.upload(other, files[other.name], nothing)
    assert len(files) == 3
    create(server, files)
    check(server)


def test_a_source_that_changes_while_it_is_sent_leaves_no_blob(
    server: Server, bed_files: Path
) -> None:
    path = bed_files / "model.gguf"
    shutil.copy(bed_files / "plain.gguf", path)
    with path.open("ab") as file:
        file.truncate(8 << 20)
    rewritten = rewrite(path, Rewriting(OURS))
    digest = f"sha256:{rewritten.sha256(Silence())}"

    def while_it_changes() -> Iterator[bytes]:
        for number, chunk in enumerate(rewritten.chunks()):
            if number == 4:
                path.touch()
            yield chunk

    with pytest.raises(FileProblem, match="changed while it was read"):
        server.upload_stream(while_it_changes, rewritten.size, digest, nothing, label=str(path))
    assert not server.has_blob(digest)


@pytest.mark.parametrize(("given", "stated"), [(b"abc", 4), (b"abc", 2), (b"abd", 3)])
def test_bytes_that_are_not_those_of_the_digest_are_refused(
    server: Server, given: bytes, stated: int
) -> None:
    digest = f"sha256:{hashlib.sha256(b'abc').hexdigest()}"
    with pytest.raises(FileProblem, match="x changed while it was sent"):
        server.upload_stream(lambda: [given], stated, digest, nothing, label="x")
    assert not server.has_blob(digest)


def test_a_file_that_is_gone_is_not_uploaded(server: Server, tmp_path: Path) -> None:
    with pytest.raises(FileProblem, match="cannot read"):
        server.upload(tmp_path / "x.gguf", f"sha256:{'0' * 64}", nothing)


# --- Files that the miniature's writer does not make ---


@pytest.fixture
def bed_files(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    write_miniature(
        tmp_path / "plain.gguf",
        layers=1,
        heads=1,
        kv_heads=1,
        chat_template=THEIRS,
        name=request.node.name,
    )
    return tmp_path


def add_fields(writer: gguf.GGUFWriter, reader: gguf.GGUFReader) -> None:
    for key, field in reader.fields.items():
        if not key.startswith("GGUF.") and key != "general.architecture":
            kind, *of = field.types
            writer.add_key_value(key, field.contents(), kind, of[0] if of else None)


def finish(writer: gguf.GGUFWriter, tensors: list[gguf.ReaderTensor]) -> None:
    for tensor in tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def copy_gguf(source: Path, target: Path, more: dict[str, str]) -> None:
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, "llama")
    add_fields(writer, reader)
    for key, value in more.items():
        writer.add_string(key, value)
    finish(writer, reader.tensors)


def split_gguf(source: Path, directory: Path, count: int, first_has_tensors: bool) -> None:
    """Split as llama.cpp's own program does: all keys in the first part, tensors there or not."""
    reader = gguf.GGUFReader(source)
    without = 0 if first_has_tensors else 1
    share = -(-len(reader.tensors) // (count - without))
    for index in range(count):
        target = directory / f"model-{index + 1:05}-of-{count:05}.gguf"
        writer = gguf.GGUFWriter(target, "llama")
        if index == 0:
            add_fields(writer, reader)
        writer.add_uint16("split.no", index)
        writer.add_uint16("split.count", count)
        writer.add_int32("split.tensors.count", len(reader.tensors))
        start = (index - without) * share
        finish(writer, reader.tensors[max(start, 0) : max(start + share, 0)])
