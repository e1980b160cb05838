"""What lint finds, and that it finds nothing where nothing is wrong."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from docs.generate import LINT_TARGET, lint_markdown
from ollama_tools.cli.app import app
from ollama_tools.devstral.carriers import go_template
from ollama_tools.devstral.catalog import TokenizerVersion
from ollama_tools.devstral.miniature import write_miniature
from ollama_tools.errors import FileProblem, UsageError
from ollama_tools.lint import RULES, Finding, cases, lint_file, lint_modelfile, lint_tools
from ollama_tools.lint.engines import run_jinja
from ollama_tools.lint.fault import TemplateFault, WorkerCrash
from ollama_tools.lint.finding import Severity
from ollama_tools.lint.gotemplate.data import parse_template, render, tool_call_tag
from ollama_tools.lint.ignores import chosen, parse_codes
from ollama_tools.lint.judge import lint_subject
from ollama_tools.lint.subject import from_modelfile
from ollama_tools.server.versions import Version
from tests.broken_templates import BROKEN_GO, BROKEN_JINJA, GO, JINJA, Broken
from tests.testbed.tunes import CHATML, write_header

ROOT = Path(__file__).parents[2]
MODELFILES = sorted((ROOT / "modelfiles").glob("*.Modelfile"))
TEMPLATES = sorted(each for each in (ROOT / "modelfiles/templates").iterdir() if each.is_file())
ORIGIN = "hf.co/unsloth/Devstral-Small-2507-GGUF:Q4_K_M"
GOOD = {
    "FROM": ORIGIN,
    "REQUIRES": "0.15.3",
    "PARSER": "ministral",
    "PARAMETER temperature": "0.15",
    "PARAMETER min_p": "0.01",
    "PARAMETER top_k": "64",
    "PARAMETER repeat_penalty": "1.0",
    "PARAMETER num_ctx": "32768",
    "SYSTEM": '"""You are an agent."""',
    "TEMPLATE": f'"""{GO}"""',
}


def modelfile(**changes: str | None) -> str:
    lines = GOOD | {key.replace("__", " "): value for key, value in changes.items()}
    return "".join(f"{key} {value}\n" for key, value in lines.items() if value is not None)


def codes(findings: list[Finding]) -> set[str]:
    return {each.code for each in findings}


def of(findings: list[Finding], code: str) -> Finding:
    return next(each for each in findings if each.code == code)


# What is right


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_our_templates_are_clean(path: Path) -> None:
    assert lint_file(path) == []


@pytest.mark.parametrize("path", MODELFILES, ids=lambda path: path.stem)
def test_our_modelfiles_are_clean(path: Path) -> None:
    assert lint_file(path) == []


def test_what_the_tests_break_is_right_at_first(tmp_path: Path) -> None:
    assert lint_modelfile(modelfile()) == []
    path = tmp_path / "v13.jinja"
    path.write_text(JINJA)
    assert lint_file(path) == []


@pytest.mark.parametrize("tokenizer", list(TokenizerVersion))
def test_go_templates_are_run_as_ollama_runs_them(tokenizer: TokenizerVersion) -> None:
    conversation = json.loads(json.dumps(cases.CONVERSATION))
    for message in conversation:
        for call in message.get("tool_calls", ()):
            call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    prompt = render(parse_template(go_template(tokenizer)), conversation, cases.TOOLS)
    assert prompt == cases.expected_prompt(tokenizer)


# Templates


@pytest.mark.parametrize("broken", BROKEN_GO, ids=lambda each: each.name)
def test_a_broken_go_template_is_named(broken: Broken) -> None:
    found = lint_modelfile(modelfile(TEMPLATE=f'"""{broken.template}"""'))
    assert codes(found) == broken.codes
    first = modelfile().splitlines().index(f'TEMPLATE """{GO.splitlines()[0]}') + 1
    for each in found:
        assert each.line is not None
        assert each.line >= first
        assert each.fix


