"""Chat templates that are right, and the same with one fault each, for the tests of ``lint``."""

from __future__ import annotations

from typing import NamedTuple

GO = """\
{{- $first := -1 }}
{{- range $i, $m := .Messages }}
{{- if and (lt $first 0) (eq .Role "user") }}{{ $first = $i }}{{ end }}
{{- end }}
{{- range $i, $m := .Messages }}
{{- if and $.Tools (eq $i $first) }}[AVAILABLE_TOOLS][
{{- range $t, $tool := $.Tools }}{{ if $t }}, {{ end -}}
{"type": "function", "function": {"name": "{{ .Function.Name }}", "description": \
"{{ .Function.Description }}"}}
{{- end }}][/AVAILABLE_TOOLS]{{ end }}
{{- if eq .Role "system" "developer" }}[SYSTEM_PROMPT]{{ .Content }}[/SYSTEM_PROMPT]
{{- else if eq .Role "assistant" }}{{ .Content }}
{{- if .ToolCalls }}{{ range .ToolCalls }}[TOOL_CALLS]{{ .Function.Name }}[ARGS]{
{{- range $k, $v := .Function.Arguments }}{{ printf "%q" $k }}: {{ printf "%q" $v }}{{ end -}}
}{{ end }}{{ end }}</s>
{{- else if eq .Role "tool" }}[TOOL_RESULTS]{{ .Content }}[/TOOL_RESULTS]
{{- else }}[INST]{{ .Content }}[/INST]
{{- end }}
{{- end }}"""

JINJA = """\
{%- macro text(content) -%}
    {%- if content is string -%}
        {{- content -}}
    {%- else -%}
        {%- for part in content or [] -%}{{- part.text -}}{%- endfor -%}
    {%- endif -%}
{%- endmacro -%}
{{- bos_token -}}
{%- set seen = namespace(user=false) -%}
{%- for message in messages -%}
    {%- if message.role == 'system' -%}
        {{- '[SYSTEM_PROMPT]' + text(message.content) + '[/SYSTEM_PROMPT]' -}}
    {%- elif message.role == 'assistant' -%}
        {{- text(message.content) -}}
        {%- for call in message.tool_calls or [] -%}
            {{- '[TOOL_CALLS]' + call.function.name + '[ARGS]' -}}
            {{- call.function.arguments | tojson -}}
        {%- endfor -%}
        {{- eos_token -}}
    {%- elif message.role == 'tool' -%}
        {{- '[TOOL_RESULTS]' + text(message.content) + '[/TOOL_RESULTS]' -}}
    {%- else -%}
        {%- if tools and not seen.user -%}
            {{- '[AVAILABLE_TOOLS]' + (tools | tojson) + '[/AVAILABLE_TOOLS]' -}}
        {%- endif -%}
        {%- set seen.user = true -%}
        {{- '[INST]' + text(message.content) + '[/INST]' -}}
    {%- endif -%}
{%- endfor -%}"""


class Broken(NamedTuple):
    """A template with a fault, and the codes that lint is to give it."""

    name: str
    codes: set[str]
    template: str


def _broken(whole: str, name: str, codes: str, old: str, new: str) -> Broken:
    assert old in whole, name
    return Broken(name, set(codes.split()), whole.replace(old, new))


_TOOLS = "{{- if and $.Tools (eq $i $first) }}"

BROKEN_GO = [
    _broken(GO, name, codes, old, new)
    for name, codes, old, new in [
        ("end missing", "DV101", "{{- end }}\n{{- end }}", "{{- end }}\n"),
        ("unknown function", "DV101", "{{ .Content }}", "{{ strip .Content }}"),
        ("unknown variable", "DV101", "$tool := $.Tools", "$tool := $tools"),
        ("unknown field", "DV102", "{{ .Function.Name }}[ARGS]", "{{ .Function.Title }}[ARGS]"),
        ("BOS", "DV103", "{{- $first := -1 }}", "<s>{{- $first := -1 }}"),
        ("no tools", "DV106", "and $.Tools", "and false $.Tools"),
        (
            "tools vanish",
            "DV107",
            _TOOLS,
            '{{- $end := "" }}{{ range $.Messages }}{{ $end = .Role }}{{ end }}'
            '{{- if and $.Tools (eq $i $first) (ne $end "tool") }}',
        ),
        (
            "tools late",
            "DV108",
            '{{- if and (lt $first 0) (eq .Role "user") }}{{ $first = $i }}{{ end }}',
            '{{- if eq .Role "user" }}{{ $first = $i }}{{ end }}',
        ),
        ("result lost", "DV111 DV113", "[TOOL_RESULTS]{{ .Content }}", "[TOOL_RESULTS]"),
        ("call lost", "DV111", "[TOOL_CALLS]{{ .Function.Name }}[ARGS]{", "{"),
        (
            "other form of call",
            "DV112",
            "[TOOL_CALLS]{{ .Function.Name }}[ARGS]{",
            '[TOOL_CALLS][{"name": "{{ .Function.Name }}", "arguments": {',
        ),
        (
            "one tag for all calls",
            "DV113",
            "{{ range .ToolCalls }}[TOOL_CALLS]",
            "[TOOL_CALLS]{{ range .ToolCalls }}",
        ),
        (
            "text loses call",
            "DV114",
            "{{- if .ToolCalls }}",
            "{{- if and .ToolCalls (not .Content) }}",
        ),
        ("newline at the end", "DV115", "{{- end }}\n{{- end }}", "{{- end }}\n{{- end }}\n\n"),
        ("turn not closed", "DV116", "{{ end }}{{ end }}</s>", "{{ end }}{{ end }}"),
        (
            "default prompt",
            "DV120",
            "{{- $first := -1 }}",
            "[SYSTEM_PROMPT]x[/SYSTEM_PROMPT]{{- $first := -1 }}",
        ),
        ("escapes", "DV121", '{{ printf "%q" $v }}', "{{ json $v }}"),
    ]
] + [
    Broken(
        "developer lost",
        {"DV117", "DV118"},
        GO.replace(' "developer"', "").replace(
            "{{- else }}[INST]", '{{- else if eq .Role "user" }}[INST]'
        ),
    ),
    Broken(
        "generic",
        {"DV103", "DV104"},
        "<s>{{ if .System }}[SYSTEM_PROMPT]{{ .System }}[/SYSTEM_PROMPT]{{ end }}"
        "{{ if .Prompt }}[INST]{{ .Prompt }}[/INST]{{ end }}{{ .Response }}</s>",
    ),
    Broken(
        "another family",
        {"DV105"},
        "{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}"
        "{{ if .Tools }}{{ end }}{{ if .ToolCalls }}{{ end }}<|im_start|>assistant\n",
    ),
]

BROKEN_JINJA = [
    _broken(JINJA, name, codes, old, new)
    for name, codes, old, new in [
        ("endif missing", "DV101", "    {%- endif -%}\n{%- endfor -%}", "{%- endfor -%}"),
        ("fails", "DV102", "{{- text(message.content) -}}", "{{- message.content.text.more -}}"),
        ("lists", "DV122", "{%- if content is string -%}", "{%- if true -%}"),
        ("BOS twice", "DV103", "{{- bos_token -}}", "{{- bos_token + bos_token -}}"),
        ("no tools", "DV106", "{%- if tools and", "{%- if false and"),
        ("tools vanish", "DV107", "tools and", "tools and messages[-1].role != 'tool' and"),
        (
            "tools late",
            "DV108",
            "not seen.user",
            "(loop.last or messages[-1].role != 'user')",
        ),
        ("one tag", "DV113", "{{- '[TOOL_CALLS]' +", "{{- '[TOOL_CALLS]' if loop.first -}}{{- "),
        (
            "default prompt",
            "DV120",
            "{{- bos_token -}}",
            "{{- bos_token -}}{%- if messages[0].role"
            " != 'system' -%}{{- '[SYSTEM_PROMPT]x[/SYSTEM_PROMPT]' -}}{%- endif -%}",
        ),
        (
            "alternates",
            "DV119",
            "{%- else -%}\n        {%- if tools",
            "{%- else -%}{%- if loop.previtem and "
            "loop.previtem.role == 'user' -%}{{- raise_exception('roles must alternate') -}}"
            "{%- endif -%}\n        {%- if tools",
        ),
        (
            "compact",
            "DV121",
            "{{- call.function.arguments | tojson -}}",
            "{{- call.function.arguments | tojson | replace(': ', ':') -}}",
        ),
    ]
]