@pytest.mark.parametrize("broken", BROKEN_JINJA, ids=lambda each: each.name)
def test_a_broken_jinja_is_named(broken: Broken, tmp_path: Path) -> None:
    path = tmp_path / "v13.jinja"
    path.write_text(broken.template)
    assert codes(lint_file(path)) == broken.codes


def test_a_fault_of_syntax_has_the_line_of_the_file(tmp_path: Path) -> None:
    go = tmp_path / "a.gotmpl"
    go.write_text("one\ntwo\n{{ strip . }}\n")
    assert of(lint_file(go), "DV101").line == 3
    jinja = tmp_path / "a.jinja"
    jinja.write_text("one\n{% if %}\n")
    assert of(lint_file(jinja), "DV101").line == 2


def test_a_tag_that_the_generic_parser_cannot_find() -> None:
    hidden = GO.replace("{{- if .ToolCalls }}", "{{- if gt (len .ToolCalls) 0 }}")
    v7 = modelfile(PARSER=None, REQUIRES=None, TEMPLATE=f'"""{hidden}"""')
    found = lint_modelfile(v7)
    assert codes(found) == {"DV110", "DV202"}
    assert "'{'" in of(found, "DV110").message


@pytest.mark.parametrize(
    "template",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% for a in range(99999) %}{% for b in range(99999) %}xxxxxxxxx{% endfor %}{% endfor %}",
        "{{ 'a' * 10000000000 }}",
        "{{ '%1000000000000d' % 1 }}",
        "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{% include '/etc/passwd' %}",
    ],
)
def test_a_jinja_that_is_a_bomb_is_a_finding(template: str, tmp_path: Path) -> None:
    path = tmp_path / "bomb.jinja"
    path.write_text(template)
    began = time.monotonic()
    assert codes(lint_file(path)) & {"DV101", "DV102"}
    assert time.monotonic() - began < 120


@pytest.mark.parametrize(
    "template",
    [
        '{{ define "a" }}{{ template "a" . }}{{ end }}{{ template "a" . }}{{ .Messages }}',
        "{{ range 100000 }}{{ range 100000 }}{{ end }}{{ end }}{{ .Messages }}",
        '{{ printf "%999999999d" 1 }}{{ .Messages }}',
        "{{ .Messages }}" + "{{ if 1 }}" * 3000 + "{{ end }}" * 3000,
        "{{ .Messages }}{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
        "{{ index .Messages 99 }}",
        "{{ slice .Messages 3 1 }}",
        '{{ eq .Messages "x" }}',
        "{{ (index .Messages 0).Nothing }}",
    ],
)
def test_a_go_template_that_is_a_bomb_is_a_finding(template: str, tmp_path: Path) -> None:
    path = tmp_path / "bomb.gotmpl"
    path.write_text(template)
    assert codes(lint_file(path)) & {"DV101", "DV102"}


# In a process of its own: this one's children are those of other tests, too.
_LINT_AND_MEASURE = """
import json, resource, sys
from pathlib import Path
from ollama_tools.lint import lint_file
findings = [each.as_json() for each in lint_file(Path(sys.argv[1]))]
largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(json.dumps({"findings": findings, "largest": largest}))
"""


@pytest.mark.parametrize(
    "step",
    [
        "print $x $x",
        'printf "%s%s" $x $x',
        "printf `%[1]s%s%s` $x $x",
        "println $x $x",
        "print (html $x) (html $x)",
        "print (js $x) (js $x)",
        "html (print $x $x)",
        "json (print $x $x)",
        'printf "%q%q" $x $x',
        'printf "%10000s" $x',
    ],
)
def test_a_go_template_that_doubles_a_text_ends_small_and_soon(step: str, tmp_path: Path) -> None:
    path = tmp_path / "bomb.gotmpl"
    text = f'{{{{ $x := "aaaaaa<\\"" }}}}{{{{ range 40 }}}}{{{{ $x = {step} }}}}{{{{ end }}}}'
    # A width does not add up by itself: the text that it makes has to be written as well.
    path.write_text(text + "{{ range 200 }}{{ $x }}{{ end }}{{ .Messages }}")
    done = subprocess.run(
        [sys.executable, "-c", _LINT_AND_MEASURE, str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    assert [each["code"] for each in found["findings"]] == ["DV102"]
    assert "without an end" in found["findings"][0]["message"]
    # Kilobytes, of the largest child; a text of 1 MiB takes up to 4.
    assert found["largest"] < 300_000


def test_a_template_of_many_megabytes_is_not_tried(tmp_path: Path) -> None:
    go, jinja = "{{ .Messages }}" * 950_000, "{{ messages }}" * 1_000_000
    path = tmp_path / "large.gguf"
    write_miniature(path, layers=1, heads=1, kv_heads=1, chat_template=jinja, name="Devstral 2507")
    began = time.monotonic()
    for found in (lint_modelfile(modelfile(TEMPLATE=f'"""{go}"""')), lint_file(path)):
        assert codes(found) == {"DV101"}
        assert re.search("1[45][0-9]{6} characters", found[0].message)
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("name", ["large.jinja", "large.gotmpl"])
@pytest.mark.parametrize("size", [14_000_000, 1 << 40])
def test_of_a_template_file_no_more_is_read_than_shows_that_it_is_too_long(
    name: str, size: int, tmp_path: Path
) -> None:
    path = tmp_path / name
    # Two bytes a character, of which a limit in bytes may cut one in the middle.
    path.write_bytes("é".encode() * 3_000_000)
    os.truncate(path, size)
    found = lint_file(path)
    assert [each.code for each in found] == ["DV101"]
    assert re.search("at least [2-4][0-9]{6} characters", found[0].message)
    with pytest.raises(FileProblem, match=f"^[^:]*/Modelfile: {size} bytes are no Modelfile "):
        lint_file(path.rename(tmp_path / "Modelfile"))


@pytest.mark.parametrize(
    ("worker", "ending"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "ended by SIGSEGV"),
        ("raise SystemExit('no room for Jinja')", "ended with code 1: no room for Jinja"),
        ("print('{')", "gave no answer"),
    ],
)
@pytest.mark.parametrize(("name", "template"), [("v13.gotmpl", GO), ("v13.jinja", JINJA)])
def test_a_worker_that_breaks_down_is_not_blamed_on_the_template(
    worker: str,
    ending: str,
    name: str,
    template: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script = tmp_path / "worker.py"
    script.write_text(worker)
    monkeypatch.setattr("ollama_tools.lint.bounded._WORKER", script)
    path = tmp_path / name
    # A text of its own, since what was tried once is not tried again.
    path.write_text(f"{ending}{template}")
    found = lint_file(path)
    assert codes(found) == {"DV123"}
    assert ending in found[0].message


def test_a_template_that_takes_only_time_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ollama_tools.lint.bounded._PATIENCE", 0.05)
    with pytest.raises(WorkerCrash, match="no answer in 0 seconds"):
        run_jinja("x", [{}])


def test_packages_of_a_user_alone_serve_the_worker_as_well(tmp_path: Path) -> None:
    template = tmp_path / "v13.jinja"
    template.write_text(JINJA)
    # As pip install --user leaves it: the interpreter has nothing, and its user has everything.
    base = tmp_path / "base"
    form = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site = base / "lib" / form / "site-packages"
    site.mkdir(parents=True)
    packages = Path(jinja2.__file__).parents[1]
    (site / "all.pth").write_text(f"{packages}\n{ROOT}\n")
    code = "import sys; from ollama_tools.lint import lint_file; print(lint_file(sys.argv[1]))"
    environment = {**os.environ, "PYTHONUSERBASE": str(base)}
    environment.pop("PYTHONNOUSERSITE", None)
    answer = subprocess.run(
        [sys._base_executable, "-c", code, str(template)],  # type: ignore[attr-defined]
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout == "[]\n"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ .A", "not closed"),
        ("{{ end }}", "closes nothing"),
        ("{{ if .A }}", "not closed"),
        ("{{ $x }}", "undefined variable"),
        ("{{ $x = 1 }}", "undefined variable"),
        ("{{ if $x := 1 }}{{ end }}{{ $x }}", "undefined variable"),
        ("{{ }}", "empty"),
        ("{{ break }}", "outside of a range"),
        ('{{ template "x" . }}', "defined nowhere"),
        ('{{ define "x" }}{{ end }}{{ template "x" }}', "no value"),
        ("{{/* open }}", "not closed"),
        ("{{ (1 }}", "parenthesis"),
        ("{{ 1 | 2 }}", "no function"),
        ("{{ ? }}", "unexpected character"),
        ("{{ 0x1" + "0" * 999 + " }}", "integer overflow"),
    ],
)
def test_what_go_refuses_is_refused(template: str, message: str) -> None:
    with pytest.raises(TemplateFault, match=message):
        parse_template(template)


@given(
    st.lists(
        st.sampled_from(
            ["{{", "}}", "{{-", "-}}", " if ", " range ", " end ", " else ", ".Messages", " $x ",
             ":=", "|", "(", ")", '"a"', " printf ", " template ", " define ", "text", "/*", "*/",
             " .ToolCalls ", " break ", " 1 ", "\n", " with ", " . "]
        )
        | st.text(max_size=3),
        max_size=25,
    ).map("".join)
)  # fmt: skip
def test_any_go_template_is_parsed_or_refused(text: str) -> None:
    try:
        template = parse_template(text)
        tool_call_tag(template)
        render(template, [{"role": "user", "content": "x"}], [])
    except TemplateFault:
        return


def test_jinja_is_rendered_as_llama_server_does() -> None:
    found = run_jinja(
        "{{ x | tojson }}{{ raise_exception('no') if y }}", [{"x": "<é>"}, {"x": 1, "y": 1}]
    )
    assert found[0].prompt == '"<é>"'
    assert (found[1].prompt, found[1].refused, found[1].fault) == (None, True, "no")


# Modelfiles


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"PARSER": "nosuch"}, "DV201"),
        ({"PARSER": "qwen3"}, "DV201"),
        ({"PARSER": None, "REQUIRES": None}, "DV202"),
        ({"RENDERER": "qwen3-coder"}, "DV204"),
        ({"TEMPLATE": None}, "DV205"),
        ({"REQUIRES": None}, "DV206"),
        ({"REQUIRES": "0.14.0"}, "DV206"),
        ({"FROM": "devstral", "TEMPLATE": None, "PARSER": None, "REQUIRES": None}, "DV208"),
        ({"PARAMETER__repeat_penalty": None}, "DV301"),
        ({"PARAMETER__repeat_penalty": "1.1"}, "DV301"),
        ({"PARAMETER__num_ctx": None}, "DV302"),
        ({"PARAMETER__num_ctx": "4096"}, "DV303"),
        ({"PARAMETER__num_ctx": "999999"}, "DV304"),
        ({"PARAMETER__temperature": None}, "DV305"),
        ({"PARAMETER__temperature": "0.8"}, "DV305"),
        ({"PARAMETER__min_p": None}, "DV306"),
        ({"PARAMETER__top_k": None}, "DV306"),
        ({"PARAMETER__num_ctxt": "1"}, "DV307"),
        ({"PARAMETER__top_p": "high"}, "DV308"),
        ({"PARAMETER__seed": "1 # comment"}, "DV308"),
        ({"PARAMETER__kv_cache_type": "q8_0"}, "DV309"),
        ({"PARAMETER__OLLAMA_KV_CACHE_TYPE": "q8_0"}, "DV309"),
        ({"PARAMETER__mirostat": "1"}, "DV310"),
        ({"PARAMETER__typical_p": "1"}, "DV310"),
        ({"PARAMETER__use_mmap": "yes"}, "DV308"),
        ({"PARAMETER__stop": "[TOOL_CALLS]"}, "DV311"),
        ({"SYSTM": "x"}, "DV401"),
        ({"LICENSE": '"""open'}, "DV402"),
        ({"FROM": None}, "DV403"),
        ({"SYSTEM": "never write [INST] here"}, "DV404"),
        ({"SYSTEM": "two\u200bwords"}, "DV405"),
        ({"SYSTEM": '"""say """ twice"""'}, "DV406"),
        ({"parameter__top_k": "64"}, "DV407"),
    ],
)
def test_a_fault_of_a_modelfile_is_named(changes: dict[str, str | None], code: str) -> None:
    found = lint_modelfile(modelfile(**changes), release="2507")
    assert codes(found) == {code}
    assert found[0].line is not None
    assert found[0].line <= len(modelfile(**changes).splitlines())


def test_v7_has_no_parser_and_other_calls() -> None:
    found = lint_modelfile(modelfile(FROM="hf.co/unsloth/Devstral-Small-2505-GGUF:Q4_K_M"))
    assert codes(found) == {"DV109", "DV112", "DV203"}


def test_a_release_that_nothing_tells_is_said() -> None:
    assert codes(lint_modelfile(modelfile(FROM="./model.gguf"))) == {"DV408"}


def test_a_mistyped_parameter_gets_the_right_name() -> None:
    found = lint_modelfile(modelfile(PARAMETER__temprature="0.1"))
    assert of(found, "DV307").fix == "did you mean temperature?"


def test_a_system_prompt_of_the_model_keeps_a_template_from_adding_one() -> None:
    adds = next(each for each in BROKEN_GO if each.name == "default prompt").template
    # This one adds it always; that of the hub only where there is none.
    assert "DV120" in codes(lint_modelfile(modelfile(TEMPLATE=f'"""{adds}"""')))


# Ignoring


def test_a_comment_ignores_the_instruction_under_it() -> None:
    text = modelfile(PARAMETER__num_ctx="4096")
    assert (
        codes(lint_modelfile(text.replace("PARAMETER num_ctx", "# noqa: DV303\nPARAMETER num_ctx")))
        == set()
    )
    assert (
        codes(lint_modelfile(text.replace("PARAMETER num_ctx", "# noqa\nPARAMETER num_ctx")))
        == set()
    )
    other = text.replace("PARAMETER num_ctx", "# noqa: DV301\nPARAMETER num_ctx")
    assert codes(lint_modelfile(other)) == {"DV303"}
    elsewhere = text.replace("PARAMETER top_k", "# noqa: DV303\nPARAMETER top_k")
    assert codes(lint_modelfile(elsewhere)) == {"DV303"}


def test_a_comment_ignores_a_rule_in_the_whole_file() -> None:
    text = modelfile(PARAMETER__num_ctx="4096", PARAMETER__temperature="1")
    assert codes(lint_modelfile(f"# lint: ignore=DV303, DV305\n{text}")) == set()
    assert codes(lint_modelfile(f"# lint: ignore=DV3\n{text}")) == set()


def test_a_comment_in_a_template_ignores_its_line(tmp_path: Path) -> None:
    path = tmp_path / "v13.gotmpl"
    path.write_text("{{- /* noqa: DV103 */ -}}\n<s>" + GO)
    assert codes(lint_file(path)) == set()
    path.write_text("<s>{{- /* noqa: DV103 */ -}}\n" + GO)
    assert codes(lint_file(path)) == set()
    path.write_text("<s>\n{{- /* noqa: DV103 */ -}}\n" + GO)
    assert codes(lint_file(path)) == {"DV103"}


def test_codes_are_chosen_by_their_beginnings() -> None:
    found = lint_modelfile(modelfile(PARAMETER__num_ctx="4096", PARSER="nosuch"))
    assert codes(chosen(found, parse_codes(["DV2"]), ())) == {"DV201"}
    assert codes(chosen(found, (), parse_codes(["dv3,DV9"[:3]]))) == {"DV201"}
    with pytest.raises(UsageError, match="no rule begins with 'DV9'"):
        parse_codes(["DV9"])


# Tools


def openai(parameters: object, **more: object) -> dict[str, object]:
    function = {"name": "t", "description": "d", "parameters": parameters, **more}
    return {"type": "function", "function": function}


def schema(**properties: object) -> dict[str, object]:
    return {"type": "object", "properties": properties}


@pytest.mark.parametrize(
    ("tool", "expected"),
    [
        (openai(schema(a={"type": "string"})), []),
        (
            openai({**schema(a={"type": "string", "minLength": 1}), "additionalProperties": False}),
            [
                ("DV501", "tools[0].function.parameters.additionalProperties"),
                ("DV501", "tools[0].function.parameters.properties.a.minLength"),
            ],
        ),
        (openai(schema(), strict=True), [("DV501", "tools[0].function.strict")]),
        (
            openai(schema(a={"$ref": "#/$defs/x"})),
            [("DV501", "tools[0].function.parameters.properties.a.$ref")],
        ),
        (
            openai(schema(a={"anyOf": [{"type": "string", "format": "date"}]})),
            [("DV501", "tools[0].function.parameters.properties.a.anyOf[0].format")],
        ),
        (openai(schema(a={"type": "array", "items": {"maxLength": 1, "type": "string"}})), []),
        (
            openai(schema(a={"type": "array", "items": {"type": "string", "maxLength": 1}})),
            [("DV505", "tools[0].function.parameters.properties.a.items")],
        ),
        (
            openai(schema(b={"type": "string"}, a={"type": "string"})),
            [("DV504", "tools[0].function.parameters.properties")],
        ),
        (
            openai(schema(a={"description": "d", "type": "string"})),
            [("DV506", "tools[0].function.parameters.properties.a")],
        ),
        (
            openai({**schema(), "required": []}),
            [("DV507", "tools[0].function.parameters.required")],
        ),
        (openai(schema(a=True)), [("DV502", "tools[0].function.parameters.properties.a")]),
        (
            openai(schema(a={"type": "strnig"})),
            [("DV502", "tools[0].function.parameters.properties.a.type")],
        ),
        (
            openai(schema(a={"type": "string", "required": True})),
            [("DV502", "tools[0].function.parameters.properties.a.required")],
        ),
        (openai(None), [("DV502", "tools[0].function.parameters")]),
        (openai({}), [("DV502", "tools[0].function.parameters.type")]),
        (openai([]), [("DV502", "tools[0].function.parameters")]),
        (openai(schema(), name="a b"), [("DV503", "tools[0].function.name")]),
        (openai(schema(), name=""), [("DV502", "tools[0].function.name")]),
        (openai(schema(), description=""), [("DV508", "tools[0].function")]),
        ({"type": "web_search"}, [("DV502", "tools[0]")]),
        (3, [("DV502", "tools[0]")]),
        (
            {"name": "t", "description": "d", "input_schema": {**schema(), "title": "T"}},
            [("DV501", "tools[0].input_schema.title")],
        ),
        (
            {
                "type": "function",
                "name": "t",
                "description": "d",
                "parameters": schema(),
                "strict": True,
            },
            [("DV501", "tools[0].strict")],
        ),
    ],
)
def test_what_becomes_of_a_tool(tool: object, expected: list[tuple[str, str]]) -> None:
    assert [(each.code, each.field) for each in lint_tools([tool])] == expected


def test_two_tools_of_one_name() -> None:
    found = lint_tools([openai(schema()), openai(schema())])
    assert [(each.code, each.field) for each in found] == [("DV503", "tools[1].function.name")]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=4),
        lambda inner: st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "function", "name", "parameters", "properties", "items", "anyOf", "enum",
                 "required", "$defs", "description", "input_schema", "x"]
            ),
            inner,
            max_size=5,
        ),
        max_leaves=20,
    )
)  # fmt: skip
def test_any_json_as_a_tool_is_a_finding_or_none(tool: object) -> None:
    for each in lint_tools([tool]):
        assert each.field.startswith("tools[0]")


# The command


def lint(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["lint", *arguments], standalone_mode=False)
    if result.exception:
        raise result.exception
    return int(result.return_value or 0), result.stdout


def test_the_command_prints_place_code_and_fix(tmp_path: Path) -> None:
    path = tmp_path / "Modelfile"
    path.write_text(modelfile(PARSER="nosuch"))
    code, out = lint(str(path))
    assert code == 4
    assert out == (
        f"{path}:3: DV201 error: PARSER nosuch does not exist\n"
        "  fix: write PARSER ministral for v13, and none for v7\n1 error\n"
    )


def test_warnings_fail_only_where_it_is_strict(tmp_path: Path) -> None:
    path = tmp_path / "Modelfile"
    path.write_text(modelfile(PARAMETER__num_ctx="4096"))
    assert lint(str(path))[0] == 0
    assert lint(str(path), "--strict")[0] == 4
    assert lint(str(path), "--strict", "--ignore", "DV303") == (0, "nothing found\n")
    assert lint(str(path), "--quiet") == (0, "DV303\n")


def test_json_has_every_finding(tmp_path: Path) -> None:
    path = tmp_path / "tools.json"
    path.write_text(json.dumps({"tools": [openai(schema(a=True))]}))
    code, out = lint("--tools", str(path), "--json")
    answer = json.loads(out)
    assert code == 4
    assert answer["passed"] is False
    assert answer["findings"][0]["code"] == "DV502"
    assert answer["findings"][0]["line"] is None


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("Modelfile", b"\xff\xfe\xff"),
        ("missing.gguf", None),
        ("short.gguf", b"GGUF"),
        ("a.jinja", b"\xff"),
        ("none.modelfile", None),
    ],
)
def test_what_cannot_be_read_ends_in_one_line(
    name: str, content: bytes | None, tmp_path: Path
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FileProblem, match=re.escape(str(path))) as caught:
        lint(str(path))
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("text", ["", "{", "3", "{}", '{"tools": 1}', "[" * 100_000])
def test_a_file_without_tools_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "tools.json"
    path.write_text(text)
    with pytest.raises(FileProblem):
        lint("--tools", str(path))


def test_nothing_to_lint_is_wrong_usage() -> None:
    with pytest.raises(UsageError):
        lint()


# The documentation


def test_the_table_of_rules_is_what_the_rules_say() -> None:
    assert LINT_TARGET.read_text(encoding="utf-8") == lint_markdown(), "run: make docs"


def test_every_rule_is_whole_and_in_the_table() -> None:
    text = lint_markdown()
    assert len({each.name for each in RULES.values()}) == len(RULES)
    for code, each in RULES.items():
        assert f"| `{code}` {each.name}" in text
        assert all((each.what, each.why, each.source, each.fix))


# The file that FROM names, and its header


def test_an_adapter_is_an_error_from_the_version_on_that_takes_none(tmp_path: Path) -> None:
    text = modelfile() + "ADAPTER ./lora.gguf\n"
    found = of(lint_modelfile(text), "DV409")
    assert (found.line, found.severity) == (len(text.splitlines()), Severity.ERROR)
    assert "devstral-ollama merge" in found.fix
    subject = from_modelfile(text, "Modelfile")
    for version, named in ((Version(0, 34, 0), False), (Version(0, 34, 1), True)):
        subject.version = version
        assert ("DV409" in codes(lint_subject(subject))) == named


@pytest.mark.parametrize(
    ("origin", "code"),
    [
        ("./here.gguf", None),
        ("here.gguf", None),
        ("./gone.gguf", "DV410"),
        ("gone.gguf", "DV410"),
        ("/gone/for/good", "DV410"),
        ("../gone.safetensors", "DV410"),
        ("./model.safetensors", "DV411"),
        ("./folder", "DV411"),
        ("folder", "DV411"),
        ("hf.co/unsloth/Devstral-Small-2507-unsloth-bnb-4bit", "DV411"),
        ("hf.co/mistralai/Devstral-Small-2507", "DV411"),
        (ORIGIN, None),
        ("my-devstral:latest", None),
    ],
)
def test_what_from_names_is_looked_for(tmp_path: Path, origin: str, code: str | None) -> None:
    write_header(tmp_path / "here.gguf")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "model.safetensors", tmp_path / "folder" / "model.safetensors"):
        path.write_bytes(b"x")
    (tmp_path / "Modelfile").write_text(modelfile(FROM=origin))
    found = codes(lint_file(tmp_path / "Modelfile"))
    assert found & {"DV410", "DV411"} == ({code} if code else set()) | (
        {"DV411"} if origin.endswith("gone.safetensors") else set()
    )


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, None),
        ({"general.type": "adapter"}, "DV601"),
        ({"general.type": "mmproj"}, "DV601"),
        ({"general.type": "imatrix", "general.architecture": None}, "DV601"),
        ({"tokenizer.ggml.model": "llama"}, "DV602"),
        ({"tokenizer.ggml.tokens": ["a"] * 2000}, "DV602"),
        ({"tokenizer.ggml.pre": "default"}, "DV603"),
        ({"tokenizer.ggml.pre": None}, "DV603"),
        ({"tokenizer.ggml.eos_token_id": 11}, "DV604"),
        ({"tokenizer.ggml.bos_token_id": 2}, "DV604"),
        ({"tokenizer.ggml.eot_token_id": 4}, "DV604"),
        ({"tokenizer.ggml.add_bos_token": False}, "DV605"),
        ({"tokenizer.ggml.add_eos_token": True}, "DV606"),
        ({"tokenizer.chat_template": CHATML}, "DV607"),
    ],
)
def test_a_header_is_held_to_its_rules_wherever_it_is_named(
    tmp_path: Path, changes: dict[str, Any], code: str | None
) -> None:
    path = write_header(
        tmp_path / "devstral-2507.gguf", **{"tokenizer.chat_template": JINJA, **changes}
    )
    wanted = {code} if code else set()
    assert {each for each in codes(lint_file(path)) if each.startswith("DV6")} == wanted
    (tmp_path / "Modelfile").write_text(modelfile(FROM=f"./{path.name}"))
    found = lint_file(tmp_path / "Modelfile")
    assert {each.code for each in found if each.code.startswith("DV6")} == wanted - {"DV607"}
    assert {each.line for each in found} <= {1}


def test_a_projector_beside_the_model_is_no_fault(tmp_path: Path) -> None:
    write_header(tmp_path / "devstral-2507.gguf", **{"tokenizer.ggml.pre": "default"})
    write_header(tmp_path / "mmproj.gguf", **{"general.type": "mmproj"})
    text = modelfile(FROM="./devstral-2507.gguf") + "FROM ./mmproj.gguf\nFROM ./gone.gguf\n"
    (tmp_path / "Modelfile").write_text(text)
    found = {each.code: each.line for each in lint_file(tmp_path / "Modelfile")}
    lines = len(text.splitlines())
    assert "DV601" not in found
    assert found["DV410"] == lines
    (tmp_path / "Modelfile").write_text(text.replace("FROM ./gone.gguf\n", ""))
    found = {each.code: each.line for each in lint_file(tmp_path / "Modelfile")}
    assert found == {"DV603": 1}
